"""Setting up the second factor, and switching it off again."""

from __future__ import annotations

from urllib.parse import urlsplit

import segno
from flask import g, redirect, render_template, request
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from labfleet.errors import LabfleetError
from labfleet.users import second_factor as factor
from labfleet.users import service as users
from labfleet.web import auth
from labfleet.web.pages.frame import pages
from labfleet.web.services import services


@pages.get("/profile/second-factor")
def second_factor() -> str:
    """Where it is set up, or switched off."""
    return _page()


@pages.post("/profile/second-factor")
def prepare_second_factor() -> BaseResponse | tuple[str, int]:
    """Make the secret that the phone's app is to know."""
    try:
        auth.prove(request.form.get("password", ""))
        with services().sessions.begin() as db:
            factor.prepare(db, g.user, services().second_factors)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile/second-factor", 303)


@pages.post("/profile/second-factor/confirm")
def confirm_second_factor() -> str | tuple[str, int]:
    """Switch it on, and show the recovery codes this once."""
    try:
        with services().sessions.begin() as db:
            codes = factor.confirm(db, g.user, services().second_factors, request.form.get("code", ""))
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return _page(codes=codes)


@pages.post("/profile/second-factor/codes")
def renew_recovery_codes() -> str | tuple[str, int]:
    """Replace the recovery codes, and show the new ones this once."""
    try:
        auth.prove(request.form.get("password", ""))
        with services().sessions.begin() as db:
            codes = factor.renew_codes(db, g.user)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return _page(codes=codes)


@pages.post("/profile/second-factor/remove")
def remove_second_factor() -> BaseResponse | tuple[str, int]:
    """Switch it off."""
    try:
        auth.prove(request.form.get("password", ""))
        with services().sessions.begin() as db:
            factor.remove(db, g.user)
    except LabfleetError as error:
        return _page(problem=error.problem()), error.status
    return redirect("/profile", 303)


def _page(**more: object) -> str:
    with services().sessions() as db:
        setup = factor.prepared(db, g.user, services().second_factors, _issuer())
        return render_template(
            "second_factor.html",
            section="Profile",
            factor=factor.get(db, g.user),
            left=factor.codes_left(db, g.user),
            setup=setup,
            picture=_picture(setup.uri) if setup else None,
            has_password=users.has_password(g.user),
            minutes=round(services().settings.web.second_factor_seconds / 60),
            required=auth.lacks_second_factor(g.user),
            **more,
        )


def _issuer() -> str:
    """Under which name the app lists it: people may have several Labfleets."""
    return f"Labfleet {urlsplit(services().settings.web.public_url).hostname or ''}".strip()


def _picture(uri: str) -> Markup:
    """The QR code as SVG without any style, which the policy would not allow."""
    code = segno.make(uri, error="m", micro=False)
    return Markup(code.svg_inline(scale=4, border=2, light="#ffffff", omitsize=True, title="QR code"))  # noqa: S704 - segno's own drawing
