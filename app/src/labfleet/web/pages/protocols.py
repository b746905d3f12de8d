"""The catalogue, a protocol's page, two versions compared, and who may use a protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, cast

from flask import Response, g, make_response, redirect, render_template, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.db.models import Protocol, ProtocolVersion, SelfTest
from labfleet.errors import InvalidSource, LabfleetError
from labfleet.jobs import quotas, search
from labfleet.protocols import access, service
from labfleet.protocols.interface import interface_of
from labfleet.protocols.problems import InvalidProtocol
from labfleet.sources import imports
from labfleet.web import self_testing
from labfleet.web.api import views
from labfleet.web.api.protocols import comparison, self_tests_of
from labfleet.web.keeping import keep_archive
from labfleet.web.pages.frame import pages
from labfleet.web.readme import MAX_BYTES, rendered
from labfleet.web.services import services

SECTION = "Protocols"
RECENT = 5
README = "README.md"


@pages.get("/protocols")
def catalogue() -> Response:
    """The protocols that the viewer may use, all or those with some words."""
    return _catalogue(None)


def _catalogue(error: LabfleetError | None) -> Response:
    text = request.args.get("text", "")[:200]
    with services().sessions() as db:
        items = [views.protocol(row, g.user) for row in service.list_protocols(db, g.user, text)]
    page = make_response(
        render_template(
            "protocols.html",
            section=SECTION,
            protocols=items,
            text=text,
            limit=services().settings.protocols.max_archive_bytes,
            problem=error.problem() if error else None,
            faults=error.problems if isinstance(error, InvalidProtocol) else (),
            misfits=error.extra["errors"] if isinstance(error, InvalidSource) else (),
            typed={name: request.form.get(name, "") for name in ("url", "branch", "user")},
        )
    )
    page.status_code = error.status if error else 200
    return page


@pages.post("/protocols")
def send_protocol() -> BaseResponse:
    """Keep the archive of the form."""
    file = request.files.get("file")
    try:
        if file is None or not file.filename:
            raise NoFile("No archive was chosen.")
        version = keep_archive(g.user, cast(BinaryIO, file.stream))
    except LabfleetError as error:
        return _catalogue(error)
    return redirect(f"/protocols/{version.manifest.name}", 303)


@pages.post("/protocols/import")
def import_protocol() -> BaseResponse:
    """Have the protocol of the form's address imported; the source's page shows how far it is."""
    form = {name: value.strip() for name, value in request.form.items()}
    parameters = {name: form[name] for name in ("url", "branch") if form.get(name)}
    given = {name: form[name] for name in ("user", "password") if form.get(name)}
    try:
        with services().sessions.begin() as db:
            found = imports.ask(
                db,
                g.user,
                {**parameters, "rewrite": "rewrite" in form},
                given=given or None,
                vault=services().vault,
                kept=services().settings.sources.kept,
            )
            return redirect(f"/sources/{found.source_id}", 303)
    except LabfleetError as error:
        return _catalogue(error)


class NoFile(LabfleetError):
    """The form came without a file."""

    code = "no_file"
    status = 422
    title = "No file was chosen"
    default_hint = "Choose a tar or tar.gz of the protocol's directory, then press Add."


@pages.get("/protocols/<name>")
def protocol(name: str) -> Response:
    """Documentation, interface, versions, who may use it, and what the viewer has made with it."""
    return _protocol(name, None)


def _protocol(name: str, error: LabfleetError | None) -> Response:
    tests = self_tests_of(name)
    with services().sessions() as db:
        row = service.get_protocol(db, g.user, name)
        version = service.find_version(db, g.user, name, request.args.get("version"))
        mine = search.Filter(user=g.user.name, protocol=name)
        jobs = search.list_jobs(db, g.user, mine, RECENT)
        page = make_response(
            render_template(
                "protocol.html",
                section=SECTION,
                protocol=views.protocol(row, g.user),
                version=version,
                interface=_interface(version),
                readme=_readme(version),
                jobs=[views.summary(job, g.user) for job in jobs.items],
                self_tests={each.commit: each for each in tests},
                more_jobs=jobs.next is not None,
                remote=f"{services().settings.web.public_url.rstrip('/')}/git/{name}.git",
                problem=error.problem() if error else None,
            )
        )
    page.status_code = error.status if error else 200
    return page


def _interface(version: ProtocolVersion) -> dict[str, Any]:
    # From git, where the parameters stand in the order that their author gave them; jsonb keeps none.
    return interface_of(services().protocols.manifest(version.protocol.name, version.commit))


def _readme(version: ProtocolVersion) -> str | None:
    content = services().protocols.file(version.protocol.name, version.commit, README, MAX_BYTES)
    return rendered(content.decode("utf-8", "replace")) if content else None


@pages.post("/protocols/<name>/test")
def try_version(name: str) -> BaseResponse:
    """Try the version that is shown; its job's page shows how far it is."""
    try:
        begun = self_testing.begin(g.user, name, request.form.get("version"))
    except LabfleetError as error:
        return _protocol(name, error)
    with services().sessions() as db:
        return redirect(f"/jobs/{db.get_one(SelfTest, begun).job_id}", 303)


@pages.get("/protocols/<name>/compare")
def compare(name: str) -> str:
    """What differs between two versions."""
    with services().sessions() as db:
        row = service.get_protocol(db, g.user, name)
        versions = [version.version for version in row.versions]
        base = request.args.get("base") or versions[min(1, len(versions) - 1)]
        found = comparison(db, name, base, request.args.get("head") or versions[0])
        shown = [(file, _hunks(file.patch)) for file in found.files]
        return render_template(
            "protocol_compare.html",
            section=SECTION,
            found=found,
            files=shown,
            versions=versions,
            title=row.title,
        )


def _hunks(patch: str | None) -> list[str] | None:
    """A patch's lines without its head, which only repeats the names; None for one that is not shown."""
    if patch is None:
        return None
    lines = patch.splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith("@@")), None)
    return lines[first:] if first is not None else ["Not text, or nothing but its name or mode."]


def _names(field: str) -> list[str]:
    return [name for name in [request.form.get(field, "").strip()] if name]


def _transfer(db: Session, name: str) -> Protocol:
    protocol = access.transfer(db, g.user, name, request.form.get("user", "").strip())
    if protocol.owner is not None:
        quotas.claim_storage(db, protocol.owner, 0)
    return protocol


CHANGES: dict[str, Callable[[Session, str], object]] = {
    "share": lambda db, name: access.share(db, g.user, name, users=_names("user"), groups=_names("group")),
    "unshare": lambda db, name: access.unshare(
        db, g.user, name, users=_names("user"), groups=_names("group")
    ),
    "publish": lambda db, name: access.publish(db, g.user, name),
    "withdraw": lambda db, name: access.withdraw(db, g.user, name),
    "transfer": _transfer,
    "delete": lambda db, name: service.delete(db, g.user, name),
}


@pages.post("/protocols/<name>/<any(share, unshare, publish, withdraw, transfer, delete):verb>")
def change_protocol(name: str, verb: str) -> BaseResponse:
    """What the owner decides about a protocol."""
    try:
        with services().sessions.begin() as db:
            CHANGES[verb](db, name)
    except LabfleetError as error:
        return _protocol(name, error)
    if verb == "delete":
        services().protocols.remove(name)
    return redirect("/protocols" if verb in {"delete", "transfer"} else f"/protocols/{name}#who", 303)
