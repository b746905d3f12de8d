# SPDX-License-Identifier: Apache-2.0
"""Judge a whole lab before anything on it is changed, and name everything that is wrong at once.

Runs on the controller, once for all machines. Takes what `labfleet_look` saw of each machine from its
variable that `seen` names, and everything else from the inventory. Changes nothing.
"""

from __future__ import annotations

import difflib
import platform
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = re.compile(r"^(127\.|::1$|localhost$)")
CHECKS = (
    "controller",
    "inventory",
    "variables",
    "reached",
    "distribution",
    "memory",
    "disk",
    "clock",
    "names",
    "links",
)
"""What is judged, in the order of the report; a run may leave some out."""


class ActionModule(ActionBase):
    """`labfleet_judge`: fails with all that is wrong."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, and fail with the list of what is wrong, or tell how much was looked at."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, known = self._task.args, task_vars or {}
        lab = Lab(
            machines=[machine(name, known, given["seen"]) for name in members(known["groups"])],
            groups={name: list(hosts) for name, hosts in known["groups"].items()},
            asked=set(known["ansible_play_hosts_all"]),
            versions={
                "ansible-core": known["ansible_version"]["full"],
                "python": platform.python_version(),
            },
            settings=given,
            variables=known_variables(ROOT),
        )
        strange = [name for name in given["skip"] if name not in CHECKS]
        faults = [
            f"labfleet_skip_checks has {name}, and checks are {', '.join(CHECKS)}. Correct it."
            for name in strange
        ]
        for check in CHECKS:
            if check not in given["skip"]:
                faults += [f"{fault} [{check}]" for fault in globals()[f"judge_{check}"](lab)]
        if not faults:
            return result | {"changed": False, "machines": len(lab.machines)}
        text = "\n".join(f"- {fault}" for fault in faults)
        head = f"Nothing was changed. What stands in the way ({len(faults)}):"
        return result | {"failed": True, "msg": f"{head}\n{text}"}


@dataclass(frozen=True)
class Machine:
    """One machine of the lab: what the inventory says of it, and what was seen of it (None: nothing)."""

    name: str
    groups: list[str]
    variables: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Any] | None = None
    why: str = ""

    def value(self, name: str, default: Any = None) -> Any:
        """A variable's value for this machine; the default too where it can't be told."""
        try:
            found = self.variables[name]
        except Exception:  # undefined, or made of what is undefined: Ansible has several classes for it
            return default
        return default if found is None else found

    @property
    def private_address(self) -> str:
        """The address that the other tiers use; empty where it is not known."""
        return str(self.value("labfleet_private_address", ""))


@dataclass(frozen=True)
class Lab:
    """All that is judged."""

    machines: list[Machine]
    groups: dict[str, list[str]]
    asked: set[str]
    versions: dict[str, str]
    settings: Mapping[str, Any]
    variables: Known

    @property
    def looked_at(self) -> Iterator[tuple[Machine, Mapping[str, Any]]]:
        """Machines of this run with what was seen of them."""
        for machine in self.machines:
            if machine.seen is not None:
                yield machine, machine.seen


@dataclass(frozen=True)
class Known:
    """Every variable that a role or playbook takes, and the options of roles that have a default."""

    roles: set[str]
    names: set[str]
    defaults: dict[str, Any]


def members(groups: Mapping[str, Iterable[str]]) -> list[str]:
    """The lab's machines."""
    return sorted(groups["labfleet"] if "labfleet" in groups else groups["all"])


def machine(name: str, known: Mapping[str, Any], seen: str) -> Machine:
    """What is known of one machine."""
    variables = known["hostvars"][name]
    look = variables.get(seen) or {}
    facts = variables.get("ansible_facts") or {}
    good = "now" in look
    return Machine(
        name=name,
        groups=list(variables["group_names"]),
        variables=variables,
        facts=facts,
        seen=look if good else None,
        why=" ".join(str(look.get("msg", "")).split()),
    )


