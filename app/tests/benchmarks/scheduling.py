"""Row 23: one scheduling request, against a CGI program in the same place that only prints `ok`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acceptance.lab import Lab, Machine

from .figures import Figure, quantile

REQUESTS = 80
FOLDER = "/opt/labfleet-bench"
PORT = 18443
FCGIWRAP = "systemd-run -q --collect -u labfleet-bench -p User=www-data -p RuntimeDirectory=labfleet-bench"
SITE = "/etc/nginx/labfleet.d/bench.conf"
BARE = {
    "plain": "#!/usr/bin/python3\nprint('Content-Type: text/plain\\n\\nok')\n",
    "lean": "#!/usr/bin/python3 -IS\nprint('Content-Type: text/plain\\n\\nok')\n",
}


def figures(lab: Lab) -> Iterator[Figure]:
    """Median times on the queue machine's own address, requests of all kinds in turn."""
    queue, workers = lab.machine("queue"), lab.of("worker")
    for machine in workers:
        machine.run("systemctl stop labfleet-worker")
    try:
        with bare_programs(queue):
            times = measure(lab, queue)
    finally:
        for machine in workers:
            machine.run("systemctl start labfleet-worker")
    ours = quantile(times["schedule"], 0.5)
    plain, lean = quantile(times["plain"], 0.5), quantile(times["lean"], 0.5)
    yield Figure(23, "schedule one task, confirmed, p50", ours, "ms", plain, "python3 CGI printing ok", 1.5)
    yield Figure(23, "the same", ours, "ms", lean, "python3 -IS CGI printing ok")
    yield Figure(23, "schedule one task, confirmed, p99", quantile(times["schedule"], 0.99), "ms")


def measure(lab: Lab, queue: Machine) -> dict[str, list[float]]:
    """Milliseconds of each request. The client runs on the queue machine, with Debian's Python."""
    client = (Path(__file__).parent / "client_on_queue.py").read_bytes()
    wish = {
        "host": queue.private_address,
        "bare_port": PORT,
        "requests": REQUESTS,
        "password": lab.secret("front_end_password_web"),
    }
    # The wish holds a password, so it travels on standard input, after the program.
    program = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"
    done = subprocess.run(
        queue.ssh("python3", "-c", f"'{program}'", str(len(client))),
        input=client + json.dumps(wish).encode(),
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    times: dict[str, list[float]] = json.loads(done.stdout)
    return times


@contextmanager
def bare_programs(queue: Machine) -> Iterator[None]:
    """The bare programs behind the same nginx, TLS and fcgiwrap, for the time of the measurement."""
    site = queue.run("grep -lE 'listen .*8443' /etc/nginx/labfleet.d/*.conf | head -1").strip()
    certificate = queue.run(f"grep -E '^ *ssl_certificate(_key)? ' {site}")
    locations = "".join(
        f"location = /{name} {{ include fastcgi_params; fastcgi_param SCRIPT_FILENAME {FOLDER}/{name};"
        f" fastcgi_pass unix:/run/labfleet-bench/fcgi.sock; }}\n"
        for name in BARE
    )
    server = f"server {{ listen 127.0.0.1:{PORT} ssl;\n{certificate}\n{locations} }}\n"
    queue.run(f"mkdir -p {FOLDER}")
    try:
        for path, text in {SITE: server, **{f"{FOLDER}/{name}": text for name, text in BARE.items()}}.items():
            done = subprocess.run(
                queue.ssh("sh", "-c", f"'cat > {path}; chmod 755 {path}'"), input=text.encode(), check=False
            )
            assert done.returncode == 0
        # Labfleet's own fcgiwrap starts the runner and no other program, so the bare ones get one like it.
        queue.run(f"{FCGIWRAP} /usr/sbin/fcgiwrap -f -c 4 -s unix:/run/labfleet-bench/fcgi.sock")
        queue.run("nginx -t 2>&1 && systemctl reload nginx")
        yield
    finally:
        queue.run("systemctl stop labfleet-bench || true")
        queue.run(f"rm -rf {FOLDER} {SITE}; systemctl reload nginx")
