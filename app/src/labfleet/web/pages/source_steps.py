"""Steps of a transformation as fields of a form: one line for each column, in the order in which they apply.

What was written elsewhere (by the API or the command line) in another order has no such form: it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labfleet.errors import Invalid

Step = dict[str, Any]
FIELDS = ("t-rename", "t-keep", "t-cast", "t-filter", "t-shape", "t-long-keep", "t-names", "t-values")
COMPARISONS = ("<=", ">=", "!=", "=", "<", ">", " contains ")
TYPES = ("text", "whole number", "number", "yes or no", "date", "date and time")


def steps_of(form: Mapping[str, str]) -> list[Step]:
    """The steps that a filled form means; `Invalid` names the line that can't be read."""
    steps: list[Step] = []
    if renamed := dict(_pair(line, "old name = new name") for line in _lines(form, "t-rename")):
        steps.append({"rename": renamed})
    if kept := _lines(form, "t-keep"):
        steps.append({"keep": kept})
    if cast := dict(_pair(line, "column = type") for line in _lines(form, "t-cast")):
        for kind in cast.values():
            if kind not in TYPES:
                raise Invalid(f"'{kind}' is no type.", hint=f"Types are: {', '.join(TYPES)}.")
        steps.append({"cast": cast})
    steps += [{"filter": _condition(line)} for line in _lines(form, "t-filter")]
    shape = form.get("t-shape", "")
    names, values = (form.get(key, "").strip() for key in ("t-names", "t-values"))
    columns = {"names": names or "feature", "values": values or "value"}
    if shape == "long":
        steps.append({"long": {"keep": _lines(form, "t-long-keep"), **columns}})
    elif shape == "wide":
        steps.append({"wide": columns})
    return steps


def fields_of_steps(steps: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """What the form has to hold for these steps; None where it can't hold them."""
    fields = dict.fromkeys(FIELDS, "")
    filters = []
    for step in steps:
        ((verb, what),) = step.items()
        if verb in {"rename", "cast"}:
            fields[f"t-{verb}"] = "\n".join(f"{key} = {value}" for key, value in what.items())
        elif verb == "keep":
            fields["t-keep"] = "\n".join(what)
        elif verb == "filter":
            filters.append(_line(what))
        elif verb in {"long", "wide"}:
            fields |= {"t-shape": verb, "t-long-keep": "\n".join(what.get("keep", []))}
            fields |= {f"t-{key}": str(what.get(key, "")) for key in ("names", "values")}
    fields["t-filter"] = "\n".join(filters)
    try:
        return fields if steps_of(fields) == [dict(step) for step in steps] else None
    except Invalid:
        return None


def _lines(form: Mapping[str, str], key: str) -> list[str]:
    return [line.strip() for line in form.get(key, "").splitlines() if line.strip()]


def _pair(line: str, how: str) -> tuple[str, str]:
    left, equals, right = (part.strip() for part in line.partition("="))
    if not (left and equals and right):
        raise Invalid(f"'{line[:80]}' can't be read.", hint=f"Write {how}, one on a line.")
    return left, right


def _condition(line: str) -> Step:
    for word in ("missing", "given"):
        if line.endswith(f" is {word}"):
            return {"column": line.removesuffix(f" is {word}").strip(), "is": word}
    found = [(line.find(each), -len(each), each) for each in COMPARISONS if line.find(each) > 0]
    if not found:
        raise Invalid(
            f"'{line[:80]}' can't be read.",
            hint="Write a column, what it is compared by (= != < <= > >= contains) and a value, or "
            "'column is missing', 'column is given'.",
        )
    place, _, word = min(found)
    value = line[place + len(word) :].strip()
    if not value:
        raise Invalid(f"'{line[:80]}' has no value.", hint="Write 'column is missing' for cells without one.")
    return {"column": line[:place].strip(), "is": word.strip(), "value": value}


def _line(condition: Mapping[str, Any]) -> str:
    if condition["is"] in {"missing", "given"}:
        return f"{condition['column']} is {condition['is']}"
    return f"{condition['column']} {condition['is']} {condition.get('value')}"
