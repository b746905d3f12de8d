"""Choosing a protocol, filling in its form, and sending the job."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import g, make_response, redirect, render_template, request
from sqlalchemy.orm import Session
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from labfleet.datasets import service as datasets
from labfleet.errors import Invalid, InvalidJob, InvalidParameters, LabfleetError
from labfleet.jobs import analyses, quotas, search, service
from labfleet.jobs.inputs import visible_ids
from labfleet.mail.notices import Wish
from labfleet.protocols import service as protocols
from labfleet.protocols.interface import interface_of
from labfleet.web import tracing
from labfleet.web.api.schemas import Interface
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages.datasets import keep_upload
from labfleet.web.pages.forms import (
    Field,
    Grid,
    fields_of,
    read_form,
    read_sweep,
    slots_of,
    with_errors,
    with_sweep,
)
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

CHOICES = 200
SETTINGS_SHOWN = 50


@dataclass
class Filled:
    """A form as somebody filled it in. `inputs`: slot to dataset id; `grid`: several values, as a sweep."""

    fields: list[Field]
    slots: list[Field]
    label: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    grid: Grid = field(default_factory=dict)
    mail: bool | None = None


@pages.get("/jobs/new")
def new_job() -> BaseResponse:
    """The form of a protocol, filled as in the job `like` or the saved `analysis`, if one is named."""
    with services().sessions() as db:
        interface = _interface(db)
        earlier = _earlier(db)
        sweep = earlier.get("sweep", {})
        fields = with_sweep(fields_of(interface.parameters, earlier.get("parameters")), sweep)
        slots = slots_of(interface.inputs, earlier.get("inputs", {}), sweep)
        filled = Filled(fields, slots, label=earlier.get("label", ""))
        return _form(db, interface, filled, saved=earlier.get("saved"))


@pages.post("/jobs/new")
def submit_job() -> BaseResponse:
    """Make the job, or show the form again with what is wrong."""
    with services().sessions() as db:
        interface = _interface(db)
    filled = _read(interface)
    try:
        _complete(interface, filled)
        return redirect(f"/jobs/{_submit(interface, filled)}", 303)
    except LabfleetError as error:
        return _again(interface, filled, error)


@pages.post("/jobs/example")
def run_example() -> BaseResponse:
    """Run the protocol as it is, on the data that it brings along."""
    with services().sessions() as db:
        interface = _interface(db)
    inputs = {slot: _sample(interface, file) for slot, file in _samples(interface).items()}
    label = f"Example of {interface.title}"[:200]
    return redirect(f"/jobs/{_submit(interface, Filled([], [], label=label, inputs=inputs))}", 303)


@pages.post("/analyses")
def save_analysis() -> BaseResponse:
    """Keep what the form holds, to be opened again by its address."""
    with services().sessions() as db:
        interface = _interface(db)
    filled = _read(interface)
    try:
        _complete(interface, filled)
        check_value([filled.parameters, filled.grid, filled.label], MAX_DEPTH)
        with services().sessions.begin() as db:
            saved = analyses.save(
                db,
                g.user,
                interface.name,
                interface.version,
                filled.label or interface.title,
                parameters=filled.parameters,
                inputs=filled.inputs,
                sweep=filled.grid,
            )
            address = f"/analyses/{saved.id}"
        return redirect(address, 303)
    except LabfleetError as error:
        return _again(interface, filled, error)


@pages.get("/analyses/<uuid:analysis>")
def open_analysis(analysis: uuid.UUID) -> BaseResponse:
    """The form with the saved settings."""
    with services().sessions() as db:
        found = analyses.get(db, g.user, analysis)
    return redirect(f"/jobs/new?protocol={found.protocol}&version={found.version}&analysis={found.id}", 303)


@pages.post("/analyses/<uuid:analysis>/delete")
def delete_analysis(analysis: uuid.UUID) -> BaseResponse:
    """Forget saved settings."""
    with services().sessions.begin() as db:
        protocol = analyses.remove(db, g.user, analysis)
    return redirect(f"/jobs/new?protocol={protocol}", 303)


def _read(interface: Interface) -> Filled:
    """The form as it came, with an `error` at each field that can't be read."""
    parameters, fields = read_form(interface.parameters, request.form)
    grid, fields = read_sweep(interface.parameters, fields, request.form)
    inputs = {slot: text for slot in interface.inputs if (text := request.form.get(f"i-{slot}", ""))}
    grid |= {
        f"inputs.{slot}": several
        for slot in interface.inputs
        if (several := request.form.getlist(f"m-{slot}"))
    }
    for name in grid:
        if name.startswith("parameters."):
            parameters.pop(name.removeprefix("parameters."), None)
    slots = slots_of(interface.inputs, inputs, grid)
    label, mail = request.form.get("label", "").strip(), "mail" in request.form
    # Unticked it means none only to those who get one for each job.
    wish = mail or (False if g.user.job_mails == Wish.EACH.value else None)
    return Filled(fields, slots, label, parameters, inputs, grid, wish)


