"""A shepherd's process, ready when it is needed: `python -m labfleet.worker.nursery SOCKET ATTEMPTS`.

A new interpreter takes 100 ms of processor time until it has imported what a shepherd needs. This one has
done that: it forks, and the child becomes the shepherd of one attempt, in a scope of its own before it does
anything. It runs as a service of the user's systemd, not in the worker's service, and what it has forked
needs it no more; it only tells whoever asked for the child how that ended.

One thread only: a process with several must not fork and go on.
"""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401  (every connection by name would import it)
import gc
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from labfleet.worker import attempt, journal, units
from labfleet.worker.bus import BusError
from labfleet.worker.client import tls_context
from labfleet.worker.meter import group_of, out_of_memory
from labfleet.worker.spec import Spec, load

log = logging.getLogger(__name__)
LINE_BYTES = 4096
ASK_SECONDS = 5.0
"""How long one that has connected may take to say what it wants."""
BACKLOG = 64
GO = b"1"
ABANDONED = 75
_CREDENTIALS = struct.Struct("3i")


class Refused(Exception):
    """What was asked for can't be done; the message says why."""


@dataclass(eq=False)
class Child:
    """A shepherd: its process, its control group, and whoever waits for its end."""

    unit: str
    pid: int
    descriptor: int
    group: Path | None
    asker: socket.socket | None


class Nursery:
    """Listens, forks, tells ends; until it is killed."""

    def __init__(self, listener: socket.socket, attempts: Path) -> None:
        self._listener = listener
        self._attempts = attempts
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        """Until the end."""
        while True:
            # Each knows what to do by itself: what one does may close, and open anew, the number of another.
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        asker, _ = self._listener.accept()
        try:
            asker.settimeout(ASK_SECONDS)
            require_same_user(asker)
            child = self._bear(asker)
            asker.sendall(b'{"started": true}\n')
        except (Refused, OSError, ValueError, TypeError, KeyError, BusError) as error:
            log.warning("no child: %s", error)
            _say(asker, {"error": str(error)})
            asker.close()
            return
        child.asker = asker
        # It says no more: that it can be read means that it has gone.
        self._selector.register(asker, selectors.EVENT_READ, partial(self._lose, child))

    def _bear(self, asker: socket.socket) -> Child:
        """Fork; when this returns, the child is in its scope and works."""
        directory = Path(json.loads(_line(asker))["directory"])
        if directory.parent != self._attempts:
            raise Refused(f"{directory} is no attempt of this worker")
        spec = load(directory)
        tls_context(spec.host.ca_file)  # for all children that follow
        waits, goes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(goes)
            self._become(spec, directory, waits, asker)
        os.close(waits)
        try:
            return self._place(spec, pid, goes)
        finally:
            os.close(goes)  # without the word to go the child ends

    def _place(self, spec: Spec, pid: int, goes: int) -> Child:
        try:
            units.start_scope(spec, pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        name = units.unit_name(spec.task, spec.number)
        child = Child(name, pid, os.pidfd_open(pid), group_of(pid), None)
        self._children.append(child)
        self._selector.register(child.descriptor, selectors.EVENT_READ, partial(self._bury, child))
        os.write(goes, GO)
        return child

    def _become(self, spec: Spec, directory: Path, waits: int, asker: socket.socket) -> NoReturn:
        """The child's life."""
        code = 1
        try:
            self._drop_everything(asker)
            if os.read(waits, 1) == GO:
                os.close(waits)
                os.setsid()
                os.chdir(directory)
                Path("/proc/self/oom_score_adj").write_text(str(units.OOM_SCORE))
                retitle(f"labfleet.worker.attempt {directory}")
                gc.enable()
                code = attempt.shepherd(spec, directory)
            else:
                code = ABANDONED
        except BaseException:
            log.exception("the shepherd broke")
        finally:
            logging.shutdown()
            os._exit(code)

    def _drop_everything(self, asker: socket.socket) -> None:
        """Close what is the nursery's: else others would not hear that it has ended."""
        self._selector.close()
        self._listener.close()
        asker.close()
        for child in self._children:
            os.close(child.descriptor)
            if child.asker:
                child.asker.close()

    def _bury(self, child: Child) -> None:
        """Tell how a child ended."""
        self._children.remove(child)
        _, status = os.waitpid(child.pid, 0)
        word = ending(os.waitstatus_to_exitcode(status), killed_for_memory=out_of_memory(child.group))
        self._selector.unregister(child.descriptor)
        os.close(child.descriptor)
        if child.asker:
            _say(child.asker, {"result": word})
            self._lose(child)
        if child.group is None:
            _stop(child.unit)

    def _lose(self, child: Child) -> None:
        """Nobody waits for this child any more."""
        if child.asker:
            self._selector.unregister(child.asker)
            child.asker.close()
            child.asker = None


def _stop(unit: str) -> None:
    """With old control groups systemd does not see that a scope is empty."""
    try:
        units.stop(unit)
    except BusError as error:
        log.warning("%s: %s", unit, error)


def ending(code: int, *, killed_for_memory: bool) -> str:
    """How a process has ended, in systemd's words as far as it has some."""
    if code == 0:
        return "success"
    if killed_for_memory and code == -signal.SIGKILL:
        return "oom-kill"
    return f"exit code {code}" if code > 0 else f"killed by signal {-code}"


def require_same_user(channel: socket.socket) -> None:
    """`Refused` unless the other end is a process of our user."""
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    if user != os.getuid():
        raise Refused(f"user {user} has no business here")


def retitle(text: str) -> None:
    """Let `ps` show another command line. Its place is where the old one was: longer text is cut off."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5), there 48 and 49
    room = end - begin
    ctypes.memmove(begin, text.encode()[: room - 1].ljust(room, b"\0"), room)


def _line(channel: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = channel.recv(LINE_BYTES)
        if not piece or len(line) > LINE_BYTES:
            raise Refused("that is no question")
        line += piece
    return line


def _say(channel: socket.socket, what: dict[str, str]) -> None:
    try:
        channel.sendall(json.dumps(what).encode() + b"\n")
    except OSError:
        log.info("nobody listens any more")


def listen(path: Path) -> socket.socket:
    """The socket, for this user alone (also by the mode of its directory)."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


def main(path: Path, attempts: Path) -> None:
    """Serve at `path` the attempts whose directories lie in `attempts`."""
    journal.configure()
    # What is there now stays, and is shared with the children as long as nobody touches it.
    gc.collect()
    gc.freeze()
    gc.disable()
    Nursery(listen(path), attempts).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
