"""What `[oidc]` takes and what it refuses."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from labfleet.config import OidcSection, is_safe_url


def test_it_is_off_by_itself() -> None:
    section = OidcSection()
    assert (section.issuer, section.accounts, section.second_factor) == ("", False, False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"issuer": "http://login.example.org", "client_id": "x"}, "must be https://"),
        ({"issuer": "https://user@login.example.org", "client_id": "x"}, "must be https://"),
        ({"issuer": "https://login.example.org/?a=b", "client_id": "x"}, "must be https://"),
        ({"issuer": "login.example.org", "client_id": "x"}, "must be https://"),
        ({"issuer": "https://login.example.org"}, "'client_id' must be"),
        ({"issuer": "https://login.example.org", "client_id": "x", "scopes": ["email"]}, "must have openid"),
        ({"timeout_seconds": 60}, "less than or equal to 50"),
        ({"client_secret": "x"}, "Extra inputs"),
    ],
)
def test_what_won_t_do_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OidcSection.model_validate(given)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.example.org/x", True),
        ("http://127.0.0.1:9400", True),
        ("http://localhost:9400", True),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1@example.org", False),
        ("http://login.example.org", False),
        ("file:///etc/passwd", False),
        ("https://", False),
    ],
)
def test_what_is_encrypted_or_stays_here(url: str, safe: bool) -> None:
    assert is_safe_url(url) is safe
