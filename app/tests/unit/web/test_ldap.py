"""What goes to `ldapsearch` and what comes from it."""

from __future__ import annotations

import base64
import uuid

import pytest

from labfleet.web import ldap


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ada.lovelace-1_x@lab", "ada.lovelace-1_x@lab"),
        ("*", r"\2a"),
        (")(uid=", r"\29\28uid\3d"),
        ("a\\b\x00\n", r"a\5cb\00\0a"),
        ("ä ,+", r"\c3\a4\20\2c\2b"),
    ],
)
def test_what_could_mean_something_is_written_by_its_bytes(text: str, written: str) -> None:
    assert ldap.escaped(text) == written


@pytest.mark.parametrize(
    ("attribute", "value", "subject"),
    [
        ("entryUUID", b"11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555555"),
        ("objectGUID", uuid.UUID(int=1).bytes_le, str(uuid.UUID(int=1))),
        ("objectguid", uuid.UUID(int=258 << 96).bytes_le, str(uuid.UUID(int=258 << 96))),
        ("objectSid", b"\x01\x05\xff", "hex:0105ff"),
        ("nsUniqueId", b"a\nb", "hex:610a62"),
        ("uid", b"", "hex:"),
    ],
)
def test_what_stays_is_one_text(attribute: str, value: bytes, subject: str) -> None:
    assert ldap._subject(attribute, value) == subject


def test_an_answer_is_read() -> None:
    encoded = base64.b64encode("Gräfin ".encode())
    output = b"\n".join(
        [
            b"dn: uid=ada,dc=lab",
            b"uid: ada",
            b"UID: second",
            b"cn;lang-de:: " + encoded,
            b"description: a long",
            b"  line",
            b"empty:",
            b"",
            b"# refldap://elsewhere",
            b"",
            b"dn:: " + base64.b64encode("uid=ä,dc=lab".encode()),
            b"",
        ]
    )
    ada, other = ldap._entries(output)
    assert ada.dn == "uid=ada,dc=lab"
    assert ada.values == {
        "uid": [b"ada", b"second"],
        "cn;lang-de": ["Gräfin ".encode()],
        "description": [b"a long line"],
        "empty": [b""],
    }
    assert (ada.text("Uid"), ada.text("none")) == ("ada", "")
    assert (other.dn, other.values) == ("uid=ä,dc=lab", {})
    assert list(ldap._entries(b"")) == []


def test_what_is_no_text_is_passed_over() -> None:
    assert ldap.Entry("cn=x", {"uid": [b"\xff", b"ada"]}).text("uid") == "ada"


def test_the_request_for_tls_is_what_the_standard_says() -> None:
    """LDAPMessage { 1, ExtendedRequest [APPLICATION 23] { requestName [0] OID } }, lengths and all."""
    assert ldap.START_TLS[:2] == bytes([0x30, len(ldap.START_TLS) - 2])
    assert ldap.START_TLS[5:7] == bytes([0x77, len(ldap.START_TLS) - 7])
    assert ldap.START_TLS[7:9] == bytes([0x80, len(b"1.3.6.1.4.1.1466.20037")])


def test_an_entry_without_a_name_is_nobody_s() -> None:
    """Its password would be tried as nobody's, which a directory may take whatever it is."""
    told = b"dn:\nuid: ada\n\ndn: uid=bob,dc=lab\nuid: bob\n"
    assert [entry.dn for entry in ldap._entries(told)] == ["uid=bob,dc=lab"]
