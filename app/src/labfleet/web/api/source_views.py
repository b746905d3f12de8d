"""Rows of sources and fetches as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from labfleet.db import models
from labfleet.sources import fetches
from labfleet.users import sharing
from labfleet.web.api import source_schemas as schemas
from labfleet.web.api.views import shared_with


def fetch(row: models.Fetch, source: models.Source, viewer: models.User) -> schemas.Fetch:
    """A fetch of this source."""
    told = {
        "source": source.id,
        "dataset": row.dataset_id,
        "protocol": _protocol(source) if row.state == "success" else None,
        "asked_by": row.asker.name if row.asker else None,
        "may_cancel": row.state in fetches.OPEN and fetches.may_cancel(viewer, source, row),
    }
    same = schemas.Fetch.model_fields.keys() - told.keys()
    return schemas.Fetch.model_validate({name: getattr(row, name) for name in same} | told)


def _protocol(source: models.Source) -> str | None:
    return source.protocol.name if source.protocol else None


def sources(db: Session, viewer: models.User, rows: Sequence[models.Source]) -> list[schemas.DataSource]:
    """Sources with their last fetches."""
    last = fetches.last_of(db, rows)
    return [_source(db, row, viewer, last.get(row.id)) for row in rows]


def _source(
    db: Session, row: models.Source, viewer: models.User, last: models.Fetch | None
) -> schemas.DataSource:
    mine = sharing.may_change(viewer, row)
    good = fetches.fresh(db, row)
    told = {
        "owner": row.owner.name,
        "dataset": row.dataset_id,
        "protocol": _protocol(row),
        "fetch": fetch(last, row, viewer) if last else None,
        "good_until": good.finished_at + timedelta(seconds=row.lifetime_seconds)
        if good and good.finished_at
        else None,
        "credentials": row.credentials.names if row.credentials else [],
        "credentials_at": row.credentials.set_at if row.credentials else None,
        "visibility": sharing.visibility(row),
        "may_change": mine,
        "shared_with": shared_with(row) if mine else None,
    }
    same = schemas.DataSource.model_fields.keys() - told.keys()
    return schemas.DataSource.model_validate({name: getattr(row, name) for name in same} | told)
