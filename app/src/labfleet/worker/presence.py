"""Tell the front ends now and then that this worker is there, and how busy."""

from __future__ import annotations

import os
import threading
from importlib.metadata import version
from typing import Any

import psutil

from labfleet.config import WorkerSettings
from labfleet.log import get_logger
from labfleet.worker.client import Away, Client, Refused
from labfleet.worker.slots import Slots

log = get_logger(__name__)


class Presence(threading.Thread):
    """PUTs `/api/v1/workers/<name>` to every front end, until `stop`."""

    def __init__(self, settings: WorkerSettings, token: str, slots: Slots) -> None:
        super().__init__(name="presence", daemon=True)
        self._settings = settings.worker
        self._slots = slots
        self._end = threading.Event()
        self._clients = {
            name: Client(front.url, token, str(front.ca_file) if front.ca_file else None)
            for name, front in settings.front_ends.items()
        }

    def run(self) -> None:
        """Report, wait, again."""
        while not self._end.is_set():
            for name, client in self._clients.items():
                self._tell(name, client)
            self._end.wait(self._settings.presence_seconds)

    def stop(self) -> None:
        """End the thread soon."""
        self._end.set()

    def _tell(self, name: str, client: Client) -> None:
        try:
            client.call("PUT", f"/api/v1/workers/{self._settings.name}", self.report())
        except (Away, Refused) as error:
            log.warning("presence not told", front_end=name, error=str(error))

    def report(self) -> dict[str, Any]:
        """What is told (bytes; load of the last minute)."""
        return {
            "keys": list(self._settings.keys),
            "slots": self._settings.slots,
            "free_slots": self._slots.free(),
            "cores": os.cpu_count() or 1,
            "load1": os.getloadavg()[0],
            "memory_free": psutil.virtual_memory().available,
            "disk_free": psutil.disk_usage(str(self._settings.work_directory)).free,
            "version": version("labfleet"),
        }
