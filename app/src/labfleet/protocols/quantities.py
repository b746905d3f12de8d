"""Sizes and times as people write them, in numbers."""

from __future__ import annotations

import re

_SIZE = re.compile(r"^([1-9][0-9]{0,9})([KMGT]?)$")
_SIZE_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_TIME = re.compile(r"^([1-9][0-9]{0,6})([smhd])$")
_TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def bytes_of(size: str) -> int:
    """`512M` → 536870912; K, M, G, T are powers of 1024. `ValueError` says what is expected."""
    match = _SIZE.fullmatch(size)
    if not match:
        raise ValueError("write a size as a number and K, M, G or T, for example 512M")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def seconds_of(time: str) -> int:
    """`10m` → 600; units s, m, h, d. `ValueError` says what is expected."""
    match = _TIME.fullmatch(time)
    if not match:
        raise ValueError("write a time as a number and s, m, h or d, for example 10m")
    return int(match[1]) * _TIME_UNITS[match[2]]
