"""Make the pictures of docs/images from a lab that `./lab up` has raised:

    .lab/venv/bin/python app/tests/pictures.py

It adds a user, data and jobs to that lab, and looks at its pages with Chromium.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from acceptance import admin, lab
from acceptance.api import Api, Json
from acceptance.lab import REPOSITORY
from acceptance.webdriver import chromium, key_digest, sign_in

PROTOCOLS = REPOSITORY / "app" / "protocols"
IMAGES = REPOSITORY / "docs" / "images"
USER = "marie"
LONGEST_SECONDS = 600
IN_THE_MATRIX = ("box-plot", "clustering", "correlation", "histogram", "pca", "table-summary")


def work(user: Api) -> dict[str, Json]:
    """Jobs as people have them, all ended."""
    data = {
        name: user.upload(f"{name}.csv", (PROTOCOLS / name / "sample.csv").read_bytes())["id"]
        for name in IN_THE_MATRIX
    }
    jobs = {
        "pca": user.submit("pca", label="Which flowers are alike?"),
        "survival": user.submit("survival", label="Remission, two treatments"),
        "network": user.submit("network-inference", label="Genes that vary together"),
    }
    sweep = {
        "task": "bins",
        "protocol": "histogram",
        "inputs": {"table": data["histogram"]},
        "sweep": {"grid": {"parameters.bins": [5, 10, 20, 40]}},
    }
    cells = [
        {"task": f"{name}-{other}", "protocol": name, "inputs": {"table": dataset}}
        for name in ("pca", "correlation", "table-summary")
        for other, dataset in data.items()
    ]
    jobs["sweep"] = _submit(user, {"tree": sweep, "label": "How many bins?"})
    jobs["matrix"] = _submit(user, {"tree": {"parallel": cells}, "label": "Everything on everything"})
    for job in jobs.values():
        user.wait(job, seconds=LONGEST_SECONDS)
    jobs["data"] = {"id": data["pca"]}
    return jobs


def pages(jobs: dict[str, Json]) -> dict[str, str]:
    """The pictures and what they show."""
    return {
        "home": "/",
        "catalogue": "/protocols",
        "protocol": "/protocols/pca",
        "new-job": "/jobs/new?protocol=pca",
        "job": f"/jobs/{jobs['pca']['id']}",
        "results": f"/jobs/{jobs['survival']['id']}/results",
        "network": f"/jobs/{jobs['network']['id']}",
        "tree": f"/jobs/{jobs['matrix']['id']}",
        "matrix": "/matrix",
        "dataset": f"/datasets/{jobs['data']['id']}",
        "workers": "/workers",
    }


def main() -> None:
    """Work, and look at it."""
    deployed = lab.load(lab.inventory_path())
    password = secrets.token_urlsafe(24)
    admin.add_user(deployed.machine("webserver"), USER, password)
    user = Api.login(deployed.url, deployed.ca_file, USER, password)
    shown = pages(work(user))
    with (
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile), key_digest(deployed)) as browser,
    ):
        browser.open(deployed.url)
        sign_in(browser, USER, password)
        for name, address in shown.items():
            browser.open(f"{deployed.url}{address}")
            browser.screenshot(IMAGES / f"{name}.png")
            print(IMAGES / f"{name}.png")


def _submit(user: Api, body: Json) -> Json:
    answer = user.http.post("/api/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


if __name__ == "__main__":
    main()
