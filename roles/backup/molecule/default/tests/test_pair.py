"""One database of two servers that share the repositories: who leads backs up, and a fail-over costs nothing of the log.

Both servers are on the one machine here, each with an archive, a state and a configuration of its own, as two machines have
them; nothing of them is the server that the other tests back up. The tests build on each other.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

HOME = "/srv/pair"
USER = "labfleet-backup"
ARCHIVE = "/usr/local/lib/postgresql-archive-segment"
PROGRAM = "/usr/local/lib/labfleet/backup.py"
PORTS = {"a": 5441, "b": 5442, "restored": 5443}
SETTINGS = {
    "archive_mode": "always",
    "wal_log_hints": "on",
    "max_wal_size": "256MB",
    "shared_buffers": "16MB",
    "wal_keep_size": "512MB",
}
SECONDS = 180


def until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS} s"
        time.sleep(0.2)


class Pair:
    """The servers `a` and `b`, and what is restored of them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.bin = host.check_output("ls -d /usr/lib/postgresql/*/bin | tail -n 1")

    def postgres(self, command: str) -> str:
        return str(self.host.check_output(f"cd / && runuser -u postgres -- {command}"))

    def query(self, name: str, sql: str) -> str:
        return self.postgres(f'psql -XAtq -p {PORTS[name]} -d postgres -c "{sql}"')

    def make(self) -> None:
        """One server, and the other as its standby."""
        self.host.check_output(
            f"mkdir -p {HOME} && cd {HOME} && mkdir a b credentials cache repositories && chown postgres {HOME} a b && "
            f"printf %064d 1 > credentials/password_database && printf %064d 2 > credentials/password_wal && "
            f"chown -R {USER} credentials cache repositories"
        )
        for name in "ab":
            self.host.check_output(
                f"cd {HOME}/{name} && install -d -o postgres -g postgresql-archive -m 2770 archive && "
                f"install -d -o {USER} state state/status"
            )
            settings = {
                "target": f"{HOME}/repositories",
                "state": f"{HOME}/{name}/state",
                "cache": f"{HOME}/cache",
                "keep_days": 14,
                "check_percent": 100,
                "upload_kib_per_second": 0,
                "sftp_command": "",
                "member": name,
                "parts": {
                    "database": {"every_seconds": 86400, "bin": self.bin, "port": PORTS[name]},
                    "wal": {"every_seconds": 120, "directory": f"{HOME}/{name}/archive"},
                },
            }
            self.host.check_output(f"echo '{json.dumps(settings)}' > {HOME}/{name}/backup.json")
        self.postgres(f"{self.bin}/initdb --auth=peer --pgdata={HOME}/a/data --no-sync")
        self.configure("a")
        self.start("a")
        self.query("a", f'CREATE ROLE \\"{USER}\\" LOGIN REPLICATION; CREATE TABLE rows (n int)')
        self.copy("a", "b")

    def configure(self, name: str) -> None:
        """Ports and archives are each server's own, whatever it was copied of."""
        more = {"port": PORTS[name], "archive_command": f"{ARCHIVE} %p %f {HOME}/{name}/archive replace"}
        lines = "\n".join(f"{key} = '{value}'" for key, value in {**SETTINGS, **more}.items())
        data = f"{HOME}/{name}/data"
        self.host.check_output(
            f"grep -q own.conf {data}/postgresql.conf || echo \"include 'own.conf'\" >> {data}/postgresql.conf; "
            f"cat > {data}/own.conf <<'END'\n{lines}\nEND\nchown postgres {data}/own.conf"
        )

    def copy(self, of: str, name: str) -> None:
        slot = self.query(of, f"SELECT slot_name FROM pg_create_physical_replication_slot('{name}', true)")
        self.postgres(
            f"{self.bin}/pg_basebackup --pgdata={HOME}/{name}/data --port={PORTS[of]} --slot={slot} --write-recovery-conf"
        )
        self.configure(name)
        self.start(name)

    def start(self, name: str) -> None:
        self.postgres(
            f"{self.bin}/pg_ctl start --wait --timeout={SECONDS} --pgdata={HOME}/{name}/data --log={HOME}/{name}/said"
        )

    def stop(self, name: str, mode: str = "fast") -> None:
        self.postgres(f"{self.bin}/pg_ctl stop --wait --pgdata={HOME}/{name}/data --mode={mode}")

    def promote(self, name: str) -> None:
        self.postgres(f"{self.bin}/pg_ctl promote --wait --pgdata={HOME}/{name}/data")

    def write(self, name: str, rows: int) -> None:
        """Rows in a segment that both have archived in the end."""
        self.query(name, f"INSERT INTO rows SELECT generate_series(1, {rows})")
        segment = self.query(name, "SELECT pg_walfile_name(pg_switch_wal())")
        for one in [name, *("ab".replace(name, "") if self.streams(name) else "")]:
            archive = f"{HOME}/{one}/archive/{segment}.gz"
            until(f"{archive} is there", lambda path=archive: self.host.run(f"test -e {path}").rc == 0)  # type: ignore[misc]

    def streams(self, name: str) -> bool:
        return self.query(name, "SELECT count(*) FROM pg_stat_replication") == "1"

    def backup(self, name: str, words: str, user: str = USER) -> str:
        done = self.host.run(
            f"cd / && runuser -u {user} -- env CREDENTIALS_DIRECTORY={HOME}/credentials "
            f"LABFLEET_BACKUP_CONFIG={HOME}/{name}/backup.json {PROGRAM} {words} 2>&1"
        )
        assert done.rc == 0, done.stdout
        return str(done.stdout)

    def status(self, name: str, part: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            self.host.file(f"{HOME}/{name}/state/status/{part}.json").content_string
        )
        return told

    def segments(self, name: str) -> set[str]:
        return {
            one
            for one in self.host.file(f"{HOME}/{name}/archive").listdir()
            if len(one) == len("000000010000000000000001.gz")
        }

    def wants_base(self, name: str) -> bool:
        """Whether the machine has asked for a base backup since the last time."""
        return bool(self.host.run(f"rm {HOME}/{name}/state/base.wanted").rc == 0)

    def restored_rows(self, name: str) -> int:
        """How many rows a server has that was made of the backup alone."""
        place = f"{HOME}/restored"
        self.host.check_output(f"rm -rf {place} && install -d -o postgres -m 0700 {place} {place}/data {place}/log")
        self.backup(name, f"restore-database --into {place}/data --wal-into {place}/log", user="root")
        self.host.check_output(
            f"find {place}/log -mindepth 2 -name '*.gz' -exec mv -t {place}/log {{}} + ; "
            f"touch {place}/data/recovery.signal; "
            f"cat > {place}/data/own.conf <<'END'\nport = {PORTS['restored']}\n"
            f"restore_command = 'test -f {place}/log/%f.gz && gzip -dc {place}/log/%f.gz > \"%p\"'\n"
            f"recovery_target_action = 'promote'\nEND\nchown -R postgres {place}"
        )
        self.postgres(f"{self.bin}/pg_verifybackup --no-parse-wal --quiet --ignore=own.conf --ignore=recovery.signal {place}/data")
        self.start("restored")
        until("it has read the log", lambda: self.query("restored", "SELECT pg_is_in_recovery()") == "f")
        rows = int(self.query("restored", "SELECT count(*) FROM rows"))
        self.stop("restored")
        return rows


