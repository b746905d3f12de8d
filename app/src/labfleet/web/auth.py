"""Who is asking: tokens for programs, a signed cookie for people."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from apiflask import HTTPTokenAuth
from flask import current_app, g, request, session
from sqlalchemy.orm.attributes import set_committed_value

from labfleet.db.models import Token, User, WebSession
from labfleet.errors import (
    Forbidden,
    NotFound,
    ProviderUnavailable,
    ScopeMissing,
    SecondFactorNeeded,
    SignOnRefused,
    Unauthorized,
)
from labfleet.jobs.tokens import verify_attempt, verify_worker
from labfleet.users import identities, second_factor, sessions
from labfleet.users import service as users
from labfleet.users.identities import Claimed
from labfleet.users.scopes import Scope
from labfleet.web import ldap
from labfleet.web.ratelimit import RateLimit, TooManyRequests
from labfleet.web.services import services
from labfleet.web.tracing import known

P = ParamSpec("P")
V = TypeVar("V", bound=Callable[..., Any])
R = TypeVar("R")

MAX_TOKEN = 512
_FIELD = re.compile(r"[!-~]{1,512}")

user_auth = HTTPTokenAuth(
    name="user", description="A user's API token, `lf_…` (POST /api/v1/login), with the scope named."
)
attempt_auth = HTTPTokenAuth(name="attempt", description="The token of one attempt, `la_…`.")
worker_auth = HTTPTokenAuth(name="worker", description="A worker's own token, `lw_…`.")
join_auth = HTTPTokenAuth(name="join", description="The token of one invitation of a machine, `lj_…`.")


@user_auth.verify_token  # type: ignore[untyped-decorator]
def _user(token: str) -> User:
    view: Any = current_app.view_functions[request.endpoint or ""]
    known(admit(token, view.labfleet_scope))
    return current_user()


@attempt_auth.verify_token  # type: ignore[untyped-decorator]
def _attempt(token: str) -> bool:
    arguments = request.view_args or {}
    verify_attempt(_clean(token), arguments["task"], arguments["number"], services().signing_keys)
    return True


@worker_auth.verify_token  # type: ignore[untyped-decorator]
def _worker(token: str) -> bool:
    verify_worker(_clean(token), (request.view_args or {})["name"], services().worker_tokens)
    return True


@join_auth.verify_token  # type: ignore[untyped-decorator]
def _join(token: str) -> str:
    # Whether it is good is found out by using it: see `api/joins.py`.
    return _clean(token)


def _unknown(status: int) -> NoReturn:
    del status
    raise Unauthorized("The request has no 'Authorization: Bearer …' header.")


for _scheme in (user_auth, attempt_auth, worker_auth, join_auth):
    _scheme.error_handler(_unknown)


def needs(scope: Scope) -> Callable[[V], V]:
    """Declare what an operation takes of a token; right below its route, and every one has it."""

    def declare(view: V) -> V:
        view.labfleet_scope = scope  # type: ignore[attr-defined]
        return view

    return declare


def admit(plain: str, scope: Scope) -> User:
    """The user whose token this is, if it may do this. The one place that decides it, for API and git.

    Raises `Unauthorized`, `ScopeMissing`, or `Forbidden` for what only admins may. With a token without the
    scope `admin` an admin is a user like others.
    """
    with services().sessions.begin() as db:
        token = users.resolve_token(db, _clean(plain))
    user = token.user
    if scope is Scope.ADMIN and not user.is_admin:
        raise Forbidden("Only an admin may do this.")
    if scope not in token.scopes:
        raise ScopeMissing(scope)
    if Scope.ADMIN not in token.scopes:
        # Of this copy only: nothing of it is written.
        set_committed_value(user, "is_admin", False)
    g.token = token
    return user


def also_needs(scope: Scope) -> None:
    """Refuse a token without this scope, too: for what only the request's content asks for."""
    if scope not in current_token().scopes:
        raise ScopeMissing(scope)


def current_token() -> Token:
    """The token of this request; only behind `admit`."""
    token: Token = g.token
    return token


def _clean(token: str) -> str:
    if not _FIELD.fullmatch(token):
        raise Unauthorized("The token has characters that no token has.")
    return token


