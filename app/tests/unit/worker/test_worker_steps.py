"""The consumer's own ways, on Celery's and kombu's real classes."""

from __future__ import annotations

import socket

import pytest
from celery import Celery
from celery.exceptions import WorkerTerminate
from celery.worker import state
from kombu.connection import Connection

from labfleet.worker.steps import RECONNECT_SECONDS, ReadingConsumer

ATTEMPTS = 20


class Heard(Connection):  # type: ignore[misc]
    """Its pauses, which are not waited for; after `ATTEMPTS` the worker is told to end."""

    pauses: list[float]

    def _ensure_connection(self, errback, *arguments, **options):  # type: ignore[no-untyped-def]
        def heard(error: Exception, pause: float) -> None:
            errback(error, pause)
            self.pauses.append(pause)
            if len(self.pauses) == ATTEMPTS:
                state.should_terminate = 0

        return super()._ensure_connection(heard, *arguments, **options)


@pytest.fixture
def nobody() -> str:
    """The address of a broker that is away."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"amqp://127.0.0.1:{held.getsockname()[1]}"


def test_a_broker_that_comes_back_is_found_soon(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    monkeypatch.setattr(state, "should_terminate", None)
    consumer = ReadingConsumer.__new__(ReadingConsumer)
    consumer.app = Celery(set_as_current=False)
    consumer.app.conf.update(broker_connection_retry_on_startup=True, broker_connection_max_retries=None)
    away = Heard(nobody)
    away.pauses = []
    with pytest.raises(WorkerTerminate):
        consumer.ensure_connected(away)
    assert len(away.pauses) == ATTEMPTS
    assert max(away.pauses) == RECONNECT_SECONDS
