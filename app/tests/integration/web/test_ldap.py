"""Sign-in by a real directory (slapd), by the form and by the API."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyotp
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from ldap_server import (
    GROUPS,
    PASSWORD,
    PEOPLE,
    SERVICE,
    SERVICE_PASSWORD,
    SUFFIX,
    UUID,
    Slapd,
    dn,
    slapd,
)
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from labfleet.config import LdapSection
from labfleet.db.models import AuditRow, User, UserIdentity
from labfleet.errors import ProviderUnavailable
from labfleet.users import second_factor as factor
from labfleet.users import service as users
from labfleet.web import ldap
from labfleet.web.ldap import Directory
from labfleet.web.services import EXTENSION, Services

OURS = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}
TEMPLATE = {"base_dn": "", "bind_dn": "", "user_dn": f"uid={{name}},{PEOPLE}"}
Rules = Callable[..., Directory]
Sessions = sessionmaker[Session]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("directory")) as running:
        yield running


@pytest.fixture
def rules(app: APIFlask, parts: Services, server: Slapd) -> Rules:
    """`rules(**settings)`: switch it on, with these."""

    def change(password: str = SERVICE_PASSWORD, **given: Any) -> Directory:
        usual = {"urls": [server.tls_url], "ca_file": server.ca, "base_dn": SUFFIX, "bind_dn": SERVICE}
        section = LdapSection(**{**usual, "accounts": True, "label": "the university", **given})
        directory = Directory(section, password)
        settings = parts.settings.model_copy(update={"ldap": section})
        app.extensions[EXTENSION] = replace(parts, settings=settings, directory=directory)
        return directory

    change()
    return change


def post(browser: FlaskClient, page: str, path: str, **form: Any) -> TestResponse:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page, **BASE).text)
    assert found, page
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


def sign_in(browser: FlaskClient, name: str, password: str = PASSWORD) -> TestResponse:
    return post(browser, "/sign-in", "/sign-in", user=name, password=password)


def login(browser: FlaskClient, name: str, password: str = PASSWORD, **more: str) -> TestResponse:
    return browser.post("/api/v1/login", json={"user": name, "password": password, **more})


def accounts(sessions: Sessions) -> dict[str, str | None]:
    with sessions() as db:
        return {user.name: user.mail for user in db.scalars(select(User))}


def actions(sessions: Sessions) -> list[tuple[str, str]]:
    with sessions() as db:
        return [(row.action, row.subject) for row in db.scalars(select(AuditRow).order_by(AuditRow.id))]


@pytest.mark.parametrize("way", ["tls", "starttls", "clear text", "template"])
def test_the_first_sign_in_makes_an_account_and_the_next_opens_it(
    way: str, browser: FlaskClient, app: APIFlask, rules: Rules, server: Slapd, sessions: Sessions
) -> None:
    ways: dict[str, dict[str, Any]] = {
        "tls": {},
        "starttls": {"urls": [server.url]},
        "clear text": {"urls": [server.url], "clear_text": True},
        "template": TEMPLATE,
    }
    rules(**ways[way])
    assert "or with name and password of the university" in browser.get("/sign-in", **BASE).text
    answer = sign_in(browser, "grace")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/"), answer.text
    assert accounts(sessions) == {"grace": "grace@lab.test"}
    profile = browser.get("/profile", **BASE).text
    assert "Those of <b" in profile and "It is changed there, not here" in profile
    with sessions() as db:
        (identity,) = db.scalars(select(UserIdentity))
        assert (identity.issuer, identity.subject, identity.user.is_admin) == ("ldap", UUID, False)
        assert not users.has_password(identity.user)
    token = login(app.test_client(), "GRACE").json["token"]
    me = browser.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).json
    assert me["name"] == "grace" and len(accounts(sessions)) == 1
    assert actions(sessions)[:2] == [("user.made", "grace"), ("identity.linked", "grace")]


def test_addresses_are_tried_one_after_the_other(browser: FlaskClient, rules: Rules, server: Slapd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    rules(urls=[f"ldaps://127.0.0.1:{port}", server.tls_url])
    assert sign_in(browser, "grace").status_code == 303


@pytest.mark.parametrize("more", [{}, TEMPLATE])
@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("grace", "wrong"),
        ("nobody", PASSWORD),
        ("*", PASSWORD),
        ("gra*", PASSWORD),
        ("grace)(uid=*", PASSWORD),
        ("grace,ou=people", PASSWORD),
        ("grace\n", PASSWORD),
        ("%s", PASSWORD),
        ("x" * 200, PASSWORD),
        ("labfleet", SERVICE_PASSWORD),
    ],
)
def test_what_is_wrong_says_the_same_and_makes_nothing(
    more: dict[str, Any], name: str, password: str, browser: FlaskClient, rules: Rules, sessions: Sessions
) -> None:
    rules(**more)
    answer = login(browser, name, password)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.json["detail"] == "The name or the password is wrong."
    assert accounts(sessions) == {}


@pytest.mark.parametrize("more", [{}, TEMPLATE])
def test_an_empty_password_never_reaches_the_directory(
    more: dict[str, Any], browser: FlaskClient, rules: Rules, server: Slapd, sessions: Sessions
) -> None:
    """This directory would take it: for the wish to be nobody, which is no proof of anything."""
    directory = rules(**more)
    tried = directory._ask(ldap.Reader(dn("grace"), ""), ldap.Query(""))
    assert tried.code == 0
    assert directory.who("grace", "") is None and directory.who("grace", "\x00") is None
    assert directory.who("", PASSWORD) is None
    assert sign_in(browser, "grace", "").status_code == 401
    assert login(browser, "grace", "").status_code == 422
    assert accounts(sessions) == {}


def test_odd_names_are_names(browser: FlaskClient, rules: Rules, sessions: Sessions) -> None:
    for more in ({}, TEMPLATE):
        rules(**more)
        assert login(browser, "o,d(d)*").status_code == 200
    assert accounts(sessions) == {"o,d(d)*": None}


def test_an_account_of_ours_is_not_taken_and_its_password_goes_nowhere(
    browser: FlaskClient, rules: Rules, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.begin() as db:
        users.add_user(db, "grace", OURS, is_admin=True)
    asked: list[str] = []
    monkeypatch.setattr(Directory, "who", lambda _, *typed: asked.extend(typed))
    assert sign_in(browser, "grace", PASSWORD).status_code == 401
    assert asked and not {"grace", PASSWORD} & set(asked)
    asked.clear()
    assert sign_in(browser, "grace", OURS).status_code == 303
    assert asked == []
    monkeypatch.undo()
    with sessions.begin() as db:  # one that a provider opens, and that has no password
        users.add_without_password(db, "alan", "https://login.example.org")
    refused = login(browser, "alan")
    assert (refused.status_code, refused.json["code"]) == (403, "sign_on_refused")
    assert (
        "There is an account &#39;alan&#39; already"
        in sign_in(browser.application.test_client(), "alan").text
    )
    assert ("identity.refused", "alan") in actions(sessions)
    with sessions() as db:
        assert db.scalar(select(func.count()).select_from(UserIdentity)) == 0


def test_somebody_with_another_name_has_the_same_account(
    browser: FlaskClient, rules: Rules, server: Slapd, sessions: Sessions
) -> None:
    assert login(browser, "grace").status_code == 200
    rename = "dn: {}\nchangetype: modrdn\nnewrdn: {}\ndeleteoldrdn: 1\n"
    server.change(rename.format(dn("grace"), "uid=hopper"))
    try:
        assert login(browser, "hopper").status_code == 200
        assert login(browser, "grace").status_code == 401
    finally:
        server.change(rename.format(dn("hopper"), "uid=grace"))
    assert set(accounts(sessions)) == {"grace"}
    with sessions() as db:
        assert db.scalars(select(UserIdentity)).one().name == "hopper"


def test_groups_let_in_and_make_admins(browser: FlaskClient, rules: Rules, sessions: Sessions) -> None:
    lab, root, none = (f"cn={name},{GROUPS}" for name in ("lab", "root", "none"))
    rules(allowed_groups=[lab])
    refused = sign_in(browser, "alan")
    assert refused.status_code == 403 and "in none of the groups" in refused.text
    assert accounts(sessions) == {} and ("identity.refused", "alan") in actions(sessions)
    assert login(browser, "alan", "wrong").status_code == 401  # a stranger is not told who is in which
    with capture_logs() as log:
        rules(allowed_groups=[lab, root], admin_groups=[root, none], **TEMPLATE)
        assert login(browser, "grace").status_code == login(browser, "alan").status_code == 200
    assert {entry["group"] for entry in log if "group" in entry} == {none}
    with sessions() as db:
        assert {user.name: user.is_admin for user in db.scalars(select(User))} == {
            "grace": False,
            "alan": True,
        }
    rules(admin_groups=[lab])
    login(browser, "alan")
    with sessions() as db:
        assert not users.get_user(db, "alan").is_admin


def test_without_accounts_only_linked_ones_are_opened(
    browser: FlaskClient, app: APIFlask, ada: User, rules: Rules, sessions: Sessions
) -> None:
    rules(accounts=False)
    assert login(browser, "grace").json["code"] == "sign_on_refused"
    assert sign_in(browser, "ada", OURS).status_code == 303
    assert "Link what you are there" in browser.get("/profile", **BASE).text
    way, there = "/profile/directory", {"user": "grace", "password": PASSWORD}
    for wrong in ({**there, "current": "x"}, {**there, "password": "x", "current": OURS}):
        assert post(browser, "/profile", way, **wrong).status_code == 401
    assert post(browser, "/profile", way, **there, current=OURS).headers["Location"] == "/profile?linked=2"
    assert post(browser, "/profile", way, **there, current=OURS).status_code == 409
    other = app.test_client()
    assert sign_in(other, "grace").status_code == 303
    assert "<p>ada" in other.get("/profile", **BASE).text and set(accounts(sessions)) == {"ada"}
    assert sign_in(app.test_client(), "ada", OURS).status_code == 303  # as before
    assert post(other, "/profile", f"{way}/remove", password=OURS).status_code == 303
    assert login(app.test_client(), "grace").status_code == 403
    assert sign_in(app.test_client(), "ada").status_code == 401  # that is no name of the directory


def test_a_namesake_in_the_directory_proves_nothing(
    browser: FlaskClient, rules: Rules, sessions: Sessions
) -> None:
    directory = rules()
    alan, grace = directory.who("alan", PASSWORD), directory.who("grace", PASSWORD)
    assert alan is not None and grace is not None
    with sessions.begin() as db:  # one of ours who has alan's name and is grace in the directory
        for name, who in (("alan", grace), ("other", alan)):
            user = users.add_user(db, name, OURS)
            db.add(UserIdentity(user_id=user.id, issuer="ldap", subject=who.subject, name=who.name))
    assert sign_in(browser, "alan", OURS).status_code == 303
    way = "/profile/directory/remove"
    assert post(browser, "/profile", way, password=PASSWORD).status_code == 401
    with sessions() as db:
        assert db.scalar(select(func.count()).select_from(UserIdentity)) == 2
    assert post(browser, "/profile", way, password=OURS).status_code == 303


def test_a_disabled_account_stays_out(browser: FlaskClient, rules: Rules, sessions: Sessions) -> None:
    login(browser, "grace")
    with sessions.begin() as db:
        db.execute(update(User).values(disabled_at=func.clock_timestamp()))
    assert login(browser, "grace").json["detail"] == "The account 'grace' is disabled."
    assert login(browser, "grace", "wrong").status_code == 401


def test_the_second_factor_is_asked_for(
    browser: FlaskClient, app: APIFlask, rules: Rules, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(browser, "grace")
    now = 1_800_000_015
    monkeypatch.setattr(factor, "clock", lambda: float(now))
    with sessions.begin() as db:
        user = users.get_user(db, "grace")
        sealer = factor.box(["of sources"])
        factor.prepare(db, user, sealer)
        setup = factor.prepared(db, user, sealer, "x")
        assert setup is not None
        factor.confirm(db, user, sealer, pyotp.TOTP(setup.secret).at(now))
    now += 30
    code = pyotp.TOTP(setup.secret).at(now)
    assert sign_in(browser, "grace").headers["Location"].startswith("/sign-in/code")
    assert login(app.test_client(), "grace").json["code"] == "second_factor_needed"
    assert login(app.test_client(), "grace", code=code).status_code == 200


def test_failures_are_slowed_down(browser: FlaskClient, rules: Rules) -> None:
    for _ in range(3):
        assert login(browser, "grace", "wrong").status_code == 401
    answer = login(browser, "grace")
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0


def silent() -> socket.socket:
    """Takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ca_file": None}, "its certificate is not trusted: self-signed certificate"),
        ({"urls": ["ldap://127.0.0.1:{port}"], "ca_file": None}, "its certificate is not trusted"),
        ({"urls": ["ldaps://localhost:{tls_port}"]}, "Hostname mismatch"),
        ({"urls": ["ldaps://127.0.0.1:{port}"]}, "ldaps://127.0.0.1:{port}"),
        ({"urls": ["ldaps://127.0.0.1:1"]}, "Connection refused"),
        ({"urls": ["ldaps://directory.invalid"]}, "Name or service not known"),
        ({"ca_file": Path("/nonexistent/ca.crt")}, "/nonexistent/ca.crt"),
        ({"password": "wrong"}, "Invalid credentials"),
        ({"base_dn": "dc=other"}, "No such object"),
        ({"bind_dn": ""}, "No such object"),
        ({"filter": "(&(uid={name})(uid=*)"}, "Bad search filter"),
        ({"filter": f"(|(uid={{name}})(entryDN={dn('alan')}))"}, "several entries"),
        ({"id_attribute": "employeeNumber"}, "webserver_ldap_id_attribute"),
        ({"name_attribute": "employeeNumber"}, "webserver_ldap_name_attribute"),
        ({"group_filter": "(&(member={dn})", "allowed_groups": [SUFFIX]}, "Bad search filter"),
    ],
)
def test_what_is_amiss_is_told_to_the_admin_alone(
    given: dict[str, Any], told: str, browser: FlaskClient, ada: User, rules: Rules, server: Slapd
) -> None:
    ports = {"{port}": str(server.port), "{tls_port}": str(server.tls_port)}
    for place, port in ports.items():
        told = told.replace(place, port)
        given = (
            given | {"urls": [url.replace(place, port) for url in given["urls"]]}
            if "urls" in given
            else given
        )
    rules(**given)
    with capture_logs() as log:
        answer = login(browser, "grace")
    assert (answer.status_code, answer.json["code"]) == (503, "provider_unavailable")
    assert answer.json["detail"] == "The directory that should say who you are does not answer as it should."
    (entry,) = (one for one in log if one["log_level"] == "error")
    assert told in str(entry) and PASSWORD not in str(log) and SERVICE_PASSWORD not in str(log)
    assert "does not answer" in sign_in(browser, "grace").text
    assert sign_in(browser, "ada", OURS).status_code == 303  # whose password is ours


