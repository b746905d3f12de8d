"""Backups by timers, machines lost under load, the way back, and what is told when the target is not well.

The tests follow each other as the life of one lab: each stands on what the ones before it have left.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from acceptance import playbook
from acceptance.api import Api
from acceptance.lab import REPOSITORY, Lab, Machine
from acceptance.waiting import wait_for
from resilience import ledger

from .books import status, sums, wait_backed_up
from .conftest import TARGET

SETTLED, RUNNING, DELETED = "settled", "running", "deleted by mistake"
PROTOCOL = "resilience-mark"
LOST_SECONDS = 30 + 30 + 30
"""archive_timeout, backup_wal_seconds (see inventory/), and the time of a run on a busy machine."""
BACK_SECONDS = 15 * 60
FLOW_SECONDS = 120
TABLE = b"a,b\n1,2\n"


@dataclass
class Story:
    """What earlier tests have left for later ones."""

    sums: dict[str, tuple[int, str]] = field(default_factory=dict)
    result: bytes = b""
    dataset: str = ""
    token: str = ""
    accepted: dict[str, float] = field(default_factory=dict)
    lost_at: float = 0.0
    passphrase: str = ""


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


@pytest.fixture
def database(lab: Lab) -> Machine:
    return lab.machine("database")


def submit(api: Api, label: str, mark: str) -> dict[str, Any]:
    return api.submit(PROTOCOL, {"mark": mark}, label=label)


def test_set_up(lab: Lab, target: Path, user: Api, database: Machine, webserver: Machine) -> None:
    """Turned on in a lab that works."""
    done = playbook.play(lab.inventory, "playbooks/backup.yml").good()
    for machine, parts in ((database, ("database", "wal", "inventory")), (webserver, ("files",))):
        for part in parts:
            assert status(machine, part)["ok"], status(machine, part)
    assert lab.secret("backup_passphrase") not in done.output


def test_nothing_is_left_to_do(lab: Lab) -> None:
    again = playbook.site(lab.inventory).good()
    assert sum(again.changed.values()) == 0, again.changes
    predicted = playbook.site(lab.inventory, "--check", "--diff").good()
    assert sum(predicted.changed.values()) == 0, predicted.changes


def test_work_is_backed_up_by_timers(
    lab: Lab, user: Api, database: Machine, webserver: Machine, story: Story
) -> None:
    story.dataset = user.upload("table.csv", TABLE)["id"]
    for number in range(5):
        submit(user, SETTLED, f"settled {number}")
    ledger.settle(database, SETTLED, 120)
    story.sums, story.token = sums(database, SETTLED), user.token
    assert story.sums["artifacts"][0] == 5
    wait_backed_up(database, webserver)


def test_drill_under_load(lab: Lab, user: Api, story: Story) -> None:
    """Every table of the running lab is the same in the scratch machine, although the lab goes on."""
    with flowing(user, {}):
        done = playbook.play(lab.inventory, "playbooks/backup_drill.yml").good()
    assert "are the same as on the running server" in done.output
    assert "files are there, whole" in done.output


def test_machines_lost_under_load(lab: Lab, user: Api, vault: Machine, story: Story) -> None:
    """The machines go without a word, and the controller's inventory with them."""
    with flowing(user, story.accepted):
        time.sleep(FLOW_SECONDS)
        names = [
            f"{machine.variables['machines_name_prefix']}-{machine.name}" for machine in lab.machines.values()
        ]
        subprocess.run(
            ["podman", "rm", "--force", "--time", "0", *names], check=True, stdout=subprocess.DEVNULL
        )
        story.lost_at = time.time()
    story.passphrase = lab.secret("backup_passphrase")
    kept = lab.inventory.with_name(f"{lab.inventory.name}-lost")
    shutil.rmtree(kept, ignore_errors=True)
    lab.inventory.rename(kept)


