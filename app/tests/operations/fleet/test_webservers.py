"""Two webservers behind a balancer: either may be lost, and only those whom it was answering notice."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
from acceptance import playbook
from acceptance.api import Api, connect
from acceptance.lab import Lab, Machine
from resilience import ledger, machines
from resilience.load import Load

PER_SECOND = 50
BEFORE_SECONDS = 10
GONE_SECONDS = 20
AFTER_SECONDS = 10
CLIENTS = 8


class Readers:
    """Requests at a steady rate, each by the clock; `answers` counts what came of them.

    Each client has connections of its own: in a shared pool one thread may close what another was just given.
    """

    def __init__(self, lab: Lab, api: Api) -> None:
        self.answers: Counter[str] = Counter()
        self._clients = [connect(lab.url, lab.ca_file, api.token) for _ in range(CLIENTS)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def _read(self, number: int) -> None:
        period = CLIENTS / PER_SECOND
        due = time.monotonic() + number / PER_SECOND
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += period
            try:
                answer = str(self._clients[number].get("/api/v1/jobs", params={"limit": 5}).status_code)
            except httpx.HTTPError as error:
                answer = type(error).__name__
            self.answers[answer] += 1


def test_both_answer(lab: Lab, user: Api) -> None:
    """Whoever is asked knows what the other one was told, and has its files."""
    for web in lab.of("webserver"):
        web.run("systemctl is-active labfleet-web labfleet-dispatcher")
    before = {web.name: requests(web) for web in lab.of("webserver")}
    for _ in range(20):
        assert user.http.get("/api/v1/jobs").status_code == 200
    for web in lab.of("webserver"):
        assert requests(web) > before[web.name]


def requests(web: Machine) -> int:
    """How many requests the machine's nginx has answered."""
    return int(web.run("journalctl -t nginx_access --no-pager | grep -c /api/v1/jobs || true"))


def test_one_is_lost_under_load(lab: Lab, user: Api, load: Load) -> None:
    """50 requests a second: what was in flight as it died may fail, so at most one for each client."""
    web = lab.of("webserver")[0]
    with Readers(lab, user) as readers, load.flowing(1):
        time.sleep(BEFORE_SECONDS)
        with machines.lost(web):
            time.sleep(GONE_SECONDS)
        time.sleep(AFTER_SECONDS)
    failed = sum(count for answer, count in readers.answers.items() if answer != "200")
    assert readers.answers["200"] > 0.8 * PER_SECOND * (BEFORE_SECONDS + GONE_SECONDS), readers.answers
    assert failed <= CLIENTS, readers.answers
    booked = ledger.settle(lab.machine("database"), load.label, 60)
    ledger.check(booked, len(load), ledger.now(lab.machine("database")), 60)


def test_site_restarts_one_after_the_other(lab: Lab, user: Api) -> None:
    """A setting that wants both restarted; 50 requests a second, none fails."""
    with Readers(lab, user) as readers:
        for options in (("-e", "webserver_log_level=debug"), ()):
            playbook.play(lab.inventory, "playbooks/webserver.yml", *options).good()
    assert set(readers.answers) == {"200"}, readers.answers
