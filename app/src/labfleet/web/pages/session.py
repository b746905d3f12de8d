"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Response, g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import Unauthorized
from labfleet.web import auth
from labfleet.web.pages.frame import pages
from labfleet.web.ratelimit import TooManyRequests

Refusal = Unauthorized | TooManyRequests


@pages.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> BaseResponse:
    """The sign-in page."""
    target = _inside(request.values.get("next", "/"))
    if request.method == "GET":
        return redirect(target, 303) if g.user else _form(target)
    name, password = request.form.get("user", ""), request.form.get("password", "")
    try:
        user = auth.sign_in(name, password)
    except (Unauthorized, TooManyRequests) as error:
        return _form(target, name, error)
    if auth.await_code(user):
        return redirect("/sign-in/code?" + urlencode({"next": target}), 303)
    auth.begin_session(user)
    return redirect(target, 303)


@pages.route("/sign-in/code", methods=["GET", "POST"])
def sign_in_code() -> BaseResponse:
    """The second step, where the user has a second factor."""
    target = _inside(request.values.get("next", "/"))
    user = auth.half_signed_in()
    if user is None:
        return redirect("/sign-in?" + urlencode({"next": target}), 303)
    if request.method == "GET":
        return _code_form(target)
    try:
        auth.check_second_factor(user, request.form.get("code", ""))
    except (Unauthorized, TooManyRequests) as error:
        return _code_form(target, error)
    auth.begin_session(user)
    return redirect(target, 303)


@pages.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session."""
    auth.end_session()
    return redirect("/sign-in", 303)


def _form(target: str, name: str = "", error: Refusal | None = None) -> Response:
    recovered = "" if error or request.args.get("recovered") != "1" else "1"
    return _answer("sign_in.html", error, next=target, name=name, recovered=recovered)


def _code_form(target: str, error: Refusal | None = None) -> Response:
    return _answer("sign_in_code.html", error, next=target)


def _answer(template: str, error: Refusal | None, **values: str) -> Response:
    page = make_response(render_template(template, problem=error.problem() if error else None, **values))
    page.status_code = error.status if error else 200
    if error and "retry_after" in error.extra:
        page.headers["Retry-After"] = str(error.extra["retry_after"])
    return page


def _inside(target: str) -> str:
    """Only addresses of this site: `//elsewhere` and `https://…` lead home."""
    good = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if good else "/"
