"""What a mail address is, what mails say, and which settings of mail can't be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from labfleet.config import MailSection
from labfleet.jobs.states import State
from labfleet.mail import texts
from labfleet.names import is_address


@pytest.mark.parametrize(
    "address", ["ada@example.org", "a.d-a+lab@x-y.example.org", "o'hara@example.org", "root@localhost"]
)
def test_addresses(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "ada", "@example.org", "ada@", "a b@example.org", "ada@exa mple.org", "Ada <ada@example.org>"),
        *("ada@example.org\nBcc: x@y.z", "ada@example.org,x@y.z", "a..b@example.org", ".a@example.org"),
        *("ada@-x.org", "ada@example..org", "ä@example.org", "ada@example.org ", "a@b@c.org", 7, None),
        "a" * 250 + "@example.org",
    ],
)
def test_what_is_no_address(address: object) -> None:
    assert not is_address(address)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (604800, "7 days"),
        (86400, "1 day"),
        (90000, "25 hours"),
        (3600, "1 hour"),
        (2700, "45 minutes"),
        (1, "1 minute"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert texts.words(seconds) == words


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "mail.example.org"},
        {"host": "mail.example.org", "sender": "Labfleet <a@b.c>"},
        {"host": "mail.example.org", "sender": "a@b.c", "user": "u", "security": "none"},
        {"security": "ssl"},
        {"tries": 0},
        {"digest_minutes": 60, "job_hours": 1},
    ],
)
def test_settings_that_can_t_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MailSection.model_validate(settings)


def test_a_label_stays_on_one_line() -> None:
    job = texts.Ended("a\r\nBcc: x@y.z\x00" + "b" * 200, "success", 1, 0, 0, "https://lab.example/jobs/1")
    said = texts.job_ended("ada", job, "https://lab.example/profile", 60)
    assert said.subject == "Labfleet: a Bcc: x@y.z " + "b" * (texts.LABEL - 13) + ": success"
    assert f'your job "a Bcc: x@y.z {"b" * 200}" has ended with success.' in said.body


def test_every_final_state_has_its_words() -> None:
    assert set(texts.ENDS) == {state for state in State if state.final}
