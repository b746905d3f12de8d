"""Sources: the list, making and changing one by a form, one source with its fetches."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flask import Response, g, make_response, redirect, render_template, request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.db.models import Source
from labfleet.errors import Invalid, InvalidSource, LabfleetError, NotFound
from labfleet.sources import access, fetches, service
from labfleet.sources.spec import Definition
from labfleet.web.api import source_views
from labfleet.web.pages.forms import Field, fields_of, read_form, with_errors
from labfleet.web.pages.frame import names, pages
from labfleet.web.pages.source_steps import TYPES, fields_of_steps, steps_of
from labfleet.web.services import services

LIFETIMES = {
    0: "Fetch each time anew",
    3600: "An hour",
    86400: "A day",
    7 * 86400: "A week",
    30 * 86400: "30 days",
}
FORMATS = {
    "auto": "By its name",
    "csv": "CSV or TSV (text with columns)",
    "excel": "Excel or OpenDocument",
    "json": "JSON",
    "parquet": "Parquet",
    "file": "No table: keep the file as it is",
}
PROTOCOL = {"protocol": "A protocol"}
FETCHES_SHOWN = 10
TYPED = "c-"


@dataclass
class Filled:
    """What a form of a source holds. `steps` is None where the source's steps have no form."""

    handler: str
    fields: list[Field]
    name: str = ""
    description: str = ""
    format: str = "auto"
    sheet: str = ""
    lifetime: int = 86400
    steps: dict[str, str] | None = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    secrets: list[Field] = field(default_factory=list)
    had: list[str] = field(default_factory=list)
    choice: str = "keep"
    typed: dict[str, str] = field(default_factory=dict)

    def given(self) -> dict[str, str] | None:
        """What to do with the credentials: others, none at all to take them away, None to leave them."""
        if self.had and self.typed and self.choice != "replace":
            raise Invalid(
                "New credentials were typed, but not chosen.", hint="Choose to replace the old ones."
            )
        if self.had and self.choice == "replace" and not self.typed:
            raise Invalid("No new credentials were typed.", hint="Type them, or keep those that there are.")
        return {} if self.had and self.choice == "remove" else self.typed or None


@pages.get("/sources")
def sources() -> str:
    """The list of sources."""
    with services().sessions() as db:
        rows = source_views.sources(db, g.user, service.list_sources(db, g.user))
        known = service.handlers(db)
    return render_template("sources.html", section="Datasets", sources=rows, handlers=known)


@pages.get("/sources/new")
def new_source() -> BaseResponse:
    """The form of a new source; first of all which handler."""
    with services().sessions() as db:
        known = service.handlers(db)
    name = request.args.get("handler", "")
    if name not in known:
        return _render("source_handlers.html", handlers=known)
    lifetime = services().settings.sources.lifetime_seconds
    filled = Filled(
        name, fields_of(known[name]["parameters"]), lifetime=lifetime, secrets=_secrets(known[name])
    )
    return _form(known, filled)


@pages.post("/sources/new")
def add_source() -> BaseResponse:
    """Make the source and have it fetched, or show the form again with what is wrong."""
    with services().sessions() as db:
        known = service.handlers(db)
    filled = _read(known, request.form.get("handler", ""))
    try:
        definition = _definition(filled, None)
        with services().sessions.begin() as db:
            made = service.add_source(
                db,
                g.user,
                filled.name,
                definition,
                description=filled.description,
                lifetime_seconds=filled.lifetime,
                given=filled.given(),
                vault=services().vault,
            )
            fetches.ask(db, g.user, made.id)
            return redirect(f"/sources/{made.id}", 303)
    except LabfleetError as error:
        return _form(known, filled, error)


