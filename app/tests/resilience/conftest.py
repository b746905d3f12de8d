"""Fixtures of the resilience tests: a lab of its own, which the tests attack."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import (  # noqa: F401  (fixtures)
    PASSWORD,
    broker,
    deployed,
    lab,
    nobody,
    webserver,
    worker,
)
from acceptance.lab import Lab, Machine

from . import ledger
from .load import Load

PROTOCOLS = Path(__file__).parent / "protocols"


@pytest.fixture(scope="session")
def database(lab: Lab) -> Machine:  # noqa: F811
    return lab.machine("database")


@pytest.fixture(scope="session")
def spare(lab: Lab) -> Machine:  # noqa: F811
    """The worker on a machine of its own."""
    return lab.of("worker")[1]


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine) -> Iterator[Api]:  # noqa: F811
    """A scientist, with the test protocols in the catalogue."""
    admin_cli.add_user(webserver, "resilience", PASSWORD)
    admin_cli.import_protocols(webserver, "mark", root=PROTOCOLS)
    admin_cli.import_protocols(webserver, "behave")
    api = Api.login(lab.url, lab.ca_file, "resilience", PASSWORD)
    yield api
    api.http.close()


@pytest.fixture(autouse=True, scope="session")
def prepared(lab: Lab, spare: Machine, deployed: None) -> Iterator[None]:  # noqa: F811
    """The machines have what the faults need, and the spare worker rests until a test wants it."""
    for machine in lab.machines.values():
        machine.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nftables")
    spare.run("systemctl stop labfleet-worker")
    yield
    spare.run("systemctl start labfleet-worker")


@pytest.fixture
def load(user: Api) -> Load:
    """Jobs under a label of their own."""
    return Load(user, f"resilience {uuid.uuid4()}")


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, database: Machine) -> Iterator[None]:
    """No test begins while an earlier one's tasks run."""
    yield
    ledger.settle(database, "resilience", 120)
