"""What is said of a lab before anything on it is changed: every fault at once, each with what to do."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from by_path import load
from jinja2 import Template

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "minimum_ansible": "2.18",
    "minimum_python": "3.11",
    "distributions": {"Debian": ["12", "13"]},
    "roles": {"worker": ["app", "worker"], "webserver": ["webserver"]},
    "required_groups": ["worker", "webserver"],
    "known_groups": ["labfleet", "worker", "webserver", "database", "etcd"],
    "clock_seconds": 60,
    "renamed": {
        "worker_slot": {"to": "worker_slots"},
        "worker_gone": {"hint": "Workers do it by themselves."},
    },
}
VERSIONS = {"ansible-core": "2.19.14", "python": "3.11.2"}
DEBIAN = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_version": "13.1",
    "memtotal_mb": 4000,
}
GOOD = {
    "now": 0.0,
    "free_mb": 50_000,
    "fresh": True,
    "firewall": "",
    "connections": {},
    "unresolved": [],
    "clock_seconds": 0.0,
}


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    return load("plugins/action/labfleet_judge.py")


class Rows:
    """Two machines without a fault, of which a test changes one."""

    def __init__(self, judge: ModuleType) -> None:
        self.judge = judge
        self.variables: dict[str, dict[str, Any]] = {
            "w1": {"labfleet_private_address": "10.0.0.1", "labfleet_minimum_disk_mb": 2048},
            "web": {"labfleet_private_address": "10.0.0.2", "labfleet_minimum_disk_mb": 2048},
        }
        self.groups = {"w1": ["labfleet", "worker"], "web": ["labfleet", "webserver"]}
        self.facts: dict[str, dict[str, Any]] = {"w1": dict(DEBIAN), "web": dict(DEBIAN)}
        self.seen: dict[str, dict[str, Any] | None] = {"w1": dict(GOOD), "web": dict(GOOD)}
        self.settings = dict(SETTINGS)
        self.versions = dict(VERSIONS)
        self.asked = {"w1", "web"}

    def with_standbys(self, **variables: Any) -> None:
        """Two machines are the database, and elect its leader with one of the others."""
        for number, name in enumerate(["db1", "db2"], 3):
            self.variables[name] = {
                "labfleet_private_address": f"10.0.0.{number}",
                "labfleet_minimum_disk_mb": 2048,
                **variables,
            }
            self.groups[name] = ["labfleet", "database", "etcd"]
            self.facts[name], self.seen[name] = dict(DEBIAN), dict(GOOD)
            self.asked.add(name)
        self.groups["web"].append("etcd")

    def faults(self, *but: str) -> list[str]:
        """What every check says together, without some."""
        lab = self.judge.Lab(
            machines=[
                self.judge.Machine(
                    name,
                    self.groups[name],
                    self.variables[name],
                    self.facts[name],
                    self.seen[name],
                    "timed out",
                )
                for name in self.variables
            ],
            groups={
                tier: [name for name, own in self.groups.items() if tier in own]
                for tier in ("worker", "webserver", "database", "etcd", "drill")
            },
            asked=self.asked,
            versions=self.versions,
            settings=self.settings,
            variables=self.judge.Known(
                {"app", "worker", "webserver"},
                {
                    "worker_slots",
                    "worker_minimum_memory_mb",
                    "labfleet_private_address",
                    "labfleet_minimum_disk_mb",
                },
                {"worker_minimum_memory_mb": 900, "worker_minimum_disk_mb": 4096},
            ),
        )
        checks = [check for check in self.judge.CHECKS if check not in but]
        return [fault for check in checks for fault in getattr(self.judge, f"judge_{check}")(lab)]

    def only(self, *words: str) -> None:
        """There is one fault, and it has these words."""
        [fault] = self.faults()
        assert all(word in fault for word in words), fault


@pytest.fixture
def rows(judge: ModuleType) -> Rows:
    return Rows(judge)


def test_a_good_lab(rows: Rows) -> None:
    assert rows.faults() == []


def test_all_at_once(rows: Rows) -> None:
    rows.versions["ansible-core"] = "2.14.3"
    rows.facts["w1"]["memtotal_mb"] = 512
    rows.facts["web"]["distribution_major_version"] = "11"
    rows.variables["w1"]["worker_slot"] = 2
    assert len(rows.faults()) == 4


class TestController:
    def test_ansible(self, rows: Rows) -> None:
        rows.versions["ansible-core"] = "2.9.10"
        rows.only("ansible-core 2.9.10", "2.18", "./lab shell")

    def test_python(self, rows: Rows) -> None:
        rows.versions["python"] = "3.9.2"
        rows.only("python 3.9.2", "3.11")


class TestInventory:
    def test_tier_without_a_machine(self, rows: Rows) -> None:
        rows.groups["web"] = ["labfleet"]
        rows.only("The group webserver of the inventory has no machine")

    def test_unknown_group(self, rows: Rows) -> None:
        rows.groups["w1"].append("workers")
        rows.only("The group workers of w1", "is worker meant?", "labfleet_known_groups")

    def test_standbys_need_three_voters(self, rows: Rows) -> None:
        for name in rows.groups:
            rows.groups[name] += ["database", "etcd"]
        rows.only("web", "w1", "elected by 2 machines", "three or five", "one of another tier")

    def test_voters_without_standbys(self, rows: Rows) -> None:
        rows.groups["w1"] += ["database", "etcd"]
        rows.only("w1", "group etcd", "a second machine into the group database")

    def test_standbys_of_another_release(self, rows: Rows) -> None:
        rows.with_standbys()
        assert rows.faults() == []
        rows.facts["db2"]["distribution_major_version"] = "12"
        rows.only("db1", "db2", "Debian 12 and 13", "the same Debian")

    @pytest.mark.parametrize("target", ["sftp:backup@vault:/srv/ours", "s3:https://s3.example.org/ours"])
    def test_standbys_back_up_to_what_both_reach(self, rows: Rows, target: str) -> None:
        rows.with_standbys(backup_target=target)
        assert rows.faults() == []

    def test_standbys_do_not_back_up_to_a_directory_of_one_machine(self, rows: Rows) -> None:
        rows.with_standbys(backup_target="/srv/backup")
        rows.only("the directory /srv/backup", "db1, db2", "sftp:USER@HOST", "backup_target_shared: true")

    def test_standbys_may_share_a_directory(self, rows: Rows) -> None:
        rows.with_standbys(backup_target="/mnt/vault", backup_target_shared=True, backup_user_id=985)
        assert rows.faults() == []
        rows.variables["db2"]["backup_target_shared"] = False
        rows.only("the directory /mnt/vault", "mount one file system")

    @pytest.mark.parametrize("number", [0, 986])
    def test_who_shares_a_directory_has_one_number(self, rows: Rows, number: int) -> None:
        rows.with_standbys(backup_target="/mnt/vault", backup_target_shared=True, backup_user_id=985)
        rows.variables["db2"]["backup_user_id"] = number
        rows.only("db1, db2", "/mnt/vault", "Set backup_user_id")

    def test_standbys_have_one_target(self, rows: Rows) -> None:
        rows.with_standbys(backup_target="sftp:backup@vault:/srv/ours")
        del rows.variables["db1"]["backup_target"]
        rows.only("backup_target is not the same for db1, db2", "Name it once")

    def test_no_known_groups_is_no_check(self, rows: Rows) -> None:
        rows.groups["w1"].append("workers")
        rows.settings["known_groups"] = []
        assert rows.faults() == []

    def test_same_private_address(self, rows: Rows) -> None:
        rows.variables["web"]["labfleet_private_address"] = "10.0.0.1"
        rows.only("w1, web", "10.0.0.1", "labfleet_private_address")

    def test_same_machine_twice(self, rows: Rows) -> None:
        rows.variables["w1"]["ansible_host"] = rows.variables["web"]["ansible_host"] = "192.0.2.1"
        rows.only("w1, web", "192.0.2.1:22", "ansible_host")

    def test_two_ports_of_one_address_are_two_machines(self, rows: Rows) -> None:
        rows.variables["w1"] |= {"ansible_host": "192.0.2.1", "ansible_port": 2201}
        rows.variables["web"] |= {"ansible_host": "192.0.2.1", "ansible_port": 2202}
        assert rows.faults() == []

    def test_loopback_is_for_one_machine_alone(self, rows: Rows) -> None:
        rows.variables["web"]["labfleet_private_address"] = "127.0.0.1"
        rows.only("web", "127.0.0.1", "no other machine")

    def test_a_machine_of_the_drill_reaches_no_tier(self, rows: Rows) -> None:
        rows.variables["web"]["labfleet_private_address"] = "127.0.0.1"
        rows.groups["web"].append("worker")
        rows.groups["w1"] = ["labfleet", "drill"]
        rows.settings["known_groups"] = [*rows.settings["known_groups"], "drill"]
        assert rows.faults() == []


class TestVariables:
    def test_renamed(self, rows: Rows) -> None:
        rows.variables["w1"]["worker_slot"] = 2
        rows.only("worker_slot, set for w1, is now worker_slots")

    def test_removed(self, rows: Rows) -> None:
        rows.variables["w1"]["worker_gone"] = rows.variables["web"]["worker_gone"] = 2
        rows.only("worker_gone, set for all machines, is gone", "by themselves")

    def test_misspelt(self, rows: Rows) -> None:
        rows.variables["w1"]["worker_slotts"] = 2
        rows.only("worker_slotts", "Is worker_slots meant?")

    def test_invented(self, rows: Rows) -> None:
        rows.variables["w1"]["webserver_frobnicate_all"] = 2
        rows.only("webserver_frobnicate_all", "Take it out")

    def test_of_others(self, rows: Rows) -> None:
        rows.variables["w1"] |= {"ours_anything": 1, "ansible_user": "admin", "workers": []}
        assert rows.faults() == []


class TestMachines:
    def test_silent(self, rows: Rows) -> None:
        rows.seen["w1"] = None
        rows.only("w1 could not be looked at (timed out)", "--limit '!w1'")

    def test_left_out_by_limit(self, rows: Rows) -> None:
        rows.seen["w1"] = None
        rows.asked = {"web"}
        assert rows.faults() == []

    def test_distribution(self, rows: Rows) -> None:
        rows.facts["w1"] |= {"distribution": "Slackware", "distribution_version": "15.0"}
        rows.only("w1", "Debian 12 and 13", "Slackware 15.0", "reinstall")

    def test_memory_for_the_most_demanding_role(self, rows: Rows) -> None:
        rows.facts["w1"]["memtotal_mb"] = 800
        rows.only("w1 has 800 MiB of memory and needs 900", "worker_minimum_memory_mb")

    def test_memory_as_the_admin_set_it(self, rows: Rows) -> None:
        rows.facts["w1"]["memtotal_mb"] = 800
        rows.variables["w1"]["worker_minimum_memory_mb"] = 700
        assert rows.faults() == []

    def test_disk_before_the_first_time(self, rows: Rows) -> None:
        rows.seen["w1"] = GOOD | {"free_mb": 4000}
        rows.only("w1 has 4000 MiB of disk free", "needs 4096", "worker_minimum_disk_mb")

    def test_disk_afterwards(self, rows: Rows) -> None:
        rows.seen["w1"] = GOOD | {"free_mb": 4000, "fresh": False}
        assert rows.faults() == []
        rows.seen["w1"] = GOOD | {"free_mb": 2000, "fresh": False}
        rows.only("w1 has 2000 MiB of disk free", "needs 2048", "labfleet_minimum_disk_mb")

    @pytest.mark.parametrize(("seconds", "word"), [(61.0, "ahead of"), (-3600.0, "behind")])
    def test_clock(self, rows: Rows, seconds: float, word: str) -> None:
        rows.seen["web"] = GOOD | {"clock_seconds": seconds}
        rows.only("web", f"{abs(seconds):.0f} s {word}", "timesyncd")

    def test_names(self, rows: Rows) -> None:
        rows.seen["web"] = GOOD | {"unresolved": ["deb.debian.org"]}
        rows.only("web does not resolve deb.debian.org", "/etc/resolv.conf")


class TestLinks:
    @pytest.mark.parametrize("answer", ["open", "refused"])
    def test_reached(self, rows: Rows, answer: str) -> None:
        rows.seen["w1"] = GOOD | {"connections": {"10.0.0.2:443": answer}}
        assert rows.faults() == []

    @pytest.mark.parametrize("answer", ["silent", "no route to host", "unknown name"])
    def test_cut_off(self, rows: Rows, answer: str) -> None:
        rows.seen["w1"] = GOOD | {"connections": {"10.0.0.2:443": answer}}
        rows.only("w1 does not reach web at 10.0.0.2 port 443", "firewall")

    def test_our_own_firewall_is_opened_by_this_run(self, rows: Rows) -> None:
        rows.seen["w1"] = GOOD | {"connections": {"10.0.0.2:443": "silent"}}
        rows.seen["web"] = GOOD | {"firewall": "ip saddr { 10.0.0.11, 110.0.0.1 } tcp dport 443 accept"}
        assert rows.faults() == []

    def test_our_own_firewall_lets_it_in_and_something_else_does_not(self, rows: Rows) -> None:
        rows.seen["w1"] = GOOD | {"connections": {"10.0.0.2:443": "silent"}}
        rows.seen["web"] = GOOD | {"firewall": "ip saddr { 10.0.0.1, 10.0.0.3 } tcp dport 443 accept"}
        rows.only("w1 does not reach web")

    def test_machine_outside_the_run(self, rows: Rows) -> None:
        rows.seen["w1"] = GOOD | {"connections": {"10.0.0.2:443": "silent"}}
        rows.seen["web"] = None
        rows.asked = {"w1"}
        rows.only("w1 does not reach web", "without --limit")


class TestWhatThereIs:
    def test_every_variable_of_the_shipped_inventories_is_known(self, judge: ModuleType) -> None:
        known = judge.known_variables(ROOT)
        prefixes = tuple(f"{role}_" for role in known.roles | {"labfleet"})
        for path in [
            *ROOT.glob("inventory/*/group_vars/**/*.yml"),
            *ROOT.glob("app/tests/**/group_vars/**/*.yml"),
        ]:
            names = set(yaml.safe_load(path.read_text()) or {})
            assert {name for name in names if name.startswith(prefixes)} <= known.names, path

    def test_old_names_are_gone_and_new_ones_exist(self, judge: ModuleType) -> None:
        known = judge.known_variables(ROOT)
        renamed = yaml.safe_load((ROOT / "playbooks" / "vars" / "renamed.yml").read_text())[
            "renamed_variables"
        ]
        assert renamed
        for old, change in renamed.items():
            assert old not in known.names
            assert change.get("to") in known.names or (not change.get("to") and change["hint"])

    def test_links_lead_between_tiers(self) -> None:
        shared = yaml.safe_load((ROOT / "group_vars" / "all.yml").read_text())
        for groups in ({}, {"balancer": ["front"]}):
            ends = {
                Template(link[end]).render(groups=groups)
                for link in shared["labfleet_links"]
                for end in ("from", "to")
                if end in link
            }
            assert ends <= set(shared["labfleet_known_groups"])

    def test_every_playbook_validates_first(self) -> None:
        # Those raise test machines, for which there is no lab yet, or say themselves what is wrong with one.
        others = {"validate.yml", "machines.yml", "machine_images.yml", "self_check.yml"}
        for path in [ROOT / "site.yml", *ROOT.glob("playbooks/*.yml")]:
            if path.name not in others:
                first = yaml.safe_load(path.read_text())[0]
                assert first.get("ansible.builtin.import_playbook", "").endswith("validate.yml"), path


class TestClock:
    @pytest.mark.parametrize(
        ("now", "ahead"), [(100.0, 0.0), (101.5, 0.0), (102.0, 0.0), (162.0, 60.0), (40.0, -60.0)]
    )
    def test_what_is_certain(self, now: float, ahead: float) -> None:
        assert load("plugins/action/labfleet_look.py").ahead(now, 100.0, 102.0) == ahead
