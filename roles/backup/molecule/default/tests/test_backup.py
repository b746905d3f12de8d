"""A database with its log and files, backed up to a directory of the machine. The tests build on each other."""

import json
from typing import Any

import pytest
from testinfra.host import Host

PARTS = ("database", "wal", "files")
PASSPHRASE = "passphrase-of-this-test-which-is-long-enough"
BLOB = "/var/lib/labfleet/store/blobs/ab/cd"


def status(host: Host, name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.file(f"/var/lib/labfleet-backup/status/{name}.json").content_string)
    return told


def start(host: Host, name: str) -> bool:
    """Whether the unit ended well. Timers may have it run just now: then it is waited for."""
    return bool(host.run(f"systemctl start labfleet-backup-{name}.service").rc == 0)


def query(host: Host, sql: str) -> str:
    return str(host.check_output(f'cd / && runuser -u postgres -- psql -XAtd postgres -c "{sql}"'))


@pytest.mark.parametrize("part", PARTS)
def test_a_backup_now(host: Host, part: str) -> None:
    query(host, "SELECT pg_switch_wal()")
    assert start(host, part), host.check_output(f"journalctl --no-pager -u labfleet-backup-{part}")
    told = status(host, part)
    assert (told["ok"], told["error"], told["part"]) == (True, None, part)
    assert told["snapshot"]


@pytest.mark.parametrize("part", PARTS)
def test_timers(host: Host, part: str) -> None:
    for name in (f"labfleet-backup-{part}.timer", f"labfleet-backup-check-{part}.timer"):
        assert host.service(name).is_enabled
        assert host.service(name).is_running


def test_a_part_that_was_taken_out_leaves_its_backups_and_nothing_else(host: Host) -> None:
    assert host.file("/srv/backup/inventory/config").exists
    left = host.check_output("systemctl list-units --all --plain --no-legend 'labfleet-backup-*inventory*'")
    assert left == ""
    found = host.check_output(
        "find /etc/systemd/system /etc/labfleet/credentials /var/lib/labfleet-backup/status -name '*inventory*'"
    )
    assert found == ""


@pytest.mark.parametrize("part", PARTS)
def test_units_are_hardened(host: Host, part: str) -> None:
    text = host.file(f"/etc/systemd/system/labfleet-backup-{part}.service").content_string
    assert "User=labfleet-backup\n" in text
    command = f"systemd-analyze security --no-pager labfleet-backup-{part}.service | tail -n 1"
    verdict = host.check_output(command)
    assert float(verdict.split(":")[1].split()[0]) <= 2.5, verdict


def test_secrets_are_roots(host: Host) -> None:
    directory = host.file("/etc/labfleet/credentials/backup")
    assert (directory.user, directory.mode) == ("root", 0o700)
    assert sorted(directory.listdir()) == sorted(f"password_{part}" for part in PARTS)
    texts = {host.file(f"{directory.path}/{name}").content_string for name in directory.listdir()}
    assert len(texts) == len(PARTS)
    found = host.run(f"grep -rlF -e {PASSPHRASE} {' '.join(f'-e {text}' for text in texts)} /etc /var/log /usr/local")
    assert set(found.stdout.split()) == {f"{directory.path}/{name}" for name in directory.listdir()}


def test_nobody_reads_the_target_s_content(host: Host) -> None:
    assert host.file("/srv/backup").mode == 0o700
    assert host.run(f"grep -qF content-of-this-test {BLOB}").rc == 0
    assert host.run("grep -rqF content-of-this-test /srv/backup").rc == 1


def test_files_come_back(host: Host) -> None:
    into = host.check_output("mktemp -d")
    host.check_output(f"labfleet-backup restore-files --into {into}")
    assert host.check_output(f"cmp {into}{BLOB} {BLOB} && echo same") == "same"


def test_the_database_comes_back(host: Host) -> None:
    into, log = host.check_output("mktemp -d"), host.check_output("mktemp -d")
    told = json.loads(host.check_output(f"labfleet-backup restore-database --into {into} --wal-into {log}"))
    assert told["base"] <= status(host, "database")["finished"]
    host.check_output(f"/usr/lib/postgresql/*/bin/pg_verifybackup --no-parse-wal {into}")
    assert told["last"] in host.check_output(f"find {log} -name '*.gz'")


def test_segments_leave_the_machine_when_a_base_backup_no_longer_needs_them(host: Host) -> None:
    before = host.check_output("ls /var/lib/postgresql-archive").split()
    assert start(host, "database")
    query(host, "SELECT pg_switch_wal()")
    assert start(host, "wal")
    after = host.check_output("ls /var/lib/postgresql-archive").split()
    assert before
    assert min(after) > min(before)
    base = json.loads(host.file("/var/lib/labfleet-backup/base.json").content_string)
    assert min(after)[:24] == base["start"]


def test_a_sound_repository_passes_its_check(host: Host) -> None:
    assert start(host, "check-files")
    assert status(host, "files-check")["ok"]


def test_a_damaged_repository_is_found_and_told(host: Host) -> None:
    pack = host.check_output("find /srv/backup/files/data -type f -size +100k | head -n 1")
    host.check_output(f"cp -p {pack} /root/pack && chmod u+w {pack}")
    host.check_output(f"dd if=/dev/zero of={pack} bs=1 seek=1000 count=64 conv=notrunc status=none")
    host.check_output("sed -i 's/\"check_percent\": 5/\"check_percent\": 100/' /etc/labfleet/backup.json")
    assert not start(host, "check-files")
    told = status(host, "files-check")
    assert not told["ok"]
    assert "damaged" in told["hint"], told
    assert told["last_success"]
    assert "What to do: " in host.check_output("journalctl --no-pager -o cat -u labfleet-backup-check-files")
    host.check_output(f"cp -p /root/pack {pack}")
    assert start(host, "check-files"), status(host, "files-check")
    host.check_output("sed -i 's/\"check_percent\": 100/\"check_percent\": 5/' /etc/labfleet/backup.json")


def test_an_absent_target_is_found_and_told(host: Host) -> None:
    host.check_output("mv /srv/backup /srv/elsewhere && install -d -o labfleet-backup -m 0700 /srv/backup")
    for name in ("files", "check-files"):
        assert not start(host, name)
    told = status(host, "files")
    assert "Mount or reconnect the target" in told["hint"], told
    assert host.check_output("ls -A /srv/backup") == ""
    host.check_output("rmdir /srv/backup && mv /srv/elsewhere /srv/backup")
    assert start(host, "files")
    assert status(host, "files")["ok"]


def test_a_machine_does_not_write_to_backups_of_another(host: Host) -> None:
    mark = "/var/lib/labfleet-backup/files.repository"
    kept = host.file(mark).content_string
    host.check_output(f"rm {mark}")
    assert not start(host, "files")
    assert "playbooks/restore.yml" in status(host, "files")["hint"]
    assert host.check_output("labfleet-backup init files") == "foreign"
    host.check_output("labfleet-backup adopt files")
    assert host.file(mark).content_string == kept
    assert start(host, "files")
    host.check_output("systemctl reset-failed")
