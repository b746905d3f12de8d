"""A deployed lab is what the playbooks say: nothing left to change, and nothing begun on a bad machine."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from .lab import Lab, Machine
from .playbook import Run, play, site


class TestConverged:
    def test_second_run_changes_nothing(self, lab: Lab, again: Run) -> None:
        assert again.changed.keys() >= lab.machines.keys()
        assert set(again.changed.values()) == {0}, again.changes

    def test_check_predicts_nothing(self, lab: Lab) -> None:
        predicted = site(lab.inventory, "--check", "--diff").good()
        assert set(predicted.changed.values()) == {0}, predicted.changes

    def test_no_fact_cache_is_written(self) -> None:
        assert (
            "fact_caching = ansible.builtin.memory" in (Path(__file__).parents[3] / "ansible.cfg").read_text()
        )


def inventory_with(lab: Lab, folder: Path, **groups: object) -> Path:
    """The lab's inventory with further groups, beside the same variables and secrets."""
    source = lab.inventory if lab.inventory.is_dir() else lab.inventory.parent
    for name in ("group_vars", "host_vars", "secrets"):
        if (source / name).exists():
            (folder / name).symlink_to(source / name)
    hosts = yaml.safe_load((source / "hosts.yml").read_text())
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts | groups))
    return folder


def stopped(run: Run, *words: str) -> None:
    """The run ended before any change, with a message that has these words."""
    assert run.code != 0, run.output[-3000:]
    said = " ".join(run.output.split())
    for word in words:
        assert word in said, run.output[-4000:]
    assert set(run.changed.values()) <= {0}, run.changes


class TestValidate:
    def test_everything_at_once(self, lab: Lab, tmp_path: Path) -> None:
        """Each tier's playbook too refuses a lab that can't work, and says all that is wrong with it."""
        # One that stays in the lab when the database has no machine.
        machine = lab.machine("webserver").name
        inventory = inventory_with(lab, tmp_path, webservers={"hosts": {machine: {}}})
        hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
        hosts["labfleet"]["children"]["database"] = {"hosts": {}}
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        facts = {"distribution": "Slackware", "distribution_version": "15", "memtotal_mb": 4000}
        wrong = {
            "ansible_facts": facts | {"distribution_major_version": "15"},
            "labfleet_minimum_memory_mb": 99999999,
            "labfleet_minimum_disk_mb": 99999998,
            "common_minimum_disk_mb": 100,
            "worker_slotts": 1,
        }
        stopped(
            play(inventory, "playbooks/webserver.yml", "-e", json.dumps(wrong)),
            "The group database of the inventory has no machine",
            "webservers",
            "is webserver meant?",
            "common_minimum_disk_mb, set for all machines, is now labfleet_minimum_disk_mb",
            "Is worker_slots meant?",
            "Slackware",
            "Debian 12 and 13",
            "99999999. Give it more",
            "99999998. Free some space",
        )

    def test_a_tier_that_is_cut_off(self, lab: Lab, worker: Machine) -> None:
        """Packets that vanish on the way are found."""
        if len(lab.machines) == 1:
            return
        broker = lab.machine("rabbitmq")
        rule = f"ip daddr {broker.private_address} tcp dport 5671 drop"
        worker.run("nft add table inet acceptance")
        try:
            worker.run(
                "nft add chain inet acceptance out '{ type filter hook output priority 0; }' && "
                f"nft add rule inet acceptance out {rule}"
            )
            stopped(
                play(lab.inventory, "playbooks/validate.yml"),
                f"{worker.name} does not reach {broker.name} at {broker.private_address} port 5671",
                "(no answer)",
            )
        finally:
            worker.run("nft delete table inet acceptance")
