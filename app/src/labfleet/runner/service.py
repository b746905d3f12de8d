"""The publisher's answers: one question (a dict) in, status and body out."""

from __future__ import annotations

import tempfile
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, BinaryIO

from labfleet.errors import Malformed, Unavailable
from labfleet.log import get_logger
from labfleet.runner.broker import CONFIRMED
from labfleet.runner.inspection import inspect
from labfleet.runner.messages import outgoing
from labfleet.runner.sender import BrokerAway, Sender

CHUNK = 256 * 1024
BROKER_HINT = "Try again in a few seconds; on the broker's machine: systemctl status rabbitmq-server."

log = get_logger(__name__)
Answer = tuple[int, dict[str, Any]]


class Service:
    """Answers what the CGI program has checked. Safe for several threads."""

    def __init__(self, sender: Sender, patience_seconds: float) -> None:
        self._sender = sender
        self._patience = patience_seconds

    def answer(self, question: dict[str, Any], rest: BinaryIO) -> Answer:
        """`rest` has the bytes that follow the question; `LabfleetError` for what can't be done."""
        verb = question["verb"]
        if verb in {"schedule", "cancel"}:
            return self._publish(verb, question["front_end"], question["messages"])
        if verb in {"interface", "check"}:
            with _spooled(rest, question["size"]) as archive:
                return inspect(verb, archive)
        if verb == "health":
            return self._health()
        raise Malformed(f"The publisher knows no '{verb}'.")

    def _publish(self, verb: str, front_end: str, messages: list[dict[str, Any]]) -> Answer:
        batch = [outgoing(verb, front_end, message) for message in messages]
        try:
            statuses = self._sender.submit(batch).result(self._patience)
        except (BrokerAway, FutureTimeout):
            raise Unavailable("The broker can't be reached.", hint=BROKER_HINT) from None
        pairs = list(zip(batch, statuses, strict=True))
        log.info(
            "published",
            verb=verb,
            front_end=front_end,
            confirmed=statuses.count(CONFIRMED),
            tasks=[message["task"] for message in messages],
        )
        return 200, {"results": [item.result(status) for item, status in pairs]}

    def _health(self) -> Answer:
        if not self._sender.connected:
            raise Unavailable("The broker can't be reached.", hint=BROKER_HINT)
        return 200, {"status": "ok"}


def _spooled(source: BinaryIO, size: int) -> BinaryIO:
    """A real file (the reader gets it as its standard input) with `size` bytes of `source`."""
    file = tempfile.TemporaryFile(prefix="labfleet-archive-")  # noqa: SIM115  (the caller closes it)
    left = size
    while left and (chunk := source.read(min(left, CHUNK))):
        file.write(chunk)
        left -= len(chunk)
    if left:
        file.close()
        raise Malformed("The archive ends before its announced length.")
    file.seek(0)
    return file
