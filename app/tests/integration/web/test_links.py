"""The links of mails in the pages: invitations, forgotten passwords, mail addresses."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import MailSection, WebserverSettings
from labfleet.db.models import AuditRow, Link, Mail, User, WebSession
from labfleet.users import second_factor
from labfleet.users import service as users

PASSWORD = "correct horse battery"
ANOTHER = "quite another battery"
BASE = {"base_url": "https://labfleet.test"}
ADDRESS = "ada@lab.test"
Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def _with_mail(settings: WebserverSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    section = MailSection(host="mail.test", sender="labfleet@lab.test")
    monkeypatch.setitem(settings.__dict__, "mail", section)


@pytest.fixture
def without_mail(settings: WebserverSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.__dict__, "mail", MailSection())


@pytest.fixture
def known(ada: User, sessions: Sessions) -> User:
    """Ada, whose address is known."""
    with sessions.begin() as db:
        db.execute(update(User).where(User.id == ada.id).values(mail="Ada@Lab.test"))
    return ada


@pytest.fixture
def boss(sessions: Sessions) -> User:
    with sessions.begin() as db:
        return users.add_user(db, "boss", PASSWORD, is_admin=True)


@pytest.fixture
def mails(sessions: Sessions) -> Callable[[], list[Mail]]:
    def mails() -> list[Mail]:
        with sessions() as db:
            return list(db.scalars(select(Mail).order_by(Mail.created_at)))

    return mails


@pytest.fixture
def link(mails: Callable[[], list[Mail]]) -> Callable[[], str]:
    """The path of the link in the last mail that has one."""

    def link() -> str:
        for mail in reversed(mails()):
            if found := re.search(r"https://labfleet\.test(/\S+\?key=\S+)", mail.body):
                return found[1]
        raise AssertionError("no mail has a link")

    return link


@pytest.fixture
def did(sessions: Sessions) -> Callable[[], list[str]]:
    def did() -> list[str]:
        with sessions() as db:
            return list(db.scalars(select(AuditRow.action).order_by(AuditRow.id)))

    return did


def csrf(browser: FlaskClient, path: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(path, **BASE).text)
    assert found, path
    return found[1]


def post(browser: FlaskClient, path: str, form_of: str | None = None, **form: Any) -> Any:
    data = {"csrf_token": csrf(browser, form_of or path), **form}
    return browser.post(path, data=data, **BASE)


def sign_in(browser: FlaskClient, name: str = "ada", password: str = PASSWORD) -> Any:
    return post(browser, "/sign-in", user=name, password=password)


def choose(browser: FlaskClient, link: str, password: str = ANOTHER, **more: str) -> Any:
    """Send the form that the link leads to."""
    path, _, key = link.partition("?key=")
    return post(browser, path, link, key=key, password=password, again=more.pop("again", password), **more)


def signed_in(browser: FlaskClient) -> bool:
    return browser.get("/profile", **BASE).status_code == 200


class TestForgotten:
    def test_another_password_by_mail(
        self,
        app: APIFlask,
        browser: FlaskClient,
        known: User,
        mails: Callable[[], list[Mail]],
        link: Callable[[], str],
        did: Callable[[], list[str]],
    ) -> None:
        other = app.test_client()
        assert sign_in(other).status_code == 303 and signed_in(other)
        assert "on its way" in post(browser, "/forgotten", who="ada").text
        (mail,) = mails()
        assert (mail.recipient, mail.kind) == ("Ada@Lab.test", "password")
        assert "1 hour" in mail.body and "ignore this mail" in mail.body
        way = link()
        assert browser.get(way, **BASE).status_code == 200  # looking changes nothing
        assert browser.get(way, **BASE).status_code == 200
        done = choose(browser, way)
        assert done.status_code == 303 and done.location == "/sign-in?recovered=1"
        assert not signed_in(other), "sessions have ended"
        assert not signed_in(browser), "the link alone signs nobody in"
        assert sign_in(browser).status_code == 401
        assert sign_in(browser, password=ANOTHER).status_code == 303
        assert mails()[-1].subject == "Labfleet: your password was changed"
        assert {"password.forgotten", "password.recovered"} <= set(did())
        again = browser.get(way, **BASE)
        assert again.status_code == 410 and "used already" in again.text

    @pytest.mark.parametrize("who", ["nobody", "nobody@lab.test", "", "a\x00b", "x" * 300])
    def test_the_answer_is_the_same_for_nobody(
        self, app: APIFlask, known: User, mails: Callable[[], list[Mail]], who: str
    ) -> None:
        def text(named: str) -> str:
            page = post(app.test_client(), "/forgotten", who=named).text
            return re.sub(r'value="[^"]+"', "", page)

        if "\x00" in who:
            assert "NUL" in text(who)
        else:
            assert text(who) == text("ada@LAB.test")
            assert [mail.recipient for mail in mails()] == ["Ada@Lab.test"]

    def test_who_is_disabled_or_without_an_address_is_sent_nothing(
        self,
        browser: FlaskClient,
        known: User,
        boss: User,
        sessions: Sessions,
        mails: Callable[[], list[Mail]],
    ) -> None:
        with sessions.begin() as db:
            db.execute(update(User).where(User.id == known.id).values(disabled_at=func.clock_timestamp()))
        for who in ("ada", "boss"):
            assert "on its way" in post(browser, "/forgotten", who=who).text
        assert mails() == []

    def test_a_mailbox_is_not_filled(
        self, app: APIFlask, known: User, mails: Callable[[], list[Mail]], parts: Any
    ) -> None:
        browser = app.test_client()
        codes = [post(browser, "/forgotten", who="ada").status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}, **BASE}
        form = {"csrf_token": csrf(browser, "/sign-in"), "who": "ada"}
        assert browser.post("/forgotten", data=form, **elsewhere).status_code == 200
        assert len(mails()) == 3

    def test_the_second_factor_is_still_asked_for(
        self, browser: FlaskClient, known: User, sessions: Sessions, link: Callable[[], str]
    ) -> None:
        with sessions.begin() as db:
            sealer = second_factor.box(["of sources"])
            second_factor.prepare(db, known, sealer)
            setup = second_factor.prepared(db, known, sealer, "test")
            assert setup is not None
            second_factor.confirm(db, known, sealer, pyotp.TOTP(setup.secret).now())
        post(browser, "/forgotten", who="ada")
        choose(browser, link())
        assert sign_in(browser, password=ANOTHER).location.startswith("/sign-in/code")
        assert not signed_in(browser)

    def test_a_short_or_mistyped_password_uses_no_link_up(
        self, browser: FlaskClient, known: User, link: Callable[[], str]
    ) -> None:
        post(browser, "/forgotten", who="ada")
        assert choose(browser, link(), "short").status_code == 422
        assert choose(browser, link(), ANOTHER, again="other").status_code == 422
        assert choose(browser, link()).status_code == 303

    def test_a_link_ends(
        self, browser: FlaskClient, known: User, sessions: Sessions, link: Callable[[], str]
    ) -> None:
        post(browser, "/forgotten", who="ada")
        with sessions.begin() as db:
            db.execute(update(Link).values(expires_at=func.clock_timestamp() - timedelta(seconds=1)))
        over = browser.get(link(), **BASE)
        assert over.status_code == 410 and "The time of this link is over" in over.text
        form = {"key": link().partition("=")[2], "password": ANOTHER, "again": ANOTHER}
        assert post(browser, "/password", "/sign-in", **form).status_code == 410
        assert sign_in(browser).status_code == 303

    def test_of_several_links_one_works(
        self, browser: FlaskClient, known: User, link: Callable[[], str]
    ) -> None:
        post(browser, "/forgotten", who="ada")
        first = link()
        post(browser, "/forgotten", who="ada")
        assert choose(browser, link()).status_code == 303
        assert browser.get(first, **BASE).status_code == 410

    @pytest.mark.usefixtures("without_mail")
    def test_without_mail_it_says_whom_to_ask(self, browser: FlaskClient, known: User) -> None:
        page = browser.get("/forgotten", **BASE).text
        assert "has not set mail up" in page and "<form" not in page.partition("<main")[2]
        form = {"who": "ada"}
        assert post(browser, "/forgotten", "/sign-in", **form).status_code == 422


class TestInvitation:
    def test_from_the_page_to_an_account(
        self,
        app: APIFlask,
        browser: FlaskClient,
        boss: User,
        mails: Callable[[], list[Mail]],
        link: Callable[[], str],
        did: Callable[[], list[str]],
        sessions: Sessions,
    ) -> None:
        sign_in(browser, "boss")
        assert post(browser, "/admin/invitations", "/admin/users", mail=ADDRESS, name="").status_code == 303
        assert ADDRESS in browser.get("/admin/users", **BASE).text
        (mail,) = mails()
        assert mail.recipient == ADDRESS and "boss invites you" in mail.body and "7 days" in mail.body
        guest = app.test_client()
        page = guest.get(link(), **BASE).text
        assert "boss has invited you" in page and 'name="name" value=""' in page
        taken = choose(guest, link(), name="boss")
        assert taken.status_code == 409 and "already" in taken.text, "the link is still good"
        assert choose(guest, link(), name="ada").status_code == 303
        assert signed_in(guest)
        with sessions() as db:
            made = users.get_user(db, "ada")
            assert (made.mail, made.is_admin) == (ADDRESS, False)
        over = guest.get(link(), **BASE)
        assert over.status_code == 410 and "used already" in over.text
        assert "Invited</h2>" not in browser.get("/admin/users", **BASE).text
        assert {"user.invited", "user.joined"} <= set(did())

    def test_a_name_that_the_admin_gives_stays(
        self,
        caller: Callable[[User], Any],
        app: APIFlask,
        boss: User,
        link: Callable[[], str],
        sessions: Sessions,
    ) -> None:
        body = {"mail": ADDRESS, "name": "Ada L.", "is_admin": True}
        assert caller(boss)("POST", "invitations", json=body).status_code == 201
        guest = app.test_client()
        assert "Ada L." in guest.get(link(), **BASE).text
        assert choose(guest, link(), name="somebody else").status_code == 303
        with sessions() as db:
            assert users.get_user(db, "Ada L.").is_admin

    def test_sent_again_and_taken_back(
        self, caller: Callable[[User], Any], app: APIFlask, boss: User, link: Callable[[], str]
    ) -> None:
        api, guest = caller(boss), app.test_client()
        made = api("POST", "invitations", json={"mail": ADDRESS}).json
        first = link()
        assert api("POST", "invitations", json={"mail": ADDRESS.upper()}).status_code == 409
        assert api("POST", f"invitations/{made['id']}/resend").status_code == 200
        assert link() != first
        assert guest.get(first, **BASE).status_code == 410
        assert guest.get(link(), **BASE).status_code == 200
        assert [one["mail"] for one in api("GET", "invitations").json["items"]] == [ADDRESS]
        assert api("DELETE", f"invitations/{made['id']}").status_code == 204
        assert "taken back" in guest.get(link(), **BASE).text
        assert api("DELETE", f"invitations/{made['id']}").status_code == 404
        assert api("GET", "invitations").json["items"] == []
        assert api("POST", "invitations", json={"mail": ADDRESS}).status_code == 201

    def test_who_has_an_account_is_not_invited(
        self, caller: Callable[[User], Any], boss: User, known: User
    ) -> None:
        answer = caller(boss)("POST", "invitations", json={"mail": ADDRESS})
        assert (answer.status_code, answer.json["code"]) == (409, "user_exists")

    @pytest.mark.usefixtures("without_mail")
    def test_without_mail_the_admin_is_told_what_to_set(
        self, caller: Callable[[User], Any], browser: FlaskClient, boss: User
    ) -> None:
        answer = caller(boss)("POST", "invitations", json={"mail": ADDRESS})
        assert answer.json["code"] == "mail_off"
        sign_in(browser, "boss")
        assert "webserver_mail_host" in browser.get("/admin/users", **BASE).text

    def test_only_admins_invite(
        self, caller: Callable[[User], Any], browser: FlaskClient, ada: User, mails: Callable[[], list[Mail]]
    ) -> None:
        api = caller(ada)
        assert api("GET", "invitations").status_code == 403
        assert api("POST", "invitations", json={"mail": ADDRESS}).status_code == 403
        for path in (f"invitations/{uuid.uuid4()}/resend", f"invitations/{uuid.uuid4()}"):
            assert api("POST" if path.endswith("resend") else "DELETE", path).status_code == 403
        sign_in(browser)
        assert post(browser, "/admin/invitations", "/profile", mail=ADDRESS).status_code == 403
        assert mails() == []


class TestAddress:
    def ask(self, browser: FlaskClient, mail: str, password: str = PASSWORD) -> Any:
        return post(browser, "/profile/address", "/profile", mail=mail, password=password)

    def test_it_counts_when_the_link_was_followed(
        self,
        browser: FlaskClient,
        ada: User,
        link: Callable[[], str],
        sessions: Sessions,
        mails: Callable[[], list[Mail]],
    ) -> None:
        sign_in(browser)
        assert "on its way to ada@lab.test" in self.ask(browser, ADDRESS).text
        assert "counts when you have opened" in browser.get("/profile", **BASE).text
        browser.get(link(), **BASE)
        with sessions() as db:
            assert users.get_user(db, "ada").mail is None
        path, _, key = link().partition("?key=")
        assert post(browser, path, link(), key=key).location == "/profile?confirmed=1"
        with sessions() as db:
            assert users.get_user(db, "ada").mail == ADDRESS
        self.ask(browser, "lovelace@lab.test")
        path, _, key = link().partition("?key=")
        post(browser, path, link(), key=key)
        last = mails()[-1]
        assert (last.recipient, last.kind) == (ADDRESS, "address changed")
        assert "lovelace@lab.test" in last.body

    def test_without_the_password_nothing_is_sent(
        self, browser: FlaskClient, ada: User, mails: Callable[[], list[Mail]]
    ) -> None:
        sign_in(browser)
        assert self.ask(browser, ADDRESS, "wrong").status_code == 401
        assert self.ask(browser, "no address").status_code == 422
        assert mails() == []

    def test_somebody_else_s_address_is_not_told_of(
        self, browser: FlaskClient, known: User, boss: User, mails: Callable[[], list[Mail]]
    ) -> None:
        sign_in(browser, "boss")
        assert "on its way" in self.ask(browser, ADDRESS).text
        assert f"{ADDRESS} counts when you have opened" in browser.get("/profile", **BASE).text
        assert mails() == []

    def test_a_later_link_replaces_the_one_before(
        self, browser: FlaskClient, ada: User, link: Callable[[], str]
    ) -> None:
        sign_in(browser)
        self.ask(browser, ADDRESS)
        first = link()
        self.ask(browser, "other@lab.test")
        assert browser.get(first, **BASE).status_code == 410

    def test_a_changed_password_is_told_by_mail(
        self, browser: FlaskClient, known: User, mails: Callable[[], list[Mail]]
    ) -> None:
        sign_in(browser)
        form = {"current": PASSWORD, "new": ANOTHER, "again": ANOTHER}
        assert post(browser, "/profile/password", "/profile", **form).status_code == 303
        assert [mail.kind for mail in mails()] == ["password changed"]


def test_of_keys_only_hashes_are_kept(
    browser: FlaskClient, known: User, link: Callable[[], str], sessions: Sessions
) -> None:
    post(browser, "/forgotten", who="ada")
    key = link().partition("=")[2]
    with sessions() as db:
        row = db.scalars(select(Link)).one()
        assert key not in str(vars(row))
        assert key not in str([vars(entry) for entry in db.scalars(select(AuditRow))])
        assert db.scalars(select(WebSession)).all() == []


@pytest.mark.parametrize("path", ["/password", "/invitation", "/address"])
@pytest.mark.parametrize("key", ["", "?key=", "?key=nothing", "?key=" + "x" * 5000])
def test_a_key_that_is_none(browser: FlaskClient, path: str, key: str) -> None:
    answer = browser.get(path + key, **BASE)
    assert answer.status_code == 410 and "good no more" in answer.text


def test_a_link_of_one_kind_opens_no_other(
    browser: FlaskClient, known: User, link: Callable[[], str]
) -> None:
    post(browser, "/forgotten", who="ada")
    key = link().partition("?")[2]
    assert browser.get(f"/invitation?{key}", **BASE).status_code == 410
    assert browser.get(f"/address?{key}", **BASE).status_code == 410
