"""Fixtures of the standby's tests: a lab of its own, whose database loses the machine that leads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import PASSWORD, deployed, lab, nobody, webserver  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine
from resilience.conftest import PROTOCOLS
from resilience.load import Load

from .cluster import Cluster

USER = "standby"


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:  # noqa: F811
    return Cluster(lab)


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> None:
    """Every test begins with a leader and a standby that has all it has."""
    cluster.wait_whole()


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine, deployed: None) -> Iterator[Api]:  # noqa: F811
    """A scientist, with the test protocol in the catalogue."""
    admin_cli.add_user(webserver, USER, PASSWORD)
    admin_cli.import_protocols(webserver, "mark", root=PROTOCOLS)
    api = Api.login(lab.url, lab.ca_file, USER, PASSWORD)
    yield api
    api.http.close()


@pytest.fixture
def load(user: Api) -> Load:
    """Jobs under a label of their own."""
    return Load(user, f"{USER} {uuid.uuid4()}")
