"""What was deployed goes again; its data stay unless they are asked for, and a new deployment finds them."""

from __future__ import annotations

import pytest
from acceptance.api import Api, Json
from acceptance.lab import Lab, Machine
from acceptance.playbook import Run, play, site

UNITS = "systemctl list-units --all --plain --no-legend --no-pager 'labfleet-[!l]*' || true"
FILES = "ls -d /etc/systemd/system/labfleet-[!l]* 2>/dev/null || true"
OURS = "^(labfleet-|postgres|rabbitmq|www-data)|/opt/labfleet|[e]pmd"
PROCESSES = f"ps -eo user:32=,args= | grep -E '{OURS}' | grep -v grep || true"
SOCKETS = "ss -Hltun | awk '{print $5}' | sed 's/.*://' | sort -un"
SSH = "22\n"
DOORS = (
    "cd /run/user/$(id -u labfleet-worker); "
    "for door in bus systemd/private; do [ ! -e {0} ] || mv {0} {1}; done"
)
"""Where the systemd of the worker's user is reached."""


def remove(lab: Lab, machine: Machine, what: str, *more: str) -> Run:
    return play(lab.inventory, "playbooks/remove.yml", "--limit", machine.name, "-e", f"remove={what}", *more)


def gone(machine: Machine) -> None:
    """Nothing of ours runs, listens or starts with the machine."""
    assert {
        name: machine.run(look)
        for name, look in (("units", UNITS), ("files", FILES), ("processes", PROCESSES))
    } == {
        "units": "",
        "files": "",
        "processes": "",
    }
    assert machine.run(SOCKETS) == SSH
    assert "labfleet" not in machine.run("nft list tables 2>/dev/null || true")


def works_on(machine: Machine, user: Api, seconds: int) -> Json:
    """A job of one task that runs on the machine."""
    task = {
        "task": "long",
        "protocol": "acceptance-behave",
        "parameters": {"action": "wait", "number": seconds},
        "needs": {"tags": [f"machine.{machine.name}"], "time": "20m"},
    }
    answer = user.http.post("/api/v1/jobs", json={"tree": task})
    assert answer.status_code == 201, answer.text
    user.wait(answer.json(), "running")
    return answer.json()


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("-e", "remove=worker"), "Name the machines with --limit"),
            (("--limit", "spare", "-e", "remove=postgres"), "remove=everything or one of"),
            (("--limit", "spare", "-e", "remove=worker", "-e", "remove_data=yes"), "remove_data_of=spare"),
            (
                (
                    "--limit",
                    "spare",
                    "-e",
                    "remove=worker",
                    "-e",
                    "remove_data=yes",
                    "-e",
                    "remove_data_of=lab",
                ),
                "remove_data_of=spare",
            ),
        ],
    )
    def test_what_is_not_meant(
        self, lab: Lab, spare: Machine, arguments: tuple[str, ...], message: str
    ) -> None:
        run = play(lab.inventory, "playbooks/remove.yml", *arguments)
        assert run.code != 0
        assert message in " ".join(run.output.split())
        assert set(run.changed.values()) <= {0}
        spare.run("systemctl is-active labfleet-worker")

    def test_a_worker_that_works(self, lab: Lab, user: Api, spare: Machine) -> None:
        job = works_on(spare, user, 600)
        try:
            run = remove(lab, spare, "worker")
            assert run.code != 0
            assert "playbooks/drain.yml --limit spare" in " ".join(run.output.split())
            # A worker that does not say what runs there is not taken for idle.
            spare.run(DOORS.format("$door", "$door.away"))
            try:
                run = remove(lab, spare, "worker")
            finally:
                spare.run(DOORS.format("$door.away", "$door"))
            assert run.code != 0
            assert "the systemd of the user labfleet-worker can't be asked" in " ".join(run.output.split())
            spare.run("systemctl is-active labfleet-worker")
        finally:
            user.cancel(job)
            user.wait(job)


class TestOneComponent:
    def test_worker(self, lab: Lab, user: Api, spare: Machine) -> None:
        predicted = remove(lab, spare, "worker", "--check", "--diff").good()
        assert predicted.changed[spare.name] > 0
        spare.run("systemctl is-active labfleet-worker")
        remove(lab, spare, "worker").good()
        assert spare.run("systemctl list-units --all --plain --no-legend 'labfleet-worker*'") == ""
        assert spare.run("ps -u labfleet-worker -o pid= || true") == ""
        spare.run("test ! -e /etc/labfleet/worker.toml && test -d /var/lib/labfleet-worker")
        # The firewall belongs to the machine, not to the worker.
        spare.run("nft list table inet labfleet")
        assert remove(lab, spare, "worker").good().changed[spare.name] == 0
        site(lab.inventory, "--limit", spare.name).good()
        spare.run("systemctl is-active labfleet-worker")


class TestScale:
    def test_what_the_lab_needs_stays(self, lab: Lab, webserver: Machine) -> None:
        run = play(lab.inventory, "playbooks/scale.yml", "--limit", webserver.name)
        assert run.code != 0
        said = " ".join(run.output.split())
        assert "the lab has no rabbitmq and no database and no queue and no webserver left" in said
        assert set(run.changed.values()) <= {0}

    def test_a_worker_ends_what_it_runs_and_goes(self, lab: Lab, user: Api, spare: Machine) -> None:
        job = works_on(spare, user, 60)
        play(lab.inventory, "playbooks/scale.yml", "--limit", spare.name, "--check").good()
        spare.run("systemctl is-active labfleet-worker")
        play(lab.inventory, "playbooks/scale.yml", "--limit", spare.name).good()
        task = user.task(job)
        assert (task["state"], task["attempt"], task["worker"]) == ("success", 1, spare.name)
        gone(spare)
        assert spare.name not in {worker["name"] for worker in user.get("workers")["items"]}
        # It stands in the inventory still: a worker like any new one.
        site(lab.inventory).good()
        user.cancel(works_on(spare, user, 600))


class TestEverything:
    def test_data_are_kept(self, lab: Lab, user: Api, webserver: Machine) -> None:
        job = user.submit("acceptance-noop")
        task = user.wait(job, "success")
        # The worker on the other machine has nothing to do meanwhile.
        remove(lab, webserver, "everything", "--check").good()
        user.get(f"jobs/{job['id']}")
        remove(lab, webserver, "everything").good()
        gone(webserver)
        webserver.run("test -d /var/lib/labfleet/store/blobs && test -d /var/lib/postgresql")
        webserver.run("test ! -e /etc/labfleet && test ! -e /opt/labfleet")
        assert remove(lab, webserver, "everything").good().changed[webserver.name] == 0
        site(lab.inventory).good()
        kept = user.get(f"jobs/{job['id']}")
        assert kept["state"] == "success"
        assert kept["tasks"][0]["id"] == task["id"]
        assert user.wait(user.submit("acceptance-noop"), "success")
        assert set(site(lab.inventory).good().changed.values()) == {0}

    def test_data_that_are_to_go(self, lab: Lab, spare: Machine) -> None:
        """The last test: it leaves the machine bare."""
        data = ("-e", "remove_data=yes", "-e", f"remove_data_of={spare.name}")
        remove(lab, spare, "everything", *data).good()
        gone(spare)
        assert (
            spare.run("find / -xdev -path /proc -prune -o -name '*labfleet*' ! -name 'labfleet-lab-*' -print")
            == ""
        )
        assert spare.run("grep labfleet /etc/passwd /etc/group /etc/hosts || true") == ""
        assert remove(lab, spare, "everything", *data).good().changed[spare.name] == 0
