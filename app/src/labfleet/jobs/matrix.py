"""The matrix of experiments: protocols against datasets, each cell the latest run of one on the other.

Only the viewer's own runs are in it. No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from labfleet.db.models import Protocol, ProtocolVersion, User
from labfleet.errors import Invalid
from labfleet.jobs.states import State

# A job of the whole matrix of the largest page is refused before it is read: nobody means that.
MAX_RUN = 2_000
Key = tuple[uuid.UUID, uuid.UUID]
"""Ids of protocol and dataset."""

# The jobs are found by the index of their datasets; of each cell the task that was submitted last counts.
_LATEST = """
    SELECT DISTINCT ON (version.protocol_id, given.dataset)
        version.protocol_id AS protocol, given.dataset, task.id AS task, task.state
    FROM jobs AS job
    JOIN tasks AS task ON task.job_id = job.id
    JOIN protocol_versions AS version ON version.id = task.protocol_version_id
    CROSS JOIN LATERAL (
        SELECT (value #>> '{}')::uuid AS dataset FROM jsonb_each(task.inputs)
        WHERE jsonb_typeof(value) = 'string'
    ) AS given
    WHERE job.owner_id = :viewer AND job.datasets && :names
        AND version.protocol_id = ANY(:protocols) AND given.dataset = ANY(:datasets)
    ORDER BY version.protocol_id, given.dataset, task.sequence DESC
"""
_KINDS = (
    bindparam("names", type_=ARRAY(Text)),
    bindparam("protocols", type_=ARRAY(Uuid)),
    bindparam("datasets", type_=ARRAY(Uuid)),
)
_CELLS = text(_LATEST).bindparams(*_KINDS)
# A text for each row instead of a row for each cell: 40,000 cells are read as 200 lines.
_LINES = text(f"""
    WITH cell AS ({_LATEST})
    SELECT string_agg(coalesce(left(cell.state, 1), :none), '' ORDER BY across.number)
    FROM unnest(:protocols) WITH ORDINALITY AS down (id, number)
    CROSS JOIN unnest(:datasets) WITH ORDINALITY AS across (id, number)
    LEFT JOIN cell ON cell.protocol = down.id AND cell.dataset = across.id
    GROUP BY down.number ORDER BY down.number
""").bindparams(*_KINDS)  # noqa: S608 - constants of this module
NONE = "."
"""The letter of a cell that was never run; the others are the first ones of their states."""


@dataclass(frozen=True)
class Cell:
    """The latest run of a protocol on a dataset."""

    task: uuid.UUID
    state: State


def cells(
    session: Session, viewer: User, protocols: Collection[uuid.UUID], datasets: Collection[uuid.UUID]
) -> dict[Key, Cell]:
    """What the viewer has run of these protocols on these datasets, by one question to the database."""
    if not protocols or not datasets:
        return {}
    rows = session.execute(_CELLS, _values(viewer, protocols, datasets))
    return {(row.protocol, row.dataset): Cell(row.task, State(row.state)) for row in rows}


def lines(
    session: Session, viewer: User, protocols: Sequence[uuid.UUID], datasets: Sequence[uuid.UUID]
) -> list[str]:
    """A line for each protocol with a letter for each dataset: the first of the state, or `NONE`."""
    if not protocols or not datasets:
        return ["" for _ in protocols]
    values = {**_values(viewer, protocols, datasets), "none": NONE}
    return list(session.scalars(_LINES, values))


def _values(
    viewer: User, protocols: Collection[uuid.UUID], datasets: Collection[uuid.UUID]
) -> dict[str, Any]:
    return {
        "viewer": viewer.id,
        "names": [str(dataset) for dataset in datasets],
        "protocols": list(protocols),
        "datasets": list(datasets),
    }


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