def known_variables(root: Path) -> Known:
    """Read the roles' argument specifications, the lab's group_vars and the playbooks' own variables."""
    roles, names, defaults = set(), set(), {}
    for path in root.glob("roles/*/meta/argument_specs.yml"):
        roles.add(path.parents[1].name)
        options = load(path)["argument_specs"]["main"]["options"]
        names |= set(options)
        defaults |= {name: option["default"] for name, option in options.items() if "default" in option}
    for path in root.glob("group_vars/*.yml"):
        names |= set(load(path) or {})
    for path in [root / "site.yml", *root.glob("playbooks/*.yml")]:
        for play in load(path) or []:
            names |= set(play.get("vars") or {})
    return Known(roles, names, defaults)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads what Ansible reads, with tags such as !vault or !unsafe passed over."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, node: str(node.value))


def load(path: Path) -> Any:
    """One YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # a safe loader


def older(version: str, least: str) -> bool:
    """Whether a version is older than the least that will do."""
    numbers = [[int(part) for part in re.findall(r"\d+", text)[:3]] for text in (version, least)]
    return numbers[0] < numbers[1]


def judge_controller(lab: Lab) -> Iterator[str]:
    """Ansible and Python of the controller."""
    for name, least in (
        ("ansible-core", lab.settings["minimum_ansible"]),
        ("python", lab.settings["minimum_python"]),
    ):
        if older(lab.versions[name], least):
            yield (
                f"the controller has {name} {lab.versions[name]}, and Labfleet needs {least} at least. "
                "Run it from `./lab shell`, which has the versions that were tested."
            )


def judge_inventory(lab: Lab) -> Iterator[str]:
    """Every tier has a machine, every group is known, every address is one machine's."""
    for tier in lab.settings["required_groups"]:
        if not lab.groups.get(tier):
            yield (
                f"The group {tier} of the inventory has no machine, and no tier can be left out. "
                "Put a host into it; one machine may be in all groups."
            )
    known = list(lab.settings["known_groups"])
    strange: dict[str, list[str]] = defaultdict(list)
    for one in lab.machines:
        for group in one.groups:
            if known and group not in known:
                strange[group].append(one.name)
    for group, names in sorted(strange.items()):
        near = difflib.get_close_matches(group, known, 1)
        yield (
            f"The group {group} of {enumerated(names)} is none that anything here knows"
            + (f"; is {near[0]} meant?" if near else ".")
            + f" Groups are {', '.join(known)}: correct the inventory, or add it to labfleet_known_groups."
        )
    yield from standbys(lab)
    yield from twice(lab)


def standbys(lab: Lab) -> Iterator[str]:
    """Several machines of the database have enough others to elect who leads, and nothing that doesn't go with it."""
    servers, voters = lab.groups.get("database") or [], lab.groups.get("etcd") or []
    if len(servers) <= 1:
        if voters:
            yield (
                f"{enumerated(voters)} are in the group etcd, which only a database with standbys needs. Take them out, "
                "or put a second machine into the group database."
            )
        return
    if len(voters) < 3 or len(voters) % 2 == 0:
        yield (
            f"{enumerated(servers)} are one database, and its leader is elected by {len(voters)} machines (group etcd). "
            "Put three or five into that group, so that one may be lost: the database's own, and one of another tier."
        )
    machines = [one for one in lab.machines if one.name in servers]
    releases = {str(one.facts["distribution_major_version"]) for one in machines if one.facts}
    if len(releases) > 1:
        yield (
            f"{enumerated(servers)} are one database on Debian {' and '.join(sorted(releases))}, and a standby needs the "
            "PostgreSQL of its leader. Give them the same Debian."
        )
    yield from shared_backups(machines)


