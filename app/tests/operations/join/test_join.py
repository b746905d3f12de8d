"""A bare machine joins as a worker by the one program that the controller has written for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from acceptance.api import Api, Json, connect
from acceptance.lab import Lab, Machine
from acceptance.playbook import Run, play, site
from acceptance.waiting import wait_for


def invite(lab: Lab, *options: str) -> Run:
    return play(lab.inventory, "playbooks/invite.yml", "-e", "worker=spare", *options)


def address(machine: Machine) -> tuple[str, str]:
    return "-e", f"address={machine.address}"


def files(lab: Lab) -> Path:
    return lab.secrets / "joins" / "spare"


def hand_over(machine: Machine, content: bytes) -> str:
    """What somebody does who has a machine and the program; gives its path there."""
    path = "/root/join.sh"
    command = machine.ssh("sh", "-c", f"'umask 077; cat >{path}'")
    subprocess.run(command, input=content, check=True, capture_output=True)
    return path


def workers(api: Api) -> dict[str, Json]:
    return {worker["name"]: worker for worker in api.get("workers")["items"]}


@pytest.fixture(scope="session")
def invited(lab: Lab, spare: Machine) -> bytes:
    """The program for the machine."""
    invite(lab, *address(spare)).good()
    return (files(lab) / "join.sh").read_bytes()


class TestRefusals:
    def test_who_is_no_worker_is_not_invited(self, lab: Lab) -> None:
        done = play(lab.inventory, "playbooks/invite.yml", "-e", "worker=nobody")
        assert done.code != 0
        assert "put it into the group worker" in done.output

    def test_nor_who_is_more_than_a_worker(self, lab: Lab) -> None:
        done = play(lab.inventory, "playbooks/invite.yml", "-e", "worker=lab")
        assert done.code != 0
        assert "Only a machine that is a worker and nothing else" in done.output

    def test_nor_one_without_an_address(self, lab: Lab) -> None:
        done = invite(lab)
        assert done.code != 0
        assert "labfleet_private_address" in done.output


def test_check_mode_foretells_and_writes_nothing(lab: Lab, spare: Machine, webserver: Machine) -> None:
    invite(lab, *address(spare), "--check").good()
    assert not (files(lab) / "join.sh").exists()
    assert webserver.run("labfleet-admin join list") == ""


def test_the_program_is_its_owner_s_and_waits_at_the_webserver(
    lab: Lab, webserver: Machine, invited: bytes
) -> None:
    for name in ("join.sh", "user-data"):
        assert (files(lab) / name).stat().st_mode & 0o777 == 0o600
    given = yaml.safe_load((files(lab) / "user-data").read_text())
    assert given["write_files"][0]["path"] == "/root/labfleet-join.sh"
    assert (files(lab) / "user-data").read_text().startswith("#cloud-config\n")
    assert webserver.run("labfleet-admin join list").startswith("spare\t")
    # What is kept there is encrypted: the webserver must not know the broker's password.
    kept = "/var/lib/labfleet/store/joins"
    assert webserver.run(f"stat -c %a:%U {kept} {kept}/*").split() == ["700:labfleet-web", "600:labfleet-web"]
    assert webserver.run(f"head -c 8 {kept}/*") == "Salted__"
    password = lab.secret("broker_password_worker").encode()
    assert password not in invited


def test_a_bare_machine_becomes_a_worker(
    lab: Lab, spare: Machine, user: Api, admin: Api, invited: bytes
) -> None:
    assert spare.run("ls /etc/labfleet /opt/labfleet 2>&1 || true").count("No such file") == 2
    path = hand_over(spare, invited)
    told = spare.run(f"sh {path} 2>&1 || {{ echo; echo failed; }}")
    assert "This machine is the worker spare." in told, told
    assert lab.secret("broker_password_worker") not in told
    assert spare.run("ls -d /var/lib/labfleet-join 2>/dev/null || true") == ""
    wait_for(lambda: "spare" in workers(admin), 60, "the new worker to report", lambda: workers(admin))
    task = {"task": "first", "protocol": "acceptance-noop", "needs": {"tags": ["machine.spare"]}}
    answer = user.http.post("/api/v1/jobs", json={"tree": task})
    assert answer.status_code == 201, answer.text
    done = user.wait(answer.json(), seconds=120)
    assert (done["state"], done["worker"]) == ("success", "spare")


def test_what_came_to_it_is_its_own_and_nobody_else_s(lab: Lab, spare: Machine) -> None:
    secrets = {
        path.name: path.read_text().strip()
        for path in lab.secrets.iterdir()
        if path.is_file() and path.name not in {"broker_password_worker", "worker_token_spare"}
    }
    assert len(secrets) > 8
    for name, value in secrets.items():
        found = subprocess.run(
            spare.ssh("grep", "-rlFf", "-", "/etc", "/root", "/opt", "/var/lib", "/var/log"),
            input=value.encode(),
            capture_output=True,
            check=False,
        )
        assert found.stdout == b"", name


def test_nobody_joins_twice(lab: Lab, spare: Machine, admin: Api, invited: bytes) -> None:
    assert "there is nothing to do" in spare.run("sh /root/join.sh")
    token = re.search(rb"^lj_\S+$", invited, re.MULTILINE)
    assert token
    with connect(lab.url, lab.ca_file, token[0].decode()) as http:
        assert http.post("/api/v1/workers/spare/join").status_code == 410
    kinds = [entry["action"] for entry in admin.get("audit?kind=worker")["items"]]
    assert kinds[:3] == ["worker.join_refused", "worker.joined", "worker.invited"]


def test_site_yml_finds_nothing_to_change_there(lab: Lab) -> None:
    """What the machine rendered for itself is what the controller would bring it, certificates and all."""
    run = site(lab.inventory).good()
    assert run.changed["spare"] == 0, run.changes
