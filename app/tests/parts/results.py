"""Counts of tests, and the closing table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from jobs import Outcome


@dataclass(frozen=True)
class Counts:
    """Tests that passed, and tests that did not: a skipped test proves nothing, so it has failed."""

    passed: int
    failed: int


def junit(path: Path) -> Counts | None:
    """The counts of a JUnit file, or None when there is none that can be read."""
    try:
        suites = ElementTree.parse(path).getroot().iter("testsuite")
    except (OSError, ElementTree.ParseError):
        return None
    tests = failed = 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += sum(int(suite.get(kind, 0)) for kind in ("failures", "errors", "skipped"))
    return Counts(max(tests - failed, 0), failed)


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per part: how many jobs, tests, and seconds of work."""
    lines = [f"{'part':<14}{'result':<9}{'passed':>8}{'failed':>8}{'seconds':>9}"]
    for part in dict.fromkeys(outcome.job.part for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.job.part == part]
        verdict = "ok" if all(outcome.good for outcome in own) else "FAILED"
        passed, failed = sum(outcome.passed for outcome in own), sum(outcome.failed for outcome in own)
        lines.append(f"{part:<14}{verdict:<9}{passed:>8}{failed:>8}{sum(o.seconds for o in own):>9.0f}")
    return "\n".join(lines)
