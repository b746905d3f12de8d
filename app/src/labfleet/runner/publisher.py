"""The resident publisher: `labfleet publisher`, unit `labfleet-publisher.service` (Type=notify)."""

from __future__ import annotations

import itertools
import signal
import threading
import time

from labfleet import log
from labfleet.config import QueueSettings, credential_lines, queue_settings
from labfleet.runner.broker import connect
from labfleet.runner.sender import Sender
from labfleet.runner.server import Server
from labfleet.runner.service import Service
from labfleet.systemd import notify, watchdog_seconds

MARGIN_SECONDS = 2
"""The publisher's patience ends so much before the CGI program's, so that the answer still arrives."""
STUCK_SECONDS = 60
"""A sender that has not come round for so long is stuck: no more watchdog messages."""
STOP_SECONDS = 15


def main() -> None:
    """Serve until SIGTERM. Ready as soon as the socket is there: the broker may come later."""
    settings = queue_settings()
    log.configure(settings.log.level)
    passwords = credential_lines("broker_password")
    # When one broker of a cluster is away, the next try goes to the next one.
    hosts = itertools.cycle(settings.broker.hosts)
    sender = Sender(lambda: connect(settings, next(hosts), passwords))
    sender.start()
    server = Server(settings.publisher.socket, Service(sender, _patience(settings)))
    thread = threading.Thread(target=server.serve_forever, name="server", daemon=True)
    thread.start()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    notify("READY=1")
    _watch(sender, stopping)
    _stop(server, sender)


def _patience(settings: QueueSettings) -> float:
    return max(settings.runner.timeout_seconds - MARGIN_SECONDS, settings.runner.timeout_seconds / 2)


def _watch(sender: Sender, stopping: threading.Event) -> None:
    period = watchdog_seconds()
    while not stopping.wait(period):
        if sender.is_alive() and time.monotonic() - sender.beat < STUCK_SECONDS:
            notify("WATCHDOG=1")


def _stop(server: Server, sender: Sender) -> None:
    notify("STOPPING=1")
    server.shutdown()
    server.close()
    sender.stop()
    sender.join(STOP_SECONDS)


if __name__ == "__main__":
    main()
