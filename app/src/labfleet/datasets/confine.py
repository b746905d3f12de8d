"""Let this process reach only the files that it needs, by Landlock: a bound besides the unit's own.

A process that reads what users sent may be taken over by it. After `confine` it can open nothing but what was
named, and connect to nothing by TCP; it can't take that back. A kernel without Landlock leaves it as it was.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# Of address space, beside what DuckDB may use: libraries, its allocator's reserves, a workbook.
SPARE_BYTES = 3 * 1024**3

_SYSTEM = [
    # Libraries and time zones.
    *map(Path, ("/usr", "/lib", "/lib64", "/etc/localtime")),
    # DuckDB asks how much memory its control group has.
    *map(Path, ("/proc/self/cgroup", "/sys/fs/cgroup")),
]
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_BENEATH = 1
_VERSION = 1
_EXECUTE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIRECTORY
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 0b11
_FOR_A_FILE = _EXECUTE | 1 << 1 | _READ_FILE | 1 << 14


def system() -> list[Path]:
    """What Python and DuckDB themselves read."""
    return [Path(sys.prefix), Path(sys.base_prefix), *_SYSTEM]


def bound(address_space: int, file_size: int) -> None:
    """No more memory and disk than this, no core file; the first to go when the machine has none left."""
    for kind, limit in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.umask(0o077)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(*, read: Iterable[Path], write: Iterable[Path]) -> bool:
    """Leave only these files and directories; whether the kernel does that. What is not there is left out."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    version = min(library.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)), 5)
    if version < 1:
        return False
    every = _FILES[version]
    wanted = _Ruleset(every, _TCP if version >= 4 else 0)
    size = ctypes.sizeof(wanted) if version >= 4 else ctypes.sizeof(ctypes.c_uint64)
    rules = library.syscall(_CREATE, ctypes.byref(wanted), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        for paths, rights in ((read, _READ), (write, every)):
            for path in paths:
                _allow(library, rules, path, rights & every)
        _must(library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _must(library.syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)))
    finally:
        os.close(rules)
    return True


def _allow(library: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _FOR_A_FILE, parent)
        added = library.syscall(
            _ADD, ctypes.c_int(rules), ctypes.c_int(_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
        )
        _must(added)
    finally:
        os.close(parent)


def _must(answer: int) -> None:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
