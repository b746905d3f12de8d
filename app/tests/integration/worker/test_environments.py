"""Environments of protocols: real attempts, a real sandbox, the real uv, a package index on the loopback."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attempt_server import FrontEnd
from built import kept
from package_index import PackageIndex, pin, sdist, wheel
from resident import wait_for

Start = Callable[..., Any]
LOCK = "requirements.lock"
ALPHA = wheel("alpha-lib", "1.0")
NEWER = wheel("alpha-lib", "2.0")
BETA = wheel(
    "beta",
    "3.0",
    files={"beta/tool.py": "def main():\n    print('tool of beta')\n"},
    requires=("alpha-lib>=1.0",),
    scripts=("beta-tool = beta.tool:main",),
)
SAYS = "import alpha_lib; print('alpha', alpha_lib.VERSION)"
WANTED = {"python": LOCK}


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with PackageIndex(ALPHA, NEWER, BETA) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def run(shepherd: Start, index: PackageIndex) -> Start:
    """`run(lock, code, **attempt)`: an attempt of a protocol with this lock file."""

    def start(lock: str, code: str = SAYS, files: dict[str, Any] | None = None, **values: Any) -> Any:
        values.setdefault("environment", WANTED)
        values["packages"] = {"index_url": index.url, **values.get("packages", {})}
        return shepherd(files={"main.py": code, LOCK: lock, **(files or {})}, **values)

    return start


def test_an_environment_is_built_and_told(run: Start, index: PackageIndex, work: Path) -> None:
    code = f"""{SAYS}
import subprocess, sys, os
subprocess.run(["beta-tool"], check=True)
print(sys.prefix, os.environ["VIRTUAL_ENV"])
try:
    open(sys.prefix + "/new", "w")
except OSError as error:
    print(error.strerror)
print(os.path.exists(alpha_lib.__cached__), "compiled")
"""
    building = (0.0, "building the environment: 2 packages of requirements.lock")
    index.hold.clear()  # a build that ends within a heartbeat would not be told
    attempt = run(pin(ALPHA) + pin(BETA), code)
    wait_for(lambda: building in attempt.attempt.progress)
    index.hold.set()

    said = attempt.wait(60)
    log = attempt.attempt.log.decode()
    assert said["outcome"] == "success", (said, log)
    lines = log.splitlines()
    for line in (
        "[labfleet] building the environment: 2 packages of requirements.lock",
        "alpha 1.0",
        "tool of beta",
        "/labfleet/environment /labfleet/environment",
        "Read-only file system",
        "True compiled",
    ):
        assert line in lines
    assert any("the environment is built" in line for line in lines)
    assert attempt.attempt.progress[-1] == (0.0, "")
    told = said["environment"]
    (directory,) = kept(work)
    assert told["Python packages"] == "alpha-lib 1.0, beta 3.0"
    assert told["Python environment"] == directory.name
    assert not (directory / "content" / ".downloads").exists()


def test_it_is_built_once_and_shared(run: Start, index: PackageIndex, work: Path) -> None:
    assert run(pin(ALPHA)).wait(60)["outcome"] == "success"
    asked = len(index.asked)
    index.down = True

    again = run(pin(ALPHA), "import alpha_lib; print('another protocol')")

    assert again.wait(60)["outcome"] == "success"
    assert b"building" not in again.attempt.log
    assert again.attempt.progress == []
    assert len(index.asked) == asked
    assert len(kept(work)) == 1


def test_eight_at_once_build_one(run: Start, index: PackageIndex, work: Path) -> None:
    index.hold.clear()
    attempts = [run(pin(ALPHA)) for _ in range(8)]
    waiting = "waiting for the environment, which another task is building"
    wait_for(lambda: sum((0.0, waiting) in item.attempt.progress for item in attempts) == 7)
    index.hold.set()

    assert [item.wait(60)["outcome"] for item in attempts] == ["success"] * 8
    assert len(kept(work)) == 1
    assert sum(b"the environment is built" in item.attempt.log for item in attempts) == 1


def test_two_versions_side_by_side(run: Start, work: Path) -> None:
    old, new = run(pin(ALPHA)), run(pin(NEWER))

    assert old.wait(60)["outcome"] == new.wait(60)["outcome"] == "success"
    assert b"alpha 1.0" in old.attempt.log
    assert b"alpha 2.0" in new.attempt.log
    assert len(kept(work)) == 2


WRONG = "0" * 64


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (f"# comment\nalpha-lib==1.0 --hash=sha256:{WRONG}\n", ["requirements.lock:2:", "Hash mismatch"]),
        (
            f"{pin(ALPHA)}nosuch==1.0 --hash=sha256:{WRONG}\n",
            ["requirements.lock:2:", "nosuch was not found"],
        ),
        (f"alpha-lib==9.0 --hash=sha256:{WRONG}\n", ["requirements.lock:1:", "no version of alpha-lib==9.0"]),
        (pin(BETA), ["requirements.lock:", "alpha-lib"]),
        ("alpha-lib>=1.0\n", ["requirements.lock:1:", "no exact version"]),
    ],
)
def test_a_lock_that_cannot_be_had_is_the_users_failure(
    run: Start, work: Path, lock: str, words: list[str]
) -> None:
    attempt = run(lock)
    said = attempt.wait(60)

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    for word in words:
        assert word in said["message"]
    assert kept(work) == []


def test_wheels_for_another_system_only(shepherd: Start, index: PackageIndex) -> None:
    other = wheel("gamma", "1.0", tag="cp27-cp27m-win32")
    index.files |= dict([other])
    packages = {"index_url": index.url}
    run = shepherd(files={"main.py": "", LOCK: pin(other)}, environment=WANTED, packages=packages)

    said = run.wait(60)
    assert said["failure"] == "user"
    assert "requirements.lock:1:" in said["message"]
    assert "no wheels with a matching" in said["message"]


def test_an_index_that_is_away_is_our_failure(run: Start, index: PackageIndex, work: Path) -> None:
    index.down = True
    ill = run(pin(NEWER))
    nobody = run(pin(ALPHA), packages={"index_url": "http://127.0.0.1:1/simple"})

    for ending in (nobody.wait(90), ill.wait(90)):
        assert (ending["outcome"], ending["failure"]) == ("failed", "system")
        assert "did not answer" in ending["message"]
        assert "worker_package_index_url" in ending["message"]
    assert b"Connection refused" in nobody.attempt.log
    assert kept(work) == []


def test_wheels_of_the_protocol_need_no_index(run: Start, index: PackageIndex) -> None:
    files = {f"wheels/{name}": content for name, content in (ALPHA, BETA)}
    environment = {"python": LOCK, "wheels": "wheels"}

    offline = run(pin(ALPHA) + pin(BETA), files=files, environment=environment, packages={"index_url": ""})
    assert offline.wait(60)["outcome"] == "success"
    assert index.asked == []

    files = {f"wheels/{ALPHA[0]}": ALPHA[1]}
    mixed = run(pin(ALPHA) + pin(BETA) + "\n", files=files, environment=environment)
    assert mixed.wait(60)["outcome"] == "success"
    assert b"asking the index" in mixed.attempt.log
    assert f"/files/{BETA[0]}" in index.asked


def test_without_an_index_the_message_says_so(run: Start, index: PackageIndex) -> None:
    said = run(pin(ALPHA), packages={"index_url": ""}).wait(60)

    assert said["failure"] == "user"
    assert "this worker has none" in said["message"]


def test_a_pylock(shepherd: Start, index: PackageIndex) -> None:
    digest = pin(ALPHA).rpartition(":")[2].strip()
    lock = f"""lock-version = "1.0"
