"""The Celery application of a worker: `celery -A labfleet.worker.app worker`.

All that is decided here and not on the command line: queues, threads, no talk between workers.
"""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from amqp import Connection
from amqp.sasl import PLAIN
from celery import Celery
from celery.exceptions import CPendingDeprecationWarning
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down

from labfleet import log
from labfleet.config import WorkerSettings, credential, credential_lines, worker_settings
from labfleet.worker import environment, units
from labfleet.worker.nursery_client import Nursery
from labfleet.worker.presence import Presence
from labfleet.worker.slots import Slots
from labfleet.worker.starter import ATTEMPTS, Order, Starter
from labfleet.worker.steps import Cancels, drain, key_queue, own_queue

TASK_NAME = "labfleet.run_attempt"
HEARTBEAT_SECONDS = 30
POOL_CLOSES_SECONDS = 2

stopping = threading.Event()
"""Set when the service is being stopped: nobody waits for units any more, and they run on."""


class Machine:
    """What this process shares between its threads; filled before the worker connects."""

    starter: Starter
    presence: Presence | None = None


machine = Machine()


def make_app(settings: WorkerSettings, passwords: Sequence[str]) -> Celery:
    """The application, configured; it connects to nothing yet."""
    app = Celery("labfleet.worker", set_as_current=False)
    app.conf.update(
        broker_url=broker_urls(settings, passwords[0]),
        broker_use_ssl=settings.broker.tls(),
        broker_transport_options={"authentication": InTurn(settings.broker.user, passwords)},
        broker_heartbeat=HEARTBEAT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A queue that isn't there yet (the publisher declares it) is waited for.
        broker_channel_error_retry=True,
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[own_queue(settings.worker.name), *map(key_queue, settings.worker.keys)],
        task_create_missing_queues=False,
        task_acks_late=False,
        worker_pool="threads",
        worker_concurrency=settings.worker.slots,
        worker_prefetch_multiplier=1,
        worker_consumer="labfleet.worker.steps:ReadingConsumer",
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
    )
    app.steps["consumer"].add(Cancels)
    app.task(name=TASK_NAME)(run_attempt)
    return app


def broker_urls(settings: WorkerSettings, password: str) -> list[str]:
    """AMQP URLs of the worker's login, one for each broker: when one is away, the next is tried."""
    broker = settings.broker
    login = f"{quote(broker.user, safe='')}:{quote(password, safe='')}"
    vhost = quote(broker.vhost, safe="")
    return [f"amqp://{login}@{host}:{broker.port}/{vhost}" for host in broker.hosts]


class InTurn(PLAIN):  # type: ignore[misc]
    """A login by another one of its passwords each time: while one is changed, the broker may take either.

    Celery connects anew after a refusal.
    """

    def __init__(self, user: str, passwords: Sequence[str]) -> None:
        super().__init__(user, passwords[0])
        self._passwords = itertools.cycle(passwords)

    def start(self, connection: Connection) -> bytes:
        """The response to the broker's challenge."""
        self.password = next(self._passwords)
        response: bytes = super().start(connection)
        return response


def run_attempt(front_end: str, task: str, attempt: int, key: str, token: str, **_: Any) -> None:
    """The one task: look after one attempt until its unit has ended. `key` only routed the message.

    A publisher that is a release newer may say more.
    """
    machine.starter.run(Order(front_end, task, attempt, token))
    if stopping.is_set():
        # This thread must not take the next message before the pool is closed: so it stays with the
        # broker, unacknowledged, and comes back at once.
        time.sleep(POOL_CLOSES_SECONDS)


@worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _prepare(**_: Any) -> None:
    try:
        _get_ready()
    except Exception as error:
        # Celery would log it, take tasks all the same, and lose each of them.
        raise SystemExit(f"The worker can't start: {error!r}") from error


def _get_ready() -> None:
    settings = worker_settings()
    log.configure(settings.log.level)  # Celery's turn for it comes later
    slots = Slots(settings.worker.slots, units.running)
    described = environment.describe()
    nursery = Nursery(settings.worker.work_directory / ATTEMPTS)
    nursery.open()
    registries = credential("registry_auth") if settings.images.sign_in else ""
    machine.starter = Starter(settings, slots, stopping.is_set, nursery, described, registries=registries)
    machine.starter.take_over()
    machine.presence = Presence(settings, credential("worker_token"), slots, described, drain)
    machine.presence.start()
    machine.presence.wait_for_answer()


@worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    stopping.set()
    if machine.presence:
        machine.presence.stop()


@worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
def _stopped(**_: Any) -> None:
    if machine.presence:
        machine.presence.wait_for_end()


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    log.configure(worker_settings().log.level)
    # Told at each lost connection about late acknowledgements, which aren't used here.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def __getattr__(name: str) -> Celery:
    """`app` is made when Celery asks for it: importing this module needs no configuration."""
    if name != "app":
        raise AttributeError(name)
    return make_app(worker_settings(), credential_lines("broker_password"))
