"""The audit of rights finds nothing on a deployed machine, and what somebody left there."""

from __future__ import annotations

from acceptance.lab import Lab, Machine
from acceptance.playbook import play


def test_nothing_strange(lab: Lab) -> None:
    run = play(lab.inventory, "playbooks/audit.yml").good()
    assert set(run.changed.values()) == {0}


def test_what_somebody_left(lab: Lab, spare: Machine) -> None:
    spare.run("cp /bin/true /usr/local/bin/helper && chmod 4755 /usr/local/bin/helper")
    spare.run("mkdir -m 777 /srv/scratch && touch /srv/orphan && chown 4711 /srv/orphan")
    try:
        run = play(lab.inventory, "playbooks/audit.yml")
        assert run.code != 0
        for words in (
            "/usr/local/bin/helper runs as its owner (setuid)",
            "/srv/scratch may be written to by everybody",
            "/srv/orphan belongs to nobody (4711:0)",
        ):
            assert words in run.output, run.output[-3000:]
        meant = '{"audit_allowed": ["/usr/local/bin/helper", "/srv/*"]}'
        play(lab.inventory, "playbooks/audit.yml", "-e", meant).good()
    finally:
        spare.run("rm -rf /usr/local/bin/helper /srv/scratch /srv/orphan")
