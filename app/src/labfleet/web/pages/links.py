"""Where the links of mails lead: an invitation, another password, a new address. And asking for one.

Opening a link changes nothing, for programs that look through mails open them too; a button does.
"""

from __future__ import annotations

from flask import make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import Invalid, LabfleetError, LinkOver
from labfleet.users import invitations, recovery
from labfleet.users import service as users
from labfleet.web import auth
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages.frame import pages
from labfleet.web.ratelimit import TooManyRequests
from labfleet.web.services import services


@pages.route("/forgotten", methods=["GET", "POST"])
def forgotten() -> BaseResponse:
    """Ask for a mail by which another password is chosen. The answer is the same whoever is named."""
    if request.method == "GET":
        return _show("forgotten.html", on=services().post.on)
    who = request.form.get("who", "")
    limit, key = services().logins, f"forgotten from {request.remote_addr}"
    try:
        limit.check(key)
        check_value(who, MAX_DEPTH)
        # Each one counts, whatever comes of it: a mailbox is not to be filled.
        limit.failed(key)
        with services().sessions.begin() as db:
            recovery.forgotten(db, services().post, who)
    except (LabfleetError, TooManyRequests) as error:
        return _show("forgotten.html", error, on=services().post.on)
    return _show("forgotten.html", on=True, sent=True)


@pages.route("/password", methods=["GET", "POST"])
def other_password() -> BaseResponse:
    """Choose another password, by the link of a mail."""
    key = request.values.get("key", "")
    try:
        with services().sessions.begin() as db:
            name = recovery.look(db, key).name
            if request.method == "POST":
                recovery.reset(db, services().post, key, _twice())
    except LinkOver as error:
        return _over(error, "/forgotten", "Ask for a new link")
    except Invalid as error:
        return _show("other_password.html", error, key=key, name=name, shortest=users.MIN_PASSWORD)
    if request.method == "GET":
        return _show("other_password.html", key=key, name=name, shortest=users.MIN_PASSWORD)
    auth.end_session()
    return redirect("/sign-in?recovered=1", 303)


@pages.route("/invitation", methods=["GET", "POST"])
def invitation() -> BaseResponse:
    """Make an account, by the link of a mail."""
    key, name = request.values.get("key", ""), request.form.get("name", "").strip()
    try:
        with services().sessions.begin() as db:
            row = invitations.look(db, key)
            invited = {"mail": row.mail, "given": row.name, "by": row.made_by}
            if request.method == "POST":
                check_value(name, MAX_DEPTH)
                made = invitations.accept(db, key, name, _twice())
    except LinkOver as error:
        return _over(error, "/sign-in", "To the sign-in page")
    except LabfleetError as error:
        return _show("invitation.html", error, key=key, name=name, shortest=users.MIN_PASSWORD, **invited)
    if request.method == "GET":
        return _show("invitation.html", key=key, name=name, shortest=users.MIN_PASSWORD, **invited)
    auth.begin_session(made)
    return redirect("/", 303)


@pages.route("/address", methods=["GET", "POST"])
def address() -> BaseResponse:
    """Confirm a mail address, by the link of a mail."""
    key = request.values.get("key", "")
    try:
        with services().sessions.begin() as db:
            user, mail = recovery.look_address(db, key)
            if request.method == "POST":
                recovery.confirm_address(db, services().post, key)
    except LabfleetError as error:
        return _over(error, "/profile", "To your account")
    if request.method == "GET":
        return _show("confirm_address.html", key=key, mail=mail, name=user.name)
    return redirect("/profile?confirmed=1", 303)


def _twice() -> str:
    """The new password of the form."""
    password = request.form.get("password", "")
    if password != request.form.get("again", ""):
        raise Invalid("The password was not the same twice.", hint="Type it again.")
    return password


def _over(error: LabfleetError, way: str, words: str) -> BaseResponse:
    return _show("link_over.html", error, way=way, words=words)


def _show(template: str, error: LabfleetError | None = None, /, **values: object) -> BaseResponse:
    page = make_response(render_template(template, problem=error.problem() if error else None, **values))
    page.status_code = int(error.status) if error else 200
    if error and "retry_after" in error.extra:
        page.headers["Retry-After"] = str(error.extra["retry_after"])
    return page
