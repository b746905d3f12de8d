"""Single sign-on: the way to the provider, the way back, and linking it to the account that one has."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import g, make_response, redirect, render_template, request, session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import LabfleetError, NotFound, SignOnFailed
from labfleet.users import identities
from labfleet.users.identities import Claimed
from labfleet.web import auth
from labfleet.web.oidc import Begun, Provider
from labfleet.web.pages.frame import inside, pages
from labfleet.web.services import services

# Sign-ins that one browser may have under way, in as many of its windows.
WINDOWS = 4


@pages.get("/sign-in/oidc")
def sign_on() -> BaseResponse:
    """Send the browser to the provider."""
    return _leave(inside(request.args.get("next", "/")), link=False)


@pages.get("/sign-in/oidc/back")
def sign_on_back() -> BaseResponse:
    """Where the provider sends the browser back to."""
    target = "/"
    try:
        provider, begun = _provider(), _taken(request.args.get("state", ""))
        target = begun.next
        who = _asked(provider, begun)
        return _remember(who) if begun.link else _enter(provider, who, target)
    except LabfleetError as error:
        return _told(error, target)


@pages.get("/sign-in/oidc/leave")
def sign_on_leave() -> BaseResponse:
    """End the session at the provider too."""
    try:
        return redirect(_provider().way_out() or "/sign-in", 303)
    except LabfleetError as error:
        return _told(error, "/")


@pages.get("/profile/sign-on/begin")
def link_begin() -> BaseResponse:
    """Ask the provider who the signed-in user is there."""
    return _leave("/profile/sign-on", link=True)


@pages.route("/profile/sign-on", methods=["GET", "POST"])
def link() -> BaseResponse:
    """Link the account, after its password: who finds an open browser must not make himself a key."""
    who = _remembered()
    if who is None:
        return redirect("/profile", 303)
    if request.method == "GET":
        return _link_form(who)
    try:
        auth.prove(request.form.get("password", ""))
        with services().sessions.begin() as db:
            identities.link(db, g.user, who)
    except LabfleetError as error:
        return _link_form(who, error)
    session.pop("linking", None)
    return redirect("/profile?linked=1", 303)


def _provider() -> Provider:
    found = services().provider
    if found is None:
        raise NotFound("There is no single sign-on here.", hint="Sign in with name and password.")
    return found


def _leave(target: str, *, link: bool) -> BaseResponse:
    public = services().settings.web.public_url
    begun = Begun.new(target, link=link)
    try:
        provider = _provider()
        if request.host != urlsplit(public).netloc:  # the cookie of another name would not come back
            return redirect(public.rstrip("/") + request.full_path.rstrip("?"), 303)
        there = provider.way_there(begun)
    except LabfleetError as error:
        return _told(error, target)
    session["sign_on"] = [*session.get("sign_on", [])[-(WINDOWS - 1) :], begun.kept()]
    return redirect(there, 303)


def _taken(state: str) -> Begun:
    """The sign-in of this browser that has this state; it is good once."""
    waiting = [Begun(**one) for one in session.get("sign_on", [])]
    found = next((one for one in waiting if state and one.state == state), None)
    if found is None:
        raise SignOnFailed(
            "This browser has begun no such sign-in, or it is over already.",
            hint="Begin again here, in the browser in which you end it. It must accept cookies of this site.",
        )
    session["sign_on"] = [one.kept() for one in waiting if one is not found]
    if time.time() - found.at > services().settings.oidc.sign_in_seconds:
        raise SignOnFailed("The sign-in took too long.", hint="Begin again.")
    return found


def _asked(provider: Provider, begun: Begun) -> Claimed:
    """Who it is, by the provider's word; with the limits of signing in."""
    limit, key = services().logins, f"sign-on from {request.remote_addr}"
    limit.check(key)
    try:
        return provider.who(begun, request.args)
    except SignOnFailed:
        limit.failed(key)
        raise


def _enter(provider: Provider, who: Claimed, target: str) -> BaseResponse:
    user = auth.enter(provider.section, who)
    if not provider.section.second_factor and auth.await_code(user, by_provider=True):
        return redirect("/sign-in/code?" + urlencode({"next": target}), 303)
    auth.begin_session(user, by_provider=True)
    return redirect(target, 303)


def _remember(who: Claimed) -> BaseResponse:
    if g.user is None:
        raise SignOnFailed("You are signed in no more.", hint="Sign in, then link your account again.")
    kept = {"issuer": who.issuer, "subject": who.subject, "name": who.name}
    session["linking"] = {"user": str(g.user.id), "at": time.time(), **kept}
    return redirect("/profile/sign-on", 303)


def _remembered() -> Claimed | None:
    kept: dict[str, Any] | None = session.get("linking")
    if kept is None or kept["user"] != str(g.user.id):
        return None
    if time.time() - kept["at"] > services().settings.oidc.sign_in_seconds:
        return None
    return Claimed(kept["issuer"], kept["subject"], kept["name"])


def _link_form(who: Claimed, error: LabfleetError | None = None) -> BaseResponse:
    return _show("link_sign_on.html", error, who=who, label=services().settings.oidc.label)


def _told(error: LabfleetError, target: str) -> BaseResponse:
    """The page from which one begins again, with what went wrong."""
    if g.user is not None:
        return _show("error.html", error)
    return _show("sign_in.html", error, next=target, name="", at_provider=True)


def _show(template: str, error: LabfleetError | None = None, /, **values: object) -> BaseResponse:
    page = make_response(render_template(template, problem=error.problem() if error else None, **values))
    page.status_code = int(error.status) if error else 200
    if error and "retry_after" in error.extra:
        page.headers["Retry-After"] = str(error.extra["retry_after"])
    return page