@pages.get("/sources/<uuid:source>/edit")
def edit_source(source: uuid.UUID) -> BaseResponse:
    """The form with what the source says."""
    with services().sessions() as db:
        row = access.to_change(db, g.user, source)
        known = service.handlers(db)
        what = row.definition
        filled = Filled(
            what["handler"],
            fields_of(_schema(known, what["handler"]), what["parameters"]),
            name=row.name,
            description=row.description,
            format=what["format"],
            sheet=what.get("sheet") or "",
            lifetime=row.lifetime_seconds,
            steps=fields_of_steps(what.get("transform", [])),
            secrets=_secrets(known[what["handler"]]),
            had=_had(row),
        )
    return _form(known, filled, source=source)


@pages.post("/sources/<uuid:source>/edit")
def change_source(source: uuid.UUID) -> BaseResponse:
    """Keep what the form says; what is fetched next is made so."""
    with services().sessions() as db:
        row = access.to_change(db, g.user, source)
        known, before, had = service.handlers(db), row.definition, _had(row)
    filled = _read(known, before["handler"])
    filled.had = had
    if fields_of_steps(before.get("transform", [])) is None:
        filled.steps = None
    try:
        definition = _definition(filled, before.get("transform"))
        with services().sessions.begin() as db:
            service.change_source(
                db,
                g.user,
                source,
                name=filled.name,
                description=filled.description,
                definition=definition,
                lifetime_seconds=filled.lifetime,
                given=filled.given(),
                vault=services().vault,
            )
    except LabfleetError as error:
        return _form(known, filled, error, source)
    return redirect(f"/sources/{source}", 303)


@pages.get("/sources/<uuid:source>")
def source(source: uuid.UUID) -> BaseResponse:
    """One source with its fetches."""
    return _one(source, None)


@pages.get("/sources/<uuid:source>/live")
def source_live(source: uuid.UUID) -> str:
    """The part of a source's page that refreshes itself."""
    with services().sessions() as db:
        return render_template("source_live.html", **_told(db, source))


@pages.post("/sources/<uuid:source>/fetch")
def fetch_source(source: uuid.UUID) -> BaseResponse:
    """Have the source fetched, also if what was fetched is still good: somebody pressed the button."""
    with services().sessions.begin() as db:
        fetches.ask(db, g.user, source, anew=True, kept=services().settings.sources.kept)
    return redirect(f"/sources/{source}", 303)


@pages.post("/sources/<uuid:source>/fetches/<uuid:fetch>/cancel")
def cancel_fetch(source: uuid.UUID, fetch: uuid.UUID) -> BaseResponse:
    """End a fetch that is under way."""
    try:
        with services().sessions.begin() as db:
            fetches.cancel(db, g.user, source, fetch)
    except LabfleetError as error:
        return _one(source, error)
    return redirect(f"/sources/{source}", 303)


@pages.post("/sources/<uuid:source>/delete")
def delete_source(source: uuid.UUID) -> BaseResponse:
    """Delete a source."""
    with services().sessions.begin() as db:
        service.delete_source(db, g.user, source)
    return redirect("/sources", 303)


@pages.post("/sources/<uuid:source>/sharing")
def share_source(source: uuid.UUID) -> BaseResponse:
    """Keep for whom the form says that a source is."""
    users, groups = (names(request.form.get(key, "")) for key in ("users", "groups"))
    try:
        with services().sessions.begin() as db:
            row = access.make_public(db, g.user, source, public=request.form.get("public") == "true")
            old_users = {each.user.name for each in row.shares if each.user} - set(users)
            old_groups = {each.group_name for each in row.shares if each.group_name} - set(groups)
            access.unshare(db, g.user, source, users=old_users, groups=old_groups)
            access.share(db, g.user, source, users=users, groups=groups)
    except LabfleetError as error:
        return _one(source, error)
    return redirect(f"/sources/{source}", 303)


def _read(known: Mapping[str, Any], handler: str) -> Filled:
    """What a form that was sent holds."""
    form = request.form
    parameters, fields = read_form(_schema(known, handler), form)
    lifetime = form.get("lifetime", "")
    secrets = _secrets(known[handler])
    return Filled(
        handler,
        fields,
        name=form.get("name", "").strip(),
        description=form.get("description", "").strip(),
        format=form.get("format", "auto"),
        sheet=form.get("sheet", "").strip(),
        lifetime=int(lifetime) if lifetime.isdecimal() and len(lifetime) < 10 else 86400,
        steps={key: value for key, value in form.items() if key.startswith("t-")},
        parameters=parameters,
        secrets=secrets,
        choice=form.get("credentials", "keep"),
        typed={each.name: form[each.id] for each in secrets if form.get(each.id)},
    )


