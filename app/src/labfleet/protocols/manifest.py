"""The manifest `protocol.yml`, as a strict model; docs/architecture.md shows one.

Whatever is wrong comes as `InvalidProtocol` with file, line, field and remedy.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from labfleet.names import WORKER, is_key
from labfleet.protocols import images, schema
from labfleet.protocols.problems import MANIFEST, InvalidProtocol, Problem
from labfleet.protocols.quantities import bytes_of, seconds_of
from labfleet.protocols.yamlfile import Document, read_yaml

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
VERSION = r"^[0-9A-Za-z]([0-9A-Za-z_+-]|\.[0-9A-Za-z])*$"
KEY = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*$"
SLOT = r"^[a-z][a-z0-9_]*$"
PACKAGE = r"^[a-z0-9][a-z0-9+.-]+$"
R_PACKAGE = r"^[A-Za-z][A-Za-z0-9.]*[A-Za-z0-9]$"


class OutputKind(StrEnum):
    """How an output is shown."""

    TABLE = "table"
    PLOT = "plot"
    NETWORK = "network"
    ARRAY = "array"
    TEXT = "text"


def _key(value: str) -> str:
    if not is_key(value):
        raise ValueError(f"a key's first word is not '{WORKER}': such keys lead to single workers")
    return value


def _size(value: str) -> str:
    bytes_of(value)
    return value


def _time(value: str) -> str:
    seconds_of(value)
    return value


def _output_path(value: str) -> str:
    return _inner_path(value, "output directory, for example tables/result.csv")


def _own_path(value: str) -> str:
    return _inner_path(value, "protocol, for example requirements.lock")


def _image(value: str) -> str:
    if images.is_archive(value):
        return _inner_path(value, "protocol, for example image.tar")
    return str(images.read_reference(value))


def _inner_path(value: str, where: str) -> str:
    path = PurePosixPath(value)
    unusual = any(not char.isprintable() for char in value) or "\\" in value
    if path.is_absolute() or ".." in path.parts or unusual or value != str(path) or value == ".":
        raise ValueError(f"write a path inside the {where}")
    return value


def _argument(value: str) -> str:
    if "\0" in value:
        raise ValueError("an argument can't contain a NUL character")
    return value


_LOCK, _NAMES = "[lock]", "[names]"


def _kind_of_r(value: Any) -> str:
    return _LOCK if isinstance(value, str) else _NAMES


Name = Annotated[str, Field(pattern=NAME, max_length=64)]
Slot = Annotated[str, Field(pattern=SLOT, max_length=64)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=20_000)]
OwnPath = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_own_path)]


class Strict(BaseModel):
    """No unknown fields, no silent conversion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _term(value: str) -> str:
    if value != value.strip() or "," in value or not value.isprintable():
        raise ValueError("a term has no comma, no space around it and no invisible character")
    return value


def _unit(value: str) -> str:
    if not schema.is_unit(value):
        raise ValueError(schema.UNIT_HINT)
    return value


Unit = Annotated[str, AfterValidator(_unit)]
Term = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_term)]


class InputSlot(Strict):
    """A place for a dataset. `formats` are file name endings, a hint for people; `terms` must all be among
    the dataset's own, else the protocol does not apply to it."""

    title: Title
    description: Description = ""
    formats: list[Annotated[str, Field(pattern=r"^[a-z0-9.]+$", max_length=16)]] = []
    terms: Annotated[list[Term], Field(max_length=50)] = []
    optional: bool = False


ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Output(Strict):
    """A file that the protocol leaves in `LABFLEET_OUTPUTS`; without it the task fails, unless optional.

    `units` are those of a table's columns, or of an array's lines, by their names.
    """

    path: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_output_path)]
    kind: Annotated[OutputKind, Field(strict=False)]
    title: Title
    description: Description = ""
    optional: bool = False
    units: Annotated[dict[ColumnName, Unit], Field(max_length=200)] = {}

    @model_validator(mode="after")
    def _has_columns(self) -> Output:
        if self.units and self.kind not in {OutputKind.TABLE, OutputKind.ARRAY}:
            raise ValueError("units belong to the columns of a table or array")
        return self


