"""Points testinfra at the machines of the Molecule scenario, and shows their journal when a test fails."""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

JOURNAL_LINES = 80


def _machines() -> list[str]:
    """Names of the running scenario's machines, as Molecule tells them by MOLECULE_FILE."""
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))
    return [platform["name"] for platform in scenario["platforms"]]


def pytest_configure(config: pytest.Config) -> None:
    # podman directly: through Ansible each single test would take seconds.
    config.option.hosts = ",".join(f"podman://{name}" for name in _machines())


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
