"""The pool of `./lab test`: what is asked once more, and what is told of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PARTS = Path(__file__).resolve().parents[2] / "parts"
TEMPLATE = '<testsuites><testsuite tests="{count}">{cases}</testsuite></testsuites>'


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(PARTS))
    yield importlib.import_module("jobs")
    for name in ("jobs", "results"):
        sys.modules.pop(name, None)


def junit(path: Path, **verdicts: bool) -> Path:
    cases = "".join(
        f'<testcase classname="t" name="{name}">{"" if good else "<failure/>"}</testcase>'
        for name, good in verdicts.items()
    )
    path.write_text(TEMPLATE.format(count=len(verdicts), cases=cases))
    return path


def run(jobs: Any, folder: Path, first: Path, code: int, second: Path | None, code_again: int = 0) -> Any:
    """The outcome of a step that leaves `first`, and `second` when it is asked again."""
    target = folder / "result.xml"
    command = ["sh", "-c", f"cp {first} {target}; exit {code}"]
    again = ["sh", "-c", f"cp {second} {target}; exit {code_again}"] if second else ()
    step = jobs.Step(command, junit=target, again=again)
    job = jobs.Job("part", "name", [step], folder / "log")
    return jobs.Pool(1, lambda outcome: None).run([job])[0]


def test_one_that_passes_when_asked_again_is_told_as_unsteady(jobs: Any, tmp_path: Path) -> None:
    first = junit(tmp_path / "1.xml", a=True, b=False)
    outcome = run(jobs, tmp_path, first, 1, junit(tmp_path / "2.xml", b=True))
    assert outcome.good
    assert (outcome.passed, outcome.failed, outcome.unsteady) == (2, 0, ["t::b"])


def test_one_that_fails_twice_has_failed(jobs: Any, tmp_path: Path) -> None:
    first = junit(tmp_path / "1.xml", a=True, b=False)
    outcome = run(jobs, tmp_path, first, 1, junit(tmp_path / "2.xml", b=False), 1)
    assert not outcome.good
    assert (outcome.passed, outcome.failed, outcome.unsteady) == (1, 1, [])


def test_many_failures_are_not_asked_again(jobs: Any, tmp_path: Path) -> None:
    first = junit(tmp_path / "1.xml", a=False, b=False, c=False, d=False, e=True)
    outcome = run(jobs, tmp_path, first, 1, junit(tmp_path / "2.xml", a=True, b=True, c=True, d=True))
    assert not outcome.good
    assert (outcome.passed, outcome.failed) == (1, 4)


def test_what_breaks_before_its_tests_has_failed_and_names_no_test(jobs: Any, tmp_path: Path) -> None:
    outcome = run(jobs, tmp_path, tmp_path / "none.xml", 2, tmp_path / "none.xml", 2)
    assert not outcome.good
    assert (outcome.passed, outcome.failed) == (0, 1)


@pytest.mark.parametrize("kind", ["error", "skipped"])
def test_a_skipped_or_broken_test_has_not_passed(jobs: Any, tmp_path: Path, kind: str) -> None:
    first = tmp_path / "1.xml"
    first.write_text(TEMPLATE.format(count=1, cases=f'<testcase classname="t" name="a"><{kind}/></testcase>'))
    outcome = run(jobs, tmp_path, first, 0, None)
    assert not outcome.good
    assert (outcome.passed, outcome.failed) == (0, 1)
