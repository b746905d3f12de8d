from __future__ import annotations

import json

import pytest

from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest, bytes_of, read_manifest, seconds_of
from labfleet.protocols.problems import InvalidProtocol, Problem


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidProtocol) as caught:
        read_manifest(text.encode())
    return caught.value.problems


def test_a_good_manifest(manifest: str) -> None:
    found = read_manifest(manifest.encode())
    assert found.name == "demo"
    assert found.command == ["python3", "main.py"]
    assert found.needs.memory_bytes == 512 * 1024**2
    assert found.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_it_survives_the_database(manifest: str) -> None:
    found = read_manifest(manifest.encode())
    stored = json.loads(json.dumps(found.model_dump(mode="json")))
    assert Manifest.model_validate(stored) == found


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "field"),
    [
        ("title: Demo\n", "", "missing_field", 1, "title"),
        ("title: Demo", "title: Demo\ntilte: Demo", "unknown_field", 5, "tilte"),
        ("labfleet: 1", "labfleet: 2", "invalid_field", 1, "labfleet"),
        ("name: demo", "name: Demo", "invalid_field", 2, "name"),
        ("name: demo", "name: ../demo", "invalid_field", 2, "name"),
        ("name: demo", "name: -demo", "invalid_field", 2, "name"),
        ('version: "1.0.0"', "version: 1.0", "invalid_field", 3, "version"),
        ('version: "1.0.0"', 'version: "1..0"', "invalid_field", 3, "version"),
        ('version: "1.0.0"', 'version: "-x"', "invalid_field", 3, "version"),
        ("key: python", "key: '*.python'", "invalid_field", 5, "key"),
        ("key: python", "key: python.", "invalid_field", 5, "key"),
        ("key: python", "key: worker.node1", "invalid_field", 5, "key"),
        ("[python3, main.py]", "python3 main.py", "invalid_field", 6, "command"),
        ("[python3, main.py]", "[]", "invalid_field", 6, "command"),
        ("[python3, main.py]", "[python3, 1]", "invalid_field", 6, "command.1"),
        ("path: result.csv", "path: ../result.csv", "invalid_field", 8, "outputs.result.path"),
        ("path: result.csv", "path: /result.csv", "invalid_field", 8, "outputs.result.path"),
        ("path: result.csv", "path: a//b", "invalid_field", 8, "outputs.result.path"),
        ("kind: table", "kind: film", "invalid_field", 8, "outputs.result.kind"),
        ("title: Result", "title: R, units: {v: ''}", "invalid_field", 8, "outputs.result.units.v"),
        ("kind: table, title", "kind: text, units: {v: mV}, title", "invalid_field", 8, "outputs.result"),
        ("result:", "Result:", "invalid_field", 8, "outputs.Result"),
        ("key: python", "key: python\nneeds: {memory: lots}", "invalid_field", 6, "needs.memory"),
        ("key: python", "key: python\nneeds: {time: 10}", "invalid_field", 6, "needs.time"),
        ("key: python", "key: python\nneeds: {cores: 0}", "invalid_field", 6, "needs.cores"),
        ("key: python", "key: python\nneeds: {packages: ['-x']}", "invalid_field", 6, "needs.packages.0"),
        ("key: python", "key: python\nparameters: [a]", "invalid_field", 6, "parameters"),
    ],
)
def test_each_fault_names_line_and_field(
    manifest: str, old: str, new: str, code: str, line: int, field: str
) -> None:
    assert old in manifest
    found = problems(manifest.replace(old, new))
    assert [(p.code, p.line) for p in found] == [(code, line)]
    assert found[0].message.startswith(f"{field}: ")
    assert found[0].hint


def test_all_faults_come_at_once(manifest: str) -> None:
    spoilt = (
        manifest.replace("name: demo", "name: X")
        .replace("key: python\n", "")
        .replace("title: Demo", "tilte: Demo")
    )
    codes = sorted(p.code for p in problems(spoilt))
    assert codes == ["invalid_field", "missing_field", "missing_field", "unknown_field"]


def test_two_outputs_of_one_path(manifest: str) -> None:
    (found,) = problems(manifest + "  other: {path: result.csv, kind: table, title: Other}\n")
    assert "result.csv" in found.message


def test_a_version_that_git_refuses(manifest: str) -> None:
    (found,) = problems(manifest.replace('"1.0.0"', '"1.lock"'))
    assert ".lock" in found.message


def test_a_list_is_no_manifest() -> None:
    (found,) = problems("- a\n")
    assert found.code == "not_a_mapping"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("{type: string}", "must be 'object'"),
        ("{type: object, properties: {a: {type: numer}}}", "numer"),
        ("{type: object, properties: {a: {$ref: 'http://example.org/x'}}}", "points outside"),
        ("{type: object, properties: {a: {$ref: 'file:///etc/passwd'}}}", "points outside"),
        ("{type: object, properties: {a: {type: integer, default: x}}}", "'x' is not of type"),
        ("{type: object, properties: {a: {$ref: '#/$defs/none', default: 1}}}", "leads nowhere"),
        ("{type: object, properties: {a: {type: string, pattern: '('}}}", "pattern"),
    ],
)
def test_a_schema_that_is_none(manifest: str, parameters: str, text: str) -> None:
    found = problems(f"{manifest}parameters: {parameters}\n")
    assert {p.code for p in found} == {"invalid_schema"}
    assert any(text in p.message for p in found), found
    assert found[0].line == 9


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("2K", 2048), ("512M", 512 * 1024**2), ("1T", 1024**4)])
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0M", "-1M", "1m", "1.5G", "1 G", "1G\n", "G"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="512M"):
        bytes_of(text)


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_times(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "1M", "1w", "1m\n"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="10m"):
        seconds_of(text)


def test_the_interface_is_plain_json(manifest: str) -> None:
    found = interface_of(
        read_manifest(f"{manifest}inputs: {{table: {{title: T, formats: [csv]}}}}\n".encode())
    )
    assert json.loads(json.dumps(found)) == found
    assert found["inputs"] == {
        "table": {"title": "T", "description": "", "formats": ["csv"], "terms": [], "optional": False}
    }
    assert found["outputs"]["result"]["kind"] == "table"
    assert found["needs"] == {
        "cores": 1,
        "memory_bytes": 536870912,
        "wall_seconds": 600,
        "packages": [],
        "tags": [],
    }


def test_units_of_columns_and_what_an_older_release_reads(manifest: str) -> None:
    plain = read_manifest(manifest.encode())
    assert "units" not in plain.stored()["outputs"]["result"]
    found = read_manifest(
        manifest.replace("title: Result", "title: Result, units: {v: mV, rate: 1/min}").encode()
    )
    assert found.stored()["outputs"]["result"]["units"] == {"v": "mV", "rate": "1/min"}
    assert interface_of(found)["outputs"]["result"]["units"] == {"v": "mV", "rate": "1/min"}
    assert Manifest.model_validate(found.stored()) == found
