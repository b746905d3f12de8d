"""The viewer's own account: API tokens, sessions, another password, mails."""

from __future__ import annotations

import uuid

from flask import g, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import Invalid, LabfleetError
from labfleet.mail import notices
from labfleet.mail.notices import Wish
from labfleet.mail.texts import words
from labfleet.users import identities, recovery, second_factor, sessions
from labfleet.users import service as users
from labfleet.users.devices import device
from labfleet.users.scopes import TOLD, Scope, everything
from labfleet.users.scopes import words as may
from labfleet.web import auth, ldap
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

DAYS = (7, 30, 90, 365)
TOKEN_NAME = 100


@pages.get("/profile")
def profile() -> str:
    """The account's page."""
    return _page()


@pages.post("/profile/tokens")
def make_token() -> str | tuple[str, int]:
    """Make a token, and show it this once."""
    name, days = request.form.get("name", "").strip(), request.form.get("days", "")
    try:
        if not 0 < len(name) <= TOKEN_NAME:
            raise Invalid(f"A token has a name of 1 to {TOKEN_NAME} characters, to know it again.")
        check_value(name, MAX_DEPTH)
        if days not in map(str, DAYS):
            raise Invalid("Choose one of the times.")
        with services().sessions.begin() as db:
            wanted = request.form.getlist("scope")
            plain = users.issue_token(db, g.user, name, days=int(days), wanted=wanted)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return _page(token=plain)


@pages.post("/profile/tokens/<uuid:token>/revoke")
def revoke_token(token: uuid.UUID) -> BaseResponse:
    """Let a token be good no more."""
    with services().sessions.begin() as db:
        users.revoke_one_token(db, g.user, token)
    return redirect("/profile", 303)


@pages.post("/profile/sessions/<uuid:which>/end")
def end_session(which: uuid.UUID) -> BaseResponse:
    """Sign out one of the viewer's browsers; this one is sent to the sign-in page by its next request."""
    with services().sessions.begin() as db:
        sessions.end_one(db, g.user, which)
    return redirect("/profile", 303)


@pages.post("/profile/sessions/end")
def end_other_sessions() -> BaseResponse:
    """Sign out all of the viewer's browsers but this one."""
    with services().sessions.begin() as db:
        sessions.end_all(db, g.user, but=g.session.id)
    return redirect("/profile", 303)


@pages.post("/profile/password")
def change_password() -> BaseResponse | tuple[str, int]:
    """Change the password, which ends all other sessions; this one goes on."""
    given = {name: request.form.get(name, "") for name in ("current", "new", "again")}
    try:
        if given["new"] != given["again"]:
            raise Invalid("The new password was not the same twice.", hint="Type it again.")
        # With the limits of signing in: a stolen session must not try passwords faster.
        known = auth.sign_in(g.user.name, given["current"], own=True)
        with services().sessions.begin() as db:
            changed = users.change_password(db, known, given["new"])
            recovery.tell_changed(db, services().post, changed)
        auth.begin_session(changed)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile?changed=1", 303)


@pages.post("/profile/address")
def change_address() -> str | tuple[str, int]:
    """Have a link sent to another mail address, which becomes the account's when that is followed."""
    mail = request.form.get("mail", "")
    try:
        check_value(mail, MAX_DEPTH)
        # Whoever finds an open browser must not have passwords sent to him.
        auth.prove(request.form.get("password", ""))
        with services().sessions.begin() as db:
            sent = recovery.ask_address(db, services().post, g.user, mail)
    except LabfleetError as error:
        return _page(problem=error.problem(), mail=mail), error.status
    return _page(sent=sent)


@pages.post("/profile/job-mails")
def choose_job_mails() -> BaseResponse | tuple[str, int]:
    """Choose on which ends of jobs mails are sent."""
    wanted = request.form.get("jobs", "")
    try:
        if wanted not in set(Wish):
            raise Invalid("Choose one of the three.")
        with services().sessions.begin() as db:
            notices.choose(db, services().settings.mail, g.user, Wish(wanted))
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile?chosen=1", 303)


@pages.post("/profile/directory")
def link_directory() -> BaseResponse | tuple[str, int]:
    """Let the directory open the account, as who one is there."""
    try:
        auth.prove(request.form.get("current", ""))
        who = auth.of_directory(request.form.get("user", ""), request.form.get("password", ""))
        with services().sessions.begin() as db:
            identities.link(db, g.user, who)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile?linked=2", 303)


@pages.post("/profile/<any('sign-on','directory'):way>/remove")
def unlink(way: str) -> BaseResponse | tuple[str, int]:
    """Let the provider of sign-ins, or the directory, open the account no more."""
    try:
        auth.prove(request.form.get("password", ""))
        issuer = ldap.ISSUER if way == "directory" else services().settings.oidc.issuer
        with services().sessions.begin() as db:
            identities.unlink(db, g.user, issuer)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile", 303)


def _page(**more: object) -> str:
    with services().sessions() as db:
        tokens = users.live_tokens(db, g.user)
        open_sessions = sessions.live(db, g.user, services().settings.web.session_hours)
        return render_template(
            "profile.html",
            section="Profile",
            tokens=tokens,
            sessions=[(one, device(one.agent)) for one in open_sessions],
            here=g.session.id,
            factor=second_factor.is_on(db, g.user),
            left=second_factor.codes_left(db, g.user),
            days=DAYS,
            scopes=[(scope, TOLD[scope], scope is not Scope.ADMIN) for scope in everything(g.user)],
            may=may,
            mail_on=services().post.on,
            digest=words(services().settings.mail.digest_minutes * 60),
            chosen=request.args.get("chosen") == "1",
            asked=recovery.asked_address(db, g.user),
            confirmed=request.args.get("confirmed") == "1",
            shortest=users.MIN_PASSWORD,
            has_password=users.has_password(g.user),
            identity=identities.of_user(db, g.user, services().settings.oidc.issuer),
            of_directory=identities.of_user(db, g.user, ldap.ISSUER),
            linked=request.args.get("linked"),
            changed=request.args.get("changed") == "1",
            url_of_api=services().settings.web.public_url.rstrip("/"),
            **more,
        )
