"""Pages for everybody: what axe finds, light and dark, on a desk and on a phone; and the keyboard alone."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from . import axe
from .api import Api
from .conftest import PASSWORD
from .lab import Lab
from .waiting import wait_for
from .webdriver import SIGNED_OUT, Browser, sign_in

TAB, ENTER, SPACE = "\ue004", "\ue007", "\ue00d"
PAGES = (
    *("", "jobs", "jobs/JOB", "jobs/JOB/timeline", "jobs/JOB/results", "jobs/JOB/request", "tasks/TASK"),
    *(
        "jobs/new?protocol=table-summary",
        "protocols",
        "protocols/differential-network",
        "matrix",
        "search?text=a",
    ),
    *("datasets", "datasets/DATA", "sources", "sources/new", "workers", "profile", "api/docs"),
)
ADMIN_PAGES = ("admin/users", "admin/users/USER", "admin/groups", "admin/audit")
STRANGERS_PAGES = ("sign-in", "forgotten", "command-line", "no-such-page")
LOOKS = ("desk, light", "phone, dark")


@pytest.fixture(scope="module")
def program() -> str:
    return axe.script()


def complaints(browser: Browser, program: str, look: str, addresses: list[str]) -> dict[str, object]:
    """What axe says of each page, where it says something."""
    found: dict[str, object] = {}
    with ExitStack() as stack:
        if look == "phone, dark":
            stack.enter_context(browser.phone())
            stack.enter_context(browser.dark())
        for address in addresses:
            browser.open(address)
            if grave := axe.grave(browser, program):
                found[address] = grave
    return found


@pytest.mark.parametrize("look", LOOKS)
class TestAxe:
    def test_finds_nothing_grave_on_pages_of_a_scientist(
        self, window: Browser, program: str, lab: Lab, user: Api, job: str, look: str
    ) -> None:
        data = user.upload("axe.csv", b"patient,age\nA,41\nB,57\n")["id"]
        task = user.get(f"jobs/{job}")["tasks"][0]["id"]
        named = [page.replace("JOB", job).replace("TASK", task).replace("DATA", data) for page in PAGES]
        assert complaints(window, program, look, [f"{lab.url}/{page}" for page in named]) == {}

    def test_nor_of_an_admin(
        self, browser: Browser, program: str, lab: Lab, admin: Api, user: Api, look: str
    ) -> None:
        browser.open(lab.url)
        browser.call("DELETE", "cookie")
        browser.open(lab.url)
        sign_in(browser, "admin", lab.secret("admin_password"))
        wait_for(lambda: not browser.script(SIGNED_OUT), 60, "sign-in")
        who = next(one["id"] for one in admin.get("users")["items"] if one["name"] == "acceptance")
        pages = [f"{lab.url}/{page.replace('USER', who)}" for page in ADMIN_PAGES]
        found = complaints(browser, program, look, pages)
        browser.call("DELETE", "cookie")
        assert found == {}

    def test_nor_of_a_stranger(self, browser: Browser, program: str, lab: Lab, look: str) -> None:
        browser.open(lab.url)
        browser.call("DELETE", "cookie")
        assert complaints(browser, program, look, [f"{lab.url}/{page}" for page in STRANGERS_PAGES]) == {}


def test_axe_is_not_blind(window: Browser, program: str, lab: Lab) -> None:
    """A judge that finds nothing anywhere would find nothing here."""
    window.open(f"{lab.url}/jobs")
    window.script("document.querySelector('main').innerHTML += '<img src=\"/static/favicon.svg\"><input>'")
    assert {rule for _, rule, *_ in axe.grave(window, program)} >= {"image-alt", "label"}


def tab_to(browser: Browser, css: str, most: int = 80) -> None:
    """Press the tabulator until the focus is there, and is to be seen."""
    for _ in range(most):
        if browser.script(f"return document.activeElement.matches({css!r})"):
            look = browser.script(
                "const style = getComputedStyle(document.activeElement);"
                "return style.outlineStyle !== 'none' || style.boxShadow !== 'none'"
            )
            assert look, f"{css}: nothing shows that it has the focus"
            return
        browser.press(TAB)
    raise AssertionError(f"{css}: not reached within {most} steps on {browser.url}")


def test_from_sign_in_to_a_job_by_the_keyboard(browser: Browser, lab: Lab, user: Api) -> None:
    browser.open(lab.url)
    browser.call("DELETE", "cookie")
    browser.open(lab.url)
    tab_to(browser, "input[name=user]")
    browser.press("acceptance")
    tab_to(browser, "input[type=password]")
    browser.press(PASSWORD + ENTER)
    wait_for(lambda: not browser.script(SIGNED_OUT), 60, "sign-in")
    tab_to(browser, "a.skip")
    tab_to(browser, "nav a[href='/protocols']")
    browser.press(ENTER)
    wait_for(lambda: browser.url.endswith("/protocols"), 60, "the catalogue")
    browser.open(f"{lab.url}/protocols/table-summary")
    tab_to(browser, "a.main[href^='/jobs/new']")
    browser.press(ENTER)
    wait_for(lambda: "/jobs/new" in browser.url, 60, "the form")
    tab_to(browser, "form[action^='/jobs/example'] button")
    browser.press(SPACE)
    wait_for(lambda: browser.script("return location.pathname.match('^/jobs/[0-9a-f-]{36}$')"), 60, "the job")
    wait_for(lambda: "success" in browser.text.lower(), 120, "its end")
