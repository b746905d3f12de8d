"""A release: complete, readable, not writable for services, and the current one."""

import json

import pytest
from testinfra.host import Host

PREFIX = "/opt/labfleet"
NOBODY = "setpriv --reuid nobody --regid nogroup --clear-groups --"


@pytest.fixture
def release(host: Host) -> str:
    return host.check_output(f"readlink {PREFIX}/current")


def test_current_names_a_complete_release(host: Host, release: str) -> None:
    assert release.startswith(f"{PREFIX}/releases/")
    told = json.loads(host.file(f"{release}/release.json").content_string)
    assert told["name"] == release.rpartition("/")[2]


def test_nothing_else_lies_around(host: Host, release: str) -> None:
    assert host.check_output(f"ls -A {PREFIX}/releases").split() == [release.rpartition("/")[2]]
    assert sorted(host.check_output(f"ls -A {PREFIX}").split()) == ["current", "install_release.py", "releases"]


def test_all_of_it_is_root_s_and_nobody_may_write(host: Host) -> None:
    assert host.check_output(f"find {PREFIX} ! -user root -o ! -group root") == ""
    assert host.check_output(f"find {PREFIX} ! -type l -perm /022") == ""


def test_services_can_run_it(host: Host) -> None:
    assert "labfleet" in host.check_output(f"{NOBODY} {PREFIX}/current/bin/labfleet --version")


def test_bytecode_was_compiled(host: Host, release: str) -> None:
    compiled = host.check_output(f"find {release}/lib -path '*/labfleet/__pycache__/config.*.pyc'")
    assert len(compiled.splitlines()) == 1


def test_only_the_parts_that_were_asked_for(host: Host) -> None:
    python = f"{PREFIX}/current/bin/python"
    assert host.run(f"{python} -c 'import kombu'").rc == 0
    for absent in ("flask", "sqlalchemy", "psutil", "pip", "uv"):
        assert host.run(f"{python} -c 'import {absent}'").rc == 1, absent


def test_bill_of_materials_is_what_is_installed(host: Host, release: str) -> None:
    listing = json.loads(host.file(f"{release}/sbom.cdx.json").content_string)
    assert (listing["bomFormat"], listing["metadata"]["component"]["name"]) == ("CycloneDX", "labfleet")
    told = {(entry["name"], entry["version"]) for entry in listing["components"]}
    assert all(entry["purl"].startswith("pkg:pypi/") for entry in listing["components"])
    folders = host.check_output(f"ls -d {release}/lib/python3*/site-packages/*.dist-info").splitlines()
    names = [folder.rpartition("/")[2].removesuffix(".dist-info").rpartition("-") for folder in folders]
    there = {(name.lower().replace("_", "-").replace(".", "-"), version) for name, _, version in names}
    assert told == {entry for entry in there if entry[0] != "labfleet"}


def test_protocols_that_ship_come_along(host: Host) -> None:
    shipped = host.check_output(f"ls {PREFIX}/current/share/protocols").split()
    assert {"differential-network", "table-summary"} <= set(shipped)


def test_its_own_wheel_is_kept_for_the_pages_to_hand_out(host: Host, release: str) -> None:
    names = host.check_output(f"ls {release}/share/command-line").split()
    assert len(names) == 1 and names[0].startswith("labfleet-") and names[0].endswith("-py3-none-any.whl")
    python = f"{PREFIX}/current/bin/python"
    assert "labfleet/cli/" in host.check_output(f"{python} -m zipfile -l {release}/share/command-line/{names[0]}")
