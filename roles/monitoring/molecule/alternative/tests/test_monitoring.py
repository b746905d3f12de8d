"""Exporters and Prometheus on one machine, with every variable moved."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

PROMETHEUS = "http://127.0.0.1:9091"
# Several rounds of questions, also on a computer that is busy with other machines' tests.
PATIENCE_SECONDS = 120


def address(host: Host) -> str:
    return str(host.interface("eth0").addresses[0])


def get(host: Host, url: str) -> str:
    script = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=10).read().decode())"
    return host.check_output("python3 -c '%s'" % script.replace("'", '"'))


def query(host: Host, expression: str) -> list[dict[str, Any]]:
    answer = json.loads(get(host, f"{PROMETHEUS}/api/v1/query?query={quote(expression)}"))
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_they_listen_on_their_addresses_and_nowhere_else(host: Host) -> None:
    here = address(host)
    listening = {socket for socket in host.socket.get_listening_sockets() if re.search(r":9\d\d\d$", socket)}
    assert listening == {
        f"tcp://{here}:9101",
        f"tcp://{here}:9181",
        f"tcp://{here}:9188",
        "tcp://127.0.0.1:9091",
    }


@pytest.mark.parametrize(
    "unit", ["prometheus", "prometheus-node-exporter", "prometheus-postgres-exporter", "labfleet-metrics"]
)
def test_units_run_and_start_with_the_machine(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


def ask(host: Host, port: int, certificate: str = "", key: str = "") -> str:
    """What an exporter says by TLS to one who shows a certificate, or none; how it refused."""
    script = (
        "import ssl, urllib.request as r\n"
        "c = ssl.create_default_context(cafile='/etc/prometheus/labfleet-ca.crt')\n"
        + (f"c.load_cert_chain('{certificate}', '{key}')\n" if certificate else "")
        + f"print(r.urlopen('https://{address(host)}:{port}/metrics', context=c, timeout=10).read().decode())"
    )
    done = host.run("python3 -c %s", script)
    return str(done.stdout if done.rc == 0 else done.stderr)


@pytest.mark.parametrize(
    ("port", "figure"), [(9101, "node_load1"), (9181, "labfleet_processes"), (9188, "pg_up")]
)
def test_only_the_certificate_of_the_one_that_asks_opens(host: Host, port: int, figure: str) -> None:
    ours = "/etc/labfleet/credentials/monitoring"
    assert figure in ask(host, port, f"{ours}/client.crt", f"{ours}/client.key")
    # The machine's own is of the lab's authority, which every machine has one of.
    for refused in (ask(host, port), ask(host, port, f"{ours}/tls.crt", f"{ours}/tls.key")):
        assert figure not in refused
        assert re.search("alert|EOF|reset|closed|Broken pipe", refused), refused
    plain = host.run(
        "python3 -c %s",
        f"import urllib.request as r; print(r.urlopen('http://{address(host)}:{port}/metrics', timeout=10).read())",
    )
    assert figure not in plain.stdout


def test_keys_are_for_root_and_for_the_services_that_need_them(host: Host) -> None:
    folder = host.file("/etc/labfleet/credentials/monitoring")
    assert (folder.user, folder.mode) == ("root", 0o700)
    for name in ("tls.key", "client.key"):
        file = host.file(f"{folder.path}/{name}")
        assert (file.user, file.mode) == ("root", 0o600)
    assert not host.file("/run/credentials/prometheus-node-exporter.service/client.key").exists


def test_ours_needs_no_user_of_its_own(host: Host) -> None:
    assert host.check_output("systemctl show -P DynamicUser labfleet-metrics") == "yes"


def test_prometheus_is_told_by_all_of_them(host: Host) -> None:
    wanted = {"node", "labfleet", "postgres", "prometheus"}
    # It has never asked anybody else, such as the addresses of Debian's example.
    asked = {one["metric"]["instance"] for one in query(host, "count_over_time(up[1h])")}
    assert asked <= {"lab", "127.0.0.1:9091"}
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        up = {one["metric"]["job"]: one["value"][1] for one in query(host, "up")}
        if up == dict.fromkeys(wanted, "1"):
            break
        time.sleep(1)
    assert up == dict.fromkeys(wanted, "1")
    assert query(host, "pg_up")[0]["value"][1] == "1"
    ends = {
        one["metric"]["file"]: float(one["value"][1])
        for one in query(host, "labfleet_certificate_end_seconds - time()")
    }
    assert ends.keys() == {"/etc/ssl/soon.crt", "/etc/ssl/late.crt"}
    assert 4 * 86400 < ends["/etc/ssl/soon.crt"] < 5 * 86400
    assert query(host, "labfleet_backup_success_seconds")[0]["value"][1] == "1700000000"
    (upkeep,) = query(host, "labfleet_upkeep_success_seconds")
    assert (upkeep["metric"]["unit"], upkeep["value"][1]) == (
        "labfleet-sweep",
        host.check_output("stat -c %Y /var/lib/upkeep/sweep"),
    )


def test_the_machine_s_exporter_tells_of_files_where_ours_is_not(host: Host) -> None:
    """Here both are, so that both can be compared."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        ends = {
            (one["metric"]["job"], one["metric"]["file"]): one["value"][1]
            for one in query(host, "labfleet_certificate_end_seconds")
        }
        backups = {
            one["metric"]["job"]: one["value"][1] for one in query(host, "labfleet_backup_success_seconds")
        }
        if len(ends) == 4 and len(backups) == 2:
            break
        time.sleep(1)
    for file in ("/etc/ssl/soon.crt", "/etc/ssl/late.crt"):
        assert ends["node", file] == ends["labfleet", file]
    assert backups == {"node": "1700000000", "labfleet": "1700000000"}
    assert host.service("labfleet-figures.timer").is_running
    assert host.service("labfleet-figures.timer").is_enabled
    assert host.check_output("systemctl show -P Result labfleet-figures.service") == "success"


def test_what_is_wrong_here_is_an_alert(host: Host) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        firing = {one["metric"]["alertname"] for one in query(host, 'ALERTS{alertstate="firing"}')}
        if {"CertificateEnds", "BackupOld", "UpkeepOld"} <= firing:
            return
        time.sleep(1)
    raise AssertionError(firing)


def test_every_alert_fires_when_it_should(host: Host) -> None:
    done = host.run("promtool test rules /root/alerts_test.yml")
    assert done.rc == 0, done.stdout + done.stderr


def test_the_page_of_the_lab_shows_what_there_is(host: Host) -> None:
    page = get(host, f"{PROMETHEUS}/consoles/labfleet.html")
    assert "error executing template" not in page
    assert "CertificateEnds" in page
    assert "% free" in page
    assert page.rstrip().endswith("</html>")


def test_the_exporter_of_postgresql_may_read_statistics_only(host: Host) -> None:
    psql = "runuser -u prometheus -- psql -d postgres -AtXc '%s'"
    assert host.check_output(psql % "SELECT 1") == "1"
    assert host.run(psql % "CREATE TABLE t (a int)").rc != 0
    assert host.run(psql % "SELECT rolpassword FROM pg_authid").rc != 0
