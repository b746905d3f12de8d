"""What the backup program decides: which snapshots serve a moment, what is too old, where gaps are."""

from __future__ import annotations

import fcntl
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from by_path import load

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BEFORE, FIRST, SECOND, THIRD, FOURTH = (
    f"0000000100000000000000{number}" for number in ("09", "0A", "0B", "0C", "0D")
)


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("roles/backup/files/backup.py")


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def base(
    program: ModuleType, name: str, hours: float, *, complete: bool = True, start: str = FIRST
) -> object:
    ended = program.told(at(hours))
    tags = ["base", "generation=g", *(["complete", f"start={start}", f"stop={start}"] if complete else [])]
    told = {"id": name, "time": at(hours).isoformat(), "tags": [*tags, f"ended={ended}"]}
    return program.Snapshot.of(told)


def log(
    program: ModuleType,
    name: str,
    hours: float,
    first: str,
    last: str,
    generation: str = "g",
    machine: str = "",
) -> object:
    tags = ["wal", f"generation={generation}", f"first={first}", f"last={last}"]
    tags += [f"machine={machine}"] if machine else []
    return program.Snapshot.of({"id": name, "time": at(hours).isoformat(), "tags": tags})


def files(program: ModuleType, *hours: float) -> list[object]:
    return [program.Snapshot(str(hour), at(hour)) for hour in hours]


def test_moments_have_a_zone(program: ModuleType) -> None:
    assert program.moment("2026-11-21T12:00:00.123456789+00:00") == NOON + timedelta(microseconds=123456)
    assert program.moment("2026-11-21T13:00:00+01:00") == program.moment("2026-11-21T12:00:00Z") == NOON
    with pytest.raises(ValueError, match="no time zone"):
        program.moment("2026-11-21T12:00:00")


def test_the_newest_complete_base_backup_before_the_moment(program: ModuleType) -> None:
    snapshots = [base(program, "a", -2), base(program, "b", -1), base(program, "c", 0, complete=False)]
    assert program.choose_base(snapshots, None).id == "b"
    assert program.choose_base(snapshots, at(-1)).id == "b"
    assert program.choose_base(snapshots, at(-1.5)).id == "a"
    with pytest.raises(program.Failed, match="no base backup from before") as refused:
        program.choose_base(snapshots, at(-3))
    assert program.told(at(-2)) in refused.value.hint


def test_the_log_begins_early_enough_and_is_of_the_same_life(program: ModuleType) -> None:
    wanted = base(program, "b", -1, start=SECOND)
    snapshots = [
        log(program, "early", -0.9, FIRST, SECOND),
        log(program, "late", -0.5, SECOND, THIRD),
        log(program, "after the next base backup", -0.1, THIRD, THIRD),
        log(program, "of another life", 0, FIRST, THIRD, "other"),
    ]
    assert [one.id for one in program.choose_logs(snapshots, wanted)] == ["late"]
    too_early = log(program, "before it ended", -1.1, FIRST, FIRST)
    with pytest.raises(program.Failed, match="is not in the backup"):
        program.choose_logs([too_early, snapshots[2], snapshots[3]], wanted)


def test_the_log_of_one_machine_goes_on_with_that_of_another(program: ModuleType) -> None:
    wanted = base(program, "b", -5, start=FIRST)
    lost = log(program, "the lost leader's", -3, FIRST, SECOND, machine="a")
    closely = log(
        program, "who had all that follows", -2, f"00000002{THIRD[8:]}", f"00000002{FOURTH[8:]}", machine="b"
    )
    assert [one.id for one in program.choose_logs([closely, lost], wanted)] == [lost.id, closely.id]
    later = log(program, "who had less", -2, f"00000002{FOURTH[8:]}", f"00000002{FOURTH[8:]}", machine="b")
    assert program.choose_logs([later, lost], wanted) == [lost]
    pruned = log(program, "its own, after the next base backup", -2, SECOND, THIRD, machine="a")
    assert program.choose_logs([pruned, lost], wanted) == [lost]
    whole = log(program, "who had all of it", -2, FIRST, f"00000002{THIRD[8:]}", machine="b")
    assert program.choose_logs([whole, lost], wanted) == [whole]


