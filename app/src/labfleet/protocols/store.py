"""Protocols in git: a bare repository each, a commit for each version, the version's name as its tag.

A version never changes: an unchanged directory is found again, a changed one needs a new version.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a missing git is told where it's needed, by us

from git import Git, GitCommandError, GitCommandNotFound

from labfleet.errors import Conflict, LabfleetError, Unavailable, UnknownProtocol, UnknownVersion
from labfleet.protocols.archive import CHUNK, DEFAULT_LIMITS, Limits
from labfleet.protocols.check import check_tree
from labfleet.protocols.compare import FileChange, file_changes
from labfleet.protocols.gitenv import ENVIRONMENT, with_options
from labfleet.protocols.manifest import NAME, VERSION, Manifest, read_manifest
from labfleet.protocols.problems import MANIFEST
from labfleet.protocols.tree import Entry, entries_of

COMMIT = re.compile(r"^[0-9a-f]{40}$")
MAX_PATCH = 500_000
ABANDONED_SECONDS = 24 * 3600
_HALF_MADE = (".new-", ".old-", ".push-")
_NOBODY = "0" * 40
BACKUP_LOCK = ".backup.lock"
_REF = "refs/tags/"
MAIN = "refs/heads/main"
# Commits without a tag of their own are kept here; nobody sees these refs by git.
HIDDEN = "refs/labfleet/"


class VersionChanged(Conflict):
    """The version is kept already, with other content."""

    code = "version_changed"
    title = "The version exists with other content"
    default_hint = "Give the changed protocol a new version in protocol.yml."


class StoreError(LabfleetError):
    """A repository can't be read or written."""

    code = "protocol_store_error"
    title = "The protocols' repository can't be used"
    default_hint = "Check that the protocols directory belongs to the user that runs this."


@dataclass(frozen=True)
class Version:
    """One version as the store has it. `created` tells whether this import made it."""

    manifest: Manifest
    commit: str
    created: bool
    label: str | None = None

    @property
    def name(self) -> str:
        """What it is called: as its manifest says, unless that was the name of an earlier commit."""
        return self.label or self.manifest.version


SAMPLE = re.compile(r"sample(-[a-z][a-z0-9_]*)?\.[a-z0-9.]{1,16}")
"""Data to try a protocol on: for its first input slot, or for the one that is named."""


