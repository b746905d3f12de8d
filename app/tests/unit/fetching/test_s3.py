"""Signatures as Amazon has published them, and addresses of objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from labfleet.fetching.handlers import listing
from labfleet.fetching.handlers.base import FetchFailed, Task
from labfleet.fetching.handlers.s3 import S3, address, refusal
from labfleet.fetching.handlers.signing import query_of, quoted, signed


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
        ({"key": None}, False),
        ({"version": "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"}, True),
        ({"version": "a b"}, False),
        ({"keys": "a/*.csv"}, False),
        ({"key": None, "keys": "a/*.csv"}, True),
        ({"key": None, "keys": "a.csv"}, False),
        ({"key": None, "keys": "a/../*"}, False),
        ({"key": None, "keys": "**", "version": "1"}, False),
    ],
)
def test_what_a_source_may_say(changes: dict[str, str | None], good: bool) -> None:
    all_of_it = {"endpoint": "https://s3.lab", "bucket": "cells", "key": "a.csv"} | changes
    given = {name: value for name, value in all_of_it.items() if value is not None}
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


def test_a_signed_query_is_part_of_what_is_signed() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Get Bucket"."""
    query = query_of({"prefix": "J", "max-keys": "2"})
    assert query == "max-keys=2&prefix=J"
    headers = signed(
        f"/?{query}",
        {"Host": "examplebucket.s3.amazonaws.com"},
        "us-east-1",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        at=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["Authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
    assert query_of({"prefix": "a b/ä+"}) == "prefix=a%20b%2F%C3%A4%2B"


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("runs/2026-*/t.csv", ["runs/2026-01/t.csv", "runs/2026-/t.csv"], ["runs/2026-1/2/t.csv", "t.csv"]),
        ("runs/**.csv", ["runs/a.csv", "runs/a/b/c.csv"], ["runs/a.tsv", "other/a.csv"]),
        ("a?.csv", ["a1.csv", "aä.csv"], ["a.csv", "a/.csv", "a12.csv"]),
        ("[x]*.(1)", ["[x]y.(1)"], ["xy.(1)", "[x]y.1"]),
        ("a*", ["a\nb", "a"], ["ba"]),
    ],
)
def test_what_a_pattern_means(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    wanted = listing.compiled(pattern)
    assert all(wanted.fullmatch(key) for key in fits)
    assert not any(wanted.fullmatch(key) for key in fits_not)


def page(*keys: str, following: str = "", size: int = 1) -> bytes:
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;{key}&quot;</ETag>"
        "<Owner><ID>x</ID></Owner></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>a</Prefix>'
        f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{token}{contents}"
        "<CommonPrefixes><Prefix>b</Prefix></CommonPrefixes></ListBucketResult>"
    ).encode()


def test_pages_are_asked_for_one_after_the_other() -> None:
    pages = {"": page("a/2.csv", "a/x&amp;.csv", following="t/1="), "t/1=": page("a/10.csv", "a/", "a/1.tsv")}
    asked: list[dict[str, str]] = []

    def page_of(query: Mapping[str, str]) -> bytes:
        asked.append(dict(query))
        return pages[query.get("continuation-token", "")]

    found = listing.matching(page_of, "a/*.csv", 3, 5)
    assert [(each.key, each.size, each.etag) for each in found] == [
        ("a/10.csv", 1, "a/10.csv"),
        ("a/2.csv", 1, "a/2.csv"),
        ("a/x&.csv", 1, "a/x&.csv"),
    ]
    assert [query["prefix"] for query in asked] == ["a/", "a/"]
    assert len(asked) == 2 and asked[0]["list-type"] == "2"
    for most, most_listed, told in (
        (2, 5, "More than 2 objects"),
        (3, 4, "More than 4 keys begin with 'a/'"),
    ):
        with pytest.raises(FetchFailed, match=told):
            listing.matching(page_of, "a/*.csv", most, most_listed)
    with pytest.raises(FetchFailed, match=r"No object has a key like 'a/[*].xls'"):
        listing.matching(page_of, "a/*.xls", 3, 5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"no XML",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult>&a;</ListBucketResult>',
        b"<r><Contents><Key>a</Key></Contents></r>",
        b"<r><Contents><Key>a</Key><Size>x</Size></Contents></r>",
        b"<r><IsTruncated>true</IsTruncated></r>",
    ],
)
def test_what_is_no_list(body: bytes) -> None:
    with pytest.raises(FetchFailed, match="list"):
        listing.read(body)


def test_a_key_that_leads_elsewhere_is_not_asked_for() -> None:
    with pytest.raises(FetchFailed, match=r"a part of its key is"):
        listing.matching(lambda query: page("a/../b/c.csv"), "a/**", 3, 5)
