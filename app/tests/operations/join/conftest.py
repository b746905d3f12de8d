"""Fixtures of the tests of a machine that joins by itself: a lab, and a bare machine beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance import lab as labs
from acceptance.api import Api
from acceptance.conftest import PASSWORD, admin, deployed, nobody, webserver, worker  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine

from ..order import keep_order

NAMED = "    worker: {hosts: {lab: {}}}\n"
WATCHED = "    worker: {hosts: {lab: {}, spare: {}}}\n    monitoring: {hosts: {lab: {}}}\n"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test finds what the one before it has left."""
    keep_order(items, Path(__file__).parent, "test_join")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, in whose inventory the bare machine is now a worker, and which watches itself from now on."""
    folder = labs.inventory_path()
    hosts = folder / "hosts.yml"
    text = hosts.read_text(encoding="utf-8")
    if NAMED in text:
        hosts.write_text(text.replace(NAMED, WATCHED), encoding="utf-8")
    return labs.load(folder)


@pytest.fixture(scope="session")
def spare(lab: Lab) -> Machine:
    """The machine that has never heard of Labfleet."""
    return lab.machines["spare"]


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine) -> Iterator[Api]:  # noqa: F811
    """A scientist, with a test protocol in the catalogue."""
    admin_cli.add_user(webserver, "joining", PASSWORD)
    admin_cli.import_protocols(webserver, "noop")
    api = Api.login(lab.url, lab.ca_file, "joining", PASSWORD)
    yield api
    api.http.close()
