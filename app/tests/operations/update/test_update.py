"""Row 13: updates and rollbacks of a lab that works, and updates that must not happen.

The newer release is made of this checkout. Each test leaves the lab with the release that it found.
"""

from __future__ import annotations

import re
import time
import uuid

from acceptance.api import Api, Json
from acceptance.lab import Lab, Machine
from acceptance.playbook import Run
from resilience import ledger

from ..traffic import PROTOCOL, balanced, traffic
from .conftest import Make, running

# Longer than update and rollback take together, also on a machine that has much else to do.
LONG_SECONDS = 2400
ROLLBACK_SECONDS = 300


def health(user: Api) -> str:
    """The version that answers."""
    return str(user.get("health")["version"])


def versions(user: Api) -> set[str]:
    """What the workers report."""
    return {worker["version"] for worker in user.get("workers")["items"]}


def words(run: Run) -> str:
    """All that a run said, without its line breaks."""
    return " ".join(run.output.split())


def works(lab: Lab, user: Api) -> None:
    """A task goes through, on each of the workers."""
    for name in lab.groups["worker"]:
        assert user.wait(submit(user, f"machine.{name}", 0))["state"] == "success"


def submit(user: Api, tag: str, seconds: float, label: str = "operations") -> Json:
    """A task for one worker."""
    parameters = {"mark": str(uuid.uuid4()), "seconds": seconds}
    leaf = {"task": "one", "protocol": PROTOCOL, "parameters": parameters, "needs": {"tags": [tag]}}
    answer = user.http.post("/api/v1/jobs", json={"tree": leaf, "label": label})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_check_mode_changes_nothing(lab: Lab, user: Api, newer: Make, before: dict[str, str]) -> None:
    run = newer("0.1.1").play(lab.inventory, "playbooks/update.yml", "--check", "--diff").good()
    assert "Would update to 0.1.1-" in words(run)
    assert sum(run.changed.values()) > 0
    assert running(lab) == before
    assert health(user) == "0.1.0"


def test_a_breaking_change_stops_until_it_is_acknowledged(
    lab: Lab, newer: Make, before: dict[str, str]
) -> None:
    checkout = newer("0.1.2")
    (checkout.folder / "app" / "BREAKING.yml").write_text(
        "---\n- {version: 0.1.1, change: The moon is gone, do: Use a lamp}\n"
        "- {version: 0.1.3, change: Of a later version, do: Nothing}\n"
    )
    refused = checkout.play(lab.inventory, "playbooks/update.yml")
    assert refused.code != 0
    said = words(refused)
    assert "[0.1.1] The moon is gone → Use a lamp" in said
    assert "-e update_acknowledged=0.1.2" in said
    assert "Of a later version" not in said
    assert set(refused.changed.values()) <= {0}, refused.changes
    assert running(lab) == before
    checkout.play(lab.inventory, "playbooks/update.yml", "--check", "-e", "update_acknowledged=0.1.2").good()


def test_an_application_that_is_not_ready_goes_back(
    lab: Lab, user: Api, newer: Make, before: dict[str, str]
) -> None:
    checkout = newer("0.1.3")
    checkout.edit("app/src/labfleet/web/probes.py", '"store": _store()', '"store": False')
    run = checkout.play(lab.inventory, "playbooks/update.yml", "-e", "update_ready_seconds=15")
    assert run.code != 0
    assert "every machine runs 0.1.0-" in words(run)
    assert "lab: Ready | Database, store and queue tier answer: " in words(run)
    assert running(lab) == before
    assert health(user) == "0.1.0"
    works(lab, user)


def test_an_application_that_does_not_start_goes_back(
    lab: Lab, user: Api, newer: Make, before: dict[str, str]
) -> None:
    checkout = newer("0.1.4")
    checkout.edit("app/src/labfleet/web/factory.py", "    app = bare_app()\n", "    app = no_such_thing()\n")
    run = checkout.play(lab.inventory, "playbooks/update.yml")
    assert run.code != 0
    assert re.search(r"every machine runs 0\.1\.0-\S+ again; .* lab: (Run|Ready) \| ", words(run))
    assert running(lab) == before
    assert health(user) == "0.1.0"
    works(lab, user)


