"""What each part of `./lab test` runs."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import yaml
from jobs import Job, Step
from labs import BIN, ROOT, STATE, address, inventory, journals, playbook, removal

APP = ROOT / "app"
TESTS = APP / "tests"
LOGS = STATE / "logs" / "test"


def tool(name: str, *arguments: str, folder: Path = ROOT) -> Step:
    """A tool of the controller's environment."""
    return Step(
        [str(BIN / name), *arguments], folder=folder, environment={"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    )


def pytest(name: str, *arguments: str, **environment: str) -> Step:
    """pytest on a folder of app/tests; exit code 5 (no test) is a failure like any other."""
    result = STATE / "test" / "results" / f"{name}.xml"
    # Parts run side by side: each remembers its own failures.
    cache = f"cache_dir={STATE / 'test' / 'cache' / name}"
    command = [str(BIN / "pytest"), "-q", f"--junitxml={result}", "-o", cache, *arguments]
    again = [*command, "--last-failed", "--last-failed-no-failures=none"]
    return Step(command, folder=APP, junit=result, environment=environment, again=again)


def lint() -> Iterator[Job]:
    """Style and types, of Python, Ansible, YAML and sh."""
    steps = [
        tool("ruff", "check", "src", "tests", "protocols", "protocols-common", folder=APP),
        # Ansible's modules and testinfra's tests: what would break them only when they run.
        tool("ruff", "check", "--select", "F", "library", "plugins", "roles"),
        tool("ruff", "format", "--check", "src", "tests", "protocols", "protocols-common", folder=APP),
        tool("mypy", folder=APP),
        Step(
            [
                "shellcheck",
                "lab",
                ".ci/run",
                "app/tests/vagrant/bin/docker",
                "app/protocols/file-facts/main.sh",
            ],
            folder=ROOT,
        ),
        tool("yamllint", "--strict", "."),
        tool("ansible-lint"),
    ]
    yield Job("lint", "lint", steps, LOGS / "lint.log", all_steps=True)


def unit() -> Iterator[Job]:
    """What needs nothing."""
    yield Job("unit", "unit", [pytest("unit", "tests/unit")], LOGS / "unit.log")


def protocols() -> Iterator[Job]:
    """The protocols that ship, by the interpreters of this computer, against reference values."""
    yield Job(
        "protocols", "protocols", [pytest("protocols", "-n", "2", "tests/protocols")], LOGS / "protocols.log"
    )


def integration() -> Iterator[Job]:
    """Against a PostgreSQL and a RabbitMQ that the project's own roles have made on a machine of its own."""
    folder, host, password = inventory("services", "local"), address("services"), secrets.token_hex(16)
    network = f"{host.rpartition('.')[0]}.0/24"
    everything = {"vhost": "labfleet", "configure": ".*", "write": ".*", "read": ".*"}
    more = {
        "postgresql_listen_addresses": ["127.0.0.1", host],
        "postgresql_allowed_networks": [network],
        "labfleet_extra_rules": [{"port": 5672, "sources": [network], "comment": "the tests"}],
        "postgresql_roles": [{"name": "labfleet_test", "password": password, "databases": []}],
        "postgresql_databases": [],
        "rabbitmq_listen_addresses": ["127.0.0.1", host],
        "rabbitmq_users": [
            {"name": "test", "password": password, "tags": ["administrator"], "permissions": [everything]}
        ],
    }
    # Only this directory of an inventory is not read as inventory.
    (folder / "secrets").mkdir(mode=0o700)
    variables = folder / "secrets" / "services.json"
    variables.write_text(json.dumps(more))
    given = ("-e", f"@{variables}")
    steps = [
        playbook(folder, "playbooks/machines.yml"),
        playbook(folder, "playbooks/rabbitmq.yml", "playbooks/database.yml", *given, **_mitogen()),
        playbook(folder, "app/tests/parts/services.yml", *given, **_mitogen()),
        pytest(
            "integration",
            "tests/integration",
            LABFLEET_TEST_DATABASE=f"postgresql://labfleet_test:{password}@{host}:5432/postgres",
            LABFLEET_TEST_BROKER=f"amqp://test:{password}@{host}:5672/labfleet",
        ),
    ]
    log = LOGS / "integration.log"
    yield Job("integration", "integration", steps, log, [removal(folder)], [journals(folder)])


def molecule() -> Iterator[Job]:
    """Every scenario of every role."""
    for path in sorted((ROOT / "roles").glob("*/molecule/*/molecule.yml")):
        scenario, role = path.parent.name, path.parents[2].name
        name = f"molecule-{role}-{scenario}"
        result = STATE / "test" / "results" / f"{name}.xml"
        environment = {"NO_COLOR": "1", "PYTEST_ADDOPTS": f"--junitxml={result}", **_mitogen()}
        command = [*_as_root(), str(BIN / "molecule"), "test", "-s", scenario]
        names = [platform["name"] for platform in yaml.safe_load(path.read_text())["platforms"]]
        steps = [Step(command, environment, path.parents[2], result, again=command)]
        remove = Step([*_as_root(), "podman", "rm", "--force", "--ignore", "--time", "5", *names])
        yield Job("molecule", name, steps, LOGS / f"{name}.log", [remove])


def acceptance(name: str, like: str, tests: Sequence[str] = (), **environment: str) -> Iterator[Job]:
    """A lab as a newcomer raises it, by ./lab up, and everything it must do.

    `tests` are for pytest besides, `environment` is for what raises the lab.
    """
    folder = inventory(name, like)
    lab = [str(ROOT / "lab")]
    raise_it = [
        # Check mode on machines that have nothing yet.
        playbook(folder, "site.yml", "--check", "--diff", counts=True),
        Step([*lab, "up", "--inventory", str(folder)], folder=ROOT),
        Step([*lab, "up", "--inventory", str(folder)], folder=ROOT),
    ]
    steps = [
        playbook(folder, "playbooks/machines.yml"),
        *(replace(step, environment={**step.environment, **environment}) for step in raise_it),
        pytest(name, "tests/acceptance", *tests, LABFLEET_INVENTORY=str(folder)),
    ]
    down = Step([*lab, "down", "--inventory", str(folder)], folder=ROOT)
    yield Job(name, name, steps, LOGS / f"{name}.log", [down], [journals(folder)], alone="lab")


def attacked(part: str, tests: Path) -> Job:
    """The folder's own lab (`inventory/` changes inventory/local), and what must hold when it is attacked."""
    name = tests.name
    folder = inventory(name, "local", tests / "inventory")
    steps = [
        playbook(folder, "playbooks/machines.yml"),
        playbook(folder, "site.yml"),
        pytest(name, str(tests), LABFLEET_INVENTORY=str(folder)),
    ]
    log = LOGS / f"{name}.log"
    return Job(part, name, steps, log, [removal(folder)], [journals(folder)], alone="lab")


def resilience() -> Iterator[Job]:
    """Processes killed, connections cut, services away."""
    yield attacked("resilience", TESTS / "resilience")


def operations() -> Iterator[Job]:
    """What sysadmins do to a lab that works: each folder has a lab of its own."""
    for path in sorted((TESTS / "operations").glob("*/inventory")):
        yield attacked("operations", path.parent)


def fleet() -> Iterator[Job]:
    """All that takes too long for every commit."""
    yield from resilience()
    yield from operations()


def vagrant() -> Iterator[Job]:
    """The shipped Vagrantfile by Debian's Vagrant. It has a tree, a network and a port of its own."""
    yield Job("vagrant", "vagrant", [pytest("vagrant", "tests/vagrant")], LOGS / "vagrant.log")


# In the order in which they begin: what takes longest goes first.
PARTS: dict[str, Callable[[], Iterator[Job]]] = {
    "single": lambda: acceptance("single", "local"),
    "resilience": resilience,
    "operations": operations,
    "fleet": fleet,
    "lint": lint,
    "unit": unit,
    "protocols": protocols,
    "integration": integration,
    # Roles and pages are those of `single`, where Ansible runs as sysadmins have it.
    "cluster": lambda: acceptance(
        "cluster", "cluster", ["--ignore=tests/acceptance/test_accessibility.py"], **_mitogen()
    ),
    "vagrant": vagrant,
    "molecule": molecule,
}

# These run when they are asked for by name: with them a run would pass the time that it may take.
BY_NAME = ("resilience", "operations", "fleet")


def jobs_of(part: str) -> Iterator[Job]:
    """The jobs of a part; `molecule:common` names the roles or scenarios that contain a word."""
    name, _, word = part.partition(":")
    return (job for job in PARTS[name]() if word in job.name)


def _mitogen() -> dict[str, str]:
    """Settings by which Ansible keeps one interpreter on each machine for all tasks (docs/decisions/0023)."""
    plugins = Path(str(files("ansible_mitogen"))) / "plugins" / "strategy"
    return {
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(plugins),
        # It would be strict in a way of its own, whatever the inventory says of unknown machines.
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        # That it is no plugin of Ansible's own is told at the start of each playbook otherwise.
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
    }


def _as_root() -> list[str]:
    """Molecule's machines are root's, as those of the lab."""
    if os.geteuid() == 0:
        return []
    return [
        "sudo",
        f"--preserve-env=PYTEST_ADDOPTS,NO_COLOR,CONTAINERS_CONF,{','.join(_mitogen())}",
        "env",
        f"PATH={os.environ['PATH']}",
    ]