def current_user() -> User:
    """The user of this request; only behind one of the checks of this module."""
    user: User = g.user
    return user


def admin_only(view: Callable[P, R]) -> Callable[P, R]:
    """Refuse whoever is no admin: for pages. Of the API, `needs` says it."""

    @functools.wraps(view)
    def checked(*arguments: P.args, **given: P.kwargs) -> R:
        if not current_user().is_admin:
            raise Forbidden("Only an admin may do this.")
        return view(*arguments, **given)

    return checked


def sign_in(name: str, password: str, *, own: bool = False) -> User:
    """The user of this name and password, ours or the directory's.

    `own`: who asks is signed in as the one whose name it is, and may learn that the password is ours.
    Raises `Unauthorized`, `SignOnRefused` for who is in the directory and not let in, `ProviderUnavailable`,
    or `TooManyRequests` after failures.
    """
    limit, keys = services().logins, (f"from {request.remote_addr}", f"user {name}")
    limit.check(*keys)
    name = name.replace("\x00", "\ufffd")
    unanswered = f"unanswered {name}"
    if not own:
        _await_answers(limit, unanswered, name, password)
    try:
        return _of_password(name, password, own=own)
    except Unauthorized:
        limit.failed(*keys)
        _write_refused(name)
        raise
    except ProviderUnavailable:
        limit.failed(unanswered)
        if not _is_for_the_directory(name):
            _write_refused(name)
        raise


def _write_refused(name: str) -> None:
    with services().sessions.begin() as db:
        users.refused(db, name)


def _await_answers(limit: RateLimit, key: str, name: str, password: str) -> None:
    """Let no more passwords of ours be tried while the directory is away than else: `ProviderUnavailable`.

    That is counted apart: when it is back, who was not answered has not failed. And by the name alone: many
    ask in vain from one address, from which an admin with a password of ours wants to get in.
    """
    directory = services().directory
    try:
        limit.check(key)
    except TooManyRequests:
        if directory is not None:
            directory.pretend(name, password)


def _of_password(name: str, password: str, *, own: bool) -> User:
    directory = services().directory
    try:
        with services().sessions.begin() as db:
            return users.authenticate(db, name, password)
    except Unauthorized:
        if directory is None:
            raise
        # What somebody has typed for an account of ours goes nowhere else.
        if not _is_for_the_directory(name):
            if not own:
                # What becomes of it, and when, would tell ours from names that only the directory may know.
                directory.pretend(name, password)
            raise
        who = directory.who(name, password)
        if who is None:
            raise
    return enter(directory.section, who)


def _is_for_the_directory(name: str) -> bool:
    with services().sessions() as db:
        user = users.find_name(db, name)
        return (
            user is None
            or not users.has_password(user)
            or identities.of_user(db, user, ldap.ISSUER) is not None
        )


def enter(rules: identities.Rules, who: Claimed) -> User:
    """The user whose account this person opens. `SignOnRefused`, which is written down, for who is not."""
    try:
        with services().sessions.begin() as db:
            return identities.enter(db, rules, who)
    except SignOnRefused as error:
        with services().sessions.begin() as db:
            identities.refused(db, who, error.detail)
        raise


def of_directory(name: str, password: str) -> Claimed:
    """Whom the directory knows by these, with the limits of signing in; the account is not asked for."""
    limit, keys = services().logins, (f"from {request.remote_addr}", f"user {name}")
    limit.check(*keys)
    directory = services().directory
    if directory is None:
        raise NotFound("There is no sign-in by a directory here.")
    who = directory.who(name, password)
    if who is None:
        limit.failed(*keys)
        raise Unauthorized("The directory does not take that name and password.", hint="Check both.")
    identities.check_allowed(directory.section, who)
    return who


def prove(password: str) -> None:
    """Refuse a change of the account to who may have found its browser open: with the limits of signing in.

    Who has no password has signed in by a provider a moment ago, or does so again.
    """
    if users.has_password(g.user):
        # In the directory the name may be somebody else's.
        if sign_in(g.user.name, password, own=True).id != g.user.id:
            raise Unauthorized("That is not the password of this account.", hint="Try again.")
        return
    seconds = services().settings.web.second_factor_seconds
    with services().sessions() as db:
        if not sessions.is_young(db, g.session.id, seconds):
            raise Unauthorized(
                f"This is for the first {seconds / 60:.0f} minutes after signing in: you have no password.",
                hint="Sign out, sign in again, and do it then.",
            )