class Needs(Strict):
    """What one run needs, up to the server's limits. `tags`: words that its worker must have."""

    cores: Annotated[int, Field(ge=1, le=1024)] = 1
    memory: Annotated[str, AfterValidator(_size)] = "512M"
    time: Annotated[str, AfterValidator(_time)] = "10m"
    packages: list[Annotated[str, Field(pattern=PACKAGE, max_length=100)]] = []
    tags: list[Annotated[str, Field(pattern=KEY, max_length=64)]] = []

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return bytes_of(self.memory)

    @property
    def wall_seconds(self) -> int:
        """Time in seconds."""
        return seconds_of(self.time)


RNames = Annotated[
    list[Annotated[str, Field(pattern=R_PACKAGE, max_length=100)]], Field(max_length=200), Tag(_NAMES)
]


class Environment(Strict):
    """Libraries of a run. `python` is a lock file of the protocol, `wheels` a directory of it with packages
    that the lock may take before it asks an index; `r` is a lock file likewise, with `tarballs`, or names
    packages that the worker must have. `image` instead is a container image: one in a registry by its digest,
    or an OCI archive of the protocol."""

    python: OwnPath | None = None
    wheels: OwnPath | None = None
    r: Annotated[RNames | Annotated[OwnPath, Tag(_LOCK)], Discriminator(_kind_of_r)] = []
    tarballs: OwnPath | None = None
    image: Annotated[str, Field(min_length=1, max_length=400), AfterValidator(_image)] | None = None

    @property
    def r_lock(self) -> str | None:
        """The lock file of R packages, if they come from one."""
        return self.r if isinstance(self.r, str) else None

    @model_validator(mode="after")
    def _whole(self) -> Environment:
        if self.wheels and not self.python:
            raise ValueError("wheels belong to a lock file; name it with python")
        if self.tarballs and not self.r_lock:
            raise ValueError("tarballs belong to a lock file; name it with r, for example r: renv.lock")
        if self.image and (self.python or self.r):
            raise ValueError("an image brings its own libraries; leave python and r out, or the image")
        return self


class Expected(Strict):
    """What a self-test must leave: an output that is there and not empty; with `contains` a text in it; with
    `value` what stands in a `column` of a table, in its `row` (from 1, without the head), numbers within
    `tolerance`."""

    output: Slot
    contains: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    column: ColumnName | None = None
    row: Annotated[int, Field(ge=1)] = 1
    value: Annotated[int | float | str, Field(union_mode="left_to_right")] | None = None
    tolerance: Annotated[float, Field(ge=0, strict=False)] = 0

    @model_validator(mode="after")
    def _whole(self) -> Expected:
        if (self.column is None) != (self.value is None):
            raise ValueError("column and value belong together")
        if self.tolerance and not isinstance(self.value, int | float):
            raise ValueError("a tolerance belongs to a value that is a number")
        return self


class SelfTest(Strict):
    """How a version is tried: its parameters, a file of the protocol for each input slot, what must come."""

    parameters: dict[str, Any] = {}
    inputs: Annotated[dict[Slot, OwnPath], Field(max_length=50)] = {}
    expect: Annotated[list[Expected], Field(max_length=100)] = []


