"""Protocol archives, good and bad, made in memory."""

from __future__ import annotations

import io
import tarfile

GOOD = """\
labfleet: 1
name: acceptance-archive
version: "1.0.0"
title: An archive
key: python
command: [python3, main.py]
parameters:
  type: object
  properties: {count: {type: integer, minimum: 1, default: 3}}
  additionalProperties: false
"""


def archive(manifest: str = GOOD, **files: str) -> bytes:
    """A tar of `protocol.yml` and files (`main_py` stands for `main.py`)."""
    members = {"protocol.yml": manifest, **({"main_py": "print(1)\n"} | files)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in members.items():
            _add(tar, name.replace("_py", ".py").replace("_R", ".R"), text.encode())
    return stream.getvalue()


def climbing() -> bytes:
    """An archive one of whose members wants out of its directory."""
    stream = io.BytesIO(archive())
    with tarfile.open(fileobj=stream, mode="a") as tar:
        _add(tar, "../../etc/cron.d/x", b"x")
    return stream.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
