"""Choosing a protocol, filling in its form, and sending the job."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flask import g, make_response, redirect, render_template, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.datasets import service as datasets
from labfleet.errors import Invalid, InvalidParameters, LabfleetError
from labfleet.jobs import quotas, search, service, spec
from labfleet.protocols import service as protocols
from labfleet.protocols.interface import interface_of
from labfleet.web import tracing
from labfleet.web.api import views
from labfleet.web.api.schemas import Interface
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages.datasets import keep_upload
from labfleet.web.pages.forms import Field, fields_of, read_form, slots_of, with_errors
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

CHOICES = 200


@pages.get("/protocols")
def choose_protocol() -> str:
    """All protocols."""
    with services().sessions() as db:
        items = [views.protocol(row, g.user) for row in protocols.list_protocols(db, g.user)]
    return render_template("protocols.html", section="Protocols", protocols=items)


@pages.get("/jobs/new")
def new_job() -> BaseResponse:
    """The form of a protocol, filled as in the job `like`, if one is named."""
    with services().sessions() as db:
        interface = _interface(db)
        earlier = _earlier(db, request.args.get("like"))
        fields = fields_of(interface.parameters, earlier.get("parameters"))
        slots = slots_of(interface.inputs, earlier.get("inputs", {}))
        return _form(db, interface, fields, slots, label=earlier.get("label", ""), key=str(uuid.uuid4()))


@pages.post("/jobs/new")
def submit_job() -> BaseResponse:
    """Make the job, or show the form again with what is wrong."""
    with services().sessions() as db:
        interface = _interface(db)
    parameters, fields = read_form(interface.parameters, request.form)
    given = {slot: request.form.get(f"i-{slot}", "") for slot in interface.inputs}
    try:
        if any(field.error for field in fields):
            raise Invalid("Some fields can't be read; they say what is wrong.", hint="Correct them.")
        given |= _uploads(interface)
        return redirect(f"/jobs/{_submit(interface, parameters, given)}", 303)
    except LabfleetError as error:
        if isinstance(error, InvalidParameters):
            fields = with_errors(fields, error.extra["errors"])
            error = Invalid(
                "Some values don't fit; the fields say why.", hint="Correct them and run it again."
            )
        return _again(interface, fields, slots_of(interface.inputs, given), error)


def _again(
    interface: Interface, fields: list[Field], slots: list[Field], error: LabfleetError
) -> BaseResponse:
    form = request.form
    with services().sessions() as db:
        page = _form(
            db,
            interface,
            fields,
            slots,
            label=form.get("label", ""),
            key=str(uuid.uuid4()),  # another request may follow, and it is another one
            problem=error.problem(),
        )
    page.status_code = error.status
    return page


def _submit(interface: Interface, parameters: dict[str, Any], inputs: Mapping[str, str]) -> uuid.UUID:
    check_value(parameters, MAX_DEPTH)
    check_value(request.form.get("label", ""), MAX_DEPTH)
    wanted = spec.read(
        {
            "protocol": interface.name,
            "version": interface.version,
            "parameters": parameters,
            "inputs": {slot: _dataset_id(text) for slot, text in inputs.items() if text},
            "label": request.form.get("label", "").strip(),
        }
    )
    # The form has a key of its own, so that a double click makes one job.
    key = request.form.get("key", "")[:64]
    settings = services().settings
    with services().sessions.begin() as db:
        quotas.check_storage(db, g.user, 0)
        job = service.submit(
            db,
            g.user,
            wanted,
            key if key.isascii() and key.isprintable() and key else None,
            max_attempts=settings.leases.max_attempts,
            limits=settings.jobs,
        )
    tracing.submitted(job.id, [], job.tasks_total)
    return job.id


def _uploads(interface: Interface) -> dict[str, str]:
    """The files that were sent along become datasets; slot → dataset id."""
    files = {slot: request.files.get(f"i-{slot}-file") for slot in interface.inputs}
    return {slot: str(keep_upload(file)) for slot, file in files.items() if file and file.filename}


def _dataset_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Invalid("This is no dataset of the list.", hint="Choose one of the list.") from None


def _interface(db: Session) -> Interface:
    name, version = request.args.get("protocol", ""), request.args.get("version")
    found = protocols.find_version(db, g.user, name, version)
    # From git, where the parameters stand in the order that their author gave them; jsonb keeps none.
    manifest = services().protocols.manifest(name, found.commit)
    return Interface.model_validate({**interface_of(manifest), "commit": found.commit})


def _earlier(db: Session, job: str | None) -> dict[str, Any]:
    if not job:
        return {}
    found = service.get_job_row(db, g.user, _dataset_id(job))
    task = search.list_tasks(db, g.user, found.id, limit=1).items[0]
    return {"label": found.label, "parameters": task.parameters, "inputs": task.inputs}


def _form(
    db: Session, interface: Interface, fields: list[Field], slots: list[Field], **rest: Any
) -> BaseResponse:
    known = datasets.list_datasets(db, g.user, CHOICES).items if slots else []
    return make_response(
        render_template(
            "new_job.html",
            section="Protocols",
            interface=interface,
            fields=fields,
            slots=slots,
            datasets=known,
            **rest,
        )
    )
