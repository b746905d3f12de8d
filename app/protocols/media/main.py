"""What is in a recording, and where its shots begin; see README.md and protocol.yml."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ffmpeg import Unreadable, probe, shot_starts, thumbnails

INAPPLICABLE = 65
OUTPUTS = Path(os.environ["LABFLEET_OUTPUTS"])
FORMAT = ("format_long_name", "duration", "size", "bit_rate")
STREAM = (
    *("index", "codec_type", "codec_name", "width", "height", "r_frame_rate", "pix_fmt"),
    *("sample_rate", "channels", "duration", "bit_rate"),
)


def main() -> int:
    """0 done, 65 the file is no recording, or this worker has no ffmpeg."""
    parameters = json.loads(Path(os.environ["LABFLEET_PARAMETERS"]).read_text(encoding="utf-8"))
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        return give_up("This worker has no ffmpeg: ask your admin to add it to worker_packages.")
    recording = Path(os.environ["LABFLEET_INPUTS"]) / "recording"
    if not recording.exists():
        print("No input: the protocol's own sample is taken.")
        recording = Path("sample.mkv")
    progress(0.05, "reading metadata")
    try:
        found = probe(recording)
    except Unreadable as error:
        return give_up(str(error))
    write_metadata(found)
    if not any(is_video(stream) for stream in found["streams"]):
        print("There is no video in it, so there are no shots.")
    else:
        find_shots(recording, found, parameters)
    progress(1.0, "done")
    return 0


def give_up(reason: str) -> int:
    """Tell why the protocol does not apply."""
    print(reason, file=sys.stderr)
    return INAPPLICABLE


def is_video(stream: dict[str, Any]) -> bool:
    """Moving pictures: a cover in a sound file is none."""
    return stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")


def write_metadata(found: dict[str, Any]) -> None:
    """All of it as JSON, the most telling as tables."""
    (OUTPUTS / "metadata.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    about = {name: found["format"].get(name, "") for name in FORMAT}
    about |= {f"tag {name}": value for name, value in found["format"].get("tags", {}).items()}
    write_csv("format.csv", ("fact", "value"), about.items())
    streams = found["streams"]
    write_csv("streams.csv", STREAM, ([stream.get(name, "") for name in STREAM] for stream in streams))


def find_shots(recording: Path, found: dict[str, Any], parameters: dict[str, Any]) -> None:
    """A row for each shot, and a sheet with the first picture of each."""
    length = float(found["format"].get("duration") or 0)

    def told(seconds: float) -> None:
        share = min(seconds / length, 1.0) if length else 0.0
        progress(0.1 + 0.6 * share, f"looking for shots, at {seconds:.0f} s")

    progress(0.1, "looking for shots")
    starts = [(0.0, ""), *shot_starts(recording, parameters["threshold"], told)]
    ends = [start for start, _ in starts[1:]] + [max(length, starts[-1][0])]
    rows = [
        [number, f"{start:.3f}", f"{end:.3f}", f"{end - start:.3f}", score]
        for number, ((start, score), end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]
    print(f"{len(rows)} shots")
    write_csv("shots.csv", ("shot", "start", "end", "duration", "score"), rows)
    progress(0.75, "taking a picture of each")
    shown = evenly([start for start, _ in starts], parameters["thumbnails"])
    thumbnails(recording, shown, OUTPUTS / "thumbnails.png", parameters["width"])


def evenly(values: list[float], most: int) -> list[float]:
    """At most so many of them, spread over the whole."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / max(most - 1, 1))] for place in range(most)]


def write_csv(name: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table among the outputs."""
    with (OUTPUTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def progress(share: float, text: str) -> None:
    """Tell Labfleet how far we are."""
    with Path(os.environ["LABFLEET_PROGRESS"]).open("a", encoding="utf-8") as file:
        file.write(f"{share:.2f} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
