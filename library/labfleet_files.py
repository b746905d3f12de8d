#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Keep many small files and directories by one task: a loop of tasks costs a round trip for each of them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_files
short_description: Keep many small files and directories, each with its owner and mode
description:
  - Makes directories and writes files, in the order given; a file is replaced by one rename.
  - Supports check mode and diff mode, also where the owners are not there yet.
options:
  directories:
    description: Directories, as C(path), C(mode) and C(owner) (root by default; also the group).
    type: list
    elements: dict
    default: []
  files:
    description: Files of root, as C(path), C(mode) and C(content).
    type: list
    elements: dict
    default: []
  restarted:
    description:
      - The units among the files are restarted when C(written) names them. One that has run since before its file was
        written is named too, as the file of a run that was cut off before it restarted it.
    type: bool
    default: false
  secret:
    description: Leave the contents out of the difference that is shown.
    type: bool
    default: false
author: Labfleet
"""

EXAMPLES = r"""
- name: Configure | Units
  labfleet_files:
    files:
      - path: /etc/systemd/system/a.service
        mode: "0644"
        content: "{{ lookup('ansible.builtin.template', 'a.service.j2') }}"
"""

RETURN = r"""
written:
  description: Names (the last part of the path) of the files and directories that were changed.
  type: list
  returned: always
"""


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": entry()},
            "files": {"type": "list", "elements": "dict", "default": [], "options": entry(content=True)},
            "restarted": {"type": "bool", "default": False},
            "secret": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    changes = []
    try:
        for wanted in module.params["directories"]:
            changes += keep_directory(wanted, module.check_mode)
        for wanted in module.params["files"]:
            made = keep_file(wanted, module.check_mode)
            if not made and module.params["restarted"]:
                made = older(Path(wanted["path"]))
            changes += made
    except (OSError, KeyError) as error:
        module.fail_json(msg=f"{wanted['path']}: {error}", written=[name(change) for change in changes])
    shown = [masked(change) if module.params["secret"] else change for change in changes]
    module.exit_json(changed=bool(changes), written=[name(change) for change in changes], diff=shown)


def entry(content: bool = False) -> dict[str, Any]:
    """The shape of one entry."""
    shape: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "mode": {"type": "str", "required": True},
        "owner": {"type": "str", "default": "root"},
    }
    return shape | ({"content": {"type": "str", "required": True}} if content else {})


def keep_directory(wanted: dict[str, Any], check: bool) -> list[dict[str, str]]:
    """Make it, or mend its owner and mode; what was changed."""
    path = Path(wanted["path"])
    before = rights(path)
    if before == asked(wanted):
        return []
    if not check:
        path.mkdir(parents=True, exist_ok=True)
        give(path, wanted)
    return [difference(path, before, asked(wanted), "", "")]


def keep_file(wanted: dict[str, Any], check: bool) -> list[dict[str, str]]:
    """Write it, or mend its owner and mode; what was changed."""
    path, content = Path(wanted["path"]), wanted["content"]
    before = rights(path)
    old = path.read_text(errors="replace") if before else ""
    if before == asked(wanted) and old == content:
        return []
    if not check:
        replace(path, content, wanted)
    return [difference(path, before, asked(wanted), old, content)]


def older(path: Path) -> list[dict[str, str]]:
    """What is to be told of a unit that runs since before its file was written; nothing for one that does not run."""
    shown = subprocess.run(
        ["systemctl", "show", "--timestamp=unix", "--property=ActiveState,ActiveEnterTimestamp", path.name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    unit = dict(line.partition("=")[::2] for line in shown.splitlines())
    since = unit.get("ActiveEnterTimestamp", "").removeprefix("@")
    if unit.get("ActiveState") != "active" or not since.isdigit():
        return []
    if int(since) >= int(path.stat().st_mtime):
        return []
    return [difference(path, "has run since before it was written", "restarted", "", "")]


def replace(path: Path, content: str, wanted: dict[str, Any]) -> None:
    """Put the new file in place by one rename, readable for nobody before it has its rights."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        give(Path(partial), wanted)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise


def give(path: Path, wanted: dict[str, Any]) -> None:
    """Set owner, group and mode."""
    owner = wanted["owner"]
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(owner).gr_gid)
    path.chmod(int(wanted["mode"], 8))


def asked(wanted: dict[str, Any]) -> str:
    """Owner, group and mode as one text."""
    return f"{wanted['owner']}:{wanted['owner']} {int(wanted['mode'], 8):04o}"


def rights(path: Path) -> str:
    """Owner, group and mode of what is there; empty if nothing is."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    owner, group = _name(pwd.getpwuid, status.st_uid), _name(grp.getgrgid, status.st_gid)
    return f"{owner}:{group} {stat.S_IMODE(status.st_mode):04o}"


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def difference(path: Path, before: str, after: str, old: str, new: str) -> dict[str, str]:
    """One entry of Ansible's diff."""
    return {
        "before_header": f"{path} ({before or 'absent'})",
        "after_header": f"{path} ({after})",
        "before": old,
        "after": new,
    }


def masked(change: dict[str, str]) -> dict[str, str]:
    """The same without contents."""
    return change | {"before": "", "after": ""}


def name(change: dict[str, str]) -> str:
    """Last part of the path of a change."""
    return change["after_header"].partition(" ")[0].rpartition("/")[2]


if __name__ == "__main__":
    main()
