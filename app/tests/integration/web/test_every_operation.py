"""Every operation of the OpenAPI document, asked by everybody with what it allows and what it doesn't.

Small in each run; `LABFLEET_EVERY_OPERATION=full` asks more often, at every bound of every field, and in
sequences in which one answer is the next request (half an hour).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from apiflask import APIFlask
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import make_server

from labfleet.db.models import User
from labfleet.fetching.handlers.known import known
from labfleet.sources.service import put_handlers
from labfleet.users import service as users

from .conftest import Caller

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "api" / "openapi.json"
OWNER = "owner"
OWNED = "what-only-the-owner-may-see"
FULL = os.environ.get("LABFLEET_EVERY_OPERATION") == "full"
# The same requests each time, unless somebody has the time to look at what new ones bring.
HOW = (
    ("--phases=coverage,fuzzing,stateful", "--max-examples", "20")
    if FULL
    else ("--phases=fuzzing", "--max-examples", "2", "--seed", "1")
)
EVERYBODY = ("nobody", "other", OWNER, "admin")
SETTINGS = """
# Neither takes 404 for an answer.
[checks.positive_data_acceptance]
enabled = false
[checks.missing_required_header]
enabled = false
# /protocols/check is also an address of /protocols/{name}.
[checks.allow_header_conformance]
enabled = false
[checks.unsupported_method]
enabled = false
# In an address everything is a text: 5 is one, too.
[checks.negative_data_rejection]
enabled = false

# nginx sends the file; here the answer is empty.
[[operations]]
include-path-regex = "/content$|/zip$|/crate$"
checks.content_type_conformance.enabled = false
checks.response_schema_conformance.enabled = false

# It is the answer of a lab whose queue tier is away, as here.
[[operations]]
include-path = "/api/v1/ready"
checks.not_a_server_error.enabled = false
"""


class Watch:
    """What the application answers: faults of ours, and what only its owner may see, shown to others."""

    def __init__(self, inner: WSGIApplication, may_see: str) -> None:
        self.inner = inner
        self.may_see = may_see
        self.faults: list[str] = []
        self.leaks: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        statuses: list[str] = []

        def start(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        body = b"".join(self.inner(environ, start))
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if statuses[-1].startswith("5") and not environ["PATH_INFO"].endswith("/ready"):
            self.faults.append(f"{asked}: {statuses[-1]}, {body[:300]!r}")
        allowed = self.may_see and self.may_see in environ.get("HTTP_AUTHORIZATION", "")
        if OWNED.encode() in body and not allowed and OWNED not in asked:
            self.leaks.append(f"{asked}: {body[:300]!r}")
        return [body]


@contextmanager
def served(app: APIFlask) -> Iterator[str]:
    """The application on a port of this computer; gives its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def lend(api: Caller) -> None:
    """Two jobs that others may look at: what of them is the owner's alone is still not shown to them."""
    data = api.upload("lent.csv", f"a,b\n1,{OWNED}\n".encode())["id"]
    for verb, whom in (("publish", None), ("share", {"users": ["other"]})):
        job = api.submit(label="lent", note=OWNED, inputs={"table": data})
        assert api("POST", f"jobs/{job['id']}/{verb}", json=whom).status_code == 200


@pytest.fixture
def tokens(
    app: APIFlask,
    sessions: sessionmaker[Session],
    protocols: None,
    caller: Callable[[User], Caller],
) -> dict[str, str]:
    """Of the owner of jobs, settings, a dataset and a source, of another, of an admin; nobody's is empty."""
    app.config.update(TESTING=False, PROPAGATE_BUGS=False)
    with sessions.begin() as db:
        put_handlers(db, {name: handler.described() for name, handler in known().items()})
        people = {name: users.add_user(db, name, "correct horse battery") for name in (OWNER, "other")}
        people["admin"] = users.add_user(db, "admin", "correct horse battery", is_admin=True)
        given = {name: users.issue_token(db, person, "asks") for name, person in people.items()}
    for name, owned in ((OWNER, OWNED), ("other", "of-another")):
        api = caller(people[name])
        api.submit(label=owned, parameters={"who": owned})
        api.upload(f"{owned}.csv", f"a,b\n1,{owned}\n".encode())
        values = {"name": owned, "protocol": "greet", "parameters": {"who": owned}}
        assert api("POST", "analyses", json=values).status_code == 201
        definition = {"handler": "http", "parameters": {"url": f"https://example.org/{owned}"}}
        assert api("POST", "sources", json={"name": owned, "definition": definition}).status_code == 201
    lend(caller(people[OWNER]))
    return {"nobody": "", **given}


@pytest.mark.parametrize("who", EVERYBODY if FULL else ("other", "admin"))
def test_every_operation(app: APIFlask, tokens: dict[str, str], who: str, tmp_path: Path) -> None:
    """No answer is a fault of ours or breaks its schema, and nobody is shown what is another's."""
    # An admin sees everything, and so does the owner.
    watch = Watch(app.wsgi_app, tokens[who] if who in (OWNER, "admin") else "")
    app.wsgi_app = watch  # type: ignore[method-assign]
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    with served(app) as address:
        asked = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("--no-color", "--config-file", str(settings), "run", str(DOCUMENT), "--origin", address),
                *("--continue-on-failure", "--request-timeout", "60"),
                # What an operation allows is not always what can be made of its schema at random.
                *("--suppress-health-check", "all", "--warnings", "off"),
                *HOW,
                *(["--header", f"Authorization: Bearer {tokens[who]}"] if tokens[who] else []),
            ],
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=False,
        )
    told = re.sub(r"(.)\1{200,}", r"\1…", asked.stdout)
    print(told[-20_000:], asked.stderr)
    assert not watch.faults
    assert not watch.leaks
    # Archives can't be made at random, which it calls an error; test_api_protocols.py sends them.
    assert "Failures:" not in told and re.search(r"Tested: +1\d\d", told)
