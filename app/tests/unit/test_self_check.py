"""The module that looks at a machine: what it makes of what systemd, the broker, files and clocks say."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from by_path import load


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    return load("library/labfleet_self_check.py")


def asked(checks: ModuleType, **changes: Any) -> Any:
    usual: dict[str, Any] = {
        "tiers": (),
        "controller_time": time.time(),
        "clock_seconds": 10,
        "disk_percent": 10,
        "memory_percent": 5,
        "certificate_days": 30,
        "certificate_error_days": 7,
        "backup_status_file": "/nonexistent",
        "backup_hours": 26,
        "upkeep_directory": "/nonexistent",
        "upkeep_hours": 192,
        "timeout_seconds": 5,
    }
    return checks.Asked(**usual | changes)


def told(findings: Iterator[Any]) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in findings]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, None),
        ({"ActiveState": "inactive", "SubState": "dead"}, "does not run: it is inactive (dead)"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "it is activating (auto-restart)"),
        ({"ActiveState": "inactive", "SubState": "dead", "Type": "oneshot"}, None),
        ({"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}, "There is no unit"),
        ({"NeedDaemonReload": "yes"}, "systemd has not read it since"),
    ],
)
def test_a_unit_that_should_run_and_does_not(
    checks: ModuleType, changes: dict[str, str], what: str | None
) -> None:
    unit = {
        "Id": "labfleet-web.service",
        "ActiveState": "active",
        "SubState": "running",
        "Type": "notify",
        "NeedDaemonReload": "no",
        "LoadState": "loaded",
    }
    found = told(checks.judge_unit(unit | changes, []))
    assert [level for level, _ in found] == ([] if what is None else ["error"])
    assert what is None or what in found[0][1]


def test_a_dispatcher_that_a_run_has_left_is_told_as_such(checks: ModuleType) -> None:
    unit = {
        "Id": "labfleet-dispatcher.service",
        "ActiveState": "inactive",
        "SubState": "dead",
        "LoadState": "loaded",
    }
    (found,) = checks.judge_unit(unit, [])
    assert "rotate_secrets that was cut off leaves it so" in found.remedy
    (other,) = checks.judge_unit({**unit, "Id": "labfleet-web.service"}, [])
    assert "cut off" not in other.remedy


def test_an_update_that_has_not_ended(
    checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "OPERATION", tmp_path / "operation.json")
    assert told(checks.operation(asked(checks))) == []
    said = {"operation": "update", "from": "1.0-a", "to": "1.1-b", "at": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "operation.json").write_text(json.dumps(said))
    ((level, what),) = told(checks.operation(asked(checks)))
    assert level == "warning"
    assert "playbooks/update.yml has begun to take this machine from 1.0-a to 1.1-b" in what


def test_webservers_that_get_no_requests(checks: ModuleType) -> None:
    shown = "one: UP, 3 requests\ntwo: DRAIN, 0 requests\nthree: DOWN, 0 requests\nfour: UP 2/3, 0 requests\n"
    found = told(checks.judge_servers(shown))
    assert [level for level, _ in found] == ["warning", "error"]
    assert "two was taken out of the balancer" in found[0][1]
    assert "three not well" in found[1][1]
    assert told(checks.judge_servers("HAProxy does not run here.\n")) == []


def test_a_unit_that_has_failed_is_told_once(checks: ModuleType) -> None:
    unit = {"Id": "a.service", "ActiveState": "failed", "SubState": "failed", "LoadState": "loaded"}
    assert told(checks.judge_unit(unit, ["a.service"])) == []


def test_alarms_absent_nodes_and_partitions_of_the_broker(checks: ModuleType) -> None:
    status = {
        "alarms": [{"node": "rabbit@a", "resource": "disk"}],
        "disk_nodes": ["rabbit@a", "rabbit@b"],
        "running_nodes": ["rabbit@a"],
        "partitions": {},
    }
    assert told(checks.judge_cluster(status)) == [
        ("error", "The broker has the alarm 'disk' and takes no messages."),
        ("error", "The node rabbit@b of the broker's cluster is away."),
    ]
    good = {"alarms": [], "disk_nodes": ["rabbit@a"], "running_nodes": ["rabbit@a"], "partitions": {}}
    assert told(checks.judge_cluster(good)) == []


LEADER = {"Member": "db1", "Role": "Leader", "State": "running"}
STANDBY = {"Member": "db2", "Role": "Sync Standby", "State": "streaming"}


@pytest.mark.parametrize(
    ("members", "own", "what"),
    [
        ([LEADER, STANDBY], "db1", None),
        ([LEADER, STANDBY], "db2", None),
        ([LEADER], "db1", "No standby has all that db1 has"),
        ([LEADER, {**STANDBY, "Role": "Replica"}], "db1", "No standby has all that db1 has"),
        ([LEADER, {**STANDBY, "Role": "Replica"}], "db2", None),
        ([{**STANDBY, "Role": "Replica"}], "db2", "No server of the database leads"),
        ([], "db2", "No server of the database leads"),
        ([{**LEADER, "Pending restart": "*"}, STANDBY], "db1", "waits for a restart"),
    ],
)
def test_a_database_without_leader_or_standby(
    checks: ModuleType, members: list[dict[str, str]], own: str, what: str | None
) -> None:
    findings = told(checks.judge_members(members, own))
    assert len(findings) == (what is not None)
    assert all((what or "") in text for _, text in findings)


def test_queues_without_members_and_dead_messages(checks: ModuleType) -> None:
    whole = {"type": "quorum", "members": ["a", "b"], "online": ["a", "b"], "state": "running", "messages": 0}
    queues = [
        {"name": "labfleet.key.r", **whole},
        {"name": "labfleet.key.python", **whole, "online": ["a"]},
        {"name": "labfleet.control.w1", "type": "classic", "members": ["a"], "online": "", "messages": 0},
        {"name": "labfleet.dead", **whole, "messages": 3},
    ]
    assert told(checks.judge_queues(queues)) == [
        ("error", "The queue labfleet.key.python misses its members on b."),
        ("warning", "3 messages were delivered too often and are in labfleet.dead."),
    ]
    assert told(checks.judge_queues([])) == [("error", "The broker has no queues.")]


@pytest.mark.parametrize(
    ("days", "level"), [(-1.0, "error"), (3.0, "error"), (20.0, "warning"), (31.0, None)]
)
def test_certificates_that_end(checks: ModuleType, days: float, level: str | None) -> None:
    end = time.time() + days * 86400
    found = told(checks.judge_certificate(Path("web.crt"), end, asked(checks)))
    assert [one for one, _ in found] == ([] if level is None else [level])


def test_the_end_of_a_certificate_is_read_from_its_file(checks: ModuleType, tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    end = datetime.datetime(2040, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(end - datetime.timedelta(days=1))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "a.crt"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    assert checks.ends(file, asked(checks)) == end.timestamp()


def test_a_clock_that_is_behind(checks: ModuleType) -> None:
    assert told(checks.clock(asked(checks, controller_time=time.time() + 300)))[0][0] == "error"
    assert "behind" not in str(told(checks.clock(asked(checks))))


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (None, None),
        ({"succeeded_at": 0}, "No backup has ever succeeded."),
        ({"succeeded_at": 3 * 3600}, None),
        ({"succeeded_at": 50 * 3600}, "The last backup that succeeded is 50 hours old."),
    ],
)
def test_the_age_of_the_last_backup(
    checks: ModuleType, tmp_path: Path, status: dict[str, float] | None, what: str | None
) -> None:
    file = tmp_path / "status.json"
    if status is not None:
        ago = status["succeeded_at"]
        file.write_text(json.dumps({"succeeded_at": time.time() - ago if ago else None}))
    found = told(checks.backup(asked(checks, backup_status_file=str(file))))
    assert found == ([] if what is None else [("error", what)])


def test_the_age_of_upkeep(checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "UNITS", tmp_path)
    directory = tmp_path / "upkeep"
    directory.mkdir()
    for name, hours in (("sweep", 20), ("gc", 200), ("gone", 900)):
        (directory / name).touch()
        then = time.time() - hours * 3600
        os.utime(directory / name, (then, then))
    for timer in ("labfleet-sweep.timer", "labfleet-gc.timer"):
        (tmp_path / timer).touch()
    found = told(checks.upkeep(asked(checks, upkeep_directory=str(directory))))
    assert found == [("warning", "labfleet-gc.service has succeeded 200 hours ago for the last time.")]
    assert told(checks.upkeep(asked(checks))) == []


def test_addresses_of_nginx_and_their_certificates(checks: ModuleType) -> None:
    text = """
    server { listen 0.0.0.0:80 default_server; }
    server {
        listen 0.0.0.0:443 ssl http2 default_server;
        ssl_certificate /etc/labfleet/tls/webserver.crt;
    }
    """
    assert checks.listens(text.replace("{ listen", "{\n    listen")) == [
        ("127.0.0.1", 443, "/etc/labfleet/tls/webserver.crt")
    ]


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(checks: ModuleType) -> None:
    def broken(asked: Any) -> Iterator[Any]:
        raise OSError("no such thing")

    ((level, what),) = told(checks.guarded(broken, asked(checks)))
    assert (level, what) == (
        "error",
        "The check 'broken' could not be carried out: OSError: no such thing.",
    )


def test_it_looks_at_this_computer_without_complaint_about_itself(checks: ModuleType) -> None:
    found = told(
        one for check in (checks.disks, checks.memory) for one in checks.guarded(check, asked(checks))
    )
    assert not [what for _, what in found if "could not be carried out" in what]


def test_releases_of_one_code_are_alike_whatever_they_were_built_for(
    checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str, python: str, *lines: str) -> str:
        record = tmp_path / name / f"lib/{python}/site-packages/labfleet-0.1.0.dist-info/RECORD"
        record.parent.mkdir(parents=True)
        record.write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setattr(checks, "CURRENT", tmp_path / name)
        return str(checks.code())

    ours = ("labfleet/a.py,sha256=1,10", "labfleet/b.py,sha256=2,10")
    web = installed("web", "python3.11", *ours, "../../../bin/labfleet,sha256=3,9")
    worker = installed("worker", "python3.13", *reversed(ours), "labfleet/__pycache__/a.pyc,,")
    other = installed("other", "python3.13", ours[0], "labfleet/b.py,sha256=4,10")
    assert web.startswith("0.1.0-")
    assert web == worker != other
    assert installed("mounted", "python3.13", "_labfleet.pth,sha256=5,9") == ""
