"""The search, by the API and as a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from flask.testing import FlaskClient

from labfleet.db.models import User

PASSWORD = "correct horse battery"
BASE: dict[str, Any] = {"base_url": "https://labfleet.test"}


def test_the_api_finds_and_counts(api: Any) -> None:
    dataset = api.upload("golub.csv", b"a,b\n1,2\n")
    api("PATCH", f"datasets/{dataset['id']}", json={"terms": ["obo:1"], "labels": ["plate 4"]})
    found = api("GET", "search?text=golub+plate").json
    assert found["next"] is None
    (item,) = found["items"]
    assert (item["kind"], item["id"], item["formats"]) == ("dataset", dataset["id"], ["csv"])
    assert [x["id"] for x in api("GET", "search?kind=protocol,dataset&limit=1").json["items"]] == [item["id"]]
    after = quote(api("GET", "search?limit=1").json["next"])
    assert [x["id"] for x in api("GET", f"search?after={after}").json["items"]] == ["greet"]
    facets = api("GET", "search/facets?format=CSV").json
    assert facets["kind"] == [{"value": "dataset", "count": 1}, {"value": "protocol", "count": 1}]
    assert facets["term"] == [{"value": "obo:1", "count": 1}]
    assert api("GET", "search?text=%00golub").status_code == 400
    assert api("GET", "search?kind=user").status_code == 422
    assert api("GET", "search?after=there").json["code"] == "invalid"


def test_the_page_shows_what_is_found_and_leads_on(
    browser: FlaskClient, ada: User, protocols: None, caller: Callable[[User], Any]
) -> None:
    dataset = caller(ada).upload("golub.csv", b"a,b\n1,2\n")
    caller(ada)("PATCH", f"datasets/{dataset['id']}", json={"terms": ["x<y"], "labels": ["paper"]})
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/sign-in", **BASE).text)
    assert token
    form = {"user": "ada", "password": PASSWORD, "csrf_token": token[1]}
    assert browser.post("/sign-in", data=form, **BASE).status_code == 303
    assert 'action="/search"' in browser.get("/", **BASE).text
    page = browser.get("/search?text=golub", **BASE).text
    assert f'href="/datasets/{dataset["id"]}"' in page
    assert "/protocols/greet" not in page
    assert "x&lt;y" in page
    assert "/search?text=golub&amp;label=paper" in page
    page = browser.get("/search?text=golub&label=paper", **BASE).text
    assert 'href="/search?text=golub" aria-current="true"' in page
    assert 'href="/protocols/greet"' in browser.get("/search", **BASE).text
    assert "Nothing was found" in browser.get("/search?text=nowhere", **BASE).text
    assert browser.get("/search?kind=user", **BASE).status_code == 422
