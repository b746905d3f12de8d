"""The command line of bubblewrap: what an attempt sees of the world.

Nothing is there unless it stands here: no network, no other process, no environment, no file of the
worker; read-only system directories, its protocol and its inputs; and a directory to write to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labfleet.worker.spec import Limits, Spec

BWRAP = "bwrap"
ROOT = "/labfleet"
PROTOCOL, INPUTS, OUTPUTS = f"{ROOT}/protocol", f"{ROOT}/inputs", f"{ROOT}/outputs"
PARAMETERS, PROGRESS = f"{ROOT}/parameters.json", f"{ROOT}/progress"
ENVIRONMENT, LIBRARY = f"{ROOT}/environment", f"{ROOT}/library"
"""Where a protocol's Python environment and its R library lie, also while they are built: their programs name
the place."""
IMAGE, TREE = f"{ROOT}/image", "root"
"""Where a container image is unpacked, and the tree of its files below that: in an attempt it is the root."""
BUSYBOX, OWN_BUSYBOX = "/usr/bin/busybox", f"{ROOT}/busybox"
"""Sets limits where the image is in the place of the machine's programs: it is bound to no library, so that
nothing of an image runs before they are set."""
R_VARIABLES = {
    **dict.fromkeys(("R_LIBS", "R_LIBS_SITE", "R_LIBS_USER"), LIBRARY),
    "R_ENVIRON": "/dev/null",
    "RENV_CONFIG_AUTOLOADER_ENABLED": "FALSE",
}
"""With a library of its own R sees no other but R's: Debian's `Renviron.site` would add more, and renv, by
the `.Rprofile` of a project that became a protocol, would put one in its place that is not there."""
PATH = "/usr/local/bin:/usr/bin:/bin"
USER_ID = 1000
SHARED_MEMORY_BYTES = 64 * 1024**2
OPEN_FILES = 4096

SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/python3.13",
    "/etc/R",
    "/var/cache/fontconfig",
)
"""What programs of /usr need of /etc: no account, no host name, no key."""
LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
IDENTITY = {
    "passwd": f"scientist:x:{USER_ID}:{USER_ID}:scientist:/tmp:/bin/sh\n",
    "group": f"scientist:x:{USER_ID}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost sandbox\n",
}


class Places:
    """Where the parts of an attempt lie in its directory on the worker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.protocol = directory / "protocol"
        self.inputs = directory / "inputs"
        self.outputs = directory / "outputs"
        self.parameters = directory / "parameters.json"
        self.progress = directory / "progress"
        self.log = directory / "log"
        self.identity = directory / "etc"
        self.linked: dict[str, Path] = {}
        """Inputs that lie elsewhere, by their slot."""

    def create(self) -> None:
        """Make the directories and the small files."""
        for path in (self.protocol, self.inputs, self.outputs, self.identity):
            path.mkdir(mode=0o700)
        self.progress.touch(mode=0o600)
        for name, text in IDENTITY.items():
            (self.identity / name).write_text(text, encoding="utf-8")

    def link(self, slot: str, file: Path) -> None:
        """Show a file from elsewhere as the input of a slot; what it is put upon stays empty."""
        (self.inputs / slot).touch(mode=0o600)
        self.linked[slot] = file

    def report(self, text: str) -> None:
        """Say as the attempt's progress what is done before its command runs; empty: it is done."""
        with self.progress.open("a", encoding="utf-8") as progress:
            progress.write(f"0.00 {text}\n")


@dataclass(frozen=True)
class Image:
    """A container image in the place of the machine's programs: the tree of its files, and the variables that
    it sets."""

    tree: Path
    variables: Mapping[str, str]


def argv(
    spec: Spec,
    places: Places,
    status_fd: int,
    libraries: Mapping[str, Path] | None = None,
    image: Image | None = None,
) -> list[str]:
    """bubblewrap's whole command line; it reports the child's exit on `status_fd`.

    `libraries` are the protocol's own, by the place that each has in the sandbox; with an `image` nothing is
    seen of the machine's programs.
    """
    own = libraries or {}
    extra = spec.host.readonly_paths
    return [
        BWRAP,
        *isolation(status_fd),
        *(_image(image.tree, extra) if image else system(extra)),
        *(word for place, path in own.items() for word in ("--ro-bind", str(path), place)),
        *_attempt(places, spec.limits),
        *_environment(spec, own, image.variables if image else {}),
        "--",
        *(_limits_in_an_image(spec.limits) if image else _rlimits(spec.limits)),
        *spec.command,
    ]


def isolation(status_fd: int) -> list[str]:
    """Away from everything: no network, no capability, no environment, another user."""
    return [
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
        *("--uid", str(USER_ID), "--gid", str(USER_ID), "--hostname", "sandbox"),
        *("--json-status-fd", str(status_fd)),
    ]


def system(extra: Iterable[str]) -> list[str]:
    """The machine's programs and what these need, read-only."""
    words = ["--ro-bind", "/usr", "/usr"]
    for link in filter(os.path.lexists, LINKS):
        words += _link_or_bind(link)
    for path in (*SYSTEM_FILES, *extra):
        words += ["--ro-bind-try", path, path]
    return words


def _image(tree: Path, extra: Iterable[str]) -> list[str]:
    """The image's files and `extra` of the machine's, read-only, in a root that is the sandbox's own."""
    shown = [path for path in extra if os.path.lexists(path)]
    words = _branch(tree, "", {path: PurePosixPath(path) for path in shown})
    for path in shown:
        words += ["--ro-bind", path, path]
    return [*words, "--ro-bind", BUSYBOX, OWN_BUSYBOX]


