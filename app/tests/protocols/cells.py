"""Luo and Rudy's cell once more, written by hand and solved by another solver (LSODA of SciPy, tight), with
measures taken from a fine grid: what the protocols are compared with.

Run by the Python of the protocols' environment, which has SciPy: `cells.py NAME JSON` prints JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

TIGHT = {"method": "LSODA", "rtol": 1e-9, "atol": 1e-11}
RTF = 8314 * 310 / 96484.6
E_NA, E_K1 = RTF * log(140 / 18), RTF * log(5.4 / 145)
E_K = RTF * log((5.4 + 0.01833 * 140) / (145 + 0.01833 * 18))


def luo_rudy(v: float, gates: list[float]) -> tuple[float, list[float]]:
    """Rates of the potential and of m, h, j, d, f, x and calcium."""
    m, h, j, d, f, x, ca = gates
    a_m = 0.32 * (v + 47.13) / (1 - exp(-0.1 * (v + 47.13)))
    b_m = 0.08 * exp(-v / 11)
    if v >= -40:
        a_h = a_j = 0.0
        b_h = 1 / (0.13 * (1 + exp((v + 10.66) / -11.1)))
        b_j = 0.3 * exp(-2.535e-7 * v) / (1 + exp(-0.1 * (v + 32)))
    else:
        a_h = 0.135 * exp((80 + v) / -6.8)
        b_h = 3.56 * exp(0.079 * v) + 3.1e5 * exp(0.35 * v)
        a_j = (
            (-1.2714e5 * exp(0.2444 * v) - 3.474e-5 * exp(-0.04391 * v))
            * (v + 37.78)
            / (1 + exp(0.311 * (v + 79.23)))
        )
        b_j = 0.1212 * exp(-0.01052 * v) / (1 + exp(-0.1378 * (v + 40.14)))
    a_d = 0.095 * exp(-0.01 * (v - 5)) / (1 + exp(-0.072 * (v - 5)))
    b_d = 0.07 * exp(-0.017 * (v + 44)) / (1 + exp(0.05 * (v + 44)))
    a_f = 0.012 * exp(-0.008 * (v + 28)) / (1 + exp(0.15 * (v + 28)))
    b_f = 0.0065 * exp(-0.02 * (v + 30)) / (1 + exp(-0.2 * (v + 30)))
    a_x = 0.0005 * exp(0.083 * (v + 50)) / (1 + exp(0.057 * (v + 50)))
    b_x = 0.0013 * exp(-0.06 * (v + 20)) / (1 + exp(-0.04 * (v + 20)))
    i_si = 0.09 * d * f * (v - (7.7 - 13.0287 * log(ca)))
    i_na = 23 * m**3 * h * j * (v - E_NA)
    rectified = 2.837 * (exp(0.04 * (v + 77)) - 1) / ((v + 77) * exp(0.04 * (v + 35))) if v > -100 else 1.0
    i_k = 0.282 * x * rectified * (v - E_K)
    a_1 = 1.02 / (1 + exp(0.2385 * (v - E_K1 - 59.215)))
    b_1 = 0.49124 * exp(0.08032 * (v - E_K1 + 5.476)) + exp(0.06175 * (v - E_K1 - 594.31))
    b_1 /= 1 + exp(-0.5143 * (v - E_K1 + 4.753))
    i_k1 = 0.6047 * a_1 / (a_1 + b_1) * (v - E_K1)
    i_kp = 0.0183 / (1 + exp((7.488 - v) / 5.98)) * (v - E_K1)
    total = i_na + i_si + i_k + i_k1 + i_kp + 0.03921 * (v + 59.87)
    pairs = [(a_m, b_m, m), (a_h, b_h, h), (a_j, b_j, j), (a_d, b_d, d), (a_f, b_f, f), (a_x, b_x, x)]
    return -total, [*(a * (1 - y) - b * y for a, b, y in pairs), -1e-4 * i_si + 0.07 * (1e-4 - ca)]


LUO_RUDY = [-84.38, 0.0017, 0.983, 0.989, 0.003, 1.0, 0.042, 0.000178]


def solved(cell: Callable[..., Any], states: Any, start: float, end: float, rate: float = 0.0) -> Any:
    """The solution; `rate` is added to that of the potential."""

    def rates(_: float, y: Any) -> list[float]:
        potential, gates = cell(y[0], list(y[1:]))
        return [potential + rate, *gates]

    return solve_ivp(rates, (start, end), states, dense_output=True, **TIGHT)


def action_potential(found: list[Any], cell: Callable[..., Any], rate: float) -> dict[str, float]:
    """Measures of a stimulus and what follows it, on a grid of 0.002 ms; a line between its points."""
    times = [np.linspace(part.t[0], part.t[-1], int((part.t[-1] - part.t[0]) / 0.002) + 2) for part in found]
    values = [part.sol(grid) for part, grid in zip(found, times, strict=True)]
    early = [(grid < grid[0] + 20) for grid in times]
    rises = [
        np.array([cell(y[0], list(y[1:]))[0] + more for y in part[:, use].T[::4]])
        for part, use, more in zip(values, early, (rate, 0.0), strict=True)
    ]
    steepest = [
        (rise.max(), grid[use][::4][rise.argmax()])
        for rise, grid, use in zip(rises, times, early, strict=True)
    ]
    fastest, when = max(steepest)
    time, potential = np.concatenate(times), np.concatenate([part[0] for part in values])
    top, rest = int(potential.argmax()), float(potential[0])
    peak = float(potential[top])
    measures = {"resting": rest, "peak": peak, "dvdt_max": float(fastest)}
    for share in (30, 50, 90):
        level = peak - share / 100 * (peak - rest)
        place = top + int(np.argmax(potential[top:] <= level))
        before, after = potential[place - 1], potential[place]
        crossing = time[place - 1] + (before - level) / (before - after) * (time[place] - time[place - 1])
        measures[f"apd{share}"] = float(crossing - when)
    return measures


def beaten(period: float, beats: int, rate: float, duration: float, lead: float, last: float) -> list[Any]:
    """The last of so many stimuli of Luo and Rudy's cell, and what follows it until `last` after it."""
    states = solved(luo_rudy, LUO_RUDY, 0, lead).y[:, -1] if lead else LUO_RUDY
    for beat in range(beats):
        start = lead + beat * period
        on = solved(luo_rudy, states, start, start + duration, rate)
        end = start + (period if beat < beats - 1 else last)
        off = solved(luo_rudy, on.y[:, -1], start + duration, end)
        states = off.y[:, -1]
    return [on, off]


def paced(period: float, beats: int, rate: float, duration: float, lead: float) -> dict[str, float]:
    """The last of so many beats."""
    return action_potential(beaten(period, beats, rate, duration, lead, period), luo_rudy, rate)


def early(period: float, beats: int, rate: float, duration: float, interval: float) -> dict[str, float]:
    """A stimulus so long after the last of the even ones."""
    states = beaten(period, beats, rate, duration, 0, interval)[1].y[:, -1]
    on = solved(luo_rudy, states, 0, duration, rate)
    return action_potential([on, solved(luo_rudy, on.y[:, -1], duration, 600)], luo_rudy, rate)


if __name__ == "__main__":
    known: dict[str, Callable[..., Any]] = {"paced": paced, "early": early}
    json.dump(known[sys.argv[1]](**json.loads(sys.argv[2])), sys.stdout)
