# SPDX-License-Identifier: Apache-2.0
"""Make what a machine needs that is to join as a worker by itself: one encrypted archive.

Runs on the controller, in a play on the machine, which need not be there yet. The archive holds a repository
with playbooks, roles and the application's source, the built release, and a slice of the inventory: the
variables of this one machine, rendered, with the files they name. A slice in which the value of anybody else's
secret stands is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("common", "firewall", "hardening", "app", "worker", "monitoring")
"""The roles of playbooks/join.yml. What the inventory says of their variables goes into the slice."""
LABFLEET = (
    "labfleet_private_address",
    "labfleet_known_groups",
    "labfleet_minimum_memory_mb",
    "labfleet_minimum_disk_mb",
    "labfleet_clock_seconds",
    "labfleet_skip_checks",
    "labfleet_no_log",
    "labfleet_monitored",
    "labfleet_monitoring_tls",
)
"""What the playbooks themselves ask for."""
CONTROLLER_FILES = (
    "common_extra_ca_files",
    "worker_broker_ca_file",
    "worker_front_ends",
    "worker_package_index_ca_file",
    "worker_r_index_ca_file",
    "worker_image_ca_file",
    "monitoring_tls_certificate_file",
    "monitoring_tls_key_file",
    "monitoring_tls_clients_file",
)
"""Variables that name files of the controller; these come along."""
HERE = {
    "labfleet_authority_here": False,
    "labfleet_required_groups": ["worker"],
    # Where nothing can be made: no secret makes itself on a machine that would be its only owner.
    "labfleet_secrets_directory": "/dev/null/labfleet",
    "app_repository_directory": "{{ inventory_dir | dirname }}/checkout/app",
    "app_cache_directory": "{{ inventory_dir | dirname }}/releases",
    "app_uv": "uv",
    "app_source_directory": "",
    "worker_release": "{{ app_release | default({}) }}",
    "monitoring_release": "{{ app_release | default({}) }}",
    # Of a machine that asks others, which is none that joins by itself.
    "monitoring_server": False,
    "monitoring_targets": {},
    "monitoring_tls_kinds": [],
    "monitoring_tls_ca_file": "",
    "monitoring_client_kinds": [],
    "monitoring_client_certificate_file": "",
    "monitoring_client_key_file": "",
    "ansible_connection": "local",
    "ansible_user": "root",
}
"""What is another thing on the machine itself than on the controller."""
REPOSITORY = ("ansible.cfg", "site.yml", "playbooks", "roles", "library", "plugins", "group_vars")
APPLICATION = ("pyproject.toml", "uv.lock", "README.md", "src", "protocols")
LITTER = ("__pycache__", "*.pyc", "molecule", ".*")
SHORTEST_SECRET = 12
TEMPLATE = re.compile(r"\{\{|\{%|\{#")


class ActionModule(ActionBase):
    """`labfleet_slice`: `release` (its archive), `repository` (of the application), `archive` (to be written).

    Gives `sha256` and `key` of the archive. In check mode nothing is written; what is wrong is found even so.
    """

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, look for what must not be in it, pack."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        known, given = task_vars or {}, self._task.args
        name = str(known["inventory_hostname"])
        taken = Slice(name, inventory_of(name, known, self._templar.template))
        directory = self._templar.template(known["labfleet_secrets_directory"])
        others = foreign(
            Path(directory), self._templar.template(known["labfleet_given_secrets"]), own_secrets(name)
        )
        found = leaks(taken, others)
        if found:
            raise AnsibleError(
                f"What {name} is to know would hold secrets of others: {', '.join(found)}. Look which of its "
                "variables has them, and take them out of it."
            )
        if self._task.check_mode:
            return result | {"changed": True, "variables": sorted(taken.variables)}
        with tempfile.TemporaryDirectory(prefix="labfleet-join-") as scratch:
            told = pack(
                taken,
                Path(scratch),
                Path(given["release"]),
                Path(given["repository"]),
                Path(given["archive"]),
            )
        return result | {"changed": True, **told}


@dataclass
class Slice:
    """The inventory of one machine, as it finds it: `files` by their name in it, with their content."""

    name: str
    inventory: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for variable in CONTROLLER_FILES:
            if self.variables.get(variable):
                self.variables[variable] = self._taken_along(variable, self.variables[variable])

    @property
    def variables(self) -> dict[str, Any]:
        """The machine's variables."""
        found: dict[str, Any] = self.inventory["labfleet"]["children"]["worker"]["hosts"][self.name]
        return found

    def _taken_along(self, variable: str, value: Any) -> Any:
        """The value with the places that its files have on the machine."""
        if isinstance(value, dict):
            return {
                key: self._taken_along(f"{variable}-{key}", part)
                if isinstance(part, dict) or key.endswith("_file")
                else part
                for key, part in value.items()
            }
        if isinstance(value, list):
            # A certificate authority is kept by its file's name.
            return [self._taken_along(f"{variable}-{number}", part) for number, part in enumerate(value)]
        if not value:
            return value
        path = Path(value)
        try:
            self.files[f"{variable}/{path.name}"] = path.read_bytes()
        except OSError as error:
            raise AnsibleError(f"{variable} names {path}, which can't be read: {error.strerror}.") from error
        return Raw("{{ inventory_dir }}/files/" + f"{variable}/{path.name}")


