#!/usr/bin/python
# Copyright 2026 the Labfleet authors
# SPDX-License-Identifier: Apache-2.0
"""Make a RabbitMQ broker's vhosts, users and permissions equal to a list."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: rabbitmq_access
short_description: Make a RabbitMQ broker's vhosts, users and permissions equal to a list
description:
  - Reads the broker's definitions in one call, compares, and writes what differs in another.
  - A password is hashed on the machine and handed over in a file for the broker alone, never on a command
    line. Whether the broker has the right one is told from its own salted hash.
  - Users that are not listed are deleted, permissions that are not listed are taken away.
    A vhost is deleted only if O(vhosts_absent) names it, for its messages go with it.
  - In check mode, where there is no broker yet, everything is predicted as a change.
options:
  vhosts:
    description: The vhosts that must exist.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name., type: str, required: true}
      default_queue_type: {description: Type of a queue declared without one., type: str, default: quorum}
  vhosts_absent:
    description: The vhosts that must not exist.
    type: list
    elements: str
    default: []
  users:
    description: All users of the broker.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name., type: str, required: true}
      password: {description: Password., type: str, required: true}
      tags: {description: Tags., type: list, elements: str, default: []}
      permissions:
        description: All permissions of the user.
        type: list
        elements: dict
        default: []
        suboptions:
          vhost: {description: Vhost., type: str, required: true}
          configure: {description: Pattern of what the user may declare., type: str, default: "^$"}
          write: {description: Pattern of what the user may publish to., type: str, default: "^$"}
          read: {description: Pattern of what the user may consume from., type: str, default: "^$"}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: Labfleet
"""

EXAMPLES = r"""
- name: Exactly one user
  rabbitmq_access:
    vhosts: [{name: shop}]
    vhosts_absent: ["/"]
    users:
      - name: shop_reader
        password: "{{ shop_reader_password }}"
        permissions: [{vhost: shop, read: ^shop\.}]
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be, one phrase each.
  returned: always
  type: list
  elements: str
  sample: [user guest deleted]
"""

HASHES = {"rabbit_password_hashing_sha256": hashlib.sha256, "rabbit_password_hashing_sha512": hashlib.sha512}
SALT_BYTES = 4  # fixed by the broker's format
SAFE_ARGUMENT = re.compile(r"[A-Za-z0-9_./@:-]+")  # Debian's rabbitmqctl hands its arguments through a shell
RIGHTS = ("configure", "write", "read")
COMMAND_SECONDS = 60
BROKER_USER = "rabbitmq"


@dataclass
class Plan:
    """What has to be done: definitions to import, commands to run, and a phrase for each change."""

    definitions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def define(self, kind: str, what: dict[str, Any], phrase: str) -> None:
        """Plan one object of ``kind`` (``vhosts``, ``users``, ``permissions``) to be made or overwritten."""
        self.definitions.setdefault(kind, []).append(what)
        self.changes.append(phrase)

    def command(self, arguments: list[str], phrase: str) -> None:
        """Plan one call of rabbitmqctl."""
        self.commands.append(arguments)
        self.changes.append(phrase)


