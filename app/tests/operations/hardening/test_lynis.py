"""Row 20: lynis gives a deployed host 80 of 100 at least. `lynis.prf` has each waiver with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from acceptance.lab import Lab, Machine, inventory_path, load

LAB: Lab = load(inventory_path())
LEAST = 80
PROFILE = Path(__file__).with_name("lynis.prf")
REPORT = "/var/log/lynis-report.dat"


@pytest.mark.parametrize("machine", LAB.machines.values(), ids=LAB.machines.keys())
def test_index(machine: Machine) -> None:
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends lynis")
    machine.run(f"cat > /root/labfleet.prf <<'END'\n{PROFILE.read_text()}\nEND")
    machine.run(
        "lynis audit system --quick --no-colors --quiet --profile /root/labfleet.prf >/dev/null 2>&1 || true"
    )
    report = machine.run(f"grep -aE '^(hardening_index|warning|suggestion)' {REPORT}")
    machine.run(f"apt-get purge -qy lynis; rm -rf /root/labfleet.prf {REPORT} /var/log/lynis*")
    [index] = re.findall(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert int(index) >= LEAST, report


def test_every_waiver_has_a_reason() -> None:
    """Each waiver, or the few that follow each other, stands below its reason."""
    lines = [line for line in PROFILE.read_text().splitlines() if line.strip()]
    waivers = [number for number, line in enumerate(lines) if line.startswith("skip-test=")]
    assert waivers
    for number in waivers:
        above = lines[number - 1]
        assert above.startswith(("# ", "skip-test=")), lines[number]
