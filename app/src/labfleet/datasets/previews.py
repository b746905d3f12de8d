"""Previews of datasets that are tables: asked for when a dataset arrives, made one by one.

`labfleet data` takes one (`take`), has another process look through the file, and writes down what came of it
(`settle`). A row that was taken belongs to its taker until `due_at`; whose process died loses it then. No
function commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from labfleet.datasets.tables import Format, format_of
from labfleet.db.models import Dataset, Preview
from labfleet.errors import Invalid

CHANNEL = "labfleet_data"
OPEN = ("queued", "running")


class NoTable(Invalid):
    """A preview is made of tables only."""

    code = "no_table"
    title = "The dataset is no table that is understood"
    default_hint = "Tables are known by how their names end: csv, tsv, xlsx, xls, ods, json, ndjson, parquet."


@dataclass(frozen=True)
class Taken:
    """A preview to be made; `number` says which try it is."""

    dataset_id: uuid.UUID
    number: int
    sha256: str
    size: int
    form: Format


def ask(session: Session, dataset: Dataset) -> bool:
    """Have a preview made (again) of a dataset if it is a table; whether it is."""
    if format_of(dataset.name) is None:
        return False
    again = {"state": "queued", "tries": 0, "due_at": func.clock_timestamp(), "message": "", "result": None}
    statement = insert(Preview).values(dataset_id=dataset.id)
    session.execute(statement.on_conflict_do_update(index_elements=[Preview.dataset_id], set_=again))
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
    return True


def ask_again(session: Session, dataset: Dataset) -> None:
    """Have the preview made anew; `NoTable` for what is none."""
    if not ask(session, dataset):
        raise NoTable(f"'{dataset.name}' is no table that is understood.")


def get(session: Session, dataset_id: uuid.UUID) -> Preview | None:
    """The dataset's preview, None where none was asked for."""
    return session.get(Preview, dataset_id, populate_existing=True)


def states(session: Session, datasets: Sequence[Dataset]) -> dict[uuid.UUID, str]:
    """The states of these datasets' previews."""
    wanted = [each.id for each in datasets]
    columns = select(Preview.dataset_id, Preview.state).where(Preview.dataset_id.in_(wanted))
    return {row.dataset_id: row.state for row in session.execute(columns)}


def take(session: Session, seconds: float, tries: int) -> Taken | None:
    """Take the preview that is due first, for so many seconds; None if none is.

    One that was taken so often already and never settled is given up here.
    """
    due = (
        select(Preview)
        .where(Preview.state.in_(OPEN), Preview.due_at <= func.clock_timestamp())
        .order_by(Preview.due_at, Preview.dataset_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while row := session.scalars(due.execution_options(populate_existing=True)).one_or_none():
        columns = select(Dataset.name, Dataset.sha256, Dataset.size).where(Dataset.id == row.dataset_id)
        name, sha256, size = session.execute(columns).one()
        form = format_of(name)
        if row.tries >= tries or form is None:
            _end(
                row,
                "failed",
                "Looking through the file ended the process that did it, each time it was tried.",
            )
            session.flush()
            continue
        row.state, row.tries = "running", row.tries + 1
        row.due_at = func.clock_timestamp() + timedelta(seconds=seconds)
        session.flush()
        return Taken(row.dataset_id, row.tries, sha256, size, form)
    return None


def settle(session: Session, taken: Taken, result: Mapping[str, Any] | None, message: str) -> bool:
    """Write down the preview, or why there is none; False where another process has it by now."""
    row = _mine(session, taken)
    if row is None:
        return False
    row.result = None if result is None else dict(result)
    _end(row, "failed" if result is None else "done", message)
    session.flush()
    return True


def hand_back(session: Session, taken: Taken, seconds: float, *, counts: bool) -> None:
    """Let it be taken again after so many seconds; the try `counts`, or it was not its fault."""
    row = _mine(session, taken)
    if row is not None:
        row.state = "queued"
        row.tries -= 0 if counts else 1
        row.due_at = func.clock_timestamp() + timedelta(seconds=seconds)
        session.flush()


def next_due(session: Session) -> float:
    """In how many seconds the next one is due, negative when it is late; infinity for none."""
    first = select(func.extract("epoch", func.min(Preview.due_at) - func.clock_timestamp()))
    seconds = session.scalar(first.where(Preview.state.in_(OPEN)))
    return float("inf" if seconds is None else seconds)


def _mine(session: Session, taken: Taken) -> Preview | None:
    row = session.get(Preview, taken.dataset_id, with_for_update=True, populate_existing=True)
    return row if row is not None and row.state == "running" and row.tries == taken.number else None


def _end(row: Preview, state: str, message: str) -> None:
    row.state, row.message = state, message
    row.finished_at = func.clock_timestamp()
