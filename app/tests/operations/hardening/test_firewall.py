"""What an admin may do wrong with the firewall, and how it goes on and off."""

from __future__ import annotations

import time

import pytest
from acceptance.lab import Lab, Machine
from acceptance.playbook import play

RULES = "cat /etc/labfleet/firewall.nft; nft list table inet labfleet"


def test_rules_that_lock_out_come_back(lab: Lab, spare: Machine) -> None:
    """sshd listens on 22, and new rules let in 2222: the run says so, and the rules before come back."""
    before = spare.run(RULES)
    wrong = ("-e", '{"firewall_ssh_ports": [2222], "firewall_undo_seconds": 15}')
    run = play(lab.inventory, "playbooks/worker.yml", "--limit", spare.name, "--tags", "firewall", *wrong)
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "ssh did not come through the new rules, and they are taken back 15 s after" in said
    # Answers to what is open already come in all the time; a new connection does when the old rules are back.
    time.sleep(16)
    assert spare.run(RULES) == before
    assert spare.run("find /etc/labfleet -name 'firewall.nft?*'") == ""


def test_the_first_rules_go_if_they_lock_out(lab: Lab, spare: Machine) -> None:
    """A machine without rules has none again, though its units were read anew in between."""
    before = spare.run(RULES)
    command = ("playbooks/worker.yml", "--limit", spare.name, "--tags", "firewall")
    play(lab.inventory, *command, "-e", "firewall_enabled=false").good()
    wrong = ("-e", '{"firewall_ssh_ports": [2222], "firewall_undo_seconds": 15}')
    assert play(lab.inventory, *command, *wrong).code != 0
    time.sleep(16)
    assert "inet labfleet" not in spare.run("nft list tables")
    assert not spare.host.file("/etc/labfleet/firewall.nft").exists
    play(lab.inventory, *command).good()
    assert spare.run(RULES) == before


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('{"labfleet_extra_rules": [{"port": 9100, "sources": []}]}', "The rule for port 9100"),
        ('{"labfleet_extra_rules": [{"port": 9100, "sources": ["monitor"]}]}', "monitor is no address"),
        ('{"firewall_ssh_sources": []}', "nobody could mend the machine"),
    ],
)
def test_rules_that_nobody_meant(lab: Lab, spare: Machine, rules: str, message: str) -> None:
    before = spare.run(RULES)
    run = play(
        lab.inventory, "playbooks/worker.yml", "--limit", spare.name, "--tags", "firewall", "-e", rules
    )
    assert run.code != 0
    assert message in " ".join(run.output.split())
    assert spare.run(RULES) == before


def test_off_and_on(lab: Lab, spare: Machine) -> None:
    before = spare.run(RULES)
    spare.run("nft add table inet somebody")
    command = ("playbooks/worker.yml", "--limit", spare.name, "--tags", "firewall")
    off = ("-e", "firewall_enabled=false")
    try:
        assert play(lab.inventory, *command, *off).good().changed[spare.name] > 0
        assert spare.run("nft list tables") == "table inet somebody\n"
        assert (
            spare.run("systemctl list-unit-files --no-legend 'labfleet-firewall*'; ls /etc/labfleet").count(
                "firewall"
            )
            == 0
        )
        assert play(lab.inventory, *command, *off).good().changed[spare.name] == 0
    finally:
        play(lab.inventory, *command).good()
        spare.run("nft delete table inet somebody")
    assert spare.run(RULES) == before


def test_hardening_refuses_to_lock_out(lab: Lab, spare: Machine) -> None:
    closed = ("-e", '{"hardening_ssh_settings": {"PermitRootLogin": "no"}}')
    run = play(lab.inventory, "playbooks/worker.yml", "--limit", spare.name, "--tags", "hardening", *closed)
    assert run.code != 0
    assert "would not let it in again" in " ".join(run.output.split())
    spare.run("sshd -T | grep -qx 'permitrootlogin without-password'")
