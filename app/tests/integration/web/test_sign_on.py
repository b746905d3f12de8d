"""Single sign-on against real providers: one that others wrote, and a strict one that lies when told to."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from mail_server import certificate
from oidc_server import CLIENT, SECRET, OidcServer, provider_of_others
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from labfleet.config import MailSection, OidcSection
from labfleet.db.models import AuditRow, Mail, User, UserIdentity, WebSession
from labfleet.users import second_factor as factor
from labfleet.users import service as users
from labfleet.web.oidc import Provider
from labfleet.web.services import EXTENSION, Services

PASSWORD = "correct horse battery"
BASE = {"base_url": "https://labfleet.test"}
NAMES = {"allowed_groups": ["lab"], "allowed_mail_domains": ["lab.test"]}
Rules = Callable[..., Services]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("provider"))


@pytest.fixture
def provider(tls: tuple[ssl.SSLContext, Path]) -> Iterator[OidcServer]:
    with OidcServer(tls[0]) as running:
        yield running


@pytest.fixture
def rules(
    app: APIFlask, parts: Services, tls: tuple[ssl.SSLContext, Path], provider: OidcServer
) -> Iterator[Rules]:
    """`rules(**settings)`: switch it on, with these."""
    made: list[Provider] = []

    def change(web: dict[str, Any] | None = None, **given: Any) -> Services:
        usual = {"issuer": provider.issuer, "client_id": CLIENT, "accounts": True, "ca_file": tls[1]}
        section = OidcSection(**{**usual, "label": "the university", "keys_seconds": 0, **given})
        settings = parts.settings.model_copy(
            update={"oidc": section, "web": parts.settings.web.model_copy(update=web or {})}
        )
        made.append(Provider(section, SECRET, settings.web.public_url))
        app.extensions[EXTENSION] = replace(parts, settings=settings, provider=made[-1])
        return app.extensions[EXTENSION]

    change()
    yield change
    for one in made:
        one.close()


@pytest.fixture
def trip(tls: tuple[ssl.SSLContext, Path], rules: Rules) -> Iterator[Callable[..., TestResponse]]:
    """`trip(browser)`: to the provider and back; what Labfleet answers then."""
    with httpx.Client(verify=ssl.create_default_context(cafile=str(tls[1]))) as client:

        def go(browser: FlaskClient, start: str = "/sign-in/oidc?next=/jobs") -> TestResponse:
            there = browser.get(start, **BASE)
            assert there.status_code == 303, there.text
            back = client.get(there.headers["Location"])
            assert back.status_code == 302, back.text
            return come_back(browser, back.headers["Location"])

        yield go


def come_back(browser: FlaskClient, address: str) -> TestResponse:
    assert address.startswith("https://labfleet.test/sign-in/oidc/back?")
    return browser.get(address.removeprefix("https://labfleet.test"), **BASE)


def post(browser: FlaskClient, page: str, path: str, **form: Any) -> TestResponse:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page, **BASE).text)
    assert found, page
    return browser.post(path, data={"csrf_token": found[1], **form}, **BASE)


def by_password(browser: FlaskClient, name: str = "ada") -> int:
    return post(browser, "/sign-in", "/sign-in", user=name, password=PASSWORD).status_code


def is_in(browser: FlaskClient) -> str | None:
    """Whose session it is."""
    page = browser.get("/profile", **BASE)
    found = re.search(r'<p>(\S+) <span class="soft">\(admin|class="name">([^<]+)<', page.text)
    return (found[2] or found[1]) if page.status_code == 200 and found else None


def actions(sessions: sessionmaker[Session]) -> list[tuple[str, str]]:
    with sessions() as db:
        return [(row.action, row.subject) for row in db.scalars(select(AuditRow).order_by(AuditRow.id))]


def count(sessions: sessionmaker[Session], table: type) -> int:
    with sessions() as db:
        return db.scalar(select(func.count()).select_from(table)) or 0


def test_by_a_provider_that_others_wrote(
    browser: FlaskClient, app: APIFlask, rules: Rules, tmp_path: Path, sessions: sessionmaker[Session]
) -> None:
    person = {"sub": "42", "preferred_username": "grace", "email": "grace@lab.test", "email_verified": True}
    with provider_of_others(tmp_path, {**person, "groups": ["lab"]}) as issuer:
        rules(issuer=issuer, ca_file=None, **NAMES)
        page = browser.get("/sign-in?next=/jobs", **BASE).text
        (start,) = re.findall(r'href="(/sign-in/oidc\?[^"]+)"', page)
        assert "Sign in with the university" in page
        there = browser.get(start, **BASE).headers["Location"]
        assert there.startswith(f"{issuer}/oauth2/authorize?") and "code_challenge_method=S256" in there
        asked = httpx.get(there)
        assert asked.status_code == 200 and "42" in asked.text
        back = httpx.post(there, data={"sub": "42"})
        answer = come_back(browser, back.headers["Location"])
        assert (answer.status_code, answer.headers["Location"]) == (303, "/jobs")
        assert is_in(browser) == "grace" and "grace@lab.test" in browser.get("/profile", **BASE).text
        other = app.test_client()
        there = other.get("/sign-in/oidc", **BASE).headers["Location"]
        back = httpx.post(there, data={"sub": "43"})  # known to the provider, and not let in
        assert come_back(other, back.headers["Location"]).status_code in {401, 403} and is_in(other) is None
        left = browser.get("/sign-in/oidc/leave", **BASE).headers["Location"]
        assert httpx.get(left).status_code == 200
    assert count(sessions, User) == count(sessions, UserIdentity) == 1


def test_an_account_is_known_again_by_its_subject_alone(
    browser: FlaskClient,
    app: APIFlask,
    provider: OidcServer,
    trip: Callable[..., TestResponse],
    sessions: sessionmaker[Session],
) -> None:
    assert trip(browser).headers["Location"] == "/jobs"
    provider.person |= {"preferred_username": "grace.h", "email": "hopper@lab.test"}
    assert trip(app.test_client()).status_code == 303
    with sessions() as db:
        (row,) = db.scalars(select(UserIdentity))
        assert (row.user.name, row.name, row.last_used_at is not None) == ("grace", "grace.h", True)
        assert not users.has_password(row.user) and not row.user.is_admin
        assert {one.by_provider for one in db.scalars(select(WebSession))} == {True}
    told = actions(sessions)
    assert [one for one in told if one[1] == "grace"][:3] == [
        ("user.made", "grace"),
        ("identity.linked", "grace"),
        ("session.begun", "grace"),
    ]


def test_nobody_takes_an_account_by_its_name_or_address(
    browser: FlaskClient,
    ada: User,
    provider: OidcServer,
    trip: Callable[..., TestResponse],
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as db:
        db.get_one(User, ada.id).mail = "ada@lab.test"
    provider.person |= {"preferred_username": "ada", "email": "ada@lab.test", "email_verified": True}
    answer = trip(browser)
    assert answer.status_code == 403 and "link it on the page of your account" in answer.text
    assert is_in(browser) is None and ("identity.refused", "ada") in actions(sessions)
    provider.person["preferred_username"] = "ada.l"
    assert trip(browser).status_code == 303 and is_in(browser) == "ada.l"
    with sessions() as db:
        assert db.scalars(select(User.mail).where(User.name == "ada.l")).one() is None
        assert db.get_one(User, ada.id).mail == "ada@lab.test"


@pytest.mark.parametrize(
    ("given", "person", "words"),
    [
        ({"accounts": False}, {}, "No account of this Labfleet is linked"),
        ({"allowed_groups": ["lab"]}, {"groups": ["other"]}, "in none of the groups"),
        ({"allowed_groups": ["lab"]}, {"groups": {"lab": 1}}, "in none of the groups"),
        ({"allowed_mail_domains": ["lab.test"]}, {"email_verified": False}, "no verified mail address"),
        ({"allowed_mail_domains": ["lab.test"]}, {}, "no verified mail address"),
        (
            {"allowed_mail_domains": ["lab.test"]},
            {"email": "x@lab.test.evil.org", "email_verified": True},
            "no verified mail address",
        ),
        ({}, {"preferred_username": "x" * 200}, "1 to 100 printable characters"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    browser: FlaskClient,
    provider: OidcServer,
    rules: Rules,
    trip: Callable[..., TestResponse],
    sessions: sessionmaker[Session],
    given: dict[str, Any],
    person: dict[str, Any],
    words: str,
) -> None:
    rules(**given)
    provider.person |= person
    answer = trip(browser)
    assert answer.status_code == 403 and words in answer.text and "You are not let in" in answer.text
    assert is_in(browser) is None and count(sessions, User) == 0
    assert [action for action, _ in actions(sessions)] == ["identity.refused"]


def test_rights_follow_the_groups_at_every_sign_in(
    browser: FlaskClient,
    provider: OidcServer,
    rules: Rules,
    trip: Callable[..., TestResponse],
    sessions: sessionmaker[Session],
) -> None:
    rules(allowed_groups=["lab"], admin_groups=["root"], groups_claim="realm.roles")
    provider.person["realm"] = {"roles": ["lab", "root"]}
    admin = []
    for roles in (["lab", "root"], ["lab"], ["lab", "root"]):
        provider.person["realm"] = {"roles": roles}
        assert trip(browser).status_code == 303
        admin.append(browser.get("/admin/users", **BASE).status_code)
    assert admin == [200, 403, 200]
    provider.person["realm"] = {"roles": ["root"]}
    assert trip(browser.application.test_client()).status_code == 403
    changes = [action for action, _ in actions(sessions) if action.startswith("user.")]
    assert changes == ["user.made", "user.promoted", "user.demoted", "user.promoted"]


def test_a_right_that_an_admin_gave_stays(
    browser: FlaskClient, rules: Rules, trip: Callable[..., TestResponse], sessions: sessionmaker[Session]
) -> None:
    rules(admin_groups=["root"])
    trip(browser)
    with sessions.begin() as db:
        db.execute(text("UPDATE users SET is_admin = true"))
    assert trip(browser).status_code == 303 and browser.get("/admin/users", **BASE).status_code == 200


def test_disabled_stays_out(
    browser: FlaskClient, trip: Callable[..., TestResponse], sessions: sessionmaker[Session]
) -> None:
    trip(browser)
    with sessions.begin() as db:
        db.execute(text("UPDATE users SET disabled_at = clock_timestamp()"))
    assert is_in(browser) is None
    answer = trip(browser)
    assert answer.status_code == 403 and "is disabled" in answer.text and is_in(browser) is None


def test_linking_asks_for_the_password_and_opens_the_account_from_then_on(
    browser: FlaskClient, app: APIFlask, ada: User, rules: Rules, trip: Any, sessions: sessionmaker[Session]
) -> None:
    rules(accounts=False)
    assert by_password(browser) == 303
    assert "Link the university" in browser.get("/profile", **BASE).text
    assert browser.get("/profile/sign-on", **BASE).headers["Location"] == "/profile"  # nothing to confirm
    assert trip(browser, "/profile/sign-on/begin").headers["Location"] == "/profile/sign-on"
    assert count(sessions, UserIdentity) == 0
    page = "/profile/sign-on"
    assert "grace" in browser.get(page, **BASE).text
    assert post(browser, page, page, password="wrong").status_code == 401
    assert post(browser, page, page, password=PASSWORD).headers["Location"] == "/profile?linked=1"
    other = app.test_client()
    assert trip(other).status_code == 303 and is_in(other) == "ada"
    remove = "/profile/sign-on/remove"
    assert post(other, "/profile", remove, password="wrong").status_code == 401
    assert post(other, "/profile", remove, password=PASSWORD).status_code == 303
    assert trip(app.test_client()).status_code == 403
    assert {"identity.linked", "identity.unlinked"} <= {action for action, _ in actions(sessions)}


def test_an_admin_takes_a_link_away(
    browser: FlaskClient,
    app: APIFlask,
    rules: Rules,
    trip: Any,
    admin: User,
    caller: Callable[[User], Any],
    provider: OidcServer,
    sessions: sessionmaker[Session],
) -> None:
    rules(admin_groups=["lab"])
    provider.person["groups"] = ["lab"]
    trip(browser)
    assert is_in(browser) == "grace"
    api = caller(admin)
    (link,) = api("GET", "users/grace/identities").json["items"]
    assert (link["issuer"], link["name"], link["gives_admin"]) == (
        rules().settings.oidc.issuer,
        "grace",
        True,
    )
    assert api("DELETE", f"users/root/identities/{link['id']}").status_code == 403  # an admin's own
    with sessions.begin() as db:
        users.add_user(db, "eve", PASSWORD)
    assert api("DELETE", f"users/eve/identities/{link['id']}").status_code == 404
    assert count(sessions, UserIdentity) == 1
    assert api("DELETE", f"users/grace/identities/{link['id']}").status_code == 204
    assert is_in(browser) is None and api("GET", "users/grace/identities").json["items"] == []
    told = ["user.demoted", "identity.unlinked", "session.ended"]
    assert actions(sessions)[-3:] == [(action, "grace") for action in told]
    with sessions() as db:
        assert not users.get_user(db, "grace").is_admin
    refused = trip(app.test_client())  # the account is not taken again by its name
    assert refused.status_code == 403 and "There is an account" in refused.text


def test_an_admin_unlinks_on_the_page_of_the_user(
    browser: FlaskClient, app: APIFlask, trip: Any, sessions: sessionmaker[Session]
) -> None:
    trip(browser)
    root = app.test_client()
    with sessions.begin() as db:
        users.add_user(db, "root", PASSWORD, is_admin=True)
        page = f"/admin/users/{users.get_user(db, 'grace').id}"
    assert by_password(root, "root") == 303
    told = root.get(page, **BASE).text
    (way,) = re.findall(rf'action="({page}/identities/[0-9a-f-]+/unlink)"', told)
    assert "It is the only way in" in told
    assert post(root, page, way).headers["Location"] == page
    assert is_in(browser) is None and "Single sign-on as" not in root.get(page, **BASE).text
    assert post(root, page, way).status_code == 404
    assert post(browser, "/sign-in", way).status_code in {303, 403} and count(sessions, UserIdentity) == 0


def test_what_opens_another_account_is_not_linked(
    browser: FlaskClient, app: APIFlask, ada: User, trip: Callable[..., TestResponse]
) -> None:
    trip(app.test_client())
    by_password(browser)
    trip(browser, "/profile/sign-on/begin")
    answer = post(browser, "/profile/sign-on", "/profile/sign-on", password=PASSWORD)
    assert answer.status_code == 409 and "opens another account already" in answer.text


def test_linking_needs_the_session_that_began_it(
    browser: FlaskClient, ada: User, trip: Any, provider: OidcServer, sessions: sessionmaker[Session]
) -> None:
    by_password(browser)
    provider.person["preferred_username"] = "ada"
    with sessions.begin() as db:
        db.execute(text("DELETE FROM sessions"))
    # The page asks for the password first: nothing has begun.
    assert browser.get("/profile/sign-on/begin", **BASE).headers["Location"].startswith("/sign-in?")


def rsa_of_somebody(provider: OidcServer) -> None:
    published = provider.published
    provider.rotate()
    provider.key = type(provider.key).import_key(
        {**provider.key.as_dict(private=True), "kid": published[0]["kid"]}
    )
    provider.published = published


@pytest.mark.parametrize(
    "lie",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": "somebody else"},
        {"aud": [CLIENT, "somebody else"], "azp": "somebody else"},
        {"iss": "https://elsewhere.test"},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 300},
        {"exp": None},
        {"iat": None},
        {"iat": "now"},
        {"exp": True},
        {"at_hash": "of another token"},
        {"preferred_username": None},
        {"preferred_username": 7},
        {"preferred_username": "a\x00b"},
        "none",
        "HS256",
        rsa_of_somebody,
    ],
    ids=lambda lie: getattr(lie, "__name__", str(lie)),
)
def test_a_lie_opens_nothing(
    browser: FlaskClient, provider: OidcServer, trip: Any, sessions: sessionmaker[Session], lie: Any
) -> None:
    if callable(lie):
        lie(provider)
    elif isinstance(lie, str):
        provider.algorithm = lie
    else:
        provider.changes = lie
    answer = trip(browser)
    assert answer.status_code == 401 and 'role="alert"' in answer.text
    assert is_in(browser) is None and count(sessions, User) == 0


def test_clocks_that_differ_are_named(
    browser: FlaskClient, provider: OidcServer, rules: Rules, trip: Callable[..., TestResponse]
) -> None:
    now = int(time.time())
    for changes, words in (
        ({"iat": now + 90, "exp": now + 400}, "clock is ahead of ours by more than 60 seconds"),
        ({"iat": now - 400, "exp": now - 90}, "clock is behind ours by more than 60 seconds"),
    ):
        provider.changes = changes
        answer = trip(browser)
        assert answer.status_code == 401 and words in answer.text and "timedatectl" in answer.text
        rules(clock_skew_seconds=120)
        assert trip(browser).status_code == 303
        rules()


def test_an_answer_is_good_once_and_in_its_own_browser(
    browser: FlaskClient, app: APIFlask, trip: Any, tls: tuple[ssl.SSLContext, Path]
) -> None:
    trust = ssl.create_default_context(cafile=str(tls[1]))

    def begin(one: FlaskClient) -> str:
        there = one.get("/sign-in/oidc", **BASE).headers["Location"]
        return str(httpx.get(there, verify=trust).headers["Location"])

    address, other = begin(browser), app.test_client()
    assert come_back(other, address).status_code == 401 and is_in(other) is None
    assert come_back(browser, address).status_code == 303
    assert come_back(browser, address).status_code == 401
    fresh = app.test_client()
    first, second = (parse_qs(urlsplit(begin(fresh)).query) for _ in range(2))
    # Somebody's code with our state: the verifier does not fit.
    mixed = f"https://labfleet.test/sign-in/oidc/back?code={first['code'][0]}&state={second['state'][0]}"
    answer = come_back(fresh, mixed)
    assert answer.status_code == 401 and "refused the code" in answer.text and is_in(fresh) is None
    third = begin(app.test_client())
    assert app.test_client().get("/sign-in/oidc/back", **BASE).status_code == 401
    elsewhere = app.test_client()
    address = begin(elsewhere) + "&iss=https%3A%2F%2Felsewhere.test"
    assert third and come_back(elsewhere, address).status_code == 401 and is_in(elsewhere) is None


def test_two_windows_of_one_browser(
    browser: FlaskClient, tls: tuple[ssl.SSLContext, Path], rules: Rules
) -> None:
    trust = ssl.create_default_context(cafile=str(tls[1]))
    starts = [
        browser.get(f"/sign-in/oidc?next=/{one}", **BASE).headers["Location"] for one in ("jobs", "docs")
    ]
    backs = [httpx.get(there, verify=trust).headers["Location"] for there in starts]
    assert come_back(browser, backs[0]).headers["Location"] == "/jobs"


def test_who_cancels_is_told(
    browser: FlaskClient, provider: OidcServer, trip: Callable[..., TestResponse]
) -> None:
    for error, words in (
        ("access_denied", "was cancelled"),
        ("<b>x", "an error"),
        ("server_error", "server_error"),
    ):
        provider.error = error
        answer = trip(browser)
        assert answer.status_code == 401 and words in answer.text and "<b>x" not in answer.text
        assert "Begin again" in answer.text and "Sign in with the university" in answer.text
        browser.application.extensions[EXTENSION].logins._failures.clear()


def test_failures_are_slowed_down(browser: FlaskClient, provider: OidcServer, trip: Any) -> None:
    provider.changes = {"nonce": "x"}
    for _ in range(3):
        assert trip(browser).status_code == 401
    answer = trip(browser)
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0


def test_a_provider_that_is_away_leaves_passwords_working(
    browser: FlaskClient, ada: User, rules: Rules, tls: tuple[ssl.SSLContext, Path]
) -> None:
    with OidcServer(tls[0]) as gone:
        address = gone.issuer
    rules(issuer=address)
    answer = browser.get("/sign-in/oidc", **BASE)
    assert answer.status_code == 503 and "sign in with a password" in answer.text
    assert browser.get("/sign-in/oidc/leave", **BASE).status_code == 503
    assert by_password(browser) == 303 and is_in(browser) == "ada"


def test_what_is_known_of_the_provider_serves_on(
    browser: FlaskClient, provider: OidcServer, rules: Rules, trip: Callable[..., TestResponse]
) -> None:
    rules(metadata_seconds=3600)
    trip(browser)
    asked = provider.asked.count("/.well-known/openid-configuration")
    trip(browser)
    assert provider.asked.count("/.well-known/openid-configuration") == asked == 1
    rules(metadata_seconds=0)
    trip(browser)
    provider.broken = True
    assert browser.get("/sign-in/oidc", **BASE).status_code == 303


def test_new_keys_of_the_provider_are_asked_for(
    browser: FlaskClient, provider: OidcServer, trip: Callable[..., TestResponse]
) -> None:
    trip(browser)
    provider.rotate()
    provider.published.insert(0, {"kty": "of another age", "kid": "x"})
    assert trip(browser).status_code == 303


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"issuer": "https://elsewhere.test"}, 503),
        ({"authorization_endpoint": "http://elsewhere.test/authorize"}, 503),
        ({"authorization_endpoint": None}, 503),
    ],
)
def test_a_discovery_document_that_won_t_do(
    browser: FlaskClient, provider: OidcServer, rules: Rules, change: dict[str, Any], status: int
) -> None:
    provider.document = change
    assert browser.get("/sign-in/oidc", **BASE).status_code == status


def test_the_provider_s_certificate_is_verified(browser: FlaskClient, rules: Rules) -> None:
    rules(ca_file=None)
    assert browser.get("/sign-in/oidc", **BASE).status_code == 503


def test_a_wrong_secret_is_named(browser: FlaskClient, app: APIFlask, rules: Rules, trip: Any) -> None:
    made = rules()
    wrong = Provider(made.settings.oidc, "wrong", made.settings.web.public_url)
    app.extensions[EXTENSION] = replace(made, provider=wrong)
    answer = trip(browser)
    assert answer.status_code == 401 and "does not know this Labfleet by its secret" in answer.text
    wrong.close()


def test_the_secret_may_go_in_the_form(browser: FlaskClient, provider: OidcServer, trip: Any) -> None:
    provider.document = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert trip(browser).status_code == 303


def test_groups_may_come_from_userinfo_of_the_same_person(
    browser: FlaskClient, provider: OidcServer, rules: Rules, trip: Callable[..., TestResponse]
) -> None:
    rules(allowed_groups=["lab"])
    provider.more = {"groups": "lab"}
    assert trip(browser).status_code == 303
    provider.more = {"groups": "lab", "sub": "somebody else"}
    answer = trip(browser.application.test_client())
    assert answer.status_code == 401 and "two people" in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)"]
)
def test_nobody_is_led_elsewhere(
    browser: FlaskClient, trip: Callable[..., TestResponse], target: str
) -> None:
    answer = trip(browser, f"/sign-in/oidc?next={target}")
    assert answer.headers["Location"] == "/"


def test_by_another_name_of_the_site_one_is_sent_to_the_first(browser: FlaskClient, rules: Rules) -> None:
    answer = browser.get("/sign-in/oidc?next=/jobs", base_url="https://other.test")
    assert answer.headers["Location"] == "https://labfleet.test/sign-in/oidc?next=/jobs"


def test_signing_out_offers_to_do_so_there_too(browser: FlaskClient, ada: User, trip: Any) -> None:
    trip(browser)
    out = post(browser, "/profile", "/sign-out")
    assert out.headers["Location"] == "/sign-in?left=1" and is_in(browser) is None
    assert "/sign-in/oidc/leave" in browser.get("/sign-in?left=1", **BASE).text
    there = browser.get("/sign-in/oidc/leave", **BASE).headers["Location"]
    assert urlsplit(there).path == "/leave"
    assert parse_qs(urlsplit(there).query)["post_logout_redirect_uri"] == ["https://labfleet.test/sign-in"]
    by_password(browser)
    assert post(browser, "/profile", "/sign-out").headers["Location"] == "/sign-in"


def with_factor(sessions: sessionmaker[Session], user: User, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(factor, "clock", lambda: 1_800_000_015.0)
    with sessions.begin() as db:
        sealer = factor.box(["of sources"])
        factor.prepare(db, user, sealer)
        setup = factor.prepared(db, user, sealer, "x")
        assert setup is not None
        factor.confirm(db, user, sealer, pyotp.TOTP(setup.secret).at(1_800_000_015))
        return setup.secret


def test_the_second_factor_is_ours_unless_it_is_said_to_be_theirs(
    browser: FlaskClient,
    app: APIFlask,
    ada: User,
    rules: Rules,
    trip: Any,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_password(browser)
    trip(browser, "/profile/sign-on/begin")
    post(browser, "/profile/sign-on", "/profile/sign-on", password=PASSWORD)
    secret = with_factor(sessions, ada, monkeypatch)
    other, step = app.test_client(), "/sign-in/code?next=/jobs"
    assert trip(other).headers["Location"] == "/sign-in/code?next=%2Fjobs" and is_in(other) is None
    assert post(other, step, step, code="000000").status_code == 401
    assert post(other, step, step, code=pyotp.TOTP(secret).at(1_800_000_045)).headers["Location"] == "/jobs"
    assert "left=1" in post(other, "/profile", "/sign-out").headers["Location"]
    rules(second_factor=True)
    assert trip(other).headers["Location"] == "/jobs" and is_in(other) == "ada"


def test_admins_who_need_a_second_factor(
    browser: FlaskClient, provider: OidcServer, rules: Rules, trip: Any
) -> None:
    provider.person["groups"] = ["root"]
    rules({"admins_need_second_factor": True}, admin_groups=["root"])
    trip(browser)
    assert browser.get("/jobs", **BASE).headers["Location"] == "/profile/second-factor"
    page = "/profile/second-factor"
    assert "you have no password to ask for" in browser.get(page, **BASE).text
    assert post(browser, page, page).status_code == 303  # a moment after signing in
    rules({"admins_need_second_factor": True}, admin_groups=["root"], second_factor=True)
    trip(browser)
    assert browser.get("/jobs", **BASE).status_code == 200


def test_who_has_no_password_gets_none_by_the_back_door(
    browser: FlaskClient,
    app: APIFlask,
    provider: OidcServer,
    rules: Rules,
    trip: Any,
    sessions: sessionmaker[Session],
) -> None:
    provider.person["email_verified"] = True
    made = rules({"second_factor_seconds": 600})
    settings = made.settings.model_copy(update={"mail": MailSection(host="mail.test", sender="l@lab.test")})
    app.extensions[EXTENSION] = replace(made, settings=settings)
    trip(browser)
    page = browser.get("/profile", **BASE).text
    assert 'action="/profile/password"' not in page and "You have no password here" in page
    form = {"current": "!", "new": "another correct horse", "again": "another correct horse"}
    assert post(browser, "/profile", "/profile/password", **form).status_code == 401
    for password in ("!", "", "x"):
        login = {"user": "grace", "password": password}
        assert app.test_client().post("/api/v1/login", json=login).status_code in {401, 422}
    post(app.test_client(), "/forgotten", "/forgotten", who="grace@lab.test")
    assert count(sessions, Mail) == 0
    assert post(browser, "/profile", "/profile/sign-on/remove").status_code == 409  # the only way in
    with sessions.begin() as db:
        db.execute(text("UPDATE sessions SET created_at = created_at - interval '11 minutes'"))
    step = "/profile/second-factor"
    assert post(browser, step, step).status_code == 401
    plain = re.findall(
        r"lf_[\w-]+", post(browser, "/profile", "/profile/tokens", name="cli", days="30", scope="read").text
    )
    head = {"Authorization": f"Bearer {plain[0]}"}
    assert app.test_client().get("/api/v1/me", headers=head).json["name"] == "grace"


def test_without_a_provider_there_is_nothing_of_it(browser: FlaskClient, ada: User) -> None:
    assert "Sign in with" not in browser.get("/sign-in", **BASE).text
    for path in ("/sign-in/oidc", "/sign-in/oidc/back?state=x&code=y", "/sign-in/oidc/leave"):
        assert browser.get(path, **BASE).status_code == 404
    by_password(browser)
    assert "Single sign-on" not in browser.get("/profile", **BASE).text
