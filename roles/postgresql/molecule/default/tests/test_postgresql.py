"""A server with one database and a role per service, on loopback and on the machine's address."""

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

VERSIONS = {"12": "15", "13": "17"}
OWNER, WEB, DISPATCHER = "labfleet_owner", "labfleet_web", "labfleet_dispatcher"
PASSWORDS = {
    OWNER: "owner-password-of-the-test",
    WEB: "web-password-of-the-test",
    DISPATCHER: "dispatcher-password-of-the-test",
}


def version(host: Host) -> str:
    return VERSIONS[host.system_info.release.split(".")[0]]


def address(host: Host) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def query(host: Host, sql: str, database: str = "postgres") -> list[str]:
    """Rows as the superuser sees them, by the local socket."""
    command = f'runuser -u postgres -- psql -XAt -d {database} -c "{sql}"'
    return str(host.check_output(f"cd / && {command}")).splitlines()


def login(
    host: Host,
    role: str,
    sql: str = "SELECT current_user",
    *,
    password: str | None = None,
    server: str = "127.0.0.1",
    database: str = "labfleet",
    tls: str = "prefer",
) -> CommandResult:
    """One statement as a role, by TCP."""
    secret = PASSWORDS.get(role, "no-password-at-all") if password is None else password
    where = f"host={server} user={role} dbname={database} sslmode={tls} connect_timeout=5"
    return host.run(f'PGPASSWORD={secret} psql -XAt -v ON_ERROR_STOP=1 "{where}" -c "{sql}"')


def test_version(host: Host) -> None:
    assert host.package(f"postgresql-{version(host)}").is_installed
    assert query(host, "SHOW server_version_num")[0].startswith(version(host))


def test_listens_where_it_was_told_and_nowhere_else(host: Host) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()}
    assert listeners == {"0.0.0.0:22", "[::]:22", "127.0.0.1:5432", f"{address(host)}:5432"}


def test_exactly_these_get_in(host: Host) -> None:
    rules = query(
        host,
        "SELECT type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask, "
        "auth_method FROM pg_hba_file_rules ORDER BY line_number",
    )
    full = "255.255.255.255"
    assert rules == [
        "local|all|postgres|||peer",
        *(
            f"{kind}|labfleet|{role}|{where}|{full}|scram-sha-256"
            for role in (OWNER, WEB, DISPATCHER)
            for kind, where in (("host", "127.0.0.1"), ("hostssl", address(host)))
        ),
    ]


def test_roles_can_log_in_and_nothing_more(host: Host) -> None:
    rows = query(
        host,
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, "
        "left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin AND rolname <> 'postgres' ORDER BY 1",
    )
    assert rows == [f"{role}|f|SCRAM-SHA-256$" for role in (DISPATCHER, OWNER, WEB)]


def test_public_has_no_rights(host: Host) -> None:
    database = query(
        host, "SELECT unnest(datacl)::text FROM pg_database WHERE datname = 'labfleet' ORDER BY 1"
    )
    schema = query(
        host, "SELECT unnest(nspacl)::text FROM pg_namespace WHERE nspname = 'public' ORDER BY 1", "labfleet"
    )
    assert sorted(database) == [f"{DISPATCHER}=c/{OWNER}", f"{OWNER}=CTc/{OWNER}", f"{WEB}=c/{OWNER}"]
    made_by = "pg_database_owner"
    assert sorted(schema) == [
        f"{DISPATCHER}=U/{made_by}",
        f"{OWNER}=U/{made_by}",
        f"{WEB}=U/{made_by}",
        f"{made_by}=UC/{made_by}",
    ]


def test_database_speaks_utf8(host: Host) -> None:
    columns = "pg_encoding_to_char(encoding), datcollate, datctype"
    assert query(host, f"SELECT {columns} FROM pg_database WHERE datname = 'labfleet'") == [
        "UTF8|C.UTF-8|C.UTF-8"
    ]


@pytest.mark.parametrize("role", list(PASSWORDS))
def test_right_password(host: Host, role: str) -> None:
    assert login(host, role).stdout == f"{role}\n"


@pytest.mark.parametrize("role", list(PASSWORDS))
def test_wrong_password(host: Host, role: str) -> None:
    assert "password authentication failed" in login(host, role, password="something-else").stderr


def test_nobody_else(host: Host) -> None:
    assert "no pg_hba.conf entry" in login(host, "postgres").stderr
    assert "no pg_hba.conf entry" in login(host, "stranger").stderr
    assert "no pg_hba.conf entry" in login(host, WEB, database="postgres").stderr
    assert host.run("cd / && runuser -u nobody -- psql -c 'SELECT 1' labfleet").failed


def test_from_outside_only_with_tls(host: Host) -> None:
    assert login(host, WEB, server=address(host), tls="require").stdout == f"{WEB}\n"
    assert "no encryption" in login(host, WEB, server=address(host), tls="disable").stderr


def test_owner_grants_and_others_use(host: Host) -> None:
    made = login(
        host, OWNER, f"DROP TABLE IF EXISTS probe; CREATE TABLE probe (n int); GRANT SELECT ON probe TO {WEB}"
    )
    assert made.succeeded, made.stderr
    assert login(host, WEB, "SELECT count(*) FROM probe").stdout == "0\n"
    assert "permission denied" in login(host, DISPATCHER, "SELECT count(*) FROM probe").stderr
    assert "permission denied" in login(host, WEB, "CREATE TABLE mine (n int)").stderr
    assert "permission denied" in login(host, WEB, "CREATE TEMP TABLE mine (n int)").stderr
    assert login(host, OWNER, "DROP TABLE probe").succeeded


@pytest.mark.parametrize("name", ["pg_hba.conf", "conf.d/labfleet.conf"])
def test_files(host: Host, name: str) -> None:
    file = host.file(f"/etc/postgresql/{version(host)}/main/{name}")
    assert (file.user, file.group, file.mode) == ("postgres", "postgres", 0o640)


def test_no_password_in_any_log(host: Host) -> None:
    for password in PASSWORDS.values():
        assert host.run(f"grep -rlF -- {password} /var/log /etc/postgresql /root/.ansible").stdout == ""
        assert host.run(f"journalctl --no-pager | grep -F -- {password}").stdout == ""


def test_runs_after_a_restart_of_the_machine(host: Host) -> None:
    assert host.service("postgresql").is_enabled
    assert host.service(f"postgresql@{version(host)}-main").is_running
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
