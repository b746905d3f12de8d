"""What a protocol can reach: its own files, and nothing else."""

from __future__ import annotations

import json
from typing import cast

import pytest

from .api import Api, Json
from .lab import Lab

SECRET_PLACES = (
    "/etc/labfleet",
    "/etc/shadow",
    "/var/lib/labfleet-worker",
    "/var/lib/labfleet",
    "/opt/labfleet",
    "/home",
    "/root",
    "/run/credentials",
    "/run/user",
    "/run/systemd",
    "/var/log",
    "/sys/fs/cgroup",
    "/proc/1/root/etc/shadow",
    "/proc/kcore",
    "/dev/sda",
    "/dev/mem",
)


def addresses(lab: Lab) -> list[str]:
    """Everything that a protocol might want to talk to: the tiers on their addresses, and loopback."""
    doors = {"webserver": 443, "queue": 8443, "rabbitmq": 5671, "database": 5432}
    return [f"{lab.machine(tier).address}:{port}" for tier, port in doors.items()] + [
        "127.0.0.1:22",
        "127.0.0.1:5671",
        "127.0.0.1:5432",
    ]


@pytest.fixture(scope="module")
def report(lab: Lab, user: Api) -> Json:
    parameters = {"addresses": addresses(lab), "paths": list(SECRET_PLACES)}
    task = user.wait(user.submit("acceptance-probe", parameters))
    assert task["state"] == "success", f"{task['message']}\n{user.log(task).decode()}"
    return cast("Json", json.loads(user.content(user.artifacts(task)["report.json"]).content))


class TestContained:
    def test_no_network(self, report: Json) -> None:
        assert report["interfaces"] in (["lo"], [])
        open_doors = {name: result for name, result in report["network"].items() if result.startswith("ok")}
        assert open_doors == {}

    def test_no_foreign_files(self, report: Json) -> None:
        read = {
            path: said for path, said in report["paths"].items() if said.startswith("ok") and said != "ok: []"
        }
        assert read == {}

    def test_writes_outputs_and_scratch_only(self, report: Json) -> None:
        written = {path for path, said in report["writes"].items() if said.startswith("ok")}
        assert written == {f"{report['outputs']}/x", f"{report['environment']['TMPDIR']}/x"}

    def test_sees_its_own_processes_only(self, report: Json) -> None:
        lines: dict[str, str] = report["processes"]
        # The sandbox itself is the first process of its name space; what it was called with is no secret.
        own = [line for line in lines.values() if not line.startswith(("bwrap ", "/usr/bin/bwrap "))]
        assert own == ["python3 main.py "], lines
        assert "la_" not in "".join(lines.values())

    def test_environment_is_its_own(self, report: Json) -> None:
        known = {
            "PATH",
            "LANG",
            "LC_ALL",
            "HOME",
            "TMPDIR",
            "PWD",
            "LC_CTYPE",
            "TZ",
            "USER",
            "LOGNAME",
            "SHLVL",
            "_",
        }
        own = {f"LABFLEET_{name}" for name in ("PARAMETERS", "INPUTS", "OUTPUTS", "PROGRESS")}
        bounds = {name for name in report["environment"] if name.endswith("_NUM_THREADS")}
        assert report["environment"].keys() - known - bounds == own

    def test_has_no_privilege(self, report: Json) -> None:
        rights = report["capabilities"]
        assert {int(rights[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert rights["NoNewPrivs"] == "1"
        assert 0 not in report["ids"][:2]

    def test_no_way_up(self, report: Json) -> None:
        assert report["unshare"].startswith("refused"), "no user namespace of its own"
        assert report["sockets"] == []
