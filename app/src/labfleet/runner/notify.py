"""Tell systemd how we are (sd_notify), without a library for it."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` …; nothing happens outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """How often to send `WATCHDOG=1` (half of `WatchdogSec=`); None when nobody expects it."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2_000_000 if microseconds else None
