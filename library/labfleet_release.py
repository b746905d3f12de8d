#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Make another release the current one, and go back; each keeps the configuration that it ran with."""

from __future__ import annotations

import datetime
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_release
short_description: Switch the link to the current release, forwards or back
description:
  - C(state=current) points C(<prefix>/current) to a release that is installed, by one rename. Before that it
    keeps the files that C(configuration) names as those of the release that goes, in
    C(<prefix>/configurations/<release>.json).
  - C(state=restored) goes back to a release that ran before, and puts the files back that it ran with. Files
    that it did not have are removed, units among them stopped first. Nothing is restarted.
  - C(state=begun) remembers in C(<prefix>/operation.json) that C(operation) has begun, which release ran before it, and
    that it goes to C(release). What an operation that was cut off has said of the release before it stays.
  - C(state=ended) forgets it.
  - C(state=told) changes nothing.
  - No secret may be among the files.
options:
  prefix:
    description: Directory of C(releases) and C(current).
    type: path
    required: true
  release:
    description: The release's name. For C(restored) it is the previous one by default.
    type: str
    default: ""
  configuration:
    description: Patterns of the files that belong to a release.
    type: list
    elements: str
    default: []
  operation:
    description: What begins, for C(state=begun).
    type: str
    choices: ["", update, rollback]
    default: ""
  state:
    description: What is wanted.
    type: str
    choices: [current, restored, begun, ended, told]
    default: told
