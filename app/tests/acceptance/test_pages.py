"""The pages in a real browser: sign in, and see a job with its plot."""

from __future__ import annotations

import re

import pytest

from .api import Api
from .lab import REPOSITORY, Lab
from .waiting import wait_for
from .webdriver import SIGNED_OUT, Browser, sign_in

PICTURES = REPOSITORY / ".lab" / "screenshots"


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

    def test_job_shows_its_plot(self, window: Browser, lab: Lab, job: str) -> None:
        window.open(f"{lab.url}/jobs/{job}")
        assert "success" in window.text.lower()
        loaded = "return [...document.images].filter(i => i.complete && i.naturalWidth > 300).length"
        wait_for(lambda: window.script(loaded), 60, "the plot to be shown")
        picture = window.screenshot(PICTURES / "job.png")
        assert len(picture) > 30_000
        assert window.complaints() == []

    def test_list_leads_to_the_job(self, window: Browser, lab: Lab, job: str) -> None:
        window.open(f"{lab.url}/jobs")
        assert "seen in a browser" in window.text
        window.screenshot(PICTURES / "jobs.png")
        window.click(f"a[href*='{job}']")
        wait_for(lambda: job in window.url, 60, "the job's page")
        assert window.complaints() == []

    def test_progress_is_live(self, window: Browser, lab: Lab, user: Api) -> None:
        running = user.submit("acceptance-behave", {"action": "wait", "number": 12})
        window.open(f"{lab.url}/jobs/{running['id']}")
        wait_for(lambda: "running" in window.text.lower(), 60, "the page to say that it runs")
        wait_for(lambda: re.search(r"second \d", window.text), 60, "the page to follow the progress")
        window.screenshot(PICTURES / "running.png")
        wait_for(lambda: "success" in window.text.lower(), 60, "the page to say the end without a reload")

    def test_a_tree_is_shown_and_leads_to_its_tasks(self, window: Browser, lab: Lab, user: Api) -> None:
        sweep = {"grid": {"parameters.number": list(range(6))}}
        leaves = [
            {"task": "first", "protocol": "acceptance-noop"},
            {"task": "many", "protocol": "acceptance-noop", "sweep": sweep},
            {"task": "never", "protocol": "acceptance-noop", "needs": {"tags": ["no-such-tag"]}},
        ]
        body = {"tree": {"sequential": leaves}, "label": "a tree"}
        tree = user.http.post("/api/v1/jobs", json=body).json()
        window.open(f"{lab.url}/jobs/{tree['id']}")
        wait_for(lambda: "7 success" in window.text, 120, "the page to count what has ended")
        assert "no-such-tag" in window.text  # why the last one waits
        window.screenshot(PICTURES / "tree.png")
        task = tree["tasks"][3]["id"]

        def there() -> bool:
            # The page moves as it follows the tasks: a click may come to nothing.
            if task not in window.url:
                window.click(f"a[href*='{task}']")
            return "many[2]" in window.text

        wait_for(there, 60, "the task's page", pause=1)
        window.screenshot(PICTURES / "task.png")
        user.cancel(tree)
        assert window.complaints() == []

    @pytest.mark.parametrize("page", ["", "workers", "protocols", "datasets", "matrix"])
    def test_pages_have_no_console_error(self, window: Browser, lab: Lab, page: str) -> None:
        window.open(f"{lab.url}/{page}")
        window.screenshot(PICTURES / f"{page or 'first'}.png")
        assert "not found" not in window.text.lower()
        assert window.complaints() == []

    def test_pages_fit_a_phone(self, window: Browser, lab: Lab, job: str) -> None:
        with window.phone():
            for page in ("", "jobs", f"jobs/{job}", f"jobs/{job}/timeline", "protocols", "matrix"):
                window.open(f"{lab.url}/{page}")
                wide = window.script("return document.documentElement.scrollWidth")
                assert wide <= 390, page
        assert window.complaints() == []

    def test_the_matrix_leads_to_a_result(self, window: Browser, lab: Lab, user: Api) -> None:
        table = user.upload("matrix.csv", b"a,b\n1,2\n")["id"]
        done = user.submit("table-summary", inputs={"table": table})
        assert user.wait(done, seconds=180)["state"] == "success"
        window.open(f"{lab.url}/matrix?protocols=table-summary&data=matrix.csv")
        wait_for(
            lambda: window.script("return !!document.querySelector('.matrix canvas')"), 60, "the picture"
        )
        window.screenshot(PICTURES / "matrix.png")
        cell = f"table-summary:{table}"
        window.open(f"{lab.url}/matrix/cell?cell={cell}")
        assert done["tasks"][0]["id"] in window.url
        assert window.complaints() == []
