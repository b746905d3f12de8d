#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Find files that give more rights than a Debian of these tiers does; changes nothing."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_audit
short_description: Find files that give more rights than they should
description:
  - Walks the local file systems and lists setuid and setgid programs, files with capabilities, files and
    directories that everybody may write to, and files without an owner, unless they are allowed.
  - Changes nothing.
options:
  privileged:
    description: Programs that may be setuid or setgid or have capabilities, as patterns of paths.
    type: list
    elements: str
    required: true
  allowed:
    description: Other paths that are as they should be, as patterns.
    type: list
    elements: str
    default: []
  skipped:
    description: Directories that are not looked into.
    type: list
    elements: str
    default: []
author: Labfleet
"""

EXAMPLES = r"""
- name: Look
  labfleet_audit:
    privileged: [/usr/bin/sudo]
"""

RETURN = r"""
found:
  description: One sentence for each file.
  type: list
  returned: always
files:
  description: How many files and directories were looked at.
  type: int
  returned: always
"""

LOCAL = {
    "btrfs",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "overlay",
    "tmpfs",
    "xfs",
    "zfs",
    "jfs",
    "reiserfs",
    "fuseblk",
}
CAPABILITIES = "security.capability"


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "privileged": {"type": "list", "elements": "str", "required": True},
            "allowed": {"type": "list", "elements": "str", "default": []},
            "skipped": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    found, files, owners = [], 0, Owners()
    for path, status in walk("/", mounts("/proc/self/mounts"), given["skipped"]):
        files += 1
        for fault, patterns in faults(path, status, owners):
            allowed = given["allowed"] + (given["privileged"] if patterns == "privileged" else [])
            if not any(fnmatch.fnmatchcase(path, pattern) for pattern in allowed):
                found.append(f"{path} {fault}")
    module.exit_json(changed=False, found=sorted(found), files=files)


class Owners:
    """Numbers of users and groups that have a name on this machine."""

    def __init__(self, users: str = "/etc/passwd", groups: str = "/etc/group") -> None:
        self.users, self.groups = numbers(users), numbers(groups)

    def knows(self, status: os.stat_result) -> bool:
        """Whether both have; numbers that systemd gives out for a while have none in the files."""
        return all(
            number in known or DYNAMIC[0] <= number <= DYNAMIC[1]
            for number, known in ((status.st_uid, self.users), (status.st_gid, self.groups))
        )


DYNAMIC = (61184, 65519)


def numbers(path: str) -> set[int]:
    """The third field of each line."""
    with Path(path).open(encoding="utf-8") as lines:
        return {int(line.split(":")[2]) for line in lines if line.count(":") >= 2}


def mounts(path: str) -> dict[str, str]:
    """The file system's type of each mount point; the last mount on it counts."""
    with Path(path).open(encoding="utf-8") as lines:
        fields = [line.split() for line in lines]
    return {field[1].replace("\\040", " "): field[2] for field in fields}


def walk(top: str, mounted: dict[str, str], skipped: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Everything on local file systems below `top`, links left out."""
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(status.st_mode):
                continue
            inside = stat.S_ISDIR(status.st_mode)
            if inside and (entry.path in skipped or mounted.get(entry.path, "ext4") not in LOCAL):
                continue
            yield entry.path, status
            if inside:
                waiting.append(entry.path)


def faults(path: str, status: os.stat_result, owners: Owners) -> Iterator[tuple[str, str]]:
    """What is special about a file, and the kind of list that may allow it."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        if mode & stat.S_ISUID:
            yield "runs as its owner (setuid)", "privileged"
        if mode & stat.S_ISGID and mode & stat.S_IXGRP:
            yield "runs as its group (setgid)", "privileged"
        if capabilities(path):
            yield "has capabilities", "privileged"
    open_to_all = mode & stat.S_IWOTH and not stat.S_ISSOCK(mode)
    if open_to_all and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX) and not stat.S_ISCHR(mode):
        yield "may be written to by everybody", "allowed"
    if not owners.knows(status):
        yield f"belongs to nobody ({status.st_uid}:{status.st_gid})", "allowed"


def capabilities(path: str) -> bool:
    """Whether the file gives capabilities to whoever runs it."""
    try:
        return bool(os.getxattr(path, CAPABILITIES, follow_symlinks=False))
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.EPERM}:
            return False
        raise


if __name__ == "__main__":
    main()
