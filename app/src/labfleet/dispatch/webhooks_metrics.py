"""Figures of the process that calls webhooks."""

from __future__ import annotations

from labfleet.metrics import SUM, Counter, Gauge, Histogram

CALLS = Counter("labfleet_webhook_calls", "Calls of webhooks by what came of them.", ["result"])
DELIVERED, TO_BE_TRIED_AGAIN, GIVEN_UP = (
    CALLS.labels(result) for result in ("delivered", "to_be_tried_again", "given_up")
)
SECONDS = Histogram(
    "labfleet_webhook_call_seconds",
    "How long a call took.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25),
)
OVERDUE = Gauge(
    "labfleet_webhooks_overdue_seconds", "For how long a call has been due, at most.", multiprocess_mode=SUM
)
ROUND = Gauge(
    "labfleet_webhooks_round_seconds", "When it came round last (since 1970).", multiprocess_mode=SUM
)
