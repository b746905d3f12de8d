from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

MANIFEST = """\
labfleet: 1
name: demo
version: "1.0.0"
title: Demo
key: python
command: [python3, main.py]
outputs:
  result: {path: result.csv, kind: table, title: Result}
"""


@pytest.fixture
def manifest() -> str:
    """A good manifest, to be spoiled line by line."""
    return MANIFEST


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A good protocol."""
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "protocol.yml").write_text(MANIFEST)
    (directory / "main.py").write_text("print('hello')\n")
    return directory


@pytest.fixture
def make_tar() -> Callable[..., io.BytesIO]:
    """A tar of `(TarInfo or name, content)` pairs, gzipped if asked for."""

    def make(*members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w") -> io.BytesIO:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
            for member, content in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = info.size or len(content)
                tar.addfile(info, io.BytesIO(content) if content else None)
        buffer.seek(0)
        return buffer

    return make
