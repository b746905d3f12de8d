"""While the sandbox runs: extend the lease, send progress and log, hear of cancels."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from labfleet.worker import progress
from labfleet.worker.client import Away, Client, Refused
from labfleet.worker.patience import Patience

TICK_SECONDS = 1.0
"""How often new progress and log are sent (a heartbeat without news waits for its own time)."""
LOG_PIECE_BYTES = 1024**2


class Heartbeat(threading.Thread):
    """Runs beside the sandbox. Sets `stop` when a cancel was asked for, the attempt was superseded
    (`lost`), or the server was away for so long that the attempt can't be current any more (`lost`)."""

    def __init__(
        self,
        client: Client,
        patience: Patience,
        *,
        base: str,
        period_seconds: float,
        progress_file: Path,
        log: Path,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._client = client
        self._patience = patience
        self._base = base
        self._period = period_seconds
        self._progress_file = progress_file
        self._log = log
        self._stop_sandbox = stop
        self._end = threading.Event()
        self._said: progress.Progress | None = None
        self._next = time.monotonic() + period_seconds  # the claim has just opened the lease
        self._sent = 0
        self.cancelled = False
        self.lost = ""
        """Why the attempt is lost; empty while it isn't."""

    def run(self) -> None:
        """Until `finish`, or until the attempt is lost."""
        while not self._end.is_set() and not self.lost:
            self._guarded()
            self._end.wait(min(TICK_SECONDS, self._period))

    def finish(self) -> None:
        """End the thread."""
        self._end.set()
        self.join()
        self._client.close()

    def _guarded(self) -> None:
        try:
            self._beat()
            self.send_log(self._client)
            self._patience.reached()
        except Refused as error:
            self._lose(str(error))
        except Away as error:
            if self._patience.exhausted:
                self._lose(f"the front end has been away for too long ({error})")
        except FileNotFoundError:
            return  # nothing was printed yet

    def _lose(self, reason: str) -> None:
        self.lost = reason
        self._stop_sandbox.set()

    def _beat(self) -> None:
        news = progress.read(self._progress_file) if self._progress_file.exists() else None
        if news == self._said and time.monotonic() < self._next:
            return
        content: dict[str, Any] = {}
        if news is not None:
            content = {"progress": news[0], "progress_text": news[1]}
        answer = self._client.call("POST", f"{self._base}/heartbeat", content)
        self._said, self._next = news, time.monotonic() + self._period
        if answer.get("cancel"):
            self.cancelled = True
            self._stop_sandbox.set()

    def send_log(self, client: Client) -> None:
        """Send what the log has beyond what was sent; `Away` or `Refused` as the client says."""
        with self._log.open("rb") as file:
            while piece := _at(file, self._sent):
                try:
                    answer = client.send(f"{self._base}/log?offset={self._sent}", piece, len(piece))
                    self._sent = max(int(answer.get("size", 0)), self._sent + len(piece))
                except Refused as error:
                    if error.code != "log_gap":
                        raise
                    # The server has less than we believe (it was restored, say): start from there.
                    self._sent = int(error.problem["expected_offset"])


def _at(file: Any, offset: int) -> bytes:
    file.seek(offset)
    piece: bytes = file.read(LOG_PIECE_BYTES)
    return piece
