"""A version is tried as its manifest says: by an ordinary job, whose results are then looked at.

No function commits. Who may see a version may try it; the verdict is for everybody who sees the version.
"""

from __future__ import annotations

import csv
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from labfleet.config import JobsSection
from labfleet.datasets.store import BlobStore
from labfleet.db.models import Artifact, Job, ProtocolVersion, SelfTest, Task, User
from labfleet.errors import Invalid
from labfleet.jobs import service
from labfleet.jobs.spec import read
from labfleet.jobs.states import State
from labfleet.protocols import manifest as manifests
from labfleet.protocols.manifest import Expected, Manifest

LABEL = "self-test"
MAX_LINES = 50
SHOWN = 200


class NoSelfTest(Invalid):
    """The version's manifest says nothing of how to try it."""

    code = "no_self_test"
    title = "The version has no self-test"
    default_hint = "Its author may add 'self_test' to protocol.yml; see 'Writing a protocol'."


def required(version: ProtocolVersion) -> manifests.SelfTest:
    """How the version is tried; `NoSelfTest`."""
    test = Manifest.model_validate(version.manifest).self_test
    if test is None:
        raise NoSelfTest(f"{version.protocol.name} {version.version} does not say how it is tried.")
    return test


def begin(
    session: Session,
    user: User,
    version: ProtocolVersion,
    inputs: Mapping[str, uuid.UUID],
    *,
    max_attempts: int,
    limits: JobsSection,
) -> SelfTest:
    """Submit the job, with these datasets for the files that the manifest names. It is the user's own."""
    name = f"{version.protocol.name} {version.version}"
    spec = read(
        {
            "protocol": version.protocol.name,
            "version": version.commit,
            "parameters": required(version).parameters,
            "inputs": {slot: str(dataset) for slot, dataset in inputs.items()},
            "label": f"Self-test of {name}"[:200],
            "labels": [LABEL],
            "cache": False,
        }
    )
    job = service.submit(session, user, spec, max_attempts=max_attempts, limits=limits)
    row = SelfTest(protocol_version_id=version.id, job_id=job.id, asked_by=user.id)
    session.add(row)
    session.flush()
    return row


def last_of(session: Session, versions: Sequence[uuid.UUID]) -> list[SelfTest]:
    """The last self-test of each of these versions that has one."""
    statement = (
        select(SelfTest)
        .where(SelfTest.protocol_version_id.in_(versions))
        .ext(distinct_on(SelfTest.protocol_version_id))
        .order_by(SelfTest.protocol_version_id, SelfTest.created_at.desc())
    )
    return list(session.scalars(statement))


def settle(session: Session, store: BlobStore, versions: Sequence[uuid.UUID], max_bytes: int) -> None:
    """Judge the self-tests of these versions whose jobs have ended. No file over `max_bytes` is read."""
    open_ones = select(SelfTest).where(
        SelfTest.protocol_version_id.in_(versions), SelfTest.state == "running"
    )
    for row in session.scalars(open_ones.with_for_update(skip_locked=True, of=SelfTest)):
        lines = _judged(session, store, row, max_bytes)
        if lines is not None:
            row.state, row.lines = "failed" if lines else "passed", lines[:MAX_LINES]
            row.finished_at = func.clock_timestamp()
    session.flush()


def _judged(session: Session, store: BlobStore, row: SelfTest, max_bytes: int) -> list[str] | None:
    """What did not come as it should; None while the job is under way."""
    job = session.get(Job, row.job_id) if row.job_id else None
    if job is None:
        return ["Its job was deleted before the results were looked at."]
    if not State(job.state).final:
        return None
    task = session.scalars(select(Task).where(Task.job_id == job.id).limit(1)).one()
    if job.state != State.SUCCESS:
        return [f"It ended {job.state}: {task.message or 'the log says more.'}"]
    came = session.scalars(
        select(Artifact).where(Artifact.task_id == task.id, Artifact.attempt == task.attempt)
    )
    results = {each.output: Result(store.path(each.sha256), each.name, each.size) for each in came}
    expected = required(row.version).expect
    return [line for each in expected if (line := misfit(each, results.get(each.output), max_bytes))]


@dataclass(frozen=True)
class Result:
    """A file that came."""

    path: Path
    name: str
    size: int


def misfit(expected: Expected, result: Result | None, max_bytes: int) -> str:
    """How what came differs from what was expected; nothing if it doesn't."""
    what = expected.output
    if result is None:
        return f"{what}: it did not come."
    if not result.size:
        return f"{what}: the file is empty."
    if expected.contains is None and expected.column is None:
        return ""
    if result.size > max_bytes:
        return (
            f"{what}: it has {result.size:,} bytes, and what is larger than {max_bytes:,} is not looked at."
        )
    return _content_misfit(expected, result)


def _content_misfit(expected: Expected, result: Result) -> str:
    text = result.path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
    if expected.contains is not None and expected.contains not in text:
        return f"{expected.output}: it does not contain {expected.contains[:SHOWN]!r}."
    if expected.column is None:
        return ""
    return _cell_misfit(expected, expected.column, list(_rows(text, result.name, expected.row)))


def _rows(text: str, name: str, last: int) -> Iterator[list[str]]:
    """The head and the rows up to this one; none where it is no table."""
    separator = "\t" if name.endswith((".tsv", ".tab", ".txt")) else ","
    try:
        for number, row in enumerate(filter(None, csv.reader(text.splitlines(), delimiter=separator))):
            yield row
            if number == last:
                return
    except csv.Error:
        return


def _cell_misfit(expected: Expected, column: str, rows: list[list[str]]) -> str:
    what = expected.output
    if not rows or column not in rows[0]:
        return f"{what}: the table has no column {column!r}."
    if len(rows) <= expected.row:
        return f"{what}: the table has no row {expected.row}, only {len(rows) - 1}."
    place = rows[0].index(column)
    cell = rows[expected.row][place] if place < len(rows[expected.row]) else ""
    if _fits(cell, expected):
        return ""
    wanted = f"{expected.value}{f' ± {expected.tolerance:g}' if expected.tolerance else ''}"
    return f"{what}: {column!r} in row {expected.row} is {cell[:SHOWN]!r}, expected {wanted}."


def _fits(cell: str, expected: Expected) -> bool:
    if isinstance(expected.value, str) or expected.value is None:
        return cell == expected.value
    try:
        number = float(cell)
    except ValueError:
        return False
    return math.isfinite(number) and abs(number - expected.value) <= expected.tolerance
