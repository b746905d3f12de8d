"""Results as one ZIP file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from labfleet.datasets.store import BlobStore
from labfleet.datasets.zipping import CHUNK
from labfleet.db.models import Artifact
from labfleet.jobs.service import Result
from labfleet.web.pages.archive import zipped


def result(store: BlobStore, task: str, name: str, content: bytes) -> Result:
    blob = store.put(io.BytesIO(content), limit=len(content))
    return Result(task, Artifact(name=name, sha256=blob.sha256, size=blob.size))


def read(pieces: list[bytes]) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def test_files_of_one_task_and_of_several(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.prepare()
    large = bytes(range(256)) * (CHUNK // 128)
    first = [result(store, "fit", "a.csv", b"a\n1\n"), result(store, "fit", "deep/b.bin", large)]
    pieces = list(zipped(store, first, {"job.json": {"id": 1}}))
    assert len(pieces) > 3  # it leaves while it is made
    found = read(pieces)
    assert found.pop("job.json") == json.dumps({"id": 1}, indent=1).encode()
    assert found == {"a.csv": b"a\n1\n", "deep/b.bin": large}
    both = [*first, result(store, "sum[0]", "a.csv", b"a\n2\n")]
    assert set(read(list(zipped(store, both, {})))) == {"fit/a.csv", "fit/deep/b.bin", "sum[0]/a.csv"}
    assert b"".join(zipped(store, both, {})) == b"".join(zipped(store, both, {}))
