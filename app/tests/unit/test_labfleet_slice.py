"""What a machine is given that joins by itself: all that it needs, and nobody else's secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from by_path import load

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
OTHERS = {
    "rabbitmq": ["mq1", "mq2"],
    "database": ["db1"],
    "queue": ["queue1"],
    "webserver": ["web1"],
    "monitoring": ["web1"],
}
GIVEN = {
    "broker_password_publisher": "given-publisher-password",
    "admin_password": ["an old admin password", "a new admin password"],
    "worker_token_w1": "given-token-of-the-first",
}
TEMPLATED = "{{ no template }} {% of anybody %}"


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return load("plugins/action/labfleet_slice.py")


class Lab:
    """An inventory of several machines, of which `w9` is none yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.secrets = self.inventory / "secrets"
        (self.secrets / "tls").mkdir(parents=True)
        (folder / "group_vars").symlink_to(ROOT / "group_vars")
        vault = self.inventory / "group_vars" / "labfleet" / "vault.yml"
        vault.parent.mkdir(parents=True)
        vault.write_text(json.dumps({"labfleet_given_secrets": GIVEN}))
        for name in ("ca.crt", "w9.crt", "w9.key", "monitoring-clients.crt"):
            (self.secrets / "tls" / name).write_text(f"content of {name}\n")
        for name in ("ca.key", "monitoring-client.key", "monitoring-clients.key", "web1.key"):
            (self.secrets / "tls" / name).write_text(f"-----BEGIN-----\nprivate-{name}-of-the-controller\n")
        (folder / "release.tar").write_bytes(b"the release")
        machines = {name for names in OTHERS.values() for name in names} | {"w1"}
        self.hosts: dict[str, Any] = {
            name: {"labfleet_private_address": f"10.0.0.{number}"}
            for number, name in enumerate(sorted(machines), 10)
        }
        self.hosts["w9"] = {
            "labfleet_private_address": "10.0.0.99",
            "worker_tags": ["gpu"],
            "worker_slots": "{{ ansible_facts['processor_vcpus'] * 2 }}",
        }
        groups = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in OTHERS.items()}
        groups["worker"] = {"hosts": {"w1": {}, "w9": {}}}
        self.groups = groups

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Ask for w9's archive."""
        everything = {
            "labfleet": {"children": self.groups, "hosts": self.hosts},
        }
        text = json.dumps(everything).replace('["gpu"]', f'["gpu", !unsafe "{TEMPLATED}"]')
        (self.inventory / "hosts.yml").write_text(text)
        archive = {
            "release": str(self.folder / "release.tar"),
            "repository": str(ROOT / "app"),
            "archive": str(self.folder / "archive"),
        }
        play = {
            "hosts": "w9",
            "gather_facts": False,
            "tasks": [
                # As a run that has made the others' secrets.
                {
                    "ansible.builtin.debug": {
                        "msg": "{{ hostvars['web1'].webserver_worker_tokens }}"
                        "{{ hostvars['web1'].webserver_admin_password }}{{ labfleet_secrets }}"
                    }
                },
                {"labfleet_slice": archive, "register": "made"},
                {
                    "ansible.builtin.copy": {
                        "content": "{{ made | to_json }}",
                        "dest": str(self.folder / "made.json"),
                        "mode": "0600",
                    },
                    "delegate_to": "localhost",
                    "connection": "local",
                    "check_mode": False,
                },
            ],
        }
        (self.folder / "play.yml").write_text(json.dumps([play]))
        return subprocess.run(
            [
                str(BIN / "ansible-playbook"),
                "-i",
                str(self.inventory),
                str(self.folder / "play.yml"),
                *options,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": f"{BIN}:/usr/bin:/bin",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "HOME": str(self.folder),
            },
        )

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "made.json").read_text())
        return found

    def unpacked(self) -> Path:
        """What the machine finds when it has opened the archive as join.sh does."""
        (self.folder / "key").write_text(self.told["key"])
        opened = self.folder / "opened.tar.gz"
        command = ["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-pass", f"file:{self.folder / 'key'}"]
        subprocess.run(
            [*command, "-in", str(self.folder / "archive"), "-out", str(opened)],
            check=True,
            capture_output=True,
        )
        (self.folder / "machine").mkdir()
        subprocess.run(["tar", "-xzf", str(opened), "-C", str(self.folder / "machine")], check=True)
        return self.folder / "machine"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("lab"))
    ran = made.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return made


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Path:
    return lab.unpacked()


