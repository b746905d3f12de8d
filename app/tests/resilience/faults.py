"""What is done to the machines. Each fault is a block: it is on inside, and repaired afterwards."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from acceptance.lab import Machine
from acceptance.waiting import wait_for

AMQP = 5671
POSTGRESQL = 5432
PROXY = 15673
NOBODY = 65534
TABLE = "labfleet_fault"
FILTER = """
table inet labfleet_fault {
  chain input { type filter hook input priority -300; %s drop; }
  chain output { type filter hook output priority -300; %s drop; }
}
"""
REDIRECT = f"""
table inet labfleet_fault {{
  chain output {{ type nat hook output priority -100;
    meta skuid {NOBODY} accept; tcp dport %d redirect to :{PROXY}; }}
  chain prerouting {{ type nat hook prerouting priority -100; tcp dport %d redirect to :{PROXY}; }}
}}
"""
SLOW_SECONDS = 0.3
BROKER = "rabbitmq-server"
WORKER = "labfleet-worker"
WORKER_USER = "labfleet-worker"
STORE = "/var/lib/labfleet/store"
IMPOSTOR = "/run/labfleet-impostor"
RECEIVED = f"{STORE}/tmp"
"""Where the store keeps what is on its way in."""


@contextmanager
def stopped(machine: Machine, unit: str) -> Iterator[None]:
    """The unit is stopped."""
    machine.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        machine.run(f"systemctl start {unit}")


@contextmanager
def only(machine: Machine, other: Machine) -> Iterator[None]:
    """Of the two workers this one takes tasks, the other does not."""
    other.run(f"systemctl stop {WORKER}")
    machine.run(f"systemctl start {WORKER}")
    try:
        yield
    finally:
        machine.run(f"systemctl stop {WORKER}")
        other.run(f"systemctl start {WORKER}")


@contextmanager
def frozen(machine: Machine, unit: str) -> Iterator[None]:
    """The unit's processes stand still; in the end they are killed, and systemd starts it anew."""
    machine.run(f"systemctl kill -s STOP {unit}")
    try:
        yield
    finally:
        kill(machine, unit)


@contextmanager
def rules(machine: Machine, text: str) -> Iterator[None]:
    """The machine's packet filter has these rules."""
    machine.run(f"nft -f - <<'END'\n{text}\nEND")
    try:
        yield
    finally:
        machine.run(f"nft delete table inet {TABLE}")


def black_hole(broker: Machine) -> AbstractContextManager[None]:
    """Whatever goes to or comes from the broker is dropped without a word."""
    port = f"tcp dport {AMQP} drop; tcp sport {AMQP}"
    return rules(broker, FILTER % (port, port))


def partition(machine: Machine, other: Machine) -> AbstractContextManager[None]:
    """The two machines hear nothing of each other."""
    address = other.private_address
    return rules(machine, FILTER % (f"ip saddr {address}", f"ip daddr {address}"))


@contextmanager
def slow(broker: Machine) -> Iterator[None]:
    """The broker is reached through a proxy that holds every piece back and lets little pass at once.

    In the end its connections are not closed but fall silent, as if the machine at their end had vanished.
    """
    program = Path(__file__).with_name("slow_proxy.py").read_text()
    command = f"python3 -c {shlex.quote(program)} {PROXY} {AMQP} {SLOW_SECONDS}"
    broker.run(f"systemd-run --quiet --collect --unit=fault-slow --uid={NOBODY} {command}")
    try:
        with rules(broker, REDIRECT % (AMQP, AMQP)):
            reconnect(broker)
            yield
    finally:
        broker.run("systemctl stop fault-slow")


@contextmanager
def impostor(machine: Machine, port: int) -> Iterator[str]:
    """Whoever connects to the port meets a server with a certificate that it made itself.

    Gives the file that has a line for each of them (`impostor.py`).
    """
    program = Path(__file__).with_name("impostor.py").read_text()
    heard = f"{IMPOSTOR}/heard"
    names = f"subjectAltName=IP:{machine.private_address},DNS:{machine.name},DNS:rabbitmq.labfleet.internal"
    machine.run(
        f"mkdir {IMPOSTOR} && cd {IMPOSTOR} && openssl req -x509 -newkey rsa:2048 -nodes -days 1 "
        f"-subj /CN={machine.name} -addext {names} -keyout key -out certificate 2>/dev/null && "
        f"touch heard && chown -R {NOBODY} {IMPOSTOR}"
    )
    command = f"python3 -c {shlex.quote(program)} {PROXY} {port} {IMPOSTOR}"
    try:
        machine.run(f"systemd-run --quiet --collect --unit=fault-impostor --uid={NOBODY} {command}")
        with rules(machine, REDIRECT % (port, port)):
            yield heard
    finally:
        machine.run(f"systemctl stop fault-impostor; rm -r {IMPOSTOR}")


