"""Every error as `application/problem+json` for programs, as a page for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, current_app, json, render_template, request
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from labfleet.errors import Invalid, LabfleetError, Malformed, Unauthorized, Unavailable
from labfleet.log import get_logger

PROBLEM = "application/problem+json"
RETRY_SECONDS = 5
CODES = {400: "malformed", 413: "too_large"}
HINTS = {
    400: "Send a well-formed request; the API's documentation is at /api/docs.",
    404: "Check the address; the API's documentation is at /api/docs.",
    405: "Use one of the methods in the Allow header.",
    413: "Send less, or ask an admin to raise the limit.",
    415: "Send JSON with 'Content-Type: application/json'.",
    422: "Correct what 'errors' names and send it again.",
}
_log = get_logger(__name__)


def register(app: APIFlask) -> None:
    """Install the handlers."""
    app.register_error_handler(LabfleetError, respond)
    app.register_error_handler(HTTPError, _validation)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(ParseException, _no_http)
    app.register_error_handler(DataError, _data)
    for lost in (OperationalError, InterfaceError, PoolTimeout):
        app.register_error_handler(lost, _database)
    app.register_error_handler(DBAPIError, _database_or_bug)
    app.register_error_handler(Exception, _bug)


def respond(error: LabfleetError) -> Response:
    """The response for an expected error."""
    document = error.problem()
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request refused", code=error.code, detail=error.detail, path=request.path)
    response = _response(document)
    if isinstance(error, Unauthorized) and for_programs():
        response.headers["WWW-Authenticate"] = 'Bearer realm="labfleet"'
    if error.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(error.extra.get("retry_after", RETRY_SECONDS))
    return response


def for_programs() -> bool:
    """Whether the request goes to the API."""
    return request.path.startswith("/api/")


def _response(document: dict[str, Any]) -> Response:
    status = int(document["status"])
    if for_programs():
        return Response(json.dumps(document), status, content_type=PROBLEM)
    return Response(render_template("error.html", problem=document), status)


def _problem(status: int, code: str, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    hint = HINTS.get(status, LabfleetError.default_hint)
    return {
        "type": f"urn:labfleet:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        **extra,
    }


def _http(error: HTTPException) -> Response | HTTPException:
    status = HTTPStatus(error.code or 500)
    if status < HTTPStatus.BAD_REQUEST:  # a redirect that routing asks for
        return error
    code = CODES.get(status, status.name.lower())
    response = _response(_problem(status, code, status.phrase, error.description or status.phrase))
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "content-range"}:
            response.headers[name] = value
    return response


def _validation(error: HTTPError) -> Response:
    errors = [
        {"path": f"{place}/{field}".replace(".", "/"), "message": message}
        for place, fields in _places(error.detail)
        for field, messages in fields.items()
        for message in messages
    ]
    if not errors:
        return _http_error(error)
    told = "; ".join(f"{item['path']}: {item['message']}" for item in errors)
    return _response(_problem(error.status_code, "invalid", Invalid.title, told, errors=errors))


def _places(detail: Any) -> list[tuple[str, dict[str, list[str]]]]:
    return list(detail.items()) if isinstance(detail, dict) else []


def _http_error(error: HTTPError) -> Response:
    status = HTTPStatus(error.status_code)
    return _response(_problem(status, status.name.lower(), status.phrase, error.message or status.phrase))


def _too_deep(error: RecursionError) -> Response:
    del error
    return respond(Malformed("The document is nested too deeply."))


def _no_http(error: ParseException) -> Response:
    return respond(Malformed(f"The body's chunks can't be read: {error}."))


def _data(error: DataError) -> Response:
    _log.warning("value refused by the database", error=str(error.orig), path=request.path)
    return respond(Invalid("A value is out of the range that can be kept."))


def _database(error: Exception) -> Response:
    _log.error("database not available", error=str(error), path=request.path)
    return respond(Unavailable("The database does not answer just now."))


def _database_or_bug(error: DBAPIError) -> Response:
    return _database(error) if error.connection_invalidated else _bug(error)


def _bug(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error, path=request.path, method=request.method)
    if current_app.config.get("PROPAGATE_BUGS"):
        raise error
    detail = "The server has a fault; it is in its journal."
    return _response(_problem(500, "internal_error", "Something went wrong", detail))
