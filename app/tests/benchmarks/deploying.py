"""Rows 28 and 29: the first and the second site.yml, against the same by hand and against bare pings."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from acceptance.lab import BIN, REPOSITORY, Lab, Machine, ansible_environment
from acceptance.playbook import RECAP, Run, site

from .figures import Figure
from .machines import fresh_machine

T = TypeVar("T")
CLUSTER = REPOSITORY / "inventory" / "cluster"
PINGS = 40
BY_HAND = """\
set -eu
cd /root
tar -xf release.tar && cd */
python3 -c 'import glob,zipfile; z=zipfile.ZipFile(glob.glob("wheels/uv-*.whl")[0]); \
z.extract(next(n for n in z.namelist() if n.endswith("/scripts/uv")), "/root/uv")'
uv=$(find /root/uv -name uv -type f); chmod 755 $uv
export UV_CACHE_DIR=/root/cache UV_OFFLINE=1
$uv -q venv --python /usr/bin/python3 /opt/by-hand
$uv -q pip install --python /opt/by-hand/bin/python --no-index --link-mode=copy --no-deps --compile-bytecode \
 --require-hashes --find-links wheels -r requirements.txt
"""


def first(lab: Lab) -> Iterator[Figure]:
    """Row 28. Both machines come from one image, so the cache of packages is in the same state."""
    with fresh_machine("bench-ours", 31) as ours:
        machine = ours.machine("webserver")
        before = packages(machine)
        took, run = timed(lambda: site(ours.inventory).good())
        added = sorted(packages(machine) - before)
        release = machine.run("readlink -f /opt/labfleet/current").strip().rpartition("/")[2]
        again, _ = timed(lambda: site(ours.inventory).good())
    archive = REPOSITORY / ".lab" / "releases" / f"{release}.tar"
    with fresh_machine("bench-hand", 32) as hand:
        by_hand = install_by_hand(hand.machine("webserver"), added, archive)
    baseline = f"apt-get install of the same {len(added)} packages, uv install of the same wheels"
    yield Figure(28, f"first site.yml, {run.tasks} tasks", took, "s", by_hand, baseline, 1.5)
    yield Figure(29, "second site.yml on that machine", again, "s", None, "", 60)


def packages(machine: Machine) -> set[str]:
    """The installed packages with their versions."""
    return set(machine.run("dpkg-query -W -f '${Package}=${Version}\\n'").split())


def install_by_hand(machine: Machine, names: list[str], archive: Path) -> float:
    """Seconds that a practised admin's two commands take; copying the archive is not counted."""
    with archive.open("rb") as content:
        subprocess.run(machine.ssh("sh", "-c", "'cat > /root/release.tar'"), stdin=content, check=True)
    install = f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {' '.join(names)}"
    apt, _ = timed(lambda: machine.run(f"{install} >/root/apt.log 2>&1"))
    wheels, _ = timed(lambda: subprocess.run(machine.ssh("sh", "-s"), input=BY_HAND.encode(), check=True))
    return apt + wheels


def second(lab: Lab) -> Iterator[Figure]:
    """Row 29."""
    site(lab.inventory).good()
    took, run = timed(lambda: site(lab.inventory).good())
    assert set(run.changed.values()) == {0}, run.changes
    each, adhoc = ping_in_a_play(lab), ping_alone(lab)
    pings = f"{run.tasks} x ansible -m ping"
    yield Figure(
        29,
        f"second site.yml, {run.tasks} tasks, 1 machine",
        took,
        "s",
        each * run.tasks,
        pings + " in one play",
    )
    yield Figure(29, "the same", took, "s", adhoc * run.tasks, pings + ", a command each")
    yield Figure(29, "the same", took, "s", None, "", 60)
    if five := second_on_five():
        yield Figure(29, "second site.yml, 5 machines", five, "s", took, "1 machine", 1.5)


def second_on_five() -> float | None:
    """Seconds on the cluster, where one is deployed."""
    ready = ansible(
        ["ansible", "-i", str(CLUSTER), "labfleet", "-m", "ansible.builtin.stat", "-a", "path=/opt/labfleet"]
    )
    if ready.code or '"exists": false' in ready.output:
        return None
    site(CLUSTER).good()
    took, _ = timed(lambda: site(CLUSTER).good())
    return took


def ping_alone(lab: Lab) -> float:
    """Seconds of one `ansible -m ping`."""
    command = ["ansible", "-i", str(lab.inventory), "labfleet", "-m", "ansible.builtin.ping"]
    times = [timed(lambda: ansible(command))[0] for _ in range(3)]
    return sorted(times)[1]


def ping_in_a_play(lab: Lab) -> float:
    """Seconds of one ping among many in one play, the start of Ansible left out."""

    def play(count: int) -> float:
        tasks = "".join(f"    - ansible.builtin.ping: {{data: p{number}}}\n" for number in range(count))
        with TemporaryDirectory() as folder:
            book = Path(folder) / "ping.yml"
            book.write_text(f"- hosts: labfleet\n  gather_facts: false\n  tasks:\n{tasks}")
            took, run = timed(lambda: ansible(["ansible-playbook", "-i", str(lab.inventory), str(book)]))
        assert run.code == 0, run.output
        assert RECAP.search(run.output), run.output
        return took

    return (play(PINGS + 1) - play(1)) / PINGS


def ansible(command: list[str]) -> Run:
    """Run one of Ansible's programs."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=REPOSITORY,
        env=ansible_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Run(done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr))


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it took, and what it gave."""
    begin = time.monotonic()
    result = act()
    return time.monotonic() - begin, result
