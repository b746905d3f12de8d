"""Backups by ssh, with every variable moved."""

import json

from testinfra.host import Host


def test_settings(host: Host) -> None:
    told = json.loads(host.file("/etc/labfleet/backup.json").content_string)
    assert told["target"] == "sftp:vault@127.0.0.1:/srv/vault/labfleet"
    assert told["parts"]["database"] == {
        "every_seconds": 86400,
        "bin": "/usr/lib/postgresql/17/bin",
        "port": 5433,
    }
    assert told["parts"]["wal"] == {"every_seconds": 3600, "directory": "/srv/archive"}
    assert told["parts"]["files"]["paths"] == ["/srv/data.txt"]
    assert (told["keep_days"], told["check_percent"], told["upload_kib_per_second"]) == (30, 100, 100000)
    assert host.user("labfleet-backup").uid == host.group("labfleet-backup").gid == 2985


def test_a_member_makes_a_base_backup_when_it_begins_to_lead(host: Host) -> None:
    member = host.system_info.release.split(".")[0] == "13"
    told = json.loads(host.file("/etc/labfleet/backup.json").content_string)
    assert told["member"] == ("db1" if member else "")
    log = host.file("/etc/systemd/system/labfleet-backup-wal.service").content_string
    assert ("LoadCredential=password_database:" in log) == member
    trigger = host.service("labfleet-backup-database.path")
    assert host.file("/etc/systemd/system/labfleet-backup-database.path").exists == member
    if member:
        assert trigger.is_running
        assert trigger.is_enabled
        before = host.check_output("systemctl show -P InactiveExitTimestampMonotonic labfleet-backup-database")
        host.check_output("runuser -u labfleet-backup -- touch /var/lib/labfleet-backup/base.wanted")
        show = "systemctl show -P InactiveExitTimestampMonotonic labfleet-backup-database"
        host.check_output(f"for n in $(seq 50); do test $({show}) != {before} && exit 0; sleep 0.2; done; exit 1")
        # There is no server here.
        host.run("systemctl start labfleet-backup-database")
        host.check_output("systemctl reset-failed labfleet-backup-database")


def test_the_target_has_the_backup_and_gives_it_back(host: Host) -> None:
    for unit in ("labfleet-backup-files", "labfleet-backup-check-files"):
        assert host.run(f"systemctl start {unit}").rc == 0, host.check_output(f"journalctl --no-pager -u {unit}")
    assert host.file("/srv/vault/labfleet/files/config").user == "vault"
    into = host.check_output("mktemp -d")
    host.check_output(f"labfleet-backup restore-files --to 2020-01-01T00:00:00Z --into {into}")
    assert host.file(f"{into}/srv/data.txt").content_string == "something\n"


def test_a_stranger_in_the_target_s_place_gets_nothing(host: Host) -> None:
    path = "/etc/labfleet/backup_known_hosts"
    kept = host.file(path).content_string
    host.check_output(f"sed -i 's/^127.0.0.1/192.0.2.1/' {path}")
    assert host.run("systemctl start labfleet-backup-files").rc != 0
    told = json.loads(host.file("/var/lib/labfleet-backup/status/files.json").content_string)
    assert "can't be reached" in told["hint"], told
    host.check_output(f"sed -i 's/^192.0.2.1/127.0.0.1/' {path}")
    assert host.file(path).content_string == kept
    assert host.run("systemctl start labfleet-backup-files").rc == 0


def test_times_and_alarms(host: Host) -> None:
    timer = host.file("/etc/systemd/system/labfleet-backup-database.timer").content_string
    assert "OnCalendar=Sun *-*-* 01:00\n" in timer
    assert "OnUnitActiveSec=7200\n" in host.file(
        "/etc/systemd/system/labfleet-backup-files.timer"
    ).content_string
    assert "OnUnitActiveSec=3600\n" in host.file("/etc/systemd/system/labfleet-backup-wal.timer").content_string
    check = host.file("/etc/systemd/system/labfleet-backup-check-files.timer").content_string
    assert "OnCalendar=Sun *-*-* 03:00\n" in check
    unit = host.file("/etc/systemd/system/labfleet-backup-files.service").content_string
    assert "OnFailure=alarm.service\n" in unit
    assert "adm" in host.user("labfleet-backup").groups
    assert not host.file("/etc/systemd/system/labfleet-backup-inventory.timer").exists