def test_files_of_the_moment_or_the_first_later_ones(program: ModuleType) -> None:
    snapshots = files(program, -2, -1, 0)
    assert program.choose_files(snapshots, None).id == "0"
    assert program.choose_files(snapshots, at(-1.5)).id == "-1"
    assert program.choose_files(snapshots, at(-1)).id == "-1"
    assert program.choose_files(snapshots, at(1)).id == "0"
    with pytest.raises(program.Failed, match="no backup of the files"):
        program.choose_files([], None)


def test_gaps(program: ModuleType) -> None:
    names = [f"{name}.gz" for name in (FIRST, SECOND, THIRD)]
    assert program.gaps([*names, "00000002.history.gz", ".x.part"], FIRST) == []
    assert program.gaps(names, SECOND) == []
    assert program.gaps([names[0], names[2]], FIRST) == [SECOND]
    assert program.gaps(names[1:], FIRST) == [FIRST]
    assert program.gaps([], FIRST) == [FIRST]


def test_after_the_last_segment_of_a_log_file_comes_the_first_of_the_next(program: ModuleType) -> None:
    names = ["0000000100000000000000FF.gz", "000000010000000100000000.gz", "000000020000000100000000.gz"]
    assert program.gaps(names, "0000000100000000000000FF") == []
    assert program.gaps([names[0], "000000010000000100000001.gz"], names[0][:24]) == [names[1][:24]]


