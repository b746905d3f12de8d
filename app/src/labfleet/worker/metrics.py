"""Figures of a worker's service."""

from __future__ import annotations

from typing import Any

from labfleet.metrics import SUM, Counter, Gauge

STARTED = Counter("labfleet_attempts_started", "Attempts that were claimed and begun here.")
ENDED = Counter("labfleet_attempts_ended", "Attempts by how their process ended.", ["result"])
REFUSED = Counter("labfleet_attempts_refused", "Messages whose attempt was not to run, by why.", ["code"])
_REPORTED = {
    "slots": "Slots.",
    "free_slots": "Slots that nobody holds.",
    "load1": "Load average of the last minute.",
    "memory_free": "Memory that programs could still get (bytes).",
    "disk_free": "Room below the work directory (bytes).",
}
REPORTED = {
    name: Gauge(f"labfleet_machine_{name}", what, multiprocess_mode=SUM) for name, what in _REPORTED.items()
}
DEAF = Gauge(
    "labfleet_front_ends_away", "Front ends that did not take the last report.", multiprocess_mode=SUM
)


def reported(report: dict[str, Any], deaf: int) -> None:
    """What the worker has just told its front ends."""
    for name, gauge in REPORTED.items():
        gauge.set(report[name])
    DEAF.set(deaf)