def _branch(tree: Path, place: str, others: Mapping[str, PurePosixPath]) -> list[str]:
    """What is at `place` in an image's tree, but not where others come: a directory on the way to one of them
    is made anew of its parts, for nothing can be added to one that is the image's."""
    words: list[str] = []
    for path in sorted(tree.iterdir()):
        here = f"{place}/{path.name}"
        on_the_way = any(PurePosixPath(here) in other.parents for other in others.values())
        if here in others or (on_the_way and (path.is_symlink() or not path.is_dir())):
            continue
        if on_the_way:
            words += ["--dir", here, *_branch(path, here, others)]
        elif path.is_symlink():
            words += ["--symlink", os.readlink(path), here]  # noqa: PTH115  (the text of the link)
        else:
            words += ["--ro-bind", str(path), here]
    return words


def _link_or_bind(path: str) -> list[str]:
    if Path(path).is_symlink():
        return ["--symlink", os.readlink(path), path]  # noqa: PTH115  (the text of the link)
    return ["--ro-bind", path, path]


def _attempt(places: Places, limits: Limits) -> list[str]:
    words = ["--proc", "/proc", "--dev", "/dev"]
    words += ["--size", str(min(SHARED_MEMORY_BYTES, limits.memory_bytes)), "--tmpfs", "/dev/shm"]  # noqa: S108
    words += ["--size", str(scratch_bytes(limits)), "--tmpfs", "/tmp"]  # noqa: S108
    for name in IDENTITY:
        words += ["--ro-bind", str(places.identity / name), f"/etc/{name}"]
    for source, target in (
        (places.protocol, PROTOCOL),
        (places.inputs, INPUTS),
        (places.parameters, PARAMETERS),
    ):
        words += ["--ro-bind", str(source), target]
    for slot, file in places.linked.items():
        words += ["--ro-bind", str(file), f"{INPUTS}/{slot}"]
    words += ["--bind", str(places.outputs), OUTPUTS, "--bind", str(places.progress), PROGRESS]
    # The root and /dev are tmpfs that the attempt would own, and could fill.
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", PROTOCOL]


def scratch_bytes(limits: Limits) -> int:
    """How much may lie in /tmp, which is memory: half of what the attempt may use."""
    return limits.memory_bytes // 2


def _environment(spec: Spec, libraries: Mapping[str, Path], image: Mapping[str, str]) -> list[str]:
    cores = str(spec.cores)
    python = ENVIRONMENT in libraries
    values = {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": cores,
        "OPENBLAS_NUM_THREADS": cores,
        "PATH": f"{ENVIRONMENT}/bin:{PATH}" if python else PATH,
        **image,
        **({"VIRTUAL_ENV": ENVIRONMENT} if python else {}),
        **(R_VARIABLES if LIBRARY in libraries else {}),
        "HOME": "/tmp",  # noqa: S108  (the sandbox's own)
        "TMPDIR": "/tmp",  # noqa: S108
        "USER": "scientist",
        "LABFLEET_PARAMETERS": PARAMETERS,
        "LABFLEET_INPUTS": INPUTS,
        "LABFLEET_OUTPUTS": OUTPUTS,
        "LABFLEET_PROGRESS": PROGRESS,
    }
    return variables(values)


def variables(values: dict[str, str]) -> list[str]:
    """Options that set the environment's variables."""
    return [word for name, value in values.items() for word in ("--setenv", name, value)]


def _rlimits(limits: Limits) -> list[str]:
    """Set inside the sandbox: there the number of processes is counted for this attempt alone.

    RLIMIT_DATA counts what a process really allocates (R and BLAS reserve far more address space than
    they use), but no shared memory; RLIMIT_AS is a wide bound for that. The sum over all processes is
    the unit's `MemoryMax=` and the watch's (`watch.py`).
    """
    bounds = _bounds(limits)
    return ["/usr/bin/prlimit", *(f"--{name}={bound}" for name, bound in bounds.items()), "--"]


def _limits_in_an_image(limits: Limits) -> list[str]:
    """The same by a program that needs nothing of the machine's. Bytes are counted by the KiB there, and in a
    file by half of one. By a name it would rather run a part of itself, so the image's own is looked for."""
    bounds = _bounds(limits)
    units = {"data": ("d", 1024), "as": ("v", 1024), "fsize": ("f", 512)}
    letters = {"nproc": ("u", 1), "nofile": ("n", 1), "core": ("c", 1)}
    told = " ".join(
        f"-{letter} {bounds[name] // unit}" for name, (letter, unit) in {**units, **letters}.items()
    )
    return [OWN_BUSYBOX, "sh", "-c", f"ulimit {told} || exit 126; {_FIND}", "labfleet"]


_FIND = """
unset SHLVL PWD OLDPWD
case $1 in */*) exec "$@" ;; esac
set -f
IFS=:
for folder in $PATH; do
    if [ -f "$folder/$1" ] && [ -x "$folder/$1" ]; then
        program=$folder/$1
        unset IFS
        shift
        exec "$program" "$@"
    fi
done
echo "$1: the image has no such program in $PATH" >&2
exit 127
"""


def _bounds(limits: Limits) -> dict[str, int]:
    return {
        "data": limits.memory_bytes,
        "as": 4 * limits.memory_bytes + 2 * 1024**3,
        "nproc": limits.processes,
        "fsize": limits.output_bytes,
        "nofile": OPEN_FILES,
        "core": 0,
    }
