#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""The files of secrets while they are changed: NAME is the value in use, NAME.next the one that takes its place."""

from __future__ import annotations

import os
import secrets
import string
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_rotation
short_description: New values of secrets beside the old ones, and in their place
description:
  - Works on a directory that has one file for each secret, on the controller. Knows only names, so that no value is
    ever among its arguments or in what it answers.
  - C(state=begun) makes C(NAME.next) for the names that are asked for. One that is there already, from a run that
    broke off, stays as it is, for it may be in use. A name without a file is left out.
  - C(state=kept) writes the value in use to C(NAME.old) with the present time, for names whose old values stay good
    for a while, and takes out what is older than C(days) days.
  - C(state=ended) puts each C(NAME.next) in the place of C(NAME).
  - Each change of a file is one rename, so that it is there as a whole or not at all.
options:
  directory:
    description: Where the files are.
    type: path
    required: true
  names:
    description: The secrets, by name. C(ended) takes all that have a new value.
    type: list
    elements: str
    default: []
  length:
    description: How many letters and digits a new value has, at least; never fewer than the old one.
    type: int
    default: 48
  days:
    description: How long old values stay good.
    type: float
    default: 8
  state:
    description: What is wanted.
    type: str
    choices: [begun, kept, ended]
    required: true
author: Labfleet
"""

EXAMPLES = r"""
- name: New values
  labfleet_rotation:
    directory: "{{ inventory_dir }}/secrets"
    names: [signing_key]
    state: begun
"""

RETURN = r"""
made:
  description: Names of the files that were changed (in check mode, that would be).
  type: list
  returned: always
waiting:
  description: Names of the secrets that have a new value beside the old one now (in check mode, that would have).
  type: list
  returned: always
resumed:
  description: Those of them that had it before.
  type: list
  returned: always
"""

LETTERS = string.ascii_letters + string.digits
NEXT, OLD = ".next", ".old"
DAY_SECONDS = 86400


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "length": {"type": "int", "default": 48},
            "days": {"type": "float", "default": 8},
            "state": {"type": "str", "choices": ["begun", "kept", "ended"], "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    rotation = Rotation(Path(given["directory"]), check=module.check_mode)
    resumed = rotation.waiting()
    try:
        if given["state"] == "begun":
            made = rotation.begin(given["names"], given["length"])
        elif given["state"] == "kept":
            made = rotation.keep(given["names"], given["days"], time.time())
        else:
            made = rotation.end()
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    waiting = sorted({*rotation.waiting(), *(made if given["state"] == "begun" else [])})
    module.exit_json(changed=bool(made), made=made, waiting=waiting, resumed=resumed)


class Rotation:
    """The secrets of one directory. With `check` nothing is written, and the answers are the same."""

    def __init__(self, directory: Path, *, check: bool = False) -> None:
        self.directory = directory
        self.check = check

    def waiting(self) -> list[str]:
        """Secrets that have a new value beside the old one."""
        return sorted(path.name.removesuffix(NEXT) for path in self.directory.glob(f"*{NEXT}"))

    def begin(self, names: Iterable[str], length: int) -> list[str]:
        """Make the new values that are not there yet; the names of their secrets."""
        waiting, made = self.waiting(), []
        for name in names:
            if name not in waiting and self._path(name).exists():
                size = max(length, len(self._value(name)))
                self._write(name + NEXT, "".join(secrets.choice(LETTERS) for _ in range(size)))
                made.append(name)
        return made

    def keep(self, names: Iterable[str], days: float, now: float) -> list[str]:
        """List the value in use among the old ones, and forget those that are too old; the names of changed files."""
        return [name + OLD for name in names if self._keep(name, now, now - days * DAY_SECONDS)]

    def _keep(self, name: str, now: float, oldest: float) -> bool:
        path = self._path(name + OLD)
        before = path.read_text().splitlines() if path.exists() else []
        lines = list(before)
        if name in self.waiting() and self._value(name) not in [line.split()[-1] for line in lines]:
            lines.insert(0, f"{int(now)} {self._value(name)}")
        lines = [line for line in lines if int(line.split()[0]) > oldest]
        if lines == before:
            return False
        if lines:
            self._write(path.name, "\n".join(lines))
        elif not self.check:
            path.unlink()
        return True

    def end(self) -> list[str]:
        """Put the new values in the place of the old ones; the names of the secrets."""
        names = self.waiting()
        for name in names:
            if not self.check:
                self._path(name + NEXT).replace(self._path(name))
        return names

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _value(self, name: str) -> str:
        return self._path(name).read_text().strip()

    def _write(self, name: str, text: str) -> None:
        if self.check:
            return
        descriptor, partial = tempfile.mkstemp(dir=self.directory, prefix=f".{name}-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(self._path(name))
        except BaseException:
            Path(partial).unlink()
            raise


if __name__ == "__main__":
    main()
