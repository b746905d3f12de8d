"""Saved settings of an analysis: protocol, parameters, inputs and sweeps, without a run.

Whoever has the address of one and may see its protocol and its data may open it; only its owner (or an admin)
deletes it. What is not for the viewer is `NotFound`. No function commits; its caller does.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from labfleet.datasets import service as datasets
from labfleet.db.models import Analysis, User
from labfleet.errors import Invalid, NotFound, UnknownDataset, UnknownProtocol, UnknownVersion
from labfleet.jobs import spec
from labfleet.protocols import service as protocols

MAX_NAME = 200
TASK = "run"
"""What a task of the settings is called where it is one of several."""


@dataclass(frozen=True)
class Page:
    """One page of saved settings, newest first; `next` goes into `after`, None at the end."""

    items: Sequence[Analysis]
    next: uuid.UUID | None


def save(
    session: Session,
    owner: User,
    protocol: str,
    version: str | None,
    name: str,
    *,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    sweep: dict[str, list[Any]],
) -> Analysis:
    """Keep these settings. `inputs` are slot to dataset id, `sweep` has lists of values as a job's grid.

    Without a `version` they are those of the newest. The values are kept as they are: whether they fit is
    said when they are run. Raises `UnknownProtocol`, `UnknownVersion`, `UnknownDataset`, or `Invalid` for
    a name that is too long or empty.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise Invalid(f"Saved settings have a name of 1 to {MAX_NAME} characters.")
    found = protocols.find_version(session, owner, protocol, version)
    _check_data(session, owner, inputs, sweep)
    row = Analysis(
        owner_id=owner.id,
        protocol=protocol,
        version=version or found.version,
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


def of_owner(
    session: Session,
    owner: User,
    protocol: str | None = None,
    limit: int = 50,
    after: uuid.UUID | None = None,
) -> Page:
    """The owner's own settings (of a protocol), newest first, `limit` a page, following the ones `after`."""
    statement = select(Analysis).where(Analysis.owner_id == owner.id)
    if protocol is not None:
        statement = statement.where(Analysis.protocol == protocol)
    if after is not None:
        mark = session.execute(
            select(Analysis.created_at, Analysis.id).where(
                Analysis.id == after, Analysis.owner_id == owner.id
            )
        ).one_or_none()
        if mark is None:
            raise Invalid(
                f"'after' names no settings of yours: {after}.", hint="Use the value of 'next' as it came."
            )
        statement = statement.where(tuple_(Analysis.created_at, Analysis.id) < mark)
    statement = statement.order_by(Analysis.created_at.desc(), Analysis.id.desc()).limit(limit + 1)
    found = session.scalars(statement).all()
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def specification(
    protocol: str, version: str, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> spec.JobSpec:
    """The job of such `settings` (`parameters`, `inputs`, `sweep`); `about` is what is said of it besides.

    Raises `InvalidJob`.
    """
    of_task = {
        "protocol": protocol,
        "version": version,
        "parameters": settings["parameters"],
        "inputs": settings["inputs"],
    }
    if settings["sweep"]:
        tree = {"task": TASK, "sweep": {"grid": settings["sweep"]}, **of_task}
        return spec.read({"tree": tree, **about})
    return spec.read({**of_task, **about})


def changed(
    settings: Mapping[str, Any], parameters: Mapping[str, Any], inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The settings with other values. One value for what has several takes their place."""
    single = {f"parameters.{name}" for name in parameters} | {f"inputs.{slot}" for slot in inputs}
    return {
        "parameters": {**settings["parameters"], **parameters},
        "inputs": {**settings["inputs"], **inputs},
        "sweep": {name: values for name, values in settings["sweep"].items() if name not in single},
    }


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
