"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Response, g, make_response, redirect, render_template, request, session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import ProviderUnavailable, SignOnRefused, Unauthorized
from labfleet.web import auth
from labfleet.web.pages.frame import inside, pages
from labfleet.web.ratelimit import TooManyRequests
from labfleet.web.services import services

Refusal = Unauthorized | TooManyRequests | SignOnRefused | ProviderUnavailable


@pages.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> BaseResponse:
    """The sign-in page."""
    target = inside(request.values.get("next", "/"))
    if request.method == "GET":
        return redirect(target, 303) if g.user else _form(target)
    name, password = request.form.get("user", ""), request.form.get("password", "")
    try:
        user = auth.sign_in(name, password)
    except (Unauthorized, TooManyRequests, SignOnRefused, ProviderUnavailable) as error:
        return _form(target, name, error)
    if auth.await_code(user):
        return redirect("/sign-in/code?" + urlencode({"next": target}), 303)
    auth.begin_session(user)
    return redirect(target, 303)


@pages.route("/sign-in/code", methods=["GET", "POST"])
def sign_in_code() -> BaseResponse:
    """The second step, where the user has a second factor."""
    target = inside(request.values.get("next", "/"))
    user = auth.half_signed_in()
    if user is None:
        return redirect("/sign-in?" + urlencode({"next": target}), 303)
    if request.method == "GET":
        return _code_form(target)
    try:
        auth.check_second_factor(user, request.form.get("code", ""))
    except (Unauthorized, TooManyRequests) as error:
        return _code_form(target, error)
    auth.begin_session(user, by_provider=bool(session["half"].get("by_provider")))
    return redirect(target, 303)


@pages.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session; where a provider began it, that one's goes on, and the page offers to end it."""
    by_provider = g.session is not None and g.session.by_provider
    auth.end_session()
    return redirect("/sign-in?left=1" if by_provider else "/sign-in", 303)


def _form(target: str, name: str = "", error: Refusal | None = None) -> Response:
    recovered = "" if error or request.args.get("recovered") != "1" else "1"
    left = "1" if services().provider and request.args.get("left") == "1" else ""
    told = "1" if isinstance(error, SignOnRefused | ProviderUnavailable) else ""
    return _answer(
        "sign_in.html", error, next=target, name=name, recovered=recovered, left=left, at_provider=told
    )


def _code_form(target: str, error: Refusal | None = None) -> Response:
    return _answer("sign_in_code.html", error, next=target)


def _answer(template: str, error: Refusal | None, **values: str) -> Response:
    page = make_response(render_template(template, problem=error.problem() if error else None, **values))
    page.status_code = error.status if error else 200
    if error and "retry_after" in error.extra:
        page.headers["Retry-After"] = str(error.extra["retry_after"])
    return page
