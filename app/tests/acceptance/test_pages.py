"""The pages in a real browser: sign in, and see a job with its plot."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .api import Api
from .conftest import PASSWORD
from .lab import REPOSITORY, Lab
from .waiting import wait_for
from .webdriver import SIGNED_OUT, Browser, chromium, key_digest, sign_in

PICTURES = REPOSITORY / ".lab" / "screenshots"


@pytest.fixture(scope="module")
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium"), key_digest(lab)) as window:
        yield window


@pytest.fixture(scope="module")
def job(user: Api) -> str:
    """A finished analysis with a plot."""
    submitted = user.submit("differential-network", label="seen in a browser")
    assert user.wait(submitted, seconds=180)["state"] == "success"
    return str(submitted["id"])


@pytest.fixture
def signed_in(browser: Browser, lab: Lab) -> Browser:
    browser.open(lab.url)
    if browser.script(SIGNED_OUT):
        sign_in(browser, "acceptance", PASSWORD)
        wait_for(lambda: not browser.script(SIGNED_OUT), 60, "sign-in")
    browser.complaints()  # what earlier pages said is not this test's
    return browser


class TestPages:
    def test_stranger_is_asked_to_sign_in(self, browser: Browser, lab: Lab, user: Api) -> None:
        browser.call("DELETE", "cookie")
        browser.open(f"{lab.url}/jobs")
        assert browser.script(SIGNED_OUT)
        browser.screenshot(PICTURES / "sign-in.png")

    def test_wrong_password_is_said(self, browser: Browser, lab: Lab, user: Api) -> None:
        browser.call("DELETE", "cookie")
        browser.open(lab.url)
        sign_in(browser, "acceptance", "wrong password, surely")
        assert browser.script(SIGNED_OUT)
        assert "password" in browser.text.lower()

    def test_job_shows_its_plot(self, signed_in: Browser, lab: Lab, job: str) -> None:
        signed_in.open(f"{lab.url}/jobs/{job}")
        assert "success" in signed_in.text.lower()
        loaded = "return [...document.images].filter(i => i.complete && i.naturalWidth > 300).length"
        wait_for(lambda: signed_in.script(loaded), 60, "the plot to be shown")
        picture = signed_in.screenshot(PICTURES / "job.png")
        assert len(picture) > 30_000
        assert signed_in.complaints() == []

    def test_list_leads_to_the_job(self, signed_in: Browser, lab: Lab, job: str) -> None:
        signed_in.open(f"{lab.url}/jobs")
        assert "seen in a browser" in signed_in.text
        signed_in.screenshot(PICTURES / "jobs.png")
        signed_in.click(f"a[href*='{job}']")
        wait_for(lambda: job in signed_in.url, 60, "the job's page")
        assert signed_in.complaints() == []

    def test_progress_is_live(self, signed_in: Browser, lab: Lab, user: Api) -> None:
        running = user.submit("acceptance-behave", {"action": "wait", "number": 12})
        signed_in.open(f"{lab.url}/jobs/{running['id']}")
        wait_for(lambda: "running" in signed_in.text.lower(), 60, "the page to say that it runs")
        wait_for(lambda: re.search(r"second \d", signed_in.text), 60, "the page to follow the progress")
        signed_in.screenshot(PICTURES / "running.png")
        wait_for(lambda: "success" in signed_in.text.lower(), 60, "the page to say the end without a reload")

    def test_a_tree_is_shown_and_leads_to_its_tasks(self, signed_in: Browser, lab: Lab, user: Api) -> None:
        sweep = {"grid": {"parameters.number": list(range(6))}}
        leaves = [
            {"task": "first", "protocol": "acceptance-noop"},
            {"task": "many", "protocol": "acceptance-noop", "sweep": sweep},
            {"task": "never", "protocol": "acceptance-noop", "needs": {"tags": ["no-such-tag"]}},
        ]
        body = {"tree": {"sequential": leaves}, "label": "a tree"}
        tree = user.http.post("/api/v1/jobs", json=body).json()
        signed_in.open(f"{lab.url}/jobs/{tree['id']}")
        wait_for(lambda: "7 success" in signed_in.text, 120, "the page to count what has ended")
        assert "no-such-tag" in signed_in.text  # why the last one waits
        signed_in.screenshot(PICTURES / "tree.png")
        task = tree["tasks"][3]["id"]

        def there() -> bool:
            # The page moves as it follows the tasks: a click may come to nothing.
            if task not in signed_in.url:
                signed_in.click(f"a[href*='{task}']")
            return "many[2]" in signed_in.text

        wait_for(there, 60, "the task's page", pause=1)
        signed_in.screenshot(PICTURES / "task.png")
        user.cancel(tree)
        assert signed_in.complaints() == []

    @pytest.mark.parametrize("page", ["", "workers", "protocols", "datasets", "matrix"])
    def test_pages_have_no_console_error(self, signed_in: Browser, lab: Lab, page: str) -> None:
        signed_in.open(f"{lab.url}/{page}")
        signed_in.screenshot(PICTURES / f"{page or 'first'}.png")
        assert "not found" not in signed_in.text.lower()
        assert signed_in.complaints() == []

    def test_pages_fit_a_phone(self, signed_in: Browser, lab: Lab, job: str) -> None:
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        emulate = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        signed_in.call("POST", "goog/cdp/execute", emulate)
        try:
            for page in ("", "jobs", f"jobs/{job}", f"jobs/{job}/timeline", "protocols", "matrix"):
                signed_in.open(f"{lab.url}/{page}")
                wide = signed_in.script("return document.documentElement.scrollWidth")
                assert wide <= 390, page
        finally:
            clear = {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}}
            signed_in.call("POST", "goog/cdp/execute", clear)
        assert signed_in.complaints() == []

    def test_the_matrix_leads_to_a_result(self, signed_in: Browser, lab: Lab, user: Api) -> None:
        table = user.upload("matrix.csv", b"a,b\n1,2\n")["id"]
        done = user.submit("table-summary", inputs={"table": table})
        assert user.wait(done, seconds=180)["state"] == "success"
        signed_in.open(f"{lab.url}/matrix?protocols=table-summary&data=matrix.csv")
        wait_for(
            lambda: signed_in.script("return !!document.querySelector('.matrix canvas')"), 60, "the picture"
        )
        signed_in.screenshot(PICTURES / "matrix.png")
        cell = f"table-summary:{table}"
        signed_in.open(f"{lab.url}/matrix/cell?cell={cell}")
        assert done["tasks"][0]["id"] in signed_in.url
        assert signed_in.complaints() == []