def test_a_canary_that_fails_stops_the_others(
    lab: Lab, user: Api, newer: Make, before: dict[str, str], spare: Machine
) -> None:
    checkout = newer("0.1.5")
    checkout.edit("app/src/labfleet/worker/sandbox.py", 'BWRAP = "bwrap"', 'BWRAP = "no-such"')
    since = spare.run("systemctl show -P ActiveEnterTimestampMonotonic labfleet-worker").strip()
    run = checkout.play(lab.inventory, "playbooks/update.yml", "-e", "update_canary=lab")
    assert run.code != 0
    assert "The task that was to show that lab works with the new release is failed" in words(run)
    assert running(lab) == before
    assert spare.run("systemctl show -P ActiveEnterTimestampMonotonic labfleet-worker").strip() == since
    works(lab, user)


def test_update_and_rollback_under_load(
    lab: Lab, user: Api, newer: Make, database: Machine, before: dict[str, str]
) -> None:
    """With a migration of each phase, tasks running, and 20 requests/s."""
    checkout = newer("0.2.0")
    checkout.migrations()
    label = f"operations {uuid.uuid4()}"
    # One on each worker, for all of this test.
    long = [submit(user, f"machine.{name}", LONG_SECONDS) for name in lab.groups["worker"]]
    for job in long:
        user.wait(job, "running")

    begin = time.monotonic()
    with traffic(lab, user, label) as seen:
        checkout.play(lab.inventory, "playbooks/update.yml").good()
    print(f"\nupdate: {time.monotonic() - begin:.0f} s, {seen.summary()}")
    balanced(seen, database)
    assert health(user) == "0.2.0"
    assert versions(user) == {"0.2.0"}
    assert all("/0.2.0-" in current for current in running(lab).values())
    assert ledger.query(database, "SELECT count(*) AS n FROM trial_pre, trial_post") == [{"n": 0}]
    undisturbed(user, long)
    for worker in lab.of("worker"):
        assert in_use(worker, before[worker.name]), (
            "the next updates would remove what the long tasks run from"
        )

    again = checkout.play(lab.inventory, "playbooks/update.yml").good()
    assert "systemd" not in again.changes, again.changes
    predicted = checkout.play(lab.inventory, "playbooks/rollback.yml", "--check").good()
    assert "Would go back to 0.1.0-" in words(predicted)
    assert health(user) == "0.2.0"

    begin = time.monotonic()
    with traffic(lab, user, label) as seen:
        checkout.play(lab.inventory, "playbooks/rollback.yml").good()
        took = time.monotonic() - begin
    print(f"rollback: {took:.0f} s, {seen.summary()}")
    assert took <= ROLLBACK_SECONDS
    balanced(seen, database)
    assert health(user) == "0.1.0"
    assert versions(user) == {"0.1.0"}
    assert running(lab) == before
    undisturbed(user, long)
    for job in long:
        user.cancel(job)
    works(lab, user)
    refused = checkout.play(lab.inventory, "playbooks/rollback.yml")
    assert refused.code != 0
    assert "keeps no release from before it" in words(refused)


def in_use(machine: Machine, release: str) -> bool:
    """Whether the installer would leave the release alone, because a process runs from it."""
    program = "import install_release, pathlib, sys; print(install_release.used(pathlib.Path(sys.argv[1])))"
    return machine.run(f"cd /opt/labfleet && python3 -B -c '{program}' {release}").strip() == "True"


def undisturbed(user: Api, jobs: list[Json]) -> None:
    """They run, each in its first attempt."""
    assert [(task["state"], task["attempt"]) for task in map(user.task, jobs)] == [("running", 1)] * len(jobs)


def test_no_way_back_past_a_migration_that_the_old_code_can_t_live_with(
    lab: Lab, user: Api, newer: Make, database: Machine, before: dict[str, str]
) -> None:
    checkout = newer("0.3.0")
    checkout.migrations()
    deadly = checkout.deadly_migration()
    checkout.play(lab.inventory, "playbooks/update.yml").good()
    now = running(lab)
    refused = checkout.play(lab.inventory, "playbooks/rollback.yml")
    assert refused.code != 0
    assert f"can't work with what migration {deadly} has made of the database" in words(refused)
    assert set(refused.changed.values()) <= {0}
    assert running(lab) == now
    # In truth the old code can: back, for the tests that come after this one.
    database.run(
        "runuser -u postgres -- psql -Xq labfleet -c 'UPDATE schema_changes SET rollback_safe = true'"
    )
    checkout.play(lab.inventory, "playbooks/rollback.yml").good()
    assert running(lab) == before
    works(lab, user)
