"""The command `labfleet`: the user's verbs against a server, and the admin's verbs on the server."""

from __future__ import annotations

import importlib.util
import sys

import click

from labfleet.errors import LabfleetError

ON_THE_SERVER = "For admins, on the server"
# Each has a list COMMANDS, and imports what an extra brings only inside its commands.
_ROOMS = (
    "labfleet.cli.user",
    "labfleet.cli.webhook",
    "labfleet.cli.admin",
    "labfleet.cli.protocol_admin",
    "labfleet.cli.self_check",
    "labfleet.cli.store_admin",
    "labfleet.cli.join_admin",
    "labfleet.cli.metrics",
)


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by what they are for."""
        del ctx
        width = max(map(len, _load()))
        for title, verbs in _sections().items():
            limit = formatter.width - width - 6
            rows = [(f"{name:<{width}}", verb.get_short_help_str(limit)) for name, verb in verbs.items()]
            with formatter.section(title):
                formatter.write_dl(rows)


def _load() -> dict[str, click.Command]:
    return {name: verb for section in _sections().values() for name, verb in section.items()}


def _sections() -> dict[str, dict[str, click.Command]]:
    """The verbs by section. A room may have SECTIONS; else its COMMANDS are for the server's admin."""
    sections: dict[str, dict[str, click.Command]] = {}
    for room in filter(importlib.util.find_spec, _ROOMS):
        module = importlib.import_module(room)
        for title, commands in getattr(module, "SECTIONS", {ON_THE_SERVER: module.COMMANDS}).items():
            verbs = {command.name: command for command in commands}
            sections.setdefault(title, {}).update(verbs)
    return sections


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
