"""Datasets: upload, list, tell about, preview, download."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask import Response, request
from sqlalchemy.orm import Session

from labfleet.datasets import access, previews, service
from labfleet.datasets.names import check_name
from labfleet.datasets.store import Blob
from labfleet.db.models import Dataset
from labfleet.errors import TooLarge
from labfleet.jobs import quotas
from labfleet.users.scopes import Scope
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.api.jobs import BYTES
from labfleet.web.auth import current_user, needs
from labfleet.web.files import receive, send_blob
from labfleet.web.services import services

BODY = {"required": True, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}


@user.post("/datasets")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="upload_dataset", extensions={"requestBody": BODY})
@user.input(schemas.DatasetQuery, location="query")
@user.output(schemas.Dataset, status_code=201)
def upload(query_data: schemas.DatasetQuery) -> tuple[schemas.Dataset, int, dict[str, str]]:
    """Upload a dataset

    The body is the file. Its Content-Type becomes the dataset's; without one it is guessed from the name.
    """
    name = check_name(query_data.name)  # before the bytes travel
    if query_data.previous is not None:
        with services().sessions() as db:
            access.get_dataset(db, current_user(), query_data.previous)
    with services().sessions.begin() as db:
        blob = _receive(db)
        dataset = service.add_dataset(
            db,
            current_user(),
            name,
            request.mimetype,
            blob,
            about=query_data.given(),
            previous=query_data.previous,
        )
        (answer,) = views.datasets(db, current_user(), [dataset])
    return answer, 201, {"Location": f"/api/v1/datasets/{answer.id}"}


def _receive(transaction: Session) -> Blob:
    """The body, within the limit of one file and the owner's quota; nothing is kept of what is too much.

    The transaction begins when all has arrived.
    """
    largest = services().settings.web.max_upload_bytes
    with services().sessions() as db:
        quotas.check_storage(db, current_user(), request.content_length or 1)
        room = quotas.room(db, current_user())

    def accept(blob: Blob) -> None:
        quotas.claim_storage(transaction, current_user(), blob.size)

    if room is None or room >= largest:
        return receive(largest, accept=accept)
    try:
        return receive(room, accept=accept)
    except TooLarge:  # a body in chunks, which does not tell its size before
        with services().sessions() as db:
            quotas.check_storage(db, current_user(), room + 1)
        raise


@user.get("/datasets")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="list_datasets")
@user.input(schemas.DatasetsQuery, location="query")
@user.output(schemas.Datasets)
def list_datasets(query_data: schemas.DatasetsQuery) -> schemas.Datasets:
    """List and search the datasets that you may see"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = service.list_datasets(db, current_user(), limit, query_data.after, dataset_filter(query_data))
        return schemas.Datasets(items=views.datasets(db, current_user(), page.items), next=page.next)


def dataset_filter(given: schemas.DatasetFilter) -> service.Filter:
    """What the API's words mean to a search."""
    return service.Filter(
        text=given.text,
        labels=tuple(given.labels),
        terms=tuple(given.terms),
        licence=given.licence,
        mine=given.mine,
    )


@user.get("/datasets/facets")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="show_dataset_facets")
@user.input(schemas.DatasetFilter, location="query")
@user.output(schemas.Facets)
def show_facets(query_data: schemas.DatasetFilter) -> schemas.Facets:
    """Count labels, terms and licences of the datasets that a search finds"""
    with services().sessions() as db:
        found = service.facets(db, current_user(), dataset_filter(query_data))
    return schemas.Facets.model_validate(
        {
            name: [{"value": value, "count": count} for value, count in values]
            for name, values in found.items()
        }
    )


@user.get("/datasets/<uuid:dataset>")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="show_dataset")
@user.output(schemas.Dataset)
def show_dataset(dataset: uuid.UUID) -> schemas.Dataset:
    """Show a dataset"""
    with services().sessions() as db:
        (answer,) = views.datasets(db, current_user(), [access.get_dataset(db, current_user(), dataset)])
    return answer


@user.patch("/datasets/<uuid:dataset>")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="change_dataset")
@user.input(schemas.DatasetAbout)
@user.output(schemas.Dataset)
def change_dataset(dataset: uuid.UUID, json_data: schemas.DatasetAbout) -> schemas.Dataset:
    """Change what is told about a dataset

    Its content never changes: upload another version for that (`previous`).
    """
    with services().sessions.begin() as db:
        row = service.change_dataset(db, current_user(), dataset, json_data.given())
        (answer,) = views.datasets(db, current_user(), [row])
    return answer


