"""A git repository is fetched by git's smart protocol over HTTPS, and read.

The bytes are carried by our own HTTP client, so that the guard is asked for the address of each connection,
credentials stay in this process, and bounds hold while it comes; git's programs read what has come, without
any network. Nothing is checked out, so no submodule, no filter (LFS) and no hook has a part in it.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from labfleet.errors import LabfleetError
from labfleet.fetching.handlers.base import Fetched, FetchFailed, Receiver, Task
from labfleet.fetching.handlers.http import client_of, failures, origin, refusal
from labfleet.protocols.gitenv import with_options
from labfleet.protocols.incoming import MAIN, MAX_REFS, NOTHING, TAG
from labfleet.protocols.manifest import VERSION, Manifest, read_manifest
from labfleet.protocols.problems import MANIFEST, InvalidProtocol
from labfleet.protocols.smart import PACK_HEAD, check_pack, line
from labfleet.protocols.yamlfile import MAX_BYTES

SERVICE = "git-upload-pack"
_END = f"/info/refs?service={SERVICE}"
_ID = re.compile(r"[0-9a-f]{40}")
_ID_OF_SHA256 = 64
_BRANCH = "refs/heads/"
_PEELED = "^{}"
_DATA, _FAULT = 1, 3
_NUMBERS = re.compile(r"(\d+)")


def fetched(task: Task) -> Fetched:
    """The branch and the tags of `task.parameters` as one pack, and what is told of it; `FetchFailed`."""
    try:
        with failures(task):
            return _fetched(task)
    except LabfleetError as error:
        raise FetchFailed(f"{error.detail} {error.hint}") from None


@dataclass(frozen=True)
class Offer:
    """What a repository has: refs and what they lead to, and what its server can."""

    refs: Mapping[str, str]
    capabilities: frozenset[str]


@dataclass(frozen=True)
class Wanted:
    """What is taken of it: the branch's commit, and what tags are called and lead to."""

    head: str
    tags: Mapping[str, str]
    notes: Sequence[str] = ()


def _fetched(task: Task) -> Fetched:
    repository = _made(task)
    pack = repository / "objects" / "pack" / "pack-fetched.pack"
    with _client(task) as client:
        base, offer = _offer(client, task)
        wanted = chosen(offer, task.parameters.get("branch"), tags=task.parameters.get("tags", True))
        _receive(client, task, base, wanted, pack)
    _git(repository, task, "index-pack", str(pack))
    return Fetched(pack, "", "application/x-git-pack", protocol=_told(repository, task, wanted))


def _client(task: Task) -> httpx.Client:
    return client_of(task, headers={"User-Agent": "git/labfleet"}, event_hooks={"request": [_Shown(task)]})


class _Shown:
    """Shows credentials to the server that they are for, and goes nowhere in clear unless the lab allows it:
    what comes is a program."""

    def __init__(self, task: Task) -> None:
        self._origin = origin(httpx.URL(task.parameters["url"]))
        self._clear = task.clear_credentials
        self._header = None
        if given := task.credentials.get("password"):
            pair = f"{task.credentials.get('user', 'git')}:{given}"
            self._header = f"Basic {base64.b64encode(pair.encode()).decode()}"

    def __call__(self, request: httpx.Request) -> None:
        """Before each request, also of a redirect."""
        if request.url.scheme != "https" and not self._clear:
            raise FetchFailed(
                "A program is not fetched in clear, where anybody on the way could change it: use an address "
                "with https, or ask an admin."
            )
        if self._header is not None and origin(request.url) == self._origin:
            request.headers["Authorization"] = self._header
        else:
            request.headers.pop("Authorization", None)


def _offer(client: httpx.Client, task: Task) -> tuple[str, Offer]:
    """Where the repository is, redirects followed, and what it has."""
    url = task.parameters["url"].rstrip("/")
    with client.stream("GET", url + _END, follow_redirects=True) as response:
        if response.status_code != httpx.codes.OK:
            raise refusal(response, known=bool(task.credentials))
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        found = str(response.url)
        if kind != f"application/x-{SERVICE}-advertisement" or not found.endswith(_END):
            raise _no_repository()
        content = b""
        for piece in response.iter_bytes():
            content += piece
            if len(content) > task.protocols.max_push_bytes:
                raise FetchFailed("Its list of branches and tags alone is larger than what may be imported.")
    return found.removesuffix(_END), offered(content)


