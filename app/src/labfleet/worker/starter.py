"""From a message to an ended unit: a slot, a claim, a start, a wait, and a word for a shepherd that died."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labfleet import crash
from labfleet.config import FrontEndSection, WorkerSettings
from labfleet.log import get_logger
from labfleet.worker import metrics, units
from labfleet.worker.bus import BusError
from labfleet.worker.client import Away, Client, Refused
from labfleet.worker.environments import Environments
from labfleet.worker.nursery_client import SUCCESS, Nursery, Wait
from labfleet.worker.patience import Patience
from labfleet.worker.removal import remove
from labfleet.worker.slots import Slots
from labfleet.worker.spec import FINISHED, Host, Images, Packages, attempt_path, from_claim
from labfleet.worker.verdict import system_failure

log = get_logger(__name__)
ATTEMPTS = "attempts"
"""The directory of the attempts' directories, below the work directory."""
ENVIRONMENTS = "environments"
"""The same for environments of protocols."""
_CLAIMS = uuid.UUID("3f2f4b7e-6a55-4d0c-9a3e-2d1c7a1f7c55")


@dataclass(frozen=True)
class Order:
    """What a message says."""

    front_end: str
    task: str
    number: int
    token: str

    def __post_init__(self) -> None:
        """`ValueError` for what is no UUID and no number: both become names of files and units."""
        if str(uuid.UUID(self.task)) != self.task or self.number < 1:
            raise ValueError("a message names no attempt")

    @property
    def unit(self) -> str:
        """The attempt's unit."""
        return units.unit_name(self.task, self.number)


class _Clients(threading.local):
    """Each thread's own: a short attempt comes soon after another, and another TLS handshake would cost more
    than its claim."""

    def __init__(self) -> None:
        self.by_front_end: dict[str, Client] = {}


