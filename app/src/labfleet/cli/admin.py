"""The admin's verbs, to be run on the server: schema, users, tokens, configuration, processes.

Each verb imports what it needs by itself, so that the command line starts quickly and works on
machines that lack the web extra.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labfleet import config
from labfleet.cli.options import scope_option
from labfleet.errors import ConfigError, Conflict, Invalid, Unavailable, UserExists

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from labfleet.db.models import User

_OWNER = "labfleet_owner"


def _engine(user: str | None = None, password: str | None = None) -> Engine:
    from labfleet.db.engine import make_engine  # noqa: PLC0415

    if password is None:
        password = config.credential("database_password")
    return make_engine(config.web_settings().database, password, user)


@contextmanager
def transaction() -> Iterator[Session]:
    """A transaction of the database, as labfleet-admin."""
    from labfleet.db.engine import session_factory  # noqa: PLC0415
    from labfleet.users import audit  # noqa: PLC0415

    audit.acting(audit.Actor("command", name="labfleet-admin"))
    with database() as engine, session_factory(engine).begin() as session:
        yield session


@contextmanager
def database(user: str | None = None, password: str | None = None) -> Iterator[Engine]:
    """An engine; what the database refuses is an expected error with a hint."""
    from sqlalchemy.exc import OperationalError, ProgrammingError  # noqa: PLC0415

    engine = _engine(user, password)
    try:
        yield engine
    except OperationalError as error:
        raise Unavailable(
            f"The database {engine.url.render_as_string()} does not answer: {_reason(error)}",
            hint="Check [database], the password, and that PostgreSQL runs and lets this machine in.",
        ) from None
    except ProgrammingError as error:
        raise Conflict(
            f"The database refuses: {_reason(error)}",
            hint="Run 'labfleet db upgrade', which brings schema and rights to what this release needs.",
        ) from None
    finally:
        engine.dispose()


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().replace("\n", " ")


def _secret(path: str) -> str:
    text = sys.stdin.read() if path == "-" else _read(Path(path))
    return text.rstrip("\n")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}.", hint="Name a readable file, or -."
        ) from None


@click.group()
def db() -> None:
    """The database's schema."""


@db.command("upgrade")
@click.option("--user", default=_OWNER, show_default=True, help="The role that owns the tables.")
@click.option(
    "--password-file", metavar="PATH", help="Its password, - for standard input.  [default: credential]"
)
@click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    help="pre: only what the old code can live with; post: the rest, when all code is new.  [default: all]",
)
def db_upgrade(user: str, password_file: str | None, phase: str | None) -> None:
    """Migrate to this release's schema and grant rights. Prints 'upgraded' or 'unchanged'.

    Without --password-file the password is the credential `owner_password`.
    """
    from labfleet.db.upgrade import Phase, upgrade  # noqa: PLC0415

    password = _secret(password_file) if password_file else config.credential("owner_password")
    with database(user, password) as engine:
        done = upgrade(engine, Phase(phase) if phase else None)
    click.echo("unchanged" if done.before == done.after else "upgraded", nl=False)
    click.echo(f": {done.before or 'empty'} -> {done.after}; rights for {', '.join(done.roles) or 'nobody'}")
    if done.waiting:
        click.echo(f"waiting for --phase post: {', '.join(done.waiting)}")


@db.command("current")
def db_current() -> None:
    """Print the database's revision and the one that this release needs; exit 3 if they differ."""
    from labfleet.db import upgrade  # noqa: PLC0415

    with database() as engine, engine.connect() as connection:
        current = upgrade.current(connection)
    click.echo(f"{current or 'empty'} (this release needs {upgrade.newest()})")
    if current != upgrade.newest():
        sys.exit(3)


@db.command("status")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def db_status(as_json: bool) -> None:
    """Show which revisions wait, in which phase, and what a newer release has changed."""
    from labfleet.db import upgrade  # noqa: PLC0415

    with database() as engine:
        found = upgrade.status(engine)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    click.echo(f"{found.current or 'empty'} (this release knows {found.newest})")
    for change in found.pending:
        click.echo(f"{change.revision}\t{change.phase}\twaits")
    for change in found.unknown:
        word = "can be lived with" if change.rollback_safe else "can NOT be lived with"
        click.echo(f"{change.revision}\t{change.phase}\tof a newer release, {word}")


