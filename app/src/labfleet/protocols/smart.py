"""Git's smart HTTP: what `git clone`, `fetch` and `push` talk to, as plain functions over git's own programs.

Git is started with no configuration but ours, one hook (`incoming`), and bounds on memory, time and size. Who
may do it was asked before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from labfleet.errors import TooLarge, Unavailable
from labfleet.log import get_logger
from labfleet.protocols.gitenv import with_options
from labfleet.protocols.incoming import PROTOCOL_VARIABLE, PYTHON_VARIABLE, Change
from labfleet.protocols.store import HIDDEN

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
SERVICES = frozenset({UPLOAD, RECEIVE})
CHUNK = 64 * 1024
# So long git may take to clean up when it is told to end.
GRACE_SECONDS = 5
HOOKS = Path(__file__).parent / "hooks"
_PROTOCOL = re.compile(r"version=[0-2]")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_MAX_LINE = 65515
PACK_HEAD = 12
_log = get_logger(__name__)

_OPTIONS = {
    "receive.fsckObjects": "true",
    "receive.denyDeletes": "true",
    # A commit that is a version is kept by a ref of its own, so nothing is lost by it.
    "receive.denyNonFastForwards": "false",
    # Always by index-pack: it keeps the bounds, and a refused pack is one file in quarantine.
    "receive.unpackLimit": "1",
    "receive.autogc": "false",
    "gc.auto": "0",
    "transfer.hideRefs": HIDDEN.rstrip("/"),
    "core.hooksPath": str(HOOKS),
    "core.bigFileThreshold": "16m",
    "pack.threads": "1",
    "pack.windowMemory": "64m",
    "core.deltaBaseCacheLimit": "32m",
}


@dataclass(frozen=True)
class Bounds:
    """What one run of git may take."""

    seconds: float
    memory_bytes: int
    input_bytes: int
    objects: int


class TooManyObjects(TooLarge):
    """A pack of more commits, directories and files than are taken in at once."""

    default_hint = "Older commits count too: bring the protocol without them, or with fewer files."


class TookTooLong(Unavailable):
    """Git was ended because its time was over."""

    code = "took_too_long"
    title = "It took too long"


def advertisement(repository: Path, service: str, protocol: str, bounds: Bounds) -> bytes:
    """What refs there are, as the first answer to a client that wants `service`."""
    program = _program(bounds, service, "--http-backend-info-refs", repository)
    done = subprocess.run(
        program,
        env=_environment(repository, protocol, bounds),
        capture_output=True,
        timeout=bounds.seconds,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"git can't read the protocol: {_last_line(done.stderr)}")
    return line(f"# service={service}\n".encode()) + b"0000" + done.stdout


def fetched(
    repository: Path, request: IO[bytes], protocol: str, bounds: Bounds
) -> Generator[bytes, None, None]:
    """The answer to a clone or fetch, as it comes."""
    program = _program(bounds, UPLOAD, "--stateless-rpc", repository)
    environment = _environment(repository, protocol, bounds)
    with (
        subprocess.Popen(
            program, stdin=request, stdout=subprocess.PIPE, env=environment, start_new_session=True
        ) as process,
        _Deadline(process, bounds.seconds),
    ):
        output = cast(IO[bytes], process.stdout)
        try:
            while chunk := output.read1(CHUNK):  # type: ignore[attr-defined]
                yield chunk
        finally:
            _end(process)


@contextmanager
def pushed(
    repository: Path,
    name: str,
    read: Callable[[int], bytes],
    bounds: Bounds,
    late: Callable[[], object] = lambda: None,
    *,
    rewrite: bool = True,
) -> Iterator[IO[bytes]]:
    """Git's answer to a push whose request `read` gives; the refs have moved by then, if they do.

    `late` is called when the time is over, so that reading may be ended; then `TookTooLong` is raised.
    Without `rewrite` main only goes on from where it is.
    """
    if not os.access(HOOKS / "pre-receive", os.X_OK):
        raise Unavailable("The hook that checks pushes is not executable, so nothing is taken in.")
    program = _program(bounds, RECEIVE, "--stateless-rpc", repository)
    options = {} if rewrite else {"receive.denyNonFastForwards": "true"}
    environment = _environment(repository, "", bounds, options) | {
        PROTOCOL_VARIABLE: name,
        PYTHON_VARIABLE: sys.executable,
    }
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=complaints,
            env=environment,
            start_new_session=True,
        )
        with process, _Deadline(process, bounds.seconds, late) as deadline:
            _feed(cast(IO[bytes], process.stdin), read, Announced(bounds.objects))
            process.wait()
        if deadline.over:
            raise TookTooLong(f"The push took longer than {bounds.seconds:g} seconds.")
        if process.returncode:
            complaints.seek(0)
            _log.info("push refused by git", protocol=name, reason=_last_line(complaints.read(CHUNK)))
        answer.seek(0)
        yield answer


def refusal(message: str, hint: str = "") -> bytes:
    """The answer to a push that is refused by us: what git shows as `remote:` and as the reason."""
    told = "".join(f"{each}\n" for each in [*message.splitlines(), *hint.splitlines()]).encode()
    reason = line(f"unpack {message.splitlines()[0]}\n".encode()) + b"0000"
    pieces = [told[start : start + _MAX_LINE] for start in range(0, len(told), _MAX_LINE)]
    return b"".join(line(b"\x02" + piece) for piece in pieces) + line(b"\x01" + reason) + b"0000"


def line(content: bytes) -> bytes:
    """One of git's packet lines."""
    return f"{len(content) + 4:04x}".encode() + content