@user.delete("/datasets/<uuid:dataset>")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="delete_dataset")
@user.output({}, status_code=204)
def delete_dataset(dataset: uuid.UUID) -> tuple[str, int]:
    """Delete a dataset for good

    Refused while jobs take it (`dataset_in_use`, with `jobs`): delete them first.
    """
    with services().sessions.begin() as db:
        service.delete_dataset(db, current_user(), dataset)
    return "", 204


def _changed(change: Callable[[Session], Dataset]) -> schemas.Dataset:
    with services().sessions.begin() as db:
        (answer,) = views.datasets(db, current_user(), [change(db)])
    return answer


@user.post("/datasets/<uuid:dataset>/share")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="share_dataset")
@user.input(schemas.People)
@user.output(schemas.Dataset)
def share_dataset(dataset: uuid.UUID, json_data: schemas.People) -> schemas.Dataset:
    """Let users and groups see and use a dataset of yours"""
    whom = json_data.model_dump()
    return _changed(lambda db: access.share(db, current_user(), dataset, **whom))


@user.post("/datasets/<uuid:dataset>/unshare")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="unshare_dataset")
@user.input(schemas.People)
@user.output(schemas.Dataset)
def unshare_dataset(dataset: uuid.UUID, json_data: schemas.People) -> schemas.Dataset:
    """Take a dataset of yours back from users and groups"""
    whom = json_data.model_dump()
    return _changed(lambda db: access.unshare(db, current_user(), dataset, **whom))


@user.post("/datasets/<uuid:dataset>/publish")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="publish_dataset")
@user.output(schemas.Dataset)
def publish_dataset(dataset: uuid.UUID) -> schemas.Dataset:
    """Let everybody see and use a dataset of yours"""
    return _changed(lambda db: access.make_public(db, current_user(), dataset, public=True))


@user.post("/datasets/<uuid:dataset>/withdraw")
@needs(Scope.DATA)
@user.doc(tags=["datasets"], operation_id="withdraw_dataset")
@user.output(schemas.Dataset)
def withdraw_dataset(dataset: uuid.UUID) -> schemas.Dataset:
    """Take a dataset of yours back from everybody but those it is shared with"""
    return _changed(lambda db: access.make_public(db, current_user(), dataset, public=False))


@user.get("/datasets/<uuid:dataset>/versions")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="list_dataset_versions")
@user.output(schemas.Datasets)
def list_dataset_versions(dataset: uuid.UUID) -> schemas.Datasets:
    """List the versions of a dataset, newest first"""
    with services().sessions() as db:
        rows = service.versions_of(db, current_user(), access.get_dataset(db, current_user(), dataset))
        return schemas.Datasets(items=views.datasets(db, current_user(), rows), next=None)


@user.get("/datasets/<uuid:dataset>/preview")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="show_dataset_preview")
@user.output(schemas.Preview)
def show_preview(dataset: uuid.UUID) -> schemas.Preview:
    """Show what is in a dataset that is a table

    A preview is made when a dataset arrives; its `state` is null for a file that is no table.
    """
    with services().sessions() as db:
        found = previews.get(db, access.get_dataset(db, current_user(), dataset).id)
        if found is None:
            return schemas.Preview(state=None, message="", result=None, finished_at=None)
        return schemas.Preview.model_validate(found)


@user.post("/datasets/<uuid:dataset>/preview")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="make_dataset_preview")
@user.output(schemas.Preview, status_code=202)
def make_preview(dataset: uuid.UUID) -> schemas.Preview:
    """Have the preview made again"""
    with services().sessions.begin() as db:
        row = access.to_change(db, current_user(), dataset)
        previews.ask_again(db, row)
        return schemas.Preview.model_validate(previews.get(db, row.id))


@user.get("/datasets/<uuid:dataset>/content")
@needs(Scope.READ)
@user.doc(tags=["datasets"], operation_id="download_dataset", responses=BYTES)
def download_dataset(dataset: uuid.UUID) -> Response:
    """Download a dataset"""
    with services().sessions() as db:
        found = access.get_dataset(db, current_user(), dataset)
    return send_blob(found.sha256, found.name, found.media_type)
