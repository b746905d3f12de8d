"""Runs on the queue machine: times requests to the runner and to bare CGI programs, in turn."""

import base64
import http.client
import json
import ssl
import sys
import time
import uuid

wish = json.load(sys.stdin)
context = ssl._create_unverified_context()
basic = base64.b64encode(f"web:{wish['password']}".encode()).decode()
headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}


def connect(host: str, port: int) -> http.client.HTTPSConnection:
    """nginx may take a moment to listen where it was told to."""
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=30)
    limit = time.monotonic() + 30
    while True:
        try:
            connection.connect()
        except ConnectionRefusedError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.2)
        else:
            return connection


def timed(connection: http.client.HTTPSConnection, path: str, body: str) -> float:
    begin = time.perf_counter()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    took = (time.perf_counter() - begin) * 1000
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {content[:300]!r}")
    return took


def message() -> str:
    task = {"task": str(uuid.uuid4()), "attempt": 1, "key": "python", "token": "la_bench.1.x"}
    return json.dumps({"messages": [task]})


ours, bare = connect(wish["host"], 8443), connect("127.0.0.1", wish["bare_port"])
times: dict[str, list[float]] = {"schedule": [], "plain": [], "lean": []}
for number in range(wish["requests"] + 5):
    took = {
        "schedule": timed(ours, "/runner/v1/schedule", message()),
        "plain": timed(bare, "/plain", message()),
        "lean": timed(bare, "/lean", message()),
    }
    if number >= 5:
        for name, value in took.items():
            times[name].append(value)
json.dump(times, sys.stdout)