@click.group()
def user() -> None:
    """Accounts."""


@user.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May see everything.")
@click.option("--password-file", metavar="PATH", help="Read the password from there, - for standard input.")
@click.option("--if-missing", is_flag=True, help="An existing user is no error and stays as it is.")
def user_add(name: str, admin: bool, password_file: str | None, if_missing: bool) -> None:
    """Make the account NAME. Prints 'created' or, with --if-missing, 'exists'."""
    from labfleet.users import service  # noqa: PLC0415

    password = _secret(password_file) if password_file else _ask_password()
    with transaction() as session:
        try:
            service.add_user(session, name, password, is_admin=admin)
            click.echo("created")
        except UserExists:
            if not if_missing:
                raise
            click.echo("exists")


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise Invalid("There is no terminal to ask for a password.", hint="Use --password-file PATH or -.")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


@user.command("disable")
@click.argument("name")
def user_disable(name: str) -> None:
    """Let NAME in no more: sessions end, tokens are refused, nothing of theirs begins to run."""
    from labfleet.users import people  # noqa: PLC0415

    with transaction() as session:
        _tell(people.set_disabled(session, None, name, disabled=True))


@user.command("enable")
@click.argument("name")
def user_enable(name: str) -> None:
    """Let NAME in again."""
    from labfleet.users import people  # noqa: PLC0415

    with transaction() as session:
        _tell(people.set_disabled(session, None, name, disabled=False))


@user.command("promote")
@click.argument("name")
def user_promote(name: str) -> None:
    """Make NAME an admin."""
    from labfleet.users import people  # noqa: PLC0415

    with transaction() as session:
        _tell(people.set_admin(session, None, name, is_admin=True))


@user.command("demote")
@click.argument("name")
def user_demote(name: str) -> None:
    """Make NAME an admin no more."""
    from labfleet.users import people  # noqa: PLC0415

    with transaction() as session:
        _tell(people.set_admin(session, None, name, is_admin=False))


def _tell(row: User) -> None:
    click.echo(f"{row.name}\t{_role(row)}")


@user.command("password")
@click.argument("name")
@click.option("--password-file", metavar="PATH", help="Read the password from there, - for standard input.")
def user_password(name: str, password_file: str | None) -> None:
    """Give NAME another password, which ends all of their sessions."""
    from labfleet.users import people  # noqa: PLC0415

    password = _secret(password_file) if password_file else _ask_password()
    with transaction() as session:
        people.reset_password(session, name, password)
    click.echo("changed")


@user.command("list")
def user_list() -> None:
    """List the accounts: name, role, since when."""
    from labfleet.users import service  # noqa: PLC0415

    with transaction() as session:
        for row in service.list_users(session):
            click.echo(f"{row.name}\t{_role(row)}\t{row.created_at:%Y-%m-%d %H:%M} UTC")


def _role(row: User) -> str:
    return "disabled" if row.disabled_at else "admin" if row.is_admin else "user"


@user.command("reset-second-factor")
@click.argument("name")
def user_reset_second_factor(name: str) -> None:
    """Switch the second factor of NAME off, whose phone and recovery codes are lost."""
    from labfleet.users import second_factor, service  # noqa: PLC0415

    with transaction() as session:
        was_on = second_factor.remove(session, service.get_user(session, name))
    click.echo("switched off" if was_on else "it was off")


@user.command("identities")
@click.argument("name")
def user_identities(name: str) -> None:
    """List by which providers of sign-ins the account NAME is opened: id, provider, name there."""
    from labfleet.users import identities, service  # noqa: PLC0415

    with transaction() as session:
        for row in identities.all_of(session, service.get_user(session, name)):
            click.echo(f"{row.id}\t{row.issuer}\t{row.name}")


