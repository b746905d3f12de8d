"""Files and recordings: checksums against Python's own, ffmpeg on scenes that are known."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .reading import number, table

PROTOCOLS = Path(__file__).parents[2] / "protocols"
Run = Callable[..., Any]
BYTES = bytes(range(256)) * 41
DIGESTS = {
    **{name: hashlib.new(name, BYTES).hexdigest() for name in ("md5", "sha1", "sha224", "sha256", "sha384")},
    **{"sha512": hashlib.sha512(BYTES).hexdigest(), "b2": hashlib.blake2b(BYTES).hexdigest()},
}


def facts(run: Any, name: str = "facts.csv") -> dict[str, str]:
    return {row["fact"]: row["value"] for row in table(run, name)}


class TestFileFacts:
    def test_checksums_and_type(self, run_shipped: Run) -> None:
        found = facts(run_shipped("file-facts", {"algorithms": list(DIGESTS)}, file=BYTES))
        assert {name: found[name] for name in DIGESTS} == DIGESTS
        assert found["bytes"] == str(len(BYTES))
        assert found["encoding"] == "binary"
        picture = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03\x08\x02\x00\x00\x00"
        assert facts(run_shipped("file-facts", file=picture))["media_type"] == "image/png"

    @pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha384", "sha512", "b2"])
    def test_the_expected_file(self, run_shipped: Run, name: str) -> None:
        run = run_shipped("file-facts", {"expected": DIGESTS[name].upper()}, file=BYTES)
        assert facts(run)["as_expected"] == "yes"

    def test_another_file(self, run_shipped: Run) -> None:
        run = run_shipped("file-facts", {"expected": "0" * 64}, file=BYTES)
        assert (run.code, DIGESTS["sha256"] in run.reason) == (1, True)
        assert not any(run.outputs.iterdir())

    def test_what_is_no_checksum(self, run_shipped: Run) -> None:
        run = run_shipped("file-facts", {"expected": "abc"}, file=BYTES)
        assert (run.code, run.reason[:36]) == (65, "The expected checksum has 3 digits: ")


class TestMedia:
    def test_the_sample_has_three_scenes_and_a_tone(self, run_shipped: Run) -> None:
        run = run_shipped("media")
        shots = table(run, "shots.csv")
        assert [number(row, "start") for row in shots] == pytest.approx([0, 2, 3.5], abs=0.1)
        assert number(shots[-1], "end") == pytest.approx(5, abs=0.1)
        assert [row["codec_type"] for row in table(run, "streams.csv")] == ["video", "audio"]
        assert facts(run, "format.csv")["tag title"] == "Three scenes"

    def test_sound_has_no_shots(self, run_shipped: Run, tmp_path: Path) -> None:
        make = [
            "ffmpeg",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "sine=duration=1",
            str(tmp_path / "a.wav"),
        ]
        subprocess.run(make, check=True)
        run = run_shipped("media", recording=(tmp_path / "a.wav").read_bytes())
        assert number({"seconds": facts(run, "format.csv")["duration"]}, "seconds") == pytest.approx(1)
        assert not (run.outputs / "shots.csv").exists()
        assert "There is no video in it" in run.out

    def test_few_pictures_of_many_shots(self, run_shipped: Run) -> None:
        run = run_shipped("media", {"thumbnails": 1, "width": 64})
        picture = (run.outputs / "thumbnails.png").read_bytes()
        assert int.from_bytes(picture[16:20]) == 64 + 2 * 8

    @pytest.mark.parametrize("content", [b"no recording at all\n", b"", b"#EXTM3U\nfile:///etc/passwd\n"])
    def test_what_is_no_recording(self, run_shipped: Run, content: bytes) -> None:
        run = run_shipped("media", recording=content)
        assert (run.code, run.reason[:30]) == (65, "The file is no audio or video "), run.error
        assert not any(run.outputs.iterdir())

    def test_a_worker_without_ffmpeg(
        self, run_shipped: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "python3").symlink_to("/usr/bin/python3")
        monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
        run = run_shipped("media")
        assert (run.code, run.reason[:29]) == (65, "This worker has no ffmpeg: as")
