"""Figures of the process that looks through tables."""

from __future__ import annotations

from labfleet.metrics import SUM, Counter, Gauge, Histogram

PREVIEWS = Counter("labfleet_previews", "Previews of datasets by what came of them.", ["result"])
DONE, FAILED, TO_BE_TRIED_AGAIN = (
    PREVIEWS.labels(result) for result in ("done", "failed", "to_be_tried_again")
)
SECONDS = Histogram(
    "labfleet_preview_seconds",
    "How long a preview took.",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
OVERDUE = Gauge(
    "labfleet_previews_overdue_seconds",
    "For how long a preview has been due, at most.",
    multiprocess_mode=SUM,
)
ROUND = Gauge("labfleet_data_round_seconds", "When it came round last (since 1970).", multiprocess_mode=SUM)
"""The name is that of the process, whatever else it does."""
