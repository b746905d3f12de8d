"""A name is a label, never a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.datasets.names import BadName, check_name


@pytest.mark.parametrize("name", ["expression.csv", "Größe.tsv", "a b.txt", "..hidden", "x" * 255, "🧬.csv"])
def test_plain_names_are_kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "is empty"),
        (".", "directory"),
        ("..", "directory"),
        ("../etc/passwd", "slash"),
        ("a\\b", "slash"),
        ("/etc/passwd", "slash"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\u202eb", "invisible"),
        ("\ud800", "control"),
        (" a", "space"),
        ("a ", "space"),
        ("ü" * 128, "longer"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, told: str) -> None:
    with pytest.raises(BadName, match=told) as caught:
        check_name(name)
    assert caught.value.status == 422
    assert "plain file name" in caught.value.hint


def test_a_name_has_one_form() -> None:
    assert check_name("u\u0308") == "\u00fc"


@given(st.text())
def test_what_passes_can_never_lead_elsewhere(name: str) -> None:
    try:
        good = check_name(name)
    except BadName:
        return
    assert "/" not in good and "\\" not in good and "\x00" not in good
    assert good not in {"", ".", ".."}
    assert len(good.encode()) <= 255