created-by = "test"
[[packages]]
name = "alpha-lib"
version = "1.0"
wheels = [{{ url = "https://elsewhere.example/{ALPHA[0]}", hashes = {{ sha256 = "{digest}" }} }}]
"""
    files = {"main.py": SAYS, "pylock.toml": lock}
    environment = {"python": "pylock.toml"}
    attempt = shepherd(files=files, environment=environment, packages={"index_url": index.url})

    assert attempt.wait(60)["outcome"] == "success"
    assert b"alpha 1.0" in attempt.attempt.log


def test_what_was_used_longest_ago_goes_and_nothing_that_is_used(
    run: Start, index: PackageIndex, work: Path
) -> None:
    code = "import alpha_lib, time; print('holds', flush=True); time.sleep(120)"
    holds = run(pin(ALPHA), code, limits={"wall_seconds": 200})
    wait_for(lambda: b"holds" in holds.attempt.log)
    (held,) = kept(work)
    os.utime(held / "environment.json", (1, 1))

    # All that may be kept is less than one environment.
    small = {"index_url": index.url, "cache_bytes": 1000}
    assert run(pin(NEWER), packages=small).wait(60)["outcome"] == "success"
    assert held in kept(work)
    assert len(kept(work)) == 2

    holds.terminate()
    holds.wait()
    third = pin(BETA) + pin(ALPHA)
    assert run(third, packages=small).wait(60)["outcome"] == "success"
    assert held not in kept(work)
    assert len(kept(work)) == 1
    assert [path.stem for path in (work / "environments").glob("*.lock")] == [kept(work)[0].name]


def test_a_killed_build_leaves_nothing_half_made(run: Start, index: PackageIndex, work: Path) -> None:
    index.hold.clear()
    attempt = run(pin(ALPHA))
    wait_for(lambda: index.asked)
    attempt.process.kill()
    attempt.process.wait()
    index.hold.set()

    again = run(pin(ALPHA))
    assert again.wait(60)["outcome"] == "success"
    assert b"building" in again.attempt.log
    assert len(kept(work)) == 1


def test_a_build_can_be_cancelled(run: Start, index: PackageIndex, work: Path) -> None:
    index.hold.clear()
    attempt = run(pin(ALPHA))
    wait_for(lambda: index.asked)
    attempt.terminate()

    assert attempt.wait(60)["outcome"] == "stopped"
    assert kept(work) == []


def test_a_build_has_its_own_time_and_size(run: Start, index: PackageIndex, work: Path) -> None:
    large = wheel("large", "1.0", files={"large/data.py": f"x = {'1' * 3_000_000!r}\n"})
    index.files |= dict([large])
    said = run(pin(large), packages={"environment_bytes": 1024**2}).wait(60)
    assert said["failure"] == "user", said
    assert "File too large" in said["message"] or "larger than 1 MiB" in said["message"]

    index.hold.clear()
    said = run(pin(ALPHA), packages={"build_seconds": 1}).wait(60)
    assert said["failure"] == "system"
    assert "longer than 1 s" in said["message"]
    assert kept(work) == []


def test_no_code_of_a_package_runs_while_it_is_built(run: Start, work: Path) -> None:
    """Also not by a `.pth` file, which Python's start-up reads."""
    mark = "import os, sys; sys.stderr.write('the package runs\\n')\n"
    spy = wheel("spy", "1.0", files={"spy.pth": mark})
    files = {f"wheels/{spy[0]}": spy[1]}

    environment = {"python": LOCK, "wheels": "wheels"}
    attempt = run(pin(spy), "print('the command runs')", files=files, environment=environment)

    assert attempt.wait(60)["outcome"] == "success"
    lines = attempt.attempt.log.decode().splitlines()
    built = next(number for number, line in enumerate(lines) if "the environment is built" in line)
    assert "the package runs" not in lines[:built]
    assert "the package runs" in lines[built:]
    assert "the command runs" in lines[built:]