def test_one_that_says_nothing_is_not_waited_for(browser: FlaskClient, rules: Rules) -> None:
    with silent() as gone:
        port = gone.getsockname()[1]
        rules(urls=[f"ldaps://127.0.0.1:{port}"], timeout_seconds=1)
        began = time.monotonic()
        assert login(browser, "grace").status_code == 503
        assert time.monotonic() - began < 20


def test_who_was_not_answered_has_not_failed(browser: FlaskClient, rules: Rules, server: Slapd) -> None:
    rules(urls=["ldaps://127.0.0.1:1"])
    for _ in range(4):  # one more than failures that are allowed
        assert login(browser, "grace").status_code == 503
    rules()
    assert login(browser, "grace").status_code == 200


@pytest.mark.parametrize("more", [{}, TEMPLATE])
@pytest.mark.parametrize("away", [True, False])
def test_whose_name_it_is_shows_in_no_answer(
    away: bool,
    more: dict[str, Any],
    browser: FlaskClient,
    app: APIFlask,
    ada: User,
    rules: Rules,
    sessions: Sessions,
) -> None:
    """`ada` has a password of ours, `linked` is opened by the directory, which knows `grace` too."""
    directory = rules(**more)
    alan = directory.who("alan", PASSWORD)
    assert alan is not None
    with sessions.begin() as db:
        user = users.add_without_password(db, "linked", "ldap")
        db.add(UserIdentity(user_id=user.id, issuer="ldap", subject=alan.subject, name="alan"))
    if away:
        rules(urls=["ldaps://127.0.0.1:1"], **more)
    for password in ("wrong", "ü" * (ldap.MAX_TYPED // 2 + 1)):
        told = {}
        for name in ("ada", "linked", "grace", "nobody"):
            app.extensions[EXTENSION].logins._failures.clear()
            told[name] = [
                (answer.status_code, answer.json["code"], re.sub(r"\d+", "N", answer.json["detail"]))
                for answer in (login(app.test_client(), name, password) for _ in range(5))
            ]
        assert told["ada"] == told["linked"] == told["grace"] == told["nobody"], told
        asked = password == "wrong"
        assert told["ada"][0][0] == (503 if away and asked else 401)
    assert ("session.refused", "ada") in actions(sessions)
    app.extensions[EXTENSION].logins._failures.clear()
    assert sign_in(browser, "ada", OURS).status_code == 303


def test_while_it_is_away_passwords_of_ours_are_not_guessed_faster(
    browser: FlaskClient, app: APIFlask, ada: User, rules: Rules
) -> None:
    rules(urls=["ldaps://127.0.0.1:1"])
    for _ in range(3):  # as many failures as are allowed
        assert login(app.test_client(), "ada", "wrong").status_code == 503
        assert login(app.test_client(), "grace", "wrong").status_code == 503
    assert login(app.test_client(), "ada", OURS).status_code == 503
    app.extensions[EXTENSION].logins._failures.pop("unanswered ada")
    # Of the others from this address none is a failure.
    assert sign_in(browser, "ada", OURS).status_code == 303
    for _ in range(2):  # who is signed in is told what is wrong
        answer = post(browser, "/profile", "/profile/password", current="x", new="y", again="y")
        assert answer.status_code == 401 and "password is wrong" in answer.text
    rules()
    assert login(app.test_client(), "grace").status_code == 200


def test_a_slow_one_holds_few_threads(app: APIFlask, rules: Rules) -> None:
    with silent() as gone, ThreadPoolExecutor(3) as pool:
        port = gone.getsockname()[1]
        rules(urls=[f"ldaps://127.0.0.1:{port}"], timeout_seconds=10, at_once=1)
        began = time.monotonic()

        def ask() -> tuple[int, float]:
            return login(app.test_client(), "grace").status_code, time.monotonic() - began

        asked = [future.result() for future in [pool.submit(ask) for _ in range(3)]]
    assert {status for status, _ in asked} == {503}
    # The first waits for the directory, the others for a place beside it, which is a second.
    assert sorted(seconds for _, seconds in asked)[1] < 8 < max(seconds for _, seconds in asked)


@pytest.mark.parametrize("more", [{}, TEMPLATE])
def test_secrets_and_what_was_typed_are_on_no_command_line(
    more: dict[str, Any],
    browser: FlaskClient,
    rules: Rules,
    server: Slapd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, program = tmp_path / "seen", tmp_path / "program"
    # Its environment can be seen by its own user and root alone.
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}\nenv >>{seen}.env\nexec {ldap.PROGRAM} "$@"\n'
    )
    program.chmod(0o700)
    monkeypatch.setattr(ldap, "PROGRAM", str(program))
    lab = f"cn=lab,{GROUPS}"
    rules(allowed_groups=[lab], **more)
    typed = "typed-into-the-wrong-field"
    with capture_logs() as log:
        assert login(browser, "grace").status_code == 200
        assert login(browser, typed).status_code == 401
    told, environment = (Path(f"{seen}{end}").read_text(encoding="utf-8") for end in ("", ".env"))
    assert server.tls_url in told and f"LDAPBASE={lab}" in environment
    assert "LDAPTLS_REQCERT=demand" in environment
    for secret in (PASSWORD, SERVICE_PASSWORD):
        assert secret not in told + environment
    for name in ("grace", typed):
        assert name not in told
    assert typed not in str(log)


def test_a_filter_that_would_be_two_is_none(rules: Rules, server: Slapd) -> None:
    directory = rules()
    with pytest.raises(ProviderUnavailable), capture_logs() as log:
        directory._ask(directory._service, ldap.Query(SUFFIX, f"(uid={'x' * ldap.MAX_FILTER})"))
    assert "the filter is too long" in str(log)


def test_what_is_in_the_machine_s_own_configuration_changes_nothing(
    browser: FlaskClient, rules: Rules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ldaprc").write_text("TLS_REQCERT never\n")
    for name, value in {"LDAPRC": "ldaprc", "HOME": str(tmp_path), "LDAPTLS_REQCERT": "never"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    rules(ca_file=None)
    assert login(browser, "grace").status_code == 503


def test_without_a_directory_there_is_nothing_of_it(browser: FlaskClient, ada: User) -> None:
    assert "name and password of" not in browser.get("/sign-in", **BASE).text
    assert sign_in(browser, "ada", OURS).status_code == 303
    assert "/profile/directory" not in browser.get("/profile", **BASE).text
    assert post(browser, "/profile", "/profile/directory", current=OURS).status_code == 404


def test_where_everybody_may_search_nobody_signs_in_for_it(
    browser: FlaskClient, rules: Rules, tmp_path: Path
) -> None:
    with slapd(tmp_path, others="read") as server:
        rules(urls=[server.tls_url], ca_file=server.ca, bind_dn="", allowed_groups=[f"cn=lab,{GROUPS}"])
        assert login(browser, "grace").status_code == 200
        assert login(browser, "grace", "wrong").status_code == 401
