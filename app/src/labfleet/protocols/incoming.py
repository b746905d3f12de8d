"""The hook `pre-receive`: judge what somebody pushes before anything of it becomes visible.

Git runs it as `python -m labfleet.protocols.incoming` in the repository, with the new objects in a quarantine
that goes away when it fails. What it prints is what the pusher reads after `remote:`. It knows no database:
whose the protocol is was asked before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from labfleet.protocols.archive import ArchiveError, extract
from labfleet.protocols.check import Report, check_tree
from labfleet.protocols.manifest import VERSION, Manifest
from labfleet.protocols.problems import MANIFEST, Problem

MAIN = "refs/heads/main"
TAG = "refs/tags/"
NOTHING = "0" * 40
MAX_REFS = 50
PROTOCOL_VARIABLE = "LABFLEET_PROTOCOL"
PYTHON_VARIABLE = "LABFLEET_PYTHON"
_SUBMODULE = re.compile(r"^160000 \S+ \S+\t(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """A ref that the push would move, from `old` to `new`; `NOTHING` for one that is not there."""

    old: str
    new: str
    ref: str


def main() -> int:
    """Judge the changes on standard input; 0 lets the push through."""
    changes = [Change(*line.split(None, 2)) for line in sys.stdin.read().splitlines() if line]
    faults = list(judge(changes, os.environ[PROTOCOL_VARIABLE]))
    for fault in faults:
        print(fault)
    if faults:
        print("Nothing was taken in.")
    return 1 if faults else 0


def judge(changes: list[Change], protocol: str) -> Iterator[str]:
    """Why the changes can't be taken in, a line each; nothing if they can."""
    if len(changes) > MAX_REFS:
        yield f"A push has at most {MAX_REFS} branches and tags, not {len(changes)}."
        return
    refused = [fault for change in changes if (fault := _fault_of_ref(change))]
    if refused:
        yield from refused
        return
    for change in changes:
        yield from _faults(change, protocol)


def _fault_of_ref(change: Change) -> str | None:
    name = change.ref.removeprefix(TAG)
    if change.ref == MAIN:
        return "The branch main can't be deleted." if change.new == NOTHING else None
    if not change.ref.startswith(TAG):
        return (
            f"{change.ref}: only the branch main and tags are taken. Push it with 'git push URL HEAD:main'."
        )
    if change.new == NOTHING:
        return f"The tag {name} can't be deleted: it names a version, and results may point to it."
    if change.old != NOTHING:
        return f"The tag {name} can't be moved: a version never changes. Make a new version."
    if not re.fullmatch(VERSION, name):
        return f"The tag {name} is no name of a version: use letters, digits, '.', '_', '+' and '-'."
    return None


def _faults(change: Change, protocol: str) -> Iterator[str]:
    what = "main" if change.ref == MAIN else f"tag {change.ref.removeprefix(TAG)}"
    commit = _git("rev-parse", "--verify", "--quiet", f"{change.new}^{{commit}}").strip()
    if not commit:
        yield f"{what}: it names no commit."
        return
    if submodules := _SUBMODULE.findall(_git("ls-tree", "-r", "--full-tree", commit)):
        yield f"{what}: submodules are not followed: {', '.join(submodules[:5])}. Put their files in instead."
        return
    report = checked(commit)
    lines = [f"{problem}\n    {problem.hint}" for problem in report.problems]
    if not lines and report.manifest is not None:
        lines = list(_misnamed(report.manifest, change.ref, protocol))
    if lines:
        yield f"{what} ({commit[:10]}) has {len(lines)} {'fault' if len(lines) == 1 else 'faults'}:"
        yield from (f"  {line}" for line in "\n".join(lines).splitlines())


def _misnamed(manifest: Manifest, ref: str, protocol: str) -> Iterator[str]:
    if manifest.name != protocol:
        yield f"{MANIFEST}: the name is '{manifest.name}', but this is the repository of '{protocol}'."
    if ref.startswith(TAG) and (tag := ref.removeprefix(TAG)) != manifest.version:
        yield f"{MANIFEST}: the version is '{manifest.version}', but the tag is '{tag}'; let them be one."


def checked(commit: str) -> Report:
    """What is to be said of the files of a commit."""
    with tempfile.TemporaryDirectory(prefix="labfleet-push-") as name:
        directory = Path(name)
        try:
            with _archive(commit) as stream:
                extract(stream, directory)
        except ArchiveError as error:
            return Report(None, (Problem(".", None, error.code, error.detail, error.hint),))
        return check_tree(directory)


@contextmanager
def _archive(commit: str) -> Iterator[BinaryIO]:
    """The files of a commit as a tar, to be read as it comes."""
    with subprocess.Popen(["git", "archive", "--format=tar", commit], stdout=subprocess.PIPE) as process:
        try:
            yield cast(BinaryIO, process.stdout)
        finally:
            process.kill()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
