"""What an API token may do. A token never does more than its user may."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from labfleet.db.models import Token, User
from labfleet.errors import Invalid, ScopeMissing


class Scope(StrEnum):
    """A part of what a user may do. Every operation of the API takes one, and so do git's."""

    READ = "read"
    JOBS = "jobs"
    DATA = "data"
    PROTOCOLS = "protocols"
    ACCOUNT = "account"
    ADMIN = "admin"


TOLD = {
    Scope.READ: "look at all that you may see, and download it",
    Scope.JOBS: "submit, change, cancel, retry, share and delete jobs, and save settings for them",
    Scope.DATA: "upload, change, share and delete datasets and sources, and have sources fetched",
    Scope.PROTOCOLS: "send or push, share and delete protocols",
    Scope.ACCOUNT: "look after your account: tokens, sessions, mails, the secret of webhooks",
    Scope.ADMIN: "do what only admins may; without it the token is that of a user who is no admin",
}
"""What each lets a token do, in words."""


def everything(user: User) -> list[Scope]:
    """All that this user may do now."""
    return [scope for scope in Scope if user.is_admin or scope is not Scope.ADMIN]


def chosen(user: User, wanted: Iterable[str] | None, maker: Token | None) -> list[Scope]:
    """The scopes of a new token, in their order; None: all that its maker has (without a maker, the user).

    Raises `Invalid` for none or unknown ones, or for `admin` where the user is none, and `ScopeMissing` for
    what the token that makes it lacks.
    """
    allowed = everything(user) if maker is None else [one for one in Scope if one in maker.scopes]
    if wanted is None:
        return [scope for scope in allowed if scope in everything(user)]
    names = set(wanted)
    if not names or names - set(Scope):
        raise Invalid(f"A token has at least one of the scopes {', '.join(Scope)}.")
    found = [scope for scope in Scope if scope in names]
    if missing := [scope for scope in found if scope not in allowed and maker is not None]:
        raise ScopeMissing(
            missing[0], f"The token lacks the scope '{missing[0]}', so it can't make one that has it."
        )
    if beyond := [scope for scope in found if scope not in everything(user)]:
        raise Invalid(f"The scope '{beyond[0]}' is for tokens of admins.", hint="Leave it out.")
    return found


def words(scopes: Collection[str]) -> str:
    """A token's scopes as one reads them."""
    return (
        "everything" if set(scopes) == set(Scope) else ", ".join(scope for scope in Scope if scope in scopes)
    )
