"""What JSON may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.errors import Invalid
from labfleet.web.guard import MAX_DEPTH, check_value

FINE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


@given(FINE)
def test_honest_values_pass(value: Any) -> None:
    check_value(value, MAX_DEPTH)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\x00", "NUL"),
        ({"\x00": 1}, "NUL"),
        ("\ud800", "surrogate"),
        (float("nan"), "NaN"),
        ([float("inf")], "Infinity"),
        (2**63, "64 bits"),
        ({"a": [-(2**63) - 1]}, "64 bits"),
    ],
)
def test_what_the_database_cannot_keep_is_refused(value: Any, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        check_value(value, MAX_DEPTH)


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    with pytest.raises(Invalid, match="deep"):
        check_value(value, MAX_DEPTH)
