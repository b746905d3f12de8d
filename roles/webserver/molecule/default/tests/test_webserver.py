"""The webserver with its defaults: the pages and the API behind nginx, files sent by nginx, secrets kept."""

import json
import time
import tomllib
from typing import Any

import pytest
from testinfra.host import Host

SITE = "https://127.0.0.1"
OWNER = "owner-password-of-this-test"
SECRETS = (
    "web-password-of-this-test",
    "dispatcher-password-of-this-test",
    "password-of-the-front-end-in-this-test",
    "signing-key-of-this-test-which-is-long-enough",
    "session-key-of-this-test-which-is-long-enough",
)


def curl(host: Host, *options: str, url: str = SITE) -> str:
    return host.check_output(f"curl -sk {' '.join(options)} '{url}'")


@pytest.fixture(scope="module")
def token(host: Host) -> str:
    login = json.dumps({"user": "admin", "password": "admin-password-of-this-test"})
    said = curl(host, "-H 'Content-Type: application/json'", f"-d '{login}'", url=f"{SITE}/api/v1/login")
    return str(json.loads(said)["token"])


@pytest.mark.parametrize(
    "unit",
    [
        "labfleet-web.service",
        "labfleet-web.socket",
        "labfleet-dispatcher.service",
        "labfleet-data.service",
        "labfleet-loader.service",
        "labfleet-fetcher.service",
    ],
)
def test_units(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


def test_exact_sockets(host: Host) -> None:
    lines = host.check_output("ss -Hltnp").splitlines()
    assert {line.split()[3] for line in lines if "nginx" in line} == {"0.0.0.0:80", "0.0.0.0:443"}
    assert not [line for line in lines if "gunicorn" in line or "python" in line or "labfleet" in line]


@pytest.mark.parametrize("unit", ["labfleet-web", "labfleet-dispatcher", "labfleet-data", "labfleet-loader", "labfleet-fetcher"])
def test_hardening(host: Host, unit: str) -> None:
    verdict = host.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 2.0, verdict


@pytest.mark.parametrize(
    ("path", "user", "group", "mode"),
    [
        ("/etc/labfleet/webserver.toml", "root", "root", 0o644),
        ("/etc/labfleet/tls/webserver.key", "root", "root", 0o600),
        ("/etc/labfleet/credentials/web", "root", "root", 0o700),
        ("/etc/labfleet/credentials/web/signing_keys", "root", "root", 0o600),
        ("/etc/labfleet/credentials/dispatcher/database_password", "root", "root", 0o600),
        ("/etc/labfleet/credentials/data", "root", "root", 0o700),
        ("/var/cache/labfleet-data", "labfleet-data", "labfleet-data", 0o700),
        ("/etc/labfleet/credentials/loader", "root", "root", 0o700),
        ("/etc/labfleet/credentials/loader/source_keys", "root", "root", 0o600),
        ("/var/cache/labfleet-fetcher", "labfleet-fetcher", "labfleet-fetcher", 0o700),
        ("/run/labfleet-fetcher/fetcher.sock", "labfleet-fetcher", "labfleet-fetcher", 0o660),
        ("/usr/local/sbin/labfleet-admin", "root", "root", 0o755),
        ("/run/labfleet-web/web.sock", "root", "www-data", 0o660),
        ("/var/lib/labfleet", "root", "root", 0o755),
        ("/var/lib/labfleet/store", "labfleet-web", "labfleet-web", 0o750),
        ("/var/lib/labfleet/store/blobs", "labfleet-web", "labfleet-web", 0o750),
        ("/var/lib/labfleet/store/tmp", "labfleet-web", "labfleet-web", 0o750),
        ("/var/lib/labfleet/store/logs", "labfleet-web", "labfleet-web", 0o750),
        ("/var/lib/labfleet/protocols", "labfleet-web", "labfleet-web", 0o750),
    ],
)
def test_modes(host: Host, path: str, user: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (user, group, mode)


def test_ready_but_for_the_queue_tier(host: Host) -> None:
    checks = json.loads(curl(host, url=f"{SITE}/api/v1/ready"))["checks"]
    assert checks == {"database": True, "store": True, "queue": False}


def test_the_owner_s_password_is_not_on_the_machine(host: Host) -> None:
    found = host.run(f"grep -rlsF -e {OWNER} /etc /var/lib/labfleet /run /opt/labfleet/current/bin /usr/local /root /tmp")
    assert found.stdout == ""
    assert OWNER not in host.check_output("journalctl --no-pager")


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_for_others(host: Host, secret: str) -> None:
    nobody = "setpriv --reuid nobody --regid nogroup --clear-groups --"
    assert host.run(f"{nobody} grep -rlsF -e {secret} /etc /var/lib/labfleet /run").stdout == ""
    assert secret not in host.check_output("journalctl --no-pager; ps axeww")


def test_to_https(host: Host) -> None:
    head = curl(host, "-I", url="http://127.0.0.1/jobs?state=running")
    assert head.startswith("HTTP/1.1 308")
    assert "/jobs?state=running" in head


def test_strict_transport(host: Host) -> None:
    for path in ("/api/v1/health", "/static/nothing", "/api/v1/nothing"):
        assert "strict-transport-security: max-age=" in curl(host, "-I", url=f"{SITE}{path}").lower()


@pytest.mark.parametrize(("version", "code"), [("1.1", 35), ("1.2", 0)])
def test_tls_versions(host: Host, version: str, code: int) -> None:
    options = f"--tlsv{version} --tls-max {version} --ciphers DEFAULT@SECLEVEL=0"
    assert host.run(f"curl -sk -o /dev/null {options} {SITE}/api/v1/health").rc == code


def test_a_foreign_host_name(host: Host) -> None:
    said = json.loads(curl(host, "-H 'Host: evil.example.org'", url=f"{SITE}/api/v1/health"))
    assert (said["status"], said["code"]) == (421, "unknown_host")


def test_protocols_are_there(host: Host, token: str) -> None:
    said = curl(host, f"-H 'Authorization: Bearer {token}'", url=f"{SITE}/api/v1/protocols")
    assert "differential-network" in said
    assert "table-summary" in said


def test_a_table_is_looked_through_by_a_unit_of_its_own(host: Host, token: str) -> None:
    bearer = f"-H 'Authorization: Bearer {token}'"
    host.check_output("printf 'a;b\\n1;x\\n2;y\\n' > /tmp/table.csv")
    said = curl(host, bearer, "--data-binary @/tmp/table.csv", url=f"{SITE}/api/v1/datasets?name=table.csv")
    dataset = json.loads(said)["id"]
    for _ in range(240):
        preview = json.loads(curl(host, bearer, url=f"{SITE}/api/v1/datasets/{dataset}/preview"))
        if preview["state"] in {"done", "failed"}:
            break
        time.sleep(0.5)
    assert preview["state"] == "done", (preview, host.check_output("journalctl -u labfleet-data -o cat | tail -n 20"))
    assert (preview["result"]["rows"], preview["result"]["separator"]) == (2, ";")
    pid = host.check_output("systemctl show labfleet-data --property=MainPID --value")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "labfleet-data"
    assert host.check_output("ls -A /var/cache/labfleet-data") == ""


def fetched(host: Host, bearer: str, source: str) -> dict[str, Any]:
    """A fetch of it that has ended."""
    url = f"{SITE}/api/v1/sources/{source}"
    curl(host, bearer, "-d '{}'", url=f"{url}/fetches")
    for _ in range(240):
        fetch: dict[str, Any] = json.loads(curl(host, bearer, url=url))["fetch"]
        if fetch["state"] not in {"queued", "running"}:
            break
        time.sleep(0.5)
    return fetch


def test_a_source_is_fetched_by_a_unit_without_secrets_and_not_from_the_lab_itself(host: Host, token: str) -> None:
    bearer = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    definition = {"handler": "http", "parameters": {"url": "https://127.0.0.1/"}}
    body = json.dumps({"name": "itself", "definition": definition})
    source = json.loads(curl(host, bearer, f"-d '{body}'", url=f"{SITE}/api/v1/sources"))["id"]
    fetch = fetched(host, bearer, source)
    journal = host.check_output("journalctl -u labfleet-loader -u labfleet-fetcher -o cat | tail -n 20")
    assert (fetch["state"], fetch["tries"]) == ("failed", 1), (fetch, journal)
    assert "127.0.0.1 lies in no network that may be fetched from" in fetch["message"]
    assert "LoadCredential" not in host.file("/etc/systemd/system/labfleet-fetcher.service").content_string
    left = "ls -A /var/cache/labfleet-fetcher"
    assert host.run(f"for i in $(seq 100); do [ -z \"$({left})\" ] && exit; sleep 0.2; done; exit 1").rc == 0


def test_a_handler_of_the_lab_s_own_is_in_the_release_and_fetches(host: Host, token: str) -> None:
    bearer = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    definition = {"handler": "counter", "parameters": {"up_to": 7}}
    body = json.dumps({"name": "numbers", "definition": definition})
    source = json.loads(curl(host, bearer, f"-d '{body}'", url=f"{SITE}/api/v1/sources"))["id"]
    fetch = fetched(host, bearer, source)
    assert (fetch["state"], fetch["rows"]) == ("success", 7), fetch


def test_files_are_sent_by_nginx_with_ranges(host: Host, token: str) -> None:
    bearer = f"-H 'Authorization: Bearer {token}'"
    host.check_output("printf 0123456789 > /tmp/digits")
    said = curl(host, bearer, "-H 'Content-Type: text/plain' --data-binary @/tmp/digits", url=f"{SITE}/api/v1/datasets?name=digits")
    content = f"{SITE}/api/v1/datasets/{json.loads(said)['id']}/content"
    assert curl(host, bearer, "-r 3-5", url=content) == "345"
    head = curl(host, bearer, "-D - -o /dev/null", url=content).lower()
    assert "accept-ranges: bytes" in head
    assert "content-security-policy:" in head
    assert "x-accel-redirect" not in head


def test_the_store_has_no_address(host: Host, token: str) -> None:
    assert curl(host, "-o /dev/null -w '%{http_code}'", url=f"{SITE}/_store/blobs") == "404"


def test_a_body_that_is_too_large(host: Host, token: str) -> None:
    host.check_output("head -c 17000000 /dev/zero > /tmp/large")
    said = curl(host, f"-H 'Authorization: Bearer {token}'", "--data-binary @/tmp/large", url=f"{SITE}/api/v1/jobs")
    assert json.loads(said)["status"] == 413


def test_the_admin_s_command(host: Host) -> None:
    assert host.check_output("labfleet-admin user list").startswith("admin\tadmin")


def test_signing_in_is_slowed_down(host: Host) -> None:
    bad = "-H 'Content-Type: application/json' -d '{\"user\":\"nobody\",\"password\":\"wrong\"}'"
    codes = host.check_output(
        f"for i in $(seq 40); do curl -sk -o /dev/null -w '%{{http_code}} ' {bad} {SITE}/api/v1/login; done"
    )
    assert "429" in codes.split()
    assert set(codes.split()) <= {"401", "429"}


def test_mail_is_off(host: Host) -> None:
    for path in ("/etc/systemd/system/labfleet-mailer.service", "/etc/labfleet/credentials/mailer"):
        assert not host.file(path).exists, path
    assert tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["mail"]["host"] == ""


def test_single_sign_on_is_off(host: Host) -> None:
    for path in ("/etc/labfleet/credentials/web/oidc_client_secret", "/etc/labfleet/tls/oidc-ca.crt"):
        assert not host.file(path).exists, path
    assert tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["oidc"]["issuer"] == ""
    assert "Sign in with" not in host.check_output(f"curl -sk {SITE}/sign-in")
    assert host.check_output(f"curl -sk -o /dev/null -w '%{{http_code}}' {SITE}/sign-in/oidc") == "404"


def test_a_directory_is_off(host: Host) -> None:
    for path in ("/etc/labfleet/credentials/web/ldap_password", "/etc/labfleet/tls/ldap-ca.crt"):
        assert not host.file(path).exists, path
    assert tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["ldap"]["urls"] == []
    assert "name and password of" not in host.check_output(f"curl -sk {SITE}/sign-in")


def test_webhooks_are_off(host: Host, token: str) -> None:
    for path in (
        "/etc/systemd/system/labfleet-webhooks.service",
        "/etc/systemd/system/multi-user.target.wants/labfleet-webhooks.service",
        "/etc/labfleet/credentials/webhooks",
    ):
        assert not host.file(path).exists, path
    assert host.check_output("systemctl list-units --all --plain --no-legend 'labfleet-webhooks*'") == ""
    job = json.dumps({"protocol": "table-summary", "webhook": "https://example.org/hook"})
    options = ("-H 'Content-Type: application/json'", f"-H 'Authorization: Bearer {token}'", f"-d '{job}'")
    assert json.loads(curl(host, *options, url=f"{SITE}/api/v1/jobs"))["code"] == "webhooks_off"


@pytest.mark.parametrize("name", ["sweep", "gc"])
def test_upkeep_by_timers(host: Host, name: str) -> None:
    timer = host.service(f"labfleet-{name}.timer")
    assert timer.is_running
    assert timer.is_enabled
    # The next time is to come: nothing runs because it was installed.
    if not host.file(f"/var/lib/labfleet-upkeep/{name}").exists:
        assert host.check_output(f"systemctl show labfleet-{name}.service --property=ExecMainStartTimestamp --value") == ""
    host.check_output(f"systemctl start labfleet-{name}.service")
    done = host.file(f"/var/lib/labfleet-upkeep/{name}")
    assert done.user == "labfleet-web"
    assert host.run(f"runuser -u nobody -- stat {done.path}").rc == 0
    said = host.check_output(f"journalctl -u labfleet-{name} -o cat")
    assert {"sweep": "removed: 0 datasets", "gc": "packed: 0 repositories"}[name] in said
    assert host.check_output(f"systemctl show labfleet-{name}.service --property=Result --value") == "success"
    verdict = host.check_output(f"systemd-analyze security --no-pager labfleet-{name}.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 2.0, verdict


def test_backups_and_packing_share_a_lock(host: Host) -> None:
    lock = host.file("/var/lib/labfleet/protocols/.backup.lock")
    assert (lock.user, lock.group, lock.mode) == ("labfleet-web", "labfleet-web", 0o640)


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
