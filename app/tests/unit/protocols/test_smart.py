from __future__ import annotations

import os
import struct

import pytest

from labfleet.protocols import smart
from labfleet.protocols.incoming import Change


def test_the_hook_is_where_git_looks_for_it() -> None:
    assert os.access(smart.HOOKS / "pre-receive", os.X_OK)


def test_a_refusal_is_what_git_reads() -> None:
    told = smart.refusal("Too large.", hint="Less.")
    assert told == b"0016\x02Too large.\nLess.\n" + b"001f\x01" + b"0016unpack Too large.\n0000" + b"0000"


def test_a_long_refusal_comes_in_pieces() -> None:
    told = smart.refusal("x" * 100_000)
    assert int(told[:4], 16) == 65520


def pushed(objects: int) -> bytes:
    changes = [Change("0" * 40, "a" * 40, "refs/heads/main"), Change("0" * 40, "b" * 40, "refs/tags/1.0.0")]
    return smart.request(changes) + struct.pack(">4sII", b"PACK", 2, objects) + b"whatever comes"


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_the_objects_of_a_push_are_counted_as_it_passes(size: int) -> None:
    def look(content: bytes) -> None:
        announced = smart.Announced(limit=7)
        for at in range(0, len(content), size):
            announced.look(content[at : at + size])

    look(pushed(7))
    with pytest.raises(smart.TooManyObjects, match="It has 8 objects of git; 7 may be brought at once"):
        look(pushed(8))
    look(b"no push at all, which git refuses by itself")


def test_what_git_says_to_a_push() -> None:
    told = b"unpack ok\n", b"ok refs/tags/1.0.0\n", b"ng refs/heads/main non-fast-forward\n"
    inner = b"".join(map(smart.line, told)) + b"0000"
    answer = smart.line(b"\x02a fault\n") + smart.line(b"\x01" + inner) + b"0000"
    assert smart.verdict(answer) == smart.Verdict(["a fault"], {"refs/heads/main": "non-fast-forward"})
    assert smart.verdict(smart.refusal("Too large.")).refused == {"unpack": "Too large."}
    assert smart.verdict(b"").refused == {"unpack": "git did not say"}
