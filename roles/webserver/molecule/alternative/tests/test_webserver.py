"""The webserver with every variable moved."""

import json
import time
import tomllib

import pytest
from testinfra.host import Host

SITE = "https://labfleet.example.org:8444"
CURL = "curl -sk --resolve labfleet.example.org:8444:127.0.0.1"


def test_settings(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)
    assert told["web"] == {
        "public_url": SITE,
        "store": "/srv/data/store",
        "protocols": "/srv/data/protocols",
        "max_upload_bytes": 65536,
        "admins_need_second_factor": False,
        "session_hours": 1,
    }
    assert told["database"] == {"hosts": ["localhost"], "port": 5433, "name": "labfleet", "user": "labfleet_web"}
    assert told["dispatcher"]["runner_urls"] == ["https://192.0.2.1:9443", "https://192.0.2.2:9443"]
    assert told["dispatcher"]["unclaimed_seconds"] == 20
    assert told["dispatcher"]["unclaimed_max_seconds"] == 40
    assert told["order"] == {
        "presence_timeout_seconds": 45,
        "ahead_per_worker": 1,
        "ahead_seconds": 0.5,
        "max_load_per_core": 2.5,
        "short_seconds": 20,
        "short_tasks_pass_load": False,
        "release_batch": 10,
        "explain_depth": 20,
    }
    assert told["leases"] == {"lease_seconds": 45, "heartbeat_seconds": 3}
    assert told["limits"] == {"cpu_seconds": 600, "output_bytes": 131072}
    assert told["jobs"] == {"max_spec_bytes": 65536}
    assert told["webhooks"] == {"allowed_networks": ["192.0.2.0/24", "2001:db8::/32"]}
    assert told["log"] == {"level": "debug"}


def test_exact_sockets(host: Host) -> None:
    address = host.check_output("hostname -I").split()[0]
    lines = host.check_output("ss -Hltnp").splitlines()
    wanted = {f"{listen}:{port}" for listen in ("127.0.0.1", address) for port in (8080, 8444)}
    assert {line.split()[3] for line in lines if "nginx" in line} == wanted


def test_only_the_listed_name_is_answered(host: Host) -> None:
    assert host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}}' {SITE}/api/v1/health") == "200"
    said = host.check_output("curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1:8444/api/v1/health")
    assert said == "421"


def test_to_the_public_url(host: Host) -> None:
    head = host.check_output("curl -sI http://127.0.0.1:8080/jobs")
    assert f"Location: {SITE}/jobs" in head


def test_one_process(host: Host) -> None:
    pid = host.check_output("systemctl show labfleet-web --property=MainPID --value")
    assert len(host.check_output(f"pgrep --parent {pid}").split()) == 1


