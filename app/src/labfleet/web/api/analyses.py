"""Saved settings: keep, find, look, submit a job of them, delete."""

from __future__ import annotations

import uuid
from typing import Any

from labfleet.db import models
from labfleet.jobs import analyses as service
from labfleet.users.scopes import Scope
from labfleet.web.api import analysis_schemas, schemas
from labfleet.web.api.blueprints import user
from labfleet.web.api.jobs import KEY_HEADER, idempotency_key, made, plan_of, submit_spec
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services

ABOUT = {"labels", "note", "priority", "hold", "webhook", "mail"}


def _told(row: models.Analysis) -> analysis_schemas.Analysis:
    viewer = current_user()
    return analysis_schemas.Analysis(
        id=row.id,
        name=row.name,
        owner=row.owner.name,
        protocol=row.protocol,
        version=row.version,
        **row.settings,
        address=f"{services().settings.web.public_url.rstrip('/')}/analyses/{row.id}",
        may_delete=viewer.is_admin or row.owner_id == viewer.id,
        created_at=row.created_at,
    )


@user.get("/analyses")
@needs(Scope.READ)
@user.doc(tags=["analyses"], operation_id="list_analyses")
@user.input(analysis_schemas.AnalysesQuery, location="query")
@user.output(analysis_schemas.Analyses)
def list_analyses(query_data: analysis_schemas.AnalysesQuery) -> analysis_schemas.Analyses:
    """List your saved settings, newest first"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = service.of_owner(db, current_user(), query_data.protocol, limit, query_data.after)
        return analysis_schemas.Analyses(items=[_told(row) for row in page.items], next=page.next)


@user.post("/analyses")
@needs(Scope.JOBS)
@user.doc(tags=["analyses"], operation_id="save_analysis")
@user.input(analysis_schemas.AnalysisIn)
@user.output(analysis_schemas.Analysis, status_code=201)
def save_analysis(
    json_data: analysis_schemas.AnalysisIn,
) -> tuple[analysis_schemas.Analysis, int, dict[str, str]]:
    """Save settings of a protocol, without running it

    Whoever has their address, or their id, and may see their protocol and data may open them. Whether the
    values fit the protocol is said when they are run.
    """
    with services().sessions.begin() as db:
        row = service.save(
            db,
            current_user(),
            json_data.protocol,
            json_data.version,
            json_data.name,
            parameters=json_data.parameters,
            inputs={slot: str(dataset) for slot, dataset in json_data.inputs.items()},
            sweep=json_data.sweep,
        )
        answer = _told(row)
    return answer, 201, {"Location": f"/api/v1/analyses/{answer.id}"}


@user.get("/analyses/<uuid:analysis>")
@needs(Scope.READ)
@user.doc(tags=["analyses"], operation_id="show_analysis")
@user.output(analysis_schemas.Analysis)
def show_analysis(analysis: uuid.UUID) -> analysis_schemas.Analysis:
    """Show saved settings, yours or those of who gave you their address"""
    with services().sessions() as db:
        return _told(service.get(db, current_user(), analysis))


@user.post("/analyses/<uuid:analysis>/submit")
@needs(Scope.JOBS)
@user.doc(
    tags=["analyses"], operation_id="submit_analysis", extensions={"x-labfleet-parameters": [KEY_HEADER]}
)
@user.input(schemas.SubmitQuery, location="query")
@user.input(analysis_schemas.AnalysisRun)
@user.output(schemas.Job, status_code=201)
def submit_analysis(
    analysis: uuid.UUID, query_data: schemas.SubmitQuery, json_data: analysis_schemas.AnalysisRun
) -> Any:
    """Submit a job of saved settings

    With their version of the protocol. With `dry_run` nothing is made, as in `POST /jobs`.
    """
    with services().sessions() as db:
        row = service.get(db, current_user(), analysis)
    inputs = {slot: str(dataset) for slot, dataset in json_data.inputs.items()}
    about = json_data.model_dump(include=ABOUT, exclude_none=True)
    label = row.name if json_data.label is None else json_data.label
    wanted = service.specification(
        row.protocol,
        row.version,
        service.changed(row.settings, json_data.parameters, inputs),
        {"label": label, **about},
    )
    return plan_of(wanted) if query_data.dry_run else made(submit_spec(wanted, idempotency_key()))


@user.delete("/analyses/<uuid:analysis>")
@needs(Scope.JOBS)
@user.doc(tags=["analyses"], operation_id="delete_analysis")
@user.output({}, status_code=204)
def delete_analysis(analysis: uuid.UUID) -> tuple[str, int]:
    """Delete saved settings of yours

    Jobs that were submitted of them stay.
    """
    with services().sessions.begin() as db:
        service.remove(db, current_user(), analysis)
    return "", 204
