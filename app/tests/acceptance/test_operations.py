"""What an admin looks at: the self-check, and journals through which one id leads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .api import Api
from .lab import Lab, Machine
from .playbook import Run, play
from .waiting import wait_for

# These machines see the disk and the memory of the computer they share: that says nothing of them.
SHARED = ("-e", "self_check_disk_percent=0", "-e", "self_check_memory_percent=0")


def self_check(lab: Lab, report: Path, *options: str) -> tuple[Run, list[dict[str, str]]]:
    """Run the playbook as an admin does; the run and what it found."""
    run = play(
        lab.inventory, "playbooks/self_check.yml", *SHARED, "-e", f"self_check_report={report}", *options
    )
    return run, json.loads(report.read_text())


def errors(findings: list[dict[str, str]]) -> list[str]:
    return [f"{one['where']}: {one['what']}" for one in findings if one["level"] == "error"]


def test_the_self_check_finds_nothing_wrong_and_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    for options in ((), ("--check",)):
        run, findings = self_check(lab, tmp_path / "report.json", *options)
        assert errors(findings) == []
        assert run.good().changed == dict.fromkeys(lab.machines, 0)


def test_the_self_check_names_what_does_not_run_and_what_to_do(
    lab: Lab, queue: Machine, worker: Machine, tmp_path: Path
) -> None:
    queue.run("systemctl stop labfleet-publisher")
    worker.run("systemctl stop labfleet-worker")
    try:
        run, findings = self_check(lab, tmp_path / "report.json")
    finally:
        queue.run("systemctl start labfleet-publisher")
        worker.run("systemctl start labfleet-worker")
    assert run.code != 0
    told = errors(findings)
    for unit, machine in (("labfleet-publisher", queue), ("labfleet-worker", worker)):
        assert f"{machine.name}: The unit {unit}.service does not run: it is inactive (dead)." in told
        assert f"→ 'systemctl start {unit}.service'" in run.output
    assert any(one.startswith(f"{queue.name}: The publisher does not answer") for one in told), told


def journal(machine: Machine, *options: str) -> list[dict[str, Any]]:
    """The machine's records of the last minutes that are JSON."""
    text = machine.run(f"journalctl --no-pager -o cat --since=-5min {' '.join(options)}")
    lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in lines]


def test_one_id_leads_through_every_tier(user: Api, webserver: Machine, queue: Machine, lab: Lab) -> None:
    """From the request that submitted a job to the worker's shepherd: request → job and task → request → …"""
    given = "acceptance-follows-me"
    answer = user.http.post(
        "/api/v1/jobs",
        json={"protocol": "acceptance-noop", "parameters": {}},
        headers={"X-Request-ID": given},
    )
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (201, given)
    job = answer.json()
    task = user.wait(job)
    assert task["state"] == "success"
    worker = next(one for one in lab.of("worker") if one.name == task["worker"])

    def about(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
        found = [one for one in records if one.get("event") == event]
        return [one for one in found if task["id"] in {one.get("task"), *one.get("tasks", [])}]

    def followed() -> bool:
        [submitted] = about(journal(webserver, "-u", "labfleet-web"), "job submitted")
        assert (submitted["request"], submitted["job"]) == (given, job["id"])
        sent = about(journal(webserver, "-u", "labfleet-dispatcher"), "batch sent")
        published = about(journal(queue, "-u", "labfleet-publisher"), "published")
        assert {one["request"] for one in published} == {one["request"] for one in sent} != set()
        at_queue = {one["request"] for one in journal(queue, "-t", "nginx_access")}
        assert {one["request"] for one in sent} <= at_queue
        [ended] = about(journal(webserver, "-u", "labfleet-web"), "attempt ended")
        assert (ended["job"], ended["attempt"], ended["outcome"]) == (job["id"], "1", "success")
        requests = journal(webserver, "-t", "nginx_access")
        paths = {one["path"] for one in requests if one["request"] == ended["request"]}
        assert paths == {f"/api/v1/attempts/{task['id']}/1/finish"}
        shepherds = [one for one in journal(worker) if one.get("logger") == "labfleet.worker.attempt"]
        return any(re.match("finishing", one["event"]) for one in shepherds if one.get("task") == task["id"])

    wait_for(followed, 20, "the journals to have it")
