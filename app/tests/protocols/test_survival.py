"""Survival: the remissions of Freireich et al. (1963), as textbooks have computed them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from .reading import by, number, table

pytestmark = pytest.mark.r

Run = Callable[..., Any]


def test_freireich(run_shipped: Run) -> None:
    """Kleinbaum and Klein, Survival Analysis: table 2.1, medians of 23 and 8 weeks, chi-square 16.79; Efron's
    coefficient of Cox's model is 1.572, its standard error 0.412, the hazard ratio 4.82."""
    run = run_shipped("survival")
    steps = by(table(run, "curves.csv"), "group", "time")
    expected = {6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}
    for time, share in expected.items():
        assert number(steps["6-MP", str(time)], "estimate") == pytest.approx(share, abs=1e-4)
    assert [steps["6-MP", "6"][name] for name in ("at_risk", "events", "censored")] == ["21", "3", "1"]
    groups = by(table(run, "summary.csv"), "group")
    assert [groups[name]["median"] for name in ("6-MP", "placebo")] == ["23", "8"]
    assert groups["6-MP"]["median_high"] == "", "an end that is not reached"

    (test,) = table(run, "tests.csv")
    assert (test["test"], test["df"]) == ("log-rank", "1")
    assert number(test, "chi_square") == pytest.approx(16.793, abs=1e-3)
    # Of one degree of freedom, the tail is that of the normal distribution on both sides.
    assert number(test, "p_value") == pytest.approx(math.erfc(math.sqrt(number(test, "chi_square") / 2)))

    (cox,) = table(run, "cox.csv")
    assert number(cox, "coefficient", "hazard_ratio") == pytest.approx([1.572, 4.817], abs=1e-3)
    assert number(cox, "coefficient") / number(cox, "z") == pytest.approx(0.4124, abs=1e-4)
    assert number(cox, "proportionality_p") > 0.5


def test_nelson_aalen_is_a_sum(run_shipped: Run) -> None:
    content = b"time,event\n1,1\n2,no\n3,TRUE\n3,yes\n5,0\n8,1\n"
    run = run_shipped("survival", {"estimator": "nelson-aalen"}, table=content)
    rows = by(table(run, "curves.csv"), "time")
    hazards = {"0": 0, "1": 1 / 6, "3": 1 / 6 + 2 / 4, "8": 1 / 6 + 2 / 4 + 1}
    for time, hazard in hazards.items():
        assert number(rows[time], "estimate") == pytest.approx(hazard)
    error = math.sqrt(1 / 36 + 2 / 16)
    assert number(rows["3"], "upper") == pytest.approx(
        hazards["3"] * math.exp(1.959964 * error / hazards["3"]), rel=1e-5
    )
    assert not (run.outputs / "tests.csv").exists()
    assert not (run.outputs / "cox.csv").exists()


def test_covariates_of_numbers_and_texts(run_shipped: Run) -> None:
    lines = ["time,event,arm,age of patient"]
    lines += [f"{5 + (i * 7) % 23},{i % 3 > 0:d},{'ab'[i % 2]},{40 + (i * 11) % 17}" for i in range(40)]
    parameters = {"covariates": ["arm", "age of patient"]}
    rows = table(run_shipped("survival", parameters, table="\n".join(lines).encode()), "cox.csv")
    assert [row["term"] for row in rows] == ["armb", "age of patient"]
    assert all(number(row, "lower") < number(row, "hazard_ratio") < number(row, "upper") for row in rows)
    assert all(row["proportionality_p"] for row in rows)


def test_a_model_that_does_not_converge_is_left_out(run_shipped: Run) -> None:
    content = b"time,event,g\n1,1,a\n2,1,a\n3,1,a\n7,0,b\n8,0,b\n9,0,b\n"
    run = run_shipped("survival", table=content)
    assert run.code == 0
    assert not (run.outputs / "cox.csv").exists()
    assert "Cox's model is left out:" in run.out


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (b"time,event\n-1,1\n2,0\n", 1, "Line 2: the time -1 is negative."),
        (b"time,event\n1,1\n2,maybe\n", 1, "Line 3, column 'event': 'maybe' is neither 1"),
        (b"time,event\n1,0\n2,0\n", 65, "No event happened"),
        (b"weeks,event\n1,0\n2,0\n", 65, "The table has no column 'time'; it has: weeks, event."),
        (b"time,event\n1,NA\n2,1\n", 65, "Only 1 rows have time, event and group"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_says_what_does_not_fit(run_shipped: Run, content: bytes, code: int, reason: str) -> None:
    run = run_shipped("survival", table=content)
    assert (run.code, run.reason[: len(reason)]) == (code, reason), run.error