def shared_backups(machines: list[Machine]) -> Iterator[str]:
    """Machines of one database have one target, which each of them reaches: any of them may have to go on with the backups."""
    names = enumerated(one.name for one in machines)
    targets = {str(one.value("backup_target") or "") for one in machines}
    if len(targets) > 1:
        yield (
            f"backup_target is not the same for {names}, which are one database: after a fail-over another one goes on "
            "with the backups. Name it once, in inventory/…/group_vars/labfleet/backup.yml."
        )
    elif any(target.startswith("/") for target in targets):
        numbers = {int(one.value("backup_user_id") or 0) for one in machines}
        if not all(one.value("backup_target_shared") in (True, "true", "yes") for one in machines):
            yield (
                f"backup_target is the directory {targets.pop()}, and {names} are one database: a directory of one machine "
                "is out of reach for the other, and gone with its disk. Name sftp:USER@HOST:/PATH or "
                "s3:https://HOST/BUCKET/PATH; or mount one file system there on all of them and set "
                "backup_target_shared: true (docs/admin/backup.md)."
            )
        elif len(numbers) > 1 or 0 in numbers:
            yield (
                f"{names} share the directory {targets.pop()} for backups, so the user labfleet-backup needs the same number "
                "on all of them. Set backup_user_id to one that is free there, such as 985."
            )


def twice(lab: Lab) -> Iterator[str]:
    """Addresses that two machines have."""
    reached = {
        one.name: f"{one.value('ansible_host', one.name)}:{one.value('ansible_port', 22)}"
        for one in lab.machines
    }
    private = {one.name: one.private_address for one in lab.machines if one.private_address}
    for what, addresses in (("are reached at", reached), ("have the private address", private)):
        for address, count in sorted(Counter(addresses.values()).items()):
            if count > 1 and not (what == "have the private address" and LOOPBACK.match(address)):
                names = sorted(name for name, own in addresses.items() if own == address)
                variable = "ansible_host" if what == "are reached at" else "labfleet_private_address"
                yield (
                    f"{enumerated(names)} {what} {address}. "
                    f"Give each its own {variable}, or make them one host."
                )
    inside = sorted(name for name, address in private.items() if LOOPBACK.match(address))
    # A machine of the drill talks to the backups' target, and to no tier.
    if inside and len({one.name for one in lab.machines} - set(lab.groups.get("drill", ()))) > 1:
        yield (
            f"The private address of {enumerated(inside)} is {private[inside[0]]}, where no other machine "
            "reaches it. Set labfleet_private_address to an address of its network."
        )


def judge_variables(lab: Lab) -> Iterator[str]:
    """No variable that was renamed or removed, and none that looks like a role's and is not."""
    renamed = lab.settings["renamed"]
    prefixes = tuple(f"{role}_" for role in lab.variables.roles | {"labfleet"})
    where: dict[str, list[str]] = defaultdict(list)
    for one in lab.machines:
        for name in one.variables:
            if name in renamed or (name.startswith(prefixes) and name not in lab.variables.names):
                where[name].append(one.name)
    for name, machines in sorted(where.items()):
        place = "for all machines" if len(machines) == len(lab.machines) else f"for {enumerated(machines)}"
        if name in renamed:
            change = renamed[name]
            now = f"is now {change['to']}" if change.get("to") else "is gone"
            yield f"{name}, set {place}, {now}. {change.get('hint') or 'Rename it in your inventory.'}"
        else:
            near = difflib.get_close_matches(name, lab.variables.names, 1, 0.7)
            none = "Take it out; defaults/main.yml of each role lists what there is."
            meant = f"Is {near[0]} meant?" if near else none
            yield f"{name}, set {place}, is no variable of Labfleet's. {meant}"


def judge_reached(lab: Lab) -> Iterator[str]:
    """Every machine of this run answered."""
    for one in lab.machines:
        if one.name in lab.asked and one.seen is None:
            yield (
                f"{one.name} could not be looked at ({one.why or 'its facts could not be gathered'}). "
                f"See that `ansible -i INVENTORY {one.name} -m ping` works, or leave it out of the run: "
                f"--limit '!{one.name}'."
            )


def judge_distribution(lab: Lab) -> Iterator[str]:
    """Debian, in the versions that roles know."""
    wanted = lab.settings["distributions"]
    for one, _ in lab.looked_at:
        name, version = one.facts.get("distribution"), str(one.facts.get("distribution_major_version"))
        if version not in wanted.get(name, []):
            supported = " and ".join(f"{name} {' and '.join(versions)}" for name, versions in wanted.items())
            yield (
                f"{one.name}: Labfleet runs on {supported}, and this machine is {name} "
                f"{one.facts.get('distribution_version')}. Take it out of the inventory or reinstall it."
            )