def request(changes: Sequence[Change]) -> bytes:
    """The beginning of a push, which a pack follows."""
    told = [f"{each.old} {each.new} {each.ref}" for each in changes]
    first = f"{told[0]}\0report-status side-band-64k agent=labfleet\n"
    return line(first.encode()) + b"".join(line(f"{each}\n".encode()) for each in told[1:]) + b"0000"


@dataclass(frozen=True)
class Verdict:
    """What git and the hook say to a push: lines for people, and why refs were not moved."""

    said: list[str]
    refused: dict[str, str]


def verdict(answer: bytes) -> Verdict:
    """Read the answer to a push whose beginning was `request`."""
    bands = {1: b"", 2: b""}
    for each in _lines(answer):
        if each[:1] in {b"\x01", b"\x02"}:
            bands[each[0]] += each[1:]
    refused = {}
    for each in _lines(bands[1]):
        words = each.decode("utf-8", "replace").strip().split(" ", 2)
        if words[0] == "ng":
            refused[words[1]] = words[2] if len(words) > 2 else ""
        elif words[0] == "unpack" and words[1:] != ["ok"]:
            refused["unpack"] = " ".join(words[1:])
    if not bands[1]:
        refused["unpack"] = "git did not say"
    return Verdict(bands[2].decode("utf-8", "replace").splitlines(), refused)


def _lines(content: bytes) -> Iterator[bytes]:
    """The packet lines, as far as they go."""
    at = 0
    while at + 4 <= len(content):
        size = max(int(content[at : at + 4], 16), 4)
        yield content[at + 4 : at + size]
        at += size


class Announced:
    """Looks at a push as it passes: after the commands comes the pack, which says how many objects it has."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head: bytes | None = b""

    def look(self, chunk: bytes) -> None:
        """`TooManyObjects` when it says so."""
        if self._head is None:
            return
        head = self._head + chunk
        while len(head) >= 4 and head[:4] != b"0000":
            if not _HEX.fullmatch(head[:4]):
                self._head = None  # git will say what is wrong with it
                return
            size = max(int(head[:4], 16), 4)
            if len(head) < size:
                break
            head = head[size:]
        self._head = head
        if head[:4] == b"0000" and len(head) >= 4 + PACK_HEAD:
            self._head = None
            check_pack(head[4 : 4 + PACK_HEAD], self._limit)


def check_pack(head: bytes, limit: int) -> None:
    """`TooManyObjects` if a pack that begins so has more of them."""
    count = int.from_bytes(head[8:PACK_HEAD], "big")
    if head[:4] == b"PACK" and count > limit:
        raise TooManyObjects(f"It has {count:,} objects of git; {limit:,} may be brought at once.")


def _feed(pipe: IO[bytes], read: Callable[[int], bytes], announced: Announced) -> None:
    try:
        with pipe:
            while chunk := read(CHUNK):
                announced.look(chunk)
                pipe.write(chunk)
    except BrokenPipeError:  # git has seen enough; its answer says why
        return


def _program(bounds: Bounds, service: str, option: str, repository: Path) -> list[str]:
    limits = [f"--as={bounds.memory_bytes}", f"--cpu={int(bounds.seconds) + 1}", "--core=0"]
    return ["prlimit", *limits, "git", service.removeprefix("git-"), option, str(repository)]


def _environment(
    repository: Path, protocol: str, bounds: Bounds, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "TMPDIR") if name in os.environ}
    options = {**_OPTIONS, "receive.maxInputSize": str(bounds.input_bytes), **(more or {})}
    spoken = {"GIT_PROTOCOL": protocol} if _PROTOCOL.fullmatch(protocol) else {}
    return {
        **kept,
        **with_options(options),
        **spoken,
        "HOME": str(repository),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class _Deadline:
    """Ends a process, and all that it has started, when its time is over."""

    def __init__(
        self, process: subprocess.Popen[bytes], seconds: float, late: Callable[[], object] = lambda: None
    ) -> None:
        self.over = False
        self._process = process
        self._late = late
        self._timers = [
            threading.Timer(seconds, self._stop),
            threading.Timer(seconds + GRACE_SECONDS, self._kill),
        ]

    def __enter__(self) -> Self:
        for timer in self._timers:
            timer.daemon = True
            timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        _end(self._process)

    def _stop(self) -> None:
        self.over = True
        _signal(self._process, signal.SIGTERM)
        self._late()

    def _kill(self) -> None:
        _signal(self._process, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have the process ended, if it still runs: nobody waits for it any more."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"
