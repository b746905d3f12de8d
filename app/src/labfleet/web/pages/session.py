"""Signing in and out."""

from __future__ import annotations

from flask import Response, g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import Unauthorized
from labfleet.web import auth
from labfleet.web.pages.frame import pages
from labfleet.web.ratelimit import TooManyRequests


@pages.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> BaseResponse:
    """The sign-in page."""
    target = _inside(request.values.get("next", "/"))
    if request.method == "GET":
        return redirect(target, 303) if g.user else _form(target)
    name, password = request.form.get("user", ""), request.form.get("password", "")
    try:
        auth.begin_session(auth.sign_in(name, password))
    except (Unauthorized, TooManyRequests) as error:
        return _form(target, name, error)
    return redirect(target, 303)


@pages.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session."""
    auth.end_session()
    return redirect("/sign-in", 303)


def _form(target: str, name: str = "", error: Unauthorized | TooManyRequests | None = None) -> Response:
    problem = error.problem() if error else None
    page = make_response(render_template("sign_in.html", next=target, name=name, problem=problem))
    page.status_code = error.status if error else 200
    if error and "retry_after" in error.extra:
        page.headers["Retry-After"] = str(error.extra["retry_after"])
    return page


def _inside(target: str) -> str:
    """Only addresses of this site: `//elsewhere` and `https://…` lead home."""
    good = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if good else "/"
