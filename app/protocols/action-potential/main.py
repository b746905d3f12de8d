"""Pace a model, and measure its action potentials; see README.md and protocol.yml."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from lib.action import MEASURES, Potential, Pulse, measured, write_potential
from lib.cellml import read_model, roles_of
from lib.equations import Equations
from lib.solver import Solver, Trace, joined
from lib.states import begin_from_input, write_states
from lib.talk import Inapplicable, input_or_sample, progress, run, write_csv

MAX_POINTS = 500_000
"""Of the plots' tables."""
SLACK = 1e-6
"""Sums of times are not exact: a last point that is missed by this share of a step is one of them."""


def main(parameters: dict[str, Any]) -> None:
    if parameters["duration"] >= parameters["period"]:
        raise Inapplicable("The stimulus lasts as long as the period: make it shorter, or the period longer.")
    recorded = min(parameters["recorded"], parameters["beats"])
    if recorded * parameters["period"] > MAX_POINTS * parameters["sampling"]:
        raise Inapplicable(f"More than {MAX_POINTS} points: record fewer beats, or sample less often.")
    progress(0.02, "reading the model")
    model = read_model(input_or_sample("model", "sample-model.cellml"))
    roles = roles_of(model, parameters)
    equations = Equations(model, roles, roles.currents)
    begin_from_input(equations)
    equations.strength(parameters["amplitude"])  # before anything is computed for it
    solver = Solver(equations, parameters["tolerance"])
    begin, kept = paced(solver, parameters, recorded)
    progress(0.95, "writing the traces")
    roles.write(equations.states)
    write_states(equations, kept.end)
    write_traces(solver, kept, begin, parameters)


def paced(solver: Solver, parameters: dict[str, Any], recorded: int) -> tuple[float, Trace]:
    """When the first recorded beat begins, and the trace from what went before it to the last."""
    period, beats, lead = parameters["period"], parameters["beats"], parameters["lead"]
    pulse = Pulse(solver, parameters["amplitude"], parameters["duration"])
    kept = []
    states = solver.equations.start
    if lead:
        kept.append(solver.run(0.0, lead / solver.equations.roles.milliseconds, states))
        states = kept[-1].end
    rows = []
    for beat in range(beats):
        start = lead + beat * period
        trace = pulse.followed(states, start, period)
        states = trace.end
        found = measured(Potential(trace, solver), parameters["threshold"])
        rows.append(
            [beat + 1, start, found["peak"] > parameters["threshold"], *(found[name] for name in MEASURES)]
        )
        kept = [*kept, trace][-recorded - 1 :]
        if (beat + 1) % max(beats // 50, 1) == 0:
            progress(0.05 + 0.9 * (beat + 1) / beats, f"beat {beat + 1} of {beats}")
    write_csv("beats.csv", ("beat", "start", "action_potential", *MEASURES), rows)
    told(rows, parameters["threshold"])
    return rows[-recorded][1], joined(kept)


def told(rows: list[list[Any]], threshold: float) -> None:
    """The last beat, for the log."""
    last = dict(zip(MEASURES, rows[-1][3:], strict=True))
    high = sum(row[2] for row in rows)
    print(f"{high} of {len(rows)} beats went above {threshold:g} mV.")
    if high < len(rows):
        print("Note: where a beat calls forth no action potential a stronger or longer stimulus may do.")
    figures = (f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in last.items())
    print(f"Last beat: {', '.join(figures)}")


def write_traces(solver: Solver, trace: Trace, zero: float, parameters: dict[str, Any]) -> None:
    """The potential and the currents from `lead` before the first recorded stimulus, which is at `zero`."""
    roles, step = solver.equations.roles, parameters["sampling"]
    end = trace.times[-1] * roles.milliseconds - zero
    first = max(-parameters["lead"], trace.times[0] * roles.milliseconds - zero)
    times = np.arange(np.ceil(first / step - SLACK), np.floor(end / step + SLACK) + 1) * step
    write_potential(Potential(trace, solver), zero, times)
    values = trace.observed(solver.equations, (times + zero) / roles.milliseconds)
    head = ("time", *(variable.qname() for variable in solver.equations.observed))
    write_csv("currents.csv", head, np.column_stack([times, values]).tolist())


if __name__ == "__main__":
    sys.exit(run(main))
