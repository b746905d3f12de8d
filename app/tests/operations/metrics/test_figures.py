"""What Prometheus is told of a lab at work, what it costs, and who else is told."""

from __future__ import annotations

import subprocess

from acceptance.api import Api
from acceptance.lab import Lab, Machine
from acceptance.waiting import wait_for

from .conftest import Query

PORTS = (9090, 9100, 9180, 9187, 15692)
"""Prometheus and what it asks; RabbitMQ's own exporter is the last."""


def value(query: Query, expression: str) -> float:
    return sum(number for _, number in query(expression))


def test_all_exporters_answer(query: Query, lab: Lab) -> None:
    def up() -> bool:
        jobs = [labels["job"] for labels, number in query("up") if number == 1]
        return sorted(jobs) == sorted(
            ["prometheus", *["node"] * 2, *["labfleet"] * 2, "postgres", "rabbitmq"]
        )

    wait_for(up, 60, "all exporters to be up", lambda: query("up"))
    told = {labels["process"]: number for labels, number in query("sum by (process) (labfleet_processes)")}
    assert told == {
        "web": 2,
        "dispatcher": 1,
        "data": 1,
        "loader": 1,
        "webhooks": 1,
        "publisher": 1,
        "worker": 2,
    }


def test_work_shows_in_every_tier_s_figures(query: Query, user: Api) -> None:
    names = {
        "labfleet_http_requests_total{route='/api/v1/jobs',method='POST',status='201'}": 5,
        "labfleet_placements_total": 5,
        "labfleet_messages_sent_total{status='confirmed'}": 5,
        "labfleet_publisher_messages_total{status='confirmed'}": 5,
        "labfleet_attempts_started_total": 5,
        "labfleet_attempts_ended_total{result='success'}": 5,
        "labfleet_task_wait_seconds_count": 5,
        "labfleet_attempt_run_seconds_count{outcome='success'}": 5,
    }
    before = {name: value(query, f"sum({name})") for name in names}
    for job in [user.submit("acceptance-noop") for _ in range(5)]:
        assert user.wait(job)["state"] == "success"

    def shown() -> bool:
        return all(value(query, f"sum({name})") >= before[name] + more for name, more in names.items())

    def missing() -> object:
        return {name: (before[name], value(query, f"sum({name})")) for name in names}

    wait_for(shown, 20, "the figures to show five tasks", missing)
    assert value(query, "labfleet_publisher_connected") == 1
    assert {labels["worker"]: number for labels, number in query("labfleet_worker_usable")} == {
        "lab": 1,
        "spare": 1,
    }
    assert value(query, "labfleet_queue_counting_seconds") < 1


def test_calls_of_webhooks_show_what_became_of_them(query: Query, user: Api, spare: Machine) -> None:
    failed = "sum(labfleet_webhook_calls_total{result='to_be_tried_again'})"
    before = value(query, failed)
    # Nobody listens there, and the firewall lets nobody in.
    webhook = f"http://{spare.address}:8080/hook"
    body = {"protocol": "acceptance-noop", "parameters": {}, "webhook": webhook}
    assert user.http.post("/api/v1/jobs", json=body).status_code == 201
    wait_for(lambda: value(query, failed) > before, 60, "the call that failed to be counted")
    assert value(query, "labfleet_webhook_call_seconds_count") > 0


def test_a_dead_process_is_an_alert_and_its_gauges_are_gone(query: Query, queue: Machine) -> None:
    queue.run("systemctl stop labfleet-publisher")
    try:
        wait_for(
            lambda: value(query, "labfleet_processes{process='publisher'}") == 0, 20, "it to be seen as away"
        )
        assert query("labfleet_publisher_connected") == []

        def alerts() -> set[str]:
            return {labels["alertname"] for labels, _ in query("ALERTS")}

        wait_for(lambda: "ProcessAway" in alerts(), 20, "an alert of it", alerts)
    finally:
        queue.run("systemctl start labfleet-publisher")
    wait_for(lambda: value(query, "labfleet_publisher_connected") == 1, 30, "it to be back")


def test_the_page_of_the_lab(webserver: Machine) -> None:
    script = 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:9090/consoles/labfleet.html").read().decode())'
    page = webserver.run(f"python3 -c '{script}'")
    assert "error executing template" not in page
    assert "<td>spare</td>" in page


def test_nobody_else_is_told(lab: Lab, nobody: Api, spare: Machine, webserver: Machine) -> None:
    assert nobody.http.get("/metrics").status_code == 404
    # Not from this computer, nor from a machine of the lab that watches nothing.
    for port in PORTS:
        url = f"http://{webserver.address}:{port}/metrics"
        script = f'import urllib.request as r; print(r.urlopen("{url}", timeout=5).status)'
        assert spare.host.run(f"python3 -c '{script}'").rc != 0, url
        done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode != 0, url
    listening = {line.split()[3] for line in webserver.run("ss -Hltn").splitlines()}
    assert not {f"{every}:{port}" for every in ("0.0.0.0", "*", "[::]") for port in PORTS} & listening