class Manifest(Strict):
    """A protocol's manifest. `Manifest.model_validate(row.manifest)` reads one from the database.

    `cache` says that the same inputs and parameters always give the same result, which may be reused.
    """

    labfleet: Literal[1]
    name: Name
    version: Annotated[str, Field(pattern=VERSION, max_length=64)]
    title: Title
    description: Description = ""
    key: Annotated[str, Field(pattern=KEY, max_length=100), AfterValidator(_key)]
    command: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_argument)]],
        Field(min_length=1, max_length=64),
    ]
    parameters: dict[str, Any] = Field(default_factory=schema.nothing)
    inputs: Annotated[dict[Slot, InputSlot], Field(max_length=50)] = {}
    outputs: Annotated[dict[Slot, Output], Field(max_length=200)] = {}
    needs: Needs = Needs()
    environment: Environment = Environment()
    cache: bool = False
    self_test: SelfTest | None = None

    def stored(self) -> dict[str, Any]:
        """As the database keeps it. What is new since a release is left out where it says nothing: an older
        release, after a rollback, refuses fields that it doesn't know."""
        without: dict[str, Any] = {}
        if self.environment == Environment():
            without["environment"] = True
        else:
            newer = ("tarballs", "image")
            without["environment"] = {name for name in newer if getattr(self.environment, name) is None}
        if self.self_test is None:
            without["self_test"] = True
        without["outputs"] = {name: {"units"} for name, output in self.outputs.items() if not output.units}
        return self.model_dump(mode="json", exclude=without)

    @model_validator(mode="after")
    def _distinct_paths(self) -> Manifest:
        paths = [output.path for output in self.outputs.values()]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"two outputs have the path {path}; give each a path of its own")
        if self.version.endswith(".lock"):
            raise ValueError("the version becomes a git tag, so it can't end with .lock")
        return self


def read_manifest(content: bytes, file: str = MANIFEST) -> Manifest:
    """The manifest in `content`; `InvalidProtocol` lists every problem that was found."""
    document = read_yaml(content, file)
    if not isinstance(document.value, dict):
        problem = Problem(
            file,
            1,
            "not_a_mapping",
            "The manifest is no mapping.",
            "Start with 'labfleet: 1', a field a line.",
        )
        raise InvalidProtocol([problem])
    problems = [_schema_problem(document, file, fault) for fault in _schema_faults(document.value)]
    try:
        manifest = Manifest.model_validate(document.value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidProtocol(
            [_problem(document, file, dict(fault)) for fault in faults] + problems
        ) from None
    if problems:
        raise InvalidProtocol(problems)
    return manifest


def _schema_faults(value: dict[str, Any]) -> list[schema.Fault]:
    parameters = value.get("parameters", {"type": "object"})
    return schema.faults_of_schema(parameters) if isinstance(parameters, dict) else []


def _schema_problem(document: Document, file: str, fault: schema.Fault) -> Problem:
    path = ("parameters", *fault.path)
    message = f"{_name(path)}: {fault.message}"
    return Problem(file, document.line(path), "invalid_schema", message, schema.HINT)


def _problem(document: Document, file: str, fault: dict[str, Any]) -> Problem:
    path = tuple(part for part in fault["loc"] if part not in _NO_FIELDS)
    message = fault["msg"].removeprefix("Value error, ")
    code, hint = _HINTS.get(
        fault["type"], ("invalid_field", "See 'Writing a protocol' in the documentation.")
    )
    hint = _FIELD_HINTS.get(path[-1] if path else "", hint) if code == "invalid_field" else hint
    return Problem(file, document.line(path), code, f"{_name(path)}: {message}", hint)


def _name(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "manifest"


_NO_FIELDS = frozenset({"[key]", _LOCK, _NAMES})
"""What pydantic says of where a fault is that nobody has written."""
_HINTS = {
    "missing": ("missing_field", "Add the field; it is required."),
    "extra_forbidden": ("unknown_field", "Remove the field, or correct its spelling."),
    "string_type": ("invalid_field", "Put the value into quotes, so that YAML reads it as text."),
}
_FIELD_HINTS: dict[str | int, str] = {
    "labfleet": "Write 'labfleet: 1': the number of the manifest's format.",
    "name": "Use small letters, digits and single hyphens, for example my-analysis.",
    "version": 'Write a version in quotes, for example "1.0.0".',
    "key": "Use dotted words of small letters, for example r or python.gpu.",
    "command": "Write the command as a list, for example [python3, main.py].",
    "kind": "Use one of: table, plot, network, array, text.",
    "expect": "Write a list, for example '- {output: summary, column: mean, value: 3.5, tolerance: 0.01}'.",
    "environment": "Write for example 'environment: {python: requirements.lock}', '{r: renv.lock}', "
    "'{r: [survival]}' or '{image: registry.example.org/lab/tool@sha256:…}'.",
    "image": "An image is named by its digest, so that a version computes with the same one in years.",
}
