"""AppArmor's profiles of a worker allow what it and its attempts need by their settings, and little more.

That they are sound is AppArmor's own parser's to say, in the role's Molecule scenarios.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import jinja2
import pytest
import yaml

from labfleet.worker import sandbox, uvrecipe

ROLE = Path(__file__).resolve().parents[3] / "roles" / "worker"
NAMES = {"worker": ["labfleet-worker"], "attempt": ["labfleet-attempt", "labfleet-attempt-program"]}
SETTINGS = {
    "ansible_managed": "managed",
    "__worker_apparmor_prefix": "/srv/labfleet",
    "__worker_bwrap": "/usr/bin/bwrap",
    "__worker_config": "/etc/labfleet/worker.toml",
    "worker_work_directory": "/srv/work",
    "worker_store_mount": "/srv/store",
    "worker_metrics": True,
    "worker_images": False,
    "worker_sandbox_readonly_paths": ["/opt/models"],
}
RULE = re.compile(r"^\s*(?:owner )?(?P<path>[/@]\S*) (?P<may>[a-z]+),$", re.MULTILINE)


def profile(name: str, mode: str = "complain", **settings: object) -> str:
    """The text of a profile's file."""
    flags = "attach_disconnected" + (", complain" if mode == "complain" else "")
    text = (ROLE / "templates" / f"apparmor-{name}.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined).from_string(text)
    return template.render({**SETTINGS, **settings, "__worker_apparmor_flags": flags})


def program(**settings: object) -> str:
    """The part for what runs in a sandbox."""
    return profile("attempt", **settings).partition("profile labfleet-attempt-program")[2]


def pattern(path: str) -> re.Pattern[str]:
    """AppArmor's pattern of paths: `*` without a slash, `**` with them, `{a,b}`."""
    words = re.split(r"(\*\*|\*|\{|\}|,)", path.replace("@{PROC}", "/proc").replace("@{sys}", "/sys"))
    meant = {"**": ".+", "*": "[^/]+", "{": "(?:", "}": ")", ",": "|"}
    return re.compile("".join(meant.get(word, re.escape(word)) for word in words))


def may(text: str, path: str) -> set[str]:
    """What the rules of a profile allow with this path."""
    return {
        letter
        for rule in RULE.finditer(text)
        if pattern(rule["path"]).fullmatch(path)
        for letter in rule["may"]
    }


@pytest.mark.parametrize("mode", ["complain", "enforce"])
@pytest.mark.parametrize("name", NAMES)
def test_names_and_mode(name: str, mode: str) -> None:
    heads = re.findall(r"^profile (\S+).* flags=\((.*)\) \{$", profile(name, mode), re.MULTILINE)
    assert [head[0] for head in heads] == NAMES[name]
    for _, flags in heads:
        assert ("complain" in flags.split(", ")) == (mode == "complain")
        assert "attach_disconnected" in flags, "what is bound into a namespace has no path outside of it"


def test_what_the_kernel_is_asked_for_is_what_the_files_have() -> None:
    wanted = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))[
        "__worker_apparmor_wanted"
    ]
    assert re.findall(r"'(labfleet-[a-z-]+)'", wanted) == sorted(chain(*NAMES.values()))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_refused_while_it_only_complains(name: str) -> None:
    """A rule that says `deny` refuses in either mode."""
    assert not re.search(r"\bdeny\b", profile(name))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/usr/bin/prlimit", "rx"),
        ("/usr/lib/R/bin/exec/R", "rmx"),
        (f"{sandbox.PROTOCOL}/main.R", "rx"),
        (f"{sandbox.INPUTS}/expression", "r"),
        (sandbox.PARAMETERS, "r"),
        (sandbox.PROGRESS, "rw"),
        (f"{sandbox.OUTPUTS}/plots/a.png", "rwlk"),
        (f"{sandbox.ENVIRONMENT}/bin/python", "rwxm"),
        (f"{sandbox.LIBRARY}/rlang/libs/rlang.so", "rwm"),
        (uvrecipe.UV, "rx"),
        ("/tmp/joblib/a", "rwxmlk"),
        ("/dev/shm/sem.a", "rwlk"),
        ("/opt/models/weights", "r"),
        ("/proc/meminfo", "r"),
        ("/etc/passwd", "r"),
    ],
)
def test_a_program_may_use_what_its_sandbox_shows(path: str, wanted: str) -> None:
    assert set(wanted) <= may(program(), path)


@pytest.mark.parametrize("path", ["/app/tool", "/var/lib/model", "/entrypoint.sh", sandbox.OWN_BUSYBOX])
def test_where_images_run_their_files_are_read_and_nowhere_written(path: str) -> None:
    assert {"r", "x", "m"} <= may(program(worker_images=True), path)
    assert "w" not in may(program(worker_images=True), path)
    assert "w" in may(program(worker_images=True), f"{sandbox.IMAGE}/{sandbox.TREE}/app/tool")


@pytest.mark.parametrize("path", [file for file in sandbox.SYSTEM_FILES if file.count("/") > 1])
def test_a_program_may_read_the_machine_s_files_that_are_shown(path: str) -> None:
    assert "r" in may(program(), path) | may(program(), f"{path}/anything")


@pytest.mark.parametrize(
    "path", ["/srv/work/attempts/a", "/home/ada/.ssh/id_ed25519", "/root/.bashrc", "/run/user/1/bus"]
)
def test_a_program_may_not_touch_what_its_sandbox_hides(path: str) -> None:
    assert not may(program(), path)


def test_a_program_has_no_capability_and_no_mount() -> None:
    assert not re.search(r"^\s*(capability|mount|umount|pivot_root|file)\b", program(), re.MULTILINE)
    sockets = re.findall(r"^\s*network (.*),$", program(), re.MULTILINE)
    assert set(sockets) == {"inet stream", "inet dgram", "inet6 stream", "inet6 dgram", "netlink raw"}


def test_what_bubblewrap_starts_has_the_second_profile_besides() -> None:
    assert "pix /** -> &labfleet-attempt//&labfleet-attempt-program," in profile("attempt")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/srv/labfleet/releases/1.0.0/bin/celery", "rx"),
        ("/etc/labfleet/worker.toml", "r"),
        ("/etc/labfleet/tls/front-end-web.crt", "r"),
        ("/run/credentials/labfleet-worker.service/worker_token", "r"),
        ("/srv/work/attempts/a/log", "rw"),
        ("/srv/store/blobs/ab/cd", "r"),
        ("/run/labfleet-metrics-worker/counter.db", "rw"),
        ("/run/user/990/labfleet-nursery.sock", "rw"),
    ],
)
def test_the_service_may_use_what_its_settings_name(path: str, wanted: str) -> None:
    assert set(wanted) <= may(profile("worker"), path)


@pytest.mark.parametrize(
    ("path", "letters"),
    [
        ("/etc/labfleet/credentials/worker/worker_token", "rw"),
        ("/etc/labfleet/worker.toml", "w"),
        ("/srv/labfleet/releases/1.0.0/bin/celery", "w"),
        ("/usr/bin/bwrap", "wx"),
        ("/home/ada/data", "rw"),
    ],
)
def test_the_service_may_do_no_more(path: str, letters: str) -> None:
    assert not set(letters) & may(profile("worker"), path)


def test_what_is_not_used_is_not_allowed() -> None:
    lean = profile("worker", worker_store_mount="", worker_metrics=False)
    assert not may(lean, "/srv/store/blobs/ab/cd")
    assert not may(lean, "/run/labfleet-metrics-worker/counter.db")