def test_the_inventory_comes_back_by_the_passphrase_alone(lab: Lab, vault: Machine, story: Story) -> None:
    """With the commands of docs/admin/backup.md, and nothing of Labfleet."""
    page = (REPOSITORY / "docs" / "admin" / "backup.md").read_text()
    commands = page.partition("read -rs passphrase\n")[2].partition("```")[0]
    script = commands.replace("/srv/labfleet", TARGET).replace("inventory/ours", "/root/ours")
    vault.run("rm -rf /root/ours; apt-get install -qy --no-install-recommends restic openssl >/dev/null")
    text = f"set -e\npassphrase='{story.passphrase}'\n{script}\ntar -cz -C /root/ours . > /root/ours.tar.gz\n"
    told = subprocess.run(
        vault.ssh("sh", "-s"),
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
    lab.inventory.mkdir()
    packed = subprocess.run(vault.ssh("cat", "/root/ours.tar.gz"), capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xz", "-C", str(lab.inventory)], input=packed, check=True)
    vault.run("rm -rf /root/ours /root/ours.tar.gz")
    lost = lab.inventory.with_name(f"{lab.inventory.name}-lost")
    assert content(lab.inventory) == content(lost)


def test_back_on_fresh_machines(
    lab: Lab, user: Api, database: Machine, webserver: Machine, story: Story
) -> None:
    playbook.play(lab.inventory, "playbooks/machines.yml").good()
    begin = time.monotonic()
    done = playbook.play(lab.inventory, "playbooks/restore.yml").good()
    # A job that is new, on the lab that is back, for somebody whose token is older than the disaster.
    user.wait(submit(user, "new", "after the disaster"), "success", seconds=120)
    seconds = time.monotonic() - begin
    assert seconds <= BACK_SECONDS, f"{seconds:.0f} s"
    assert story.passphrase not in done.output
    assert sums(database, SETTLED) == story.sums
    assert user.token == story.token
    assert user.http.get(f"/api/v1/datasets/{story.dataset}/content").content == TABLE
    for job in user.get(f"jobs?label={SETTLED}")["items"]:
        artifact = user.artifacts(user.task(job))["mark.txt"]
        assert user.content(artifact).content.startswith(b"settled ")


def test_little_is_lost(lab: Lab, user: Api, database: Machine, story: Story) -> None:
    """What was accepted and is not there was accepted shortly before the end; what is there ends well."""
    rows = ledger.query(database, f"SELECT id FROM jobs WHERE label = '{RUNNING}'")
    there = {row["id"] for row in rows}
    missing = [at for job, at in story.accepted.items() if job not in there]
    lost = story.lost_at - min(missing, default=story.lost_at)
    print(f"{len(missing)} of {len(story.accepted)} jobs are gone, the first {lost:.0f} s before the end")
    assert there, "nothing of the load came back"
    assert lost <= LOST_SECONDS
    booked = ledger.settle(database, RUNNING, 180)
    assert {entry.state for entry in booked} == {"success"}


def test_nothing_is_missing_in_the_store(lab: Lab, webserver: Machine) -> None:
    assert "every file is there" in webserver.run("/usr/local/sbin/labfleet-admin store check --read")


def test_the_new_machines_are_backed_up(lab: Lab, database: Machine, webserver: Machine) -> None:
    wait_backed_up(database, webserver)
    assert status(database, "database")["ok"]


def test_back_to_a_moment(lab: Lab, user: Api, database: Machine, webserver: Machine, story: Story) -> None:
    """A job that was deleted by mistake is there again, and what came after the moment is not."""
    job = submit(user, DELETED, "precious")
    ledger.settle(database, DELETED, 60)
    moment = ledger.query(
        database,
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS now",
    )[0]["now"]
    time.sleep(1)
    assert user.http.delete(f"/api/v1/jobs/{job['id']}").status_code in {200, 204}
    late = submit(user, "late", "after the moment")
    ledger.settle(database, "late", 60)
    wait_backed_up(database, webserver)
    refused = playbook.play(lab.inventory, "playbooks/restore.yml", "-e", f"restore_to={moment}")
    assert refused.code != 0
    assert "restore_overwrite=true" in refused.output
    asked = ("-e", f"restore_to={moment}", "-e", "restore_overwrite=true")
    playbook.play(lab.inventory, "playbooks/restore.yml", *asked).good()
    assert user.get(f"jobs/{job['id']}")["state"] == "success"
    artifact = user.artifacts(user.task(job))["mark.txt"]
    assert user.content(artifact).content == b"precious\n"
    assert user.http.get(f"/api/v1/jobs/{late['id']}").status_code == 404
    assert sums(database, SETTLED) == story.sums


def test_a_target_that_is_not_there_is_told_and_taken_up_again(vault: Machine, webserver: Machine) -> None:
    vault.run(f"mv {TARGET} {TARGET}.away")
    try:
        wait_for(lambda: not status(webserver, "files")["ok"], 90, "the backup to fail", None, 1.0)
        told = status(webserver, "files")
        assert "Mount or reconnect the target" in told["hint"], told
        assert "labfleet-backup-files.service" in webserver.run("systemctl --failed --plain --no-legend")
        said = webserver.run("journalctl -o cat --no-pager -u labfleet-backup-files.service -n 20")
        assert "What to do: The target has no repository there." in said
        assert vault.run(f"ls -d {TARGET} 2>/dev/null || true") == ""
    finally:
        vault.run(f"mv {TARGET}.away {TARGET}")
    wait_for(lambda: status(webserver, "files")["ok"], 90, "the backup to work again", None, 1.0)


def test_a_damaged_target_is_found_by_the_check(vault: Machine, webserver: Machine) -> None:
    webserver.run("systemctl start labfleet-backup-check-files.service")
    assert status(webserver, "files-check")["ok"]
    pack = vault.run(f"ls -S {TARGET}/files/data/*/* | head -n 1").strip()
    vault.run(f"truncate --size=-1 {pack}")
    webserver.run("systemctl start labfleet-backup-check-files.service || true")
    told = status(webserver, "files-check")
    assert not told["ok"]
    assert "damaged" in told["hint"], told
    assert "labfleet-backup-check-files.service" in webserver.run("systemctl --failed --plain --no-legend")


@contextmanager
def flowing(api: Api, accepted: dict[str, float]) -> Iterator[None]:
    """Submit all the time; `accepted` has when the lab took each job."""
    stop = threading.Event()

    def flow() -> None:
        while not stop.wait(0.5):
            body = {"protocol": PROTOCOL, "parameters": {"mark": "running"}, "label": RUNNING}
            try:
                answer = api.http.post("/api/v1/jobs", json=body, timeout=5)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                accepted[answer.json()["id"]] = time.time()

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def content(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path; what ssh has learnt of machines is no part of an inventory."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "known_hosts" not in path.name
    }
