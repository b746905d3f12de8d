"""What `[ldap]` takes and what it refuses."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from labfleet.config import LdapSection

WHOLE = {"urls": ["ldaps://ldap.example.org"], "base_dn": "dc=example,dc=org"}
TEMPLATE = {"urls": ["ldap://[2001:db8::1]:3389"], "user_dn": "uid={name},dc=example,dc=org"}


def test_it_is_off_by_itself() -> None:
    section = LdapSection()
    assert (section.urls, section.accounts, section.clear_text, section.starts_tls) == (
        [],
        False,
        False,
        False,
    )


def test_tls_is_there_unless_it_is_said_otherwise() -> None:
    assert not LdapSection.model_validate(WHOLE).starts_tls
    assert LdapSection.model_validate(TEMPLATE).starts_tls
    assert not LdapSection.model_validate(TEMPLATE | {"clear_text": True}).starts_tls


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"urls": ["https://ldap.example.org"]}, "must be ldaps://"),
        ({"urls": ["ldaps://ldap.example.org", "ldap://ldap.example.org"]}, "all of them ldap://"),
        ({"urls": ["ldaps://user@ldap.example.org"]}, "must be ldaps://"),
        ({"urls": ["ldaps://ldap.example.org/dc=x"]}, "must be ldaps://"),
        ({"urls": ["ldaps://a ldap://b"]}, "must be ldaps://"),
        ({"clear_text": True}, "goes with ldap://"),
        ({"base_dn": ""}, "either 'base_dn'"),
        ({"user_dn": "uid={name}"}, "either 'base_dn'"),
        ({"base_dn": "", "user_dn": "uid={name}", "bind_dn": "cn=x"}, "needs no 'bind_dn'"),
        ({"base_dn": "", "user_dn": "uid=name"}, "must have {name}"),
        ({"filter": "(uid=x)"}, "'filter' must have {name}"),
        ({"filter": "(|(uid={name})(mail={name}))"}, "{name} in it once"),
        ({"filter": "uid={name}"}, "in parentheses"),
        ({"filter": "(uid={name}%s)"}, "without %"),
        ({"filter": "(uid={name}\n)"}, "in parentheses"),
        ({"group_filter": "(member=x)"}, "'group_filter' must have"),
        ({"id_attribute": ""}, "'id_attribute' must be"),
        ({"mail_attribute": "-y"}, "'mail_attribute' must be"),
        ({"timeout_seconds": 60}, "less than or equal to 20"),
        ({"password": "x"}, "Extra inputs"),
    ],
)
def test_what_won_t_do_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LdapSection.model_validate(WHOLE | given)