def _no_repository() -> FetchFailed:
    return FetchFailed(
        "There is no git repository at this address, or only one of the old kind without git's smart "
        "protocol: give the address that git clone takes."
    )


def offered(content: bytes) -> Offer:
    """Read the list of refs; `FetchFailed` if it is none."""
    read = _Reading(iter([content]))
    if not (read.line() or b"").startswith(b"# service=") or read.line() is not None:
        raise _no_repository()
    refs: dict[str, str] = {}
    capabilities: frozenset[str] = frozenset()
    while (each := read.line()) is not None:
        named, _, can = each.partition(b"\0")
        identity, _, name = named.decode("utf-8", "replace").strip().partition(" ")
        if can:
            capabilities = frozenset(can.decode("utf-8", "replace").split())
        if not _ID.fullmatch(identity):
            raise _no_id(identity)
        if identity != NOTHING:
            refs[name] = identity
    if read.ended:
        raise _broken_off()
    if not refs:
        raise FetchFailed("The repository is empty: push something to it first.")
    return Offer(refs, capabilities)


def _no_id(identity: str) -> FetchFailed:
    if len(identity) == _ID_OF_SHA256:
        return FetchFailed("Its objects are named by SHA-256; Labfleet takes repositories of SHA-1.")
    return FetchFailed("What the server says is not what a git server says.")


def _broken_off() -> FetchFailed:
    return FetchFailed("The server broke off before all had come.", passing=True)


def chosen(offer: Offer, branch: str | None, *, tags: bool) -> Wanted:
    """The branch, and of the tags that may be versions the newest, as far as their number goes."""
    if not {"side-band-64k", "side-band"} & offer.capabilities:
        raise FetchFailed("The git of that server is too old to be fetched from.")
    head = offer.refs.get("HEAD") if branch is None else offer.refs.get(f"{_BRANCH}{branch}")
    if head is None:
        known = sorted(each.removeprefix(_BRANCH) for each in offer.refs if each.startswith(_BRANCH))
        listed = ", ".join(known[:10]) or "none"
        what = (
            f"The repository has no branch '{branch}'" if branch else "The repository has no default branch"
        )
        raise FetchFailed(f"{what}: name one of its own ({listed}).")
    names = [each.removeprefix(TAG) for each in offer.refs if each.startswith(TAG)] if tags else []
    fitting = sorted(
        (each for each in names if not each.endswith(_PEELED) and re.fullmatch(VERSION, each)),
        key=_order,
        reverse=True,
    )
    taken = fitting[: MAX_REFS - 1]
    notes = []
    if len(fitting) > len(taken):
        notes.append(f"Of {len(fitting)} tags the {len(taken)} that seem newest were looked at.")
    return Wanted(head, {each: offer.refs[f"{TAG}{each}"] for each in taken}, notes)


def _order(name: str) -> list[tuple[int, str]]:
    """So that 1.10 comes after 1.9."""
    return [(int(each[:18]), "") if each.isdecimal() else (-1, each) for each in _NUMBERS.split(name) if each]


def _receive(client: httpx.Client, task: Task, base: str, wanted: Wanted, path: Path) -> None:
    """The pack with all that the wanted commits consist of."""
    ids = list(dict.fromkeys([wanted.head, *wanted.tags.values()]))
    asked = [line(f"want {ids[0]} side-band-64k ofs-delta agent=labfleet\n".encode())]
    asked += [line(f"want {each}\n".encode()) for each in ids[1:]]
    content = b"".join(asked) + b"0000" + line(b"done\n")
    headers = {
        "Content-Type": f"application/x-{SERVICE}-request",
        "Accept": f"application/x-{SERVICE}-result",
    }
    with (
        client.stream("POST", f"{base}/{SERVICE}", content=content, headers=headers) as response,
        Receiver(task, path=path, limit=task.protocols.max_push_bytes) as receiver,
    ):
        if response.status_code != httpx.codes.OK:
            raise refusal(response, known=bool(task.credentials))
        head = b""
        for piece in packed(response.iter_bytes()):
            if len(head) < PACK_HEAD:
                head += piece[: PACK_HEAD - len(head)]
                if len(head) == PACK_HEAD:
                    check_pack(head, task.protocols.max_push_objects)
            receiver.take(piece)


