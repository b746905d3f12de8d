"""Every secret between the tiers is changed on a lab that works; the old ones open nothing any more."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import httpx
import pytest
from acceptance.api import Api, Json, connect
from acceptance.broker import runner
from acceptance.lab import BIN, REPOSITORY, Lab, Machine, ansible_environment
from acceptance.playbook import Run, play, site
from resilience import ledger

from ..traffic import PROTOCOL, Traffic, traffic

KINDS = {
    "database": [f"database_password_labfleet_{role}" for role in ("owner", "web", "dispatcher")],
    "broker": ["broker_password_publisher", "broker_password_worker"],
    "front_ends": ["front_end_password_web"],
    "signing_keys": ["signing_key"],
    "session_keys": ["session_key"],
    "source_keys": ["source_key"],
    "worker_tokens": ["worker_token_lab", "worker_token_spare"],
}
NAMES = [name for names in KINDS.values() for name in names]
PLAYBOOK = "playbooks/rotate_secrets.yml"
SETTLE_SECONDS = 180
# Longer than the longest of these tests, also on a machine that has much else to do.
LONG_SECONDS = 3000
STEPS = (
    # The dispatcher stands still, and units may be written that nobody restarts.
    "TASK [webserver : Run | Units]",
    "PLAY [2 of 3, the new ones are used, broker]",
    "PLAY [2 of 3, the new ones are used, workers]",
    "PLAY [3 of 3, the old ones are forgotten, webservers]",
)
"""Where a run is killed; what it says before these words has been done."""


def secrets(lab: Lab) -> dict[str, str]:
    """The value of each secret that can be changed."""
    return {name: lab.secret(name) for name in NAMES}


def waiting(lab: Lab) -> dict[str, str]:
    """The new values of a change that is not finished."""
    return {path.stem: path.read_text().strip() for path in lab.secrets.glob("*.next")}


def logs_in(database: Machine, role: str, password: str) -> bool:
    """Whether PostgreSQL lets the role in with this password."""
    url = f"host={database.private_address} dbname=labfleet user={role} sslmode=require"
    return bool(database.host.run(f"PGPASSWORD={password} psql -XAtc 'SELECT 1' '{url}'").rc == 0)


def broker_takes(lab: Lab, user: str, password: str) -> bool:
    """Whether RabbitMQ takes this password of the user."""
    done = lab.machine("rabbitmq").host.run(f"rabbitmqctl -q authenticate_user {user} {password}")
    return bool(done.rc == 0)


def runner_takes(lab: Lab, password: str) -> bool:
    """Whether the CGI runner takes a front end's password: then it finds fault with the message."""
    with runner(lab, password=password) as front_end:
        told = front_end.post("/runner/v1/schedule", json={}).status_code
    assert told in {400, 401, 422}
    return told != 401


def presence_taken(lab: Lab, name: str, token: str) -> bool:
    """Whether the API takes the worker's token: then it finds fault with the report."""
    with connect(lab.url, lab.ca_file, f"lw_{token}") as http:
        told = http.put(f"/api/v1/workers/{name}", json={}).status_code
    assert told in {401, 422}
    return told != 401


def good(lab: Lab, values: dict[str, str]) -> dict[str, bool]:
    """Which of these values open what they are for; keys are looked at elsewhere."""
    database = lab.machine("database")
    found = {}
    for name, value in values.items():
        kind, _, rest = name.partition("_")
        if kind == "database":
            found[name] = logs_in(database, name.removeprefix("database_password_"), value)
        elif kind == "broker":
            found[name] = broker_takes(lab, f"labfleet_{name.removeprefix('broker_password_')}", value)
        elif kind == "front":
            found[name] = runner_takes(lab, value)
        elif kind == "worker":
            found[name] = presence_taken(lab, rest.removeprefix("token_"), value)
    return found


def signed_in(lab: Lab) -> httpx.Client:
    """A browser's session of the admin."""
    http = connect(lab.url, lab.ca_file)
    form = http.get("/sign-in").text
    token = form.split('name="csrf_token" value="')[1].split('"')[0]
    answer = http.post(
        "/sign-in",
        data={"user": "admin", "password": lab.secret("admin_password"), "csrf_token": token},
        headers={"Origin": lab.url},
    )
    assert answer.status_code in {302, 303}, answer.text
    assert http.get("/jobs").status_code == 200
    return http


def submit(user: Api, worker: str, seconds: float) -> Json:
    """A task for one worker."""
    leaf = {
        "task": "one",
        "protocol": PROTOCOL,
        "parameters": {"mark": str(uuid.uuid4()), "seconds": seconds},
        "needs": {"tags": [f"machine.{worker}"]},
    }
    answer = user.http.post("/api/v1/jobs", json={"tree": leaf})
    assert answer.status_code == 201, answer.text
    job: Json = answer.json()
    return job


@pytest.fixture
def long(lab: Lab, user: Api) -> list[Json]:
    """A task that runs on each worker for all of a test."""
    jobs = [submit(user, name, LONG_SECONDS) for name in lab.groups["worker"]]
    for job in jobs:
        user.wait(job, "running")
    return jobs


def undisturbed(user: Api, jobs: list[Json]) -> None:
    """They still run, in their first attempt; they are ended."""
    for job in jobs:
        task = user.task(job)
        assert (task["state"], task["attempt"]) == ("running", 1), task
        user.cancel(job)


