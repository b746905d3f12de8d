#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Say what is wrong with one machine of a lab, and what to do. Looks only; standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_self_check
short_description: Say what is wrong with one machine of a lab, and what to do
description:
  - Looks at units, sockets, what its tiers offer and need, disk, memory, clock, certificates, backup.
  - What stands on the machine is read from C(/etc/labfleet) and from the units; nothing is changed.
options:
  tiers:
    description: Groups of this machine; those that are tiers say what should run here.
    type: list
    elements: str
    default: []
  controller_time:
    description: Seconds since 1970 by the controller's clock, just before the module ran.
    type: float
    required: true
  clock_seconds:
    description: By how much the clock may differ from the controller's.
    type: float
    default: 10
  disk_percent:
    description: Part of a file system that should be free; below half of it is an error.
    type: float
    default: 10
  memory_percent:
    description: Part of the memory that should be available.
    type: float
    default: 5
  certificate_days:
    description: A certificate that ends sooner is worth a warning.
    type: float
    default: 30
  certificate_error_days:
    description: A certificate that ends sooner is an error.
    type: float
    default: 7
  backup_status_file:
    description: What the last backup left on this machine, as JSON; not looked at where it is not there.
    type: path
    default: /var/lib/labfleet-backup/status.json
  backup_hours:
    description: The last backup that succeeded may be so old.
    type: float
    default: 26
  upkeep_directory:
    description: A file for each piece of upkeep, as old as its last success; not looked at where it is not there.
    type: path
    default: /var/lib/labfleet-upkeep
  upkeep_hours:
    description: What a timer starts (C(labfleet-sweep), C(labfleet-gc)) may have succeeded so long ago.
    type: float
    default: 192
  timeout_seconds:
    description: How long another part may take to answer.
    type: float
    default: 10
author: Labfleet
"""

EXAMPLES = r"""
- name: Look at this machine
  labfleet_self_check:
    tiers: "{{ group_names }}"
    controller_time: "{{ lookup('ansible.builtin.pipe', 'date +%s.%N') }}"
"""

RETURN = r"""
findings:
  description: What is wrong, each with C(level) (error or warning), C(what) and C(remedy).
  type: list
  returned: always
code:
  description: The version of the application that the machine runs and a hash of its code, the same whatever tiers the
    release was built for. Empty where it has none, or runs from a mounted tree.
  type: str
  returned: always
time:
  description: Seconds since 1970 by the machine's clock.
  type: float
  returned: always
"""

ERROR, WARNING = "error", "warning"
ETC = Path("/etc/labfleet")
CURRENT = Path("/opt/labfleet/current")
UNITS = Path("/etc/systemd/system")
NGINX_SITES = Path("/etc/nginx/labfleet.d")
DATA = (
    "/",
    "/var",
    "/opt",
    "/tmp",  # noqa: S108 - asked for its room only
    "/var/lib/labfleet",
    "/var/lib/labfleet-worker",
    "/var/lib/postgresql",
    "/var/lib/rabbitmq",
)
UNITS_OF_TIER = {
    "webserver": "nginx.service",
    "queue": "nginx.service",
    "rabbitmq": "rabbitmq-server.service",
    "etcd": "etcd.service",
    "balancer": "haproxy.service",
}
OPERATION = Path("/opt/labfleet/operation.json")
"""There, while an update or a rollback is half-way."""

BALANCER = Path("/usr/local/sbin/labfleet-balancer")
CUT_OFF = "labfleet-dispatcher.service"
"""Stands still for the moments in which the web application restarts, or for longer when a run is cut off then."""

PATRONI = Path("/etc/patroni/config.yml")
"""There, where a database has standbys."""

RABBITMQCTL = ("rabbitmqctl", "--quiet", "--formatter", "json")
CONNECTIONS = (
    "SELECT count(*), current_setting('max_connections') FROM pg_stat_activity "
    "WHERE backend_type = 'client backend'"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`) or worth a look (`warning`)."""

    level: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Asked:
    """The module's parameters."""

    tiers: tuple[str, ...]
    controller_time: float
    clock_seconds: float
    disk_percent: float
    memory_percent: float
    certificate_days: float
    certificate_error_days: float
    backup_status_file: str
    backup_hours: float
    upkeep_directory: str
    upkeep_hours: float
    timeout_seconds: float