def packed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pack out of an answer's packet lines; `FetchFailed` if it ends before its end or says a fault."""
    read = _Reading(pieces)
    while (each := read.line()) is not None:
        band = each[0] if each else 0
        if band == _DATA:
            yield each[1:]
        elif band == _FAULT or each.startswith(b"ERR "):
            said = each[1 if band == _FAULT else 4 :].decode("utf-8", "replace").strip()
            raise FetchFailed(f"The server's git says: {said[:500]}")
    if read.ended:
        raise _broken_off()


class _Reading:
    """Packet lines out of bytes that come in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = bytearray()
        self.ended = False
        """Whether it ended, and not with a flush."""

    def line(self) -> bytes | None:
        """The next one; None at a flush, or where there is nothing more."""
        size = self._take(4)
        if size is None:
            self.ended = True
            return None
        try:
            length = int(size, 16)
        except ValueError:
            raise FetchFailed("What the server says is not what a git server says.") from None
        if length < 4:
            return None
        content = self._take(length - 4)
        if content is None:
            self.ended = True
        return content

    def _take(self, size: int) -> bytes | None:
        while len(self._left) < size:
            piece = next(self._pieces, None)
            if piece is None:
                return None
            self._left += piece
        taken = bytes(self._left[:size])
        del self._left[:size]
        return taken


def _told(repository: Path, task: Task, wanted: Wanted) -> dict[str, object]:
    """Name and refs of the protocol, and what was left out. All of it is judged again by who takes it in."""
    head = _commit(repository, task, wanted.head)
    manifest = _manifest(repository, task, head)
    if isinstance(manifest, str):
        raise FetchFailed(f"It can't be imported: {manifest}")
    refs, notes = {MAIN: head}, list(wanted.notes)
    # One that is called exactly as its version goes before one with a v.
    for tag, leads_to in sorted(wanted.tags.items(), key=lambda item: item[0].startswith("v")):
        commit = _commit(repository, task, leads_to)
        found = _manifest(repository, task, commit)
        if isinstance(found, str):
            notes.append(f"Tag {tag} is left out: {found}")
        elif found.name != manifest.name or found.version not in {tag, tag.removeprefix("v")}:
            notes.append(f"Tag {tag} is left out: its {MANIFEST} says {found.name} {found.version}.")
        else:
            refs.setdefault(f"{TAG}{found.version}", commit)
    return {"protocol": manifest.name, "refs": refs, "notes": notes}


def _commit(repository: Path, task: Task, identity: str) -> str:
    return (
        _git(repository, task, "rev-parse", "--verify", "--quiet", f"{identity}^{{commit}}").decode().strip()
    )


def _manifest(repository: Path, task: Task, commit: str) -> Manifest | str:
    """The manifest of a commit, or why there is none."""
    listed = (
        _git(repository, task, "ls-tree", "-l", commit, "--", MANIFEST).decode("utf-8", "replace").split()
    )
    if len(listed) < 4 or listed[1] != "blob" or not listed[0].startswith("100"):
        return f"there is no file {MANIFEST} at its top."
    if int(listed[3]) > MAX_BYTES:
        return f"{MANIFEST} has more than {MAX_BYTES} bytes."
    try:
        return read_manifest(_git(repository, task, "cat-file", "blob", listed[2]))
    except InvalidProtocol as error:
        return " ".join(f"{each} {each.hint}" for each in error.problems[:3])


def _made(task: Task) -> Path:
    path = task.work / "repository.git"
    _git(task.work, task, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(path))
    return path


_OPTIONS = {
    "pack.threads": "1",
    "core.bigFileThreshold": "16m",
    "core.deltaBaseCacheLimit": "32m",
    "protocol.allow": "never",
    "core.hooksPath": os.devnull,
}


def _git(where: Path, task: Task, *arguments: str) -> bytes:
    """What a git says that has no network, no credentials and no configuration but ours."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(task.work), "LC_ALL": "C"}
    done = subprocess.run(
        ["git", *arguments],
        cwd=where,
        env=environment | with_options(_OPTIONS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FetchFailed(
            f"What came is no good repository: {said[-1][:500] if said else 'git does not say why.'}"
        )
    return done.stdout
