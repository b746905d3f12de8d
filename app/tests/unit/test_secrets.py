"""Secrets of the tiers while they are changed: what one tier gives is good at the other in every step."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from by_path import load

ROOT = Path(__file__).resolve().parents[3]
GROUPS = ("rabbitmq", "database", "queue", "worker", "webserver")
STEPS = {"learn": (0, True), "use": (-1, True), "forget": (-1, False), "site": (0, True)}
"""What playbooks/rotate_secrets.yml sets in each step, and what a site.yml in between or afterwards has."""
VALUES = (
    "postgresql_roles",
    "rabbitmq_users",
    "queue_front_ends",
    "queue_broker_password",
    "webserver_database_passwords",
    "webserver_runner_password",
    "webserver_signing_keys",
    "webserver_session_keys",
    "webserver_source_keys",
    "webserver_worker_tokens",
    "webserver_admin_password",
    "worker_broker_password",
    "worker_token",
)
KEYS = ("webserver_signing_keys", "webserver_session_keys", "webserver_source_keys")
Values = dict[str, Any]


class Lab:
    """An inventory of one machine, and what group_vars make of its secrets."""

    def __init__(self, folder: Path, given: dict[str, Any]) -> None:
        self.folder = folder
        self.secrets = folder / "inventory" / "secrets"
        self.secrets.mkdir(parents=True)
        hosts = {name: {"hosts": {"lab": {"ansible_connection": "local"}}} for name in GROUPS}
        everything = {"labfleet": {"children": hosts, "vars": {"labfleet_private_address": "127.0.0.1"}}}
        (folder / "inventory" / "hosts.yml").write_text(json.dumps(everything))
        vault = folder / "inventory" / "group_vars" / "labfleet" / "vault.yml"
        vault.parent.mkdir(parents=True)
        vault.write_text(json.dumps({"labfleet_given_secrets": given}))
        (folder / "group_vars").symlink_to(ROOT / "group_vars")
        self.rotation: Any = load("library/labfleet_rotation.py").Rotation(self.secrets)

    def values(self, *steps: str) -> list[Values]:
        """The variables of the roles, in these steps."""
        told = "{{ {" + ", ".join(f"'{name}': {name}" for name in VALUES) + "} | to_json }}"
        plays = [
            {
                "hosts": "all",
                "gather_facts": False,
                "vars": dict(zip(("labfleet_secret_side", "labfleet_secret_old"), STEPS[step], strict=True)),
                "tasks": [{"ansible.builtin.copy": {"content": told, "dest": f"{self.folder}/{step}"}}],
            }
            for step in steps
        ]
        (self.folder / "play.yml").write_text(json.dumps(plays))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        return [json.loads((self.folder / step).read_text()) for step in steps]


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    text = (ROOT / "playbooks" / "vars" / "rotate.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["rotate_kinds"]
    return found


def passwords(users: list[dict[str, str]]) -> dict[str, str]:
    return {user["name"]: user["password"] for user in users}


def hashes(value: str | list[str]) -> set[str]:
    return {value} if isinstance(value, str) else set(value)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def logins(values: Values) -> dict[str, list[str]]:
    """By the user of database or broker, the passwords that its clients try."""
    clients = {f"labfleet_{role}": text for role, text in values["webserver_database_passwords"].items()}
    clients |= {
        "labfleet_publisher": values["queue_broker_password"],
        "labfleet_worker": values["worker_broker_password"],
    }
    return {user: text.split("\n") for user, text in clients.items()}


def gets_in(clients: Values, servers: Values) -> None:
    """Every client has the password that its server knows, and the other way round no server has another."""
    known = passwords(servers["postgresql_roles"]) | passwords(servers["rabbitmq_users"])
    tried = logins(clients)
    assert {user for user, password in known.items() if password not in tried[user]} == set()


def runner_takes(giver: Values, checker: Values) -> None:
    assert sha256(giver["webserver_runner_password"]) in hashes(checker["queue_front_ends"]["web"])


def token_taken(giver: Values, checker: Values) -> None:
    assert sha256(giver["worker_token"]) in hashes(checker["webserver_worker_tokens"]["lab"])


def keys_taken(giver: Values, checker: Values) -> None:
    for name in KEYS:
        assert giver[name][0] in checker[name]


def test_every_secret_has_its_kind(kinds: dict[str, Any]) -> None:
    lengths = yaml.safe_load((ROOT / "group_vars" / "all.yml").read_text())["labfleet_secret_lengths"]
    named = [name for kind in kinds.values() for name in kind["names"] if isinstance(kind["names"], list)]
    assert sorted(named) == sorted(lengths)
    for kind in kinds.values():
        assert {*kind["learn"], *kind["use"], *kind["forget"]} <= set(GROUPS)


def test_what_one_tier_gives_is_good_at_the_other_in_every_step(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    [before] = lab.values("site")
    names = [path.name for path in lab.secrets.iterdir() if path.name != "admin_password"]
    lab.rotation.begin(names, 48)
    # `site` is what a site.yml makes of a change that is not finished.
    learn, use, site = lab.values("learn", "use", "site")
    lab.rotation.keep(["signing_key", "session_key", "source_key"], 8, 1_800_000_000.0)
    [forget] = lab.values("forget")
    lab.rotation.end()
    [after] = lab.values("site")

    # Step by step, each tier before or after its turn.
    for client, server in ((before, before), (learn, before), (learn, use), (forget, use), (after, after)):
        gets_in(client, server)
    gets_in(site, use)
    for giver, checker in ((before, learn), (learn, learn), (use, learn), (use, forget), (after, after)):
        runner_takes(giver, checker)
        token_taken(giver, checker)
        keys_taken(giver, checker)
    for giver, checker in ((before, use), (before, forget), (use, learn), (forget, use)):
        keys_taken(giver, checker)
    for giver in (before, use, site):
        runner_takes(giver, site)
        token_taken(giver, site)
        keys_taken(giver, site)

    # Nothing is left of the old ones but the keys, and the end changes nothing any more.
    assert forget == after
    text = json.dumps(after)
    for secret in logins(before).values():
        assert secret[0] not in text
    assert sha256(before["worker_token"]) not in text
    assert before["webserver_admin_password"] == after["webserver_admin_password"]


def test_a_vault_s_secrets_are_made_nowhere(tmp_path: Path) -> None:
    given = {"session_key": "of-a-vault", "worker_token_lab": ["old", "new"], "admin_password": "first"}
    lab = Lab(tmp_path, given)
    site, use = lab.values("site", "use")
    assert site["webserver_session_keys"] == ["of-a-vault"]
    assert site["webserver_admin_password"] == "first"
    assert site["worker_token"] == "lw_old"
    assert use["worker_token"] == "lw_new"
    assert site["webserver_worker_tokens"]["lab"] == [sha256("lw_old"), sha256("lw_new")]
    assert {path.name for path in lab.secrets.iterdir()} & set(given) == set()
