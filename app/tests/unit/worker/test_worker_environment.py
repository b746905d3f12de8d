"""What results of a machine depend on."""

from __future__ import annotations

import platform
import sys

import pytest

from labfleet.worker import environment


def test_system_and_interpreters_are_named() -> None:
    told = environment.describe()

    assert told["kernel"] == platform.release()
    assert told["architecture"] == platform.machine()
    assert told["python"].startswith("3.")
    assert told["labfleet"]
    assert all(isinstance(value, str) and 0 < len(value) <= 200 for value in told.values())


def test_a_version_is_found_wherever_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "R scripting front-end version 4.0.4 (2021-02-15)"
    say = (sys.executable, "-c", f"import sys; print({text!r}, file=sys.stderr)")
    commands = {"r": say, "none": ("no-such-interpreter",), "silent": (sys.executable, "-c", "")}
    monkeypatch.setattr(environment, "INTERPRETERS", commands)

    told = environment.describe()

    assert told["r"] == "4.0.4"
    assert not {"none", "silent"} & set(told)