class ProtocolStore:
    """The bare repositories below `directory`; safe for several processes at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """The protocols that have a repository."""
        return sorted(path.stem for path in self.directory.glob("*.git") if path.is_dir())

    def import_tree(self, directory: Path, limits: Limits = DEFAULT_LIMITS) -> Version:
        """Check `directory` and keep it as the version that its manifest names.

        `InvalidProtocol` if it has faults, `VersionChanged` if the version is there with other content.
        """
        return self.keep(check_tree(directory, limits).require(), directory, limits)

    def keep(self, manifest: Manifest, directory: Path, limits: Limits = DEFAULT_LIMITS) -> Version:
        """Keep `directory`, which has been checked, as the version that its manifest names."""
        entries = entries_of(directory, limits)
        with _told():
            git = self._repository(manifest.name, create=True)
            tree = _write_tree(git, entries)
            known = _tags(git).get(manifest.version)
            if known is None:
                return self._commit(git, manifest, tree)
        return self._same(git, manifest, tree, known)

    def has(self, name: str) -> bool:
        """Whether there is a repository of this name."""
        return bool(re.fullmatch(NAME, name)) and (self.directory / f"{name}.git").is_dir()

    def size(self, name: str) -> int:
        """How many bytes the repository takes."""
        places = os.walk(self.path(name))
        return sum((Path(at) / file).lstat().st_size for at, _, files in places for file in files)

    def remove(self, name: str) -> None:
        """Remove the repository, if there is one. In one step: nobody finds half of it."""
        if not self.has(name):
            return
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".old-") as away:
            self.path(name).rename(Path(away) / f"{name}.git")

    def sweep(self, older_than: float = ABANDONED_SECONDS) -> int:
        """Remove what a process that was killed has left half-made beside the repositories; how many."""
        removed = 0
        for path in self.directory.glob(".*"):
            if not path.name.startswith(_HALF_MADE) or path.stat().st_mtime > time.time() - older_than:
                continue
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
        return removed

    def path(self, name: str) -> Path:
        """Where the repository is; `UnknownProtocol`."""
        if not self.has(name):
            raise UnknownProtocol(f"There is no protocol '{name[:80]}'.")
        return self.directory / f"{name}.git"

    @contextmanager
    def beside(self, name: str) -> Iterator[ProtocolStore]:
        """A store with an empty repository of this name, which goes away unless it is moved in."""
        if not re.fullmatch(NAME, name):
            raise UnknownProtocol(f"There is no protocol '{name[:80]}'.")
        self.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".push-") as place, _told():
            other = ProtocolStore(Path(place))
            other._repository(name, create=True)
            yield other

    def move_in(self, other: ProtocolStore, name: str) -> None:
        """Take the repository of another store on the same file system."""
        other.path(name).rename(self.directory / f"{name}.git")

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Let nobody else push to the protocol meanwhile; `Unavailable` if somebody does."""
        with (self.path(name) / "labfleet.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable("Another push to this protocol is under way.") from None
            yield

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Wait until no backup reads the repositories, and let none begin: it would miss what moves.

        A backup holds the same lock with others of its kind.
        """
        with (self.directory / BACKUP_LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def gc(self, name: str, *, packs: int, loose: int, prune_days: int) -> int:
        """Pack the repository anew where it has more packs or loose objects than these; the bytes won.

        What no ref leads to goes when it is older than `prune_days`. `Unavailable` while somebody pushes.
        """
        options = {
            "gc.auto": str(loose),
            "gc.autoPackLimit": str(packs),
            "gc.autoDetach": "false",
            "gc.pruneExpire": f"{prune_days}.days.ago",
            "pack.threads": "1",
            "pack.windowMemory": "64m",
            "core.bigFileThreshold": "16m",
        }
        with self.alone(name), self.unread(), _told():
            before = self.size(name)
            git = self._repository(name)
            git.update_environment(**with_options(options))
            git.gc("--auto", "--quiet")
            return before - self.size(name)

    def refs(self, name: str) -> dict[str, str]:
        """All refs and what they lead to."""
        with _told():
            listed = str(self._repository(name).for_each_ref("--format=%(refname) %(objectname)"))
        return dict(line.split(" ") for line in listed.splitlines())

    def restore(self, name: str, refs: Mapping[str, str]) -> None:
        """Make the refs what they were."""
        with _told():
            git = self._repository(name)
            for ref in set(self.refs(name)) - set(refs):
                git.update_ref("-d", ref)
            for ref, leads_to in refs.items():
                git.update_ref(ref, leads_to)

    def name_newest(self, name: str) -> list[Version]:
        """Give main's newest commit a name if it has none yet; all versions, the oldest first.

        It is called as its manifest says. Where an earlier commit has that name, the beginning of its id is
        added: `1.0.0+3fa9c12ab0`.
        """
        with _told():
            git = self._repository(name)
            known = _tags(git)
            newest = next(iter(_history(git)), None)
            if newest is not None and newest not in known.values():
                version = self.manifest(name, newest).version
                ref = f"{_REF}{version}" if version not in known else f"{HIDDEN}{version}+{newest[:10]}"
                git.update_ref(ref, newest, _NOBODY)
                known = _tags(git)
        return [
            Version(self.manifest(name, commit), commit, created=True, label=label)
            for label, commit in reversed(known.items())
        ]

    def versions(self, name: str) -> dict[str, str]:
        """Version → commit of a protocol, newest first."""
        with _told():
            return _tags(self._repository(name))

    def resolve(self, name: str, version: str | None = None) -> str:
        """The commit of a version (name or commit) or of the newest; `UnknownProtocol`, `UnknownVersion`."""
        versions = self.versions(name)
        if version is None and versions:
            return next(iter(versions.values()))
        if version in versions.values():
            return str(version)
        if version not in versions:
            raise UnknownVersion(f"The protocol '{name}' has no version '{version or 'at all'}'.")
        return versions[version]

    def manifest(self, name: str, commit: str) -> Manifest:
        """The manifest of one commit."""
        with _told():
            text = self._at(name, commit).cat_file(
                "blob", f"{commit}:{MANIFEST}", strip_newline_in_stdout=False
            )
        return read_manifest(str(text).encode())

    def samples(self, name: str, commit: str) -> list[str]:
        """The files `sample.ENDING` and `sample-SLOT.ENDING` that lie beside the manifest."""
        with _told():
            entries = str(self._at(name, commit).ls_tree("--name-only", "-z", commit)).split("\0")
        return [entry for entry in entries if SAMPLE.fullmatch(entry)]

    def sample(self, name: str, commit: str, file: str) -> bytes:
        """The content of one of `samples`."""
        if not SAMPLE.fullmatch(file):
            raise UnknownVersion(f"'{file[:80]}' is no sample of the protocol.")
        with _told():
            git = self._at(name, commit)
            content = git.cat_file(
                "blob", f"{commit}:{file}", strip_newline_in_stdout=False, stdout_as_string=False
            )
        return bytes(content)

    def file(self, name: str, commit: str, path: str, limit: int) -> bytes | None:
        """The beginning of a file of one commit, `limit` bytes of it at most; None if there is none."""
        with _told():
            git = self._at(name, commit)
            try:
                if git.cat_file("-t", f"{commit}:{path}") != "blob":
                    return None
            except GitCommandError:
                return None
            process: Any = git.cat_file("blob", f"{commit}:{path}", as_process=True)
            with closing(_chunks(process)) as chunks:
                return _first(chunks, limit)

    def compare(self, name: str, before: str, after: str) -> list[FileChange]:
        """The files that differ between two commits; patches of `MAX_PATCH` bytes at most, all together."""
        self._at(name, before)
        git, options = self._at(name, after), ["--no-ext-diff", "--no-textconv", "-M", before, after]
        with _told():
            raw = str(git.diff("--raw", "-z", "--no-abbrev", *options, strip_newline_in_stdout=False))
            numbers = str(git.diff("--numstat", "-z", *options, strip_newline_in_stdout=False))
            process: Any = git.diff("--patch", "--no-color", *options, as_process=True)
            with closing(_chunks(process)) as chunks:
                patch = _first(chunks, MAX_PATCH).decode("utf-8", "replace")
        return file_changes(raw, numbers, patch)

    def archive(self, name: str, commit: str) -> Iterator[bytes]:
        """The files of one commit as a tar, chunk by chunk. Errors come before the first chunk."""
        with _told():
            git = self._at(name, commit)
            git.rev_parse("--verify", "--quiet", f"{commit}^{{commit}}")
            process: Any = git.archive("--format=tar", commit, as_process=True)
        return _chunks(process)

    def tree(self, name: str, commit: str) -> str:
        """Git's name for the files of one commit: the same wherever and whenever they were committed."""
        with _told():
            return str(self._at(name, commit).rev_parse("--verify", "--quiet", f"{commit}^{{tree}}"))

    def _at(self, name: str, commit: str) -> Git:
        if not COMMIT.fullmatch(commit):
            raise UnknownVersion(f"'{commit[:50]}' is no commit.")
        return self._repository(name)

    def _repository(self, name: str, *, create: bool = False) -> Git:
        path = self.directory / f"{name}.git"
        if not re.fullmatch(NAME, name) or not (path.is_dir() or create):
            raise UnknownProtocol(f"There is no protocol '{name[:80]}'.")
        if not (path / "HEAD").is_file():
            _create(path)
        git = Git(path)
        git.update_environment(**ENVIRONMENT, GIT_DIR=str(path))
        return git

    def _commit(self, git: Git, manifest: Manifest, tree: str) -> Version:
        newest = next(iter(_history(git)), None)
        parent = ["-p", newest] if newest else []
        commit = str(git.commit_tree(tree, *parent, "-m", f"{manifest.name} {manifest.version}"))
        try:
            # Succeeds for one process only, whoever else imports the same version now.
            git.update_ref(f"{_REF}{manifest.version}", commit, _NOBODY)
        except GitCommandError:
            return self._same(git, manifest, tree, _tags(git)[manifest.version])
        git.update_ref(MAIN, commit)
        return Version(manifest, commit, created=True)

    def _same(self, git: Git, manifest: Manifest, tree: str, commit: str) -> Version:
        if git.rev_parse(f"{commit}^{{tree}}") != tree:
            raise VersionChanged(f"'{manifest.name}' {manifest.version} is kept already, with other content.")
        return Version(manifest, commit, created=False)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as name:
        fresh = Path(name) / path.name
        git = Git(name)
        git.update_environment(**ENVIRONMENT)
        git.init("--bare", "--quiet", "--template=", "--initial-branch=main", str(fresh))
        # What a protocol says of itself in .gitattributes must not change what a worker gets of it.
        (fresh / "info").mkdir()
        (fresh / "info" / "attributes").write_text("* -export-ignore -export-subst\n")
        try:
            fresh.rename(path)
        except OSError:
            if not (path / "HEAD").is_file():  # else another process was first
                raise


def _tags(git: Git) -> dict[str, str]:
    """Version → commit, newest first. Same-second commits are told apart by their place in history."""
    order = {commit: index for index, commit in enumerate(_history(git))}
    # An annotated tag leads to its commit by a second step (*).
    form = "%(refname:strip=2) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    listed = str(git.for_each_ref("--sort=-creatordate", f"--format={form}", _REF, HIDDEN))
    pairs = [line.split(" ") for line in listed.splitlines()]
    tags = {version: commit for version, commit in pairs if re.fullmatch(VERSION, version)}
    return dict(sorted(tags.items(), key=lambda item: order.get(item[1], len(order))))


def _history(git: Git) -> list[str]:
    try:
        return str(git.rev_list("--first-parent", MAIN)).split()
    except GitCommandError:
        return []  # no version yet


def _write_tree(git: Git, entries: list[Entry]) -> str:
    """Write the files' contents and their tree; gives the tree's id. No filter touches the bytes."""
    lines = []
    for entry in entries:
        blob = _fed(git.hash_object, entry.content(), "-w", "--no-filters", "--stdin")
        lines.append(f"{entry.mode} {blob}\t{entry.path}")
    with (
        tempfile.TemporaryDirectory(prefix="labfleet-index-") as name,
        git.custom_environment(GIT_INDEX_FILE=str(Path(name) / "index")),
    ):
        _fed(git.update_index, "\0".join([*lines, ""]).encode(), "-z", "--index-info")
        return str(git.write_tree())


def _fed(command: Callable[..., Any], content: bytes, *arguments: str) -> str:
    """The answer of a git command that reads `content`."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return str(command(*arguments, istream=file))


def _first(chunks: Iterator[bytes], limit: int) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) >= limit:
            break
    return content[:limit]


def _chunks(process: Any) -> Generator[bytes, None, None]:
    try:
        while chunk := process.stdout.read(CHUNK):
            yield chunk
        process.wait()
    finally:
        process.stdout.close()


@contextmanager
def _told() -> Iterator[None]:
    """Git's own errors as ours: what failed, and what to do."""
    try:
        yield
    except GitCommandNotFound:
        raise Unavailable("git is not installed on this machine.", hint="Install the package git.") from None
    except GitCommandError as error:
        raise StoreError(f"git: {str(error.stderr).strip() or error}") from None
    except PermissionError as error:
        raise StoreError(f"{error.filename}: {error.strerror}.") from None


__all__ = ["ProtocolStore", "StoreError", "Version", "VersionChanged"]