def test_webhooks_are_called_by_a_unit_of_their_own(host: Host) -> None:
    unit = host.service("labfleet-webhooks.service")
    assert unit.is_running
    assert unit.is_enabled
    pid = host.check_output("systemctl show labfleet-webhooks --property=MainPID --value")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "labfleet-webhooks"
    assert f"pid={pid}," not in host.check_output("ss -Hlntup")
    verdict = host.check_output("systemd-analyze security --no-pager labfleet-webhooks.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 2.0, verdict


def test_webhooks_lead_to_their_networks_only(host: Host) -> None:
    text = host.file("/etc/systemd/system/labfleet-webhooks.service").content_string
    assert "IPAddressDeny=any" in text
    (allowed,) = [line for line in text.splitlines() if line.startswith("IPAddressAllow=")]
    lines = host.file("/etc/resolv.conf").content_string.splitlines()
    servers = {line.split()[1] for line in lines if line.startswith("nameserver ")}
    known = {"localhost", "127.0.0.1", "192.0.2.0/24", "2001:db8::/32"}
    assert known <= set(allowed.partition("=")[2].split()) <= known | servers


def test_webhooks_have_no_more_secrets_than_they_need(host: Host) -> None:
    directory = host.file("/etc/labfleet/credentials/webhooks")
    assert (directory.user, directory.mode) == ("root", 0o700)
    assert sorted(directory.listdir()) == ["database_password", "signing_keys"]


def test_mails_are_sent_by_a_unit_of_their_own(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["mail"]
    assert told == {
        "host": "127.0.0.1",
        "port": 465,
        "security": "tls",
        "user": "labfleet",
        "sender": "labfleet@example.org",
        "ca_file": "/etc/labfleet/tls/mail-ca.crt",
    }
    assert host.file("/etc/labfleet/tls/mail-ca.crt").contains("BEGIN CERTIFICATE")
    pid = host.check_output("systemctl show labfleet-mailer --property=MainPID --value")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "labfleet-mailer"
    assert sorted(host.file("/etc/labfleet/credentials/mailer").listdir()) == ["database_password", "smtp_password"]
    text = host.file("/etc/systemd/system/labfleet-mailer.service").content_string
    assert "IPAddressDeny=any" in text
    (allowed,) = [line for line in text.splitlines() if line.startswith("IPAddressAllow=")]
    assert {"127.0.0.1", "127.0.0.0/30"} <= set(allowed.partition("=")[2].split())
    verdict = host.check_output("systemd-analyze security --no-pager labfleet-mailer.service | tail -n 1")
    assert float(verdict.split(":")[1].split()[0]) <= 2.0, verdict


def test_single_sign_on_reaches_its_provider_only(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["oidc"]
    assert told == {
        "issuer": "https://login.example.org/realms/lab",
        "client_id": "labfleet",
        "label": "the university",
        "scopes": ["openid", "profile", "email", "groups"],
        "name_claim": "uid",
        "mail_claim": "mail",
        "groups_claim": "realm_access.roles",
        "allowed_groups": ["lab"],
        "allowed_mail_domains": ["example.org"],
        "admin_groups": ["lab-admins"],
        "accounts": True,
        "second_factor": True,
        "ca_file": "/etc/labfleet/tls/oidc-ca.crt",
    }
    assert host.file("/etc/labfleet/tls/oidc-ca.crt").contains("BEGIN CERTIFICATE")
    secret = host.file("/etc/labfleet/credentials/web/oidc_client_secret")
    assert (secret.user, secret.mode, secret.content_string) == ("root", 0o600, "secret-of-the-provider-in-this-test")
    text = host.file("/etc/systemd/system/labfleet-web.service").content_string
    assert "IPAddressDeny=any" in text
    (allowed,) = [line for line in text.splitlines() if line.startswith("IPAddressAllow=")]
    assert {"127.0.0.1", "192.0.2.64/28", "192.0.2.96/28"} <= set(allowed.partition("=")[2].split())


def test_a_directory_is_asked_by_a_program_of_the_distribution(host: Host) -> None:
    assert host.file("/usr/bin/ldapsearch").is_file
    told = tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["ldap"]
    assert told == {
        "urls": ["ldap://ldap1.example.org:3389", "ldap://ldap2.example.org"],
        "clear_text": True,
        "label": "the institute",
        "base_dn": "dc=example,dc=org",
        "filter": "(&(objectClass=user)(sAMAccountName={name}))",
        "bind_dn": "cn=labfleet,dc=example,dc=org",
        "user_dn": "",
        "id_attribute": "objectGUID",
        "name_attribute": "sAMAccountName",
        "mail_attribute": "userPrincipalName",
        "group_filter": "(member:1.2.840.113556.1.4.1941:={dn})",
        "allowed_groups": ["cn=lab,dc=example,dc=org"],
        "admin_groups": ["cn=admins,dc=example,dc=org"],
        "accounts": True,
        "ca_file": "/etc/labfleet/tls/ldap-ca.crt",
    }
    assert host.file("/etc/labfleet/tls/ldap-ca.crt").contains("BEGIN CERTIFICATE")
    secret = host.file("/etc/labfleet/credentials/web/ldap_password")
    assert (secret.user, secret.mode, secret.content_string) == ("root", 0o600, "password-of-the-directory-in-this-test")
    assert "LoadCredential=ldap_password:" in host.file("/etc/systemd/system/labfleet-web.service").content_string


def test_sources_are_fetched_from_where_they_may_be(host: Host) -> None:
    told = tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["sources"]
    assert told == {"networks": ["198.51.100.0/24"], "ports": [8081], "folders": ["/srv/instruments"], "clear_credentials": True}
    assert host.check_output("systemctl show labfleet-fetcher --property=MemoryMax --value") == str(1100 * 1024**2)
    text = host.file("/etc/systemd/system/labfleet-fetcher.service").content_string
    assert "IPAddressDeny=any" in text
    assert "SupplementaryGroups=users" in text
    (allowed,) = [line for line in text.splitlines() if line.startswith("IPAddressAllow=")]
    assert "198.51.100.0/24" in allowed
    assert "127.0.0.1" not in allowed


def test_previews_have_the_memory_that_they_are_given(host: Host) -> None:
    assert host.check_output("systemctl show labfleet-data --property=MemoryMax --value") == str(900 * 1024**2)
    assert host.file("/etc/labfleet/credentials/data").listdir() == ["database_password"]


def test_upkeep_is_swept_at_its_time_and_not_packed(host: Host) -> None:
    assert tomllib.loads(host.file("/etc/labfleet/webserver.toml").content_string)["data"] == {"grace_hours": 36.5}
    assert "OnCalendar=Mon *-*-* 02:20" in host.file("/etc/systemd/system/labfleet-sweep.timer").content_string
    assert not host.file("/etc/systemd/system/labfleet-gc.service").exists
    assert not host.file("/etc/systemd/system/labfleet-gc.timer").exists
    assert host.check_output("systemctl list-units --all --plain --no-legend 'labfleet-gc*'") == ""
    host.check_output("systemctl start labfleet-sweep.service")
    assert "36.5 hours" in host.check_output("journalctl -u labfleet-sweep -o cat")
    lock = host.file("/srv/data/protocols/.backup.lock")
    assert (lock.user, lock.group, lock.mode) == ("labfleet-web", "labfleet-web", 0o640)


def test_several_signing_keys(host: Host) -> None:
    keys = host.file("/etc/labfleet/credentials/web/signing_keys").content_string.splitlines()
    assert keys[0].startswith("a-new-signing-key")
    assert len(keys) == 2


@pytest.fixture
def bearer(host: Host) -> str:
    """The admin's token, as curl takes it."""
    login = json.dumps({"user": "root", "password": "admin-password-of-this-test"})
    said = host.check_output(f"{CURL} -H 'Content-Type: application/json' -d '{login}' {SITE}/api/v1/login")
    return f"-H 'Authorization: Bearer {json.loads(said)['token']}'"


def test_a_mail_is_taken_by_the_mail_server(host: Host, bearer: str) -> None:
    """By its own unit, over TLS that the given authority vouches for, with user and password."""
    body = json.dumps({"address": "ada@example.org"})
    url = f"{SITE}/api/v1/mail"
    sent = json.loads(host.check_output(f"{CURL} {bearer} -H 'Content-Type: application/json' -d '{body}' {url}/test"))
    for _ in range(120):
        if sent["state"] != "waiting" or sent["last_error"]:
            break
        time.sleep(0.5)
        sent = json.loads(host.check_output(f"{CURL} {bearer} {url}/messages/{sent['id']}"))
    assert (sent["state"], sent["last_error"]) == ("sent", None), (sent, host.check_output("journalctl -u mail-sink"))
    mails = host.file("/opt/mail_sink/mails").content_string
    assert "To ada@example.org" in mails
    assert "labfleet@example.org" in mails


def test_another_admin_and_a_smaller_upload(host: Host, bearer: str) -> None:
    host.check_output("head -c 70000 /dev/zero > /tmp/large")
    refused = host.check_output(f"{CURL} {bearer} --data-binary @/tmp/large '{SITE}/api/v1/datasets?name=large'")
    assert json.loads(refused)["status"] == 413


def test_nothing_in_the_usual_place(host: Host) -> None:
    assert not host.file("/var/lib/labfleet").exists


def test_web_counts_where_another_user_may_read(host: Host) -> None:
    folder = "/run/labfleet-metrics-web"
    assert host.run(f"runuser -u nobody -- grep -aq labfleet_ {folder}/gauge_livesum_0.db {folder}/counter_0.db").rc == 0
    assert host.file(folder).user == host.check_output("systemctl show -P User labfleet-web.service")


@pytest.mark.parametrize("process", ["dispatcher", "webhooks", "mailer", "data", "loader"])
def test_processes_count_where_another_user_may_read(host: Host, process: str) -> None:
    folder = f"/run/labfleet-metrics-{process}"
    assert host.run(f"runuser -u nobody -- grep -aq labfleet_ {folder}/gauge_livesum_0.db {folder}/counter_0.db").rc == 0
    assert host.file(folder).user == host.check_output(f"systemctl show -P User labfleet-{process}.service")
