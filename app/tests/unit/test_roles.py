"""Every role says once what it takes: its defaults and its argument specification are the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/tasks/main.yml"))
EXPRESSION = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
WORD = re.compile(r"(?<![\w'\"./-])\w+")
# What is nothing on one machine is tested on several, by name: app/tests/operations/<folder>.
ON_SEVERAL_MACHINES = {"etcd": "standby", "patroni": "standby"}
TASKS = ["preflight", "install", "configure", "run"]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    spec = load(role / "meta" / "argument_specs.yml")
    described: dict[str, dict[str, Any]] = spec["argument_specs"]["main"]["options"]
    return described


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_there_are_roles() -> None:
    expected = {
        "app",
        "backup",
        "balancer",
        "common",
        "etcd",
        "firewall",
        "hardening",
        "monitoring",
        "nginx",
        "patroni",
        "postgresql",
        "queue",
        "rabbitmq",
        "webserver",
        "worker",
    }
    assert {role.name for role in ROLES} == expected


def test_same_variables_and_values(role: Path) -> None:
    described = options(role)
    stated = {name: option["default"] for name, option in described.items() if "default" in option}
    assert stated == load(role / "defaults" / "main.yml")
    without = {name for name, option in described.items() if "default" not in option}
    assert all(described[name].get("required") for name in without), "no default and not required"


def test_variables_bear_the_role_s_name(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options(role))


def test_every_variable_is_described(role: Path) -> None:
    assert all(option.get("description") and option.get("type") for option in options(role).values())


def test_four_steps(role: Path) -> None:
    imported = [task["ansible.builtin.import_tasks"] for task in load(role / "tasks" / "main.yml")]
    assert imported == [f"{name}.yml" for name in TASKS]


def test_two_scenarios_on_both_releases(role: Path) -> None:
    if role.name in ON_SEVERAL_MACHINES:
        tests = ROOT / "app" / "tests" / "operations" / ON_SEVERAL_MACHINES[role.name]
        assert list(tests.glob("test_*.py"))
        return
    for scenario in ("default", "alternative"):
        folder = role / "molecule" / scenario
        images = [platform["image"] for platform in load(folder / "molecule.yml")["platforms"]]
        assert sorted(set(images)) == ["debian12", "debian13"], folder
        assert list((folder / "tests").glob("test_*.py")), folder


def test_readme_says_how_it_behaves(role: Path) -> None:
    text = (role / "README.md").read_text(encoding="utf-8").lower()
    assert all(word in text for word in ("idempotent", "atomic", "roll"))


def test_no_role_names_another_role_s_variables(role: Path) -> None:
    others = tuple(f"{other.name}_" for other in ROLES if other != role)
    for path in [*role.glob("tasks/*.yml"), *role.glob("templates/*"), *role.glob("handlers/*.yml")]:
        expressions = EXPRESSION.findall(path.read_text(encoding="utf-8"))
        words = [word for expression in expressions for word in WORD.findall(expression)]
        assert not [word for word in words if word.startswith(others)], path
