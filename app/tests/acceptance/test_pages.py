"""The pages in a real browser: sign in, and see a job with its plot."""

from __future__ import annotations

import re

import pytest

from .api import Api, connect
from .lab import REPOSITORY, Lab
from .waiting import wait_for
from .webdriver import SIGNED_OUT, Browser, sign_in

PICTURES = REPOSITORY / ".lab" / "screenshots"
# Three files into the form's input, as if they had been dropped there.
CHOOSE = r"""
const files = new DataTransfer();
files.items.add(new File(["patient,age\nA,3\nB,4\n"], "a.csv"));
files.items.add(new File(["x;y;z\n1;2;3\n4;5\n"], "b.csv"));
files.items.add(new File(["no table"], "photo.png"));
const input = document.querySelector("input[type=file]");
input.files = files.files;
input.dispatchEvent(new Event("change"));
"""


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

    def test_chosen_files_are_recognised_before_they_are_sent(
        self, window: Browser, lab: Lab, user: Api
    ) -> None:
        """Two tables are told of and sent as a task each; a picture is left out, and it is said why."""
        window.open(f"{lab.url}/jobs/new?protocol=table-summary")
        window.script(CHOOSE)
        wait_for(lambda: "2 files will be sent, 1 will not" in window.text, 60, "the table of files")
        told = window.script(
            "return [...document.querySelectorAll('.recognised tbody tr')].map(r => r.innerText)"
        )
        first, second, third = (" ".join(line.split()) for line in told)
        assert "a.csv patient, age" in first
        assert "comma yes 2 2" in first
        assert "Line 3 has 2 fields, the first has 3." in second
        assert "semicolon yes 2 3" in second
        assert "Rejected: Only .csv, .tsv can be taken here." in third
        window.screenshot(PICTURES / "recognised.png")
        window.click("form[data-uploads] .actions button.main")
        wait_for(lambda: "/jobs/new" not in window.url, 60, "the job's page")
        job = user.get(f"jobs/{window.url.rpartition('/')[2]}")
        assert len(job["tasks"]) == 2
        assert window.complaints() == []

    def test_a_job_is_shared_by_its_page(
        self, window: Browser, lab: Lab, user: Api, other: Api, job: str
    ) -> None:
        assert other.http.get(f"/api/v1/jobs/{job}").status_code == 404
        window.open(f"{lab.url}/jobs/{job}")
        assert "Only you and admins see it." in window.text
        window.click("#for-whom summary")
        window.type("#users", "acceptance-other")
        window.screenshot(PICTURES / "sharing.png")
        window.click("#for-whom button.main")
        wait_for(lambda: "Shared with acceptance-other." in window.text, 60, "the page to say who sees it")
        assert other.http.get(f"/api/v1/jobs/{job}").status_code == 200
        window.click("#for-whom summary")
        window.script("document.querySelector('#users').value = ''")
        window.click("#for-whom button.main")
        wait_for(lambda: "Only you and admins see it." in window.text, 60, "the share to be taken back")
        assert other.http.get(f"/api/v1/jobs/{job}").status_code == 404
        assert window.complaints() == []

    def test_a_token_may_what_was_ticked(self, window: Browser, lab: Lab, user: Api) -> None:
        """Made with one scope only, it reads and can't submit; revoked, it is refused."""
        window.open(f"{lab.url}/profile")
        window.type("form[action='/profile/tokens'] #name", "reads only")
        window.script(
            "for (const box of document.querySelectorAll('[name=scope]')) box.checked = box.value === 'read'"
        )
        window.screenshot(PICTURES / "scopes.png")
        window.click("form[action='/profile/tokens'] button.main")
        wait_for(lambda: "Copy it now" in window.text, 60, "the token")
        token = window.script("return document.querySelector('.note pre').innerText")
        with connect(lab.url, lab.ca_file, token) as http:
            assert http.get("/api/v1/jobs").status_code == 200
            assert http.post("/api/v1/jobs", json={"protocol": "acceptance-noop"}).status_code == 403
            window.script("window.confirm = () => true")
            window.click("button[aria-label='Revoke reads only']")
            wait_for(lambda: http.get("/api/v1/jobs").status_code == 401, 60, "the token to be refused")
        assert window.complaints() == []

    def test_settings_are_saved_and_opened_by_their_address(
        self, window: Browser, lab: Lab, user: Api
    ) -> None:
        table = user.upload("settings.csv", b"a,b\n1,2\n")["id"]
        window.open(f"{lab.url}/jobs/new?protocol=table-summary")
        window.type("#label", "kept for later")
        window.script(f"document.querySelector('select[name=i-table]').value = '{table}'")
        window.script("document.querySelector('[name=p-top]').value = '7'")
        window.click("button[formaction^='/analyses']")
        wait_for(lambda: "Saved settings: kept for later" in window.text, 60, "the settings' address")
        address = window.script("return document.querySelector('.note a').href")
        window.open(address)
        assert window.script("return document.querySelector('[name=p-top]').value") == "7"
        assert window.script("return document.querySelector('select[name=i-table]').value") == table
        assert window.complaints() == []
