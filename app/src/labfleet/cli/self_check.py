"""`labfleet self-check`: what is wrong with the service as the webserver sees it, and what to do."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from labfleet import config
from labfleet.cli.admin import database
from labfleet.config import WebserverSettings
from labfleet.errors import LabfleetError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from labfleet.jobs.placement import Worker

ERROR, WARNING = "error", "warning"
LOOK_BACK_EVENTS = 20_000
LATE_PREVIEW_SECONDS = 900
LATE_MAIL_SECONDS = 600
LAPSED_SECONDS = 3600.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`) or worth a look (`warning`): where, what, and the remedy."""

    level: str
    where: str
    what: str
    remedy: str


@click.command("self-check")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.option(
    "--outbox-seconds",
    default=60.0,
    show_default=True,
    help="A message may wait so long for the broker before that is an error.",
)
@click.option(
    "--overdue-seconds",
    default=60.0,
    show_default=True,
    help="A lease may have lapsed so long ago before that is an error.",
)
def self_check(as_json: bool, outbox_seconds: float, overdue_seconds: float) -> None:
    """Say what is wrong with the service, and what to do; changes nothing.

    Looks at the database, the queue tier, the workers and what waits; playbooks/self_check.yml looks at every
    machine as well. Exit code 1 when there is an error, 0 when there are only warnings or nothing.
    """
    findings = [*check_database(outbox_seconds, overdue_seconds), *check_queue(config.web_settings())]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{finding.level}: {finding.where}: {finding.what} → {finding.remedy}")
        if not findings:
            click.echo("Nothing is wrong.")
    if any(finding.level == ERROR for finding in findings):
        sys.exit(1)


def check_database(outbox_seconds: float, overdue_seconds: float) -> Iterator[Finding]:
    """What the database says of itself and of the work; one finding when it does not answer."""
    from labfleet.db import upgrade  # noqa: PLC0415
    from labfleet.db.engine import session_factory  # noqa: PLC0415

    settings = config.web_settings()
    try:
        with database() as engine:
            with engine.connect() as connection:
                there, wanted = upgrade.current(connection), upgrade.newest()
            if there != wanted:
                yield Finding(
                    ERROR,
                    "database",
                    f"The schema is at {there or 'nothing'}, this release needs {wanted}.",
                    "Run playbooks/webserver.yml, which migrates it.",
                )
                return
            with session_factory(engine)() as session:
                yield from check_work(session, settings, outbox_seconds, overdue_seconds)
    except LabfleetError as error:
        yield Finding(ERROR, "database", error.detail, error.hint or "Look at the database's machine.")


def check_work(
    session: Session, settings: WebserverSettings, outbox_seconds: float, overdue_seconds: float
) -> Iterator[Finding]:
    """What the rows say: messages, leases, workers, and tasks that nobody can run."""
    from labfleet.datasets import previews  # noqa: PLC0415
    from labfleet.jobs import health  # noqa: PLC0415

    box = health.outbox(session)
    if box.oldest_seconds > outbox_seconds:
        said = f" The last error: {box.error}" if box.error else ""
        yield Finding(
            ERROR,
            "dispatcher",
            f"{box.rows} messages wait for the broker, the oldest for {box.oldest_seconds:.0f} s.{said}",
            "See that labfleet-dispatcher (webserver), labfleet-publisher (queue) and the broker run; "
            "'journalctl -u labfleet-dispatcher' says what it tries.",
        )
    if late := health.overdue(session, overdue_seconds):
        yield Finding(
            ERROR,
            "dispatcher",
            f"{late} running tasks have lost their lease over {overdue_seconds:.0f} s ago, "
            "and nobody has taken them up.",
            "Restart labfleet-dispatcher on the webserver, and look at its journal.",
        )
    if (waiting := -previews.next_due(session)) > LATE_PREVIEW_SECONDS:
        yield Finding(
            WARNING,
            "previews",
            f"A preview of a dataset has been due for {waiting:.0f} s.",
            "See that labfleet-data runs on the webserver; 'journalctl -u labfleet-data' says what it does.",
        )
    yield from check_mail(session, settings)
    for worker, times in health.lapsed(session, LAPSED_SECONDS, LOOK_BACK_EVENTS).items():
        yield Finding(
            WARNING,
            worker,
            f"In the last hour {times} tasks were taken from it, because nothing was heard of them.",
            "Look at its network, load and memory, and at 'journalctl -u labfleet-worker' there.",
        )
    known = health.workers(session, settings.order)
    yield from check_workers(known)
    for lane in health.unservable(session, known):
        needs = lane.needs
        tags = f", tags {', '.join(needs.tags)}" if needs.tags else ""
        yield Finding(
            WARNING,
            "queue of tasks",
            f"Tasks wait that no worker can run: key {needs.key}, {needs.cores} cores, "
            f"{needs.memory_bytes // 1024**2} MiB{tags}.",
            "Give a worker what they need (worker_keys, worker_tags), or cancel them.",
        )


