"""Row 17, with webhooks and mail on: no unit of ours is more exposed than it must be."""

from __future__ import annotations

import re

from acceptance.lab import Machine

MOST_EXPOSED = {
    "labfleet-web": 2.0,
    "labfleet-dispatcher": 2.0,
    "labfleet-webhooks": 2.0,
    "labfleet-mailer": 2.0,
    "labfleet-data": 2.0,
    "labfleet-loader": 2.0,
    "labfleet-fetcher": 2.0,
    "labfleet-sweep": 2.0,
    "labfleet-gc": 2.0,
    "labfleet-publisher": 2.0,
    "labfleet-runner": 3.0,
    "labfleet-worker": 5.0,
}


def test_exposure(webserver: Machine) -> None:
    exposure = {}
    for unit in MOST_EXPOSED:
        said = webserver.run(f"systemd-analyze security --no-pager {unit}.service || true")
        exposure[unit] = float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)[0])
    assert {unit: level for unit, level in exposure.items() if level > MOST_EXPOSED[unit]} == {}, exposure
