"""What a stolen hash costs who wants the password."""

from __future__ import annotations

from argon2 import Type, extract_parameters

from labfleet.users import service


def test_a_hash_costs_at_least_what_rfc_9106_recommends() -> None:
    """Its second choice, for machines with little memory: argon2id, three passes over 64 MiB, four lanes."""
    made = extract_parameters(service._hasher().hash("correct horse battery"))
    assert made.type is Type.ID
    assert (made.time_cost, made.memory_cost, made.parallelism) >= (3, 64 * 1024, 4)
    assert made.salt_len >= 16 and made.hash_len >= 32