def _secrets(handler: Mapping[str, Any]) -> list[Field]:
    """The fields of credentials: never filled, also not with what was just typed."""
    return [
        replace(each, id=TYPED + each.name, kind="password" if what.get("format") == "password" else "text")
        for each in fields_of(handler.get("credentials", {}))
        for what in [handler["credentials"]["properties"][each.name]]
    ]


def _had(row: Source) -> list[str]:
    return row.credentials.names if row.credentials else []


def _schema(known: Mapping[str, Any], handler: str) -> Any:
    if handler not in known:
        raise NotFound(f"There is no handler '{handler}'.")
    return known[handler]["parameters"]


def _definition(filled: Filled, kept: list[dict[str, Any]] | None) -> Definition:
    """The definition that a form means; `Invalid` where it can't be read. `kept`: steps without a form."""
    faults = [each for each in filled.fields if each.error]
    if faults:
        raise Invalid(f"{faults[0].label}: {faults[0].error}")
    steps = (kept or []) if filled.steps is None else steps_of(filled.steps)
    told: dict[str, Any] = {"handler": filled.handler, "parameters": filled.parameters}
    told |= {"format": filled.format}
    told |= {"sheet": filled.sheet} if filled.sheet else {}
    told |= {"transform": steps} if steps else {}
    try:
        return Definition.model_validate(told)
    except ValidationError as error:
        faults_told = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise Invalid(f"{faults_told}.") from None


def _form(
    known: Mapping[str, Any],
    filled: Filled,
    error: LabfleetError | None = None,
    source: uuid.UUID | None = None,
) -> Response:
    if isinstance(error, InvalidSource):
        told = error.extra["errors"]
        filled.fields = with_errors(filled.fields, [x for x in told if x["path"].startswith("parameters/")])
        filled.secrets = with_errors(
            filled.secrets, [x for x in told if x["path"].startswith("credentials/")]
        )
    lifetimes = LIFETIMES if filled.lifetime in LIFETIMES else {filled.lifetime: "As it is", **LIFETIMES}
    page = _render(
        "source_form.html",
        handlers=known,
        handler=known[filled.handler],
        filled=filled,
        steps=filled.steps,
        formats=FORMATS,
        lifetimes=lifetimes,
        types=TYPES,
        folders=services().settings.sources.folders,
        source_id=source,
        problem=error.problem() if error else None,
    )
    page.status_code = error.status if error else 200
    return page


def _render(template: str, **context: Any) -> Response:
    return make_response(render_template(template, section="Datasets", **context))


def _one(source_id: uuid.UUID, error: LabfleetError | None) -> Response:
    with services().sessions() as db:
        page = _render("source.html", problem=error.problem() if error else None, **_told(db, source_id))
    page.status_code = error.status if error else 200
    return page


def _told(db: Session, source_id: uuid.UUID) -> dict[str, Any]:
    row = access.get_source(db, g.user, source_id)
    (told,) = source_views.sources(db, g.user, [row])
    found = fetches.list_fetches(db, row, FETCHES_SHOWN)
    handler = service.handlers(db).get(row.definition["handler"], {"title": row.definition["handler"]})
    properties = handler.get("parameters", {}).get("properties", {})
    return {
        "source": told,
        "handler": handler,
        # In the handler's order, and then what it knows no more.
        "titles": {name: what.get("title", name) for name, what in properties.items()}
        | {name: name for name in row.definition["parameters"] if name not in properties},
        "secrets": {
            name: what.get("title", name)
            for name, what in handler.get("credentials", {}).get("properties", {}).items()
        },
        "formats": FORMATS | PROTOCOL,
        "fetches": [source_views.fetch(each, row, g.user) for each in found],
    }
