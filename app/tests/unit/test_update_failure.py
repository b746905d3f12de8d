"""What playbooks/update.yml does with a failure: every machine learns of it, whichever it met."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
INVENTORY = """
[webserver]
one ansible_connection=local
[queue]
one
[worker]
one
two ansible_connection=local
"""
PLAYS = """
- hosts: webserver
  gather_facts: false
  vars_files: [{folder}/vars/update.yml]
  tasks:
    - when: update_failure | length == 0
      block:
        - {{name: Switch, ansible.builtin.fail: {{msg: the disk is full}}}}
      rescue:
        - ansible.builtin.include_tasks: {folder}/tasks/update_failed.yml
- hosts: worker
  gather_facts: false
  serial: 1
  vars_files: [{folder}/vars/update.yml]
  tasks:
    - name: Forward
      ansible.builtin.debug: {{msg: "forward {{{{ inventory_hostname }}}}"}}
      when: update_failure | length == 0
    - name: Back
      ansible.builtin.debug: {{msg: "back {{{{ inventory_hostname }}}} after {{{{ update_failure }}}}"}}
      when: update_failure | length > 0
"""


def test_every_machine_goes_back_when_one_failed(tmp_path: Path) -> None:
    (tmp_path / "inventory").write_text(INVENTORY)
    (tmp_path / "play.yml").write_text(PLAYS.format(folder=ROOT / "playbooks"))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    for machine in ("one", "two"):
        assert f"back {machine} after one: Switch: the disk is full" in " ".join(done.stdout.split())
    assert "forward" not in done.stdout