class Starter:
    """Runs orders, each to its end, in whatever thread calls. `registries` is what opens registries of
    images, as `containers-auth.json` (5) says."""

    def __init__(
        self,
        settings: WorkerSettings,
        slots: Slots,
        stopping: Callable[[], bool],
        nursery: Nursery,
        environment: dict[str, str],
        *,
        registries: str = "",
    ) -> None:
        self._settings = settings
        self._registries = registries
        self._nursery = nursery
        self._environment = environment
        self._slots = slots
        self._stopping = stopping
        self._clients = _Clients()
        self._attempts = settings.worker.work_directory / ATTEMPTS
        self._attempts.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self, order: Order) -> None:
        """The whole life of an attempt on this machine. Expected failures are logged, not raised."""
        logger = log.bind(task=order.task, attempt=order.number, front_end=order.front_end)
        front_end = self._settings.front_ends.get(order.front_end)
        if front_end is None:
            logger.error("unknown front end", hint="add [front_ends.NAME] with its url to worker.toml")
            return
        if not self._slots.acquire(order.unit, self._stopping):
            logger.info("not started: it is being looked after, or the worker stops")
            return
        try:
            self._look_after(order, front_end)
        except Refused as error:
            metrics.REFUSED.labels(error.code).inc()
            logger.info("not run", code=error.code, reason=str(error))
        except Away as error:
            logger.warning("the front end can't be reached; the attempt will be sent again", error=str(error))
        finally:
            self._slots.release(order.unit)

    def _look_after(self, order: Order, front_end: FrontEndSection) -> None:
        directory = self._attempts / f"{order.task}.{order.number}"
        client = self._client(order, front_end)
        if units.runs_or_forget(order.unit):
            wait: Wait = partial(units.wait, order.unit)
        else:
            remove(directory)
            try:
                wait = self._start(order, client, front_end, directory)
            except (OSError, BusError) as error:
                self._report(client, order, f"The attempt could not be started on this worker: {error}")
                remove(directory)
                return
        result = wait(self._stopping)
        if result is None:
            log.info("left running", unit=order.unit)
            return
        crash.point("worker_after_end")
        self._conclude(order, client, directory, result)

    def _client(self, order: Order, front_end: FrontEndSection) -> Client:
        kept = self._clients.by_front_end
        if order.front_end not in kept:
            ca_file = str(front_end.ca_file) if front_end.ca_file else None
            kept[order.front_end] = Client(front_end.url, order.token, ca_file)
        kept[order.front_end].bear(order.token)
        return kept[order.front_end]

    def _start(self, order: Order, client: Client, front_end: FrontEndSection, directory: Path) -> Wait:
        crash.point("worker_before_claim")
        claim = self._claim(order, client)
        crash.point("worker_after_claim")
        directory.mkdir(mode=0o700)
        spec = from_claim(order.task, order.number, claim, self._host(order.front_end, front_end))
        spec.save(directory, order.token, self._registries)
        wait = self._nursery.start(spec, directory)
        metrics.STARTED.inc()
        crash.point("worker_after_start")
        return wait

    def _claim(self, order: Order, client: Client) -> dict[str, Any]:
        name = self._settings.worker.name
        path = attempt_path(order.task, order.number)
        # The same for every try of this worker, so that a claim whose answer was lost can be repeated.
        claim_id = str(uuid.uuid5(_CLAIMS, f"{name} {path}"))
        body = {"worker": name, "claim_id": claim_id}
        return self._patience().call(lambda: client.call("POST", f"{path}/claim", body))

    def _conclude(self, order: Order, client: Client, directory: Path, result: str) -> None:
        metrics.ENDED.labels(result).inc()
        if result == SUCCESS and (directory / FINISHED).exists():
            remove(directory)  # a unit that has not failed is forgotten without a word
            return
        try:
            if not (directory / FINISHED).exists():
                words = ", ".join(sorted({result, units.result(order.unit)} - {SUCCESS}))
                reason = (
                    f"The attempt's process ended before it could say how: {words or 'no reason is known'}."
                )
                self._report(client, order, reason)
        finally:
            # Also when the report is refused: the process may have died just after it had said how.
            _clear(order.unit, directory)

    def _report(self, client: Client, order: Order, message: str) -> None:
        log.warning("reporting a system failure", unit=order.unit, message=message)
        path = f"{attempt_path(order.task, order.number)}/finish"
        self._patience().call(lambda: client.call("POST", path, system_failure(message)))

    def _patience(self) -> Patience:
        return Patience(self._settings.worker.patience_seconds)

    def _host(self, name: str, front_end: FrontEndSection) -> Host:
        worker = self._settings.worker
        return Host(
            url=front_end.url,
            ca_file=str(front_end.ca_file) if front_end.ca_file else None,
            grace_seconds=worker.grace_seconds,
            patience_seconds=worker.patience_seconds,
            readonly_paths=tuple(map(str, worker.sandbox_readonly_paths)),
            environment=self._environment,
            protocol_cache=str(worker.work_directory / "protocols" / name),
            protocol_cache_bytes=worker.protocol_cache_bytes,
            packages=self._packages(),
            name=worker.name,
            store_mount=str(worker.store_mount) if worker.store_mount else "",
            scheduling=worker.attempt_scheduling,
            images=self._images(),
        )

    def _packages(self) -> Packages:
        settings = self._settings.packages
        return Packages(
            directory=str(self._settings.worker.work_directory / ENVIRONMENTS),
            index_url=settings.index_url,
            ca_file=str(settings.ca_file) if settings.ca_file else None,
            sdists=settings.sdists,
            r_index_urls=tuple(settings.r_index_urls),
            r_ca_file=str(settings.r_ca_file) if settings.r_ca_file else None,
            build_seconds=settings.build_seconds,
            environment_bytes=settings.environment_bytes,
            cache_bytes=settings.cache_bytes,
        )

    def _images(self) -> Images:
        settings = self._settings.images
        return Images(
            enabled=settings.enabled,
            registries=tuple(settings.registries),
            folder=str(settings.folder) if settings.folder else "",
            ca_file=str(settings.ca_file) if settings.ca_file else None,
            max_seconds=settings.max_seconds,
            max_bytes=settings.max_bytes,
        )

    def take_over(self) -> None:
        """Look after what an earlier process has left: remove unfinished environments, the directories of
        attempts that have ended (before a reboot, say), and those of running ones when they end."""
        Environments(self._settings.worker.work_directory / ENVIRONMENTS).sweep()
        alive = units.running()
        for directory in self._attempts.iterdir():
            task, _, number = directory.name.rpartition(".")
            name = units.unit_name(task, int(number))
            if name in alive:
                threading.Thread(target=self._see_out, args=(name, directory), daemon=True).start()
            else:
                _clear(name, directory)

    def _see_out(self, name: str, directory: Path) -> None:
        log.info("found running", unit=name)
        if units.wait(name, self._stopping) is not None:
            _clear(name, directory)


def _clear(name: str, directory: Path) -> None:
    units.forget(name)
    remove(directory)
