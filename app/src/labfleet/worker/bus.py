"""Talk to the systemd of the worker's user: D-Bus over its own socket, without a bus and without `systemctl`.

A process that starts one program for each question would pay 10 ms for it. systemd sends to whoever is
connected here all signals of all units, so a connection is opened for one matter and closed again.
"""

from __future__ import annotations

import os
import socket
import time
from types import TracebackType
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call

ANSWER_SECONDS = 20.0
"""How long systemd may take, for an answer and for a job."""
CHUNK = 65536
_MANAGER = "org.freedesktop.systemd1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ROOT = "/org/freedesktop/systemd1"


class BusError(Exception):
    """systemd refused, or can't be reached; `name` is D-Bus's name of the error, if it gave one."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class Bus:
    """A connection, for one thread and a short time. Use it with `with`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._parser = Parser()
        self._serial = 0
        self._signals: list[Message] = []

    def __enter__(self) -> Bus:
        address = f"{runtime_directory()}/systemd/private"
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.connect(address)
            self._authenticate()
        except OSError as error:
            self._socket.close()
            raise BusError(f"systemd can't be reached at {address}: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        user = str(os.getuid()).encode().hex()
        self._socket.sendall(f"\0AUTH EXTERNAL {user}\r\nBEGIN\r\n".encode())
        answer = b""
        while b"\r\n" not in answer:
            piece = self._socket.recv(CHUNK)
            if not piece or len(answer) > CHUNK:
                raise OSError("it does not know this user")
            answer += piece
        line, _, messages = answer.partition(b"\r\n")
        if not line.startswith(b"OK"):
            raise OSError(line.decode(errors="replace"))
        self._parser.add_data(messages)

    def manager(self, method: str, signature: str = "", *body: Any) -> tuple[Any, ...]:
        """Call a method of systemd's manager; what it returns. `BusError` when it refuses."""
        return self._call(_ROOT, f"{_MANAGER}.Manager", method, signature, body)

    def read(self, path: str, kind: str, name: str) -> Any:
        """A property of a unit; `kind` is `Unit`, `Service`, `Scope` …"""
        answer = self._call(path, _PROPERTIES, "Get", "ss", (f"{_MANAGER}.{kind}", name))
        return answer[0][1]

    def run_job(self, method: str, signature: str, *body: Any) -> None:
        """Call a method that returns a job, and wait until that is done. `BusError` when it fails."""
        (job,) = self.manager(method, signature, *body)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            message = self._signals.pop(0) if self._signals else self._receive(deadline)
            if message.header.fields.get(HeaderFields.member) == "JobRemoved" and message.body[1] == job:
                break
        if message.body[3] != "done":
            raise BusError(f"{message.body[2]}: systemd's job ended with '{message.body[3]}'")

    def _call(self, path: str, interface: str, method: str, signature: str, body: Any) -> tuple[Any, ...]:
        address = DBusAddress(path, bus_name=_MANAGER, interface=interface)
        self._serial += 1
        call = new_method_call(address, method, signature or None, body)
        deadline = time.monotonic() + ANSWER_SECONDS
        self._signals.clear()
        try:
            self._socket.sendall(call.serialise(serial=self._serial))
        except OSError as error:
            raise BusError(f"systemd does not listen: {error}") from None
        while True:
            message = self._receive(deadline)
            if message.header.fields.get(HeaderFields.reply_serial) == self._serial:
                break
            self._signals.append(message)
        if message.header.message_type is MessageType.error:
            name = str(message.header.fields.get(HeaderFields.error_name, ""))
            raise BusError(str(message.body[0]) if message.body else name, name)
        return tuple(message.body)

    def _receive(self, deadline: float) -> Message:
        while True:
            message = self._parser.get_next_message()
            if message is not None:
                return message
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._socket.recv(CHUNK)
            except OSError as error:
                raise BusError(f"systemd does not answer: {error}") from None
            if not data:
                raise BusError("systemd has closed the connection")
            self._parser.add_data(data)


def runtime_directory() -> str:
    """The user's `XDG_RUNTIME_DIR`; a service has no session that would tell it."""
    return f"/run/user/{os.getuid()}"
