"""How long a browser takes to show the largest pages, against an empty page of the same application."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acceptance import admin
from acceptance.api import Api
from acceptance.lab import Lab
from acceptance.waiting import wait_for
from acceptance.webdriver import SIGNED_OUT, Browser, chromium, key_digest
from acceptance.webdriver import sign_in as fill_in

from .figures import Figure, quantile
from .throughput import end, sign_in, submit

TASKS = 1000
SIDE = 200
LOOKS = 9
HEAVIEST = 200
"""KB: what a page may weigh, with all that it needs, as it travels."""
EMPTY = "/no-such-page"
PAINTED = """
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
if (!paint || !page.loadEventEnd) return null;
const all = [page, ...performance.getEntriesByType("resource")];
return [paint.startTime, page.domComplete, all.reduce((sum, one) => sum + one.encodedBodySize, 0) / 1000];
"""


def figures(lab: Lab) -> Iterator[Figure]:
    """First paint and end of loading of a job with 1,000 tasks and of a matrix of 200 by 200."""
    admin.import_protocols(lab.machine("webserver"), "noop")
    api = sign_in(lab)
    job = submit(api, TASKS, needs={"tags": ["benchmark"]})
    names, datasets = protocols(lab), data(api)
    pages = {
        f"job with {TASKS:,} tasks": f"/jobs/{job['id']}",
        f"matrix of {SIDE} by {SIDE}": "/matrix?protocols=benchmark-paint&data=benchmark-paint",
    }
    try:
        with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), key_digest(lab)) as window:
            window.open(lab.url)
            fill_in(window, "admin", lab.secret("admin_password"))
            wait_for(lambda: not window.script(SIGNED_OUT), 60, "sign-in")
            looks: dict[str, list[list[float]]] = {page: [] for page in (EMPTY, *pages.values())}
            for _ in range(LOOKS):
                for page, times in looks.items():
                    times.append(look(window, lab.url + page))
    finally:
        end(api, job)
        for kind, kept in (("protocols", names), ("datasets", datasets)):
            for one in kept:
                api.http.delete(f"/api/v1/{kind}/{one}")
    empty = [quantile(column, 0.5) for column in zip(*looks[EMPTY], strict=True)]
    for name, page in pages.items():
        paint, whole, weight = (quantile(column, 0.5) for column in zip(*looks[page], strict=True))
        yield Figure("paint", f"{name}, first paint", paint, "ms", empty[0], "an empty page")
        yield Figure("paint", f"{name}, loaded", whole, "ms", empty[1], "an empty page")
        yield Figure("paint", f"{name}, weight", weight, "KB", None, "", HEAVIEST)


def look(window: Browser, address: str) -> list[float]:
    """Milliseconds to the first paint and to the end of loading, and KB on the wire."""
    window.open(address)
    limit = time.monotonic() + 60
    while (told := window.script(PAINTED)) is None:
        assert time.monotonic() < limit, f"{address} is not painted"
        time.sleep(0.05)
    times: list[float] = told
    return times


def protocols(lab: Lab) -> list[str]:
    """As many protocols as the matrix has rows, of one shape."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"benchmark-paint-{number}" for number in range(SIDE)]
        for name in names:
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "main.py").write_text("pass\n")
            (Path(folder) / name / "protocol.yml").write_text(
                f"labfleet: 1\nname: {name}\nversion: 1.0.0\ntitle: {name}\ndescription: One row.\n"
                "key: python\ncommand: [python3, main.py]\ninputs: {table: {formats: [csv], title: Table}}\n"
                "needs: {cores: 1, memory: 256M, time: 1m}\n"
            )
        admin.import_protocols(lab.machine("webserver"), *names, root=Path(folder))
    return names


def data(api: Api) -> list[str]:
    """As many datasets as the matrix has columns."""
    with ThreadPoolExecutor(4) as pool:
        sent = pool.map(
            lambda number: api.upload(f"benchmark-paint-{number}.csv", f"a\n{number}\n".encode()), range(SIDE)
        )
        return [one["id"] for one in sent]