def check_mail(session: Session, settings: WebserverSettings) -> Iterator[Finding]:
    """Whether mails go out; where mail is off, nothing is to be sent."""
    from labfleet.mail import outbox  # noqa: PLC0415

    told = outbox.tally(session)
    said = f" The last error: {told.error}" if told.error else ""
    if not settings.mail.host:
        if told.waiting:
            yield Finding(
                WARNING,
                "mail",
                f"{told.waiting} mails wait, and mail is off.",
                "Set webserver_mail_host and run playbooks/webserver.yml (docs/admin/mail.md).",
            )
        return
    if told.late_seconds > LATE_MAIL_SECONDS:
        yield Finding(
            WARNING,
            "mail",
            f"{told.waiting} mails wait, the oldest for {told.late_seconds:.0f} s.{said}",
            "See that labfleet-mailer runs on the webserver, and try 'labfleet mail test ADDRESS'.",
        )
    if told.given_up:
        yield Finding(
            WARNING,
            "mail",
            f"{told.given_up} mails were given up in the last day.{said}",
            "'labfleet mail list' names them; an address may be wrong, or the mail server refuses us.",
        )


def check_workers(known: list[Worker]) -> Iterator[Finding]:
    """Which workers take no tasks, and why."""
    if not any(worker.usable for worker in known):
        what = "No worker takes tasks." if known else "No worker has ever reported."
        yield Finding(
            ERROR,
            "workers",
            what,
            "Start labfleet-worker on a worker's machine, or resume one that is drained.",
        )
    for worker in known:
        if worker.stopping:
            yield Finding(
                WARNING,
                worker.name,
                "The worker has said that it stops, and takes no tasks.",
                "Start labfleet-worker there; one that is gone for good: "
                f"labfleet worker remove {worker.name}.",
            )
        elif worker.away:
            yield Finding(
                ERROR,
                worker.name,
                f"Nothing was heard of the worker for {worker.silent_seconds:.0f} s.",
                "Look at 'journalctl -u labfleet-worker' there; one that is gone for good: "
                f"labfleet worker remove {worker.name}.",
            )
        if worker.draining:
            yield Finding(
                WARNING,
                worker.name,
                "An admin drains the worker: it gets no new tasks.",
                f"When the work on it is done: labfleet worker resume {worker.name}.",
            )


def check_queue(settings: WebserverSettings) -> Iterator[Finding]:
    """Whether the webserver reaches each machine of the queue tier, and trusts its certificate."""
    for api in settings.dispatcher.runner_apis:
        yield from _check_runner(settings, f"{api}/health")


def _check_runner(settings: WebserverSettings, url: str) -> Iterator[Finding]:
    import httpx  # noqa: PLC0415

    ca = settings.dispatcher.ca_file
    remedy = "See that nginx runs on the queue tier's machine and lets this one in; run playbooks/queue.yml."
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        answer = httpx.get(url, verify=context, timeout=settings.web.probe_timeout_seconds, trust_env=False)
    except (httpx.HTTPError, OSError) as error:
        yield Finding(ERROR, "queue tier", f"{url} does not answer the webserver: {error}.", remedy)
        return
    # The command has no password for it: that it is asked for one shows that the CGI runner works.
    if answer.status_code >= 500:
        yield Finding(ERROR, "queue tier", f"{url} answers {answer.status_code}: {answer.text[:200]}", remedy)
    elif answer.status_code == 403:
        yield Finding(ERROR, "queue tier", f"{url} refuses the webserver's address.", remedy)


COMMANDS: list[click.Command] = [self_check]