Findings = Iterator[Finding]


def main() -> None:
    """Entry point."""
    number = {"type": "float"}
    module = AnsibleModule(
        argument_spec={
            "tiers": {"type": "list", "elements": "str", "default": []},
            "controller_time": number | {"required": True},
            "clock_seconds": number | {"default": 10},
            "disk_percent": number | {"default": 10},
            "memory_percent": number | {"default": 5},
            "certificate_days": number | {"default": 30},
            "certificate_error_days": number | {"default": 7},
            "backup_status_file": {"type": "path", "default": "/var/lib/labfleet-backup/status.json"},
            "backup_hours": number | {"default": 26},
            "upkeep_directory": {"type": "path", "default": "/var/lib/labfleet-upkeep"},
            "upkeep_hours": number | {"default": 192},
            "timeout_seconds": number | {"default": 10},
        },
        supports_check_mode=True,
    )
    asked = Asked(**{**module.params, "tiers": tuple(module.params["tiers"])})
    findings = [asdict(finding) for check in CHECKS for finding in guarded(check, asked)]
    module.exit_json(changed=False, findings=findings, code=code(), time=time.time())


def guarded(check: Callable[[Asked], Findings], asked: Asked) -> Findings:
    """A check that breaks is a finding; the others go on."""
    try:
        yield from check(asked)
    except Exception as error:
        yield Finding(
            ERROR,
            f"The check '{check.__name__}' could not be carried out: {type(error).__name__}: {error}.",
            "Run ansible-playbook with -vvv, and look at the machine.",
        )


# --- systemd ---