def balanced(seen: Traffic, database: Machine) -> None:
    """No request failed, and every task that was taken ended once, well."""
    assert seen.failed == []
    booked = ledger.settle(database, seen.label, SETTLE_SECONDS)
    assert len(booked) == len(seen.taken) > 0
    assert ledger.unbalanced(booked) == []


def works(lab: Lab, user: Api) -> None:
    """A task goes through, on each of the workers."""
    for name in lab.groups["worker"]:
        assert user.wait(submit(user, name, 0))["state"] == "success"


def no_value_in(text: str, *tables: dict[str, str]) -> None:
    """None of the values stands in what a run has said."""
    assert [name for table in tables for name, value in table.items() if value in text] == []


def kill_at(lab: Lab, step: str, *options: str) -> None:
    """Run the playbook, and kill it with all its processes when it says that this step begins."""
    command = [str(BIN / "ansible-playbook"), "-i", str(lab.inventory), PLAYBOOK, *options]
    run = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=ansible_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert run.stdout
    said = []
    for line in run.stdout:
        said.append(line)
        if line.startswith(step):
            break
    else:
        raise AssertionError("".join(said)[-6000:])
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()


def words(run: Run) -> str:
    """All that a run said, without its line breaks."""
    return " ".join(run.output.split())


def test_check_mode_changes_nothing(lab: Lab) -> None:
    before = secrets(lab)
    run = play(lab.inventory, PLAYBOOK, "--check", "--diff").good()
    assert "Would change: " in words(run)
    no_value_in(run.output, before)
    assert secrets(lab) == before
    assert waiting(lab) == {}
    assert all(good(lab, before).values())


def test_all_at_once_under_load(lab: Lab, user: Api, database: Machine, long: list[Json]) -> None:
    before = secrets(lab)
    label = f"operations {uuid.uuid4()}"
    page = signed_in(lab)
    begin = time.monotonic()
    with traffic(lab, user, label) as seen:
        run = play(lab.inventory, PLAYBOOK, "-vvv").good()
    print(f"\nall at once: {time.monotonic() - begin:.0f} s, {seen.summary()}")
    balanced(seen, database)
    undisturbed(user, long)

    after = secrets(lab)
    no_value_in(run.output, before, after)
    assert [name for name in NAMES if before[name] == after[name]] == []
    assert waiting(lab) == {}
    assert set(good(lab, after).values()) == {True}
    assert set(good(lab, before).values()) == {False}
    # Somebody who was signed in still is: old keys stay good for a while.
    assert page.get("/jobs").status_code == 200
    works(lab, user)
    again = site(lab.inventory).good()
    assert set(again.changed.values()) == {0}, again.changes


def test_runs_that_are_killed_are_finished_by_the_next(
    lab: Lab, user: Api, database: Machine, long: list[Json]
) -> None:
    before = secrets(lab)
    label = f"operations {uuid.uuid4()}"
    begin = time.monotonic()
    with traffic(lab, user, label) as seen:
        for step in STEPS:
            kill_at(lab, step)
            chosen = waiting(lab)
            assert sorted(chosen) == sorted(NAMES)
            assert secrets(lab) == before
        run = play(lab.inventory, PLAYBOOK).good()
    print(f"\nkilled {len(STEPS)} times: {time.monotonic() - begin:.0f} s, {seen.summary()}")
    assert "Goes on with: broker_password_publisher" in words(run)
    assert secrets(lab) == chosen
    assert waiting(lab) == {}
    balanced(seen, database)
    undisturbed(user, long)
    assert set(good(lab, chosen).values()) == {True}
    assert set(good(lab, before).values()) == {False}
    works(lab, user)
    again = site(lab.inventory).good()
    assert set(again.changed.values()) == {0}, again.changes


def test_one_that_broke_off_leaves_a_lab_that_works(lab: Lab, user: Api) -> None:
    """Also when the admin goes on with site.yml: the old values are used again, the new ones stay good."""
    before = secrets(lab)
    kill_at(lab, "PLAY [2 of 3, the new ones are used, webservers]", "-e", "rotate=broker")
    assert sorted(waiting(lab)) == KINDS["broker"]
    works(lab, user)
    site(lab.inventory).good()
    works(lab, user)
    # Whatever is asked for, what broke off is finished with it.
    play(lab.inventory, PLAYBOOK, "-e", "rotate=front_ends").good()
    after = secrets(lab)
    assert [name for name in NAMES if before[name] != after[name]] == KINDS["broker"] + KINDS["front_ends"]
    assert waiting(lab) == {}
    works(lab, user)


def test_old_keys_are_forgotten_in_the_end(lab: Lab) -> None:
    page = signed_in(lab)
    kept: Path = lab.secrets / "session_key.old"
    before = lab.secret("session_key")
    play(lab.inventory, PLAYBOOK, "-e", "rotate=session_keys").good()
    assert before in kept.read_text()
    assert page.get("/jobs").status_code == 200
    play(lab.inventory, PLAYBOOK, "-e", "rotate=session_keys", "-e", "rotate_keep_days=0").good()
    assert not kept.exists()
    assert page.get("/jobs").status_code in {302, 303}


def test_a_kind_that_there_is_not(lab: Lab) -> None:
    before = secrets(lab)
    refused = play(lab.inventory, PLAYBOOK, "-e", "rotate=broker,moon")
    assert refused.code != 0
    assert "rotate names moon" in words(refused)
    assert set(refused.changed.values()) <= {0}, refused.changes
    assert secrets(lab) == before
    assert waiting(lab) == {}
