#!/usr/bin/env python3
"""Build one release of the application on the controller: one tar that a node installs without a network.

The tar holds our wheel, every locked dependency as a wheel for the node's Python and architecture,
uv's own wheel, `requirements.txt` with a hash for each file, `sbom.cdx.json` (CycloneDX), the protocols
that ship, and wheels of the lab's own (handlers of sources), which are named with their hashes. Its name is
the version and a digest of all that goes into it: an unchanged source is never built twice.
Prints `{"name", "version", "archive", "built"}` as JSON. Run it with the controller's environment.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

# Raise it when the layout of the tar changes, so that nodes get a new release.
LAYOUT = "2"
KEPT_ARCHIVES = 8
# Debian 12 has glibc 2.36; a wheel for an older one runs there too.
GLIBC_MINORS = range(36, 4, -1)


def main() -> int:
    """Build the release that the arguments ask for, or say that it is there."""
    options = arguments()
    version = project_version(options.source)
    name = f"{version}-{digest(options)[:12]}"
    archive = options.cache / f"{name}.tar"
    built = not archive.is_file()
    if not built:
        # Asked for by a play, which builds others before it takes this one: they must not prune it.
        os.utime(archive)
    elif not options.dry_run:
        build_once(options, name, archive)
    print(json.dumps({"name": name, "version": version, "archive": str(archive), "built": built}))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="directory of pyproject.toml and uv.lock")
    parser.add_argument("--cache", type=Path, required=True, help="directory that keeps built releases")
    parser.add_argument("--uv", required=True, help="path of uv")
    parser.add_argument("--python-version", required=True, help="of the node, for example 3.11")
    parser.add_argument("--architecture", required=True, help="of the node, for example x86_64")
    parser.add_argument("--extras", default="", help="extras of the package, with commas between")
    parser.add_argument(
        "--handlers", type=json.loads, default=[], help='wheels of the lab: [{"wheel": PATH, "sha256": HEX}]'
    )
    parser.add_argument("--development", action="store_true", help="name it by its dependencies only")
    parser.add_argument("--dry-run", action="store_true", help="tell the name, build nothing")
    options = parser.parse_args()
    options.source, options.cache = options.source.resolve(), options.cache.resolve()
    return options


def project_version(source: Path) -> str:
    """The version in pyproject.toml."""
    with (source / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def digest(options: argparse.Namespace) -> str:
    """One hash of all that decides what the release holds."""
    total = hashlib.sha256()
    target = f"{options.python_version} {options.architecture} {extras(options)} {options.development}"
    total.update(f"{LAYOUT} {target}\n".encode())
    for wheel in own_wheels(options):
        total.update(f"{wheel.path.name} {wheel.sha256}\n".encode())
    for path in ingredients(options):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(options.source)} {content}\n".encode())
    return total.hexdigest()


def ingredients(options: argparse.Namespace) -> Iterator[Path]:
    """The files that a release is made of. In development the code is read from the mounted tree."""
    yield options.source / "pyproject.toml"
    yield options.source / "uv.lock"
    if options.development:
        return
    yield options.source / "README.md"
    for room in ("src", "protocols"):
        yield from sorted(path for path in (options.source / room).rglob("*") if wanted(path))


def wanted(path: Path) -> bool:
    """Whether a file belongs to the source, not to what tools leave beside it."""
    litter = any(part.startswith(".") or part == "__pycache__" for part in path.parts[-3:])
    return path.is_file() and not litter and path.suffix != ".pyc"


def extras(options: argparse.Namespace) -> list[str]:
    """The extras, sorted, so that their order does not make another release."""
    return sorted({extra for extra in options.extras.split(",") if extra})


def build_once(options: argparse.Namespace, name: str, archive: Path) -> None:
    """Build under a lock: hosts of one play ask at the same time for the same release."""
    options.cache.mkdir(parents=True, exist_ok=True)
    with (options.cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_file():
            with tempfile.TemporaryDirectory(dir=options.cache, prefix=".build-") as directory:
                build(options, name, archive, Path(directory))
            prune(options.cache)


def build(options: argparse.Namespace, name: str, archive: Path, scratch: Path) -> None:
    """Gather everything in a scratch directory, then put the tar in place in one step."""
    content = scratch / "content"
    wheels = content / "wheels"
    wheels.mkdir(parents=True)
    requirements = locked_requirements(options)
    download(options, requirements, wheels, scratch)
    ours = build_wheel(options, wheels)
    own_line = f"labfleet[{','.join(extras(options))}]=={project_version(options.source)}"
    hashed = hashlib.sha256(ours.read_bytes()).hexdigest()
    # uv is the node's installer; only where an extra asks for it, it is a part of what is installed.
    needed = [line for line in requirements if wants_uv(options) or not line.startswith("uv==")]
    own = own_wheels(options)
    check_needs(options, own, needed)
    for wheel in own:
        shutil.copy(wheel.path, wheels)
    added = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in own]
    lines = [*needed, *added, f"{own_line} --hash=sha256:{hashed}", ""]
    (content / "requirements.txt").write_text("\n".join(lines))
    listing = bill_of_materials(options, {line.partition("==")[0] for line in needed}, ours)
    listing["components"] += [
        {
            "type": "library",
            "bom-ref": f"{wheel.name}=={wheel.version}",
            "name": wheel.name,
            "version": wheel.version,
            "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        }
        for wheel in own
    ]
    (content / "sbom.cdx.json").write_text(json.dumps(listing, indent=2) + "\n")
    if (options.source / "protocols").is_dir():
        litter = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        shutil.copytree(options.source / "protocols", content / "protocols", ignore=litter)
    partial = scratch / "release.tar"
    with tarfile.open(partial, "w") as tar:
        tar.add(content, arcname=name, filter=owned_by_root)
    partial.replace(archive)


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's name of the controller goes to a node; everybody may read, root alone may write."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def locked_requirements(options: argparse.Namespace) -> list[str]:
    """`name==version --hash=…` for each dependency of the extras that the node's Python needs, and for uv."""
    export = [options.uv, "export", "--frozen", "--no-header", "--no-annotate"]
    wanted = [f"--extra={extra}" for extra in extras(options)]
    exported = run([*export, "--no-dev", "--no-emit-project", *wanted], options.source)
    chosen = joined(exported)
    if not wants_uv(options):
        controller = run([*export, "--only-group=controller"], options.source)
        chosen += [line for line in joined(controller) if line.startswith("uv==")]
    environment = environment_of(options)
    return [line for line in (applicable(line, environment) for line in chosen) if line]


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """What markers of requirements are asked about: the node."""
    return {
        "python_version": options.python_version,
        "python_full_version": f"{options.python_version}.0",
        "platform_machine": options.architecture,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def platforms_of(options: argparse.Namespace) -> list[str]:
    """Tags of platforms whose wheels run on the node."""
    architecture = options.architecture
    found = [f"manylinux_2_{minor}_{architecture}" for minor in GLIBC_MINORS]
    return [*found, f"manylinux2014_{architecture}", f"linux_{architecture}"]


@dataclass(frozen=True)
class Wheel:
    """A wheel of the lab's own, whose hash is the one that was named."""

    path: Path
    name: str
    version: str
    sha256: str


def own_wheels(options: argparse.Namespace) -> list[Wheel]:
    """The wheels of the lab, by their names; ends with what is wrong with one."""
    found = sorted((own_wheel(options, each) for each in options.handlers), key=lambda wheel: wheel.name)
    for one, other in zip(found, found[1:], strict=False):
        if one.name == other.name:
            sys.exit(f"{one.path.name} and {other.path.name} are the same package: name one of them.")
    return found


def own_wheel(options: argparse.Namespace, named: dict[str, str]) -> Wheel:
    """One of them; it runs on the node, as far as its name says."""
    path = Path(named["wheel"])
    if not path.is_file():
        sys.exit(f"There is no file {path}, which app_source_handlers names: put the wheel there.")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != named["sha256"].lower():
        sys.exit(
            f"{path} has the SHA-256 {sha256}, and app_source_handlers says {named['sha256']}: put back the wheel that "
            "you have looked at, or say its new hash."
        )
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        sys.exit(f"{path.name} is not named as a wheel is ({error}): keep the name that it was built with.")
    major, minor = (int(part) for part in options.python_version.split("."))
    platforms = platforms_of(options)
    good = {*cpython_tags((major, minor), platforms=platforms)}
    good |= {*compatible_tags((major, minor), f"cp{major}{minor}", platforms)}
    if good.isdisjoint(tags):
        sys.exit(
            f"{path.name} does not run on Python {options.python_version} of {options.architecture}: build it "
            "for that, or as py3-none-any."
        )
    return Wheel(path, name, str(version), sha256)


def check_needs(options: argparse.Namespace, own: list[Wheel], locked: list[str]) -> None:
    """End, unless each wheel finds what it needs in the release, and none takes the place of a part of it."""
    there = {}
    for line in locked:
        requirement = Requirement(line.partition(" --hash=")[0])
        there[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    there["labfleet"] = project_version(options.source)
    for wheel in own:
        if wheel.name in there:
            sys.exit(f"{wheel.path.name} would take the place of {wheel.name}, which is a part of Labfleet: rename it.")
    there |= {wheel.name: wheel.version for wheel in own}
    for wheel in own:
        for need in needs_of(wheel, environment_of(options)):
            version = there.get(canonicalize_name(need.name))
            if version is None:
                sys.exit(
                    f"{wheel.path.name} needs {need}, which is not in the release: name its wheel in "
                    "app_source_handlers, too."
                )
            if not need.specifier.contains(Version(version), prereleases=True):
                sys.exit(f"{wheel.path.name} needs {need}, and the release has {version}: build it for that.")


def needs_of(wheel: Wheel, environment: dict[str, str]) -> list[Requirement]:
    """What the wheel asks for on the node, without its extras."""
    with zipfile.ZipFile(wheel.path) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = Metadata.from_email(archive.read(member), validate=False)
    return [
        need
        for need in told.requires_dist or []
        if need.marker is None or need.marker.evaluate({**environment, "extra": ""})
    ]


def wants_uv(options: argparse.Namespace) -> bool:
    """Whether one of the extras has uv among its dependencies."""
    project = tomllib.loads((options.source / "pyproject.toml").read_text())["project"]
    wanted = [line for extra in extras(options) for line in project["optional-dependencies"][extra]]
    return any(Requirement(line).name == "uv" for line in wanted)


def bill_of_materials(options: argparse.Namespace, names: set[str], ours: Path) -> dict[str, Any]:
    """What the release is made of, in CycloneDX: the locked packages of these names, and our own wheel."""
    export = [
        options.uv,
        "export",
        "--frozen",
        "--no-dev",
        "--format=cyclonedx1.5",
        "--preview-features=sbom-export",
    ]
    listing: dict[str, Any] = json.loads(
        run([*export, *(f"--extra={extra}" for extra in extras(options))], options.source)
    )
    # A package that another system needs is not in the release.
    listing["components"] = [component for component in listing["components"] if component["name"] in names]
    own = listing["metadata"]["component"]
    own["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(ours.read_bytes()).hexdigest()}]
    there = {own["bom-ref"], *(component["bom-ref"] for component in listing["components"])}
    listing["dependencies"] = [
        {**entry, "dependsOn": [name for name in entry.get("dependsOn", []) if name in there]}
        for entry in listing["dependencies"]
        if entry["ref"] in there
    ]
    return listing


def joined(text: str) -> list[str]:
    """The logical lines of a requirements file."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def applicable(line: str, environment: dict[str, str]) -> str:
    """The line without its marker, or nothing if the marker excludes the node."""
    specification, *hashes = line.split(" --hash=")
    requirement = Requirement(specification.strip())
    if requirement.marker and not requirement.marker.evaluate(environment):
        return ""
    hashed = "".join(f" --hash={value.strip()}" for value in hashes)
    return f"{requirement.name}{requirement.specifier}{hashed}"


def download(options: argparse.Namespace, requirements: list[str], wheels: Path, scratch: Path) -> None:
    """Fetch the wheels for the node; pip checks every hash."""
    listing = scratch / "requirements.txt"
    listing.write_text("\n".join(requirements) + "\n")
    platforms = platforms_of(options)
    short = "cp" + options.python_version.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--implementation=cp"]
    command += [f"--python-version={options.python_version}", f"--abi={short}", "--abi=abi3", "--abi=none"]
    command += [f"--platform={platform}" for platform in platforms]
    run([*command, "--dest", str(wheels), "--requirement", str(listing)], options.source)


def build_wheel(options: argparse.Namespace, wheels: Path) -> Path:
    """Our own wheel, by the locked build backend of this environment."""
    command = [options.uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--quiet"]
    run([*command, "--out-dir", str(wheels), str(options.source)], options.source)
    return next(wheels.glob("labfleet-*.whl"))


def prune(cache: Path) -> None:
    """Keep the archives that were built or asked for last; older ones can be built again."""
    archives = sorted(cache.glob("*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[KEPT_ARCHIVES:]:
        old.unlink()


def run(command: list[str], directory: Path) -> str:
    """Output of a command; what it complained about is printed when it fails."""
    environment = {**os.environ, "UV_NATIVE_TLS": "1", "UV_NO_PROGRESS": "1"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … failed with exit code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
