"""The command `labfleet`: the user's verbs against a server, and the admin's verbs on the server."""

from __future__ import annotations

import importlib.util
import sys

import click

from labfleet.errors import LabfleetError

# Each has a list COMMANDS, and imports what an extra brings only inside its commands.
_ROOMS = ("labfleet.cli.user", "labfleet.cli.admin", "labfleet.cli.protocol_admin")


class Verbs(click.Group):
    """A group that loads its verbs when it is asked for them, and prints expected errors in two lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs that this installation can offer."""
        del ctx
        return sorted(_load())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        del ctx
        return _load().get(cmd_name)


def _load() -> dict[str, click.Command]:
    verbs: dict[str, click.Command] = {}
    for room in filter(importlib.util.find_spec, _ROOMS):
        module = importlib.import_module(room)
        verbs.update({command.name: command for command in module.COMMANDS})
    return verbs


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="labfleet")
def cli() -> None:
    """Submit analyses to a Labfleet, follow them, and fetch their results."""


def main() -> None:
    """Run the command line; an expected error is one line and a hint, exit code 1."""
    try:
        cli(prog_name="labfleet")
    except LabfleetError as error:
        tell_error(error)
        sys.exit(1)


def tell_error(error: LabfleetError) -> None:
    """What went wrong, and what to do, on standard error."""
    click.echo(f"Error: {error.detail}", err=True)
    if error.hint:
        click.echo(f"Hint:  {error.hint}", err=True)
