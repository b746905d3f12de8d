"""How long an early action potential lasts; see README.md and protocol.yml."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from lib.action import REPOLARISATIONS, Potential, Pulse, measured
from lib.cellml import read_model, roles_of
from lib.equations import Equations
from lib.solver import Solver, Trace
from lib.states import begin_from_input, write_states
from lib.talk import Inapplicable, input_or_sample, progress, run, write_csv

MAX_INTERVALS = 500
MAX_POINTS = 1_000_000
"""Of the traces' table."""
HEAD = (
    "interval",
    "diastolic_interval",
    "captured",
    *(f"apd{share}" for share in REPOLARISATIONS),
    "peak",
    "dvdt_max",
)


@dataclass(frozen=True)
class Last:
    """The last of the even stimuli: when it came, what followed, and when the potential was back again."""

    start: float
    trace: Trace
    back: float
    apd: float


def main(parameters: dict[str, Any]) -> None:
    intervals = intervals_of(parameters)
    follow = parameters["follow"]
    if len(intervals) * follow > MAX_POINTS * parameters["sampling"]:
        raise Inapplicable(
            f"More than {MAX_POINTS} points: fewer intervals, a shorter 'follow', or a longer 'sampling'."
        )
    progress(0.02, "reading the model")
    model = read_model(input_or_sample("model", "sample-model.cellml"))
    roles = roles_of(model, parameters)
    equations = Equations(model, roles)
    begin_from_input(equations)
    equations.strength(parameters["amplitude"])  # before anything is computed for it
    solver = Solver(equations, parameters["tolerance"])
    last = conditioned(solver, parameters, max(intervals))
    times = np.arange(0, np.floor(follow / parameters["sampling"]) + 1) * parameters["sampling"]
    rows, traces = [], {}
    for place, interval in enumerate(intervals):
        potential = early(solver, parameters, last, interval)
        rows.append(row_of(potential, parameters, last, interval))
        traces[f"{interval:g} ms"] = potential.at(times + last.start + interval)
        progress(0.5 + 0.45 * (place + 1) / len(intervals), f"interval {interval:g} ms")
    roles.write(equations.states)
    # Where the next even stimulus would come.
    end = np.array([(last.start + parameters["period"]) / roles.milliseconds])
    write_states(equations, last.trace.at(end)[0].tolist())
    write_csv("restitution.csv", HEAD, rows)
    write_csv("traces.csv", ("time", *traces), np.column_stack([times, *traces.values()]).tolist())
    write_curve(rows, parameters["level"], last)


def intervals_of(parameters: dict[str, Any]) -> list[float]:
    """The intervals, the longest first."""
    if parameters["intervals"]:
        return sorted({float(interval) for interval in parameters["intervals"]}, reverse=True)
    longest, shortest, step = (parameters[name] for name in ("longest", "shortest", "step"))
    if shortest > longest:
        raise Inapplicable("The shortest interval is longer than the longest one: exchange them.")
    if (longest - shortest) / step >= MAX_INTERVALS:
        raise Inapplicable(f"More than {MAX_INTERVALS} intervals: take a longer step.")
    return [float(longest - step * place) for place in range(int((longest - shortest) / step + 1e-9) + 1)]


def conditioned(solver: Solver, parameters: dict[str, Any], longest: float) -> Last:
    """Even stimuli, after the last of which nothing comes."""
    period, beats, level = parameters["period"], parameters["beats"], parameters["level"]
    pulse = Pulse(solver, parameters["amplitude"], parameters["duration"])
    states = solver.equations.start
    for beat in range(beats):
        start = beat * period
        trace = pulse.followed(states, start, period if beat < beats - 1 else max(longest, period))
        states = trace.end
        if (beat + 1) % max(beats // 20, 1) == 0:
            progress(0.05 + 0.45 * (beat + 1) / beats, f"beat {beat + 1} of {beats}")
    found = measured(Potential(trace, solver), parameters["threshold"])
    apd, upstroke = found[f"apd{level}"], found["upstroke"]
    if apd is None or upstroke is None:
        raise Inapplicable(
            f"The even stimuli call forth no action potential that comes back by {level} % before the next "
            "one: change 'amplitude', 'duration' or 'period'."
        )
    rest = found["resting"]
    print(f"After {beats} beats at {period:g} ms: APD{level} {apd:.4g} ms, resting potential {rest:.4g} mV")
    return Last(start, trace, start + upstroke + apd, apd)


def early(solver: Solver, parameters: dict[str, Any], last: Last, interval: float) -> Potential:
    """What follows a stimulus that comes so long after the last even one."""
    at = last.start + interval
    states = last.trace.at(np.array([at / solver.equations.roles.milliseconds]))[0]
    pulse = Pulse(solver, parameters["amplitude"], parameters["duration"])
    return Potential(pulse.followed(states.tolist(), at, parameters["follow"]), solver)


def row_of(potential: Potential, parameters: dict[str, Any], last: Last, interval: float) -> list[Any]:
    """Of the table: a stimulus captures when the potential was back, and rises above the threshold again."""
    found = measured(potential, parameters["threshold"])
    rest = last.start + interval - last.back
    captured = rest >= 0 and found["peak"] > parameters["threshold"]
    durations = [found[f"apd{share}"] if captured else None for share in REPOLARISATIONS]
    return [interval, rest, captured, *durations, found["peak"], found["dvdt_max"]]


def write_curve(rows: list[list[Any]], level: int, last: Last) -> None:
    """The curve, from short to long, and the figures that it is summed up by."""
    column = HEAD.index(f"apd{level}")
    points = sorted((row[1], row[column]) for row in rows if row[column] is not None)
    write_csv("curve.csv", ("diastolic_interval", "apd"), points)
    pairs = list(itertools.pairwise(points))
    slopes = [
        ((after[1] - before[1]) / (after[0] - before[0]), (after[0] + before[0]) / 2)
        for before, after in pairs
    ]
    slope, at = max(slopes, default=(None, None))
    captured = [row[0] for row in rows if row[2]]
    failed = [row[0] for row in rows if not row[2] and row[0] < min(captured, default=0)]
    head = ("level", "even_apd", "steepest_slope", "steepest_at", "shortest_captured", "longest_lost")
    write_csv(
        "summary.csv",
        head,
        [[level, last.apd, slope, at, min(captured, default=None), max(failed, default=None)]],
    )
    print(f"{len(captured)} of {len(rows)} early stimuli captured.")


if __name__ == "__main__":
    sys.exit(run(main))
