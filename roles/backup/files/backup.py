#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Back up one part of a machine, check it, and get it back.

    backup.py init PART         make the part's repository, or see whether it is there
    backup.py run PART          back up now
    backup.py check PART        forget what is too old, and read the repository again
    backup.py adopt PART…       go on with a repository that another machine has filled
    backup.py moments           what can be got back, as JSON
    backup.py restore-database --to MOMENT --into DIRECTORY --wal-into DIRECTORY
    backup.py restore-files --to MOMENT --into DIRECTORY
    backup.py restore-inventory --into DIRECTORY

A part is `database` (base backups), `wal` (segments since), `files` or `inventory`; each has a restic repository of its own
below the target. What happened last stands in <state>/status/<part>.json and <part>-check.json. Python's standard library only.

Machines of one database with standbys share the repositories. Each archives the whole log on its own disk; the one whose server
takes writes backs up, the others look how old the backups are, and remove what the newest base backup makes needless.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/labfleet/backup.json")
SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})\.gz")
LABEL = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup\.gz")
"""What the server puts beside the segments when a base backup has ended."""
UNFINISHED = re.compile(r"[0-9A-F]{24}\.partial\.gz")
"""The last segment of a timeline that ended with a fail-over; the next timeline has all of it."""
SEGMENTS_PER_LOG = 256
SEGMENT_BITS = 24
OF_THE_DATABASE = ("database", "wal")
"""Parts that the machines of one database with standbys share."""
BASE = "base.tar"
INCOMPLETE = 3
"""What restic ends with when it could not read some of the files."""

HINTS = (
    (
        r"config file does not exist|Is there a repository|repository does not exist|unable to open config",
        "The target has no repository there. Mount or reconnect the target; it is never made anew by itself.",
    ),
    (r"wrong password|no key found", "The passphrase is not the one that the repository was made with."),
    # A connection that breaks off ends in the middle of something too: it is looked for first.
    (
        r"Connection refused|timed out|No route|Host key|Permission denied|Could not resolve|subprocess ssh|Access ?Denied"
        r"|start the sftp session",
        "The target can't be reached, or does not let this machine in: try it by hand, as the page says.",
    ),
    (
        r"ciphertext verification failed|contains errors|does not match|invalid data|unexpected EOF|not found in index",
        "The repository is damaged. Keep it, name another target, and make a backup there now; see 'A damaged target' in"
        " docs/admin/backup.md.",
    ),
    (r"No space left|quota exceeded", "The target is full: give it room, or keep backups for fewer days."),
    (
        r"already locked",
        "Another program works on the repository, or one died there: restic unlock removes what is stale.",
    ),
)
DEFAULT_HINT = "Read the message; docs/admin/backup.md tells what to do about each."


