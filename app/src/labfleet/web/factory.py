"""The application factory."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version

from apiflask import APIFlask
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter

from labfleet import config
from labfleet.config import WebserverSettings
from labfleet.log import configure
from labfleet.web import guard, metrics, openapi, problems, tracing
from labfleet.web.api import (
    account,
    analyses,
    attempts,
    blueprints,
    datasets,
    jobs,
    joins,
    machines,
    mails,
    people,
    protocols,
    queue,
    search,
    sources,
    verbs,
)
from labfleet.web.git import git
from labfleet.web.pages import (
    admin,
    artifacts,
    command_line,
    docs,
    frame,
    home,
    links,
    matrix,
    profile,
    second_factor,
    session,
    sign_on,
    submit,
    workers,
)
from labfleet.web.pages import datasets as dataset_pages
from labfleet.web.pages import jobs as job_pages
from labfleet.web.pages import protocols as protocol_pages
from labfleet.web.pages import search as search_pages
from labfleet.web.pages import sources as source_pages
from labfleet.web.request import LabfleetRequest
from labfleet.web.services import EXTENSION, Services, from_settings

DESCRIPTION = """Submit analyses, watch them, fetch their results.

Errors are `application/problem+json` (RFC 9457) with a stable `code` and a `hint` of what to do.
Lists are read page by page: the `next` of one page is the `after` of the following one."""
# Importing them has filled the blueprints.
VIEWS = (
    *(account, analyses, attempts, datasets, jobs, joins, machines, mails, people, protocols, queue, search),
    *(sources, verbs),
)
PAGES = (
    *(admin, artifacts, command_line, dataset_pages, docs, home, job_pages, links, matrix, profile),
    *(protocol_pages, search_pages, second_factor, session, sign_on, source_pages, submit, workers),
)


class NumberConverter(IntegerConverter):
    """An attempt's number: positive, and short enough for any database."""

    regex = r"[1-9]\d{0,8}"


def create_app(settings: WebserverSettings | None = None, services: Services | None = None) -> APIFlask:
    """The web application, from the file that `LABFLEET_CONFIG` names and the unit's credentials.

    Raises `ConfigError` with file, key and remedy where something is missing.
    """
    settings = settings or config.web_settings()
    configure(settings.log.level)
    app = bare_app()
    app.extensions[EXTENSION] = services or from_settings(settings)
    _configure(app, settings)
    return app


def bare_app() -> APIFlask:
    """The routes without settings: enough to describe itself."""
    app = APIFlask(
        "labfleet.web", title="Labfleet", version=version("labfleet"), docs_path=None, spec_path=None
    )
    app.request_class = LabfleetRequest
    app.config.update(
        DESCRIPTION=DESCRIPTION,
        LICENSE={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        OPENAPI_VERSION="3.1.0",
        AUTO_SERVERS=False,
        AUTO_404_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
    )
    app.url_map.converters["int"] = NumberConverter
    app.url_map.strict_slashes = False
    app.spec_callback = openapi.finish
    tracing.register(app)
    metrics.register(app)
    guard.register(app)
    problems.register(app)
    for blueprint in blueprints.ALL:
        app.register_blueprint(blueprint)
    app.register_blueprint(git)
    frame.register(app, version("labfleet"))
    return app


def _configure(app: APIFlask, settings: WebserverSettings) -> None:
    first, *older = config.credential_lines("session_key")
    secure = settings.web.public_url.startswith("https://")
    app.config.update(
        SECRET_KEY=first,
        SECRET_KEY_FALLBACKS=older,
        SESSION_COOKIE_NAME="__Host-labfleet" if secure else "labfleet",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=settings.web.session_hours),
        MAX_CONTENT_LENGTH=settings.web.max_body_bytes,
    )
    if settings.web.behind_nginx:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
