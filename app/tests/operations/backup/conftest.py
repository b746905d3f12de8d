"""Fixtures of the backup tests: a lab, and the machine that takes its backups."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.conftest import PASSWORD, deployed, lab, nobody, webserver  # noqa: F401  (fixtures)
from acceptance.lab import Lab, Machine
from resilience.conftest import PROTOCOLS

from ..order import keep_order

USER = "backup"
TARGET = "/srv/vault/labfleet"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests are the life of one lab and follow each other, also where others are shuffled."""
    keep_order(items, Path(__file__).parent, "test_backup")


@pytest.fixture(scope="session")
def vault(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Machine:  # noqa: F811
    """The machine that takes the backups. Its key outlives the inventory, which a test loses."""
    database = lab.machine("database")
    address = f"{database.address.rpartition('.')[0]}.12"
    key = Path(shutil.copy(database.key, tmp_path_factory.mktemp("vault") / "key"))
    key.chmod(0o600)
    return dataclasses.replace(database, name="vault", address=address, key=str(key), tiers=frozenset())


@pytest.fixture(scope="session")
def user(lab: Lab, webserver: Machine) -> Iterator[Api]:  # noqa: F811
    """A scientist, with the test protocol in the catalogue."""
    admin_cli.add_user(webserver, USER, PASSWORD)
    admin_cli.import_protocols(webserver, "mark", root=PROTOCOLS)
    api = Api.login(lab.url, lab.ca_file, USER, PASSWORD)
    yield api
    api.http.close()


@pytest.fixture(scope="session")
def target(lab: Lab, vault: Machine) -> Path:  # noqa: F811
    """The target is ready, and the inventory names it, as docs/admin/backup.md tells; the file that does."""
    key = lab.secrets / "backup_ssh_key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    vault.run(
        "id vault 2>/dev/null || useradd --create-home --home-dir /srv/vault --shell /bin/sh vault; "
        f"install -d -o vault -g vault -m 0700 /srv/vault/.ssh && echo 'restrict {public}' "
        "> /srv/vault/.ssh/authorized_keys && chown vault: /srv/vault/.ssh/authorized_keys"
    )
    own = vault.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip()
    settings = lab.inventory / "group_vars" / "labfleet" / "target.yml"
    settings.write_text(
        f"---\nbackup_target: sftp:vault@{vault.address}:{TARGET}\n"
        f'backup_ssh_known_hosts: ["{vault.address} {own}"]\n'
    )
    return settings
