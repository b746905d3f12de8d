"""A CellML model (1.0, 1.1 or 2.0), and which of its variables are what a protocol needs.

CellML comes from anybody: entities and document types are refused, nothing is fetched.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.talk import Broken, Inapplicable, write_csv
from lxml import etree

os.environ["HOME"] = os.environ["TMPDIR"]  # Myokit writes its settings there when it is imported
import myokit
import myokit.formats.cellml.v1
import myokit.formats.cellml.v2
from myokit.lib import guess

MAX_BYTES = 8 * 1024 * 1024
MAX_STATES = 500
MAX_NAMED = 12
V1, V2 = myokit.formats.cellml.v1.CellMLParser, myokit.formats.cellml.v2.CellMLParser
_PLACE = re.compile(r", line \d+, column \d+.*$")
PARSERS = {
    myokit.formats.cellml.NS_CELLML_1_0: V1,
    myokit.formats.cellml.NS_CELLML_1_1: V1,
    myokit.formats.cellml.NS_CELLML_2_0: V2,
}


def read_model(path: Path) -> Any:
    """The model as Myokit has it. `Inapplicable` for what is no CellML, `Broken` with the line of a fault."""
    root = _root(path)
    parser = PARSERS.get(etree.QName(root).namespace)
    if parser is None or etree.QName(root).localname != "model":
        raise Inapplicable(
            f"The file is XML, but no CellML model: it begins with '{etree.QName(root).localname}'."
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            cellml = parser().parse(root)
            cellml.validate()
            _refuse_gaps(cellml)
            model = cellml.myokit_model()
            model.validate()
        except RecursionError:
            raise Broken("The model's equations are nested too deeply to be read.") from None
        except (myokit.MyokitError, ArithmeticError, KeyError, ValueError) as error:
            raise Broken(f"The model has a fault: {_told(error)}") from None
    for text in sorted({str(warning.message) for warning in caught}):
        print(f"Note: {text}")
    if model.count_states() > MAX_STATES:
        raise Inapplicable(f"The model has {model.count_states()} states; this protocol takes {MAX_STATES}.")
    return model


def _root(path: Path) -> Any:
    if path.stat().st_size > MAX_BYTES:
        raise Inapplicable(f"The file is larger than {MAX_BYTES // 1024**2} MiB, which no CellML model is.")
    data = path.read_bytes()
    if not data.strip():
        raise Inapplicable("The file is empty: there is no model.")
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe<", b"\xfe\xff\x00<")):
        raise Inapplicable("The file is no XML, so it is no CellML model.")
    if b"<!DOCTYPE" in data:
        line = data[: data.index(b"<!DOCTYPE")].count(b"\n") + 1
        raise Broken(
            f"Line {line}: the file has a document type (DOCTYPE), which CellML has no use for: remove it."
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        said = _PLACE.sub("", _told(error))
        raise Broken(f"Line {error.lineno}: the file is no well-formed XML: {said}.") from None
    if root.getroottree().docinfo.doctype:  # in another encoding
        raise Broken("The file has a document type (DOCTYPE), which CellML has no use for: remove it.")
    return root


def _refuse_gaps(cellml: Any) -> None:
    """Myokit takes 0 for what has no value."""
    first = isinstance(cellml, myokit.formats.cellml.v1.Model)
    time = cellml.free_variable() if first else cellml.variable_of_integration()
    times = {time, *(() if first or time is None else time.connected_variables())}
    for variable in (variable for component in cellml for variable in component):
        if time is None or variable in times:
            continue
        name = f"{variable.component().name()}.{variable.name()}"
        if variable.is_state() and variable.initial_value() is None:
            raise Broken(f"The model has a fault: {name} has a derivative, but no initial value.")
        if first:
            gap = variable.value_source() is variable and variable.rhs_or_initial_value() is None
        else:
            gap = variable.is_free()
        if gap:
            raise Broken(f"The model has a fault: {name} has neither an equation nor an initial value.")


def _told(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())


@dataclass(frozen=True)
class Roles:
    """What the model's variables are for. `stimulus` is None where the model has no such variable: then
    the potential's own rate is changed. Times and potentials of the model, multiplied, are ms and mV."""

    time: Any
    voltage: Any
    stimulus: Any | None
    currents: list[Any]
    milliseconds: float
    millivolts: float
    chosen: dict[str, str]

    def write(self, states: Iterable[Any]) -> None:
        """model.csv: what was taken for what, and why."""
        rows = [
            ("membrane potential", self.voltage, self.chosen["voltage"]),
            *([("stimulus", self.stimulus, self.chosen["stimulus"])] if self.stimulus is not None else []),
            *(("current", current, self.chosen["currents"]) for current in self.currents),
            *(("state", state, "equation") for state in states if state is not self.voltage),
        ]
        # CellML 2.0 does not say which of the connected variables of time is the first.
        table = [("time", self.time.name(), unit_of(self.time), self.chosen["time"])]
        table += [(role, variable.qname(), unit_of(variable), how) for role, variable, how in rows]
        if self.stimulus is None:
            table.insert(2, ("stimulus", "", "", "none: the potential's rate is changed"))
        write_csv("model.csv", ("role", "variable", "unit", "found_by"), table)


