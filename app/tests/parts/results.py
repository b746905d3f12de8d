"""Counts of tests, and the closing table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from jobs import Outcome


def junit(path: Path) -> dict[str, bool] | None:
    """Each test of a JUnit file and whether it passed, or None when there is none that can be read.

    A skipped test proves nothing, so it has not passed; nor has one whose cleaning up failed.
    """
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return None
    verdicts: dict[str, bool] = {}
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        good = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        verdicts[name] = verdicts.get(name, True) and good
    return verdicts


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per part: how many jobs, tests, and seconds of work."""
    lines = [f"{'part':<14}{'result':<9}{'passed':>8}{'failed':>8}{'seconds':>9}"]
    for part in dict.fromkeys(outcome.job.part for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.job.part == part]
        verdict = "ok" if all(outcome.good for outcome in own) else "FAILED"
        passed, failed = sum(outcome.passed for outcome in own), sum(outcome.failed for outcome in own)
        lines.append(f"{part:<14}{verdict:<9}{passed:>8}{failed:>8}{sum(o.seconds for o in own):>9.0f}")
    return "\n".join(lines)