@pytest.fixture(scope="module")
def variables(machine: Path) -> dict[str, Any]:
    """The machine's variables as its own Ansible sees them, beside the group_vars of the repository."""
    play = [
        {
            "hosts": "w9",
            "gather_facts": False,
            "tasks": [
                {"ansible.builtin.set_fact": {"ansible_facts": {"processor_vcpus": 3}}},
                {
                    "ansible.builtin.copy": {
                        "content": "{{ {"
                        + ", ".join(f"'{name}': {name}" for name in RENDERED)
                        + "} | to_json }}",
                        "dest": str(machine / "seen.json"),
                        "mode": "0600",
                    }
                },
            ],
        }
    ]
    (machine / "repository" / "playbooks" / "see.yml").write_text(json.dumps(play))
    ran = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(machine / "inventory" / "hosts.yml"), "playbooks/see.yml"],
        cwd=machine / "repository",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(machine)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen: dict[str, Any] = json.loads((machine / "seen.json").read_text())
    return seen


RENDERED = (
    "worker_broker_password",
    "worker_broker_hosts",
    "worker_broker_ca_file",
    "worker_token",
    "worker_tags",
    "worker_front_ends",
    "common_hosts",
    "firewall_rules",
    "monitoring_exporters",
    "monitoring_server",
    "monitoring_tls_key_file",
    "monitoring_client_key_file",
    "app_extras",
    "labfleet_monitored",
    "labfleet_authority_here",
    "labfleet_links",
)


def test_the_machine_has_what_the_lab_would_have_given_it(
    lab: Lab, machine: Path, variables: dict[str, Any]
) -> None:
    secrets = lab.secrets
    assert variables["worker_broker_password"] == (secrets / "broker_password_worker").read_text().strip()
    assert variables["worker_token"] == "lw_" + (secrets / "worker_token_w9").read_text().strip()
    assert sorted(variables["worker_broker_hosts"]) == ["10.0.0.11", "10.0.0.12"]
    assert variables["worker_tags"] == ["gpu", TEMPLATED]
    assert Path(variables["worker_broker_ca_file"]).read_text() == "content of ca.crt\n"
    web = variables["worker_front_ends"]["web"]
    assert web["url"] == f"https://{lab.hosts['web1']['labfleet_private_address']}"
    assert Path(web["ca_file"]).read_text() == "content of ca.crt\n"
    assert {host["names"][0] for host in variables["common_hosts"]} >= set(lab.hosts) - {"w9"}
    assert {rule["port"] for rule in variables["firewall_rules"]} == {9100, 9180}
    assert variables["app_extras"] == ["worker"]
    assert variables["labfleet_authority_here"] is False
    assert (machine / "releases" / "release.tar").read_bytes() == b"the release"


def test_exporters_have_their_certificate_and_nobody_s_besides(variables: dict[str, Any]) -> None:
    assert variables["monitoring_exporters"] == ["node", "labfleet"]
    assert Path(variables["monitoring_tls_key_file"]).read_text() == "content of w9.key\n"
    assert variables["monitoring_server"] is False
    assert variables["monitoring_client_key_file"] == ""


def test_it_can_be_asked_whether_it_reaches_the_others(machine: Path, variables: dict[str, Any]) -> None:
    told = yaml.safe_load((machine / "inventory/hosts.yml").read_text().replace("!unsafe", ""))
    links = {(link["to"], link["port"]) for link in variables["labfleet_links"]}
    assert links == {("rabbitmq", 5671), ("webserver", 443)}
    assert set(told) == {"labfleet", "rabbitmq", "webserver"}
    assert set(told["rabbitmq"]["hosts"]) == {"mq1", "mq2"}
    assert all(set(host) == {"labfleet_private_address"} for host in told["rabbitmq"]["hosts"].values())


def test_facts_are_asked_on_the_machine(machine: Path) -> None:
    text = (machine / "inventory/hosts.yml").read_text()
    assert "worker_slots: '{{ ansible_facts[''processor_vcpus''] * 2 }}'" in text


