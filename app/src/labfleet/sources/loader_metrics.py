"""Figures of the process that carries fetches."""

from __future__ import annotations

from labfleet.metrics import SUM, Counter, Gauge, Histogram

FETCHES = Counter("labfleet_fetches", "Fetches of sources by what came of them.", ["result"])
CHANGED, UNCHANGED, FAILED, TO_BE_TRIED_AGAIN = (
    FETCHES.labels(result) for result in ("changed", "unchanged", "failed", "to_be_tried_again")
)
BYTES = Counter("labfleet_fetched_bytes", "Bytes that were loaded into the store.")
SECONDS = Histogram(
    "labfleet_fetch_seconds",
    "How long a fetch took, with what is made of it.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800),
)
OVERDUE = Gauge(
    "labfleet_fetches_overdue_seconds",
    "For how long a fetch has been due, at most.",
    multiprocess_mode=SUM,
)
ROUND = Gauge("labfleet_loader_round_seconds", "When it came round last (since 1970).", multiprocess_mode=SUM)
