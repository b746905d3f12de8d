"""The calls of ffprobe and ffmpeg, which read this one file: no playlist leads them to the network."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUIET = ("-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file")
THREADS = os.environ.get("OMP_NUM_THREADS", "1")
# Of each frame the score is told, of the first of a shot its time as well.
_SHOT = re.compile(r"lavfi\.scd\.score=([0-9.]+)\nlavfi\.scd\.time=([0-9.]+)\n")


class Unreadable(Exception):
    """Nothing that ffmpeg knows."""


def probe(recording: Path) -> dict[str, Any]:
    """What ffprobe tells of the whole and of each stream."""
    command = ["ffprobe", *QUIET, "-show_format", "-show_streams", "-of", "json", str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or not found.get("streams"):
        lines = done.stderr.strip().splitlines()
        reason = lines[-1].removeprefix(f"{recording}: ") if lines else "no stream in it"
        raise Unreadable(f"The file is no audio or video that ffmpeg knows: {reason}.")
    found["format"].pop("filename", None)  # where the worker keeps it, which tells nobody anything
    return found


def shot_starts(recording: Path, threshold: float, told: Callable[[float], None]) -> list[tuple[float, str]]:
    """When a new shot begins, in seconds, and how much the picture changes there (0 to 100)."""
    filters = f"scdet=threshold={threshold},metadata=mode=print:file=-"
    command = [
        *("ffmpeg", *QUIET, "-nostdin", "-threads", THREADS, "-i", str(recording)),
        *("-map", "0:V:0", "-vf", filters, "-progress", "pipe:2", "-f", "null", "/dev/null"),
    ]
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True) as process:
            complaint = _follow(process, told)
        if process.returncode:
            raise SystemExit(f"ffmpeg could not read the video to its end: {complaint}")
        output.seek(0)
        return [(float(time), score) for score, time in _SHOT.findall(output.read())]


def _follow(process: subprocess.Popen[str], told: Callable[[float], None]) -> str:
    """Tell the progress on standard error; gives the last line that was none."""
    complaint, before = "", -math.inf
    for line in process.stderr or ():
        name, separator, value = line.strip().partition("=")
        if name == "out_time_us" and value.isdigit() and int(value) / 1e6 - before >= 10:
            before = int(value) / 1e6
            told(before)
        elif not separator and name:
            complaint = name
    return complaint


def thumbnails(recording: Path, times: list[float], target: Path, width: int) -> None:
    """One sheet with the picture at each time, row by row."""
    columns = math.ceil(math.sqrt(len(times)))
    rows = math.ceil(len(times) / columns)
    with tempfile.TemporaryDirectory() as place:
        for number, time in enumerate(times):
            command = [
                *(
                    "ffmpeg",
                    *QUIET,
                    "-nostdin",
                    "-threads",
                    THREADS,
                    "-ss",
                    f"{time:.3f}",
                    "-i",
                    str(recording),
                ),
                *("-map", "0:V:0", "-frames:v", "1", "-vf", f"scale={width}:-2", f"{place}/{number:04}.png"),
            ]
            subprocess.run(command, check=True)
        command = [
            *("ffmpeg", *QUIET, "-nostdin", "-threads", THREADS, "-i", f"{place}/%04d.png", "-frames:v", "1"),
            *("-vf", f"tile={columns}x{rows}:padding=8:margin=8:color=white", str(target)),
        ]
        subprocess.run(command, check=True)
