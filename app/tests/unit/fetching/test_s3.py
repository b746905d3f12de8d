"""Signatures as Amazon has published them, and addresses of objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from labfleet.fetching.handlers.base import Task
from labfleet.fetching.handlers.s3 import S3, address, refusal
from labfleet.fetching.handlers.signing import quoted, signed


def test_the_signature_of_amazon_s_example() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "GET Object"."""
    headers = signed(
        "/test.txt",
        {"Host": "examplebucket.s3.amazonaws.com", "Range": "bytes=0-9"},
        "us-east-1",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        at=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["X-Amz-Date"] == "20130524T000000Z"
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://cells.s3.us-east-1.amazonaws.com/a.csv"),
        ({"region": "eu-north-1"}, "https://cells.s3.eu-north-1.amazonaws.com/a.csv"),
        ({"addressing": "path"}, "https://s3.us-east-1.amazonaws.com/cells/a.csv"),
        ({"endpoint": "https://minio.lab:9000/"}, "https://minio.lab:9000/cells/a.csv"),
        ({"endpoint": "https://s3.lab", "addressing": "host"}, "https://cells.s3.lab/a.csv"),
    ],
)
def test_where_an_object_is(given: dict[str, str], url: str) -> None:
    assert address({"bucket": "cells", "key": "a.csv", **given}) == url


def test_a_key_is_escaped_as_the_store_does_it() -> None:
    assert quoted("a b/ä+~'().csv") == "a%20b/%C3%A4%2B~%27%28%29.csv"


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"key": "a//b c/..d"}, True),
        ({"key": "../a"}, False),
        ({"key": "a/./b"}, False),
        ({"key": "a/.."}, False),
        ({"key": "a\n"}, False),
        ({"bucket": "evil.example/x"}, False),
        ({"bucket": "a#b"}, False),
        ({"endpoint": "https://s3.lab/path"}, False),
        ({"endpoint": "https://user@s3.lab"}, False),
        ({"endpoint": "https://[2001:db8::1]:9000"}, True),
        ({"region": "a/b"}, False),
    ],
)
def test_what_a_source_may_say(changes: dict[str, str], good: bool) -> None:
    given = {"endpoint": "https://s3.lab", "bucket": "cells", "key": "a.csv"} | changes
    assert Draft202012Validator(S3.parameters).is_valid(given) is good


@pytest.mark.parametrize(
    ("code", "hours", "told"),
    [
        ("AccessDenied", 2, "The clocks of this Labfleet and of the store differ by 72"),
        ("RequestTimeTooSkewed", -2, "differ by 7"),
        ("RequestTimeTooSkewed", 0, "differ, so it takes no signature"),
        ("AccessDenied", 0, "The access key may not read 'a.csv'"),
    ],
)
def test_a_clock_that_is_off_is_told(code: str, hours: float, told: str) -> None:
    then = datetime.now(UTC) - timedelta(hours=hours)
    answer = httpx.Response(
        403,
        headers={"Date": format_datetime(then, usegmt=True)},
        content=f"<Error><Code>{code}</Code></Error>".encode(),
        request=httpx.Request("GET", "https://s3.lab/cells/a.csv"),
    )
    keys = {"access_key": "a", "secret_key": "b"}
    failed = refusal(Task({"bucket": "cells", "key": "a.csv"}, keys, Path("/"), 1, 1), answer)
    assert told in str(failed) and not failed.passing
