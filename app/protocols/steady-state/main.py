"""Run a model until nothing changes from beat to beat; see README.md and protocol.yml."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from lib.action import MEASURES, Potential, Pulse, measured, write_potential
from lib.cellml import read_model, roles_of
from lib.equations import Equations
from lib.solver import Solver, Trace
from lib.states import begin_from_input, write_states
from lib.talk import Inapplicable, input_or_sample, progress, run, write_csv

MAX_POINTS = 500_000
"""Of the plot's table."""
SMALL = 1e-3
"""States below this size are compared as if they had it: of a shut gate no relative change counts."""
IN_A_ROW = 3
"""Beats that must be alike."""
SHOWN = ("resting", "peak", "apd90")


@dataclass(frozen=True)
class Course:
    """Figures of each beat; the last states, their relative change in the last beat, and its trace."""

    beats: list[list[Any]]
    states: Any
    changes: Any
    trace: Trace


def main(parameters: dict[str, Any]) -> None:
    period, paced = parameters["period"], parameters["paced"]
    if paced and parameters["duration"] >= period:
        raise Inapplicable("The stimulus lasts as long as the period: make it shorter, or the period longer.")
    if period > MAX_POINTS * parameters["sampling"]:
        raise Inapplicable(f"More than {MAX_POINTS} points: sample less often.")
    progress(0.02, "reading the model")
    model = read_model(input_or_sample("model", "sample-model.cellml"))
    roles = roles_of(model, parameters)
    equations = Equations(model, roles)
    begin_from_input(equations)
    if paced:
        equations.strength(parameters["amplitude"])  # before anything is computed for it
    solver = Solver(equations, parameters["tolerance"])
    course = run_on(solver, parameters)
    roles.write(equations.states)
    write_csv("convergence.csv", ("beat", "largest_change", *SHOWN), course.beats)
    changes = {"initial": equations.start, "change": course.changes.tolist()}
    write_states(equations, course.states.tolist(), changes)
    potential = Potential(course.trace, solver)
    step = parameters["sampling"]
    write_potential(potential, potential.times[0], np.arange(0, np.floor(period / step) + 1) * step)
    changed = equations.states[int(np.argmax(course.changes))].qname()
    write_summary(course, changed, parameters, measured(potential, parameters["threshold"]))


def run_on(solver: Solver, parameters: dict[str, Any]) -> Course:
    """Until the last beats are alike, or there were enough."""
    period, most = parameters["period"], parameters["beats"]
    pulse = Pulse(solver, parameters["amplitude"] if parameters["paced"] else 0.0, parameters["duration"])
    states, alike = np.array(solver.equations.start), 0
    beats: list[list[Any]] = []
    while len(beats) < most and alike < IN_A_ROW:
        trace = pulse.followed(states.tolist(), len(beats) * period, period)
        after = np.array(trace.end)
        changes = np.abs(after - states) / np.maximum(np.abs(after), SMALL)
        largest = float(changes.max())
        found = measured(Potential(trace, solver), parameters["threshold"])
        beats.append([len(beats) + 1, largest, *(found[name] for name in SHOWN)])
        alike = alike + 1 if largest <= parameters["change"] else 0
        states = after
        if len(beats) % max(most // 50, 1) == 0:
            progress(0.05 + 0.9 * len(beats) / most, f"beat {len(beats)}: largest change {largest:.2g}")
    return Course(beats, states, changes, trace)


def write_summary(course: Course, changed: str, parameters: dict[str, Any], found: dict[str, Any]) -> None:
    """Whether it was reached, the state that changed most, and the last action potential."""
    beats, change = len(course.beats), float(course.changes.max())
    last = [beat[1] <= parameters["change"] for beat in course.beats[-IN_A_ROW:]]
    reached = len(last) == IN_A_ROW and all(last)
    head = ("reached", "beats", "time", "largest_change", "state", *MEASURES)
    figures = [reached, beats, beats * parameters["period"], change, changed]
    write_csv("summary.csv", head, [[*figures, *(found[name] for name in MEASURES)]])
    if reached:
        print(f"Reached after {beats} beats of {parameters['period']:g} ms.")
    else:
        print(f"Not reached within {beats} beats: {changed} still changes by {change:.2g} in a beat.")


if __name__ == "__main__":
    sys.exit(run(main))
