"""From a specification to rows: nodes and tasks, everything checked before anything is written.

A sweep stays one leaf with its points here; only the database makes rows of them.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from labfleet.config import JobsSection
from labfleet.datasets.access import visible_to
from labfleet.db.models import Dataset, User
from labfleet.errors import InvalidInputs, InvalidJob, InvalidParameters, LabfleetError, UnknownDataset
from labfleet.jobs import caching
from labfleet.jobs.layout import Json, Leaf, Place, PlannedNode, lay_out
from labfleet.jobs.needs import needs_of
from labfleet.jobs.parameters import checked_parameters, checked_slots, fill_defaults
from labfleet.jobs.spec import Input, JobSpec, Source, Sweep, TaskNode
from labfleet.jobs.terms import Misfit, misfits
from labfleet.protocols.service import find_version

_INPUT: TypeAdapter[uuid.UUID | Source] = TypeAdapter(Input)
# A schema of these words judges each parameter by itself; others may relate several to each other.
_PLAIN = frozenset(
    {
        "$schema",
        "$id",
        "$defs",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "additionalProperties",
    }
)


@dataclass
class Plan:
    """All rows of a job."""

    nodes: list[PlannedNode]
    leaves: list[Leaf]
    datasets: dict[str, str]
    """SHA-256 by dataset id."""
    misfits: list[Misfit] = field(default_factory=list)
    """Tasks whose protocols don't apply to their datasets."""

    @property
    def total(self) -> int:
        """Number of tasks."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def protocols(self) -> list[str]:
        """Names of the protocols that it runs."""
        return sorted({leaf.spec.protocol for leaf in self.leaves})


def make_plan(session: Session, owner: User, spec: JobSpec, limits: JobsSection) -> Plan:
    """Check the specification and lay its tree out.

    Raises `InvalidJob` with the place of each fault; for a job of one task the fault itself
    (`UnknownProtocol`, `InvalidParameters`, …).
    """
    nodes, leaves = lay_out(spec, limits)
    faults = _names(leaves)
    datasets = _datasets(session, owner, leaves)
    for leaf in leaves:
        try:
            _check_leaf(session, owner, leaf, {each.spec.task: each for each in leaves}, datasets)
        except LabfleetError as error:
            if spec.tree is None:
                raise
            faults += _faults_of(leaf, error)
    if faults:
        raise InvalidJob(faults)
    for leaf in leaves:
        _check_outputs(leaf, leaves, faults)
    if faults:
        raise InvalidJob(faults)
    return Plan(nodes, leaves, datasets, _misfits(session, leaves, datasets))


def _misfits(session: Session, leaves: list[Leaf], datasets: Mapping[str, str]) -> list[Misfit]:
    wanting = [leaf for leaf in leaves if any((item or {}).get("terms") for item in _slots(leaf).values())]
    if not wanting:
        return []
    known = select(Dataset.id, Dataset.terms).where(Dataset.id.in_(list(datasets)))
    terms = {str(dataset): list(own) for dataset, own in session.execute(known)}
    found: list[Misfit] = []
    for leaf in wanting:
        manifest = {"inputs": _slots(leaf)}
        if leaf.points is None:
            found += misfits(leaf.spec.task, manifest, leaf.inputs, terms)
        for index, point in enumerate(leaf.points or ()):
            given = {**leaf.inputs, **point.get("i", {})}
            found += misfits(f"{leaf.spec.task}[{index}]", manifest, given, terms)
    return found


def _slots(leaf: Leaf) -> Json:
    return (leaf.version.manifest.get("inputs") or {}) if leaf.version else {}


def _names(leaves: list[Leaf]) -> list[dict[str, str]]:
    seen: dict[str, str] = {}
    faults = []
    for leaf in leaves:
        if leaf.spec.task in seen:
            message = f"the name '{leaf.spec.task}' is given at {seen[leaf.spec.task]} already"
            faults.append({"path": f"{leaf.path}.task", "message": message, "code": "duplicate_name"})
        seen.setdefault(leaf.spec.task, leaf.path)
    return faults


def _faults_of(leaf: Leaf, error: LabfleetError) -> list[dict[str, str]]:
    if isinstance(error, InvalidJob):
        return [{**fault, "path": f"{leaf.path}.{fault['path']}"} for fault in error.extra["errors"]]
    if isinstance(error, InvalidParameters) and "errors" in error.extra:
        return [
            {**fault, "path": f"{leaf.path}.{fault['path'].replace('/', '.')}", "code": error.code}
            for fault in error.extra["errors"]
        ]
    place = {"invalid_parameters": "parameters", "invalid_inputs": "inputs"}.get(error.code, "")
    path = ".".join(filter(None, [leaf.path, place]))
    return [{"path": path, "message": error.detail, "code": error.code}]


def _datasets(session: Session, owner: User, leaves: list[Leaf]) -> dict[str, str]:
    wanted = {value for leaf in leaves for value in _given_inputs(leaf.spec) if isinstance(value, uuid.UUID)}
    statement = select(Dataset.id, Dataset.sha256).where(Dataset.id.in_(wanted), visible_to(owner))
    # Until the job is there nobody deletes them; who wants to looks then whether a job takes them.
    statement = statement.order_by(Dataset.id).with_for_update(key_share=True, read=True, of=Dataset)
    return {str(dataset): sha256 for dataset, sha256 in session.execute(statement)}


def _given_inputs(node: TaskNode) -> Iterator[uuid.UUID | Source]:
    yield from node.inputs.values()
    sweep = node.sweep or Sweep.model_construct()
    for point in getattr(sweep, "list", None) or []:
        yield from point.inputs.values()
    for name, values in (sweep.grid or sweep.zip or {}).items() if node.sweep else ():
        if name.startswith("inputs."):
            for value in values:
                try:
                    yield _INPUT.validate_python(value)
                except ValidationError:
                    continue  # it is told with its place later


def _check_leaf(
    session: Session, owner: User, leaf: Leaf, by_name: Mapping[str, Leaf], datasets: Mapping[str, str]
) -> None:
    spec = leaf.spec
    leaf.version = find_version(session, owner, spec.protocol, spec.version)
    manifest = leaf.version.manifest
    own = spec.needs.model_dump(exclude_none=True) if spec.needs else None
    try:
        leaf.needs = needs_of(manifest, own)
    except ValidationError as error:
        raise InvalidJob([{"path": "needs", "message": error.errors()[0]["msg"]}]) from None
    points = _points(spec)
    first = points[0] if points else {}
    checked_slots(manifest, {**spec.inputs, **first.get("inputs", {})})
    checked = checked_parameters(manifest, {**spec.parameters, **first.get("parameters", {})})
    leaf.parameters = (
        checked if points is None else fill_defaults(manifest.get("parameters") or {}, spec.parameters)
    )
    leaf.inputs = {slot: _input(leaf, slot, value, by_name, datasets) for slot, value in spec.inputs.items()}
    if points is not None:
        leaf.points = _checked_points(leaf, points, by_name, datasets)
    if spec.cache if spec.cache is not None else bool(manifest.get("cache")):
        _add_cache_keys(leaf, datasets)


def _points(node: TaskNode) -> list[Json] | None:
    """What each task of the sweep has of its own: `parameters` and `inputs` by name."""
    sweep = node.sweep
    if sweep is None:
        return None
    if sweep.list is not None:
        return [point.model_dump(exclude_defaults=True) for point in sweep.list]
    axes = sweep.grid or sweep.zip or {}
    combined = itertools.product(*axes.values()) if sweep.grid else zip(*axes.values(), strict=True)
    targets = [name.split(".", 1) for name in axes]
    points = []
    for values in combined:
        point: Json = {}
        for (kind, name), value in zip(targets, values, strict=True):
            point.setdefault(kind, {})[name] = value
        points.append(point)
    return points


def _checked_points(
    leaf: Leaf, points: list[Json], by_name: Mapping[str, Leaf], datasets: Mapping[str, str]
) -> list[Json]:
    judge = _Judge(leaf)
    checked = []
    for index, point in enumerate(points):
        try:
            parameters = judge.parameters(point.get("parameters", {}))
            inputs = {
                slot: _input(leaf, slot, value, by_name, datasets)
                for slot, value in point.get("inputs", {}).items()
            }
            if inputs:
                checked_slots(judge.manifest, {**leaf.inputs, **inputs})
        except LabfleetError as error:
            raise InvalidJob([{"path": f"sweep, point {index}", "message": error.detail}]) from None
        checked.append({key: value for key, value in (("p", parameters), ("i", inputs)) if value})
    return checked


class _Judge:
    """Checks the parameters of a sweep's points. Where the schema judges each parameter by itself, each
    value is looked at once, however many points have it."""

    def __init__(self, leaf: Leaf) -> None:
        assert leaf.version is not None  # noqa: S101  (for the type checker)
        self.manifest: Json = leaf.version.manifest
        self._given = leaf.spec.parameters
        self._schema: Json = self.manifest.get("parameters") or {"type": "object", "properties": {}}
        self._plain = set(self._schema) <= _PLAIN
        self._required = set(self._schema.get("required", ()))
        self._seen: dict[tuple[str, str], Any] = {}

    def parameters(self, own: Json) -> Json:
        if not self._plain or not self._required <= self._given.keys() | own.keys():
            return checked_parameters(self.manifest, {**self._given, **own})
        return {name: self._value(name, value) for name, value in own.items()}

    def _value(self, name: str, value: Any) -> Any:
        key = (name, json.dumps(value, sort_keys=True))
        if key not in self._seen:
            self._seen[key] = self._judged(name, value)
        return self._seen[key]

    def _judged(self, name: str, value: Any) -> Any:
        properties = self._schema.get("properties", {})
        if name not in properties:
            checked_parameters(self.manifest, {**self._given, name: value})  # says what is wrong, if it is
            return value
        schema = properties[name]
        if isinstance(value, dict) and isinstance(schema, dict):
            value = fill_defaults(schema, value)
        problem = next(Draft202012Validator(self._schema).evolve(schema=schema).iter_errors(value), None)
        if problem is not None:
            raise InvalidParameters(f"{name}: {problem.message}")
        return value


def _input(
    leaf: Leaf, slot: str, value: Any, by_name: Mapping[str, Leaf], datasets: Mapping[str, str]
) -> str | Json:
    try:
        given = value if isinstance(value, uuid.UUID | Source) else _INPUT.validate_python(value)
    except ValidationError:
        raise InvalidInputs(f"{slot}: {value!r} is neither a dataset's id nor {{task, output}}.") from None
    if isinstance(given, uuid.UUID):
        if str(given) not in datasets:
            raise UnknownDataset(f"There is no dataset {given} for the input slot '{slot}'.")
        return str(given)
    _check_source(leaf, slot, given, by_name)
    return given.model_dump()


def _check_source(leaf: Leaf, slot: str, given: Source, by_name: Mapping[str, Leaf]) -> None:
    name, _, index = given.task.rstrip("]").partition("[")
    source = by_name.get(name)
    if source is None:
        raise InvalidInputs(f"{slot}: the job has no task '{name}'.")
    if source.spec.sweep is None and index:
        raise InvalidInputs(f"{slot}: '{name}' is one task, not a sweep; write it without [{index}].")
    if source.spec.sweep is not None and (not index or int(index) >= source.size):
        last = f"{name}[{source.size - 1}]"
        raise InvalidInputs(
            f"{slot}: '{name}' is a sweep of {source.size} tasks; name one, from {name}[0] to {last}."
        )
    if not _before(source.place, leaf.place):
        why = (
            "itself"
            if source is leaf
            else "not before it: only an earlier step of a sequence can be a source"
        )
        raise InvalidInputs(f"{slot}: the task '{name}' is {why}.")


def _before(earlier: Place, later: Place) -> bool:
    """Whether the first task has ended when the second begins."""
    for (kind, first), (_, second) in zip(earlier, later, strict=False):
        if first != second:
            return kind == "sequential" and first < second
    return False


def _check_outputs(leaf: Leaf, leaves: list[Leaf], faults: list[dict[str, str]]) -> None:
    by_name = {each.spec.task: each for each in leaves}
    inputs = [leaf.inputs, *(point.get("i", {}) for point in leaf.points or [])]
    wanted = {
        (value["task"].partition("[")[0], value["output"], slot)
        for each in inputs
        for slot, value in each.items()
        if isinstance(value, dict)
    }
    for name, output, slot in sorted(wanted):
        version = by_name[name].version
        outputs = version.manifest.get("outputs", {}) if version else {}
        if output not in outputs:
            known = ", ".join(sorted(outputs)) or "none"
            message = f"the task '{name}' makes no output '{output}'; its outputs: {known}"
            faults.append(
                {"path": f"{leaf.path}.inputs.{slot}", "message": message, "code": "invalid_inputs"}
            )


def _add_cache_keys(leaf: Leaf, datasets: Mapping[str, str]) -> None:
    leaf.cache = _cache_key(leaf, leaf.parameters, leaf.inputs, datasets)
    for point in leaf.points or []:
        parameters = {**leaf.parameters, **point.get("p", {})}
        point["k"] = _cache_key(leaf, parameters, {**leaf.inputs, **point.get("i", {})}, datasets)


def _cache_key(leaf: Leaf, parameters: Json, inputs: Json, datasets: Mapping[str, str]) -> str:
    assert leaf.version is not None  # noqa: S101  (for the type checker)
    if any(isinstance(value, dict) for value in inputs.values()):
        return caching.PENDING
    return caching.cache_key(
        leaf.version.id, parameters, {slot: datasets[value] for slot, value in inputs.items()}
    )
