"""Every operation says what it takes of a token, and the document tells it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apiflask import APIFlask

from labfleet.cli.options import SCOPES
from labfleet.db import models
from labfleet.users.scopes import TOLD, Scope, words
from labfleet.web import openapi
from labfleet.web.factory import bare_app

OF_USERS = "user."
OTHERS = ("anyone.", "attempts.", "joins.", "workers.")
"""Who needs no token, or has one of another kind."""
# What changes nothing is asked for with other methods, too; and one thing to be seen is a secret.
READING = {"check_protocol", "make_dataset_preview"}
SECRET = {"show_webhook_secret"}


@pytest.fixture(scope="module")
def app() -> APIFlask:
    return bare_app()


def of_users(app: APIFlask) -> list[tuple[str, set[str], Any]]:
    """Name, methods and view of each operation that takes a user's token."""
    return [
        (rule.endpoint.removeprefix(OF_USERS), set(rule.methods or ()), app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(OF_USERS)
    ]


def test_every_operation_of_the_api_has_a_scope(app: APIFlask) -> None:
    found = of_users(app)
    assert len(found) > 100
    assert [
        name for name, _, view in found if not isinstance(getattr(view, "labfleet_scope", None), Scope)
    ] == []


def test_no_other_operation_is_behind_a_user_s_token(app: APIFlask) -> None:
    api = {rule.endpoint for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/v1/")}
    assert {name for name in api if not name.startswith((OF_USERS, *OTHERS))} == set()


def test_reading_is_what_changes_nothing(app: APIFlask) -> None:
    for name, methods, view in of_users(app):
        operation = view._spec["operation_id"]
        scope = view.labfleet_scope
        if "GET" in methods:
            assert scope in {Scope.READ, Scope.ADMIN} or operation in SECRET, name
        else:
            assert scope is not Scope.READ or operation in READING, name


def test_the_document_tells_the_scope_of_each(app: APIFlask) -> None:
    document = json.loads(openapi.document())
    told = {
        operation["operationId"]: operation["security"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in openapi.METHODS and operation.get("security")
    }
    for _, _, view in of_users(app):
        assert told[view._spec["operation_id"]] == [{"user": [view.labfleet_scope.value]}]


def test_there_is_one_list_of_scopes() -> None:
    assert list(TOLD) == list(Scope) == list(SCOPES)
    assert f"'{{{','.join(Scope)}}}'::text[]" == models.SCOPES


def test_scopes_in_words() -> None:
    assert words([*Scope]) == "everything"
    assert words(["jobs", "read"]) == "read, jobs"
