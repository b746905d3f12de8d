"""The page that tells how to get the command line, and the wheel that it hands out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from apiflask import APIFlask

WHEEL = "labfleet-1.2.3-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the role `app` leaves in a release."""
    folder = tmp_path / "share" / "command-line"
    folder.mkdir(parents=True)
    (folder / WHEEL).write_bytes(b"PK of the test")
    (folder.parent / "secret.txt").write_text("not to be handed out")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return b"PK of the test"


def test_the_page_tells_all_that_is_to_be_typed(app: APIFlask, wheel: bytes) -> None:
    page = app.test_client().get("/command-line").text
    for line in (f"pipx install ./{WHEEL}", "labfleet login http", "--ca-file ca.crt", "labfleet protocols"):
        assert line in page
    assert f'href="/command-line/{WHEEL}"' in page


def test_the_wheel_comes_as_it_is(app: APIFlask, wheel: bytes) -> None:
    answer = app.test_client().get(f"/command-line/{WHEEL}")
    assert (answer.status_code, answer.data) == (200, wheel)
    assert f"filename={WHEEL}" in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Disposition"].startswith("attachment")
    answer.close()


@pytest.mark.parametrize(
    "name", ["labfleet-1.2.4-py3-none-any.whl", "secret.txt", "..%2fsecret.txt", "%2e%2e%2fsecret.txt"]
)
def test_nothing_else_comes(name: str, app: APIFlask, wheel: bytes) -> None:
    assert app.test_client().get(f"/command-line/{name}").status_code == 404


def test_a_source_tree_says_so(app: APIFlask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    page = app.test_client().get("/command-line").text
    assert "runs from a source tree" in page and ".whl" not in page
