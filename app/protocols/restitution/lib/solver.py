"""Equations integrated by CVODE (SUNDIALS), and what came of it at any time in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from lib.equations import Equations, Values
from lib.talk import Broken
from sksundae.cvode import CVODE

ABSOLUTE = 0.01
"""The absolute tolerance, as a share of the relative one, for states of the size 1."""
MAX_EVALUATIONS = 2_000_000
"""Of one piece: a solver that needs more has lost its way."""


@dataclass(frozen=True)
class Trace:
    """Times, states, their rates and the stimulus at each step of the solver; times never fall."""

    times: Any
    states: Any
    rates: Any
    stimulus: Any

    @property
    def end(self) -> list[float]:
        """The states at the last of its times."""
        last: list[float] = self.states[-1].tolist()
        return last

    def at(self, times: Any) -> Any:
        """The states at these times, by the cubic that has the solver's values and rates on both sides."""
        left, share, width = self._between(times)
        share, width = share[:, None], width[:, None]
        first, second = self.states[left], self.states[left + 1]
        return (
            (1 + 2 * share) * (1 - share) ** 2 * first
            + share * (1 - share) ** 2 * width * self.rates[left]
            + share**2 * (3 - 2 * share) * second
            + share**2 * (share - 1) * width * self.rates[left + 1]
        )

    def observed(self, equations: Equations, times: Any) -> Any:
        """What the equations observe, at these times."""
        left, _, _ = self._between(times)
        rows = zip(times.tolist(), self.at(times).tolist(), self.stimulus[left].tolist(), strict=True)
        return np.array([equations.observe(*row) for row in rows]).reshape(
            len(times), len(equations.observed)
        )

    def _between(self, times: Any) -> tuple[Any, Any, Any]:
        # Where a stimulus begins or ends a time stands twice: the later one counts.
        left = np.clip(np.searchsorted(self.times, times, "right") - 1, 0, len(self.times) - 2)
        width = self.times[left + 1] - self.times[left]
        share = np.where(width > 0, (times - self.times[left]) / np.where(width > 0, width, 1), 1.0)
        return left, np.clip(share, 0, 1), width


def joined(traces: list[Trace]) -> Trace:
    """One after the other."""
    return Trace(
        *(
            np.concatenate([getattr(trace, name) for trace in traces])
            for name in ("times", "states", "rates", "stimulus")
        )
    )


class Solver:
    """CVODE's backward differentiation formulas on these equations, with a relative tolerance."""

    def __init__(self, equations: Equations, tolerance: float, max_step: float = 0.0) -> None:
        self.equations = equations
        self._stimulus = 0.0
        self._evaluations = 0
        absolute = np.full(len(equations.states), tolerance * ABSOLUTE)
        absolute[equations.place] /= equations.roles.millivolts
        self._cvode = CVODE(self._fill, rtol=tolerance, atol=absolute, max_step=max_step)

    def run(self, start: float, end: float, states: Values, stimulus: float = 0.0) -> Trace:
        """From one time to another, the stimulus being constant; all in the model's units."""
        self._stimulus, self._evaluations = stimulus, 0
        try:
            solution = self._cvode.solve([start, end], states)
        except RuntimeError as error:
            raise self._lost(start, str(error)) from None
        if not solution.success or not np.isfinite(solution.y).all():
            raise self._lost(float(solution.t[-1]), str(solution.message))
        times = solution.t.tolist()
        rates = [self.equations.rates(*row, stimulus) for row in zip(times, solution.y.tolist(), strict=True)]
        return Trace(solution.t, solution.y, np.array(rates), np.full(len(times), stimulus))

    def _fill(self, time: float, states: Any, rates: Any) -> None:
        self._evaluations += 1
        if self._evaluations > MAX_EVALUATIONS:
            raise RuntimeError("too many evaluations")
        rates[:] = self.equations.rates(time, states.tolist(), self._stimulus)

    def _lost(self, time: float, reason: str) -> Broken:
        begin = self.equations.rates(0.0, self.equations.start, 0.0)
        where = "" if all(map(math.isfinite, begin)) else "; they have no value at the states' initial values"
        at = time * self.equations.roles.milliseconds
        return Broken(f"The equations can't be solved beyond {at:.6g} ms ({reason.rstrip('.')}){where}.")