def check_second_factor(user: User, code: str | None) -> None:
    """Refuse without a right code of the user's second factor, if there is one.

    Raises `SecondFactorNeeded` where none was given, `Unauthorized`, or `TooManyRequests` after failures.
    """
    web = services().settings.web
    with services().sessions() as db:
        if not second_factor.is_on(db, user):
            return
    if not code:
        raise SecondFactorNeeded("The password is right; the code of your second factor is needed too.")
    limit = second_factor.Limit(web.login_attempts, web.login_window_seconds)
    with services().sessions.begin() as db:
        verdict = second_factor.check(db, user, services().second_factors, code, limit)
    if verdict is second_factor.Verdict.TOO_OFTEN:
        wait = int(limit.seconds)
        raise TooManyRequests("Too many wrong codes; wait a while.", retry_after=wait)
    if verdict is second_factor.Verdict.WRONG:
        raise Unauthorized(
            "That code is not right, or it was used already.",
            hint="Type the one that the app shows now, or a recovery code.",
        )


def lacks_second_factor(user: User) -> bool:
    """Whether the user is an admin who has to have a second factor and has none.

    In a session that was begun by a provider which asks for one itself, nobody lacks it.
    """
    if not (user.is_admin and services().settings.web.admins_need_second_factor):
        return False
    here: WebSession | None = g.get("session")
    if here is not None and here.by_provider and services().settings.oidc.second_factor:
        return False
    with services().sessions() as db:
        return not second_factor.is_on(db, user)


def await_code(user: User, *, by_provider: bool = False) -> bool:
    """Whether a code is wanted before the session begins; if so, remember that the first step was right."""
    with services().sessions() as db:
        if not second_factor.is_on(db, user):
            return False
    end_session()
    half = {"user": str(user.id), "proof": _proof(user), "at": time.time(), "by_provider": by_provider}
    session["half"] = half
    return True


def half_signed_in() -> User | None:
    """Who has taken the first step in this browser a moment ago and owes the code."""
    half = session.get("half")
    if half is None or time.time() - half["at"] > services().settings.web.second_factor_seconds:
        return None
    with services().sessions() as db:
        user = users.find_user(db, uuid.UUID(half["user"]))
    return user if user and hmac.compare_digest(_proof(user), half["proof"]) else None


def _proof(user: User) -> str:
    # Changes with the password: the half of a sign-in that had an old one is worth nothing.
    return hashlib.sha256(f"{user.id}:{user.password_hash}".encode()).hexdigest()[:32]


def begin_session(user: User, *, by_provider: bool = False) -> None:
    """Make the browser's session the user's; what was in it before is forgotten."""
    end_session()
    known(user)
    with services().sessions.begin() as db:
        key = sessions.begin(
            db,
            user,
            address=request.remote_addr or "",
            agent=request.user_agent.string,
            hours=services().settings.web.session_hours,
            by_provider=by_provider,
        )
    session.permanent = True
    session["key"] = key


def current_session() -> WebSession | None:
    """The session of this browser, if it has not ended and its account is still good."""
    if "key" not in session:
        return None
    hours = services().settings.web.session_hours
    with services().sessions.begin() as db:
        found = sessions.resolve(db, str(session["key"]), address=request.remote_addr or "", hours=hours)
    if found is None:
        session.clear()
    return found


def end_session() -> None:
    """End the session of this browser, if it has one."""
    if "key" in session:
        with services().sessions.begin() as db:
            sessions.end(db, str(session["key"]))
    session.clear()


def csrf_token() -> str:
    """The session's token that every form carries."""
    token: str = session.setdefault("csrf", secrets.token_urlsafe(24))
    return token


def check_csrf() -> None:
    """Refuse a form that this site did not make."""
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", "")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        _foreign()
    if not hmac.compare_digest(given.encode(), csrf_token().encode()):
        _foreign()


def _foreign() -> NoReturn:
    raise Forbidden(
        "The form was not made by this page, or it was open for too long.",
        hint="Go back, reload the page and send the form again.",
    )
