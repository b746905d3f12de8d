"""Luo and Rudy's cell in other clothes: `models.py SAMPLE FOLDER` writes `NAME.cellml` for each of them.

Run by the Python of the protocols' environment, which has Myokit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import myokit
import myokit.formats.cellml.v1 as v1
import myokit.formats.cellml.v2 as v2


def plain(model: Any) -> None:
    """Without annotations."""
    for variable in model.variables(deep=True):
        variable.meta.pop("oxmeta", None)


def volts(model: Any) -> None:
    """In V and s."""
    model.get("membrane.V").convert_unit("V")
    model.get("environment.time").convert_unit("s")


def without_stimulus(model: Any) -> None:
    plain(model)
    _inlined(model, myokit.Number(0, model.get("stimulus.i_stim").unit()))


def stimulates_itself(model: Any) -> None:
    """Its stimulus is part of a current that depends on the states."""
    plain(model)
    _inlined(model, model.get("stimulus.i_stim").rhs())


def turned(model: Any) -> None:
    """A positive stimulus depolarises."""
    rate = model.get("membrane.V").rhs()
    stimulus = myokit.Name(model.get("stimulus.i_stim"))
    model.get("membrane.V").set_rhs(rate.clone(subst={stimulus: myokit.PrefixMinus(stimulus)}))


def renamed(model: Any) -> None:
    """By its names nobody could tell what is what."""
    plain(model)
    model.get("membrane.V").rename("x1")
    model.get("stimulus.i_stim").rename("x2")
    for variable in model.variables(deep=True):
        variable.set_unit(myokit.units.dimensionless)


def without_potential(model: Any) -> None:
    """Its potential is a constant."""
    plain(model)
    potential = model.get("membrane.V")
    potential.demote()
    potential.set_rhs(myokit.Number(-80, potential.unit()))


def _inlined(model: Any, expression: Any) -> None:
    background = model.get("background.i_b")
    background.set_rhs(myokit.Plus(background.rhs(), expression.clone()))
    stimulus = myokit.Name(model.get("stimulus.i_stim"))
    potential = model.get("membrane.V")
    zero = myokit.Number(0, model.get("stimulus.i_stim").unit())
    potential.set_rhs(potential.rhs().clone(subst={stimulus: zero}))
    model.get("stimulus").remove_variable(model.get("stimulus.i_stim"))


CHANGES: dict[str, Callable[[Any], None]] = {
    change.__name__: change
    for change in (plain, volts, without_stimulus, stimulates_itself, turned, renamed, without_potential)
}


def written(sample: Path) -> Iterator[tuple[str, str]]:
    for name, change in CHANGES.items():
        model = v1.parse_file(str(sample)).myokit_model()
        change(model)
        model.validate()
        api, version = (v2, "2.0") if name in ("plain", "volts") else (v1, "1.1")
        yield name, api.write_string(api.Model.from_myokit_model(model, version)).decode()


if __name__ == "__main__":
    for name, text in written(Path(sys.argv[1])):
        Path(sys.argv[2], f"{name}.cellml").write_text(text, encoding="utf-8")