@user.command("unlink")
@click.argument("name")
@click.argument("identity", type=click.UUID)
def user_unlink(name: str, identity: uuid.UUID) -> None:
    """Let the IDENTITY open the account NAME no more, which ends all of their sessions.

    'user identities NAME' lists them. Who has no password needs one then: 'user password NAME'.
    """
    from labfleet.users import people  # noqa: PLC0415

    with transaction() as session:
        people.unlink(session, None, name, identity)
    click.echo("unlinked")


@click.group()
def token() -> None:
    """API tokens of users."""


@token.command("add")
@click.argument("name", metavar="USER")
@click.option("--name", "label", default="admin", show_default=True, help="What the token is for.")
@click.option("--days", type=float, help="Expires after so many days.")
@scope_option
def token_add(name: str, label: str, days: float | None, scopes: tuple[str, ...]) -> None:
    """Make a token for USER and print it; it is shown only now."""
    from labfleet.users import service  # noqa: PLC0415

    with transaction() as session:
        user = service.get_user(session, name)
        plain = service.issue_token(session, user, label, days=days, wanted=scopes or None)
    click.echo(plain)


@token.command("revoke")
@click.argument("name", metavar="USER")
@click.option("--name", "label", help="Only tokens of this name.  [default: all]")
def token_revoke(name: str, label: str | None) -> None:
    """Revoke the tokens of USER; prints how many."""
    from labfleet.users import service  # noqa: PLC0415

    with transaction() as session:
        count = service.revoke_token(session, service.get_user(session, name), label)
    click.echo(f"revoked: {count}")


@click.group("config")
def config_group() -> None:
    """The configuration file."""


@config_group.command("check")
def config_check() -> None:
    """Read the file that LABFLEET_CONFIG names; say what is wrong with it, or 'ok'."""
    tier = config.check_file()
    click.echo(f"ok: {config.config_path()} is a valid configuration of a {tier}")


@click.command()
def dispatcher() -> None:
    """Carry the outbox to the queue tier (run by labfleet-dispatcher.service)."""
    from labfleet.dispatch.process import main  # noqa: PLC0415

    main()


@click.command()
def webhooks() -> None:
    """Call the webhooks of jobs that have ended (run by labfleet-webhooks.service)."""
    from labfleet.dispatch.webhooks_process import main  # noqa: PLC0415

    main()


@click.command()
def mailer() -> None:
    """Hand mails to the mail server (run by labfleet-mailer.service)."""
    from labfleet.mail.process import main  # noqa: PLC0415

    main()


@click.command()
def data() -> None:
    """Look through the tables that arrive (run by labfleet-data.service)."""
    from labfleet.sources.process import main  # noqa: PLC0415

    main()


@click.command()
def loader() -> None:
    """Have sources fetched and keep what comes (run by labfleet-loader.service)."""
    from labfleet.sources.loader import main  # noqa: PLC0415

    main()


@click.command()
@click.option("--check", is_flag=True, help="Only try whether handlers of the lab's own can be used.")
def fetcher(check: bool) -> None:
    """Fetch from where sources are, for the loader (run by labfleet-fetcher.service)."""
    if check:
        from labfleet.fetching.handlers.known import faults  # noqa: PLC0415

        found = faults()
        for name, fault in found.items():
            click.echo(f"{name}: {fault or 'ok'}")
        if any(found.values()):
            raise click.exceptions.Exit(1)
        return
    from labfleet.fetching.server import main  # noqa: PLC0415

    main()


@click.command()
def publisher() -> None:
    """Publish to the broker for the CGI runner (run by labfleet-publisher.service)."""
    from labfleet.runner.publisher import main  # noqa: PLC0415

    main()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
def serve(host: str, port: int) -> None:
    """Run the web application for development: one process that reloads what you edit."""
    program = str(Path(sys.executable).with_name("gunicorn"))
    arguments = ["--reload", "--threads", "4", "--worker-class", "gthread", "--bind", f"{host}:{port}"]
    os.execv(program, [program, *arguments, "labfleet.web:create_app()"])  # noqa: S606


COMMANDS: list[click.Command] = [
    *(db, user, token, config_group, dispatcher, webhooks, mailer, data, loader, fetcher, publisher),
    serve,
]
