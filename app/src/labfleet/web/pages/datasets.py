"""The list of datasets, one dataset with its preview, uploading."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from flask import Response, g, make_response, redirect, render_template, request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from labfleet.datasets import access, previews, service
from labfleet.datasets.names import check_name
from labfleet.datasets.service import DatasetInUse
from labfleet.db.models import Dataset
from labfleet.errors import Invalid, LabfleetError
from labfleet.jobs import quotas
from labfleet.users import sharing
from labfleet.web.api import views
from labfleet.web.api.datasets import dataset_filter
from labfleet.web.api.schemas import DatasetAbout, DatasetsQuery
from labfleet.web.files import send_blob
from labfleet.web.pages.frame import names, pages
from labfleet.web.pages.jobs import page_query
from labfleet.web.services import services

SHOWN_AT_ONCE = 8
"""Columns of a preview that are open when the page comes; the others are one click away."""


@pages.get("/datasets")
def datasets() -> BaseResponse:
    """The list of datasets."""
    return _page(None)


@pages.post("/datasets")
def upload_dataset() -> BaseResponse:
    """Keep the file of the form."""
    try:
        dataset = keep_upload(_file())
    except LabfleetError as error:
        return _failed(_page(error), error)
    return redirect(f"/datasets/{dataset}", 303)


@pages.get("/datasets/<uuid:dataset>")
def dataset(dataset: uuid.UUID) -> BaseResponse:
    """One dataset."""
    return _one(dataset, None)


@pages.get("/datasets/<uuid:dataset>/live")
def dataset_live(dataset: uuid.UUID) -> str:
    """The part of a dataset's page that refreshes itself."""
    with services().sessions() as db:
        return render_template(
            "dataset_preview.html", **_preview(db, access.get_dataset(db, g.user, dataset))
        )


@pages.post("/datasets/<uuid:dataset>")
def change_dataset(dataset: uuid.UUID) -> BaseResponse:
    """Keep what the form tells about a dataset."""
    try:
        about = _about(request.form)
        with services().sessions.begin() as db:
            service.change_dataset(db, g.user, dataset, about.given())
    except LabfleetError as error:
        return _failed(_one(dataset, error), error)
    return redirect(f"/datasets/{dataset}", 303)


@pages.post("/datasets/<uuid:dataset>/versions")
def upload_version(dataset: uuid.UUID) -> BaseResponse:
    """Keep the file of the form as the next version."""
    try:
        made = keep_upload(_file(), previous=dataset)
    except LabfleetError as error:
        return _failed(_one(dataset, error), error)
    return redirect(f"/datasets/{made}", 303)


@pages.post("/datasets/<uuid:dataset>/preview")
def make_preview(dataset: uuid.UUID) -> BaseResponse:
    """Have the preview made again."""
    with services().sessions.begin() as db:
        previews.ask_again(db, access.to_change(db, g.user, dataset))
    return redirect(f"/datasets/{dataset}", 303)


@pages.post("/datasets/<uuid:dataset>/delete")
def delete_dataset(dataset: uuid.UUID) -> BaseResponse:
    """Delete a dataset."""
    try:
        with services().sessions.begin() as db:
            service.delete_dataset(db, g.user, dataset)
    except DatasetInUse as error:
        return _failed(_one(dataset, error), error)
    return redirect("/datasets", 303)


@pages.post("/datasets/<uuid:dataset>/sharing")
def share_dataset(dataset: uuid.UUID) -> BaseResponse:
    """Keep for whom the form says that a dataset is."""
    users, groups = (names(request.form.get(key, "")) for key in ("users", "groups"))
    try:
        with services().sessions.begin() as db:
            row = access.make_public(db, g.user, dataset, public=request.form.get("public") == "true")
            old_users = {each.user.name for each in row.shares if each.user} - set(users)
            old_groups = {each.group_name for each in row.shares if each.group_name} - set(groups)
            access.unshare(db, g.user, dataset, users=old_users, groups=old_groups)
            access.share(db, g.user, dataset, users=users, groups=groups)
    except LabfleetError as error:
        return _failed(_one(dataset, error), error)
    return redirect(f"/datasets/{dataset}", 303)


def keep_upload(file: FileStorage, previous: uuid.UUID | None = None) -> uuid.UUID:
    """Make a dataset of a file that came with a form (it lies in the store's `tmp` by then)."""
    name = check_name((file.filename or "").replace("\\", "/").rsplit("/", 1)[-1])
    size = file.stream.seek(0, os.SEEK_END)
    file.stream.seek(0)
    with services().sessions() as db:
        quotas.check_storage(db, g.user, size)
    largest = services().settings.web.max_upload_bytes
    # The transaction begins when all lies in the store's own `tmp`.
    with services().sessions.begin() as db:
        blob = services().store.put(
            file.stream,
            limit=largest,
            accept=lambda received: quotas.claim_storage(db, g.user, received.size),
        )
        return service.add_dataset(db, g.user, name, file.mimetype or "", blob, previous=previous).id


def _file() -> FileStorage:
    file = request.files.get("file")
    if file is None or not file.filename:
        raise Invalid("No file was chosen.", hint="Choose a file, then press Upload.")
    return file


def _about(form: Mapping[str, str]) -> DatasetAbout:
    """What a form tells; `Invalid` names the field that won't do."""
    told: dict[str, Any] = {key: form.get(key, "").strip() for key in ("description", "licence")}
    for key in ("labels", "terms"):
        told[key] = names(form.get(key, ""))
    try:
        return DatasetAbout.model_validate(told)
    except ValidationError as error:
        faults = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise Invalid(f"{faults}.", hint="Labels and terms are words with commas between them.") from None


def _failed(page: Response, error: LabfleetError) -> Response:
    page.status_code = error.status
    return page


def _page(error: LabfleetError | None) -> Response:
    query = page_query(DatasetsQuery)
    wanted = dataset_filter(query)
    with services().sessions() as db:
        page = service.list_datasets(db, g.user, query.limit, query.after, wanted)
        items = views.datasets(db, g.user, page.items)
        facets = service.facets(db, g.user, wanted)
    return make_response(
        render_template(
            "datasets.html",
            section="Datasets",
            datasets=items,
            facets=facets,
            wanted=wanted,
            filtered=wanted != service.Filter(),
            next=page.next,
            query=request.args.to_dict(),
            limit=services().settings.web.max_upload_bytes,
            problem=error.problem() if error else None,
        )
    )


def _one(dataset_id: uuid.UUID, error: LabfleetError | None) -> Response:
    with services().sessions() as db:
        row = access.get_dataset(db, g.user, dataset_id)
        context = _preview(db, row)
        context["dataset"], *context["versions"] = views.datasets(
            db, g.user, [row, *service.versions_of(db, g.user, row)]
        )
    return make_response(
        render_template(
            "dataset.html",
            section="Datasets",
            limit=services().settings.web.max_upload_bytes,
            mine=sharing.may_change(g.user, row),
            problem=error.problem() if error else None,
            **context,
        )
    )


def _preview(db: Session, row: Dataset) -> dict[str, Any]:
    return {"dataset": row, "preview": previews.get(db, row.id), "open": SHOWN_AT_ONCE}


@pages.get("/datasets/<uuid:dataset>/content")
def dataset_content(dataset: uuid.UUID) -> Response:
    """A dataset's file."""
    with services().sessions() as db:
        found = access.get_dataset(db, g.user, dataset)
    return send_blob(found.sha256, found.name, found.media_type)