class Raw(str):
    """A template that the machine renders itself."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes what was rendered so that it is not rendered again."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    rendered = TEMPLATE.search(value) and not isinstance(value, Raw)
    return dumper.represent_scalar("!unsafe" if rendered else "tag:yaml.org,2002:str", str(value))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Raw, _text)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def inventory_of(name: str, known: Mapping[str, Any], render: Callable[[Any], Any]) -> dict[str, Any]:
    """The inventory for the machine: all its variables, and of the others the addresses that it talks to."""
    variables = {
        variable: value_of(variable, known[variable], render)
        for variable in sorted(options(ROOT) | set(LABFLEET))
        if variable in known and variable not in HERE
    }
    links = [
        {"from": "worker", "to": link["to"], "port": link["port"]}
        for link in plain(render(known["labfleet_links"]))
        if link.get("from") == "worker"
    ]
    variables |= {"labfleet_links": links}
    variables |= {key: Raw(value) if isinstance(value, str) else value for key, value in HERE.items()}
    groups: dict[str, Any] = {
        "labfleet": {"children": {"worker": {"hosts": {name: variables}}}},
    }
    for tier in {link["to"] for link in links}:
        groups[tier] = {
            "hosts": {
                other: {"labfleet_private_address": str(known["hostvars"][other]["labfleet_private_address"])}
                for other in known["groups"].get(tier, [])
            }
        }
    found: dict[str, Any] = plain(groups)
    return found


def options(root: Path) -> set[str]:
    """The public variables of the roles."""
    names: set[str] = set()
    for role in ROLES:
        text = (root / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
        names |= set(yaml.safe_load(text)["argument_specs"]["main"]["options"])
    return names


def value_of(variable: str, raw: Any, render: Callable[[Any], Any]) -> Any:
    """A variable's value for the machine; as it is written, where it asks for facts that only the machine has."""
    try:
        return plain(render(raw))
    except Exception as error:
        if "ansible_facts" in str(raw) and "lookup(" not in str(raw):
            return plain(raw, Raw)
        raise AnsibleError(
            f"{variable} can't be told before the machine is there: {error} Give it a value, or write "
            "ansible_facts into it directly."
        ) from error


def plain(value: Any, text: Callable[[str], str] = str) -> Any:
    """The value without Ansible's own kinds of strings, lists and dictionaries."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return text(str(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(part, text) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(part, text) for part in value]
    return value


def strings(value: Any) -> Iterator[str]:
    """Every text in it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key)
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    else:
        yield str(value)


def own_secrets(name: str) -> set[str]:
    """The names of the secrets that a worker has."""
    return {"broker_password_worker", f"worker_token_{name}", f"{name}.key"}


def foreign(directory: Path, given: Mapping[str, Any], own: set[str]) -> dict[frozenset[str], str]:
    """All secrets but these: what stands together where one of them is given away, and its name."""
    values: dict[frozenset[str], str] = {}
    allowed: set[str] = set()
    for name, texts in everything(directory, given):
        found = [whole for text in texts for whole in wholes(text, name.endswith(".old"))]
        if name.removesuffix(".next").removesuffix(".old") in own:
            allowed |= frozenset().union(*found)
        else:
            values |= dict.fromkeys(found, name)
    kept = {frozenset(part for part in whole if len(part) >= SHORTEST_SECRET): name for whole, name in values.items()}
    return {whole: name for whole, name in kept.items() if whole and not whole <= allowed}