author: Labfleet
"""

EXAMPLES = r"""
- name: Go back
  labfleet_release:
    prefix: /opt/labfleet
    configuration: [/etc/labfleet/*.toml]
    state: restored
"""

RETURN = r"""
current:
  description: The release that is the current one now (in check mode, that would be); empty if there is none.
  type: str
  returned: always
before:
  description: The one that was it before.
  type: str
  returned: always
previous:
  description: The one that C(restored) goes back to by default; empty if there is none.
  type: str
  returned: always
origin:
  description: The release that ran before an operation that has begun and not ended, as long as there is a way back to it;
    without such an operation, the current one.
  type: str
  returned: always
back:
  description: Where a rollback leads from here. After an update that was cut off, to the release before it, on machines
    too that it had not come to; after a rollback that was cut off, to where it was going. Else the previous one.
  type: str
  returned: always
written:
  description: Paths of the files that were put back or removed.
  type: list
  returned: always
"""

UNITS = "/etc/systemd/system/"


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "release": {"type": "str", "default": ""},
            "configuration": {"type": "list", "elements": "str", "default": []},
            "operation": {"type": "str", "choices": ["", "update", "rollback"], "default": ""},
            "state": {
                "type": "str",
                "choices": ["current", "restored", "begun", "ended", "told"],
                "default": "told",
            },
        },
        supports_check_mode=True,
    )
    releases = Releases(Path(module.params["prefix"]), module.params["configuration"])
    before, wanted = releases.current, module.params["release"]
    written: list[str] = []
    marked = False
    try:
        if module.params["state"] == "current":
            after = releases.switch(wanted, module.check_mode)
        elif module.params["state"] == "restored":
            after, written = releases.restore(wanted, module.check_mode)
        else:
            after = before
        if module.params["state"] == "begun":
            marked = releases.begin(module.params["operation"], wanted, module.check_mode)
        elif module.params["state"] == "ended":
            marked = releases.end(module.check_mode)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error), current=releases.current, before=before, written=written)
    module.exit_json(
        changed=after != before or bool(written) or marked,
        current=after,
        before=before,
        previous=releases.previous,
        origin=releases.origin,
        back=releases.back,
        written=written,
        diff={"before": f"{before}\n", "after": f"{after}\n"} if after != before else {},
    )


class Releases:
    """The releases of one machine, and the configuration that each of them ran with."""

    def __init__(self, prefix: Path, patterns: list[str]) -> None:
        self._prefix = prefix
        self._patterns = patterns
        self._mark = prefix / "operation.json"

    @property
    def current(self) -> str:
        """Name of the current release; empty if there is none."""
        return self._target("current")

    @property
    def previous(self) -> str:
        """Name of the one before; empty if there is none, or it is not there any more."""
        name = self._target("previous")
        return name if name and self.kept(name).is_file() and self._installed(name) else ""

    @property
    def begun(self) -> dict[str, str]:
        """What the operation that has begun and not ended has said of itself; empty if there is none."""
        try:
            said = json.loads(self._mark.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}

    @property
    def origin(self) -> str:
        """The release before the operation that has begun, if there is a way back to it; else the current one."""
        name = self.begun.get("from", "")
        return name if self._way_back(name) else self.current

    @property
    def back(self) -> str:
        """Where a rollback leads; empty if nowhere."""
        name = {"update": "from", "rollback": "to"}.get(self.begun.get("operation", ""), "")
        wanted = self.begun.get(name, "")
        return wanted if self._way_back(wanted) else self.previous

    def begin(self, operation: str, release: str, check: bool) -> bool:
        """Remember that an operation has begun which goes to `release`; whether that is news."""
        if not operation:
            raise ValueError("operation is empty: say what begins.")
        before = {key: self.begun.get(key) for key in ("operation", "from", "to")}
        said = {"operation": operation, "from": self.origin, "to": release}
        if said == before:
            return False
        if not check:
            said["previous"] = self.begun.get("previous", self._target("previous"))
            now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
            _write(self._mark, json.dumps({**said, "at": now}), 0o644)
        return True

    def end(self, check: bool) -> bool:
        """Forget the operation that has begun; whether there was one."""
        there = self._mark.exists()
        if there and not check:
            self._mark.unlink()
        return there

    def kept(self, name: str) -> Path:
        """Where a release's configuration is kept while another is the current one."""
        return self._prefix / "configurations" / f"{name}.json"

    def switch(self, name: str, check: bool) -> str:
        """Make `name` the current release; its name."""
        if not name:
            raise ValueError("release is empty: name the one that shall be current.")
        if name == self.current or check:
            return name
        if not self._installed(name):
            raise ValueError(f"The release {name} is not installed completely below {self._prefix}/releases.")
        self._leave()
        self._point("current", name)
        return name

    def restore(self, name: str, check: bool) -> tuple[str, list[str]]:
        """Go back to `name`, by default the previous one: its name, and the files that it had otherwise."""
        name = name or self.previous
        if not name:
            raise ValueError("There is no previous release to go back to on this machine.")
        if name == self.current:
            return name, []
        if not self._installed(name) or not self.kept(name).is_file():
            raise ValueError(
                f"The release {name} is not here any more with the configuration that it ran with. "
                "Run the playbooks of an older checkout instead."
            )
        had: dict[str, dict[str, Any]] = json.loads(self.kept(name).read_text())
        has = self._configuration()
        written = [path for path in {**had, **has} if had.get(path) != has.get(path)]
        if not check:
            self._leave()
            self._put_back(had, written)
            self._point("current", name)
            self._forget_what_it_left(name)
        return name, written

    def _forget_what_it_left(self, name: str) -> None:
        """What was gone back from is no way on. Where an operation is undone, the way back from before it is there again."""
        before = self.begun.get("previous", "") if name == self.begun.get("from") else ""
        if before:
            self._point("previous", before)
        else:
            (self._prefix / "previous").unlink(missing_ok=True)

    def _leave(self) -> None:
        """Keep what the current release ran with, and remember it as the previous one."""
        name = self.current
        if not name:
            return
        path = self.kept(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path, json.dumps(self._configuration(), indent=1, sort_keys=True), 0o600)
        self._point("previous", name)
        for old in path.parent.glob("*.json"):
            if not self._installed(old.stem):
                old.unlink()

    def _configuration(self) -> dict[str, dict[str, Any]]:
        paths = sorted({found for pattern in self._patterns for found in Path("/").glob(pattern.lstrip("/"))})
        return {
            str(path): {"mode": stat.S_IMODE(path.stat().st_mode), "content": path.read_text()}
            for path in paths
            if path.is_file() and not path.is_symlink()
        }

    def _put_back(self, had: dict[str, dict[str, Any]], differing: list[str]) -> None:
        """Others are left alone: a unit that is older than its file is taken for one that has to be restarted."""
        for path in differing:
            if path in had:
                _write(Path(path), had[path]["content"], had[path]["mode"])
                continue
            if path.startswith(UNITS):
                _disable(Path(path).name)
            Path(path).unlink()

    def _target(self, link: str) -> str:
        path = self._prefix / link
        return path.readlink().name if path.is_symlink() else ""

    def _way_back(self, name: str) -> bool:
        """Whether `restore` would take it."""
        if not name or not self._installed(name):
            return False
        return name == self.current or self.kept(name).is_file()

    def _installed(self, name: str) -> bool:
        return (self._prefix / "releases" / name / "release.json").is_file()

    def _point(self, link: str, name: str) -> None:
        partial = self._prefix / f".{link}"
        partial.unlink(missing_ok=True)
        partial.symlink_to(self._prefix / "releases" / name)
        partial.replace(self._prefix / link)


def _write(path: Path, content: str, mode: int) -> None:
    """Put a file of root in place by one rename."""
    partial = path.with_name(f".{path.name}-restored")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    partial.chmod(mode)
    partial.replace(path)


def _disable(unit: str) -> None:
    """Stop a unit for good; one that is not running or not enabled is no fault."""
    subprocess.run(["/usr/bin/systemctl", "disable", "--now", unit], capture_output=True, check=False)


if __name__ == "__main__":
    main()
