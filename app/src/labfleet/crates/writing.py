"""The ZIP of a crate, made while it is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from itertools import chain

from labfleet.crates import terms
from labfleet.crates.gather import Facts
from labfleet.crates.graph import describe, input_path, mode_of, readme, result_path
from labfleet.datasets.store import BlobStore
from labfleet.datasets.zipping import Member, member_of, zipped

FOLDER = 0o040755


def crate(facts: Facts, store: BlobStore) -> Iterator[bytes]:
    """The pieces of the ZIP; the facts are closed at its end. What can fail does so at
    once (`NotFound`, if a file is lost): after that no session is needed.
    """
    try:
        members = list(_members(facts, store))
    except BaseException:
        facts.close()
        raise
    return _sent(facts, members)


def _sent(facts: Facts, members: list[Member]) -> Iterator[bytes]:
    try:
        yield from zipped(chain(members, _protocols(facts)))
    finally:
        facts.close()


def _members(facts: Facts, store: BlobStore) -> Iterator[Member]:
    request = json.dumps(facts.request, indent=1).encode()
    described = json.dumps(describe(facts, request), indent=1).encode()
    yield member_of(terms.METADATA, described)
    yield member_of(terms.REQUEST, request)
    yield member_of(terms.README, readme(facts).encode())
    inputs = {input_path(each): each for key, each in facts.datasets.items() if key in facts.given}
    for path, dataset in inputs.items():
        store.existing(dataset.sha256)
        yield Member(path, partial(store.open, dataset.sha256), dataset.size)
    for result in facts.results:
        store.existing(result.artifact.sha256)
        yield Member(result_path(result), partial(store.open, result.artifact.sha256), result.artifact.size)


def _protocols(facts: Facts) -> Iterator[Member]:
    for source in facts.sources.values():
        yield Member(source.folder, io.BytesIO, 0, FOLDER)
        for tar, member in source.members():
            content = tar.extractfile(member) if member.isreg() else None
            data = content.read() if content else member.linkname.encode()
            mode = mode_of(bool(member.mode & 0o100), member.issym())
            yield Member(f"{source.folder}{member.name}", partial(io.BytesIO, data), len(data), mode)
