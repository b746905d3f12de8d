"""Have a module of ours read what somebody sent in a process of its own, which is given no secret.

The module reads one JSON document from standard input, bounds itself (`labfleet.datasets.confine`), and
writes one to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEAT = 0.5
ANSWER_BYTES = 8 * 1024**2


class Interrupted(Exception):
    """It was stopped before its end, by us."""


class Broken(Exception):
    """The process ended without an answer."""


class TooSlow(Exception):
    """It took longer than it may."""


def ask(
    module: str, asked: dict[str, Any], work: Path, seconds: float, beat: Callable[[], bool]
) -> dict[str, Any]:
    """What the module answers. `beat` is called all the while and says whether to go on.

    `Interrupted` if not, `TooSlow` when its time is over,
    `Broken` when the process was killed or crashed: by the file, or by a machine that is out of memory.
    """
    answer = work / "answer"
    with answer.open("wb") as out:
        # No environment, so no credentials' directory and no configuration.
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", module],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={"HOME": str(work), "TMPDIR": str(work), "LC_ALL": "C.UTF-8"},
            cwd=work,
        )
        try:
            _wait(process, json.dumps(asked).encode(), seconds, beat)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0 or answer.stat().st_size > ANSWER_BYTES:
        raise Broken(f"ended with {process.returncode}")
    return dict(json.loads(answer.read_bytes()))


def _wait(process: subprocess.Popen[bytes], asked: bytes, seconds: float, beat: Callable[[], bool]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.write(asked)
            process.stdin.close()
        except BrokenPipeError:
            return
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not beat():
            raise Interrupted
        try:
            process.wait(min(BEAT, max(until - time.monotonic(), 0.01)))
        except subprocess.TimeoutExpired:
            continue
        return
    raise TooSlow
