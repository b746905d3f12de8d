"""The pages need nothing from elsewhere, and nothing in them runs that the policy would have to allow."""

from __future__ import annotations

import hashlib
import inspect
import re
from pathlib import Path

import pytest

import labfleet.web
from labfleet.web.factory import bare_app
from labfleet.web.guard import CSP
from labfleet.web.request import UPLOADS

WEB = Path(labfleet.web.__file__).parent
TEMPLATES = sorted((WEB / "templates").glob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_inline_style_or_script_and_no_foreign_address(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:|hx-on", text)
    assert not re.search(r"(src|href|action)=[\"']?(https?:)?//", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_template_compiles(template: Path) -> None:
    bare_app().jinja_env.get_template(template.name)


def test_every_form_that_posts_carries_the_token() -> None:
    for template in TEMPLATES:
        for form in re.findall(r"<form[^>]*method=\"post\".*?</form>", template.read_text(), re.DOTALL):
            assert "csrf()" in form, template.name


def test_static_files_that_are_named_are_there() -> None:
    text = "".join(template.read_text() for template in TEMPLATES)
    for name in re.findall(r"filename='([^']+)'", text):
        assert (WEB / "static" / name).is_file(), name


def test_vendored_files_are_what_their_list_says() -> None:
    vendor = WEB / "static" / "vendor"
    listed = dict(
        re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (vendor / "README.md").read_text(), re.M)
    )
    code = {file.name for file in vendor.iterdir() if file.suffix in {".js", ".css"}}
    assert set(listed) == code
    for name, digest in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name


def test_the_policy_allows_this_server_only() -> None:
    assert "unsafe" not in CSP and "http" not in CSP and "default-src 'none'" in CSP


def test_every_form_with_files_may_be_large() -> None:
    views = bare_app().view_functions
    assert set(views) >= UPLOADS
    sources = {name: inspect.getsource(view) for name, view in views.items() if name.startswith("pages.")}
    takes_files = ("_file()", "_complete(")  # what reads the files of the forms
    found = {name for name, source in sources.items() if any(word in source for word in takes_files)}
    assert found == set(UPLOADS)
