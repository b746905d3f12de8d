"""Sources: make, look, change, share, fetch."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy.orm import Session

from labfleet.db.models import Source
from labfleet.sources import access, fetches, imports, service
from labfleet.users.scopes import Scope
from labfleet.web.api import source_schemas, source_views
from labfleet.web.api.blueprints import user
from labfleet.web.api.schemas import People
from labfleet.web.auth import also_needs, current_user, needs
from labfleet.web.services import services


@user.get("/sources/handlers")
@needs(Scope.READ)
@user.doc(tags=["sources"], operation_id="list_source_handlers")
@user.output(source_schemas.SourceHandlers)
def list_source_handlers() -> source_schemas.SourceHandlers:
    """List the ways to fetch, and what each one takes"""
    with services().sessions() as db:
        found = service.handlers(db)
    return source_schemas.SourceHandlers(
        items=[
            source_schemas.SourceHandler.model_validate({"name": name} | what) for name, what in found.items()
        ],
        folders=[str(folder) for folder in services().settings.sources.folders],
    )


@user.get("/sources")
@needs(Scope.READ)
@user.doc(tags=["sources"], operation_id="list_sources")
@user.output(source_schemas.DataSources)
def list_sources() -> source_schemas.DataSources:
    """List the sources that you may see and fetch"""
    with services().sessions() as db:
        rows = service.list_sources(db, current_user())
        return source_schemas.DataSources(items=source_views.sources(db, current_user(), rows))


@user.post("/sources")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="add_source")
@user.input(source_schemas.SourceIn)
@user.output(source_schemas.DataSource, status_code=201)
def add_source(
    json_data: source_schemas.SourceIn,
) -> tuple[source_schemas.DataSource, int, dict[str, str]]:
    """Make a source

    Nothing is fetched yet: `POST /sources/{source}/fetches` does that.
    """
    lifetime = json_data.lifetime_seconds
    if lifetime is None:
        lifetime = services().settings.sources.lifetime_seconds
    answer = _told(
        lambda db: service.add_source(
            db,
            current_user(),
            json_data.name,
            json_data.definition,
            description=json_data.description,
            lifetime_seconds=lifetime,
            given=_plain(json_data.credentials),
            vault=services().vault,
        )
    )
    return answer, 201, {"Location": f"/api/v1/sources/{answer.id}"}


@user.post("/protocols/import")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="import_protocol")
@user.input(source_schemas.ImportIn)
@user.output(source_schemas.Fetch, status_code=202)
def import_protocol(
    json_data: source_schemas.ImportIn,
) -> tuple[source_schemas.Fetch, int, dict[str, str]]:
    """Import a protocol from a git repository

    It is fetched as a source is, and taken in as if you had pushed it: it becomes a protocol of yours, or new
    versions of one. Ask the fetch that is answered how far it is. The same address again brings what is new.
    """
    with services().sessions.begin() as db:
        found = imports.ask(
            db,
            current_user(),
            json_data.model_dump(include={"url", "branch", "tags", "rewrite"}, exclude_none=True),
            given=_plain(json_data.credentials),
            vault=services().vault,
            kept=services().settings.sources.kept,
        )
        source = access.get_source(db, current_user(), found.source_id)
        answer = source_views.fetch(found, source, current_user())
    return answer, 202, {"Location": f"/api/v1/sources/{answer.source}/fetches/{answer.id}"}


def _plain(given: source_schemas.Credentials | None) -> dict[str, str] | None:
    return None if given is None else {name: value.get_secret_value() for name, value in given.items()}


def _told(change: Callable[[Session], Source]) -> source_schemas.DataSource:
    with services().sessions.begin() as db:
        (answer,) = source_views.sources(db, current_user(), [change(db)])
    return answer


@user.get("/sources/<uuid:source>")
@needs(Scope.READ)
@user.doc(tags=["sources"], operation_id="show_source")
@user.output(source_schemas.DataSource)
def show_source(source: uuid.UUID) -> source_schemas.DataSource:
    """Show a source and how its last fetch went"""
    return _told(lambda db: access.get_source(db, current_user(), source))


@user.patch("/sources/<uuid:source>")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="change_source")
@user.input(source_schemas.SourceChange)
@user.output(source_schemas.DataSource)
def change_source(source: uuid.UUID, json_data: source_schemas.SourceChange) -> source_schemas.DataSource:
    """Change a source of yours"""
    return _told(
        lambda db: service.change_source(
            db,
            current_user(),
            source,
            name=json_data.name,
            description=json_data.description,
            definition=json_data.definition,
            lifetime_seconds=json_data.lifetime_seconds,
            given=_plain(json_data.credentials),
            vault=services().vault,
        )
    )


@user.delete("/sources/<uuid:source>")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="delete_source")
@user.output({}, status_code=204)
def delete_source(source: uuid.UUID) -> tuple[str, int]:
    """Delete a source

    What was made of it stays, and what is under way ends.
    """
    with services().sessions.begin() as db:
        service.delete_source(db, current_user(), source)
    return "", 204


@user.post("/sources/<uuid:source>/share")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="share_source")
@user.input(People)
@user.output(source_schemas.DataSource)
def share_source(source: uuid.UUID, json_data: People) -> source_schemas.DataSource:
    """Let users and groups see and fetch a source of yours

    They see what comes of it from then on.
    """
    return _told(lambda db: access.share(db, current_user(), source, **json_data.model_dump()))


@user.post("/sources/<uuid:source>/unshare")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="unshare_source")
@user.input(People)
@user.output(source_schemas.DataSource)
def unshare_source(source: uuid.UUID, json_data: People) -> source_schemas.DataSource:
    """Take a source of yours back from users and groups"""
    return _told(lambda db: access.unshare(db, current_user(), source, **json_data.model_dump()))


@user.post("/sources/<uuid:source>/publish")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="publish_source")
@user.output(source_schemas.DataSource)
def publish_source(source: uuid.UUID) -> source_schemas.DataSource:
    """Let everybody see and fetch a source of yours"""
    return _told(lambda db: access.make_public(db, current_user(), source, public=True))


@user.post("/sources/<uuid:source>/withdraw")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="withdraw_source")
@user.output(source_schemas.DataSource)
def withdraw_source(source: uuid.UUID) -> source_schemas.DataSource:
    """Take a source of yours back from everybody but those it is shared with"""
    return _told(lambda db: access.make_public(db, current_user(), source, public=False))


@user.get("/sources/<uuid:source>/fetches")
@needs(Scope.READ)
@user.doc(tags=["sources"], operation_id="list_fetches")
@user.input(source_schemas.FetchesQuery, location="query")
@user.output(source_schemas.Fetches)
def list_fetches(source: uuid.UUID, query_data: source_schemas.FetchesQuery) -> source_schemas.Fetches:
    """List the last fetches of a source, newest first"""
    with services().sessions() as db:
        row = access.get_source(db, current_user(), source)
        found = fetches.list_fetches(db, row, query_data.limit)
        return source_schemas.Fetches(items=[source_views.fetch(each, row, current_user()) for each in found])


@user.post("/sources/<uuid:source>/fetches")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="fetch_source")
@user.input(source_schemas.FetchIn)
@user.output(source_schemas.Fetch, status_code=202)
def fetch_source(source: uuid.UUID, json_data: source_schemas.FetchIn) -> tuple[source_schemas.Fetch, int]:
    """Fetch a source

    202 with the fetch that was begun, or the one that is under way: a source is fetched once at a time.
    200 with the last one, while what it brought is good and nobody asks for it `anew`. For a source of a
    protocol the token has to have the scope `protocols`, too.
    """
    with services().sessions.begin() as db:
        if access.get_source(db, current_user(), source).definition["handler"] == imports.HANDLER:
            also_needs(Scope.PROTOCOLS)
        found, _ = fetches.ask(
            db, current_user(), source, anew=json_data.anew, kept=services().settings.sources.kept
        )
        answer = source_views.fetch(found, access.get_source(db, current_user(), source), current_user())
    return answer, 202 if found.state in fetches.OPEN else 200


@user.get("/sources/<uuid:source>/fetches/<uuid:fetch>")
@needs(Scope.READ)
@user.doc(tags=["sources"], operation_id="show_fetch")
@user.output(source_schemas.Fetch)
def show_fetch(source: uuid.UUID, fetch: uuid.UUID) -> source_schemas.Fetch:
    """Show how far a fetch is, or what came of it"""
    with services().sessions() as db:
        row = fetches.get_fetch(db, current_user(), source, fetch)
        return source_views.fetch(row, access.get_source(db, current_user(), source), current_user())


@user.post("/sources/<uuid:source>/fetches/<uuid:fetch>/cancel")
@needs(Scope.DATA)
@user.doc(tags=["sources"], operation_id="cancel_fetch")
@user.output(source_schemas.Fetch)
def cancel_fetch(source: uuid.UUID, fetch: uuid.UUID) -> source_schemas.Fetch:
    """End a fetch that is under way"""
    with services().sessions.begin() as db:
        row = fetches.cancel(db, current_user(), source, fetch)
        return source_views.fetch(row, access.get_source(db, current_user(), source), current_user())
