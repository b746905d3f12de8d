"""bubblewrap's command line: what is there, and above all what is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from labfleet.worker import sandbox
from labfleet.worker.sandbox import Places, argv
from labfleet.worker.spec import Spec


@pytest.fixture
def words(spec: Spec, places: Places) -> list[str]:
    return argv(spec, places, 7)


@pytest.mark.parametrize(
    "option",
    [
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ],
)
def test_isolation(words: list[str], option: str) -> None:
    assert option in words


def test_no_network_and_no_capability(words: list[str]) -> None:
    assert "--share-net" not in words
    assert ("--cap-drop", "ALL") in pairwise(words)


def test_the_command_comes_last_and_behind_its_limits(words: list[str], spec: Spec) -> None:
    separator = words.index("--")
    inside = words[separator + 1 :]
    assert inside[0] == "/usr/bin/prlimit"
    assert tuple(inside[-2:]) == spec.command
    assert f"--data={spec.limits.memory_bytes}" in inside
    assert f"--nproc={spec.limits.processes}" in inside
    assert f"--fsize={spec.limits.output_bytes}" in inside
    assert "--core=0" in inside


def test_only_outputs_and_progress_are_writable(words: list[str], places: Places) -> None:
    sources = [words[i + 1] for i, word in enumerate(words) if word in {"--bind", "--bind-try", "--dev-bind"}]
    assert sources == [str(places.outputs), str(places.progress)]


def test_what_is_shown_of_the_machine(words: list[str]) -> None:
    shown = {words[i + 1] for i, word in enumerate(words) if word.startswith("--ro-bind")}
    assert "/opt/tools" in shown
    assert not shown & {"/", "/etc", "/home", "/root", "/run", "/var", "/var/lib", "/proc", "/sys"}
    assert not {
        path for path in shown if "shadow" in path or "credentials" in path or "labfleet/" in path[:9]
    }


def test_memory_file_systems_have_a_size(words: list[str], spec: Spec) -> None:
    sizes = {words[i + 1]: int(words[i - 1]) for i, word in enumerate(words) if word == "--tmpfs"}
    assert sizes == {"/tmp": spec.limits.memory_bytes // 2, "/dev/shm": sandbox.SHARED_MEMORY_BYTES}
    remounted = [words[i + 1] for i, word in enumerate(words) if word == "--remount-ro"]
    assert remounted == ["/dev", "/"]


def test_the_environment_is_the_contracts(words: list[str]) -> None:
    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--setenv"}
    assert values["LABFLEET_PARAMETERS"] == "/labfleet/parameters.json"
    assert values["LABFLEET_INPUTS"] == "/labfleet/inputs"
    assert values["LABFLEET_OUTPUTS"] == "/labfleet/outputs"
    assert values["LABFLEET_PROGRESS"] == "/labfleet/progress"
    assert values["TMPDIR"] == "/tmp"
    assert values["OMP_NUM_THREADS"] == "2"
    assert not {name for name in values if "TOKEN" in name or "CREDENTIALS" in name}


def test_an_environment_is_read_only_and_comes_first(spec: Spec, places: Places, tmp_path: Path) -> None:
    words = argv(spec, places, 7, {sandbox.ENVIRONMENT: tmp_path})

    assert words[words.index(str(tmp_path)) - 1] == "--ro-bind"
    assert words[words.index(str(tmp_path)) + 1] == sandbox.ENVIRONMENT
    assert words[words.index("PATH") + 1].startswith(f"{sandbox.ENVIRONMENT}/bin:")
    assert words[words.index("VIRTUAL_ENV") + 1] == sandbox.ENVIRONMENT
    assert "R_LIBS" not in words


def test_a_library_of_r_is_read_only_and_the_only_one(spec: Spec, places: Places, tmp_path: Path) -> None:
    words = argv(spec, places, 7, {sandbox.LIBRARY: tmp_path})

    assert words[words.index(str(tmp_path)) - 1] == "--ro-bind"
    assert words[words.index(str(tmp_path)) + 1] == sandbox.LIBRARY
    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--setenv"}
    for name in ("R_LIBS", "R_LIBS_SITE", "R_LIBS_USER"):
        assert values[name] == sandbox.LIBRARY
    assert values["R_ENVIRON"] == "/dev/null"
    assert values["RENV_CONFIG_AUTOLOADER_ENABLED"] == "FALSE"
    assert values["PATH"] == sandbox.PATH
    assert "VIRTUAL_ENV" not in values


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of an image."""
    tree = tmp_path / "tree"
    for name in ("usr/bin", "etc", "opt/own", "srv"):
        (tree / name).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "entrypoint.sh").write_text("")
    (tree / "srv/away").symlink_to("/etc")
    return tree


