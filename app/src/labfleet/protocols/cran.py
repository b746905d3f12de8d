"""Source packages of R by name, version and SHA-256, out of a directory or of indexes laid out like CRAN's.

Only what Python's own library has: the machine's Python runs this file in the sandbox of a build, by itself;
`labfleet protocols lock-r` imports it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import ssl
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

REPORT = "report.json"
CHUNK = 256 * 1024
MAX_DESCRIPTION_BYTES = 1024**2
CONNECTIONS, SECONDS, RETRIES = 8, 30, 2
NOT_THERE = frozenset({404, 410})
BETTER_LATER = 500
"""From this status on a server may answer otherwise the next time."""
_NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)


@dataclass(frozen=True)
class Wanted:
    """A package. Without `sha256` any content is taken."""

    name: str
    version: str
    sha256: str = ""

    @property
    def file(self) -> str:
        """How its tarball is called."""
        return f"{self.name}_{self.version}.tar.gz"


@dataclass(frozen=True)
class Found:
    """A tarball that is there, the packages that it needs, and the endings of its sources to be compiled."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    needs: list[str]
    sources: list[str]


@dataclass(frozen=True)
class Fault:
    """Why a package was not had. `away`: an index did not answer, so it may be had later."""

    name: str
    away: bool
    message: str


class _Away(Exception):
    """An index did not answer as it should."""


class Fetcher:
    """Takes tarballs from `folder`, then from each of `indexes`, and puts them into `target`."""

    def __init__(self, folder: str, indexes: list[str], target: Path) -> None:
        self._folder = Path(folder) if folder else None
        self._indexes = [index.rstrip("/") for index in indexes]
        self._target = target
        self._given_up = threading.Event()

    def fetch(self, wanted: list[Wanted]) -> tuple[list[Found], list[Fault]]:
        """All of them, some at once. After an index was found away the others are not asked for."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            done = list(pool.map(self._one, wanted))
        found = [item for item in done if isinstance(item, Found)]
        return found, [item for item in done if isinstance(item, Fault)]

    def _one(self, wanted: Wanted) -> Found | Fault | None:
        if self._given_up.is_set():
            return None
        file = self._target / wanted.file
        try:
            digest, others = self._take(wanted, file)
        except _Away as error:
            self._given_up.set()
            return Fault(wanted.name, True, str(error))
        if not digest:
            return Fault(wanted.name, False, self._not_found(wanted, others))
        try:
            needs, sources = describe(file, wanted)
        except ValueError as error:
            return Fault(wanted.name, False, str(error))
        size = file.stat().st_size
        return Found(wanted.name, wanted.version, wanted.file, digest, size, needs, sources)

    def _take(self, wanted: Wanted, file: Path) -> tuple[str, list[str]]:
        """Put the tarball there; its hash (empty: it was nowhere), and where one with another hash is."""
        others: list[str] = []
        if self._folder and (own := self._folder / wanted.file).is_file():
            digest = _digest(own)
            if digest == (wanted.sha256 or digest):
                shutil.copyfile(own, file)
                print(f"{wanted.file}: of the protocol", flush=True)
                return digest, []
            others.append(f"{own.name} of the protocol ({digest})")
        for url in self._addresses(wanted):
            told = _download(url, file)
            if told == (wanted.sha256 or told) and told:
                print(f"{wanted.file}: {file.stat().st_size} bytes of {url}", flush=True)
                return told, []
            if told:
                others.append(f"{url} ({told})")
        return "", others

    def _addresses(self, wanted: Wanted) -> list[str]:
        """CRAN keeps a package's newest version in one place, all others in another."""
        places = (wanted.file, f"Archive/{wanted.name}/{wanted.file}")
        return [f"{index}/src/contrib/{place}" for index in self._indexes for place in places]

    def _not_found(self, wanted: Wanted, others: list[str]) -> str:
        if others:
            return f"{wanted.name} {wanted.version} has another SHA-256: {', '.join(others)}"
        places = [*(["the protocol's tarballs"] if self._folder else []), *self._indexes]
        return f"{wanted.name} {wanted.version} ({wanted.file}) is not in {', '.join(places) or 'any index'}"


def describe(file: Path, wanted: Wanted) -> tuple[list[str], list[str]]:
    """The packages that the tarball needs, and the endings of its sources to be compiled (those of `src`);
    `ValueError` if it is not the package that it is called."""
    endings: set[str] = set()
    fields: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if parts == (wanted.name, "DESCRIPTION") and member.size <= MAX_DESCRIPTION_BYTES:
                    stream = archive.extractfile(member)
                    fields = _fields(stream.read() if stream else b"")
                elif parts[:2] == (wanted.name, "src") and len(parts) > 2:
                    endings.add(PurePosixPath(member.name).suffix.lower())
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{file.name} is no tar.gz: {error}") from None
    told = (fields.get("Package"), fields.get("Version"))
    if told != (wanted.name, wanted.version):
        message = f"{file.name} is not {wanted.name} {wanted.version}"
        raise ValueError(f"{message}: its DESCRIPTION says {' '.join(filter(None, told)) or 'nothing'}")
    return _needs(fields), sorted(endings)


def _fields(content: bytes) -> dict[str, str]:
    """The fields of a DESCRIPTION; lines that begin with a space go on with the one before."""
    text = re.sub(r"\r?\n[ \t]+", " ", content.decode(errors="replace"))
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}


def _needs(fields: dict[str, str]) -> list[str]:
    words = [word for name in ("Depends", "Imports", "LinkingTo") for word in fields.get(name, "").split(",")]
    return sorted({name for word in words if (name := word.partition("(")[0].strip())})


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(url: str, file: Path) -> str:
    """The hash of what was put there; empty if the index does not have it."""
    for attempt in range(RETRIES + 1):
        try:
            return _answer(url, file)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in NOT_THERE:
                return ""
            if error.code < BETTER_LATER or attempt == RETRIES:
                raise _Away(f"{url}: HTTP status {error.code}") from None
        except _NETWORK as error:
            if attempt == RETRIES:
                raise _Away(f"{url}: {error}") from None
        time.sleep(0.5 * 2**attempt)
    raise AssertionError


def _answer(url: str, file: Path) -> str:
    digest, size = hashlib.sha256(), 0
    # Addresses are those of indexes, which are http or https.
    with urllib.request.urlopen(url, timeout=SECONDS) as answer, file.open("wb") as stream:  # noqa: S310
        while piece := answer.read(CHUNK):
            digest.update(piece)
            size += len(piece)
            stream.write(piece)
        expected = answer.headers.get("Content-Length")
    if expected and int(expected) != size:
        raise ConnectionError(f"it broke off after {size} of {expected} bytes")
    return digest.hexdigest()


def main(plan: str, target: str) -> int:
    """Fetch what the file `plan` names into the directory `target`; a report lies there afterwards."""
    told: dict[str, Any] = json.loads(Path(plan).read_text(encoding="utf-8"))
    fetcher = Fetcher(told["folder"], told["indexes"], Path(target))
    try:
        found, faults = fetcher.fetch([Wanted(**item) for item in told["packages"]])
        report = {"found": [asdict(item) for item in found], "faults": [asdict(item) for item in faults]}
        Path(target, REPORT).write_text(json.dumps(report), encoding="utf-8")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(f"error: {fault.message}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
