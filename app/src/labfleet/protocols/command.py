"""Can the manifest's command be started? Its program and its script must be there."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

from labfleet.protocols.tree import Entry

INTERPRETERS = frozenset(
    {"python3", "python", "Rscript", "bash", "sh", "dash", "perl", "julia", "octave", "java", "make", "awk"}
    | {"nextflow", "snakemake", "jq", "gawk", "ruby", "node"}
)
_SCRIPT = re.compile(r"\.(py|r|sh|bash|pl|jl|m|jar|awk|js|rb|nf|smk)$", re.IGNORECASE)

Files = Mapping[PurePosixPath, Entry]


def fault_of_command(
    command: list[str], files: Files, *, packages: bool = False, image: bool = False
) -> tuple[str, str] | None:
    """What keeps the command from starting, and the remedy; None if nothing does.

    With `packages` of its own (a lock file) programs and modules may come from these: nobody knows yet. In an
    `image` any path may lead to a program.
    """
    program, *arguments = command
    packages = packages or image
    if image and PurePosixPath(program).is_absolute():
        return None
    if "/" in program:
        return _own_program(program, files)
    if program not in INTERPRETERS:
        return None if packages and PurePosixPath(program) not in files else _unknown_program(program, files)
    if packages and program.startswith("python") and "-m" in arguments:
        return None
    return _script(program, arguments, files)


def _own_program(program: str, files: Files) -> tuple[str, str] | None:
    entry = files.get(PurePosixPath(program))
    if PurePosixPath(program).is_absolute() or ".." in PurePosixPath(program).parts:
        return f"'{program}' is not in the protocol.", "Name a program of the protocol, for example ./run.sh."
    if entry is None:
        return f"'{program}' is not in the protocol.", "Add the file, or correct the name."
    if not entry.executable and entry.mode != "120000":
        return f"'{program}' is not executable.", f"Run 'chmod +x {program}'."
    return None


def _unknown_program(program: str, files: Files) -> tuple[str, str]:
    if PurePosixPath(program) in files:
        return f"'{program}' is a file of the protocol, but is looked for in PATH.", f"Write './{program}'."
    known = ", ".join(sorted(INTERPRETERS))
    return (
        f"'{program}' is neither in the protocol nor a known interpreter.",
        f"Use ./PROGRAM for a file of the protocol, or one of: {known}.",
    )


def _script(program: str, arguments: list[str], files: Files) -> tuple[str, str] | None:
    for index, argument in enumerate(arguments):
        if program.startswith("python") and argument == "-m":
            return _module(arguments[index + 1] if index + 1 < len(arguments) else "", files)
        if argument.startswith("-"):
            if argument in {"-c", "-e"}:
                return None
            continue
        if _SCRIPT.search(argument) and PurePosixPath(argument) not in files:
            return f"'{argument}' is not in the protocol.", "Add the file, or correct the name."
        return None
    return None


def _module(module: str, files: Files) -> tuple[str, str] | None:
    package, *_ = names = module.split(".")
    path = PurePosixPath(*names)
    there = path.with_name(f"{path.name}.py") if path.name else path
    if package in sys.stdlib_module_names or there in files or path / "__main__.py" in files:
        return None
    return f"The Python module '{module}' is not in the protocol.", "Add the module, or correct the name."