def wholes(text: str, old: bool) -> Iterator[frozenset[str]]:
    """The secrets of a file, a line each; a key (PEM) is all its lines, for some of them are in its certificate too."""
    lines = [line.strip() for line in text.splitlines()]
    bare = [line for line in lines if line and not line.startswith("-----")]
    if len(bare) < len([line for line in lines if line]):
        yield frozenset(bare)
        return
    for line in bare:
        # Lines of NAME.old begin with a time.
        yield frozenset({line.split()[-1] if old else line})


def everything(directory: Path, given: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Every secret by name: files beside the inventory, and those that are given."""
    for path in sorted(directory.rglob("*")) if directory.is_dir() else []:
        if path.suffix in {".crt", ".pub"} or path.name == "known_hosts" or path.parts[-3:-2] == ("joins",):
            continue
        if path.is_file():
            yield path.name, [path.read_text(encoding="utf-8", errors="replace")]
    for name, value in given.items():
        yield name, [str(part) for part in (value if isinstance(value, list) else [value])]


def leaks(taken: Slice, others: Mapping[frozenset[str], str]) -> list[str]:
    """The names of those of these secrets whose values stand in the slice."""
    texts = [
        *strings(taken.inventory),
        *(content.decode(errors="replace") for content in taken.files.values()),
    ]
    whole = "\n".join(texts)
    return sorted({name for parts, name in others.items() if all(part in whole for part in parts)})


def pack(taken: Slice, scratch: Path, release: Path, application: Path, archive: Path) -> dict[str, str]:
    """Write the archive; gives its SHA-256 and the key that opens it."""
    content = scratch / "content"
    write_repository(content / "repository", application)
    write_inventory(content / "inventory", taken)
    (content / "releases").mkdir()
    shutil.copyfile(release, content / "releases" / release.name)
    plain_archive, key_file, key = scratch / "archive.tar.gz", scratch / "key", secrets.token_hex(32)
    with tarfile.open(plain_archive, "w:gz", compresslevel=6) as tar:
        tar.add(content, arcname=".", filter=owned_by_root)
    key_file.touch(0o600)
    key_file.write_text(key, encoding="ascii")
    archive.touch(0o600)
    # Its key is as long as the cipher's: there is nothing to be made harder to guess.
    done(
        [
            *("openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-salt", "-pass", f"file:{key_file}"),
            *("-in", str(plain_archive), "-out", str(archive)),
        ]
    )
    with archive.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "key": key}


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's name of the controller goes to the machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def write_repository(folder: Path, application: Path) -> None:
    """A git repository of one commit: what playbooks/join.yml needs."""
    folder.mkdir(parents=True)
    for source, names in ((ROOT, REPOSITORY), (application, APPLICATION)):
        target = folder if source == ROOT else folder / "app"
        target.mkdir(exist_ok=True)
        for name in names:
            copy(source / name, target / name)
    git = ["git", "-C", str(folder), "-c", "user.name=Labfleet", "-c", "user.email=labfleet@localhost"]
    git += ["-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "--force", "."], ["commit", "-q", "-m", "Join"]):
        done([*git, *arguments])


def copy(source: Path, target: Path) -> None:
    """A file or a folder, without what tools leave beside it."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*LITTER))
    else:
        shutil.copyfile(source, target)


def write_inventory(folder: Path, taken: Slice) -> None:
    """The slice, as an inventory."""
    folder.mkdir(parents=True, mode=0o700)
    text = yaml.dump(taken.inventory, Dumper=_Dumper, sort_keys=True, width=1000)
    write(folder / "hosts.yml", text.encode())
    for name, content in taken.files.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / "files" / name, content)


def write(path: Path, content: bytes) -> None:
    """A file that its owner alone may read."""
    path.touch(0o600)
    path.write_bytes(content)


def done(command: Iterable[str]) -> None:
    """Run a program; what it says when it fails is the error."""
    environment = {**os.environ, "LC_ALL": "C"}
    ran = subprocess.run(list(command), capture_output=True, text=True, check=False, env=environment)
    if ran.returncode:
        raise AnsibleError(f"{next(iter(command))} failed: {ran.stderr.strip() or ran.stdout.strip()}")
