from __future__ import annotations

import os

from labfleet.protocols import smart


def test_the_hook_is_where_git_looks_for_it() -> None:
    assert os.access(smart.HOOKS / "pre-receive", os.X_OK)


def test_a_refusal_is_what_git_reads() -> None:
    told = smart.refusal("Too large.", hint="Less.")
    assert told == b"0016\x02Too large.\nLess.\n" + b"001f\x01" + b"0016unpack Too large.\n0000" + b"0000"


def test_a_long_refusal_comes_in_pieces() -> None:
    told = smart.refusal("x" * 100_000)
    assert int(told[:4], 16) == 65520
