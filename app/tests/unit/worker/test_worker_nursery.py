"""The nursery's parts; what it does with systemd is tested on the machines of the role worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labfleet.worker import units
from labfleet.worker.nursery import Refused, ending, require_same_user
from labfleet.worker.spec import Spec


@pytest.mark.parametrize(
    ("code", "killed_for_memory", "word"),
    [
        (0, False, "success"),
        (0, True, "success"),
        (1, False, "exit code 1"),
        (-9, False, "killed by signal 9"),
        (-9, True, "oom-kill"),
        (-11, True, "killed by signal 11"),
    ],
)
def test_how_a_child_has_ended(code: int, killed_for_memory: bool, word: str) -> None:
    assert ending(code, killed_for_memory=killed_for_memory) == word


def test_only_our_own_user_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        require_same_user(ours)
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(Refused, match="no business"):
            require_same_user(ours)


def test_ps_names_the_attempt() -> None:
    code = (
        "import sys; from pathlib import Path; from labfleet.worker.nursery import retitle\n"
        "for title in ('labfleet.worker.attempt /x', 'y' * 10_000):\n"
        "    retitle(title); print(Path('/proc/self/cmdline').read_bytes().rstrip(b'\\0').decode())\n"
        "print(sys.argv[1])"
    )
    command = [sys.executable, "-I", "-c", code, "argument"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    short, long, argument = done.stdout.splitlines()
    assert short == "labfleet.worker.attempt /x"
    assert long == "y" * (len("\0".join(command)))
    assert argument == "argument"  # what Python knows of it is its own


def test_the_unit_is_named_by_task_and_attempt() -> None:
    assert units.unit_name("t", 2) == "labfleet-attempt-t-2"


def test_both_kinds_of_unit_have_the_same_bounds(spec: Spec, change: Callable[..., Any]) -> None:
    spec = change(spec, cores=3)
    scope = dict(units.scope_properties(spec, 77, 257))
    service = dict(units.service_properties(spec, Path("/var/x")))

    for properties in (scope, service):
        assert properties["MemoryMax"] == ("t", (512 + 256) * 1024**2)
        assert properties["MemorySwapMax"] == ("t", 0)
        assert properties["TasksMax"] == ("t", 52)
        assert properties["CPUQuotaPerSecUSec"] == ("t", 3_000_000)
        assert properties["RuntimeMaxUSec"][1] > 6 * 3600 * 1_000_000
        assert properties["OOMPolicy"] == ("s", "continue")
        assert "la_" not in str(properties)
    assert scope["PIDs"] == ("au", [77])
    assert "OOMPolicy" not in dict(units.scope_properties(spec, 77, 252))
    assert service["ExecStart"][1][0][1][1:] == ["-I", "-m", "labfleet.worker.attempt", "/var/x"]
    # roles/app/files/install_release.py looks for it there.
    assert service["Environment"] == ("as", [f"LABFLEET_RELEASE={sys.prefix}"])
