"""A server with every variable moved off its default."""

import time

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

READER = r"reader's \"password\" % of the test"
SETTINGS = {
    "port": "5433",
    "ssl_cert_file": "/etc/ssl/certs/database.pem",
    "ssl_key_file": "/etc/ssl/private/database.key",
    "max_connections": "37",
    "shared_buffers": "48MB",
    "effective_cache_size": "96MB",
    "work_mem": "2MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "log_min_duration_statement": "-1",
    "idle_in_transaction_session_timeout": "5min",
    "log_connections": "on",
    "archive_mode": "on",
    "archive_timeout": "5min",
    "archive_command": "/usr/local/lib/postgresql-archive-segment %p %f /srv/archive",
}


def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def query(host: Host, sql: str) -> list[str]:
    command = f'runuser -u postgres -- psql -XAt -p 5433 -d postgres -c "{sql}"'
    return str(host.check_output(f"cd / && {command}")).splitlines()


def login(host: Host, role: str, password: str, database: str, tls: str = "disable") -> CommandResult:
    where = f"host={address(host)} port=5433 user={role} dbname={database} sslmode={tls} connect_timeout=5"
    return host.run(f'PGPASSWORD="{password}" psql -XAt "{where}" -c "SELECT current_user"')


@pytest.mark.parametrize("name", list(SETTINGS))
def test_settings(host: Host, name: str) -> None:
    assert query(host, f"SHOW {name}") == [SETTINGS[name]]


def test_nothing_waits_for_a_restart(host: Host) -> None:
    assert query(host, "SELECT name FROM pg_settings WHERE pending_restart") == []


def test_listens_where_it_was_told_and_nowhere_else(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    assert listeners == {"0.0.0.0:22", "[::]:22", f"{address(host)}:5433"}


def test_the_pair_is_the_one_that_was_given(host: Host) -> None:
    issuer = host.check_output("openssl x509 -noout -issuer -in /etc/ssl/certs/database.pem")
    assert issuer.replace(" ", "") == "issuer=CN=Labfleet"
    key = host.file("/etc/ssl/private/database.key")
    assert (key.user, key.group, key.mode) == ("root", "postgres", 0o640)


def test_exactly_these_get_in(host: Host) -> None:
    rules = query(
        host,
        "SELECT type, array_to_string(database || user_name, ',') "
        "FROM pg_hba_file_rules ORDER BY line_number",
    )
    assert rules == [
        "local|all,postgres",
        "local|replication,backup",
        "local|postgres,nobody",
        "host|first,first_owner",
        "host|second,first_owner",
        "host|second,reader",
    ]


def test_the_user_of_statistics_reads_them_and_nothing_else(host: Host) -> None:
    psql = "runuser -u nobody -- psql -p 5433 -d {} -AtXc '{}'"
    assert host.check_output(psql.format("postgres", "SELECT count(*) > 0 FROM pg_stat_database")) == "t"
    assert "permission denied" in host.run(psql.format("postgres", "SELECT * FROM pg_authid")).stderr
    assert "no pg_hba.conf entry" in host.run(psql.format("first", "SELECT 1")).stderr


def test_segments_wait_for_their_group(host: Host) -> None:
    folder = host.file("/srv/archive")
    assert (folder.user, folder.group, folder.mode) == ("postgres", "keepers", 0o2770)
    (name,) = query(host, "SELECT pg_walfile_name(pg_create_restore_point('test'))")
    query(host, "SELECT pg_switch_wal()")
    archived = "SELECT last_archived_wal FROM pg_stat_archiver"
    limit = time.monotonic() + 60
    while query(host, archived) < [name] and time.monotonic() < limit:
        time.sleep(0.2)
    segment = host.file(f"/srv/archive/{name}.gz")
    assert segment.exists, query(host, "SELECT * FROM pg_stat_archiver")
    assert (segment.group, segment.mode) == ("keepers", 0o640)


def test_the_user_of_backups_takes_base_backups_and_reads_nothing(host: Host) -> None:
    psql = "runuser -u backup -- psql -p 5433 -AtX"
    assert host.run(f"{psql} 'dbname=postgres replication=true' -c IDENTIFY_SYSTEM").rc == 0
    assert "no pg_hba.conf entry" in host.run(f"{psql} -d first -c 'SELECT 1'").stderr


def test_each_role_reaches_its_databases(host: Host) -> None:
    assert login(host, "first_owner", "owner-password-of-the-test", "first").stdout == "first_owner\n"
    assert login(host, "first_owner", "owner-password-of-the-test", "second").stdout == "first_owner\n"
    assert login(host, "reader", READER, "second", tls="require").stdout == "reader\n"
    assert "no pg_hba.conf entry" in login(host, "reader", READER, "first").stderr


def test_connection_limit(host: Host) -> None:
    rows = query(
        host, "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname IN ('first_owner', 'reader')"
    )
    assert sorted(rows) == ["first_owner|-1", "reader|3"]


def test_passwords_stay_out_of_the_server_logs(host: Host) -> None:
    assert host.run("grep -rF 'of the test' /var/log/postgresql").stdout == ""
    assert host.run("grep -rF 'of-the-test' /var/log/postgresql").stdout == ""
