"""Figures of the publisher."""

from __future__ import annotations

from labfleet.metrics import SUM, Counter, Gauge, Histogram

MESSAGES = Counter("labfleet_publisher_messages", "Messages by what the broker said.", ["status"])
SECONDS = Histogram(
    "labfleet_publisher_batch_seconds",
    "From a batch's turn to the broker's last confirmation.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CONNECTED = Gauge("labfleet_publisher_connected", "Whether it has its connection (1).", multiprocess_mode=SUM)
LOST = Counter("labfleet_publisher_connections_lost", "How often the broker was lost or not found.")
