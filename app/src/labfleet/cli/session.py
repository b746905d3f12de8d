"""`labfleet login`: get a token and keep it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from labfleet.cli.client import Client, ServerProblem
from labfleet.cli.credentials import Credentials, save
from labfleet.cli.options import scope_option
from labfleet.errors import Invalid


@click.command()
@click.argument("url")
@click.option("--user", help="Your user name. Without it you are asked.")
@click.option(
    "--password-file",
    type=click.Path(allow_dash=True, dir_okay=False, path_type=str),
    help="Read the password from this file, or from standard input with '-'. Without it you are asked.",
)
@click.option(
    "--token-file",
    type=click.Path(allow_dash=True, dir_okay=False, path_type=str),
    help="Keep the API token in this file, or from standard input with '-', and ask for no password: for who "
    "signs in by single sign-on, with a token made on the page of the account.",
)
@click.option(
    "--ca-file",
    envvar="LABFLEET_CA_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The CA that signed the server's certificate (PEM).",
)
@scope_option
def login(
    url: str,
    *,
    user: str | None,
    password_file: str | None,
    token_file: str | None,
    ca_file: Path | None,
    scopes: tuple[str, ...],
) -> None:
    """Sign in to the Labfleet at URL; later commands use it."""
    trusted = str(ca_file.resolve()) if ca_file else None
    if token_file is not None:
        _keep_token(url, _first_line("token", token_file), trusted)
        return
    user = user or str(click.prompt("User"))
    with Client(url, ca_file=trusted) as client:
        token = _token(client, user, _password(password_file), scopes, sys.stdin.isatty())
        path = save(Credentials(client.url, token, trusted, user))
    click.echo(f"Signed in to {client.url} as {user}; the token is kept in {path}.")


def _keep_token(url: str, token: str, trusted: str | None) -> None:
    """Keep a token that was made on the page of the account, if the server knows it."""
    with Client(url, token, ca_file=trusted) as client:
        user = str(client.get("me")["name"])
        path = save(Credentials(client.url, token, trusted, user))
    click.echo(f"Signed in to {client.url} as {user}; the token is kept in {path}.")


def _token(client: Client, user: str, password: str, scopes: Sequence[str], somebody_there: bool) -> str:
    name = f"labfleet on {platform.node() or 'unknown'}"
    try:
        return client.login(user, password, name, scopes)
    except ServerProblem as problem:
        if problem.code != "second_factor_needed" or not somebody_there:
            raise
    return client.login(user, password, name, scopes, str(click.prompt("Code of your second factor")))


def _password(file: str | None) -> str:
    if file is None:
        return str(click.prompt("Password", hide_input=True))
    return _first_line("password", file)


def _first_line(what: str, file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The {what} file {file} can't be read: {error}.", hint="Name a text file.") from None
    found = text.splitlines()[0] if text else ""
    if not found:
        raise Invalid(f"The {what} is empty.", hint=f"Put the {what} on the first line of the file.")
    return found


COMMANDS: list[click.Command] = [login]