@contextmanager
def disk_alarm(broker: Machine) -> Iterator[None]:
    """The broker takes its disk to be full: it hears no publisher any more."""
    limit = broker.run("rabbitmqctl -q eval 'rabbit_disk_monitor:get_disk_free_limit().'").strip()
    broker.run("rabbitmqctl -q set_disk_free_limit 1000000GB")
    try:
        wait_alarm(broker)
        yield
    finally:
        broker.run(f"rabbitmqctl -q set_disk_free_limit {limit}")


@contextmanager
def memory_alarm(broker: Machine) -> Iterator[None]:
    """The broker takes its memory to be used up: it hears no publisher any more."""
    limit = broker.run("rabbitmqctl -q eval 'vm_memory_monitor:get_vm_memory_high_watermark().'").strip()
    broker.run("rabbitmqctl -q set_vm_memory_high_watermark 0.0000001")
    try:
        wait_alarm(broker)
        yield
    finally:
        broker.run(f"rabbitmqctl -q set_vm_memory_high_watermark {limit}")


def wait_alarm(broker: Machine) -> None:
    """Wait until the broker says that it is alarmed."""
    alarms = "rabbitmqctl -q eval 'rabbit_alarm:get_alarms().'"
    wait_for(lambda: broker.run(alarms).strip() != "[]", 30, "an alarm of the broker")


@contextmanager
def full_store(webserver: Machine) -> Iterator[None]:
    """What the store receives comes to a disk that is full."""
    webserver.run(
        f"mount -t tmpfs -o size=4k,mode=0750 tmpfs {RECEIVED} && chown --reference={STORE} {RECEIVED} && "
        f"! head -c 8192 /dev/zero > {RECEIVED}/ballast"
    )
    try:
        yield
    finally:
        # Lazily: somebody may just be writing there.
        webserver.run(f"umount -l {RECEIVED}")


@contextmanager
def environment(machine: Machine, name: str, units: Sequence[str], variables: str) -> Iterator[None]:
    """The units run with these variables, which go before their configuration files."""
    text = f"[Service]\nEnvironment={variables}\n"
    drop_ins = {f"/etc/systemd/system/{unit}.service.d/90-{name}.conf": text for unit in units}
    restart = f"systemctl daemon-reload; systemctl restart {' '.join(units)}"
    try:
        with files(machine, drop_ins):
            machine.run(restart)
            wait_active(machine, *units)
            yield
    finally:
        machine.run(restart)
        wait_active(machine, *units)


@contextmanager
def burning(machine: Machine, processes: int) -> Iterator[None]:
    """So many processes want the machine's cores all the time, and give way to any other."""
    script = f"for turn in $(seq {processes}); do (while :; do :; done) & done; wait"
    machine.run(f"systemd-run --quiet --collect --unit=fault-burning --nice=19 sh -c {shlex.quote(script)}")
    try:
        yield
    finally:
        machine.run("systemctl stop fault-burning")


def reconnect(broker: Machine) -> None:
    """Every client of the broker has to connect anew."""
    broker.run("rabbitmqctl -q close_all_connections -p labfleet 'a fault is on'")


def kill(machine: Machine, unit: str) -> None:
    """SIGKILL to all processes of the unit."""
    machine.run(f"systemctl kill -s KILL {unit}")


def own_systemctl(words: str) -> str:
    """A command about the units of the worker's own systemd, for root on its machine."""
    user = f"runuser -u {WORKER_USER} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {WORKER_USER})"
    return f"{user} systemctl --user {words}"


def wait_active(machine: Machine, *units: str, seconds: float = 60) -> None:
    """Wait until all units run."""
    names = " ".join(units)
    wait_for(
        lambda: machine.run(f"systemctl is-active {names} || true").split() == ["active"] * len(units),
        seconds,
        f"{names} on {machine.name} to run",
        lambda: machine.run(f"systemctl --no-pager status {names} || true"),
    )


@contextmanager
def as_worker(machine: Machine, name: str, script: str) -> Iterator[None]:
    """A shell script runs as the worker's user, beside it."""
    user = machine.run(f"id -u {WORKER_USER}").strip()
    machine.run(
        f"systemd-run --quiet --collect --unit={name} --uid={WORKER_USER} "
        f"--setenv=XDG_RUNTIME_DIR=/run/user/{user} sh -c {shlex.quote(script)}"
    )
    try:
        yield
    finally:
        machine.run(f"systemctl stop {name}")


@contextmanager
def files(machine: Machine, contents: dict[str, str]) -> Iterator[None]:
    """These files are there."""
    for path, text in contents.items():
        machine.run(f"mkdir -p {Path(path).parent} && cat > {path} <<'END'\n{text}END")
    try:
        yield
    finally:
        machine.run(f"rm -f {' '.join(contents)}")


def left_on(worker: Machine) -> str:
    """Directories and units that attempts have left where none runs; the worker has a moment to tidy up."""
    units = own_systemctl("list-units --all --plain --no-legend 'labfleet-attempt-*'")
    look = f"ls /var/lib/labfleet-worker/attempts; {units}"
    worker.run(f'for turn in 1 2 3 4 5 6 7 8 9 10; do [ -n "$({look})" ] || break; sleep 1; done')
    return worker.run(look)
