from __future__ import annotations

from pathlib import Path

import pytest

from labfleet.protocols.store import ProtocolStore

MANIFEST = """\
labfleet: 1
name: demo
version: "1.0.0"
title: Demo
key: python
command: [python3, main.py]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "protocol.yml").write_text(MANIFEST)
    (directory / "main.py").write_text("print('hello')\n")
    return directory


@pytest.fixture
def store(tmp_path: Path) -> ProtocolStore:
    return ProtocolStore(tmp_path / "protocols")
