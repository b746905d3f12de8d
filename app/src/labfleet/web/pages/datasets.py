"""The list of datasets, and uploading one."""

from __future__ import annotations

import os
import uuid

from flask import Response, g, make_response, redirect, render_template, request
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from labfleet.datasets import service
from labfleet.datasets.names import check_name
from labfleet.errors import Invalid, LabfleetError
from labfleet.jobs import quotas
from labfleet.web.files import send_blob
from labfleet.web.pages.frame import pages
from labfleet.web.pages.jobs import page_query
from labfleet.web.services import services


@pages.get("/datasets")
def datasets() -> BaseResponse:
    """The list of datasets."""
    return _page(None)


@pages.post("/datasets")
def upload_dataset() -> BaseResponse:
    """Keep the file of the form."""
    file = request.files.get("file")
    try:
        if file is None or not file.filename:
            raise Invalid("No file was chosen.", hint="Choose a file, then press Upload.")
        keep_upload(file)
    except LabfleetError as error:
        page = _page(error)
        page.status_code = error.status
        return page
    return redirect("/datasets", 303)


def keep_upload(file: FileStorage) -> uuid.UUID:
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
        return service.add_dataset(db, g.user, name, file.mimetype or "", blob).id


def _page(error: LabfleetError | None) -> Response:
    query = page_query()
    with services().sessions() as db:
        page = service.list_datasets(db, g.user, query.limit, query.after)
    return make_response(
        render_template(
            "datasets.html",
            section="Datasets",
            datasets=page.items,
            next=page.next,
            query=request.args.to_dict(),
            limit=services().settings.web.max_upload_bytes,
            problem=error.problem() if error else None,
        )
    )


@pages.get("/datasets/<uuid:dataset>/content")
def dataset_content(dataset: uuid.UUID) -> Response:
    """A dataset's file."""
    with services().sessions() as db:
        found = service.get_dataset(db, g.user, dataset)
    return send_blob(found.sha256, found.name, found.media_type)
