#!/usr/bin/env python3
"""Install a release on a node from the tar that the controller built, without a network.

Standard library only. The release is complete when its `release.json` is there; what an interrupted
run left is removed first. Everything belongs to root and is readable, not writable, for services.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

PYTHON = "/usr/bin/python3"
DIRECTORY_MODE = 0o755
PROCESSES = Path("/proc")


def main() -> int:
    """Install, then remove the oldest releases."""
    options = arguments()
    os.umask(0o022)
    release = options.releases / options.archive.stem
    with tempfile.TemporaryDirectory(dir=options.releases, prefix=".install-") as directory:
        scratch = Path(directory)
        with tarfile.open(options.archive) as tar:
            # Debian 12's Python has no filters yet; the archive is our own all the same.
            tar.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # noqa: S202
        install(options, scratch / release.name, release, scratch)
    options.archive.unlink()
    prune(options, release)
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="the release; it is removed afterwards")
    parser.add_argument("--releases", type=Path, required=True, help="directory of all releases")
    parser.add_argument("--keep", type=int, required=True, help="previous releases to keep")
    parser.add_argument("--source-directory", type=Path, help="run the code from this tree (development)")
    return parser.parse_args()


def install(options: argparse.Namespace, content: Path, release: Path, scratch: Path) -> None:
    """Make the environment in its final place (its scripts name it), the mark of completeness last."""
    shutil.rmtree(release, ignore_errors=True)
    uv = unpack_uv(content / "wheels", scratch)
    environment = {"PATH": os.environ["PATH"], "UV_CACHE_DIR": str(scratch / "cache"), "UV_OFFLINE": "1"}
    base = [str(uv), "--no-config", "--quiet"]
    run([*base, "venv", "--python", PYTHON, "--no-python-downloads", str(release)], environment)
    command = [*base, "pip", "install", "--python", str(release / "bin/python"), "--no-index", "--no-deps"]
    command += ["--find-links", str(content / "wheels"), "--require-hashes"]
    command += ["--link-mode=copy", "--compile-bytecode"]
    run([*command, "--requirement", str(content / "requirements.txt")], environment)
    shutil.copy(content / "sbom.cdx.json", release / "sbom.cdx.json")
    if (content / "protocols").is_dir():
        shutil.copytree(content / "protocols", release / "share/protocols")
    if options.source_directory:
        point_to(options.source_directory, release)
    else:
        keep_command_line(content / "wheels", release)
    # uv leaves its lock writable for everybody.
    (release / ".lock").unlink(missing_ok=True)
    (release / "release.json").write_text(json.dumps({"name": release.name}) + "\n")


def unpack_uv(wheels: Path, scratch: Path) -> Path:
    """The installer out of its wheel; its hash was checked where the release was built."""
    with zipfile.ZipFile(next(wheels.glob("uv-*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(".data/scripts/uv"))
        uv = Path(wheel.extract(member, scratch))
    uv.chmod(DIRECTORY_MODE)
    return uv


def keep_command_line(wheels: Path, release: Path) -> None:
    """Our own wheel, which the pages hand out: without extras it is the command line `labfleet`."""
    folder = release / "share" / "command-line"
    folder.mkdir(parents=True)
    shutil.copy(next(wheels.glob("labfleet-*.whl")), folder)


def point_to(source: Path, release: Path) -> None:
    """Let the environment import the package from a mounted tree: an edit shows on reload."""
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(release), "platbase": str(release)}))
    shutil.rmtree(packages / "labfleet")
    (packages / "labfleet.pth").write_text(f"{source}/src\n")


def prune(options: argparse.Namespace, release: Path) -> None:
    """Remove all but the newest releases; the active one, the new one and used ones stay in any case."""
    current = (options.releases.parent / "current").resolve()
    old = [path for path in options.releases.iterdir() if path not in (release, current) and path.is_dir()]
    old.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    spared = options.keep - (1 if current not in (release, options.releases.parent / "current") else 0)
    for path in old[max(spared, 0) :]:
        if not used(path):
            shutil.rmtree(path)


def used(release: Path) -> bool:
    """Whether a process runs from the release. The one of a long task may have begun several updates ago.

    It is named by the interpreter in the command line, or by the environment: shepherds of attempts are
    forked, and give themselves another command line.
    """
    interpreter, said = f"{release}/".encode(), f"\0LABFLEET_RELEASE={release}\0".encode()
    for process in PROCESSES.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = b"\0" + (process / "environ").read_bytes()
        except OSError:
            continue  # it has ended
        if command.startswith(interpreter) or said in environment:
            return True
    return False


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command; what it says is shown when it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])} … failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