@pytest.fixture(scope="module")
def pair(host: Host) -> Iterator[Pair]:
    pair = Pair(host)
    host.check_output(f"rm -rf {HOME}")
    pair.make()
    yield pair
    for name in PORTS:
        host.run(f"cd / && runuser -u postgres -- {pair.bin}/pg_ctl stop --mode=immediate --pgdata={HOME}/{name}/data")
    host.run(f"rm -rf {HOME}")


def test_one_makes_the_repositories_and_the_other_takes_part(pair: Pair) -> None:
    for part in ("database", "wal"):
        assert pair.backup("a", f"init {part}").strip() == "made"
        assert pair.backup("b", f"init {part}").strip() == "foreign"
        pair.backup("b", f"adopt {part}")
        assert pair.backup("b", f"init {part}").strip() == "unchanged"


def test_before_there_is_a_backup_the_standby_knows_of_none(pair: Pair) -> None:
    pair.backup("b", "run wal")
    assert pair.status("b", "wal")["last_success"] is None
    assert not pair.host.file(f"{HOME}/b/state/generation").exists


def test_who_leads_backs_up_and_the_standby_says_why_it_does_not(pair: Pair) -> None:
    pair.write("a", 10)
    assert "snapshot" in pair.backup("a", "run wal")
    assert pair.wants_base("a"), "there is none of this timeline yet"
    pair.backup("a", "run database")
    pair.backup("a", "run wal")
    assert not pair.wants_base("a")
    for part in ("database", "wal"):
        for verb in ("run", "check"):
            assert "b is a standby: the machine that leads backs up" in pair.backup("b", f"{verb} {part}")
    assert pair.status("b", "database")["last_success"] <= pair.status("a", "database")["last_success"]
    assert pair.status("b", "wal")["snapshot"] == pair.status("a", "wal")["snapshot"]
    assert json.loads(pair.host.file(f"{HOME}/b/state/status.json").content_string)["succeeded_at"]


