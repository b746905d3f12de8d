"""The command `labfleet`: the user's verbs against a server over HTTP, and the admin's verbs on the server.

Exit codes: 0 done, 1 an error (one line and a hint on standard error), 2 wrong usage; `watch` and
`submit --watch` tell the job's end: 3 failed, 4 partial, 5 inapplicable, 6 cancelled, 7 failed by a
fault of Labfleet itself, 130 watching was interrupted.
"""

from __future__ import annotations

import importlib
import sys

import click

from labfleet.errors import LabfleetError

ON_THE_SERVER = "For admins, on the server"
# The verbs by section of the help, each with the room of this package whose list COMMANDS has it.
# Only that room is loaded when its verb is asked for: all of them take a second of processor time.
SECTIONS: dict[str, dict[str, str]] = {
    "Submit and follow": {
        "login": "session",
        "validate": "submit",
        "submit": "submit",
        "watch": "watch",
        "resubmit": "submit",
        "analyses": "analyses",
    },
    "Find and look": {
        "jobs": "jobs",
        "tasks": "jobs",
        "show": "jobs",
        "log": "jobs",
        "timeline": "jobs",
        "provenance": "jobs",
        "fetch": "jobs",
    },
    "Take away and bring back": {
        "export": "crates",
        "import": "crates",
    },
    "Act on jobs and tasks": {
        "cancel": "verbs",
        "retry": "verbs",
        "force-retry": "verbs",
        "reset": "verbs",
        "hold": "verbs",
        "resume": "verbs",
        "delete": "verbs",
        "change": "verbs",
        "share": "sharing",
        "unshare": "sharing",
    },
    "What there is": {
        "search": "search",
        "protocols": "protocols",
        "datasets": "catalogue",
        "sources": "sources",
        "workers": "catalogue",
        "git-credential": "git_credential",
        "webhook-secret": "webhook",
    },
    "Who comes next, and where": {
        "queue": "queue",
        "worker": "queue",
        "quota": "queue",
        "reservation": "queue",
    },
    "Accounts": {
        "session": "browser_sessions",
        "tokens": "tokens",
        "invitation": "invitation",
        "audit": "audit",
        "mail": "mail",
    },
    ON_THE_SERVER: {
        "db": "admin",
        "user": "admin",
        "token": "admin",
        "config": "admin",
        "dispatcher": "admin",
        "webhooks": "admin",
        "mailer": "admin",
        "data": "admin",
        "loader": "admin",
        "fetcher": "admin",
        "publisher": "admin",
        "serve": "admin",
        "protocol": "protocol_admin",
        "self-check": "self_check",
        "store": "store_admin",
        "join": "join_admin",
        "metrics": "metrics",
    },
}


class Verbs(click.Group):
    """A group that loads a verb when it is asked for it, and prints expected errors in two lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs that this installation can offer."""
        del ctx
        return sorted(name for verbs in _sections().values() for name in verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        del ctx
        room = next((verbs[cmd_name] for verbs in SECTIONS.values() if cmd_name in verbs), None)
        return _verb(cmd_name, room) if room else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by what they are for."""
        del ctx
        sections = _sections()
        width = max(len(name) for verbs in sections.values() for name in verbs)
        for title, verbs in sections.items():
            limit = formatter.width - width - 6
            rows = [(f"{name:<{width}}", verb.get_short_help_str(limit)) for name, verb in verbs.items()]
            with formatter.section(title):
                formatter.write_dl(rows)


def _verb(name: str, room: str) -> click.Command | None:
    """None where the room can't offer it: a package is missing that comes with an extra."""
    commands: list[click.Command] = importlib.import_module(f"{__name__}.{room}").COMMANDS
    return next((command for command in commands if command.name == name), None)


def _sections() -> dict[str, dict[str, click.Command]]:
    found = {
        title: {name: _verb(name, room) for name, room in verbs.items()} for title, verbs in SECTIONS.items()
    }
    return {title: {name: verb for name, verb in verbs.items() if verb} for title, verbs in found.items()}


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
