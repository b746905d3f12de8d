from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.protocols.problems import InvalidProtocol
from labfleet.protocols.yamlfile import MAX_BYTES, MAX_DEPTH, read_yaml


def fault(content: str | bytes) -> tuple[str, int | None, str]:
    with pytest.raises(InvalidProtocol) as caught:
        read_yaml(content.encode() if isinstance(content, str) else content)
    (problem,) = caught.value.problems
    assert problem.hint
    assert problem.file == "protocol.yml"
    return problem.code, problem.line, problem.message


def test_values_know_their_lines() -> None:
    document = read_yaml(b"a: 1\nb:\n  c: [x,\n    y]\n")
    assert document.value == {"a": 1, "b": {"c": ["x", "y"]}}
    assert document.line(("a",)) == 1
    assert document.line(("b", "c")) == 3
    assert document.line(("b", "c", 1)) == 4
    assert document.line(("b", "missing", "deeper")) == 2


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "broken_yaml", 3),
        ("a: 1\n\tb: 2\n", "broken_yaml", 2),
        ("a: 'x\n", "broken_yaml", 2),
        ("a: 1\na: 2\n", "duplicate_key", 2),
        ("x:\n  y: 1\n  z: 2\n  y: 3\n", "duplicate_key", 4),
        ("a: &one [1]\nb: *one\n", "alias", 2),
        ("a: !!python/object/apply:os.system [id]\n", "broken_yaml", 1),
        ("1: x\n", "bad_key", 1),
        ("? [a]\n: x\n", "bad_key", 1),
        ("a: 2024-01-01\n", "bad_value", 1),
        ("ok: 1\na: .inf\n", "bad_value", 2),
        ("a: 99999999999999999999\n", "bad_value", 1),
        ('a: "\\0"\n', "bad_value", 1),
        ('a: "\\ud800"\n', "bad_value", 1),
        ('"\\0": 1\n', "bad_value", 1),
        ("a: !!binary aGk=\n", "bad_value", 1),
        ("a: 1\n---\nb: 2\n", "broken_yaml", 2),
        ("", "empty", None),
        ("a: \0\n", "broken_yaml", None),
        (b"a: 1\nb: \xff\n", "not_utf8", 2),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too_deep", 1),
        ("[" * 100_000, "too_deep", 1),
        ("a: " + "9" * 5000, "broken_yaml", None),
        ("x" * (MAX_BYTES + 1), "manifest_too_large", None),
    ],
)
def test_faults_tell_line_and_code(content: str | bytes, code: str, line: int | None) -> None:
    assert fault(content)[:2] == (code, line)


def test_a_billion_laughs_stops_at_the_first_alias() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
    )
    assert fault(bomb)[:2] == ("alias", 2)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        read_yaml(content)
    except InvalidProtocol as error:
        assert error.problems