class Failed(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or next((told for words, told in HINTS if re.search(words, message)), DEFAULT_HINT)


@dataclass(frozen=True)
class Settings:
    """`/etc/labfleet/backup.json`, as the role writes it."""

    target: str
    state: Path
    cache: Path
    keep_days: int
    check_percent: int
    upload_kib_per_second: int
    sftp_command: str
    parts: dict[str, dict[str, Any]]
    member: str = ""
    """What this machine is called among those of one database with standbys; empty where it is the only one."""

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings of this machine."""
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**told, "state": Path(told["state"]), "cache": Path(told["cache"])})


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a repository; `tags` of the form name=value are its facts."""

    id: str
    time: datetime
    tags: frozenset[str] = frozenset()
    facts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Snapshot:
        """As restic tells it."""
        tags = told.get("tags") or []
        facts = dict(tag.split("=", 1) for tag in tags if "=" in tag)
        return cls(told["id"], moment(told["time"]), frozenset(tags), facts)


def moment(text: str) -> datetime:
    """A time with its zone; ValueError for anything else."""
    # restic tells nanoseconds, which Python 3.11 reads, but not more digits than six everywhere.
    found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone; write it like 2026-11-21T09:30:00Z")
    return found.astimezone(UTC)


def told(time_: datetime) -> str:
    """A time as tags and status files have it."""
    return time_.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def gaps(names: Iterable[str], first: str, past: Mapping[str, int] | None = None) -> list[str]:
    """Segments that are missing from `first` on: the first of each gap. `past` as `ancestors` tells it."""
    path = along(names, first, past or {})
    missing = [] if path and _number(path[0]) <= _number(first) else [first]
    return missing + [
        _name(one[:8], _number(one) + 1) for one, two in pairwise(path) if _number(two) > _number(one) + 1
    ]


def stretch(names: Iterable[str], past: Mapping[str, int]) -> tuple[str, str]:
    """The first and the last segment of the log's last stretch without a gap; `names` has one segment at least."""
    path = along(names, "", past)
    breaks = [two for one, two in pairwise(path) if _number(two) > _number(one) + 1]
    return (breaks or path)[-1 if breaks else 0], path[-1]


def along(names: Iterable[str], first: str, past: Mapping[str, int]) -> list[str]:
    """The segments from `first` on that lead to the newest timeline, in their order.

    A new timeline begins in the segment in which the old one ended. What the old one has from there on (a leader that was
    lost may have gone on for a while) is nobody's past; without `past` all of it is taken.
    """
    present = {name.removesuffix(".gz") for name in names if SEGMENT.fullmatch(name)}
    newest = max(present, default="")[:8]
    return sorted(
        name
        for name in present
        if name >= first and (not past or name[:8] == newest or _number(name) < past.get(name[:8], 0))
    )


def ancestors(paths: Iterable[Path]) -> dict[str, int]:
    """Of the newest timeline that has a segment among these files: the timelines before it, and the number of the
    segment in which each ended. Empty for a timeline without a past, and where its history is not among them."""
    found = {path.name: path for path in paths}
    newest = max((name for name in found if SEGMENT.fullmatch(name)), default="")[:8]
    history = found.get(f"{newest}.history.gz")
    if history is None:
        return {}
    with gzip.open(history, "rt", encoding="utf-8") as file:
        lines = re.findall(r"^(\d+)\s+([0-9A-F]+)/([0-9A-F]+)\s", file.read(), re.MULTILINE)
    return {
        f"{int(timeline):08X}": (int(high, 16) << 32 | int(low, 16)) >> SEGMENT_BITS
        for timeline, high, low in lines
    }


def _number(name: str) -> int:
    return int(name[8:16], 16) * SEGMENTS_PER_LOG + int(name[16:], 16)


def _name(timeline: str, number: int) -> str:
    return f"{timeline}{number // SEGMENTS_PER_LOG:08X}{number % SEGMENTS_PER_LOG:08X}"


def choose_base(snapshots: Sequence[Snapshot], to: datetime | None) -> Snapshot:
    """The newest complete base backup that had ended by then."""
    whole = complete(snapshots)
    early = [one for one in whole if to is None or moment(one.facts["ended"]) <= to]
    if not early:
        oldest = min((one.facts["ended"] for one in whole), default="")
        hint = (
            f"The oldest moment is {oldest}."
            if oldest
            else "Look at the target: it has no complete base backup."
        )
        raise Failed(f"There is no base backup from before {told(to) if to else 'now'}.", hint)
    return max(early, key=lambda one: moment(one.facts["ended"]))


def choose_logs(snapshots: Sequence[Snapshot], base: Snapshot) -> list[Snapshot]:
    """The newest snapshot of the log that begins early enough for this base backup, and covers it; after it those of
    other machines that go on where it ends: who has taken the leader's place may not have had all of its log."""
    alive = [one for one in snapshots if one.facts.get("generation") == base.facts["generation"]]
    fitting = [
        one
        for one in alive
        if one.facts["first"] <= base.facts["start"] and one.facts["last"] >= base.facts["stop"]
    ]
    if not fitting:
        raise Failed(
            f"The log from {base.facts['start']} to {base.facts['stop']} is not in the backup: the base backup of"
            f" {base.facts['ended']} can't be used.",
            "Name an earlier moment (-e restore_to=…), for which an older base backup is taken.",
        )
    chosen = [max(fitting, key=lambda one: one.time)]
    for one in sorted(alive, key=lambda one: one.time):
        if one.time > chosen[-1].time and goes_on(chosen[-1], one):
            chosen.append(one)
    return chosen


def goes_on(before: Snapshot, after: Snapshot) -> bool:
    """Whether another machine's log begins where this one ends, or earlier, and has more."""
    return (
        before.facts.get("machine") != after.facts.get("machine")
        and _number(after.facts["first"]) <= _number(before.facts["last"]) + 1
        and after.facts["last"] > before.facts["last"]
    )


def choose_files(snapshots: Sequence[Snapshot], to: datetime | None) -> Snapshot:
    """The first snapshot that began at that moment or later: files only ever come. Else the newest."""
    if not snapshots:
        raise Failed("The target has no backup of the files.", "Look at the target, and at its other copies.")
    late = [one for one in snapshots if to is not None and one.time >= to]
    return min(late, key=lambda one: one.time) if late else max(snapshots, key=lambda one: one.time)


def superseded(snapshots: Sequence[Snapshot], bases: Sequence[str]) -> list[Snapshot]:
    """Snapshots of the log that nobody needs: for each first segment of a machine the newest stays, and of these only
    such as a base backup (its first segments are `bases`) can be restored with, and the newest of all."""
    groups: dict[tuple[str, ...], list[Snapshot]] = {}
    for one in snapshots:
        key = (one.facts.get("generation", ""), one.facts.get("machine", ""), one.facts["first"])
        groups.setdefault(key, []).append(one)
    newest = [max(group, key=lambda one: one.time) for group in groups.values()]
    last = max(newest, key=lambda one: one.time, default=None)
    oldest = min(bases, default="")
    kept = {one.id for one in newest if one is last or one.facts["last"] >= oldest}
    return [one for one in snapshots if one.id not in kept]


def expired(snapshots: Sequence[Snapshot], keep_days: int, at: datetime) -> list[Snapshot]:
    """Base backups that are too old (the two newest stay), and such as never became complete."""
    limit = at - timedelta(days=keep_days)
    whole = sorted(complete(snapshots), key=lambda one: one.time)
    # One that is older than the limit still serves the moments up to the next one.
    reaching = {one.id for one, after in pairwise(whole) if after.time >= limit}
    kept = {one.id for one in whole if one.time >= limit} | {one.id for one in whole[-2:]} | reaching
    return [
        one
        for one in snapshots
        if one.id not in kept and ("complete" in one.tags or one.time < at - timedelta(days=1))
    ]


class Repository:
    """The restic repository of one part."""

    def __init__(self, settings: Settings, part: str) -> None:
        self.settings = settings
        self.part = part
        self.location = f"{settings.target}/{part}"
        self.mark = settings.state / f"{part}.repository"

    def restic(
        self, *arguments: str, good: Sequence[int] = (0,), **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run restic; Failed with the end of what it said."""
        for turn in (1, 2):
            done = subprocess.run(
                self.command(*arguments),
                env=self.environment(),
                text=True,
                capture_output=True,
                check=False,
                **more,
            )
            # Somebody of this machine died at work: this part has one at a time (see `locked`), and only stale locks go.
            if turn == 1 and done.returncode not in good and "already locked" in done.stderr:
                subprocess.run(
                    self.command("unlock"), env=self.environment(), capture_output=True, check=False
                )
                continue
            break
        if done.returncode not in good:
            raise Failed(_end_of(done.stderr or done.stdout) or f"restic ended with {done.returncode}")
        return done

    def command(self, *arguments: str) -> list[str]:
        """The argv; no secret stands in it."""
        ssh = self.settings.sftp_command.replace("{credentials}", os.environ["CREDENTIALS_DIRECTORY"])
        options = ["--option", f"sftp.command={ssh}"] if ssh else []
        if self.settings.upload_kib_per_second:
            options += ["--limit-upload", str(self.settings.upload_kib_per_second)]
        return ["restic", *options, *arguments]

    def environment(self) -> dict[str, str]:
        """Names of files with secrets, and no secret."""
        credentials = os.environ["CREDENTIALS_DIRECTORY"]
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C",
            "HOME": str(self.settings.state),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "RESTIC_REPOSITORY": self.location,
            "RESTIC_PASSWORD_FILE": f"{credentials}/password_{self.part}",
            "RESTIC_CACHE_DIR": str(self.settings.cache),
            "AWS_SHARED_CREDENTIALS_FILE": f"{credentials}/s3",
        }

    def identity(self) -> str | None:
        """The repository's own id; None where there is none."""
        try:
            told_ = self.restic("cat", "config", "--no-lock").stdout
        except Failed as error:
            if error.hint == HINTS[0][1]:
                return None
            raise
        return str(json.loads(told_)["id"])

    def snapshots(self) -> list[Snapshot]:
        """All of them, oldest first."""
        found = json.loads(self.restic("snapshots", "--json", "--no-lock").stdout) or []
        return sorted((Snapshot.of(one) for one in found), key=lambda one: one.time)

    def forget(self, snapshots: Sequence[Snapshot]) -> None:
        """Forget these; their data goes with the next prune."""
        if snapshots:
            self.restic("forget", *(one.id for one in snapshots))

    def own(self) -> None:
        """Failed unless this machine has made the repository or adopted it."""
        identity = self.identity()
        if identity is None:
            raise Failed(f"{self.location}: config file does not exist")
        if not self.mark.exists() or self.mark.read_text().strip() != identity:
            raise Failed(
                f"{self.location} holds backups that this machine has not made.",
                "If this machine takes the place of another one, run playbooks/restore.yml. To go on there without a"
                " restore, run playbooks/backup.yml -e backup_adopt=true.",
            )

    def adopt(self) -> None:
        """From now on this machine's."""
        identity = self.identity()
        if identity is None:
            raise Failed(f"{self.location}: config file does not exist")
        self.mark.write_text(f"{identity}\n")

    def init(self) -> str:
        """Make it where there is none: `made`, `unchanged`, or `foreign` for one of another machine."""
        identity = self.identity()
        if identity is None and self.mark.exists():
            raise Failed(
                f"{self.location}: config file does not exist, and this machine has made a repository there."
            )
        if identity is None:
            self.restic("init")
            self.adopt()
            return "made"
        return "unchanged" if self.mark.exists() and self.mark.read_text().strip() == identity else "foreign"

    def back_up(self, *arguments: str, tags: Sequence[str]) -> dict[str, Any]:
        """One snapshot; restic's summary of it. It is looked up again, so that what is told is there."""
        options = ["--json", "--host", "labfleet", *(f"--tag={tag}" for tag in tags)]
        for attempt in (1, 2):
            done = self.restic("backup", *options, *arguments, good=(0, INCOMPLETE))
            if done.returncode == 0:
                break
            # A file that was there when the directory was read may be gone when its turn comes; not twice.
            if attempt == 2:
                raise Failed(
                    f"Some files could not be read: {_end_of(done.stderr)}", "Mend their owner or mode."
                )
        return self.confirmed(summary(done.stdout))

    def confirmed(self, summary_: dict[str, Any]) -> dict[str, Any]:
        """The summary with the whole id of its snapshot, of which restic tells the beginning; Failed if it is not there."""
        (found,) = json.loads(self.restic("snapshots", "--json", "--no-lock", summary_["snapshot_id"]).stdout)
        return {**summary_, "snapshot_id": found["id"]}


def summary(output: str) -> dict[str, Any]:
    """The last word of `restic backup --json`."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    found: dict[str, Any] = next(line for line in reversed(lines) if line.get("message_type") == "summary")
    return found


def _end_of(text: str, characters: int = 600) -> str:
    """The end of what a program said, in one line."""
    return " ".join(text.split())[-characters:]


def run_database(repository: Repository) -> dict[str, Any]:
    """A base backup, straight from the server into the repository."""
    settings = repository.settings.parts["database"]
    tags = ["base", f"generation={_generation(repository)}"]
    label = f"labfleet {secrets.token_hex(8)}"
    dump = [
        f"{settings['bin']}/pg_basebackup",
        *("--pgdata=-", "--format=tar", "--wal-method=none", "--checkpoint=fast", "--no-password"),
        f"--label={label}",
        f"--port={settings['port']}",
    ]
    keep = repository.command(
        "backup",
        "--json",
        "--host",
        "labfleet",
        *(f"--tag={tag}" for tag in tags),
        "--stdin",
        "--stdin-filename",
        BASE,
    )
    server = subprocess.Popen(
        dump, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
    )
    kept = subprocess.run(
        keep, stdin=server.stdout, env=repository.environment(), capture_output=True, text=True, check=False
    )
    assert server.stdout and server.stderr
    server.stdout.close()
    words = server.stderr.read().decode(errors="replace")
    if kept.returncode:
        server.terminate()
    if server.wait() and not kept.returncode:
        raise Failed(f"pg_basebackup: {_end_of(words)}", "Is the server up, and does it let this user in?")
    if kept.returncode:
        raise Failed(_end_of(kept.stderr))
    told_ = summary(kept.stdout)
    facts = {**ends(Path(repository.settings.parts["wal"]["directory"]), label), "ended": told(now())}
    added = ",".join(["complete", *(f"{name}={value}" for name, value in facts.items())])
    repository.restic("tag", "--add", added, told_["snapshot_id"])
    _write(repository.settings.state / "base.json", facts)
    return told_


def ends(directory: Path, label: str) -> dict[str, str]:
    """The first and the last segment that the base backup of this label needs, as the server has archived it."""
    for path in sorted(directory.iterdir(), reverse=True):
        if LABEL.fullmatch(path.name):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                words = file.read()
            if f"LABEL: {label}\n" in words:
                found = dict(
                    re.findall(
                        r"^(START|STOP) WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)", words, re.MULTILINE
                    )
                )
                return {"start": found["START"], "stop": found["STOP"]}
    raise Failed(
        f"{directory} does not tell where the base backup begins.", "Does the server archive its log there?"
    )


def run_wal(repository: Repository) -> dict[str, Any]:
    """What the server has archived since the last base backup but one; older segments leave the machine."""
    settings = repository.settings
    directory = Path(settings.parts["wal"]["directory"])
    paths = list(directory.iterdir())
    names = sorted(path.name for path in paths if SEGMENT.fullmatch(path.name))
    if not names:
        return {"data_added": 0, "total_bytes_processed": 0, "snapshot_id": None}
    past = ancestors(paths)
    first, last = stretch(names, past)
    own = {"wal", f"generation={_generation(repository)}", f"first={first}"}
    own |= {f"machine={settings.member}"} if settings.member else set()
    told_ = repository.back_up("--exclude=.*.part", str(directory), tags=[*sorted(own), f"last={last}"])
    known = repository.snapshots()
    repository.forget(
        [
            one
            for one in known
            if own <= one.tags and one.id != told_["snapshot_id"] and one.facts["last"] <= last
        ]
    )
    base = newest_base(settings)
    missing: list[str] = []
    if base:
        tidy(directory, base["start"], last)
        missing = gaps(names, max(base["start"], names[0].removesuffix(".gz")), past)
        # Another machine of the database may have backed up what this one never had.
        if settings.member and any(covers(one, base["start"], first) for one in known):
            missing = []
    if settings.member and (missing or not base or base["start"][:8] != server(settings).timeline):
        # labfleet-backup-database.path waits for it.
        (settings.state / "base.wanted").write_text(f"{told(now())}\n", encoding="utf-8")
    if missing:
        raise Failed(
            f"The log lacks {', '.join(missing[:5])}: moments after it can't be got back.",
            "Make a base backup now: systemctl start labfleet-backup-database.service.",
        )
    return told_


def covers(one: Snapshot, start: str, end: str) -> bool:
    """Whether this snapshot of the log has what is before `end`, from `start` on."""
    return one.facts["first"] <= start and _number(one.facts["last"]) + 1 >= _number(end)


def tidy(directory: Path, start: str, last: str) -> None:
    """Segments that the base backup that begins with `start` does not need leave the machine, once `last` is newer."""
    for path in directory.iterdir():
        known = any(kind.fullmatch(path.name) for kind in (SEGMENT, LABEL, UNFINISHED))
        if known and path.name[:24] < start <= last:
            path.unlink()


def newest_base(settings: Settings) -> dict[str, str]:
    """`start` and more of the newest complete base backup; empty where there is none. Of the machines of one database
    any may have made it: then the repository is asked."""
    if not settings.member:
        return _read(settings.state / "base.json")
    found = complete(Repository(settings, "database").snapshots())
    return found[-1].facts if found else {}


def complete(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Those base backups that can be restored, oldest first."""
    return [one for one in snapshots if "complete" in one.tags]


@dataclass(frozen=True)
class Server:
    """What the machine's PostgreSQL says of itself."""

    standby: bool
    timeline: str


def server(settings: Settings) -> Server:
    """Ask it, by the one connection that its user may make: what `pg_is_in_recovery()` would say, and the timeline."""
    asked = settings.parts["database"]
    connection = f"dbname=postgres replication=true port={asked['port']}"
    done = subprocess.run(
        [
            *(
                f"{asked['bin']}/psql",
                "--no-psqlrc",
                "--no-password",
                "--quiet",
                "--tuples-only",
                "--no-align",
            ),
            *("--dbname", connection, "--command", "SHOW in_hot_standby", "--command", "IDENTIFY_SYSTEM"),
        ],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    words = done.stdout.split()
    if done.returncode or len(words) != 2:  # one to each question
        raise Failed(
            f"Nobody can tell whether this server leads: {_end_of(done.stderr or done.stdout)}",
            "Is the server up, and does it let this user in?",
        )
    return Server(words[0] == "on", f"{int(words[1].split('|')[1]):08X}")


def follow(repository: Repository, verb: str) -> dict[str, Any]:
    """What a standby does instead: how old the cluster's backup is, and no more of the log here than somebody needs."""
    settings = repository.settings
    snapshots = repository.snapshots()
    if verb == "run" and repository.part == "wal":
        base = newest_base(settings)
        if base:
            tidy(Path(settings.parts["wal"]["directory"]), base["start"], base["stop"])
        _tell_of_base(settings, base)
    if repository.part == "database":
        snapshots = complete(snapshots)
    newest = snapshots[-1] if snapshots else None
    done: dict[str, Any] = {
        "data_added": 0,
        "total_bytes_processed": None,
        "snapshot_id": newest and newest.id,
    }
    if verb == "run":
        done["at"] = newest and newest.facts.get("ended", told(newest.time))
    return done


def _tell_of_base(settings: Settings, base: Mapping[str, str]) -> None:
    """The age of the cluster's base backup, which another machine makes once a day, as often as the log is looked at."""
    path = settings.state / "status" / "database.json"
    before = _read(path)
    if base and before.get("last_success") != base["ended"]:
        try:
            with locked(settings, "database", wait=False):
                _write(
                    path,
                    {**before, "part": "database", "ok": True, "last_success": base["ended"], "error": None},
                )
        except BlockingIOError:
            pass  # its own unit is about to tell it


def run_files(repository: Repository) -> dict[str, Any]:
    """The store and the protocols."""
    settings = repository.settings.parts["files"]
    excluded = [f"--exclude={pattern}" for pattern in settings["exclude"]]
    with shared(Path(settings["lock"])):
        return repository.back_up(*excluded, *settings["paths"], tags=["files"])


def run_inventory(repository: Repository) -> dict[str, Any]:
    """The controller's inventory, which came here encrypted."""
    return repository.back_up(repository.settings.parts["inventory"]["file"], tags=["inventory"])


RUN = {"database": run_database, "wal": run_wal, "files": run_files, "inventory": run_inventory}


def _generation(repository: Repository) -> str:
    """Names the life of this machine's database: a restored one begins a new one. Machines of one database have the same:
    who has not led yet takes it over from who has."""
    path = repository.settings.state / "generation"
    if not path.exists():
        known = repository.snapshots() if repository.settings.member else []
        name = known[-1].facts["generation"] if known else secrets.token_hex(8)
        # The units of two parts may come here at once.
        with locked(repository.settings, "generation"):
            if not path.exists():
                path.write_text(f"{name}\n")
    return path.read_text().strip()


def check(repository: Repository) -> dict[str, Any]:
    """Forget what is too old, free its room, and read the repository again, a part of its data too."""
    days = repository.settings.keep_days
    repository.restic("unlock")
    if repository.part == "database":
        repository.forget(expired(repository.snapshots(), days, now()))
    elif repository.part == "wal":
        repository.forget(superseded(repository.snapshots(), _starts(repository.settings)))
    else:
        keep = [
            "--keep-within=1d",
            "--keep-within-hourly=3d",
            f"--keep-within-daily={days}d",
            "--keep-last=2",
        ]
        repository.restic("forget", "--group-by=host", *keep)
    repository.restic("prune")
    repository.restic("check", f"--read-data-subset={repository.settings.check_percent}%")
    if repository.part == "database":
        starts = [one.facts["start"] for one in complete(repository.snapshots())]
        _write(repository.settings.state / "bases.json", {"starts": starts})
    newest = repository.snapshots()[-1:]
    if not newest:
        raise Failed(f"{repository.location} has no backup.", "Start the part's unit, and see what it says.")
    return {"data_added": 0, "total_bytes_processed": 0, "snapshot_id": newest[0].id}


def _starts(settings: Settings) -> list[str]:
    """The first segments of the base backups that can be restored; as the last check of them has written it down, where
    this machine is the only one that makes them."""
    if settings.member:
        return [one.facts["start"] for one in complete(Repository(settings, "database").snapshots())]
    starts: list[str] = _read(settings.state / "bases.json").get("starts", [])
    return starts


def restore_database(settings: Settings, to: datetime | None, into: Path, wal_into: Path) -> dict[str, str]:
    """The base backup's files into one directory, the log into another; which ones they are."""
    bases, log = Repository(settings, "database"), Repository(settings, "wal")
    base = choose_base(bases.snapshots(), to)
    logs = choose_logs(log.snapshots(), base)
    dump = subprocess.Popen(
        bases.command("dump", "--no-lock", base.id, f"/{BASE}"),
        env=bases.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
    )
    unpacked = subprocess.run(
        ["tar", "--extract", "--directory", str(into)],
        stdin=dump.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert dump.stdout and dump.stderr
    dump.stdout.close()
    words = dump.stderr.read().decode(errors="replace")
    if dump.wait() or unpacked.returncode:
        raise Failed(_end_of(words + unpacked.stderr))
    for one in logs:
        log.restic("restore", "--no-lock", one.id, "--target", str(wal_into))
    paths = list(wal_into.rglob("*.gz"))
    missing = gaps([path.name for path in paths], base.facts["start"], ancestors(paths))
    if missing:
        raise Failed(
            f"The log lacks {missing[0]}: nothing after it can be got back.",
            "Name a moment before that segment was written: -e restore_to=…",
        )
    return {"base": base.facts["ended"], "log": told(logs[-1].time), "last": logs[-1].facts["last"]}


def restore_files(settings: Settings, to: datetime | None, into: Path) -> dict[str, str]:
    """The files below a directory, each below its old path."""
    repository = Repository(settings, "files")
    chosen = choose_files(repository.snapshots(), to)
    repository.restic("restore", "--no-lock", chosen.id, "--target", str(into))
    return {"files": told(chosen.time)}


def restore_inventory(settings: Settings, into: Path) -> dict[str, str]:
    """The encrypted inventory below a directory."""
    repository = Repository(settings, "inventory")
    chosen = choose_files(repository.snapshots(), None)
    repository.restic("restore", "--no-lock", chosen.id, "--target", str(into))
    return {"inventory": told(chosen.time)}


def moments(settings: Settings) -> dict[str, Any]:
    """What can be got back of each part."""
    found: dict[str, Any] = {}
    for part in settings.parts:
        snapshots = Repository(settings, part).snapshots()
        if part == "database":
            found["base_backups"] = [one.facts["ended"] for one in snapshots if "complete" in one.tags]
        elif snapshots:
            found[part] = {"oldest": told(snapshots[0].time), "newest": told(snapshots[-1].time)}
    return found


def attempt(settings: Settings, verb: str, part: str) -> int:
    """Do it, and write down how it went; 1 with a line on standard error when it did not."""
    name = part if verb == "run" else f"{part}-check"
    path = settings.state / "status" / f"{name}.json"
    before, begin = _read(path), time.monotonic()
    status: dict[str, Any] = {
        "part": part,
        "verb": verb,
        "expected_every_seconds": settings.parts[part]["every_seconds"] if verb == "run" else 86400,
        "started": told(now()),
        "last_success": before.get("last_success"),
        "snapshot": before.get("snapshot"),
        "bytes_total": before.get("bytes_total"),
    }
    try:
        with locked(settings, part):
            repository = Repository(settings, part)
            repository.own()
            if settings.member and part in OF_THE_DATABASE and server(settings).standby:
                status["skipped"] = (
                    f"{settings.member} is a standby: the machine that leads backs up the database."
                )
                done = {"at": before.get("last_success"), **follow(repository, verb)}
            else:
                done = RUN[part](repository) if verb == "run" else check(repository)
        status |= {
            "ok": True,
            "last_success": done["at"] if "at" in done else told(now()),
            "snapshot": done["snapshot_id"],
            "bytes_added": done["data_added"],
            "bytes_total": done["total_bytes_processed"],
            "error": None,
            "hint": None,
        }
    except (Failed, OSError, ValueError, KeyError) as error:
        hint = error.hint if isinstance(error, Failed) else DEFAULT_HINT
        status |= {"ok": False, "bytes_added": 0, "error": str(error) or repr(error), "hint": hint}
    status |= {"finished": told(now()), "seconds": round(time.monotonic() - begin, 1)}
    _write(path, status)
    _write(settings.state / "status.json", overall(settings))
    if status["ok"] and status.get("skipped"):
        print(
            f"{name}: nothing to do. {status['skipped']} Its last success: {status['last_success'] or 'none yet'}"
        )
        return 0
    if status["ok"]:
        print(
            f"{name}: {status['bytes_added']} bytes added in {status['seconds']} s, snapshot {status['snapshot']}"
        )
        return 0
    print(f"<3>The backup of '{part}' failed ({verb}): {status['error']}", file=sys.stderr)
    print(f"<3>What to do: {status['hint']}", file=sys.stderr)
    return 1


def overall(settings: Settings) -> dict[str, Any]:
    """The machine's backups in one: since when something of it has not been backed up, and what is wrong."""
    timed = [part for part, asked in settings.parts.items() if asked["every_seconds"]]
    parts = {part: _read(settings.state / "status" / f"{part}.json") for part in timed}
    checks = {part: _read(settings.state / "status" / f"{part}-check.json") for part in settings.parts}
    successes = [told_.get("last_success") for told_ in parts.values()]
    wrong = [told_ for told_ in (*parts.values(), *checks.values()) if told_.get("ok") is False]
    # The oldest, so that one part that fails is not hidden by another.
    last = None if None in successes or not successes else min(map(str, successes))
    return {
        "ok": not wrong and None not in successes,
        "last_success": last,
        "succeeded_at": moment(last).timestamp() if last else None,
        "error": "; ".join(f"{told_['part']}: {told_['error']}" for told_ in wrong) or None,
    }


@contextmanager
def locked(settings: Settings, part: str, *, wait: bool = True) -> Iterator[None]:
    """One at a time on this part: the others wait, or get a `BlockingIOError`."""
    with (settings.state / f"{part}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Let nobody move files meanwhile who asks for this lock alone; where there is none, nobody does."""
    try:
        lock = path.open()
    except FileNotFoundError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def _to(text: str) -> datetime | None:
    return None if text == "latest" else moment(text)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="labfleet-backup", description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("init", "run", "check"):
        verbs.add_parser(verb).add_argument("part")
    verbs.add_parser("adopt").add_argument("parts", nargs="+")
    verbs.add_parser("moments")
    for verb in ("restore-database", "restore-files", "restore-inventory"):
        restore = verbs.add_parser(verb)
        restore.add_argument("--to", type=_to, default=None)
        restore.add_argument("--into", type=Path, required=True)
        if verb == "restore-database":
            restore.add_argument("--wal-into", type=Path, required=True)
    return parser.parse_args()


def main() -> int:
    """Entry point."""
    asked = arguments()
    os.umask(0o027)
    settings = Settings.read(Path(os.environ.get("LABFLEET_BACKUP_CONFIG", CONFIG)))
    if asked.verb in ("run", "check"):
        return attempt(settings, asked.verb, asked.part)
    try:
        match asked.verb:
            case "init":
                print(Repository(settings, asked.part).init())
            case "adopt":
                for part in asked.parts:
                    Repository(settings, part).adopt()
            case "moments":
                print(json.dumps(moments(settings), indent=1))
            case "restore-database":
                print(json.dumps(restore_database(settings, asked.to, asked.into, asked.wal_into)))
            case "restore-files":
                print(json.dumps(restore_files(settings, asked.to, asked.into)))
            case "restore-inventory":
                print(json.dumps(restore_inventory(settings, asked.into)))
    except Failed as error:
        print(f"{error}\nWhat to do: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
