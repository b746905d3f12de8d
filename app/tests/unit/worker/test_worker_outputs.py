"""Outputs: declared, plain files, nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labfleet.worker.outputs import BadOutput, collect, salvage
from labfleet.worker.spec import Output


def output(path: str, *, optional: bool = False) -> Output:
    return Output(path.split(".", maxsplit=1)[0], path, "table", optional)


def test_declared_files_are_found_and_others_left(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/a.csv").write_text("abc")
    (tmp_path / "b.csv").write_text("other")

    found = collect([output("tables/a.csv")], tmp_path)

    assert [(item.output.path, item.size) for item in found] == [("tables/a.csv", 3)]


def test_what_is_missing_is_named_unless_optional(tmp_path: Path) -> None:
    declared = [output("a.csv"), output("b.csv"), output("c/d.csv"), output("e.csv", optional=True)]
    (tmp_path / "a.csv").touch()

    with pytest.raises(BadOutput) as caught:
        collect(declared, tmp_path)

    assert "'b' (b.csv)" in str(caught.value)
    assert "c/d.csv" in str(caught.value)
    assert "a.csv" not in str(caught.value)
    assert "e.csv" not in str(caught.value)


@pytest.mark.parametrize("kind", ["link", "directory", "pipe", "link on the way", "file on the way"])
def test_only_plain_files_are_taken(tmp_path: Path, kind: str) -> None:
    outputs, secret = tmp_path / "outputs", tmp_path / "secret"
    outputs.mkdir()
    secret.mkdir()
    (secret / "x.csv").write_text("secret")
    path = "d/x.csv"
    match kind:
        case "link on the way":
            (outputs / "d").symlink_to(secret)
        case "file on the way":
            (outputs / "d").touch()
        case _:
            (outputs / "d").mkdir()
    match kind:
        case "link":
            (outputs / path).symlink_to(secret / "x.csv")
        case "directory":
            (outputs / path).mkdir()
        case "pipe":
            os.mkfifo(outputs / path)

    with pytest.raises(BadOutput):
        collect([output(path)], outputs)


def test_a_path_cannot_lead_out(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "x").touch()

    with pytest.raises(BadOutput):
        collect([output("../x")], tmp_path / "outputs")


def test_what_can_be_saved_is_saved_without_complaint(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("abc")
    (tmp_path / "b.csv").symlink_to("a.csv")
    (tmp_path / "c.csv").write_text("abcd")
    declared = [output("missing.csv"), output("a.csv"), output("b.csv"), output("c.csv")]

    found = salvage(declared, tmp_path, 4)

    assert [(item.output.path, item.size) for item in found] == [("a.csv", 3)]
