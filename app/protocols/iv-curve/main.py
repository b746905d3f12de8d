"""Currents under voltage clamp; see README.md and protocol.yml."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from lib.cellml import read_model, roles_of, unit_of
from lib.equations import Equations
from lib.solver import Solver, Trace, joined
from lib.states import begin_from_input, write_states
from lib.talk import Inapplicable, input_or_sample, progress, run, write_csv

MAX_STEPS = 500
MAX_POINTS = 1_000_000
"""Of the traces' table."""
FINE = 8
"""Looks between two steps of the solver, so that no peak is missed."""
NOISE = 1e-9
"""What differs by less than this share is the same; of several such the first is the peak."""
MARGIN = 0.1
"""What the traces show before and after a step, as a share of it."""
HEAD = ("current", "voltage", "peak", "peak_time", "minimum", "maximum", "steady", "unit")


def main(parameters: dict[str, Any]) -> None:
    voltages = voltages_of(parameters)
    if len(voltages) * parameters["duration"] > MAX_POINTS * parameters["sampling"]:
        raise Inapplicable(
            f"More than {MAX_POINTS} points: sample less often, or take fewer or shorter steps."
        )
    progress(0.02, "reading the model")
    model = read_model(input_or_sample("model", "sample.cellml"))
    roles = roles_of(model, parameters, clamped=True)
    if not roles.currents:
        raise Inapplicable(
            "The potential's equation has no currents in it: name their variables in 'currents'."
        )
    equations = Equations(model, roles, roles.currents, clamped=True)
    begin_from_input(equations)
    solver = Solver(equations, parameters["tolerance"])
    progress(0.05, "holding")
    begin = clamped(equations, equations.start, parameters["holding"])
    before = solver.run(0.0, parameters["hold"] / roles.milliseconds, begin)
    rows, traces, curve = [], [], []
    names = [variable.qname() for variable in roles.currents]
    units = [unit_of(variable) for variable in roles.currents]
    for place, voltage in enumerate(voltages):
        step, whole = stepped(solver, parameters, before, voltage)
        found = figures(solver, step)
        rows += [[name, voltage, *each, unit] for name, each, unit in zip(names, found, units, strict=True)]
        curve.append([voltage, *(value for each in found for value in (each[0], each[-1]))])
        traces.append(whole)
        progress(0.1 + 0.8 * (place + 1) / len(voltages), f"step to {voltage:g} mV")
    roles.write(equations.states)
    write_states(equations, before.end)
    write_csv("currents.csv", HEAD, sorted(rows, key=lambda row: names.index(row[0])))
    write_csv(
        "curve.csv", ("voltage", *(f"{name} {what}" for name in names for what in ("peak", "steady"))), curve
    )
    shown = names[0] if parameters["currents"] else max(rows, key=lambda row: abs(row[2]))[0]
    print(f"{len(voltages)} steps from {parameters['holding']:g} mV; the traces are those of {shown}.")
    write_traces(equations, names.index(shown), parameters, dict(zip(voltages, traces, strict=True)))


def write_traces(
    equations: Equations, place: int, parameters: dict[str, Any], traces: dict[float, Trace]
) -> None:
    """One of the currents at even times, a column for each step, which begins at 0."""
    sampling, duration = parameters["sampling"], parameters["duration"]
    margin = min(MARGIN * duration, parameters["hold"])
    times = np.arange(-np.floor(margin / sampling), np.floor((duration + margin) / sampling) + 1) * sampling
    at = (parameters["hold"] + times) / equations.roles.milliseconds
    columns = [trace.observed(equations, at)[:, place] for trace in traces.values()]
    head = ("time", *(f"{voltage:g} mV" for voltage in traces))
    write_csv("traces.csv", head, np.column_stack([times, *columns]).tolist())


def voltages_of(parameters: dict[str, Any]) -> list[float]:
    """The potentials of the steps, from the lowest up."""
    first, last, step = (parameters[name] for name in ("first", "last", "step"))
    if first > last:
        raise Inapplicable("The first step is above the last one: exchange them.")
    if (last - first) / step >= MAX_STEPS:
        raise Inapplicable(f"More than {MAX_STEPS} steps: take larger ones.")
    return [float(first + step * place) for place in range(int((last - first) / step + 1e-9) + 1)]


def clamped(equations: Equations, states: Any, voltage: float) -> list[float]:
    """The states with the potential at this voltage."""
    found = list(states)
    found[equations.place] = voltage / equations.roles.millivolts
    return found


def stepped(solver: Solver, parameters: dict[str, Any], before: Trace, voltage: float) -> tuple[Trace, Trace]:
    """The step, and the step with what is held before and after it."""
    equations = solver.equations
    scale = equations.roles.milliseconds
    start, end = (parameters["hold"] / scale, (parameters["hold"] + parameters["duration"]) / scale)
    step = solver.run(start, end, clamped(equations, before.end, voltage))
    back = clamped(equations, step.end, parameters["holding"])
    after = solver.run(end, end + 2 * MARGIN * parameters["duration"] / scale, back)
    return step, joined([before, step, after])


def figures(solver: Solver, step: Trace) -> list[list[float]]:
    """For each current: peak (farthest from 0) and its time, minimum, maximum, and value at the end."""
    marks = np.arange(len(step.times))
    times = np.interp(np.arange(0, len(marks) - 1 + 1 / FINE, 1 / FINE), marks, step.times)
    values = step.observed(solver.equations, times)
    size = np.abs(values)
    places = (size >= size.max(axis=0) * (1 - NOISE)).argmax(axis=0)
    since = (times - times[0]) * solver.equations.roles.milliseconds
    return [
        [float(value) for value in (column[place], since[place], column.min(), column.max(), column[-1])]
        for column, place in zip(values.T, places, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(run(main))