def roles_of(model: Any, parameters: dict[str, Any], *, clamped: bool = False) -> Roles:
    """Find the variables by the parameters `voltage`, `stimulus` and `currents`, by Oxford metadata
    annotations, or by name, unit and place; `Inapplicable` names the terms that are missing.

    `clamped`: the potential is held, so that nothing need be known of a stimulus."""
    time = model.time()
    voltage, by_voltage = _one(model, parameters.get("voltage"), "membrane_voltage", guess.membrane_potential)
    missing = []
    if time is None:
        missing.append("time (no equation has a derivative)")
    if voltage is None:
        missing.append("membrane_voltage (annotate it so, or name its variable in 'voltage')")
    elif not voltage.is_state():
        missing.append(f"membrane_voltage as a state ({voltage.qname()} has no differential equation)")
    if missing:
        raise Inapplicable(f"The model lacks {' and '.join(missing)}.")
    stimulus, by_stimulus = _one(
        model, parameters.get("stimulus"), "membrane_stimulus_current", guess.stimulus_current
    )
    if stimulus is not None:
        if stimulus.is_state() or stimulus is time:
            raise Inapplicable(
                f"The stimulus {stimulus.qname()} has an equation of its own: name another variable."
            )
        stimulus.set_binding("pace")  # so that nothing that depends on it is taken for a constant
    if not clamped:
        _paces_itself(model, time, stimulus)
    named = parameters.get("currents") or []
    currents = [variable_named(model, name) for name in named] or list(_currents(voltage, stimulus))
    return Roles(
        time,
        voltage,
        stimulus,
        currents,
        _factor(time, myokit.units.ms),
        _factor(voltage, myokit.units.mV),
        {
            "time": _how(time, "time", "equation"),
            "voltage": by_voltage,
            "stimulus": by_stimulus,
            "currents": "parameter" if named else "equation of the membrane potential",
        },
    )


def variable_named(model: Any, name: str) -> Any:
    """The one variable of this name (`component.variable`, or `variable` alone) or annotation."""
    everything = list(model.variables(deep=True))
    found = [variable for variable in everything if variable.qname() == name]
    found = found or [variable for variable in everything if name in (variable.name(), _term(variable))]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(variable.qname() for variable in found[:MAX_NAMED])
        raise Inapplicable(f"Several variables of the model are called '{name}': write one of {names}.")
    some = ", ".join(variable.qname() for variable in everything[:MAX_NAMED])
    raise Inapplicable(f"The model has no variable '{name}'. It has {len(everything)}, such as {some}.")


def unit_of(variable: Any) -> str:
    """As a text; nothing where the model says none."""
    unit = variable.unit()
    return "" if unit is None else str(unit).strip("[]")


def _one(model: Any, name: str | None, term: str, guessed: Any) -> tuple[Any | None, str]:
    if name:
        return variable_named(model, name), "parameter"
    variable = guessed(model)
    return variable, "" if variable is None else _how(variable, term, "name and unit")


def _how(variable: Any, term: str, otherwise: str) -> str:
    return "annotation" if _term(variable) == term else otherwise


def _term(variable: Any) -> str | None:
    term: str | None = variable.meta.get("oxmeta")
    return term


def _currents(voltage: Any, stimulus: Any | None) -> Iterator[Any]:
    """What the potential's equation refers to, and is neither constant nor a state."""
    variable = voltage
    while True:
        terms = {reference.var() for reference in variable.rhs().references()}
        found = [
            term
            for term in terms
            if not (term.is_constant() or term.is_state() or term.is_bound() or term is stimulus)
        ]
        if len(found) != 1 or not _sums(found[0]):
            break
        variable = found[0]
    yield from sorted(found, key=lambda term: str(term.qname()))


def _sums(variable: Any) -> bool:
    """Whether it is made of several others, as a total current is."""
    others = [reference.var() for reference in variable.rhs().references()]
    return len([other for other in others if not (other.is_constant() or other.is_state())]) > 1


def _paces_itself(model: Any, time: Any, stimulus: Any | None) -> None:
    """A model whose equations depend on time has a stimulus in it, and we must know which."""
    seen: set[Any] = set()
    ahead = [reference.var() for state in model.states() for reference in state.rhs().references()]
    while ahead:
        variable = ahead.pop()
        if variable in seen or variable is stimulus:
            continue
        seen.add(variable)
        if not variable.is_state():
            ahead += [reference.var() for reference in variable.rhs().references()]
    if time not in seen:
        return
    if stimulus is None:
        raise Inapplicable(
            "The model lacks membrane_stimulus_current: its equations depend on time, so it seems to "
            "stimulate itself (annotate the stimulus so, or name its variable in 'stimulus')."
        )
    print(f"Note: the model's equations depend on time not only through its stimulus {stimulus.qname()}.")


def _factor(variable: Any, unit: Any) -> float:
    if variable.unit() in (None, myokit.units.dimensionless):
        print(f"Note: {variable.name()} has no unit; {str(unit).strip('[]')} is assumed.")
        return 1.0
    try:
        return float(myokit.Unit.conversion_factor(variable.unit(), unit))
    except myokit.IncompatibleUnitError:
        expected = str(unit).strip("[]")
        raise Inapplicable(
            f"The model's {variable.name()} is in {unit_of(variable)}, "
            f"which can't be converted to {expected}."
        ) from None
