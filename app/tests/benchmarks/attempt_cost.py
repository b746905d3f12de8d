"""What one attempt costs a worker: processor time and wall time of a no-op, from its message to its end.

Run it as an ordinary user whose systemd runs (linger), on a machine with bubblewrap:

    python app/tests/benchmarks/attempt_cost.py [COUNT]

Everything is real but the server, a small one whose own processor time is not counted. It runs itself as a
unit of the user's systemd, so that the control group of that systemd counts all that happens: the worker's
process, systemd, the attempts. The sandbox alone, with the same program, is measured in the same way.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labfleet.worker.bus import Bus
from labfleet.worker.processes import cpu_seconds

SUPPORT = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

TOKEN = "la_token"
WARM = 2
"""Attempts of each way that are not counted."""
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
    "-addext subjectAltName=IP:127.0.0.1 -keyout {0}/key.pem -out {0}/ca.pem"
)


def serve(directory: Path, tasks: list[str]) -> None:
    """The front end's process: knows the attempts, says where it listens, counts what was finished."""
    from attempt_server import Attempt, FrontEnd

    with FrontEnd() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "ca.pem", directory / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        for task in tasks:
            server.add(Attempt(task=task, token=TOKEN, files={"main.py": "pass"}))
        print(server.url.replace("http:", "https:"), flush=True)
        server.serve_forever()


@contextmanager
def front_end(directory: Path, tasks: list[str]) -> Iterator[tuple[str, int]]:
    """URL and process of a front end that has these attempts."""
    subprocess.run(CERTIFICATE.format(directory).split(), check=True, capture_output=True)
    command = [sys.executable, __file__, "--serve", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(tasks))
        process.stdin.close()
        yield process.stdout.readline().strip(), process.pid
        process.kill()


def configure(directory: Path, url: str) -> None:
    """A worker's configuration, as the role writes it."""
    (directory / "worker.toml").write_text(
        f'[worker]\nname = "bench"\nwork_directory = "{directory}"\n'
        f'[front_ends.web]\nurl = "{url}"\nca_file = "{directory}/ca.pem"\n[log]\nlevel = "error"\n'
    )
    os.environ["LABFLEET_CONFIG"] = str(directory / "worker.toml")


def below_systemd() -> float:
    """Processor seconds of everything below this user's systemd until now."""
    manager = subprocess.run(
        ["pgrep", "-u", str(os.getuid()), "-xo", "systemd"], capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = Path(f"/proc/{manager}/cgroup").read_text().splitlines()
    group = next(line[3:] for line in lines if line.startswith("0::")).rpartition("/init.scope")[0]
    for mount in MOUNTS:
        stat = Path(f"{mount}{group}/cpu.stat")
        if stat.exists():
            return int(stat.read_text().split()[1]) / 1e6
    raise SystemExit("This machine has no version 2 control group for the user's systemd.")


def measure(used: Callable[[], float], act: Callable[[str], Any], tasks: list[str]) -> tuple[float, float]:
    """Milliseconds of processor time and of wall time for each."""
    looking = used()
    looking = used() - looking  # the price of a look
    cpu, wall = used(), time.monotonic()
    for task in tasks:
        act(task)
    wall = time.monotonic() - wall
    time.sleep(1)  # what systemd tidies up belongs to it
    return (used() - cpu - looking) * 1000 / len(tasks), wall * 1000 / len(tasks)


def sandbox_alone(places: Any) -> None:
    """bubblewrap with the same options and the same program, and nothing around it."""
    from attempt_server import Attempt

    from labfleet.worker.sandbox import argv
    from labfleet.worker.spec import Host, from_claim

    spec = from_claim(str(uuid.uuid4()), 1, Attempt(task="").answer_to_claim(), Host("", None, 1, 1, ()))
    subprocess.run(argv(spec, places, 2), check=True, stderr=subprocess.DEVNULL)


def prepared(directory: Path) -> Any:
    """What a shepherd lays out for the sandbox."""
    from labfleet.worker.sandbox import Places

    directory.mkdir()
    places = Places(directory)
    places.create()
    places.parameters.write_text("{}")
    (places.protocol / "main.py").write_text("pass")
    return places


def figures(directory: Path, used: Callable[[], float], tasks: list[str]) -> Iterator[tuple[str, Any]]:
    """Name and figures of each way."""
    from labfleet.config import worker_settings
    from labfleet.worker import units
    from labfleet.worker.nursery_client import Nursery
    from labfleet.worker.slots import Slots
    from labfleet.worker.starter import ATTEMPTS, Order, Starter

    nursery, away = (Nursery(directory / ATTEMPTS, f"labfleet-bench-{kind}") for kind in ("nursery", "none"))
    away.open = lambda: None  # type: ignore[method-assign]
    nursery.open()
    half = len(tasks) // 2
    for name, place, share in (("in the nursery", nursery, tasks[:half]), ("without it", away, tasks[half:])):
        starter = Starter(worker_settings(), Slots(1, units.running), lambda: False, place, {})

        def attempt(task: str, starter: Starter = starter) -> None:
            starter.run(Order("web", task, 1, TOKEN))

        for task in share[:WARM]:
            attempt(task)
        yield name, measure(used, attempt, share[WARM:])
    with Bus() as bus:
        bus.run_job("StopUnit", "ss", "labfleet-bench-nursery.service", "replace")
    places = prepared(directory / "alone")
    yield "the sandbox alone", measure(used, lambda _: sandbox_alone(places), tasks[: half - WARM])


def main(count: int) -> None:
    """Print the figures."""
    tasks = [str(uuid.uuid4()) for _ in range(2 * (count + WARM))]
    with (
        tempfile.TemporaryDirectory(prefix="labfleet-bench-") as name,
        front_end(Path(name), tasks) as (url, server),
    ):
        configure(Path(name), url)
        for label, (cpu, wall) in figures(Path(name), lambda: below_systemd() - cpu_seconds(server), tasks):
            print(f"{label:20} processor {cpu:6.1f} ms   wall {wall:6.1f} ms   each of {count}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), json.load(sys.stdin))
    elif sys.argv[1:2] == ["--here"]:
        main(int(sys.argv[2]))
    else:
        unit = ["systemd-run", "--user", "--wait", "--pipe", "--quiet", sys.executable, __file__, "--here"]
        sys.exit(subprocess.run([*unit, *(sys.argv[1:] or ["30"])], check=False).returncode)
