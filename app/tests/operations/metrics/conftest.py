"""Fixtures of the tests of figures, alerts and certificates: a lab that watches itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from acceptance.conftest import (  # noqa: F401  (fixtures)
    admin,
    broker,
    deployed,
    lab,
    nobody,
    queue,
    user,
    webserver,
    worker,
)
from acceptance.lab import Lab, Machine

from ..order import keep_order

Query = Callable[[str], list[tuple[dict[str, str], float]]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test of certificates leaves the lab with another one."""
    keep_order(items, Path(__file__).parent, "test_figures", "test_certificates")


@pytest.fixture(scope="session")
def spare(lab: Lab) -> Machine:  # noqa: F811
    """The worker on a machine of its own, which watches nothing."""
    return lab.of("worker")[1]


@pytest.fixture(scope="session")
def query(webserver: Machine) -> Query:  # noqa: F811
    """Ask Prometheus, which listens on the machine's loopback only: labels and value of each series."""

    def ask(expression: str) -> list[tuple[dict[str, str], float]]:
        url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
        script = f'import urllib.request as r; print(r.urlopen("{url}").read().decode())'
        answer: dict[str, Any] = json.loads(webserver.run(f"python3 -c '{script}'"))
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    return ask