def test_a_standby_has_the_whole_log_and_no_more_of_it_than_is_needed(pair: Pair) -> None:
    pair.write("a", 20)
    before = pair.segments("b")
    pair.backup("a", "run database")
    # The standby learns of it by the log's unit, though another machine has made it.
    pair.backup("b", "run wal")
    assert pair.status("b", "database")["last_success"] == json.loads(
        pair.host.file(f"{HOME}/a/state/base.json").content_string
    )["ended"]
    pair.backup("a", "run wal")
    until("they have the same", lambda: pair.segments("a") == pair.segments("b"))
    assert min(pair.segments("b")) > min(before)


def test_a_fail_over_costs_nothing_of_the_log(pair: Pair) -> None:
    pair.write("a", 30)
    pair.backup("a", "run wal")
    # What the leader has archived, and not yet backed up when it is lost with its disk.
    pair.write("a", 40)
    pair.stop("a", "immediate")
    pair.promote("b")
    pair.write("b", 50)
    assert "is a standby" not in pair.backup("b", "run wal")
    assert pair.status("b", "wal")["ok"]
    generations = {pair.host.file(f"{HOME}/{name}/state/generation").content_string for name in "ab"}
    assert len(generations) == 1
    # The base backup is the lost one's, the log goes on into the new timeline.
    assert pair.restored_rows("b") == 10 + 20 + 30 + 40 + 50


def test_the_new_leader_wants_a_base_backup_of_its_own_timeline(pair: Pair) -> None:
    assert pair.wants_base("b")
    pair.backup("b", "run database")
    pair.write("b", 60)
    pair.backup("b", "run wal")
    assert not pair.wants_base("b")
    assert {one[:8] for one in pair.segments("b")} == {"00000002"}
    for part in ("database", "wal"):
        pair.backup("b", f"check {part}")
    assert pair.restored_rows("b") == 210


def test_the_former_leader_comes_back_as_a_standby_and_leads_once_more(pair: Pair) -> None:
    pair.query("b", "SELECT pg_create_physical_replication_slot('a', true)")
    pair.postgres(
        f"{pair.bin}/pg_rewind --target-pgdata={HOME}/a/data --write-recovery-conf "
        f"--source-server='port={PORTS['b']} dbname=postgres'"
    )
    pair.configure("a")
    # Its file is the other's now, and that is read last.
    pair.host.check_output(f"echo \"primary_slot_name = 'a'\" >> {HOME}/a/data/postgresql.auto.conf")
    pair.start("a")
    until("it streams", lambda: pair.streams("b"))
    pair.write("b", 70)
    assert "a is a standby" in pair.backup("a", "run wal")
    assert {one[:8] for one in pair.segments("a")} == {"00000002"}
    pair.stop("b")
    pair.promote("a")
    pair.write("a", 80)
    pair.backup("a", "run wal")
    assert pair.wants_base("a")
    assert pair.restored_rows("a") == 10 + 20 + 30 + 40 + 50 + 60 + 70 + 80


def test_a_leader_that_never_had_all_of_the_log_goes_on_where_the_other_ended(pair: Pair) -> None:
    """A standby that was copied anew has only what came since, and is to lead before there is a newer base backup."""
    pair.write("a", 5)
    pair.backup("a", "run wal")
    pair.host.check_output(f"rm -rf {HOME}/b/data && find {HOME}/b/archive -type f -delete")
    pair.copy("a", "b")
    until("it streams", lambda: pair.streams("a"))
    pair.write("a", 6)
    pair.backup("a", "run wal")
    pair.stop("a", "immediate")
    pair.promote("b")
    pair.write("b", 7)
    pair.backup("b", "run wal")
    assert pair.status("b", "wal")["ok"]
    assert pair.restored_rows("b") == 360 + 5 + 6 + 7


def test_a_log_with_a_gap_is_told_and_wants_a_base_backup(pair: Pair) -> None:
    pair.wants_base("b")
    pair.write("b", 1)
    lost = max(pair.segments("b"))
    pair.write("b", 1)
    pair.host.check_output(f"rm {HOME}/b/archive/{lost}")
    with pytest.raises(AssertionError, match=f"The log lacks .*{lost[:24]}"):
        pair.backup("b", "run wal")
    assert pair.wants_base("b")
    pair.backup("b", "run database")
    pair.write("b", 1)
    pair.backup("b", "run wal")
    assert pair.restored_rows("b") == 378 + 3


def test_a_server_that_is_away_is_no_standby(pair: Pair) -> None:
    pair.stop("b")
    with pytest.raises(AssertionError, match="Nobody can tell whether this server leads"):
        pair.backup("b", "run wal")
