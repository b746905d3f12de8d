"""Points testinfra at the machines of the Molecule scenario, and shows their journal when a test fails."""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

JOURNAL_LINES = 80


def pytest_configure(config: pytest.Config) -> None:
    """One connection to each machine that all tests share: `podman exec` costs ten times as much a command."""
    ways = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text(encoding="utf-8"))
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    settings = folder / "ssh_config"
    settings.write_text("".join(_way(way, folder) for way in ways), encoding="utf-8")
    config.option.ssh_config = str(settings)
    config.option.hosts = ",".join(f"ssh://{way['instance']}" for way in ways)


def _way(way: dict[str, object], folder: Path) -> str:
    """The section of ssh's configuration for a machine, from what Molecule remembers of it."""
    return (
        f"Host {way['instance']}\n  HostName {way['address']}\n  User {way['user']}\n  Port {way['port']}\n"
        f"  IdentityFile {way['identity_file']}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  ControlPath {folder}/%C\n"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "host" in getattr(item, "funcargs", {}):
        report.sections.append(("journal of the machine", _journal(item)))
    return report


def _journal(item: pytest.Item) -> str:
    name = item.funcargs["host"].backend.get_hostname()  # type: ignore[attr-defined]
    command = ["podman", "exec", name, "journalctl", "--no-pager", "-n", str(JOURNAL_LINES), "-p", "notice"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
