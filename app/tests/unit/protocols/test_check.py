from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from labfleet.protocols.check import check_archive, check_tree
from labfleet.protocols.problems import InvalidProtocol


def codes(tree: Path) -> list[tuple[str, str, int | None]]:
    report = check_tree(tree)
    assert report.ok is not bool(report.problems)
    assert all(problem.hint for problem in report.problems)
    return [(problem.file, problem.code, problem.line) for problem in report.problems]


def test_a_good_protocol(tree: Path) -> None:
    report = check_tree(tree)
    assert report.ok
    assert report.files == 2
    assert report.require().name == "demo"
    assert report.as_dict()["interface"]["name"] == "demo"


def test_leftovers_of_tools_do_not_count(tree: Path) -> None:
    for name in (".git/config", "__pycache__/main.cpython-311.pyc", "main.py~"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("def (")
    assert check_tree(tree).files == 2


def test_no_manifest(tmp_path: Path) -> None:
    assert codes(tmp_path) == [("protocol.yml", "no_manifest", None)]


def test_no_directory(tmp_path: Path) -> None:
    assert codes(tmp_path / "none") == [(".", "invalid_archive", None)]


def test_a_link_out_of_the_tree(tree: Path) -> None:
    (tree / "link").symlink_to("/etc/passwd")
    assert codes(tree) == [(".", "invalid_archive", None)]


def test_a_broken_manifest_does_not_hide_broken_sources(tree: Path) -> None:
    (tree / "protocol.yml").write_text("labfleet: [")
    (tree / "main.py").write_text("def (\n")
    assert [code for _, code, _ in codes(tree)] == ["broken_yaml", "syntax_error"]


@pytest.mark.parametrize(
    ("name", "source", "line"),
    [
        ("a.py", "x = 1\ny = (\n", 2),
        ("a.py", "print 'old'\n", 1),
        ("a.py", "x = '\0'\n", None),
        ("a.py", "(" * 5000, None),
        ("a.R", "y <- 1\nf <- function(x) {\n  x +\n}\n", 2),
        ("a.R", "x <- c(1, 2\n", 1),
        ("a.r", "if (x) { 1 }}\n", 1),
        ("a.sh", "if true; then\n  echo\n", 2),
        ("tool", "#!/bin/bash\nfor x in; do\n", 2),
        ("tool", "#!/usr/bin/env python3\ndef f(:\n", 2),
        ("tool", "#!/usr/bin/env Rscript\nx <- (\n", 2),
    ],
)
def test_sources_that_do_not_parse(tree: Path, name: str, source: str, line: int | None) -> None:
    (tree / name).write_text(source)
    ((file, code, found),) = codes(tree)
    assert (file, code) == (name, "syntax_error")
    assert line is None or found == line


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.py", "import re\nre.compile('\\d')\n"),  # an invalid escape warns, and warnings are errors here
        ("a.py", "# -*- coding: latin-1 -*-\nx = 1\n"),
        ("a.R", "f <- \\(x) x |> sum()\nr'(raw)'\nif (TRUE) 1 else 2\n"),
        ("a.sh", 'case "$1" in a|b) echo "${1:-x}";; esac\ncat <<EOF\n$x\nEOF\n'),
        ("data.bin", "\0\0("),
    ],
)
def test_sources_that_parse(tree: Path, name: str, source: str) -> None:
    (tree / name).write_text(source)
    assert codes(tree) == []


def test_a_source_of_megabytes(tree: Path) -> None:
    (tree / "a.py").write_text("x = 1\n" * 200_000)
    assert codes(tree) == [("a.py", "source_too_large", None)]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("[python3, other.py]", "'other.py' is not in the protocol"),
        ("[python3, -u, other.py]", "'other.py' is not in the protocol"),
        ("[python3, -m, package.tool]", "'package.tool' is not in the protocol"),
        ("[./tool]", "'./tool' is not in the protocol"),
        ("[../tool]", "not in the protocol"),
        ("[/bin/sh]", "not in the protocol"),
        ("[./main.py]", "not executable"),
        ("[main.py]", "looked for in PATH"),
        ("[frobnicate]", "neither in the protocol nor a known interpreter"),
        ("[Rscript, --vanilla, main.R]", "'main.R' is not in the protocol"),
    ],
)
def test_commands_that_are_not_there(tree: Path, command: str, text: str) -> None:
    manifest = tree / "protocol.yml"
    manifest.write_text(manifest.read_text().replace("[python3, main.py]", command))
    (problem,) = check_tree(tree).problems
    assert (problem.code, problem.line) == ("command_missing", 6)
    assert text in problem.message


@pytest.mark.parametrize(
    "command",
    ["[python3, -m, json.tool]", "[python3, -m, main]", "[bash, -c, 'true']", "[./tool]", "[jq, .]"],
)
def test_commands_that_are_there(tree: Path, command: str) -> None:
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    manifest = tree / "protocol.yml"
    manifest.write_text(manifest.read_text().replace("[python3, main.py]", command))
    assert codes(tree) == []


def test_the_error_says_it_all(tree: Path) -> None:
    (tree / "main.py").write_text("def (\n")
    with pytest.raises(InvalidProtocol, match=r"main\.py:1: Python") as caught:
        check_tree(tree).require()
    assert caught.value.problem()["problems"][0]["line"] == 1


def test_an_archive_with_one_directory_around(tree: Path, make_tar: Callable[..., io.BytesIO]) -> None:
    files = [(path.name, path.read_bytes()) for path in tree.iterdir()]
    assert check_archive(make_tar(*files)).ok
    assert check_archive(make_tar(*((f"demo/{name}", content) for name, content in files))).ok


SELF_TEST = """\
inputs: {table: {title: Table}, more: {title: More, optional: true}}
parameters: {type: object, properties: {n: {type: integer}}, required: [n]}
self_test:
"""


@pytest.mark.parametrize(
    ("told", "places"),
    [
        ("  {parameters: {n: 1}, inputs: {table: main.py}, expect: [{output: result}]}", []),
        ("  {parameters: {n: 1}, inputs: {table: none.csv}}", ["self_test.inputs.table"]),
        ("  {parameters: {n: 1}, inputs: {table: main.py, other: main.py}}", ["self_test.inputs.other"]),
        ("  {parameters: {n: 1}}", ["self_test.inputs"]),
        ("  {parameters: {n: x}, inputs: {table: main.py}}", ["self_test.parameters.n"]),
        ("  {inputs: {table: main.py}}", ["self_test.parameters"]),
        (
            "  {parameters: {n: 1}, inputs: {table: main.py}, expect: [{output: nothing}]}",
            ["self_test.expect.0"],
        ),
        ("  {inputs: {table: main.py}, expect: [{output: result, column: mean}]}", ["self_test.expect.0"]),
        (
            "  {inputs: {table: main.py}, expect: [{output: result, tolerance: 1}]}",
            ["self_test.expect.0"],
        ),
    ],
)
def test_a_self_test_fits_its_protocol(tree: Path, manifest: str, told: str, places: list[str]) -> None:
    (tree / "protocol.yml").write_text(manifest + SELF_TEST + told + "\n")
    problems = check_tree(tree).problems
    assert [problem.message.partition(": ")[0] for problem in problems] == places
    assert all(problem.line in {11, 12} and problem.hint for problem in problems)
