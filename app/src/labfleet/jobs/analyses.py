"""Saved settings of an analysis: protocol, parameters, inputs and sweeps, without a run.

Whoever has the address of one and may see its protocol and its data may open it; only its owner (or an admin)
deletes it. What is not for the viewer is `NotFound`. No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from labfleet.datasets import service as datasets
from labfleet.db.models import Analysis, User
from labfleet.errors import Invalid, NotFound, UnknownDataset, UnknownProtocol, UnknownVersion
from labfleet.protocols import service as protocols

MAX_NAME = 200
SHOWN = 50


def save(
    session: Session,
    owner: User,
    protocol: str,
    version: str,
    name: str,
    *,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    sweep: dict[str, list[Any]],
) -> Analysis:
    """Keep these settings. `inputs` are slot to dataset id, `sweep` has lists of values as a job's grid.

    The values are kept as they are: whether they fit is said when they are run. Raises `UnknownProtocol`,
    `UnknownVersion`, `UnknownDataset`, or `Invalid` for a name that is too long or empty.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise Invalid(f"Saved settings have a name of 1 to {MAX_NAME} characters.")
    protocols.find_version(session, owner, protocol, version)
    _check_data(session, owner, inputs, sweep)
    row = Analysis(
        owner_id=owner.id,
        protocol=protocol,
        version=version,
        name=name,
        settings={"parameters": parameters, "inputs": inputs, "sweep": sweep},
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, viewer: User, analysis_id: uuid.UUID) -> Analysis:
    """The settings, for whoever may see all of their data and their protocol."""
    row = session.get(Analysis, analysis_id)
    unknown = NotFound(f"There are no settings {analysis_id}, or you may not see their data.")
    if row is None:
        raise unknown
    try:
        protocols.find_version(session, viewer, row.protocol, row.version)
        _check_data(session, viewer, row.settings["inputs"], row.settings["sweep"])
    except (UnknownDataset, UnknownProtocol, UnknownVersion):
        raise unknown from None
    return row


def of_owner(session: Session, owner: User, protocol: str) -> Sequence[Analysis]:
    """The owner's own settings of a protocol, the newest first, at most `SHOWN`."""
    statement = select(Analysis).where(Analysis.owner_id == owner.id, Analysis.protocol == protocol)
    return session.scalars(statement.order_by(Analysis.created_at.desc()).limit(SHOWN)).all()


def remove(session: Session, viewer: User, analysis_id: uuid.UUID) -> str:
    """Delete the settings; the name of their protocol."""
    row = session.get(Analysis, analysis_id)
    if row is None or not (viewer.is_admin or row.owner_id == viewer.id):
        raise NotFound(f"You have no settings {analysis_id}.")
    session.delete(row)
    session.flush()
    return row.protocol


def _check_data(session: Session, viewer: User, inputs: dict[str, str], sweep: dict[str, list[Any]]) -> None:
    swept = (value for name, values in sweep.items() if name.startswith("inputs.") for value in values)
    for given in _ids([*inputs.values(), *swept]):
        datasets.get_dataset(session, viewer, given)


def _ids(values: Iterable[Any]) -> Iterable[uuid.UUID]:
    for value in values:
        try:
            yield uuid.UUID(str(value))
        except ValueError:
            raise UnknownDataset(f"'{str(value)[:50]}' is no dataset.") from None
