from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labfleet.errors import ConfigError, Unauthorized
from labfleet.jobs.tokens import sign_attempt, verify_attempt, verify_worker, worker_hashes

TASK = uuid.UUID("00000000-0000-4000-8000-000000000001")
OTHER = uuid.UUID("00000000-0000-4000-8000-000000000002")


def test_an_attempt_token_has_the_form_of_the_contract() -> None:
    prefix, number, mac = sign_attempt(TASK, 3, ["key"]).split(".")
    assert prefix == f"la_{TASK}"
    assert number == "3"
    assert len(mac) == 43
    assert mac.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("keys", [["new"], ["newer", "new"], ["new", "old"]])
def test_any_valid_key_verifies_what_the_first_signed(keys: list[str]) -> None:
    verify_attempt(sign_attempt(TASK, 1, ["new"]), TASK, 1, keys)


@pytest.mark.parametrize(
    ("task", "number", "keys"),
    [(OTHER, 1, ["key"]), (TASK, 2, ["key"]), (TASK, 1, ["rotated"]), (TASK, 1, [])],
)
def test_a_token_is_good_for_its_attempt_and_keys_only(task: uuid.UUID, number: int, keys: list[str]) -> None:
    with pytest.raises(Unauthorized):
        verify_attempt(sign_attempt(TASK, 1, ["key"]), task, number, keys)


@given(st.text())
def test_no_text_is_a_token_by_chance(text: str) -> None:
    with pytest.raises(Unauthorized):
        verify_attempt(text, TASK, 1, ["key"])


def test_a_workers_token_is_compared_by_its_hash_while_it_is_rotated_too() -> None:
    old, new = (hashlib.sha256(token).hexdigest() for token in (b"lw_old", b"lw_new"))
    hashes = worker_hashes(f'{{"w1": ["{new}", "{old}"], "w2": "{old}"}}')
    verify_worker("lw_old", "w1", hashes)
    verify_worker("lw_new", "w1", hashes)
    for token, name in [("lw_new", "w2"), ("lw_old", "w3"), ("old", "w1"), ("", "w1")]:
        with pytest.raises(Unauthorized):
            verify_worker(token, name, hashes)


@pytest.mark.parametrize("text", ["", "[]", "no json", '{"w1": 3}'])
def test_a_broken_table_of_workers_says_what_form_it_has(text: str) -> None:
    with pytest.raises(ConfigError, match="worker_tokens") as caught:
        worker_hashes(text)
    assert "sha256" in caught.value.hint
