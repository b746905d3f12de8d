"""Options that several of the user's verbs share: which jobs, and what is said about a job."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

R = TypeVar("R")
Option = Callable[[Callable[..., Any]], Callable[..., Any]]

SCOPES = ("read", "jobs", "data", "protocols", "account", "admin")
STATES = ("queued", "running", "success", "failed", "partial", "inapplicable", "cancelled")


scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the token may do; repeatable. Without it: all that you may.",
)


class Moment(click.ParamType[str]):
    """A time as people write it, on this machine's clock unless it names a zone; becomes an ISO text."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`2026-01-31`, `2026-01-31T18:00` or with a zone."""
        try:
            return datetime.fromisoformat(value).astimezone().isoformat()
        except ValueError:
            self.fail(f"'{value}' is no time; write 2026-01-31 or 2026-01-31T18:00.", param, ctx)


def _labels(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    del context, parameter
    return None if value is None else [label.strip() for label in value.split(",") if label.strip()]


_FILTER: tuple[Option, ...] = (
    click.option("--state", multiple=True, type=click.Choice(STATES), help="In this state; repeatable."),
    click.option("--in-progress", is_flag=True, default=None, help="Queued or running."),
    click.option("--errored", is_flag=True, default=None, help="Failed or partial."),
    click.option("--user", metavar="NAME", help="Of this user (for admins)."),
    click.option("--protocol", metavar="NAME", help="That run this protocol."),
    click.option("--dataset", metavar="ID", help="That take this dataset."),
    click.option("--label", multiple=True, help="With this one among their labels; repeatable."),
    click.option("--text", metavar="WORDS", help="With these words in label or note."),
    click.option("--since", type=Moment(), help="Submitted then or later, such as 2026-01-31."),
    click.option("--until", type=Moment(), help="Submitted before then."),
)
_PAGE: tuple[Option, ...] = (
    click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True),
    click.option("--after", help="Go on after this cursor (the 'next' of the page before)."),
)
_ABOUT: tuple[Option, ...] = (
    click.option("--label", help="The job's name, for your own eyes."),
    click.option("--labels", metavar="A,B,…", callback=_labels, help="Words to find it by."),
    click.option("--note", help="What you want to remember of it."),
    click.option("--priority", type=click.IntRange(-100, 100), help="Higher ones go first; 0 without it."),
)
_DATASET: tuple[Option, ...] = (
    click.option("--description", help="What it is, and where it comes from."),
    click.option("--licence", help="What others may do with it, such as CC-BY-4.0."),
    click.option("--labels", metavar="A,B,…", callback=_labels, help="Words to find it by."),
    click.option("--terms", metavar="A,B,…", callback=_labels, help="What it has, in terms of an ontology."),
)
_AT_SUBMISSION: tuple[Option, ...] = (
    click.option("--hold", is_flag=True, default=None, help="Let nothing run before 'labfleet resume'."),
    click.option("--webhook", metavar="URL", help="Called when the job has ended."),
    click.option(
        "--mail/--no-mail",
        default=None,
        help="Get a mail when the job has ended, or none; without either as 'labfleet mail jobs' says.",
    ),
)


def filter_options(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of a search, as one argument `wanted` (only what was said)."""
    return _gathered(function, "wanted", _FILTER)


def page_options(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options for a page of a list, as one argument `page`."""
    return _gathered(function, "page", _PAGE)


def about_options(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options for what may change in a job, as one argument `about`."""
    return _gathered(function, "about", _ABOUT)


def dataset_options(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options for what is told about a dataset, as one argument `about`."""
    return _gathered(function, "about", _DATASET)


def submission_options(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command what may be said of a new job, as one argument `about`."""
    return _gathered(function, "about", _ABOUT + _AT_SUBMISSION)


def _gathered(function: Callable[..., R], name: str, options: tuple[Option, ...]) -> Callable[..., R]:
    @functools.wraps(function)
    def run(*arguments: Any, **given: Any) -> R:
        values = {key: given.pop(key) for key in keys}
        said = {key: value for key, value in values.items() if _said(value)}
        return function(*arguments, **{name: said}, **given)

    keys: list[str] = []
    command: Callable[..., R] = run
    for option in reversed(options):
        command = option(command)
        keys.append(command.__click_params__[-1].name)  # type: ignore[attr-defined]
    return command


def _said(value: Any) -> bool:
    """Whether an option was used: else it comes as None, or an empty tuple."""
    return value is not None and value != ()