BACKEND = r"""
import base64, hashlib, json, os, zipfile
def _seen():
    return {
        "names": sorted(os.listdir("/labfleet")),
        "environment": sorted(os.environ),
        "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "files": [path for path in %(paths)s if os.path.exists(path)],
    }
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    info = "nosy-1.0.dist-info"
    files = {
        "nosy.py": "SEEN = " + repr(_seen()),
        info + "/METADATA": "Metadata-Version: 2.1\nName: nosy\nVersion: 1.0\n",
        info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(name + ",,\n" for name in files) + info + "/RECORD,,\n"
    with zipfile.ZipFile(os.path.join(wheel_directory, "nosy-1.0-py3-none-any.whl"), "w") as archive:
        for name, text in {**files, info + "/RECORD": record}.items():
            archive.writestr(name, text)
    return "nosy-1.0-py3-none-any.whl"
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "nosy"
version = "1.0"
"""


def test_source_packages_only_where_they_are_allowed_and_what_they_see(
    run: Start, index: PackageIndex, work: Path
) -> None:
    secret = ["/root", "/home", "/var/lib", "/run", "/opt", "/etc/labfleet", "/etc/shadow", str(work)]
    source = sdist("nosy", "1.0", {"backend.py": BACKEND % {"paths": secret}, "pyproject.toml": PROJECT})
    index.files |= dict([source])

    said = run(pin(source), "").wait(60)
    assert said["failure"] == "user"
    assert "requirements.lock:1:" in said["message"]

    allowed = run(pin(source), "import nosy; print('seen:', nosy.SEEN)", packages={"sdists": True})
    assert allowed.wait(60)["outcome"] == "success", allowed.attempt.log
    line = next(line for line in allowed.attempt.log.decode().splitlines() if line.startswith("seen:"))
    seen = ast.literal_eval(line.removeprefix("seen:").strip())
    assert seen["names"] == ["environment", "protocol", "requirements.txt", "uv"]
    assert seen["files"] == []
    assert len(seen["processes"]) < 10
    assert not [name for name in seen["environment"] if "LABFLEET" in name or "CREDENTIALS" in name]


def test_r_packages_are_looked_for_before_anything_is_built(run: Start, index: PackageIndex) -> None:
    said = run(pin(ALPHA), environment={"python": LOCK, "r": ["surely.missing"]}).wait(30)

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    assert "surely.missing" in said["message"]
    assert index.asked == []


def test_r_packages_must_be_there(shepherd: Start, front_end: FrontEnd) -> None:
    said = shepherd("print('never')", environment={"r": ["surely.missing"]}).wait(30)

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    for word in ("surely.missing", "r-cran-surely.missing", "worker1", "worker_packages"):
        assert word in said["message"]
