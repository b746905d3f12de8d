"""Runs on the queue machine: batches through the CGI runner, and bare Celery with confirms, in turn."""

import base64
import http.client
import json
import ssl
import sys
import time
import uuid
from urllib.parse import quote

from celery import Celery
from kombu import Exchange, Queue

wish = json.load(sys.stdin)
basic = base64.b64encode(f"web:{wish['password']}".encode()).decode()
headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
runner = http.client.HTTPSConnection(wish["host"], 8443, context=ssl._create_unverified_context(), timeout=60)
login = f"labfleet_publisher:{quote(wish['broker_password'], safe='')}"
celery = Celery("bench", broker=f"amqp://{login}@{wish['broker']}:5671/labfleet", set_as_current=False)
exchange = Exchange("labfleet.tasks", "topic", durable=True)
queue = Queue("labfleet.bench", exchange, "bench", queue_arguments={"x-queue-type": "quorum"})
celery.conf.update(
    broker_use_ssl={
        "ca_certs": "/etc/labfleet/tls/queue-broker.crt",
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "rabbitmq.labfleet.internal",
    },
    task_queues=[queue],
    task_default_queue="labfleet.bench",
    broker_transport_options={"confirm_publish": True},
    task_ignore_result=True,
)


def ours(count: int) -> float:
    """Milliseconds a message."""
    tasks = [
        {"task": str(uuid.uuid4()), "attempt": 1, "key": "python", "token": "la_bench.1.x"}
        for _ in range(count)
    ]
    begin = time.perf_counter()
    runner.request("POST", "/runner/v1/schedule", json.dumps({"messages": tasks}), headers)
    answer = json.loads(runner.getresponse().read())
    took = (time.perf_counter() - begin) * 1000 / count
    if {result["status"] for result in answer["results"]} != {"confirmed"}:
        sys.exit(f"not confirmed: {str(answer)[:300]}")
    return took


def bare(count: int) -> float:
    """Milliseconds a message, each confirmed before the next."""
    with celery.producer_pool.acquire(block=True) as producer:
        begin = time.perf_counter()
        for _ in range(count):
            celery.send_task("bench", args=["x"], producer=producer, queue=queue)
        return (time.perf_counter() - begin) * 1000 / count


with celery.connection() as connection:
    queue(connection.default_channel).declare()
ours(10), bare(10)
times: dict[str, list[float]] = {"ours": [], "celery": []}
for _ in range(wish["batches"]):
    times["ours"].append(ours(wish["batch"]))
    times["celery"].append(bare(wish["batch"]))
with celery.connection() as connection:
    queue(connection.default_channel).delete()
json.dump({name: sorted(values)[len(values) // 2] for name, values in times.items()}, sys.stdout)
