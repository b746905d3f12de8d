#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""See by one task what a machine has and whom it reaches; changes nothing."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: labfleet_look
short_description: See what a machine has and whom it reaches
description:
  - Tells the machine's time, its free disk space, whether Labfleet is on it, which names it resolves,
    and which ports of other machines answer.
  - Changes nothing, so check mode makes no difference.
options:
  disk:
    description: Directory below which free space is measured.
    type: path
    default: /var
  configuration:
    description: Directory that a machine has once Labfleet is on it.
    type: path
    default: /etc/labfleet
  connect:
    description: Ports of other machines to try, as C(address) and C(port).
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: Name or address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  timeout_seconds:
    description: How long one of them may take.
    type: float
    default: 2
  archives:
    description: Try to resolve the names of the package archives, if Labfleet is not on the machine yet.
    type: bool
    default: true
author: Labfleet
"""

EXAMPLES = r"""
- name: Look at each machine
  labfleet_look:
    connect:
      - {address: 10.0.0.5, port: 5432}
"""

RETURN = r"""
now:
  description: The machine's time, in seconds since 1970.
  type: float
  returned: always
free_mb:
  description: Free disk space in MiB.
  type: int
  returned: always
fresh:
  description: Whether Labfleet has never been on the machine.
  type: bool
  returned: always
firewall:
  description: Labfleet's own firewall rules, as they are kept on the machine.
  type: str
  returned: always
connections:
  description: For each C(address:port) C(open), C(refused) (nothing listens), C(silent) or what went wrong.
  type: dict
  returned: always
unresolved:
  description: Names of package archives that the machine does not resolve.
  type: list
  returned: always
"""

SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")


def main() -> None:
    """Entry point."""
    port = {"address": {"type": "str", "required": True}, "port": {"type": "int", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "disk": {"type": "path", "default": "/var"},
            "configuration": {"type": "path", "default": "/etc/labfleet"},
            "connect": {"type": "list", "elements": "dict", "default": [], "options": port},
            "timeout_seconds": {"type": "float", "default": 2},
            "archives": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    configuration = Path(given["configuration"])
    fresh = not configuration.exists()
    names = archives([Path(path) for path in SOURCES]) if fresh and given["archives"] else []
    asked = {(entry["address"], entry["port"]) for entry in given["connect"]}
    with ThreadPoolExecutor(max_workers=16) as threads:
        answers = {
            f"{address}:{number}": threads.submit(knock, address, number, given["timeout_seconds"])
            for address, number in asked
        }
        known = {name: threads.submit(resolves, name) for name in names}
        connections = {name: answer.result() for name, answer in answers.items()}
        unresolved = [name for name, answer in known.items() if not answer.result()]
    module.exit_json(
        changed=False,
        now=time.time(),
        free_mb=free_mb(Path(given["disk"])),
        fresh=fresh,
        firewall=text(configuration / "firewall.nft"),
        connections=connections,
        unresolved=unresolved,
    )


def free_mb(path: Path) -> int:
    """Space that an ordinary user may fill, in MiB."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 2**20


def text(path: Path) -> str:
    """What stands in a file; nothing if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def knock(address: str, port: int, timeout: float) -> str:
    """Try one connection: `open`, `refused`, `silent`, or what went wrong."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except socket.gaierror:
        return "unknown name"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def resolves(name: str) -> bool:
    """Whether a name has an address."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def archives(places: list[Path]) -> list[str]:
    """Hosts of the package archives that apt is told to use; none where a proxy stands between."""
    settings = files([Path("/etc/apt/apt.conf"), Path("/etc/apt/apt.conf.d")])
    if any("proxy" in text(path).lower() for path in settings):
        return []
    found = set()
    for path in files(places):
        for line in text(path).splitlines():
            for word in () if line.lstrip().startswith("#") else line.split():
                if word.startswith(("http://", "https://")):
                    found.add(word.split("/")[2].rpartition("@")[2].partition(":")[0])
    return sorted(found)


def files(places: list[Path]) -> list[Path]:
    """The files that are named, and those of the directories that are named."""
    found: list[Any] = []
    for place in places:
        found += sorted(place.iterdir()) if place.is_dir() else [place]
    return found


if __name__ == "__main__":
    main()
