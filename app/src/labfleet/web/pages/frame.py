"""What every page shares: the blueprint, who is signed in, and the templates' helpers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from apiflask import APIBlueprint, APIFlask
from flask import Response, g, redirect, request
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from labfleet.web.auth import check_csrf, csrf_token, current_session, lacks_second_factor
from labfleet.web.pages.tree import duration
from labfleet.web.services import services
from labfleet.web.tracing import known

pages = APIBlueprint("pages", __name__, enable_openapi=False)
MAIN_WAYS = (
    ("Home", "/"),
    ("Jobs", "/jobs"),
    ("Protocols", "/protocols"),
    ("Datasets", "/datasets"),
    ("Matrix", "/matrix"),
    ("Workers", "/workers"),
)
PUBLIC = frozenset(
    {
        "pages.sign_in",
        "pages.sign_in_code",
        "pages.sign_on",
        "pages.sign_on_back",
        "pages.sign_on_leave",
        "pages.forgotten",
        "pages.other_password",
        "pages.invitation",
        "pages.address",
        "pages.api_docs",
        "pages.command_line",
        "pages.command_line_wheel",
        "pages.openapi_document",
    }
)

# All that an admin is let into who has to have a second factor and has none yet.
SETTING_UP = frozenset(
    {"pages.second_factor", "pages.prepare_second_factor", "pages.confirm_second_factor", "pages.sign_out"}
)


def register(app: APIFlask, release: str) -> None:
    """Add the pages and their helpers to the application."""
    app.register_blueprint(pages)
    app.jinja_env.filters.update(bytes=size_text, figure=figure_text, numeric=is_number, duration=duration)
    app.jinja_env.globals.update(
        MAIN_WAYS=MAIN_WAYS, release=release, csrf=csrf_field, url=with_query, address_of=address_of
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(_of_request)


def _of_request() -> dict[str, Any]:
    settings = services().settings
    return {
        "viewer": g.get("user"),
        "sign_on_label": settings.oidc.label if services().provider else None,
        "directory_label": settings.ldap.label if services().directory else None,
    }


@pages.before_request
def require_user() -> BaseResponse | None:
    """Know who is asking; send others to the sign-in page. Forms must be ours."""
    g.session = current_session()
    g.user = g.session.user if g.session else None
    if g.user is not None:
        known(g.user)
    if g.user is None and request.endpoint not in PUBLIC:
        return _to_sign_in()
    if request.method == "POST":
        check_csrf()
    if g.user and request.endpoint not in PUBLIC | SETTING_UP and lacks_second_factor(g.user):
        return redirect("/profile/second-factor", 303)
    return None


def _to_sign_in() -> BaseResponse:
    here = request.full_path.rstrip("?") if request.method == "GET" else "/"
    address = "/sign-in?" + urlencode({"next": here})
    if request.headers.get("HX-Request"):  # a part of a page refreshes itself: the whole page goes
        return Response(headers={"HX-Redirect": "/sign-in"})
    return redirect(address, 303)


def inside(target: str) -> str:
    """Only addresses of this site: `//elsewhere` and `https://…` lead home."""
    good = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if good else "/"


def names(text: str) -> list[str]:
    """What stands in a field with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def csrf_field() -> Markup:
    """The hidden field of a form."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(csrf_token())


def with_query(query: Mapping[str, Any], **changes: Any) -> str:
    """This page's address with another query."""
    return address_of(request.path, query, **changes)


def address_of(path: str, query: Mapping[str, Any], **changes: Any) -> str:
    """The address of a page with this query, changed."""
    values = {key: value for key, value in {**query, **changes}.items() if value is not None}
    return path + ("?" + urlencode(values) if values else "")


def size_text(size: float) -> str:
    """`1536` → `1.5 KB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def figure_text(value: object) -> str:
    """`1234567.891` → `1,234,570`, `0.000012345` → `1.234e-05`; what is no number stays as it is."""
    if not isinstance(value, int | float):
        return str(value)
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.3e}"


def is_number(text: str) -> bool:
    """Whether a cell of a table holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
