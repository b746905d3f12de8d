"""axe-core, the judge of accessible pages: one pinned file of npm's registry, checked by its digest."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from typing import Any

import httpx

from .lab import REPOSITORY
from .webdriver import Browser

REGISTRY = os.environ.get("LABFLEET_TEST_NPM", "https://registry.npmjs.org")
VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
KEPT = REPOSITORY / ".lab" / "axe" / f"axe-core-{VERSION}.tgz"
GRAVE = ("serious", "critical")
RUN = f"""
axe.run(document, {{resultTypes: ["violations"]}}).then(found => done(found.violations
  .filter(rule => {list(GRAVE)}.includes(rule.impact))
  .map(rule => [rule.impact, rule.id, rule.help, rule.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])
)).catch(error => done([["critical", "axe", String(error), []]]))
"""


def script() -> str:
    """The program, from the archive that is kept, or fetched once."""
    content = KEPT.read_bytes() if KEPT.exists() else _fetched()
    assert base64.b64encode(hashlib.sha512(content).digest()).decode() == SHA512, f"{KEPT} is another file"
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def _fetched() -> bytes:
    answer = httpx.get(f"{REGISTRY}/axe-core/-/axe-core-{VERSION}.tgz", follow_redirects=True, timeout=60)
    answer.raise_for_status()
    return answer.content


def grave(browser: Browser, program: str) -> list[Any]:
    """What axe finds serious or critical on the page that is open: impact, rule, what it asks, where."""
    browser.script(program)
    found: list[Any] = browser.later(RUN)
    return found
