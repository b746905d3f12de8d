"""Fixtures of the worker's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labfleet.worker.sandbox import Places
from labfleet.worker.spec import Host, Limits, Output, Spec

MIB = 1024**2


@pytest.fixture
def limits() -> Limits:
    return Limits(wall_seconds=10, memory_bytes=512 * MIB, log_bytes=1000, output_bytes=MIB, processes=20)


@pytest.fixture
def spec(limits: Limits) -> Spec:
    return Spec(
        task="0c2e4a3e-6f64-4a1b-9c55-0a4a4e1b7d11",
        number=2,
        host=Host("https://web.example", "/etc/ca.crt", 5, 60, ("/opt/tools",)),
        heartbeat_seconds=5,
        commit="c" * 40,
        command=("Rscript", "main.R"),
        cores=2,
        parameters={"genes": 10},
        inputs=(),
        outputs=(Output("table", "table.csv", "table", optional=False),),
        limits=limits,
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    directory = tmp_path / "attempt"
    directory.mkdir()
    places = Places(directory)
    places.create()
    return places


@pytest.fixture
def change() -> Callable[..., Any]:
    return replace
