"""Tell the front ends now and then that this worker is there, and how busy; hear whether it is drained."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import psutil

from labfleet.config import WorkerSettings
from labfleet.log import get_logger
from labfleet.names import IMAGES_TAG
from labfleet.worker import metrics
from labfleet.worker.client import Away, Client, Refused
from labfleet.worker.slots import Slots

log = get_logger(__name__)
REPORT_SECONDS = 5.0
"""How long one report may take: the next one is soon due."""
LAST_WORD_SECONDS = 2.0
"""The same for the report that the worker stops: nobody waits long for it."""
FIRST_ANSWER_SECONDS = 3.0
"""How long a starting worker waits to hear whether it is drained."""


class Presence(threading.Thread):
    """PUTs `/api/v1/workers/<name>` to every front end, until `stop`; then once more, as its last word.

    `drain` is told after each round whether a front end drains this worker. One that is away has said
    nothing new.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        token: str,
        slots: Slots,
        environment: dict[str, str],
        drain: Callable[[bool], None],
    ) -> None:
        super().__init__(name="presence", daemon=True)
        self._settings = settings.worker
        self._tags = [*settings.worker.tags, *([IMAGES_TAG] if settings.images.enabled else [])]
        self._front_ends = settings.front_ends
        self._token = token
        self._slots = slots
        self._environment = environment
        self._drain = drain
        self._drained: dict[str, bool] = {}
        self._deaf: set[str] = set()
        self._end = threading.Event()
        self._told = threading.Event()

    def run(self) -> None:
        """Report, wait, again."""
        clients = self._clients(REPORT_SECONDS)
        while not self._end.is_set():
            report = self.report()
            self._tell(clients, report)
            metrics.reported(report, len(self._deaf))
            self._drain(any(self._drained.values()))
            self._told.set()
            self._end.wait(self._settings.presence_seconds)
        self._tell(self._clients(LAST_WORD_SECONDS), self.report() | {"stopping": True, "free_slots": 0})

    def wait_for_answer(self) -> None:
        """Wait until the front ends were asked once, or for `FIRST_ANSWER_SECONDS`."""
        self._told.wait(FIRST_ANSWER_SECONDS)

    def stop(self) -> None:
        """Send the last word now and end the thread."""
        self._end.set()

    def wait_for_end(self) -> None:
        """Wait for the last word, as long as that makes sense."""
        self.join(LAST_WORD_SECONDS * (1 + len(self._front_ends)))

    def _clients(self, timeout: float) -> dict[str, Client]:
        return {
            name: Client(front.url, self._token, str(front.ca_file) if front.ca_file else None, timeout)
            for name, front in self._front_ends.items()
        }

    def _tell(self, clients: dict[str, Client], report: dict[str, Any]) -> None:
        for name, client in clients.items():
            try:
                answer = client.call("PUT", f"/api/v1/workers/{self._settings.name}", report)
            except (Away, Refused) as error:
                # Once for each absence: it is tried again every few seconds.
                if name not in self._deaf:
                    log.warning("presence not told", front_end=name, error=str(error))
                self._deaf.add(name)
            else:
                self._drained[name] = bool(answer.get("draining"))
                self._deaf.discard(name)

    def report(self) -> dict[str, Any]:
        """What is told (bytes; load of the last minute)."""
        memory = psutil.virtual_memory()
        return {
            "keys": list(self._settings.keys),
            "tags": list(dict.fromkeys(self._tags)),
            "slots": self._settings.slots,
            "free_slots": self._slots.free(),
            "cores": os.cpu_count() or 1,
            "load1": os.getloadavg()[0],
            "memory_total": memory.total,
            "memory_free": memory.available,
            "disk_free": psutil.disk_usage(str(self._settings.work_directory)).free,
            "version": version("labfleet"),
            "stopping": False,
            "environment": self._environment,
        }