def history(directory: Path, timeline: str, *ends: str) -> list[Path]:
    """The history that a server archives when it begins a timeline, each ancestor's end in it."""
    path = directory / f"{timeline}.history.gz"
    lines = [f"{number}\t{end}\tno recovery target specified\n" for number, end in enumerate(ends, 1)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return [path]


def test_the_past_of_the_newest_timeline(program: ModuleType, tmp_path: Path) -> None:
    files = history(tmp_path, "00000003", "0/A000098", "1/2000000")
    segment = tmp_path / "000000030000000100000002.gz"
    assert program.ancestors([*files, segment]) == {"00000001": 0x0A, "00000002": 0x102}
    assert program.ancestors([segment]) == {}
    assert program.ancestors(files) == {}
    # The server has begun it, and has no segment of it yet.
    assert program.ancestors([*files, tmp_path / f"{FIRST}.gz"]) == {}


def test_a_lost_leader_s_last_words_are_nobody_s_past(program: ModuleType) -> None:
    """Timeline 1 ended in 0B; what the lost leader wrote afterwards hides no gap, and is none."""
    past, second = {"00000001": 0x0B}, f"00000002{SECOND[8:]}"
    fourth = f"00000002{FOURTH[8:]}"
    names = [f"{name}.gz" for name in (FIRST, SECOND, THIRD, second, f"00000002{THIRD[8:]}", fourth)]
    assert program.along(names, FIRST, past) == [FIRST, second, f"00000002{THIRD[8:]}", fourth]
    assert program.gaps(names, FIRST, past) == []
    assert program.stretch(names, past) == (FIRST, fourth)
    names.remove(f"00000002{THIRD[8:]}.gz")
    assert program.gaps(names, FIRST, past) == [f"00000002{THIRD[8:]}"]
    assert program.stretch(names, past) == (fourth, fourth)


def test_a_new_timeline_that_begins_too_late(program: ModuleType) -> None:
    names = [f"{FIRST}.gz", f"00000002{THIRD[8:]}.gz"]
    assert program.gaps(names, FIRST, {"00000001": 0x0B}) == [SECOND]
    assert program.gaps(names, FIRST) == [SECOND]


def test_what_others_have_backed_up_of_the_log(program: ModuleType) -> None:
    one = log(program, "the lost leader's", 0, FIRST, SECOND)
    assert program.covers(one, FIRST, f"00000002{THIRD[8:]}")
    assert not program.covers(one, FIRST, FOURTH)
    assert not program.covers(one, BEFORE, THIRD)


def test_what_a_base_backup_makes_needless_leaves(program: ModuleType, tmp_path: Path) -> None:
    needless = [f"{FIRST}.gz", f"{FIRST}.00000028.backup.gz", f"{SECOND}.partial.gz"]
    stay = ["00000002.history.gz", f"00000002{SECOND[8:]}.gz", f".{FIRST}.part"]
    for name in (*needless, *stay):
        (tmp_path / name).touch()
    program.tidy(tmp_path, f"00000002{SECOND[8:]}", FIRST)
    assert len(list(tmp_path.iterdir())) == len(needless) + len(stay), "nothing newer is safe yet"
    program.tidy(tmp_path, f"00000002{SECOND[8:]}", f"00000002{SECOND[8:]}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)


def test_old_base_backups_go_and_two_stay(program: ModuleType) -> None:
    days = [base(program, str(day), -24 * day) for day in (30, 20, 15, 10, 5)]
    gone = program.expired(days, 14, NOON)
    # The one of 15 days ago serves the moments of 14 days ago.
    assert [one.id for one in gone] == ["30", "20"]
    assert program.expired(days[:2], 14, NOON) == []
    unfinished = [base(program, "old", -48, complete=False), base(program, "now", -1, complete=False)]
    assert [one.id for one in program.expired(unfinished, 14, NOON)] == ["old"]


def test_snapshots_of_the_log_that_a_newer_one_contains_go(program: ModuleType) -> None:
    snapshots = [
        log(program, "older", -3, FIRST, FIRST),
        log(program, "closing", -2, FIRST, SECOND),
        log(program, "newest", -1, SECOND, THIRD),
    ]
    assert [one.id for one in program.superseded(snapshots, [FIRST, SECOND])] == ["older"]
    assert [one.id for one in program.superseded(snapshots, [THIRD])] == ["older", "closing"]
    assert program.superseded([], []) == []


def test_what_another_machine_has_of_the_log_is_not_superseded(program: ModuleType) -> None:
    snapshots = [
        log(program, "a's", -2, FIRST, SECOND, machine="a"),
        log(program, "b's", -1, FIRST, THIRD, machine="b"),
        log(program, "b's newest", 0, FIRST, THIRD, machine="b"),
    ]
    assert [one.id for one in program.superseded(snapshots, [FIRST])] == ["b's"]
    assert [one.id for one in program.superseded(snapshots, [THIRD])] == ["a's", "b's"]


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("Fatal: unable to open config file: Lstat: no such file. Is there a repository at", "Mount"),
        ("Fatal: repository contains errors", "damaged"),
        ("ssh: connect to host vault port 22: Connection refused", "can't be reached"),
        ("Host key verification failed. unable to start the sftp session, error: unexpected EOF", "reached"),
        ("unable to start the sftp session, error: read |0: file already closed", "reached"),
        ("Fatal: wrong password or no key found", "passphrase"),
        ("write /srv/backup: no space left on device, No space left", "full"),
        ("something new", "docs/admin/backup.md"),
    ],
)
def test_every_failure_says_what_to_do(program: ModuleType, message: str, word: str) -> None:
    assert word in program.Failed(message).hint


def test_nobody_moves_files_while_they_are_backed_up(program: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with program.shared(lock):
        assert not lock.exists()
    lock.touch()
    with lock.open() as mover:
        with program.shared(lock), program.shared(lock), pytest.raises(BlockingIOError):
            fcntl.flock(mover, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(mover, fcntl.LOCK_EX | fcntl.LOCK_NB)
