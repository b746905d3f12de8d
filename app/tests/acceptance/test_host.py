"""Rows 18 and 19: exactly these sockets, units and modes on a host of these tiers, and no secret in sight."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from .lab import REPOSITORY, Lab, Machine, inventory_path, load
from .playbook import Run

LAB = load(inventory_path())
every_machine = pytest.mark.parametrize("machine", LAB.machines.values(), ids=LAB.machines.keys())

PUBLIC = {"0.0.0.0"}
SSH = {("tcp", "0.0.0.0", 22), ("tcp", "[::]", 22)}


def expected_sockets(machine: Machine) -> set[tuple[str, str, int]]:
    """What a host of these tiers listens on: nginx in public, services inside."""
    inside = {"127.0.0.1", machine.private_address}
    found = set(SSH)
    if "webserver" in machine.tiers:
        found |= {("tcp", address, port) for address in PUBLIC for port in (80, 443)}
    if "queue" in machine.tiers:
        found |= {("tcp", machine.private_address, 8443)}
    if "database" in machine.tiers:
        found |= {("tcp", address, 5432) for address in inside}
    if "rabbitmq" in machine.tiers:
        found |= {("tcp", address, 5671) for address in inside}
        # The port mapper and Erlang's distribution: one node has nobody to talk to.
        found |= {("tcp", "127.0.0.1", port) for port in (4369, 25672)}
    return found


def listening(machine: Machine) -> set[tuple[str, str, int]]:
    """TCP and UDP sockets that wait for somebody."""
    found = set()
    for line in machine.run("ss -Hltun").splitlines():
        fields = line.split()
        address, _, port = fields[4].rpartition(":")
        found.add((fields[0], address.partition("%")[0].replace("*", "[::]"), int(port)))
    return found


class TestSockets:
    @every_machine
    def test_exactly_these(self, machine: Machine) -> None:
        assert listening(machine) == expected_sockets(machine)

    @every_machine
    def test_unix_sockets_of_ours(self, machine: Machine) -> None:
        lines = machine.run("find /run -path '/run/labfleet*' -type s -printf '%m %u:%g %p\\n'").splitlines()
        expected = set()
        if "webserver" in machine.tiers:
            expected |= {"660 root:www-data /run/labfleet-web/web.sock"}
            expected |= {"660 labfleet-fetcher:labfleet-fetcher /run/labfleet-fetcher/fetcher.sock"}
        if "queue" in machine.tiers:
            expected |= {"660 root:www-data /run/labfleet-runner/fcgi.sock"}
            expected |= {"660 labfleet-publisher:labfleet-runner /run/labfleet-publisher/publisher.sock"}
        assert set(lines) == expected

    @every_machine
    def test_tiers_are_closed_to_the_outside(self, machine: Machine) -> None:
        for port in (5432, 5671, 8443, 4369, 25672):
            done = subprocess.run(
                ["timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{machine.address}/{port}"],
                capture_output=True,
                check=False,
            )
            assert done.returncode != 0, f"{port} answers from the controller"


ANYWHERE = {"0.0.0.0/0", "::/0"}
FIREWALL_HEAD = [
    "type filter hook input priority filter; policy drop;",
    "ct state vmap { invalid : drop, established : accept, related : accept }",
    'iif "lo" accept',
    "meta l4proto { 1, 58 } accept",
    "ip6 saddr fe80::/10 udp dport 546 accept",
]


def expected_doors(machine: Machine) -> set[tuple[str, int]]:
    """Whom the firewall of a host of these tiers lets in, as source and TCP port."""

    def others(*tiers: str) -> set[str]:
        """Private addresses of the other machines of these tiers."""
        return {
            other.private_address
            for other in LAB.machines.values()
            if other.name != machine.name and other.tiers & set(tiers)
        }

    webservers = {other.private_address for other in LAB.of("webserver")}
    doors = {(source, 22) for source in ANYWHERE}
    if "webserver" in machine.tiers:
        doors |= {(source, port) for source in ANYWHERE for port in (80, 443)}
        doors |= {(source, 443) for source in others("worker")}
    if "queue" in machine.tiers:
        doors |= {(source, 8443) for source in webservers}
    if "database" in machine.tiers:
        doors |= {(source, 5432) for source in webservers}
    if "rabbitmq" in machine.tiers:
        doors |= {(source, 5671) for source in others("queue", "worker")}
    return doors


def doors(rule: dict[str, Any]) -> set[tuple[str, int]]:
    """The sources and ports of one rule that lets somebody in."""
    given = {match["left"]["payload"]["field"]: match["right"] for match in matches(rule)}
    assert rule["expr"][-1] == {"accept": None}, rule
    return {
        (source(address), port) for address in several(given["saddr"]) for port in several(given["dport"])
    }


def matches(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """What a rule compares in packets."""
    found = [part["match"] for part in rule["expr"] if "match" in part]
    return [match for match in found if "payload" in match["left"]]


def several(value: Any) -> list[Any]:
    """The members of a set, or the one value."""
    return list(value["set"]) if isinstance(value, dict) and "set" in value else [value]


def source(address: Any) -> str:
    """An address or network as text."""
    return address if isinstance(address, str) else f"{address['prefix']['addr']}/{address['prefix']['len']}"


class TestFirewall:
    @every_machine
    def test_exactly_these_doors(self, machine: Machine) -> None:
        listing = json.loads(machine.run("nft --json list table inet labfleet"))["nftables"]
        tcp = [
            rule
            for entry in listing
            for rule in [entry.get("rule", {"expr": []})]
            if any(match["left"]["payload"]["protocol"] == "tcp" for match in matches(rule))
        ]
        assert set().union(*(doors(rule) for rule in tcp)) == expected_doors(machine)

    @every_machine
    def test_nothing_else(self, machine: Machine) -> None:
        lines = machine.run("nft --numeric-protocol list table inet labfleet").splitlines()
        assert [line.strip() for line in lines if " tcp dport " not in line] == [
            "table inet labfleet {",
            "chain input {",
            *FIREWALL_HEAD,
            "}",
            "}",
        ]


def patterns(lab: Lab) -> list[str]:
    """Every secret value kept beside the inventory, and the forms in which it travels."""
    found: set[str] = set()
    for path in sorted(lab.secrets.rglob("*")):
        if (
            path.is_file()
            and path.suffix not in {".crt", ".csr", ".pub", ".json"}
            and "known_hosts" not in path.name
        ):
            found |= values(path.read_text())
    found |= {
        base64.b64encode(f"{name}:{value}".encode()).decode().rstrip("=")
        for value in list(found)
        for name in ("web", "labfleet_web")
        if "/" not in value
    }
    assert len(found) >= 10, "the lab's secrets are not where they are looked for"
    return sorted(found)


def values(text: str) -> set[str]:
    """The values in one file: a password is one line; of a private key every line of its body counts."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("-----")]
    found = {line.split(" salt=")[0] for line in lines if len(line) >= 16 or len(lines) == 1}
    public = public_half(text) if "PRIVATE KEY" in text else ""
    return {value for value in found if value not in public}