def least(one: Machine, lab: Lab, ending: str) -> tuple[int, str]:
    """The most that anything on this machine asks for, and the variable that says so."""
    names = [f"labfleet{ending}"]
    for tier, roles in lab.settings["roles"].items():
        names += [f"{role}{ending}" for role in roles if tier in one.groups]
    asked = {name: one.value(name, lab.variables.defaults.get(name)) for name in names}
    return max(((int(value), name) for name, value in asked.items() if value is not None), default=(0, ""))


def judge_memory(lab: Lab) -> Iterator[str]:
    """Memory for the most demanding tier of each machine."""
    for one, _ in lab.looked_at:
        needed, variable = least(one, lab, "_minimum_memory_mb")
        there = int(one.facts.get("memtotal_mb") or needed)
        if there < needed:
            yield (
                f"{one.name} has {there} MiB of memory and needs {needed}. "
                f"Give it more, or lower {variable} if you know that its tiers need less."
            )


def judge_disk(lab: Lab) -> Iterator[str]:
    """Disk space: always a little, and what the tiers want before they are there."""
    for one, seen in lab.looked_at:
        name = "labfleet_minimum_disk_mb"
        always = (int(one.value(name, 0)), name)
        needed, variable = least(one, lab, "_minimum_disk_mb") if seen["fresh"] else always
        if seen["free_mb"] < needed:
            yield (
                f"{one.name} has {seen['free_mb']} MiB of disk free below /var and needs {needed}. "
                f"Free some space, or lower {variable} if you know that its tiers need less."
            )


def judge_clock(lab: Lab) -> Iterator[str]:
    """Clocks agree with each other and with the controller's, which signs certificates."""
    allowed = float(lab.settings["clock_seconds"])
    for one, seen in lab.looked_at:
        if abs(seen["clock_seconds"]) > allowed:
            way = "ahead of" if seen["clock_seconds"] > 0 else "behind"
            yield (
                f"{one.name}: its clock is {abs(seen['clock_seconds']):.0f} s {way} this computer's, and at "
                f"most {allowed:.0f} s will do. Let it keep time (apt install systemd-timesyncd), or raise "
                "labfleet_clock_seconds."
            )


def judge_names(lab: Lab) -> Iterator[str]:
    """A machine that is to be installed finds its package archives."""
    for one, seen in lab.looked_at:
        if seen["unresolved"]:
            yield (
                f"{one.name} does not resolve {enumerated(seen['unresolved'])}, its packages' source. "
                "Mend its name server (/etc/resolv.conf), or give apt a proxy."
            )


def judge_links(lab: Lab) -> Iterator[str]:
    """Tiers reach each other. A port where nothing listens yet is as good as one that is open."""
    owners: dict[str, list[Machine]] = defaultdict(list)
    for one in lab.machines:
        owners[one.private_address].append(one)
    for one, seen in lab.looked_at:
        for link, answer in sorted(seen["connections"].items()):
            address, _, port = link.rpartition(":")
            if answer in {"open", "refused"} or not_let_in_yet(one, owners[address]):
                continue
            names = enumerated([other.name for other in owners[address]] or [address])
            said = "no answer" if answer == "silent" else answer
            yield (
                f"{one.name} does not reach {names} at {address} port {port} ({said}). Mend the route, "
                "or let it through the firewall between them; if only Labfleet's own firewall there does not "
                "know it yet, run without --limit."
            )


def not_let_in_yet(one: Machine, owners: list[Machine]) -> bool:
    """Whether it is our own firewall that this very run will open for the machine."""
    rules = [other.seen["firewall"] for other in owners if other.seen is not None]
    pattern = re.compile(rf"(?<![\w.:]){re.escape(one.private_address)}(?![\w.:])")
    return any(rule and not pattern.search(rule) for rule in rules)


def enumerated(names: Iterable[str]) -> str:
    """The first names, and how many there are more."""
    sorted_names = sorted(names)
    more = len(sorted_names) - 5
    return ", ".join(sorted_names[:5]) + (f" and {more} more" if more > 0 else "")
