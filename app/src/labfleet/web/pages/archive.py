"""All results of a job as one ZIP file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from labfleet.datasets import zipping
from labfleet.datasets.store import BlobStore
from labfleet.datasets.zipping import Member, member_of
from labfleet.jobs.service import Result


def zipped(store: BlobStore, results: Sequence[Result], documents: Mapping[str, Any]) -> Iterator[bytes]:
    """The pieces of a ZIP with the results (of several tasks in a folder for each) and JSON documents."""
    folders = len({result.task for result in results}) > 1
    members = [
        member_of(name, json.dumps(document, indent=1, default=str).encode())
        for name, document in documents.items()
    ]
    for result in results:
        artifact = result.artifact
        name = f"{result.task}/{artifact.name}" if folders else artifact.name
        members.append(Member(name, partial(store.open, artifact.sha256), artifact.size))
    return zipping.zipped(members)