def test_an_image_is_in_the_place_of_the_machines_programs(spec: Spec, places: Places, tree: Path) -> None:
    words = argv(spec, places, 7, image=sandbox.Image(tree, {}))

    shown = {words[i + 2]: words[i + 1] for i, word in enumerate(words) if word == "--ro-bind"}
    for name in ("/usr", "/etc", "/entrypoint.sh"):
        assert shown[name] == f"{tree}{name}"
    assert words[words.index("--symlink") + 1 :][:2] == ["usr/bin", "/bin"]
    own = {str(path) for path in (places.directory, tree)}
    machine = {path for path in shown.values() if not any(path.startswith(place) for place in own)}
    assert machine == {sandbox.BUSYBOX}
    # Of the machine /etc/passwd and its like come after the image's own /etc.
    assert list(shown).index("/etc/passwd") > list(shown).index("/etc")
    assert words[words.index("--remount-ro") :].count("--remount-ro") == 2
    for option in ("--unshare-all", "--disable-userns", "--clearenv"):
        assert option in words
    assert "--share-net" not in words


def test_in_an_image_the_limits_come_first(spec: Spec, places: Places, tree: Path) -> None:
    words = argv(spec, places, 7, image=sandbox.Image(tree, {}))

    inside = words[words.index("--") + 1 :]
    assert inside[:3] == [sandbox.OWN_BUSYBOX, "sh", "-c"]
    assert inside[3].startswith("ulimit ")
    for limit in (f"-d {spec.limits.memory_bytes // 1024} ", f"-u {spec.limits.processes} ", "-c 0 ||"):
        assert limit in inside[3]
    assert tuple(inside[-2:]) == spec.command


def test_variables_of_an_image_do_not_replace_the_sandboxs(spec: Spec, places: Places, tree: Path) -> None:
    own = {
        "PATH": "/opt/bin",
        "LANG": "de",
        "X": "y",
        "HOME": "/root",
        "LABFLEET_OUTPUTS": "/x",
        "TMPDIR": "/",
    }
    words = argv(spec, places, 7, image=sandbox.Image(tree, own))

    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--setenv"}
    assert {name: values[name] for name in ("PATH", "LANG", "X")} == {
        "PATH": "/opt/bin",
        "LANG": "de",
        "X": "y",
    }
    assert (values["HOME"], values["TMPDIR"]) == ("/tmp", "/tmp")
    assert values["LABFLEET_OUTPUTS"] == sandbox.OUTPUTS
    assert values["OMP_NUM_THREADS"] == "2"


def test_directories_of_the_machine_lie_within_those_of_the_image(
    spec: Spec, places: Places, tree: Path, tmp_path: Path
) -> None:
    """Nothing can be added to a directory that is the image's: it is made of its parts."""
    shown = tmp_path / "shown"
    shown.mkdir()
    inside = tree / str(shown.parent).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "own").write_text("")
    (inside / "shown").symlink_to("/etc")
    host = replace(spec.host, readonly_paths=(str(shown), "/nowhere/at/all"))
    words = argv(replace(spec, host=host), places, 7, image=sandbox.Image(tree, {}))

    bound = {words[i + 2]: words[i + 1] for i, word in enumerate(words) if word == "--ro-bind"}
    assert bound[str(shown)] == str(shown)
    assert bound[f"{tmp_path}/own"] == str(inside / "own")
    assert str(tmp_path) in [words[i + 1] for i, word in enumerate(words) if word == "--dir"]
    assert str(tmp_path.parent) not in bound
    assert ("--symlink", "/etc", str(shown)) not in zip(words, words[1:], words[2:], strict=False)
    assert "/nowhere/at/all" not in words