def test_no_other_secret_is_in_it(lab: Lab, machine: Path) -> None:
    own = {"broker_password_worker", "worker_token_w9", "w9.key"}
    others = {
        line
        for path in lab.secrets.rglob("*")
        if path.is_file() and path.name not in own and path.suffix != ".crt"
        for line in path.read_text().split("\n")
        if line and not line.startswith("-----")
    }
    others |= {text for value in GIVEN.values() for text in ([value] if isinstance(value, str) else value)}
    # Passwords of the database, of the front end, of others' tokens …: they were made, so the test can fail.
    assert len(others) > 10
    told = "".join(
        path.read_text(errors="replace")
        for path in machine.rglob("*")
        if path.is_file() and ".git" not in path.parts
    )
    assert [text for text in others if text in told] == []
    archive = lab.folder / "archive"
    assert archive.stat().st_mode & 0o777 == 0o600
    assert all((machine / "inventory/hosts.yml").stat().st_mode & bits == 0 for bits in (0o077,))


def test_a_key_is_not_taken_for_its_certificate(plugin: ModuleType, tmp_path: Path) -> None:
    """The last lines of a key hold its public half, which stands in the certificate that machines have."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    key = folder / "monitoring-clients.key"
    subject = "/CN=Labfleet monitoring"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-keyout", str(key)]
    command = ["openssl", "req", "-x509", *kind, "-subj", subject, "-out", str(folder / "clients.crt")]
    subprocess.run(command, check=True, capture_output=True)
    lines = [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    others = plugin.foreign(folder, {}, plugin.own_secrets("w9"))
    assert list(others.values()) == ["monitoring-clients.key"]

    def leaks(text: str) -> list[str]:
        found: list[str] = plugin.leaks(
            plugin.Slice("w9", {"labfleet": {"children": {"worker": {"hosts": {"w9": {"v": text}}}}}}), others
        )
        return found

    # Where they meet depends on the length of the names in the certificate: here they do for certain.
    assert leaks((folder / "clients.crt").read_text() + "\n".join(lines[1:])) == []
    assert leaks(key.read_text()) == leaks("".join(lines)) == ["monitoring-clients.key"]


def test_the_repository_is_one_that_git_clones_and_ansible_reads(machine: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", f"file://{machine / 'repository'}", str(clone)],
        check=True,
        capture_output=True,
    )
    assert (clone / "site.yml").is_file()  # validate.yml reads it
    ran = subprocess.run(
        [
            *(str(BIN / "ansible-playbook"), "--syntax-check", "playbooks/join.yml"),
            *("-i", str(machine / "inventory/hosts.yml")),
        ],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    build = str(clone / "roles/app/files/build_release.py")
    names = []
    for source in (ROOT / "app", clone / "app"):
        command = [
            sys.executable,
            build,
            "--source",
            str(source),
            "--cache",
            str(tmp_path),
            "--uv",
            "uv",
            "--dry-run",
        ]
        command += ["--python-version", "3.13", "--architecture", "x86_64", "--extras", "worker"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        names.append(json.loads(done.stdout)["name"])
    assert names[0] == names[1], "the machine looks for the release under another name"


def test_the_same_is_found_wrong_before_anything_is_written(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.hosts["w9"]["worker_package_index_url"] = "https://given-publisher-password.example.org/simple"
    ran = lab.run("--check")
    assert ran.returncode != 0
    assert "secrets of others: broker_password_publisher" in ran.stdout
    assert "given-publisher-password" not in ran.stdout.replace('"hosts"', "").split("secrets of others")[1]
    assert not (tmp_path / "archive").exists()


def test_what_nobody_can_tell_yet_is_named(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.hosts["w9"]["worker_slots"] = "{{ half_of_them }}"
    ran = lab.run("--check")
    assert ran.returncode != 0
    assert "worker_slots can't be told before the machine is there" in ran.stdout


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    ran = lab.run("--check")
    assert ran.returncode == 0, ran.stdout
    assert lab.told["changed"]
    assert "worker_token" in lab.told["variables"]
    assert not (tmp_path / "archive").exists()


def test_every_variable_that_names_a_file_of_the_controller_is_known(plugin: ModuleType) -> None:
    """As the roles' specifications tell it; or the variable is another thing on the machine."""
    named = {
        name
        for role in plugin.ROLES
        for name, option in yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())[
            "argument_specs"
        ]["main"]["options"].items()
        if "on the controller" in json.dumps(option["description"])
    }
    wanted = {name for name in named if not name.startswith("monitoring_client")}
    assert "worker_front_ends" in named
    assert wanted <= set(plugin.CONTROLLER_FILES) | set(plugin.HERE)


def test_the_roles_are_those_of_the_playbook(plugin: ModuleType) -> None:
    text = "".join((ROOT / "playbooks" / name).read_text() for name in ("worker.yml", "monitoring.yml"))
    for role in plugin.ROLES:
        assert f"role: {role}\n" in text or f"name: {role}\n" in text
