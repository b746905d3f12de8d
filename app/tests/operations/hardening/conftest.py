"""Fixtures of the tests of hardening and removal: a lab of its own, of two machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import PASSWORD, deployed, lab, nobody, webserver, worker  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine

from ..order import keep_order


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is removed is removed last."""
    keep_order(
        items, Path(__file__).parent, "test_units", "test_audit", "test_lynis", "test_firewall", "test_remove"
    )


@pytest.fixture(scope="session")
def spare(lab: Lab) -> Machine:  # noqa: F811
    """The machine that is a worker and nothing else."""
    return lab.of("worker")[1]


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine) -> Iterator[Api]:  # noqa: F811
    """A scientist, with a test protocol in the catalogue."""
    admin_cli.add_user(webserver, "hardening", PASSWORD)
    admin_cli.import_protocols(webserver, "noop", "behave")
    api = Api.login(lab.url, lab.ca_file, "hardening", PASSWORD)
    yield api
    api.http.close()
