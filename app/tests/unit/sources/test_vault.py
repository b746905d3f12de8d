"""What is sealed is opened by a key that is known, for what it was sealed for, and for nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from labfleet.sealing import Unopened
from labfleet.sources.vault import Vault

SOURCE = uuid.UUID(int=1)
PLACE = {"url": "https://example.org/a", "header": None}
GIVEN = {"user": "ada", "password": "pässword"}


def sealed(vault: Vault) -> str:
    return vault.seal(SOURCE, "http", PLACE, GIVEN)


def test_it_is_opened_for_what_it_was_sealed_for() -> None:
    text = sealed(Vault(["new"]))
    assert "password" not in text and "example" not in text
    parameters = {"url": PLACE["url"], "more": 1}
    assert Vault(["newer", "new"]).open(text, SOURCE, "http", parameters) == GIVEN
    assert sealed(Vault(["new"])) != text


@pytest.mark.parametrize(
    ("source", "handler", "parameters"),
    [
        (uuid.UUID(int=2), "http", PLACE),
        (SOURCE, "sql", PLACE),
        (SOURCE, "http", {"url": "https://elsewhere.example/a"}),
        (SOURCE, "http", PLACE | {"header": "X-Key"}),
        (SOURCE, "http", {}),
    ],
)
def test_for_nothing_else(source: uuid.UUID, handler: str, parameters: dict[str, Any]) -> None:
    vault = Vault(["new"])
    with pytest.raises(Unopened):
        vault.open(sealed(vault), source, handler, parameters)


def test_a_key_is_changed() -> None:
    old, both, new = Vault(["old"]), Vault(["new", "old"]), Vault(["new"])
    text = sealed(old)
    with pytest.raises(Unopened):
        new.open(text, SOURCE, "http", PLACE)
    assert both.key == new.key != old.key
    renewed = both.renewed(text)
    assert new.open(renewed, SOURCE, "http", PLACE) == GIVEN
    with pytest.raises(Unopened):
        new.renewed(text)


def test_what_was_changed_on_its_way_is_not_opened() -> None:
    vault = Vault(["new"])
    text = sealed(vault)
    broken = text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:]
    with pytest.raises(Unopened):
        vault.open(broken, SOURCE, "http", PLACE)
