"""Certificates that end: renewed by site.yml and by certbot, while requests go on; told of before."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from acceptance.lab import Lab, Machine
from acceptance.playbook import Run, play
from cryptography import x509

NAME = "labfleet.test"
PEBBLE = {
    "pebble": {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": "/etc/pebble/tls.crt",
        "privateKey": "/etc/pebble/tls.key",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
}
UNIT = """[Service]
Environment=PEBBLE_VA_NOSLEEP=1
ExecStart=/usr/bin/pebble -config /etc/pebble/config.json
"""


def served(lab: Lab, name: str) -> x509.Certificate:
    """The certificate that the webserver shows who asks for this name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = lab.machine("webserver").address
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as channel,
    ):
        return x509.load_der_x509_certificate(channel.getpeercert(binary_form=True) or b"")


class Requests(threading.Thread):
    """Asks without a pause, over connections that are kept and over new ones, until it is told to end."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self._url = f"{lab.url}/api/v1/health"
        self._ca = lab.ca_file
        self.stop = threading.Event()
        self.good = 0
        self.bad: list[str] = []

    def run(self) -> None:
        context = ssl.create_default_context(cafile=str(self._ca))
        with httpx.Client(verify=context, timeout=20) as kept:
            while not self.stop.is_set():
                for ask in (partial(_by_kept, kept), partial(httpx.get, verify=context, timeout=20)):
                    try:
                        ask(self._url).raise_for_status()
                        self.good += 1
                    except httpx.HTTPError as error:
                        self.bad.append(repr(error))


def _by_kept(kept: httpx.Client, url: str) -> httpx.Response:
    """By a connection that is kept. A server may end one that idles while the next request is on its way:
    then a client asks again by a new one, as browsers do (RFC 9112, section 9.3.1)."""
    try:
        return kept.get(url)
    except httpx.RemoteProtocolError:
        return kept.get(url)


@contextmanager
def requests(lab: Lab) -> Iterator[Requests]:
    """Requests all the while, of which none may fail."""
    threads = [Requests(lab) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield threads[0]
    for thread in threads:
        thread.stop.set()
        thread.join(30)
    assert [bad for thread in threads for bad in thread.bad] == []
    assert sum(thread.good for thread in threads) > 50


def webserver_playbook(lab: Lab, *options: str) -> Run:
    return play(lab.inventory, "playbooks/webserver.yml", *options)


def test_a_certificate_near_its_end_is_told_of_and_renewed_while_requests_go_on(
    lab: Lab, webserver: Machine, tmp_path: Path
) -> None:
    before = served(lab, webserver.name)
    # All are near their end when they should be good for longer than they are made for.
    report = tmp_path / "report.json"
    options = ["-e", "self_check_certificate_days=900", "-e", f"self_check_report={report}"]
    play(lab.inventory, "playbooks/self_check.yml", *options)
    told = [one for one in json.loads(report.read_text()) if "certificate" in one["what"]]
    # The same one stands beside each of the machine's tiers; it is told once.
    assert any("/etc/labfleet/tls/queue.crt ends in" in one["what"] for one in told), told
    with requests(lab):
        webserver_playbook(lab, "-e", "labfleet_certificate_renew_days=819").good()
        first = served(lab, webserver.name)
        again = webserver_playbook(lab).good()
    assert first.serial_number == before.serial_number, "it was good for long enough"
    assert again.changed["lab"] == 0, again.changes
    with requests(lab):
        webserver_playbook(
            lab, "-e", "labfleet_certificate_renew_days=830", "-e", "labfleet_certificate_days=825"
        ).good()
    after = served(lab, webserver.name)
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc > before.not_valid_after_utc


@pytest.fixture(scope="module")
def pebble(webserver: Machine) -> Machine:
    """An ACME authority on the webserver's own machine: Let's Encrypt's test server, from Debian."""
    webserver.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends pebble")
    webserver.run(
        "mkdir -p /etc/pebble && "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
        "-keyout /etc/pebble/tls.key -out /etc/pebble/tls.crt"
    )
    webserver.run(f"cat > /etc/pebble/config.json <<'END'\n{json.dumps(PEBBLE)}\nEND")
    webserver.run(f"cat > /etc/systemd/system/pebble.service <<'END'\n{UNIT}\nEND")
    webserver.run(f"grep -q {NAME} /etc/hosts || echo 127.0.0.1 {NAME} >> /etc/hosts")
    webserver.run("systemctl daemon-reload; systemctl restart pebble")
    return webserver


def test_acme_gets_a_certificate_and_renews_it_while_requests_go_on(lab: Lab, pebble: Machine) -> None:
    settings = {
        "labfleet_extra_names": [NAME],
        "webserver_certificate": "acme",
        "webserver_certificate_names": [NAME],
        "webserver_acme_directory": "https://localhost:14000/dir",
        "webserver_acme_ca_file": "/etc/pebble/tls.crt",
        "common_hosts": [{"address": "127.0.0.1", "names": [NAME]}],
    }
    options = ("-e", json.dumps(settings))
    before = served(lab, NAME)
    with requests(lab):
        webserver_playbook(lab, *options).good()
    first = served(lab, NAME)
    assert "Pebble" in first.issuer.rfc4514_string()
    assert first.serial_number != before.serial_number
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]
    # The other tiers, who use the address, still see the lab's own.
    assert "Labfleet" in served(lab, pebble.name).issuer.rfc4514_string()
    again = webserver_playbook(lab, *options).good()
    assert again.changed["lab"] == 0, again.changes
    with requests(lab):
        pebble.run("systemctl cat certbot.service | grep -q REQUESTS_CA_BUNDLE=/etc/pebble/tls.crt")
        pebble.run(
            "REQUESTS_CA_BUNDLE=/etc/pebble/tls.crt "
            "certbot -q renew --force-renewal --no-random-sleep-on-renew"
        )
        time.sleep(1)
    renewed = served(lab, NAME)
    assert renewed.serial_number != first.serial_number
    assert "Pebble" in renewed.issuer.rfc4514_string()
    pebble.run("systemctl is-enabled certbot.timer")


def test_files_of_your_own_are_shown_and_wrong_ones_refused(lab: Lab, tmp_path: Path) -> None:
    for name in ("good", "other"):
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ),
                *("-days", "90", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{NAME}"),
                *("-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")),
            ],
            check=True,
            capture_output=True,
        )
    settings = {
        "labfleet_extra_names": [NAME],
        "webserver_certificate": "own",
        "webserver_certificate_names": [NAME],
        "webserver_certificate_file": str(tmp_path / "good.crt"),
        "webserver_certificate_key_file": str(tmp_path / "other.key"),
    }
    refused = webserver_playbook(lab, "-e", json.dumps(settings))
    assert refused.code != 0
    assert "is of another key than" in refused.output
    settings["webserver_certificate_key_file"] = str(tmp_path / "good.key")
    with requests(lab):
        webserver_playbook(lab, "-e", json.dumps(settings)).good()
    assert served(lab, NAME).subject.rfc4514_string() == "CN=good"
