"""Tell systemd how a service is (`Type=notify`, `WatchdogSec=`), without a library for it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

TIMEOUT_SECONDS = 1.0
"""A systemd that is busy must not hold up the service's work: the word is dropped, a later one counts."""


def notify(state: str) -> None:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` …; nothing happens outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        datagram.settimeout(TIMEOUT_SECONDS)
        with suppress(TimeoutError):
            datagram.sendto(state.encode(), address)


def watchdog_seconds() -> float | None:
    """How often to send `WATCHDOG=1` (half of `WatchdogSec=`); None when nobody expects it."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2_000_000 if microseconds else None
