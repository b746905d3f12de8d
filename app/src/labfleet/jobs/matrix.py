"""The matrix of experiments: protocols against datasets, each cell the latest run of one on the other.

The viewer's own runs are in it, or those that he may look at (`visible.Whose`). No function commits; its
caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    TableValuedAlias,
    Uuid,
    and_,
    any_,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, distinct_on
from sqlalchemy.orm import Session

from labfleet.db.models import Job, Protocol, ProtocolVersion, Task, User
from labfleet.errors import Invalid
from labfleet.jobs.states import State
from labfleet.jobs.visible import Whose, among

# A job of the whole matrix of the largest page is refused before it is read: nobody means that.
MAX_RUN = 2_000
Key = tuple[uuid.UUID, uuid.UUID]
"""Ids of protocol and dataset."""

NONE = "."
"""The letter of a cell that was never run; the others are the first ones of their states."""


@dataclass(frozen=True)
class Cell:
    """The latest run of a protocol on a dataset."""

    task: uuid.UUID
    state: State


def cells(
    session: Session,
    viewer: User,
    protocols: Collection[uuid.UUID],
    datasets: Collection[uuid.UUID],
    whose: Whose = Whose.MINE,
) -> dict[Key, Cell]:
    """What was run of these protocols on these datasets, by one question to the database."""
    if not protocols or not datasets:
        return {}
    rows = session.execute(_latest(viewer, whose, protocols, datasets))
    return {(row.protocol, row.dataset): Cell(row.task, State(row.state)) for row in rows}


def lines(
    session: Session,
    viewer: User,
    protocols: Sequence[uuid.UUID],
    datasets: Sequence[uuid.UUID],
    whose: Whose = Whose.MINE,
) -> list[str]:
    """A line for each protocol with a letter for each dataset: the first of the state, or `NONE`.

    They come as a text for each row and not as a row for each cell: 40,000 cells are read as 200 lines.
    """
    if not protocols or not datasets:
        return ["" for _ in protocols]
    cell = _latest(viewer, whose, protocols, datasets).cte("cell")
    down, across = (_numbered(ids, name) for ids, name in ((protocols, "down"), (datasets, "across")))
    letter = func.coalesce(func.left(cell.c.state, 1), NONE)
    line = func.string_agg(letter, aggregate_order_by(literal(""), across.c.number))
    here = and_(cell.c.protocol == down.c.id, cell.c.dataset == across.c.id)
    places = down.join(across, true()).outerjoin(cell, here)
    statement = select(line).select_from(places).group_by(down.c.number).order_by(down.c.number)
    return list(session.scalars(statement))


def _latest(
    viewer: User, whose: Whose, protocols: Collection[uuid.UUID], datasets: Collection[uuid.UUID]
) -> Select[Any]:
    """Of each cell the task that was submitted last. The jobs are found by the index of their datasets."""
    value = func.jsonb_each(Task.inputs).table_valued("key", "value", name="slot")
    one = cast(value.c.value.op("#>>")(literal_column("'{}'")), Uuid).label("dataset")
    is_dataset = func.jsonb_typeof(value.c.value) == "string"
    given = select(one).where(is_dataset).correlate(Task).lateral("given")
    cell = (ProtocolVersion.protocol_id, given.c.dataset)
    return (
        select(cell[0].label("protocol"), cell[1], Task.id.label("task"), Task.state)
        .select_from(Job)
        .join(Task, Task.job_id == Job.id)
        .join(ProtocolVersion, ProtocolVersion.id == Task.protocol_version_id)
        .join(given, true())
        .where(
            or_(*among(viewer, whose)),
            Job.datasets.overlap([str(dataset) for dataset in datasets]),
            cell[0] == any_(_ids(protocols)),
            cell[1] == any_(_ids(datasets)),
        )
        .ext(distinct_on(*cell))
        .order_by(*cell, Task.sequence.desc())
    )


def _ids(ids: Collection[uuid.UUID]) -> ColumnElement[list[uuid.UUID]]:
    return literal(list(ids), ARRAY(Uuid))


def _numbered(ids: Collection[uuid.UUID], name: str) -> TableValuedAlias:
    found = func.unnest(_ids(ids)).table_valued(column("id", Uuid), with_ordinality="number", name=name)
    return found.render_derived()


def slot_of(version: ProtocolVersion) -> str | None:
    """The input slot that the matrix fills: the one that is needed, else the first; None where that is not
    all that is needed."""
    inputs: Mapping[str, Any] = version.manifest.get("inputs", {})
    needed = [name for name, slot in inputs.items() if not slot.get("optional")]
    if len(needed) > 1 or not inputs:
        return None
    return needed[0] if needed else next(iter(inputs))


def newest(protocol: Protocol) -> ProtocolVersion | None:
    """The version that the matrix runs."""
    return protocol.versions[0] if protocol.versions else None


def experiments(wanted: Sequence[tuple[Protocol, Sequence[uuid.UUID]]]) -> dict[str, Any]:
    """The specification of one job that runs each protocol with its defaults on each of its datasets.

    Raises `Invalid` for nothing, for more than `MAX_RUN`, and for a protocol that can't be run like that.
    """
    count = sum(len(datasets) for _, datasets in wanted)
    if not 0 < count <= MAX_RUN:
        raise Invalid(f"{count} experiments were chosen.", hint=f"Choose 1 to {MAX_RUN} cells.")
    leaves = []
    for number, (protocol, datasets) in enumerate(wanted):
        version = newest(protocol)
        slot = slot_of(version) if version else None
        if version is None or slot is None:
            raise Invalid(
                f"{protocol.title or protocol.name} needs more than one dataset.",
                hint="Run it by its own form.",
            )
        leaves.append(
            {
                "task": f"p{number}-{protocol.name}"[:64],
                "protocol": protocol.name,
                "version": version.version,
                "sweep": {"grid": {f"inputs.{slot}": [str(dataset) for dataset in datasets]}},
            }
        )
    return {"tree": {"parallel": leaves}, "label": f"Matrix: {count} experiment{'s' * (count > 1)}"}
