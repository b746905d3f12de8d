#!/usr/bin/python3
"""Take a webserver out of HAProxy and put it in again, without a request that fails.

    labfleet-balancer show
    labfleet-balancer out NAME [--seconds 300]    no new requests; waits until those that it has are answered
    labfleet-balancer in NAME [--seconds 60]      requests again; waits until HAProxy finds it well

The last server that is well stays in: with it out, everybody would be turned away. Where HAProxy does not run
there is nothing to do. Root only; standard library only. Exit code 1: not well in time; 3: no such NAME.
"""

from __future__ import annotations

import argparse
import csv
import socket
import sys
import time
from collections.abc import Callable

ADMIN_SOCKET = "/run/haproxy/admin.sock"
BACKEND = "webservers"
POLL_SECONDS = 0.2
ANSWER_SECONDS = 10
WELL = "UP"
UNKNOWN = 3


class Servers:
    """The servers of the backend, as HAProxy sees them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def say(self, command: str) -> str:
        """Send one command; what HAProxy answers."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(ANSWER_SECONDS)
            channel.connect(self._path)
            channel.sendall(f"{command}\n".encode())
            channel.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: channel.recv(65536), b"")).decode()

    def look(self) -> dict[str, dict[str, str]]:
        """HAProxy's figures of each server, by name."""
        lines = self.say(f"show stat {BACKEND} 4 -1").removeprefix("# ").splitlines()
        return {row["svname"]: row for row in csv.DictReader(lines)}

    def state(self, name: str, state: str) -> None:
        """`drain`: no new requests; `ready`: as its health is."""
        said = self.say(f"set server {BACKEND}/{name} state {state}").strip()
        if said:
            sys.exit(f"HAProxy did not take {name} for {state}: {said}")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["show", "out", "in"])
    parser.add_argument("name", nargs="?", default="", help="of the webserver")
    parser.add_argument("--seconds", type=float, help="how long to wait")
    parser.add_argument("--socket", default=ADMIN_SOCKET, help="HAProxy's admin socket")
    options = parser.parse_args()
    servers = Servers(options.socket)
    try:
        there = servers.look()
    except (FileNotFoundError, ConnectionRefusedError):
        print("HAProxy does not run here.")
        return 0
    if options.verb == "show":
        for name, row in there.items():
            print(f"{name}: {row['status']}, {busy(row)} requests")
        return 0
    if options.name not in there:
        print(
            f"HAProxy knows no webserver {options.name!r}; it knows {', '.join(there)}.",
            file=sys.stderr,
        )
        return UNKNOWN
    if options.verb == "out":
        return take_out(servers, options.name, options.seconds or 300)
    return put_in(servers, options.name, options.seconds or 60)


def busy(row: dict[str, str]) -> int:
    """Requests that the server has not answered yet, those that wait for it included."""
    return int(row["scur"] or 0) + int(row["qcur"] or 0)


def take_out(servers: Servers, name: str, seconds: float) -> int:
    """Drain it, and wait until it has answered what it has; longer requests are its own business."""
    others = [other for other, row in servers.look().items() if other != name and row["status"] == WELL]
    if not others:
        print(f"{name} stays in: no other webserver is well.")
        return 0
    servers.state(name, "drain")
    if wait(lambda: busy(servers.look()[name]) == 0, seconds):
        print(f"{name} is out.")
    else:
        print(f"{name} is out; {busy(servers.look()[name])} requests have not ended after {seconds:.0f} s.")
    return 0


def put_in(servers: Servers, name: str, seconds: float) -> int:
    """Let its health decide again, and wait until HAProxy finds it well."""
    servers.state(name, "ready")
    if wait(lambda: servers.look()[name]["status"] == WELL, seconds):
        print(f"{name} is in.")
        return 0
    row = servers.look()[name]
    found = row.get("last_chk") or row.get("check_status", "")
    print(
        f"{name} is {row['status']} after {seconds:.0f} s: {found}. It gets requests as soon as it is well.",
        file=sys.stderr,
    )
    return 1


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


if __name__ == "__main__":
    sys.exit(main())
