"""The right-hand side of a model's equations, as a Python function made of Myokit's expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import myokit
from lib.cellml import Roles
from lib.talk import Broken, Inapplicable
from myokit.formats.python import PythonExpressionWriter

NUDGE = 1e-6
"""mV. Rates such as x / (exp(x) - 1) have no value at x = 0, but one on either side."""
Values = Sequence[float]


class Equations:
    """`rates(t, y, s)`: the states' rates at time t and stimulus s, all in the model's own units.

    `clamped`: the membrane potential stays where it is. `observe(t, y, s)`: the values of `observed`.
    """

    def __init__(
        self, model: Any, roles: Roles, observed: Iterable[Any] = (), *, clamped: bool = False
    ) -> None:
        self.states = list(model.states())
        self.roles = roles
        self.place = self.states.index(roles.voltage)
        self.observed = list(observed)
        self._nudge = NUDGE / roles.millivolts
        self._clamped = clamped
        self._writer = Writer(self.states, roles)
        rates = [myokit.Derivative(myokit.Name(state)) for state in self.states]
        try:
            equations = [item for block in model.solvable_order().values() for item in block]
            self._rates = self._made(equations, rates)
            self._values = self._made(equations, [myokit.Name(variable) for variable in self.observed])
            self.start = [float(state.initial_value(as_float=True)) for state in self.states]
        except (myokit.MyokitError, NotImplementedError, ArithmeticError, ValueError) as error:
            raise Broken(f"The model's equations can't be computed: {error}") from None
        except (RecursionError, MemoryError, SyntaxError):
            raise Broken("The model's equations are nested too deeply to be computed.") from None

    def rates(self, time: float, states: Values, stimulus: float) -> Values:
        """NaN for all where the equations have no value: the solver then tries a smaller step."""
        return self._careful(self._rates, time, states, stimulus, len(self.states))

    def observe(self, time: float, states: Values, stimulus: float) -> Values:
        """The observed variables' values; NaN for all where they have none."""
        return self._careful(self._values, time, states, stimulus, len(self.observed))

    def strength(self, rate: float) -> float:
        """The stimulus by which the potential rises by `rate` mV/ms, whatever unit and sign the model has."""
        off = self.rates(0.0, self.start, 0.0)[self.place]
        on = self.rates(0.0, self.start, 1.0)[self.place]
        if on == off:
            name = "" if self.roles.stimulus is None else f" {self.roles.stimulus.qname()}"
            raise Inapplicable(f"The model's stimulus{name} does not change the membrane potential.")
        return rate * self.roles.milliseconds / self.roles.millivolts / (on - off)

    def _careful(
        self, function: Callable[..., Values], time: float, states: Values, stimulus: float, width: int
    ) -> Values:
        try:
            return function(time, states, stimulus)
        except (ArithmeticError, ValueError):
            beside = list(states)
            beside[self.place] += self._nudge
        try:
            return function(time, beside, stimulus)
        except (ArithmeticError, ValueError):
            return (math.nan,) * width

    def _made(self, equations: list[Any], wanted: list[Any]) -> Callable[..., Values]:
        """A function of time, states and stimulus that computes what is wanted, and what that needs."""
        name = self._writer.name
        needed, lines = set(wanted), []
        for equation in reversed(equations):
            if equation.lhs in needed and name(equation.lhs)[0] in COMPUTED:
                needed.update(equation.rhs.references())
                lines.append(f"    {name(equation.lhs)} = {self._writer.ex(equation.rhs)}")
        states = "".join(f"y{place}, " for place in range(len(self.states)))
        results = "".join(f"{self._result(lhs)}, " for lhs in wanted)
        source = "\n".join(
            ["def made(t, y, s):", f"    {states}= y", *reversed(lines), f"    return ({results})"]
        )
        space: dict[str, Any] = dict(FUNCTIONS)
        exec(compile(source, "model", "exec"), space)
        made: Callable[..., Values] = space["made"]
        return made

    def _result(self, lhs: Any) -> str:
        if lhs.is_derivative() and lhs.var() is self.roles.voltage:
            if self._clamped:
                return "0.0"
            if self.roles.stimulus is None:
                return f"{self._writer.name(lhs)} + s"
        return self._writer.name(lhs)


COMPUTED = ("d", "v")
"""With what the names of derivatives and variables begin; the others are given, or constants."""


class Writer(PythonExpressionWriter):
    """Myokit's expressions in Python; every variable has a name of ours, constants are their values."""

    def __init__(self, states: list[Any], roles: Roles) -> None:
        super().__init__()
        self._function_prefix = ""
        self._places = {state: place for place, state in enumerate(states)}
        self._roles = roles
        self._names: dict[Any, str] = {}
        self.set_lhs_function(self.name)

    def name(self, lhs: Any) -> str:
        """Of the left-hand side of an equation; a number for what is constant."""
        if lhs not in self._names:
            self._names[lhs] = self._called(lhs)
        return self._names[lhs]

    def _called(self, lhs: Any) -> str:
        variable = lhs.var()
        if lhs.is_derivative():
            return f"d{self._places[variable]}"
        if variable is self._roles.stimulus:
            return "s"
        if variable is self._roles.time:
            return "t"
        if variable in self._places:
            return f"y{self._places[variable]}"
        if variable.is_constant():
            return f"({float(variable.eval())!r})"
        return f"v{len(self._names)}"

    def _ex_power(self, expression: Any) -> str:
        return f"power({self.ex(expression[0])}, {self.ex(expression[1])})"


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


FUNCTIONS = {
    **{
        name: getattr(math, name)
        for name in ("sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "log", "log10")
    },
    **{name: getattr(math, name) for name in ("floor", "ceil", "inf", "nan")},
    "abs": abs,
    "exp": _exp,
    "power": math.pow,
    "__builtins__": {},
}