def units(asked: Asked) -> Findings:
    """Failed units of anybody; units of ours and of the tiers that should run and do not."""
    failed = said(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"], asked)
    names = [line.split()[0] for line in failed.splitlines() if line.strip()]
    for name in names:
        yield Finding(
            ERROR,
            f"The unit {name} has failed.",
            f"'journalctl -u {name}' says why; then 'systemctl restart {name}'.",
        )
    for unit in shown(wanted_units(asked), asked):
        yield from judge_unit(unit, names)


def wanted_units(asked: Asked) -> list[str]:
    """The units that should be active: ours that are enabled, and the tiers' own."""
    options = ["--state=enabled", "--plain", "--no-legend", "--no-pager"]
    listed = said(["systemctl", "list-unit-files", "labfleet-*", *options], asked)
    ours = [line.split()[0] for line in listed.splitlines() if line.strip()]
    tiers = [UNITS_OF_TIER[tier] for tier in asked.tiers if tier in UNITS_OF_TIER]
    return sorted({*ours, *tiers})


def shown(names: list[str], asked: Asked) -> list[dict[str, str]]:
    """What systemd says of each of the units."""
    if not names:
        return []
    keys = "Id,ActiveState,SubState,Type,NeedDaemonReload,LoadState"
    blocks = said(["systemctl", "show", f"--property={keys}", *names], asked).strip().split("\n\n")
    return [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks]


def judge_unit(unit: dict[str, str], failed: list[str]) -> Findings:
    """What is wrong with a unit that should be active."""
    name, state = unit["Id"], unit["ActiveState"]
    if unit["LoadState"] == "not-found":
        yield Finding(ERROR, f"There is no unit {name}.", "Run site.yml, which installs it.")
    elif state != "active" and unit.get("Type") != "oneshot" and name not in failed:
        yield Finding(
            ERROR,
            f"The unit {name} does not run: it is {state} ({unit['SubState']}).",
            f"'systemctl start {name}'; when that does not help, 'journalctl -u {name}' says why."
            + (
                " A run of update, rollback or rotate_secrets that was cut off leaves it so: run the same "
                "again, or site.yml."
                if name == CUT_OFF
                else ""
            ),
        )
    if unit.get("NeedDaemonReload") == "yes":
        yield Finding(
            ERROR,
            f"The unit {name} has been changed, and systemd has not read it since.",
            "Run site.yml again: it goes on where it broke off.",
        )


def releases(asked: Asked) -> Findings:
    """Units that were written for another release than the one that is installed."""
    del asked
    now = release()
    for path in sorted(UNITS.glob("labfleet-*.service")) if now else []:
        found = re.search(r"^X-Labfleet-Release=(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found and found[1].strip() != now:
            yield Finding(
                ERROR,
                f"{path.name} runs the release {found[1].strip()}, and {now} is installed.",
                "Run site.yml again: it goes on where it broke off.",
            )


def operation(asked: Asked) -> Findings:
    """An update or a rollback that has begun here and not ended."""
    del asked
    if not OPERATION.is_file():
        return
    said = json.loads(OPERATION.read_text(encoding="utf-8"))
    yield Finding(
        WARNING,
        f"playbooks/{said['operation']}.yml has begun to take this machine from {said['from']} to {said['to']} "
        f"(at {said['at']}), and has not ended.",
        "Where it does not run any more, it was cut off: run it again, and it goes on. From an update that was cut off "
        "playbooks/rollback.yml leads back, on all machines.",
    )


def release() -> str:
    """The name of the active release."""
    return CURRENT.resolve().name if CURRENT.exists() else ""


def code() -> str:
    """The version of the application's code and a hash of it. Releases of one code differ by tier and by Python."""
    for record in sorted(CURRENT.glob("lib/python3*/site-packages/labfleet-*.dist-info/RECORD")):
        lines = [line for line in record.read_text(encoding="utf-8").splitlines() if line.startswith("labfleet/")]
        ours = sorted(line for line in lines if ".pyc," not in line)
        if ours:
            version = record.parent.name.removeprefix("labfleet-").removesuffix(".dist-info")
            return f"{version}-{hashlib.sha256(chr(10).join(ours).encode()).hexdigest()[:12]}"
    return ""


# --- what this machine's tiers offer ---


def sites(asked: Asked) -> Findings:
    """Whether nginx answers where it should, with the certificate that is in its file."""
    for path in sorted(NGINX_SITES.glob("*.conf")):
        for address, port, certificate in listens(path.read_text(encoding="utf-8")):
            yield from site(address, port, Path(certificate), asked)


def listens(text: str) -> list[tuple[str, int, str]]:
    """Address, port and certificate of each TLS server of an nginx file."""
    found: dict[tuple[str, int], str] = {}
    certificates = re.findall(r"^\s*ssl_certificate\s+(\S+);", text, re.MULTILINE)
    for address, port in re.findall(r"^\s*listen\s+(\S+):(\d+)\s+ssl", text, re.MULTILINE):
        if certificates:
            found[("127.0.0.1" if address == "0.0.0.0" else address.strip("[]"), int(port))] = certificates[0]  # noqa: S104
    return [(address, port, certificate) for (address, port), certificate in found.items()]


def site(address: str, port: int, certificate: Path, asked: Asked) -> Findings:
    """One address of nginx."""
    try:
        served = ssl.get_server_certificate((address, port), timeout=asked.timeout_seconds)
    except OSError as error:
        yield Finding(
            ERROR,
            f"Nothing answers TLS on {address}:{port}, where nginx should: {error}.",
            "'nginx -t' tests its files, 'systemctl restart nginx' starts it; site.yml writes them anew.",
        )
        return
    try:
        stored = ssl.PEM_cert_to_DER_cert(first_certificate(certificate.read_text(encoding="ascii")))
    except (OSError, ValueError) as error:
        yield Finding(ERROR, f"The certificate {certificate} can't be read: {error}.", "Run site.yml.")
        return
    if ssl.PEM_cert_to_DER_cert(served) != stored:
        yield Finding(
            ERROR,
            f"On {address}:{port} nginx serves another certificate than {certificate} has.",
            "'systemctl reload nginx': no connection is dropped.",
        )


def first_certificate(text: str) -> str:
    """The first of the certificates in a file; ValueError when there is none."""
    found = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    if not found:
        raise ValueError("there is no certificate in it")
    return found[0]


def application(asked: Asked) -> Findings:
    """Whether the web application answers on its socket."""
    path = "/run/labfleet-web/web.sock"
    if "web" not in configured("webserver"):
        return
    request = b"GET /api/v1/health HTTP/1.0\r\nHost: localhost\r\n\r\n"
    try:
        answer = exchange(path, request, asked).split(b"\r\n", 1)[0].decode("latin-1")
    except OSError as error:
        answer = str(error)
    if " 200 " not in f"{answer} ":
        yield Finding(
            ERROR,
            f"The web application does not answer on {path}: {answer or 'it closed the connection'}.",
            "'journalctl -u labfleet-web' says why; then 'systemctl restart labfleet-web'.",
        )


def publisher(asked: Asked) -> Findings:
    """Whether the publisher answers, and has its connection to the broker."""
    queue = configured("queue")
    settings = queue.get("publisher")
    if settings is None:
        return
    path = settings.get("socket", "/run/labfleet-publisher/publisher.sock")
    try:
        answer = json.loads(exchange(path, b'{"verb": "health"}\n', asked))
    except (OSError, ValueError) as error:
        yield Finding(
            ERROR,
            f"The publisher does not answer on {path}: {error}.",
            "'journalctl -u labfleet-publisher' says why; then 'systemctl restart labfleet-publisher'.",
        )
        return
    if answer.get("status") != 200:
        yield Finding(
            ERROR,
            f"The publisher has no connection to the broker ({', '.join(queue['broker']['hosts'])}).",
            "See that rabbitmq-server runs there; for the password run playbooks/rabbitmq.yml and "
            "playbooks/queue.yml.",
        )


def exchange(path: str, question: bytes, asked: Asked) -> bytes:
    """Say something to a unix socket, and read what it says until it ends or has said a line."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(asked.timeout_seconds)
        channel.connect(path)
        channel.sendall(question)
        answer = b""
        while b"\n" not in answer and (piece := channel.recv(65536)):
            answer += piece
    return answer


def broker(asked: Asked) -> Findings:
    """Alarms, members of the cluster and of its queues, and messages that nobody could take."""
    if "rabbitmq" not in asked.tiers:
        return
    try:
        status = json.loads(said([*RABBITMQCTL, "cluster_status"], asked, slow=True))
    except (subprocess.CalledProcessError, ValueError) as error:
        yield Finding(
            ERROR,
            f"The broker does not answer rabbitmqctl: {error}.",
            "'journalctl -u rabbitmq-server' and /var/log/rabbitmq say why; then restart rabbitmq-server.",
        )
        return
    yield from judge_cluster(status)
    columns = ["name", "type", "state", "members", "online", "messages", "consumers"]
    command = [*RABBITMQCTL, "list_queues", "-p", "labfleet", *columns]
    yield from judge_queues(json.loads(said(command, asked, slow=True)))


def judge_cluster(status: dict[str, Any]) -> Findings:
    """What the broker says of itself."""
    for alarm in status.get("alarms", []):
        kind = alarm.get("resource", alarm) if isinstance(alarm, dict) else alarm
        yield Finding(
            ERROR,
            f"The broker has the alarm '{kind}' and takes no messages.",
            "Give its machine more room on the disk or more memory; it goes on by itself.",
        )
    away = sorted(set(status.get("disk_nodes", [])) - set(status.get("running_nodes", [])))
    for node in away:
        yield Finding(
            ERROR,
            f"The node {node} of the broker's cluster is away.",
            "Start rabbitmq-server on its machine; never reset it.",
        )
    if status.get("partitions"):
        yield Finding(
            ERROR,
            f"The broker's cluster is parted: {json.dumps(status['partitions'])}.",
            "Mend the network between its machines, then restart rabbitmq-server in the smaller part.",
        )


def judge_queues(queues: list[dict[str, Any]]) -> Findings:
    """Quorum queues that miss members or stand still, and the queue of what could not be delivered."""
    if not queues:
        yield Finding(
            ERROR,
            "The broker has no queues.",
            "The publisher declares them when it connects: look at labfleet-publisher on the queue tier.",
        )
    for queue in queues:
        name = queue["name"]
        missing = sorted(set(queue.get("members") or []) - set(queue.get("online") or []))
        # RabbitMQ 4 tells the one member of a classic queue as well, but never that it is online.
        if missing and queue.get("type") == "quorum":
            yield Finding(
                ERROR,
                f"The queue {name} misses its members on {', '.join(missing)}.",
                "Start rabbitmq-server on these machines, and wait until they have caught up.",
            )
        if queue.get("state") not in {None, "running", "flow"}:
            yield Finding(
                ERROR,
                f"The queue {name} is {queue['state']}.",
                "Restart rabbitmq-server; when it stays so, delete the queue: the publisher makes it "
                "anew, and all that was in it is sent again.",
            )
        if name == "labfleet.dead" and queue.get("messages"):
            yield Finding(
                WARNING,
                f"{queue['messages']} messages were delivered too often and are in {name}.",
                "Their tasks were sent again. Look at the workers' journals, then purge the queue.",
            )


def database(asked: Asked) -> Findings:
    """Whether PostgreSQL answers, and has connections left."""
    if "database" not in asked.tiers:
        return
    clusters = [line.split() for line in said(["pg_lsclusters", "--no-header"], asked).splitlines()]
    down = [cluster for cluster in clusters if not cluster[3].startswith("online")]
    for version, name, _, state, *_ in down:
        remedy = f"'systemctl start postgresql@{version}-{name}'; its log is below /var/log/postgresql."
        if PATRONI.exists():
            remedy = "'systemctl restart patroni', which starts it; 'journalctl -u patroni' says why it ended."
        yield Finding(ERROR, f"PostgreSQL {version} {name} is {state}.", remedy)
    if down or not clusters:
        return
    answer = said(["runuser", "-u", "postgres", "--", "psql", "-AtXc", CONNECTIONS], asked, cwd="/")
    used, most = map(int, answer.strip().split("|"))
    if used > 0.9 * most:
        yield Finding(
            ERROR,
            f"{used} of PostgreSQL's {most} connections are taken.",
            "Raise max_connections, or have fewer webserver_processes and webserver_threads.",
        )


def standbys(asked: Asked) -> Findings:
    """Whether one of several servers leads, and another has all that it has."""
    if "database" not in asked.tiers or not PATRONI.exists():
        return
    members = json.loads(said(["patronictl", "-c", str(PATRONI), "list", "--format", "json"], asked))
    own = re.search(r'^name: "?([^"\n]+)"?$', PATRONI.read_text(encoding="utf-8"), re.MULTILINE)
    yield from judge_members(members, own[1] if own else "")


def judge_members(members: list[dict[str, Any]], own: str) -> Findings:
    """What Patroni's members say; of what they share, the leader speaks, or everybody where there is none."""
    leader = next((one["Member"] for one in members if one["Role"].endswith("Leader")), None)
    if leader is None:
        yield Finding(
            ERROR,
            "No server of the database leads, so nothing can be written.",
            "'labfleet-etcdctl endpoint health' on a machine of the group etcd: most of them must answer. Then "
            "'patronictl -c /etc/patroni/config.yml list', and 'journalctl -u patroni' on each server.",
        )
    elif leader == own and not any(one["Role"] == "Sync Standby" for one in members):
        yield Finding(
            ERROR,
            f"No standby has all that {leader} has: when it is lost, the database is away until it is back.",
            "Start the other server's machine and patroni on it; one that can't catch up is copied anew by "
            "'patronictl -c /etc/patroni/config.yml reinit labfleet NAME'.",
        )
    for one in members:
        if one["Member"] == own and one.get("Pending restart"):
            yield Finding(
                WARNING,
                "A setting of PostgreSQL waits for a restart.",
                f"'patronictl -c /etc/patroni/config.yml restart labfleet {own}', standbys before the leader.",
            )


def balancer(asked: Asked) -> Findings:
    """Webservers that the balancer sends no requests."""
    if "balancer" not in asked.tiers or not BALANCER.is_file():
        return
    yield from judge_servers(said([str(BALANCER), "show"], asked))


def judge_servers(shown: str) -> Findings:
    """What `labfleet-balancer show` says of each webserver: `NAME: STATE, N requests`."""
    for name, state in re.findall(r"^(\S+): ([A-Z]+)", shown, re.MULTILINE):
        if state in {"DRAIN", "MAINT"}:
            yield Finding(
                WARNING,
                f"The webserver {name} was taken out of the balancer ({state}) and gets no requests.",
                "A run of update, rollback or rotate_secrets that was cut off leaves it so: run the same again, or "
                f"site.yml. At once: 'labfleet-balancer in {name}'.",
            )
        elif state == "DOWN":
            yield Finding(
                ERROR,
                f"The balancer finds the webserver {name} not well and sends it no requests.",
                "See what this check says of that machine; it gets requests again by itself when it answers.",
            )


# --- what this machine's tiers need of others ---


def others(asked: Asked) -> Findings:
    """Whether this machine reaches the tiers that its own need."""
    web, queue, worker = configured("webserver"), configured("queue"), configured("worker")
    for what, section in (
        ("database", web.get("database")),
        ("broker", queue.get("broker")),
        ("broker", worker.get("broker")),
    ):
        for host in section["hosts"] if section else []:
            yield from reach(what, host, section["port"], asked)
    for name, front_end in worker.get("front_ends", {}).items():
        yield from reach_front_end(name, front_end, asked)


def reach(what: str, host: str, port: int, asked: Asked) -> Findings:
    """Whether something listens there."""
    try:
        with socket.create_connection((host, port), timeout=asked.timeout_seconds):
            return
    except OSError as error:
        yield Finding(
            ERROR,
            f"The {what} at {host}:{port} can't be reached from here: {error}.",
            f"See that the {what} runs, and that no firewall or network stands between.",
        )


def reach_front_end(name: str, front_end: dict[str, str], asked: Asked) -> Findings:
    """Whether the webserver answers, with a certificate that is trusted here, and agrees about the time."""
    url = f"{front_end['url'].rstrip('/')}/api/v1/health"
    context = ssl.create_default_context(cafile=front_end.get("ca_file"))
    try:
        # Where the page's address comes from our own configuration, its scheme is ours as well.
        with urllib.request.urlopen(url, context=context, timeout=asked.timeout_seconds) as answer:  # noqa: S310
            answer.read()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        yield Finding(
            ERROR,
            f"The webserver (front end '{name}') can't be reached from here: {url}: {reason}.",
            "A certificate that is not trusted: run site.yml. Else see that nginx runs there, and look "
            "at the network between.",
        )


def configured(tier: str) -> dict[str, Any]:
    """The configuration of a tier; empty where this machine has it not."""
    path = ETC / f"{tier}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# --- the machine itself ---


def disks(asked: Asked) -> Findings:
    """File systems that are nearly full, of bytes or of files."""
    seen: set[int] = set()
    for path in filter(os.path.isdir, DATA):
        device = os.stat(path).st_dev  # noqa: PTH116
        if device in seen:
            continue
        seen.add(device)
        usage, files = shutil.disk_usage(path), os.statvfs(path)
        free = {"bytes": usage.free / usage.total if usage.total else 1.0}
        free["files"] = files.f_favail / files.f_files if files.f_files else 1.0
        for what, part in free.items():
            if part * 100 < asked.disk_percent:
                yield Finding(
                    ERROR if part * 200 < asked.disk_percent else WARNING,
                    f"On the file system of {path} {part:.1%} of its {what} are free.",
                    "Delete what is not needed (old jobs, journals, releases), or give it more room.",
                )


def memory(asked: Asked) -> Findings:
    """Memory that programs could still get."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    part = kilobytes["MemAvailable"] / kilobytes["MemTotal"]
    if part * 100 < asked.memory_percent:
        yield Finding(
            ERROR,
            f"{part:.1%} of the memory are available.",
            "See what takes it ('ps --sort=-rss'), give the machine more, or a worker fewer slots.",
        )


def clock(asked: Asked) -> Findings:
    """A clock that is behind the controller's; whether it is ahead, the playbook knows when it is back."""
    behind = asked.controller_time - time.time()
    if behind > asked.clock_seconds:
        yield Finding(
            ERROR,
            f"The clock is {behind:.0f} s behind the controller's.",
            "Set it, and let systemd-timesyncd or chrony keep it right.",
        )
    contained = subprocess.run(["systemd-detect-virt", "--container", "--quiet"], check=False).returncode == 0
    if not contained:
        answer = said(["timedatectl", "show", "--property=NTPSynchronized", "--value"], asked).strip()
        if answer == "no":
            yield Finding(
                WARNING,
                "Nothing keeps the clock right.",
                "Install systemd-timesyncd or chrony, and let it reach a time server.",
            )


def certificates(asked: Asked) -> Findings:
    """Certificates of the lab on this machine that end soon; a copy is told of by its place in `tls`."""
    named = {path for path in (ETC / "tls").glob("*.crt") if path.is_file()}
    copies = set((ETC / "credentials" / "monitoring").glob("*.crt"))
    for file in NGINX_SITES.glob("*.conf"):
        named |= {Path(name) for _, _, name in listens(file.read_text(encoding="utf-8"))}
    seen: set[str] = set()
    for path in [*sorted(named), *sorted(copies)]:
        if not path.is_file():
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest not in seen:
            yield from judge_certificate(path, ends(path, asked), asked)
        seen.add(digest)


def ends(path: Path, asked: Asked) -> float:
    """When the certificate ends, in seconds since 1970."""
    text = said(["openssl", "x509", "-noout", "-enddate", "-in", str(path)], asked)
    return float(ssl.cert_time_to_seconds(text.strip().partition("=")[2]))


def judge_certificate(path: Path, end: float, asked: Asked) -> Findings:
    """Whether there is time enough left."""
    days = (end - time.time()) / 86400
    if days >= asked.certificate_days:
        return
    when = f"ended {-days:.0f} days ago" if days < 0 else f"ends in {days:.0f} days"
    yield Finding(
        ERROR if days < asked.certificate_error_days else WARNING,
        f"The certificate {path} {when}.",
        "Run site.yml: it renews what the lab's own authority signed. One of your own: put the new file "
        "where its setting points, then run site.yml.",
    )


def backup(asked: Asked) -> Findings:
    """When a backup succeeded last, where this machine makes some."""
    path = Path(asked.backup_status_file)
    if not path.is_file():
        return
    remedy = "'journalctl -u labfleet-backup' says why; run playbooks/backup.yml."
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        last = status.get("succeeded_at")
        age = (time.time() - float(last)) / 3600 if last else None
    except (ValueError, TypeError) as error:
        yield Finding(ERROR, f"What the last backup left in {path} can't be read: {error}.", remedy)
        return
    if age is None:
        yield Finding(ERROR, "No backup has ever succeeded.", remedy)
    elif age > asked.backup_hours:
        yield Finding(ERROR, f"The last backup that succeeded is {age:.0f} hours old.", remedy)


def upkeep(asked: Asked) -> Findings:
    """When what timers start has succeeded last."""
    directory = Path(asked.upkeep_directory)
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        hours = (time.time() - path.stat().st_mtime) / 3600
        unit = f"labfleet-{path.name}"
        if hours > asked.upkeep_hours and (UNITS / f"{unit}.timer").exists():
            yield Finding(
                WARNING,
                f"{unit}.service has succeeded {hours:.0f} hours ago for the last time.",
                f"'journalctl -u {unit}' says why; 'systemctl start {unit}' does it now. Where its timer comes more "
                "seldom, raise self_check_upkeep_hours.",
            )


def restart(asked: Asked) -> Findings:
    """Updates that want a restart of the machine."""
    del asked
    if Path("/run/reboot-required").exists():
        yield Finding(
            WARNING,
            "Updates wait for a restart of the machine.",
            "Restart it when it suits; drain a worker before (playbooks/drain.yml).",
        )


def said(command: list[str], asked: Asked, *, slow: bool = False, cwd: str | None = None) -> str:
    """What a command says; CalledProcessError with the end of its words when it fails."""
    limit = asked.timeout_seconds * (6 if slow else 1)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, check=False, env=environment, cwd=cwd
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(done.returncode, command, words[-1] if words else "it said nothing")
    return done.stdout


class Failed(subprocess.CalledProcessError):
    """A command that failed, with its last words."""

    def __init__(self, code: int, command: list[str], words: str) -> None:
        super().__init__(code, command)
        self.words = words

    def __str__(self) -> str:
        return f"'{' '.join(self.cmd[:3])}' ended with {self.returncode}: {self.words}"


CHECKS: tuple[Callable[[Asked], Findings], ...] = (
    units,
    releases,
    operation,
    sites,
    application,
    publisher,
    broker,
    database,
    standbys,
    balancer,
    others,
    disks,
    memory,
    clock,
    certificates,
    backup,
    upkeep,
    restart,
)

if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
