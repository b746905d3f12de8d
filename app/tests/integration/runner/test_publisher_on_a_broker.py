"""From the CGI program through the publisher into a real broker."""

from __future__ import annotations

import io
import json
import socket
import stat
import tarfile
import threading
import time
import uuid
from contextlib import closing
from typing import Any

from broker import TestBroker
from cgi_program import Cgi


def message(key: str, **changes: Any) -> dict[str, Any]:
    return {"task": str(uuid.uuid4()), "attempt": 1, "key": key, "token": "la_x", **changes}


def statuses(reply: Any) -> list[str]:
    assert reply.status == 200, reply
    return [result["status"] for result in reply.body["results"]]


def test_a_message_is_confirmed_and_lies_in_its_queue(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    sent = message(broker.key, attempt=4)

    reply = cgi("schedule", {"messages": [sent]})

    assert reply.body == {"results": [{"task": sent["task"], "attempt": 4, "status": "confirmed"}]}
    taken = broker.take(broker.queues[0])
    assert taken
    assert json.loads(taken.body)[1] == {"front_end": "web", **sent}
    assert taken.headers["task"] == "labfleet.run_attempt"


def test_either_of_two_passwords_is_good(publisher: Any, broker: TestBroker, cgi: Cgi) -> None:
    """While one is changed, the broker may take the old or the new one."""
    publisher.configure(broker)
    secret = publisher.directory / "broker_password"
    for passwords in (f"wrong\n{broker.password}", f"{broker.password}\nwrong"):
        secret.write_text(passwords)
        publisher.start()
        wait_for(lambda: cgi("health", method="GET").status == 200)
        assert statuses(cgi("schedule", {"messages": [message(broker.key)]})) == ["confirmed"]
        publisher.stop()


def test_a_key_that_nobody_serves_is_unroutable_and_only_that(
    ready: Any, broker: TestBroker, cgi: Cgi
) -> None:
    batch = [message(broker.key), message("nobody.serves.this"), message(broker.key)]

    assert statuses(cgi("schedule", {"messages": batch})) == ["confirmed", "unroutable", "confirmed"]


def test_a_named_worker_gets_it_in_its_own_queue(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    sent = message("nobody.serves.this")
    batch = [sent | {"worker": broker.worker}, message(broker.key, worker="nobody")]

    assert statuses(cgi("schedule", {"messages": batch})) == ["confirmed", "unroutable"]

    taken = broker.take(broker.queues[2])
    assert taken
    assert json.loads(taken.body)[1] == {"front_end": "web", **sent}
    assert broker.take(broker.queues[0]) is None


def test_the_same_attempt_twice_is_told_apart_by_batch(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    sent = message("nobody.serves.this")
    assert statuses(cgi("schedule", {"messages": [sent]})) == ["unroutable"]
    assert statuses(cgi("schedule", {"messages": [sent | {"key": broker.key}]})) == ["confirmed"]


def test_a_large_batch_is_confirmed_whole(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    batch = [message(broker.key) for _ in range(1000)]

    assert statuses(cgi("schedule", {"messages": batch})) == ["confirmed"] * 1000


def test_batches_at_once_are_all_answered(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    replies: list[Any] = []

    def send() -> None:
        replies.append(cgi("schedule", {"messages": [message(broker.key) for _ in range(20)]}))

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for reply in replies for status in statuses(reply)] == ["confirmed"] * 200


def test_a_cancel_reaches_the_workers_control_queue(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    task = str(uuid.uuid4())

    assert statuses(cgi("cancel", {"messages": [{"task": task, "attempt": 2}]})) == ["confirmed"]

    taken = broker.take(broker.queues[1])
    assert taken
    assert json.loads(taken.body) == {"front_end": "web", "task": task, "attempt": 2}


def test_what_is_refused_leaves_no_trace(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    good = message(broker.key)

    assert cgi("schedule", {"messages": [good]}, password="wrong").status == 401
    assert cgi("schedule", {"messages": [good, {**good, "attempt": 0}]}).status == 422
    assert cgi("schedule", json.dumps({"messages": [good]}).encode()[:-3]).status == 400

    assert broker.take(broker.queues[0]) is None


def test_without_a_broker_it_answers_quickly_and_comes_back(
    publisher: Any, broker: TestBroker, cgi: Cgi
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    publisher.configure(broker, hosts=("127.0.0.1",), port=port)
    publisher.start()
    wait_for((publisher.directory / "publisher.sock").exists)

    started = time.monotonic()
    reply = cgi("schedule", {"messages": [message(broker.key)]})
    assert (reply.status, reply.body["code"]) == (503, "unavailable")
    assert time.monotonic() - started < 10  # not the 15 that the CGI program would wait

    with Relay(port, (broker.host, broker.port)) as relay:
        wait_for(lambda: cgi("health", method="GET").status == 200)
        assert statuses(cgi("schedule", {"messages": [message(broker.key)]})) == ["confirmed"]
        relay.cut()
        # The first batch may find the line dead; the next one finds a new line.
        wait_for(lambda: "confirmed" in json.dumps(cgi("schedule", {"messages": [message(broker.key)]}).body))


def test_when_one_broker_is_away_the_next_is_asked(publisher: Any, broker: TestBroker, cgi: Cgi) -> None:
    publisher.configure(broker, hosts=("127.0.0.254", broker.host))
    publisher.start()

    wait_for(lambda: cgi("health", method="GET").status == 200)

    assert statuses(cgi("schedule", {"messages": [message(broker.key)]})) == ["confirmed"]
    assert "can't be reached" in publisher.log


def test_a_changed_limit_does_not_stop_it(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    assert ready.stop() == 0
    ready.configure(broker, delivery_limit=3)
    ready.start()
    wait_for(lambda: cgi("health", method="GET").status == 200)

    assert statuses(cgi("schedule", {"messages": [message(broker.key)]})) == ["confirmed"]
    assert "declared differently" in ready.log


def test_sigterm_ends_it_cleanly(ready: Any, cgi: Cgi) -> None:
    assert stat.S_IMODE((ready.directory / "publisher.sock").stat().st_mode) == 0o660

    assert ready.stop() == 0

    assert not (ready.directory / "publisher.sock").exists()
    assert cgi("health", method="GET").status == 503


def test_no_secret_is_in_its_log(ready: Any, broker: TestBroker, cgi: Cgi) -> None:
    cgi("schedule", {"messages": [message(broker.key, token="la_secret")]})
    ready.stop()

    assert "la_secret" not in ready.log
    assert f'"{broker.password}"' not in ready.log


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


MANIFEST = "labfleet: 1\nname: x\nversion: 1.0.0\ntitle: X\nkey: python\ncommand: [python3, main.py]\n"


def test_interface_and_check(ready: Any, cgi: Cgi) -> None:
    good = archive(protocol_yml=MANIFEST, main_py="print(1)\n")

    assert cgi("check", good).body["ok"] is True
    assert cgi("interface", good).body["key"] == "python"


def test_a_bad_protocol_is_told(ready: Any, cgi: Cgi) -> None:
    bad = archive(protocol_yml=MANIFEST, main_py="print(1\n")

    report = cgi("check", bad).body
    assert report["ok"] is False
    assert (report["problems"][0]["file"], report["problems"][0]["line"]) == ("main.py", 1)
    assert (cgi("interface", bad).status, cgi("check", b"rubbish" * 100).status) == (422, 422)


class Relay:
    """A port that leads to the broker, and can be cut."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._pairs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Relay:
        self._run(self._accept)
        return self

    def _run(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._pairs += [near, far]
            self._run(self._pump, near, far)
            self._run(self._pump, far, near)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            return

    def cut(self) -> None:
        for end in self._pairs:
            end.shutdown(socket.SHUT_RDWR)
        while self._pairs:
            self._pairs.pop().close()

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        with closing(self._listener):
            self.cut()
        for thread in self._threads:
            thread.join(5)


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
