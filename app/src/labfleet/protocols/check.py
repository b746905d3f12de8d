"""Judge a protocol: its manifest, its command, its sources. Nothing of it is run."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from labfleet.protocols import images, lockfile, renvlock, schema
from labfleet.protocols.archive import DEFAULT_LIMITS, ArchiveError, Limits, extract
from labfleet.protocols.command import fault_of_command
from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest, read_manifest
from labfleet.protocols.problems import MANIFEST, InvalidProtocol, Problem
from labfleet.protocols.sources import check_source
from labfleet.protocols.tree import Entry, entries_of
from labfleet.protocols.yamlfile import MAX_BYTES, read_yaml

LINK = "120000"


@dataclass(frozen=True)
class Report:
    """What a check found. `manifest` is None where it could not be read."""

    manifest: Manifest | None
    problems: tuple[Problem, ...]
    files: int = 0

    @property
    def ok(self) -> bool:
        """Whether the protocol can be used."""
        return not self.problems and self.manifest is not None

    def as_dict(self) -> dict[str, Any]:
        """As the API and the CGI runner answer it."""
        return {
            "ok": self.ok,
            "files": self.files,
            "problems": [problem.as_dict() for problem in self.problems],
            "interface": interface_of(self.manifest) if self.manifest else None,
        }

    def require(self) -> Manifest:
        """The manifest of a protocol without faults; `InvalidProtocol` otherwise."""
        if self.manifest is None or self.problems:
            raise InvalidProtocol(self.problems)
        return self.manifest


def check_tree(directory: Path, limits: Limits = DEFAULT_LIMITS) -> Report:
    """Check the protocol in `directory`. Faults are in the report; nothing is raised for them."""
    try:
        entries = entries_of(directory, limits)
    except ArchiveError as error:
        return Report(None, (Problem(".", None, error.code, error.detail, error.hint),))
    files = {entry.path: entry for entry in entries}
    manifest, problems = _manifest(files)
    problems += [problem for entry in entries if (problem := check_source(entry))]
    return Report(manifest, tuple(problems), len(files))


def check_archive(source: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Report:
    """Check a tar or tar.gz; `ArchiveError` when it can't even be unpacked safely.

    A single directory around everything, as `tar -cf x.tar my-protocol` makes it, is looked through.
    """
    with tempfile.TemporaryDirectory(prefix="labfleet-check-") as name:
        directory = Path(name)
        extract(source, directory, limits)
        return check_tree(inner(directory), limits)


def inner(directory: Path) -> Path:
    """`directory`, or the only directory in it where that one has the manifest."""
    if (directory / MANIFEST).is_file():
        return directory
    children = list(directory.iterdir())
    alone = len(children) == 1 and children[0].is_dir() and not children[0].is_symlink()
    return children[0] if alone and (children[0] / MANIFEST).is_file() else directory


def _manifest(files: dict[PurePosixPath, Entry]) -> tuple[Manifest | None, list[Problem]]:
    entry = files.get(PurePosixPath(MANIFEST))
    if entry is None or entry.mode == "120000":
        hint = f"Put {MANIFEST} at the top of the protocol; see 'Writing a protocol'."
        return None, [Problem(MANIFEST, None, "no_manifest", f"There is no file {MANIFEST}.", hint)]
    with entry.place.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        manifest = read_manifest(content)
    except InvalidProtocol as error:
        return None, list(error.problems)
    problems = []
    wanted = manifest.environment
    fault = fault_of_command(manifest.command, files, packages=bool(wanted.python), image=bool(wanted.image))
    if fault:
        line = read_yaml(content).line(("command",))
        problems = [Problem(MANIFEST, line, "command_missing", f"command: {fault[0]}", fault[1])]
    return manifest, [
        *problems,
        *_environment(manifest, files, content),
        *_self_test(manifest, files, content),
    ]


def _self_test(manifest: Manifest, files: dict[PurePosixPath, Entry], content: bytes) -> list[Problem]:
    """What is wrong with how the protocol is tried; whether it passes, only a run shows."""
    test = manifest.self_test
    if test is None:
        return []
    faults: list[tuple[tuple[str | int, ...], str, str]] = [
        (("inputs", slot), f"There is no file {path} in the protocol.", "Add it, or name another one.")
        for slot, path in test.inputs.items()
        if (entry := files.get(PurePosixPath(path))) is None or entry.mode == LINK
    ]
    faults += [
        (("inputs", slot), "The protocol has no such input.", "Use the name of an input slot.")
        for slot in sorted(test.inputs.keys() - manifest.inputs.keys())
    ]
    faults += [
        (("inputs",), f"The input '{slot}' gets no file.", "Name a file of the protocol for it.")
        for slot, told in manifest.inputs.items()
        if not told.optional and slot not in test.inputs
    ]
    faults += [
        (("expect", number), f"The protocol has no output '{each.output}'.", "Use the name of an output.")
        for number, each in enumerate(test.expect)
        if each.output not in manifest.outputs
    ]
    faults += [
        (("parameters", *fault.path), fault.message, "Give values that fit the parameters' schema.")
        for fault in schema.faults_of_value(
            manifest.parameters, schema.with_defaults(manifest.parameters, test.parameters)
        )
    ]
    document = read_yaml(content)
    return [
        Problem(
            MANIFEST,
            document.line(("self_test", *path)),
            "bad_self_test",
            f"{'.'.join(map(str, ('self_test', *path)))}: {message}",
            hint,
        )
        for path, message, hint in faults
    ]


def _environment(manifest: Manifest, files: dict[PurePosixPath, Entry], content: bytes) -> list[Problem]:
    """What is wrong with the files of its libraries."""
    wanted = manifest.environment
    locks = _Locks(files, content)
    return [
        *locks.folder("wheels", wanted.wheels, "wheels"),
        *locks.folder("tarballs", wanted.tarballs, "tarballs of R packages"),
        *locks.lock("python", wanted.python, lockfile.HINT, lockfile.read_lock),
        *locks.lock("r", wanted.r_lock, renvlock.HINT, renvlock.read_lock),
        *locks.tarballs(wanted.r_lock, wanted.tarballs),
        *locks.archive(wanted.image),
    ]


@dataclass(frozen=True)
class _Locks:
    """Looks for what an environment names, among the files of a protocol."""

    files: dict[PurePosixPath, Entry]
    manifest: bytes

    def folder(self, field: str, path: str | None, what: str) -> list[Problem]:
        """A directory that comes along with the lock file."""
        if not path or any(file.parts[:-1] == PurePosixPath(path).parts for file in self.files):
            return []
        message = f"There is no directory {path} with {what}."
        return [self._missing(field, f"{field}_missing", message, f"Add it, or remove '{field}'.")]

    def lock(
        self, field: str, path: str | None, hint: str, read: Callable[[str, bytes], object]
    ) -> list[Problem]:
        """The lock file itself."""
        if path is None:
            return []
        content = self._content(path)
        if content is None:
            return [self._missing(field, "lock_missing", f"There is no lock file {path}.", hint)]
        try:
            read(path, content)
        except InvalidProtocol as error:
            return list(error.problems)
        return []

    def tarballs(self, lock: str | None, folder: str | None) -> list[Problem]:
        """Whether tarballs of R packages that come along are those of the lock file, and none is missing
        that must come along."""
        content = self._content(lock) if lock else None
        if lock is None or content is None:
            return []
        try:
            pins = renvlock.read_lock(lock, content).pins
        except InvalidProtocol:  # told by `lock`
            return []
        return [
            Problem(lock, pin.line, "tarballs_missing", told, "Put the tarball there, and hash it anew.")
            for pin in pins
            if (told := self._tarball(pin, folder))
        ]

    def archive(self, image: str | None) -> list[Problem]:
        """Whether an image that comes along is an OCI archive. What is in it is looked at where it runs."""
        if image is None or not images.is_archive(image):
            return []
        entry = self.files.get(PurePosixPath(image))
        if entry is None or entry.mode == LINK:
            told = f"There is no file {image} in the protocol."
            return [self._missing("image", "image_missing", told, images.ARCHIVE_HINT)]
        try:
            with tarfile.open(entry.place, "r:") as archive:
                names = {name.removeprefix("./") for name in archive.getnames()}
        except (tarfile.TarError, ValueError, OverflowError):
            names = set()
        if images.INDEX in names:
            return []
        told = f"{image} is no OCI archive: there is no {images.INDEX} in it."
        return [self._missing("image", "bad_image", told, images.ARCHIVE_HINT)]

    def _tarball(self, pin: renvlock.Pin, folder: str | None) -> str:
        path = PurePosixPath(folder or ".", pin.file)
        entry = self.files.get(path) if folder else None
        if entry is None or entry.mode == LINK:
            where = f"{path} is not there" if folder else "the manifest names no tarballs (environment)"
            return f"{pin.name} comes along with the protocol (Local), but {where}." if pin.local else ""
        with entry.place.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return "" if digest == pin.sha256 else f"{pin.name}: {path} has another SHA-256: {digest}."

    def _content(self, path: str) -> bytes | None:
        entry = self.files.get(PurePosixPath(path))
        if entry is None or entry.mode == LINK:
            return None
        with entry.place.open("rb") as file:
            return file.read(max(lockfile.MAX_BYTES, renvlock.MAX_BYTES) + 1)

    def _missing(self, field: str, code: str, message: str, hint: str) -> Problem:
        line = read_yaml(self.manifest).line(("environment", field))
        return Problem(MANIFEST, line, code, f"environment.{field}: {message}", hint)
