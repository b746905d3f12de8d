"""A fleet is updated one webserver at a time, each out of the balancer meanwhile: nobody notices."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acceptance import admin as admin_cli
from acceptance.api import Api
from acceptance.lab import Lab, Machine

from ..traffic import balanced, traffic
from ..update.newer import checkout

PROTOCOLS = Path(__file__).parents[1] / "protocols"
LOOK_SECONDS = 0.5
UP = "UP"
Seen = list[dict[str, str]]


@pytest.fixture
def front(lab: Lab, user: Api) -> Machine:
    """The balancer; what the requests submit is in the catalogue."""
    admin_cli.import_protocols(lab.machine("webserver"), "mark", root=PROTOCOLS)
    return lab.machine("balancer")


def states(front: Machine) -> dict[str, str]:
    """What HAProxy thinks of each webserver."""
    lines = front.run("labfleet-balancer show").splitlines()
    return {name: rest.split(",")[0] for name, rest in (line.split(": ", 1) for line in lines)}


@contextmanager
def watched(front: Machine) -> Iterator[Seen]:
    """What HAProxy thinks of the webservers, from moment to moment, until the block ends."""
    seen: Seen = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_SECONDS):
            seen.append(states(front))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def one_at_a_time(lab: Lab, seen: Seen) -> None:
    """Each webserver was out once, and never all of them."""
    out = [{name for name, state in moment.items() if state != UP} for moment in seen]
    assert set().union(*out) == {web.name for web in lab.of("webserver")}
    assert max(map(len, out)) == 1, out


def versions(lab: Lab) -> set[str]:
    """What the webservers run."""
    releases = [web.run("basename $(readlink /opt/labfleet/current)") for web in lab.of("webserver")]
    return {release.partition("-")[0] for release in releases}


def test_update_and_rollback_under_requests(lab: Lab, user: Api, front: Machine, tmp_path: Path) -> None:
    newer = checkout(tmp_path, "0.2.0")
    before = versions(lab)
    for playbook, after in (("update", {"0.2.0"}), ("rollback", before)):
        label = f"fleet {uuid.uuid4()}"
        with traffic(lab, user, label) as asked, watched(front) as seen:
            newer.play(lab.inventory, f"playbooks/{playbook}.yml").good()
        print(f"\n{playbook}: {asked.summary()}")
        balanced(asked, lab.machine("database"))
        one_at_a_time(lab, seen)
        assert versions(lab) == after
        assert set(states(front).values()) == {UP}


def test_a_failed_update_leaves_both_in_the_balancer(
    lab: Lab, user: Api, front: Machine, tmp_path: Path
) -> None:
    """The first webserver is not ready with the new release: it never gets a request with it."""
    before = versions(lab)
    newer = checkout(tmp_path, "0.2.1")
    newer.edit("app/src/labfleet/web/probes.py", '"store": _store()', '"store": False')
    with traffic(lab, user, f"fleet {uuid.uuid4()}") as asked:
        run = newer.play(lab.inventory, "playbooks/update.yml", "-e", "update_ready_seconds=15")
    assert run.code != 0
    assert "every machine runs" in " ".join(run.output.split())
    assert asked.failed == []
    assert versions(lab) == before
    assert set(states(front).values()) == {UP}