def public_half(text: str) -> str:
    """A private key's file ends with its public key, which is no secret."""
    load = load_ssh_private_key if "OPENSSH" in text else load_pem_private_key
    public = load(text.encode(), None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


LARGEST_LEFT = 20_000_000
CAT = "-print0 | xargs -0 -r cat 2>/dev/null"
PLACES = {
    "journal": "journalctl --no-pager -o export -a",
    "processes": "ps auxewww",
    "environments": "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'",
    "logs": f"find /var/log -xdev -type f ! -path '*/journal/*' -size -50M {CAT}",
    "homes": f"find /root /home /tmp /var/tmp -xdev -type f -size -50M {CAT}",
    "readable files": "find /etc /opt /usr/local /var /run /srv -xdev -type f -perm -o=r -size -20M "
    f"! -path '/var/cache/*' ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' {CAT}",
    "units": "systemctl show '*' --property=Environment,ExecStart,SetCredential --no-pager",
}


class TestSecrets:
    @every_machine
    def test_nowhere_in_sight(self, lab: Lab, machine: Machine) -> None:
        hits: dict[str, str] = {}
        with_patterns = "\n".join(patterns(lab)).encode()
        file = "/dev/shm/labfleet-acceptance-patterns"
        store = subprocess.run(
            machine.ssh("sh", "-c", f"'umask 077; cat > {file}'"), input=with_patterns, check=False
        )
        assert store.returncode == 0
        try:
            for place, command in PLACES.items():
                lines = machine.run(f"({command}) | grep -aFf {file} | cut -c1-60 | head -5 || true")
                hits |= {place: lines} if lines.strip() else {}
        finally:
            machine.run(f"rm -f {file}")
        assert hits == {}

    def test_not_in_what_ansible_prints(self, lab: Lab, again: Run) -> None:
        texts = {"run at -vvv": again.output, **self.kept_logs(), **self.left_by_ansible()}
        found = [
            (name, value[:4]) for name, text in texts.items() for value in patterns(lab) if value in text
        ]
        assert found == []

    def kept_logs(self) -> dict[str, str]:
        """The log of the first run, when there is one, and all that `./lab` keeps."""
        given = [Path(os.environ["LABFLEET_ANSIBLE_LOG"])] if "LABFLEET_ANSIBLE_LOG" in os.environ else []
        kept = [*given, *(REPOSITORY / ".lab" / "logs").rglob("*.log")]
        return {str(path): path.read_text(errors="replace") for path in kept if path.is_file()}

    def left_by_ansible(self) -> dict[str, str]:
        """Caches, temporary files and the like, of this user on this computer."""
        texts = {}
        for path in (Path.home() / ".ansible").rglob("*"):
            # Molecule's machines, made by roles' tests that run beside, have keys of their own there.
            if any(part.startswith("molecule.") for part in path.parts):
                continue
            # Another run may have ended meanwhile.
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_size < LARGEST_LEFT:
                    texts[str(path)] = path.read_text(errors="replace")
        return texts

    def test_kept_for_the_owner_only(self, lab: Lab) -> None:
        for path in lab.secrets.rglob("*"):
            mode = path.stat().st_mode & 0o777
            public = path.suffix in {".crt", ".csr", ".pub"} or "known_hosts" in path.name
            assert mode & 0o077 == 0 or public, f"{path} has mode {mode:o}"

    def test_git_does_not_see_them(self, lab: Lab) -> None:
        done = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=all", str(lab.secrets)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == ""


OWN_UNITS = {
    "webserver": {
        "labfleet-web.service",
        "labfleet-web.socket",
        "labfleet-dispatcher.service",
        "labfleet-data.service",
        "labfleet-loader.service",
        "labfleet-fetcher.service",
        "labfleet-sweep.timer",
        "labfleet-gc.timer",
    },
    "queue": {"labfleet-runner.service", "labfleet-runner.socket", "labfleet-publisher.service"},
    "worker": {"labfleet-worker.service"},
}
TIMED = {"labfleet-sweep", "labfleet-gc"}
"""Services that a timer starts."""
EVERYWHERE = {"labfleet-firewall.service"}
"""Units of every machine, whatever its tiers."""
PASSING = ("labfleet-attempt-", "labfleet-lab-")
"""Units of running attempts, and those that the image of a test machine brings."""
CREDENTIALS = {
    "labfleet-web": {"database_password", "signing_keys", "session_key", "source_keys", "worker_tokens"},
    "labfleet-dispatcher": {"database_password", "signing_keys", "runner_password"},
    "labfleet-data": {"database_password"},
    "labfleet-loader": {"database_password", "source_keys"},
    "labfleet-fetcher": set(),
    "labfleet-sweep": {"database_password"},
    "labfleet-gc": {"database_password"},
    "labfleet-runner": {"front_ends"},
    "labfleet-publisher": {"broker_password"},
    "labfleet-worker": {"broker_password", "worker_token"},
}
MOST_EXPOSED = {
    "labfleet-web": 2.0,
    "labfleet-dispatcher": 2.0,
    "labfleet-data": 2.0,
    "labfleet-loader": 2.0,
    "labfleet-fetcher": 2.0,
    "labfleet-sweep": 2.0,
    "labfleet-gc": 2.0,
    "labfleet-publisher": 2.0,
    "labfleet-runner": 3.0,
    "labfleet-worker": 5.0,
}


USERS = {"labfleet-loader": "labfleet-web", "labfleet-sweep": "labfleet-web", "labfleet-gc": "labfleet-web"}
"""Services that run as the user of another one."""
OUTWARD = {"labfleet-fetcher"}
"""Services that talk to more than the lab, and to none of its machines."""


EXPECTED = Path(__file__).parent / "expected"


def normal(machine: Machine, text: str) -> list[str]:
    """A unit's lines without what differs from lab to lab: release, digests, names, numbers of users."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    kept = [line for line in lines if line and not line.startswith(("#", "X-Labfleet-", "IPAddressAllow="))]
    named = [re.sub(rf"(hostname |https://){machine.name}\b", r"\1NAME", line) for line in kept]
    return [re.sub(r"(/run/user/|user@)\d+", r"\1UID", line) for line in named]


def services(machine: Machine) -> list[str]:
    """Our services on a host of these tiers."""
    units = {
        unit.replace(".timer", ".service") for tier in machine.tiers for unit in OWN_UNITS.get(tier, set())
    }
    return sorted(unit.removesuffix(".service") for unit in units if unit.endswith(".service"))


class TestUnits:
    @every_machine
    def test_exactly_these_are_installed_and_run(self, machine: Machine) -> None:
        listing = machine.run("systemctl list-units --all --plain --no-legend 'labfleet*' --no-pager")
        rows = [line.split()[:4] for line in listing.splitlines()]
        timed = {f"{name}.service" for name in TIMED}
        own = {row[0]: row[2] for row in rows if not row[0].startswith(PASSING) and row[0] not in timed}
        expected = EVERYWHERE | {unit for tier in machine.tiers for unit in OWN_UNITS.get(tier, set())}
        assert own == dict.fromkeys(expected, "active")

    @every_machine
    def test_nothing_failed(self, machine: Machine) -> None:
        assert machine.run("systemctl --failed --plain --no-legend --no-pager") == ""

    @every_machine
    def test_user_and_credentials(self, machine: Machine) -> None:
        for service in services(machine):
            text = machine.run(f"systemctl cat {service}.service")
            assert re.findall(r"^User=(.+)$", text, re.MULTILINE) == [USERS.get(service, service)]
            loaded = re.findall(r"^LoadCredential=([a-z_]+):(\S+)$", text, re.MULTILINE)
            assert {name for name, _ in loaded} == CREDENTIALS[service], service
            assert all(path.startswith("/etc/labfleet/credentials/") for _, path in loaded)
            assert not re.search(r"^(SetCredential|PassEnvironment|EnvironmentFile)=", text, re.MULTILINE)

    @every_machine
    def test_text(self, machine: Machine) -> None:
        units = EVERYWHERE | {unit for tier in machine.tiers for unit in OWN_UNITS.get(tier, set())}
        units |= {unit.replace(".timer", ".service") for unit in units}
        for unit in sorted(units):
            expected = (EXPECTED / unit).read_text().splitlines()
            assert normal(machine, machine.run(f"cat /etc/systemd/system/{unit}")) == expected, unit

    @every_machine
    def test_talks_to_the_lab_only(self, machine: Machine) -> None:
        known = {"localhost", "127.0.0.1", *(other.private_address for other in LAB.machines.values())}
        for service in services(machine):
            text = machine.run(f"systemctl cat {service}.service")
            if service in OUTWARD:
                assert "IPAddressDeny=127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 " in text, service
                continue
            assert "IPAddressDeny=any" in text, service
            assert set(" ".join(re.findall(r"^IPAddressAllow=(.+)$", text, re.MULTILINE)).split()) <= known

    @every_machine
    def test_hardened(self, machine: Machine) -> None:
        exposure = {}
        for service in services(machine):
            listing = machine.run(f"systemd-analyze security --no-pager {service}.service || true")
            exposure[service] = float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", listing)[0])
        too_open = {name: level for name, level in exposure.items() if level > MOST_EXPOSED[name]}
        assert too_open == {}, exposure

    @every_machine
    def test_code_belongs_to_another_user(self, machine: Machine) -> None:
        if not services(machine):
            return
        strange = machine.run("find /opt/labfleet ! -user root -o -perm /022 ! -type l | head -5")
        assert strange == ""
        assert "/opt/labfleet/releases/" in machine.run("readlink -f /opt/labfleet/current")


class TestModes:
    @every_machine
    def test_configuration(self, machine: Machine) -> None:
        lines = machine.run("find /etc/labfleet -printf '%M %u:%g %p\\n'").splitlines()
        for line in lines:
            mode, owner, path = line.split(" ", 2)
            assert owner == "root:root", line
            assert mode[8] != "w" and mode[5] != "w", line
            if "/credentials" in path or path.endswith(".key"):
                assert mode in {"drwx------", "-rw-------"}, line
        tomls = {Path(line.split()[2]).stem for line in lines if line.endswith(".toml")}
        assert tomls == machine.tiers & {"webserver", "queue", "worker"}

    @every_machine
    def test_data_of_the_webserver(self, machine: Machine) -> None:
        if "webserver" not in machine.tiers:
            return
        folders = "blobs tmp logs"
        show = "stat -c '%A %U:%G %n'"
        listing = machine.run(
            f"cd /var/lib/labfleet && {show} . store protocols && cd store && {show} {folders}"
        )
        assert listing.splitlines() == [
            "drwxr-xr-x root:root .",
            "drwxr-x--- labfleet-web:labfleet-web store",
            "drwxr-x--- labfleet-web:labfleet-web protocols",
            *(f"drwxr-x--- labfleet-web:labfleet-web {name}" for name in folders.split()),
        ]
        open_files = machine.run(
            "find /var/lib/labfleet/store /var/lib/labfleet/protocols -perm /007 | head -5"
        )
        assert open_files == ""

    @every_machine
    def test_attempts_of_the_worker(self, machine: Machine) -> None:
        if "worker" not in machine.tiers:
            return
        mode = machine.run(
            "stat -c '%a %U' /var/lib/labfleet-worker /var/lib/labfleet-worker/attempts"
        ).splitlines()
        assert mode == ["700 labfleet-worker", "700 labfleet-worker"]
        assert machine.run("ls /var/lib/systemd/linger").split() == ["labfleet-worker"]

    def test_broker_rights(self, broker: Machine) -> None:
        listing = json.loads(broker.run("rabbitmqctl -q -p labfleet list_permissions --formatter json"))
        rights = {row["user"]: (row["configure"], row["write"], row["read"]) for row in listing}
        ours = r"^labfleet\..*"
        assert rights == {"labfleet_publisher": (ours, ours, ours), "labfleet_worker": ("^$", "^$", ours)}
        users = json.loads(broker.run("rabbitmqctl -q list_users --formatter json"))
        assert "guest" not in {row["user"] for row in users}