def _complete(interface: Interface, filled: Filled) -> None:
    """Make datasets of the files that came along, once all else can be read."""
    if any(item.error for item in filled.fields):
        raise Invalid("Some fields can't be read; they say what is wrong.", hint="Correct them.")
    for slot in interface.inputs:
        new = [str(keep_upload(file)) for file in request.files.getlist(f"i-{slot}-file") if file.filename]
        several = [*filled.grid.pop(f"inputs.{slot}", []), *new]
        if len(several) > 1:
            filled.grid[f"inputs.{slot}"] = several
            filled.inputs.pop(slot, None)
        elif several:
            filled.inputs[slot] = several[0]
    filled.slots = slots_of(interface.inputs, filled.inputs, filled.grid)


def _again(interface: Interface, filled: Filled, error: LabfleetError) -> BaseResponse:
    if isinstance(error, InvalidParameters):
        filled.fields = with_errors(filled.fields, error.extra["errors"])
        error = Invalid("Some values don't fit; the fields say why.", hint="Correct them and run it again.")
    elif isinstance(error, InvalidJob):
        told = "; ".join(fault["message"] for fault in error.extra["errors"][:5])
        error = Invalid(f"Some values don't fit: {told}.", hint="Correct them and run it again.")
    with services().sessions() as db:
        page = _form(db, interface, filled, problem=error.problem())
    page.status_code = error.status
    return page


def _submit(interface: Interface, filled: Filled) -> uuid.UUID:
    check_value([filled.parameters, filled.grid, filled.label], MAX_DEPTH)
    inputs = {slot: _dataset_id(text) for slot, text in filled.inputs.items() if text}
    values = {"parameters": filled.parameters, "inputs": inputs, "sweep": filled.grid}
    of_job = {"label": filled.label} | ({} if filled.mail is None else {"mail": filled.mail})
    wanted = analyses.specification(interface.name, interface.version, values, of_job)
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
            mails=settings.mail,
        )
    tracing.submitted(job.id, [], job.tasks_total)
    return job.id


def _samples(interface: Interface) -> dict[str, str]:
    """By input slot: the file that the protocol brings along to be tried on."""
    files = services().protocols.samples(interface.name, interface.commit)
    found = {}
    for number, slot in enumerate(interface.inputs):
        named = [file for file in files if file.startswith(f"sample-{slot}.")]
        unnamed = [file for file in files if file.startswith("sample.")] if number == 0 else []
        if chosen := next(iter([*named, *unnamed]), None):
            found[slot] = chosen
    return found


def _sample(interface: Interface, file: str) -> str:
    content = services().protocols.sample(interface.name, interface.commit, file)
    name = f"{interface.name}-{file}"
    with services().sessions() as db:
        earlier = datasets.same_as(db, g.user, name, hashlib.sha256(content).hexdigest())
    return str(earlier or keep_upload(FileStorage(io.BytesIO(content), filename=name)))


def _has_example(interface: Interface) -> bool:
    """Whether the protocol can be run without a word: with its defaults, on the data that it brings."""
    samples = _samples(interface)
    properties = interface.parameters.get("properties", {})
    lacks = [
        name for name in interface.parameters.get("required", []) if "default" not in properties.get(name, {})
    ]
    needs = [slot for slot, told in interface.inputs.items() if not told.get("optional")]
    return not lacks and all(slot in samples for slot in needs)


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


def _earlier(db: Session) -> Mapping[str, Any]:
    if analysis := request.args.get("analysis"):
        saved = analyses.get(db, g.user, _dataset_id(analysis))
        return {**saved.settings, "label": saved.name, "saved": saved}
    job = request.args.get("like")
    if not job:
        return {}
    found = service.read_job(db, g.user, _dataset_id(job))
    task = search.list_tasks(db, g.user, found.id, limit=1).items[0]
    seen = {str(dataset) for dataset in visible_ids(db, g.user, [task])}
    given = {slot: each for slot, each in task.inputs.items() if isinstance(each, str) and each in seen}
    return {"label": found.label, "parameters": task.parameters, "inputs": given}


def _form(db: Session, interface: Interface, filled: Filled, **rest: Any) -> BaseResponse:
    known = datasets.list_datasets(db, g.user, CHOICES).items if filled.slots else []
    return make_response(
        render_template(
            "new_job.html",
            section="Protocols",
            interface=interface,
            fields=filled.fields,
            slots=filled.slots,
            label=filled.label,
            datasets=known,
            limit=services().settings.web.max_upload_bytes,
            mail=g.user.job_mails == Wish.EACH.value if filled.mail is None else filled.mail,
            mail_on=services().post.on,
            key=str(uuid.uuid4()),  # another request may follow, and it is another one
            example=_has_example(interface),
            settings=analyses.of_owner(db, g.user, interface.name, SETTINGS_SHOWN).items,
            **rest,
        )
    )