def hashed(password: str) -> str:
    """The broker's form of a password: base64(salt + sha256(salt + password))."""
    salt = secrets.token_bytes(SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def is_password(user: dict[str, Any], password: str) -> bool:
    """Whether ``password`` is the one behind the hash in the broker's definition of ``user``."""
    function = HASHES.get(user.get("hashing_algorithm", ""))
    if function is None:
        return False
    stored = base64.b64decode(user.get("password_hash", ""))
    salt = stored[:SALT_BYTES]
    return hmac.compare_digest(stored, salt + function(salt + password.encode()).digest())


def tags_of(user: dict[str, Any]) -> set[str]:
    """The tags of an exported user: a list, or in older brokers one string with commas."""
    tags = user.get("tags") or []
    return set(tags.split(",") if isinstance(tags, str) else tags)


def queue_type_of(vhost: dict[str, Any]) -> str:
    """The default queue type of an exported vhost; a broker that names none takes classic."""
    named = vhost.get("metadata", {}).get("default_queue_type") or vhost.get("default_queue_type")
    return "classic" if named in (None, "undefined") else str(named)


def plan_vhosts(plan: Plan, now: dict[str, Any], wanted: list[dict[str, Any]], absent: list[str]) -> None:
    """Vhosts to make, to correct, and to delete."""
    there = {vhost["name"]: vhost for vhost in now["vhosts"]}
    for vhost in wanted:
        name, queue_type = vhost["name"], vhost["default_queue_type"]
        if name not in there:
            metadata = {"description": "", "tags": [], "default_queue_type": queue_type}
            definition = {"name": name, "default_queue_type": queue_type, "metadata": metadata}
            plan.define("vhosts", definition, f"vhost {name} with {queue_type} queues")
        elif queue_type_of(there[name]) != queue_type:
            command = ["update_vhost_metadata", name, "--default-queue-type", queue_type]
            plan.command(command, f"vhost {name} with {queue_type} queues from now on")
    for name in sorted(set(absent) & set(there)):
        plan.command(["delete_vhost", name], f"vhost {name} deleted")


def plan_users(plan: Plan, now: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
    """Users to make, to correct, and to delete."""
    there = {user["name"]: user for user in now["users"]}
    for user in wanted:
        known = there.get(user["name"])
        if known and is_password(known, user["password"]) and tags_of(known) == set(user["tags"]):
            continue
        definition = {
            "name": user["name"],
            "password_hash": hashed(user["password"]),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": user["tags"],
        }
        plan.define("users", definition, f"user {user['name']} {'corrected' if known else 'made'}")
    for name in sorted(set(there) - {user["name"] for user in wanted}):
        plan.command(["delete_user", name], f"user {name} deleted")


def plan_permissions(plan: Plan, now: dict[str, Any], users: list[dict[str, Any]], absent: list[str]) -> None:
    """Permissions to give and to take away; what goes with its user or vhost needs no step of its own."""
    there = {(p["user"], p["vhost"]): [p[right] for right in RIGHTS] for p in now["permissions"]}
    wanted = {(user["name"], p["vhost"]): p for user in users for p in user["permissions"]}
    for (user, vhost), permission in wanted.items():
        if there.get((user, vhost)) != [permission[right] for right in RIGHTS]:
            plan.define("permissions", {"user": user, **permission}, f"permissions of {user} in {vhost}")
    listed = {user["name"] for user in users}
    for user, vhost in sorted(set(there) - set(wanted)):
        if user in listed and vhost not in absent:
            plan.command(
                ["clear_permissions", "-p", vhost, user], f"permissions of {user} in {vhost} cleared"
            )


def rabbitmqctl(module: AnsibleModule, *arguments: str) -> tuple[int, str, str]:
    """Run one command of the broker's own tool."""
    unsafe = [argument for argument in arguments if not SAFE_ARGUMENT.fullmatch(argument)]
    if unsafe:
        module.fail_json(msg=f"{unsafe[0]!r} is no name for a command line: correct or delete it by hand.")
    program = module.get_bin_path("rabbitmqctl", required=True)
    command = [program, "--quiet", "--timeout", str(COMMAND_SECONDS), *arguments]
    code, out, err = module.run_command(command, environ_update={"LC_ALL": "C.UTF-8"})
    return int(code), str(out), str(err)


def definitions(module: AnsibleModule) -> dict[str, Any] | None:
    """What the broker has now; None where a check run meets a machine without a running broker."""
    if module.check_mode and module.get_bin_path("rabbitmqctl") is None:
        return None
    code, out, err = rabbitmqctl(module, "export_definitions", "-")
    if code == 0:
        return dict(json.loads(out))
    if module.check_mode:
        return None
    return module.fail_json(
        msg=f"The broker does not answer; see `systemctl status rabbitmq-server`: {err or out}"
    )


@contextmanager
def handed_over(what: dict[str, Any]) -> Iterator[str]:
    """A file that only the broker's user can read; RabbitMQ 4.0 does not read definitions from a pipe."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-access-") as directory:
        file = Path(directory) / "definitions.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(what), encoding="utf-8")
        for path in (file, directory):
            shutil.chown(path, BROKER_USER)
        yield str(file)


def change(module: AnsibleModule, *arguments: str) -> None:
    """Run a command that must succeed."""
    code, out, err = rabbitmqctl(module, *arguments)
    if code != 0:
        module.fail_json(msg=f"rabbitmqctl {arguments[0]} failed: {err or out}")


def apply(module: AnsibleModule, plan: Plan) -> None:
    """Carry the plan out: everything to be made in one import, then what has to be changed or has to go."""
    if plan.definitions:
        with handed_over(plan.definitions) as file:
            change(module, "import_definitions", file)
    for command in plan.commands:
        change(module, *command)


def main() -> None:
    """Compare, then change what differs."""
    permission = {
        "vhost": {"type": "str", "required": True},
        **{r: {"type": "str", "default": "^$"} for r in RIGHTS},
    }
    user = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "tags": {"type": "list", "elements": "str", "default": []},
        "permissions": {"type": "list", "elements": "dict", "default": [], "options": permission},
    }
    vhost = {
        "name": {"type": "str", "required": True},
        "default_queue_type": {"type": "str", "default": "quorum"},
    }
    module = AnsibleModule(
        argument_spec={
            "vhosts": {"type": "list", "elements": "dict", "default": [], "options": vhost},
            "vhosts_absent": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "dict", "default": [], "options": user},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    now = definitions(module) or {"vhosts": [], "users": [], "permissions": []}
    plan = Plan()
    plan_vhosts(plan, now, wanted["vhosts"], wanted["vhosts_absent"])
    plan_users(plan, now, wanted["users"])
    plan_permissions(plan, now, wanted["users"], wanted["vhosts_absent"])
    if plan.changes and not module.check_mode:
        apply(module, plan)
    difference = {"before": "", "after": "".join(f"{phrase}\n" for phrase in plan.changes)}
    module.exit_json(changed=bool(plan.changes), changes=plan.changes, diff=difference)


if __name__ == "__main__":
    main()
