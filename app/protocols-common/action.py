"""Stimuli, and the action potentials that they call forth. All in ms and mV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lib.equations import Values
from lib.solver import Solver, Trace, joined
from lib.talk import write_csv

REPOLARISATIONS = (30, 50, 90)
MEASURES = (
    "resting",
    "peak",
    "amplitude",
    "upstroke",
    "dvdt_max",
    *(f"apd{share}" for share in REPOLARISATIONS),
)
FINE = 41
"""Points between two steps of the solver, where the highest potential is looked for."""


@dataclass(frozen=True)
class Pulse:
    """A stimulus that moves the potential by `rate` mV/ms for `duration` ms, as the model has it."""

    solver: Solver
    rate: float
    duration: float

    def followed(self, states: Values, start: float, length: float) -> Trace:
        """The stimulus at `start`, and what follows until `length` after it; in ms."""
        scale = self.solver.equations.roles.milliseconds
        begin, end = start / scale, (start + length) / scale
        if self.rate == 0 or self.duration == 0:
            return self.solver.run(begin, end, states)
        off = (start + min(self.duration, length)) / scale
        pieces = [self.solver.run(begin, off, states, self.solver.equations.strength(self.rate))]
        if off < end:
            pieces.append(self.solver.run(off, end, pieces[0].end))
        return joined(pieces)


@dataclass(frozen=True)
class Potential:
    """The membrane potential along a trace: times in ms, values in mV, rates in mV/ms."""

    trace: Trace
    solver: Solver

    @property
    def times(self) -> Any:
        """Of the solver's steps."""
        return self.trace.times * self.solver.equations.roles.milliseconds

    @property
    def values(self) -> Any:
        """At these times."""
        return self.trace.states[:, self.solver.equations.place] * self.solver.equations.roles.millivolts

    @property
    def rates(self) -> Any:
        """At these times."""
        roles = self.solver.equations.roles
        return self.trace.rates[:, self.solver.equations.place] * roles.millivolts / roles.milliseconds

    def at(self, times: Any) -> Any:
        """The potential at other times."""
        roles = self.solver.equations.roles
        return (
            self.trace.at(np.asarray(times) / roles.milliseconds)[:, self.solver.equations.place]
            * roles.millivolts
        )


def measured(potential: Potential, threshold: float) -> dict[str, float | None]:
    """The action potential of a trace that begins with its stimulus, see MEASURES; None for what is not
    reached. One that does not go above `threshold` has no durations.

    A duration counts from the steepest rise to the first time after the peak at which the potential has
    come back so far (in percent) from the peak to where it was before the stimulus.
    """
    times, values, rates = potential.times, potential.values, potential.rates
    place = int(np.argmax(values))
    resting, upstroke = float(values[0]), int(np.argmax(rates))
    around = np.linspace(times[max(place - 1, 0)], times[min(place + 1, len(times) - 1)], FINE)
    peak = float(max(values[place], potential.at(around).max()))
    found: dict[str, float | None] = dict.fromkeys(MEASURES)
    found |= {"resting": resting, "peak": peak, "amplitude": peak - resting}
    found |= {"upstroke": float(times[upstroke] - times[0]), "dvdt_max": float(rates[upstroke])}
    if peak > threshold:
        for share in REPOLARISATIONS:
            end = _falls(potential, place, peak - share / 100 * (peak - resting))
            found[f"apd{share}"] = None if end is None else end - float(times[upstroke])
    return found


def _falls(potential: Potential, start: int, level: float) -> float | None:
    """When the potential first falls to this level, by bisection between the solver's steps."""
    below = np.flatnonzero(potential.values[start:] <= level)
    if not len(below):
        return None
    place = start + int(below[0])
    early, late = potential.times[max(place - 1, 0)], potential.times[place]
    for _ in range(FINE):
        middle = (early + late) / 2
        if potential.at([middle])[0] > level:
            early = middle
        else:
            late = middle
    return float(late)


def write_potential(potential: Potential, zero: float, times: Any) -> None:
    """potential.csv: the potential at these times after `zero`."""
    values = potential.at(times + zero)
    write_csv("potential.csv", ("time", "potential"), np.column_stack([times, values]).tolist())
