"""Which objects of a bucket have keys of a pattern, by the lists that an S3 store gives of it.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from labfleet.fetching.handlers.base import FetchFailed

PAGE_BYTES = 16 * 1024 * 1024
"""A page has a thousand objects at most, each with a key of a kilobyte and some words."""
AT_ONCE = 1000
_WILD = re.compile(r"\*\*|\*|\?")
_MEANS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Listed:
    """An object as a list tells of it."""

    key: str
    size: int
    etag: str


@dataclass
class Page:
    """One answer. `following`: what to ask for the next one with; empty at the end."""

    objects: list[Listed] = field(default_factory=list)
    following: str = ""


def matching(
    page_of: Callable[[Mapping[str, str]], bytes], pattern: str, most: int, most_listed: int
) -> list[Listed]:
    """The objects whose keys are of the pattern, in the order of their keys; at least one.

    `page_of(query)` is the store's answer. `FetchFailed` where there are more than `most`, or where more
    than `most_listed` keys would have to be looked at.
    """
    wild = _WILD.search(pattern)
    prefix = pattern[: wild.start()] if wild else pattern
    wanted = compiled(pattern)
    query = {"list-type": "2", "max-keys": str(AT_ONCE), "prefix": prefix}
    found: dict[str, Listed] = {}
    listed = 0
    while True:
        page = read(page_of(query))
        listed += len(page.objects)
        if listed > most_listed:
            raise FetchFailed(
                f"More than {most_listed:,} keys begin with '{prefix}', which is more than this Labfleet "
                "looks through: say more of the keys before the first * or ?."
            )
        for each in page.objects:
            # A key with a slash at its end is what some programs leave for a folder.
            if wanted.fullmatch(each.key) and not each.key.endswith("/"):
                found[each.key] = each
        if len(found) > most:
            raise FetchFailed(
                f"More than {most:,} objects have keys like '{pattern}', which is more than this Labfleet "
                "reads together."
            )
        if not page.following or page.following == query.get("continuation-token"):
            break
        query["continuation-token"] = page.following
    if not found:
        raise FetchFailed(
            f"No object has a key like '{pattern}': look at its capital letters, and * does not stand for /."
        )
    for key in found:
        _check_key(key)
    return [found[key] for key in sorted(found, key=str.encode)]


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression. Others than `*` `**` `?` mean themselves."""
    literals = _WILD.split(pattern)
    means = [*(_MEANS[wild] for wild in _WILD.findall(pattern)), ""]
    return re.compile(
        "".join(re.escape(text) + wild for text, wild in zip(literals, means, strict=True)), re.S
    )


def _check_key(key: str) -> None:
    """`FetchFailed` for a key whose address leads elsewhere."""
    if {".", ".."} & set(key.split("/")):
        raise FetchFailed(f"The object '{key}' can't be asked for: a part of its key is '.' or '..'.")


def read(body: bytes) -> Page:
    """What a list says; `FetchFailed` where it is none."""
    page, path, texts = Page(), list[str](), dict[str, str]()
    more = False

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        del attributes
        path.append(name.rpartition(" ")[2])
        if path[1:] == ["Contents"]:
            texts.clear()

    def text(data: str) -> None:
        texts[path[-1]] = texts.get(path[-1], "") + data

    def end(name: str) -> None:
        nonlocal more
        del name
        if path[1:] == ["Contents"]:
            # Some stores write it with the quotation marks of the header, some without.
            etag = texts.get("ETag", "").strip().strip('"')
            page.objects.append(Listed(texts["Key"], int(texts["Size"]), etag))
        elif path[1:] == ["NextContinuationToken"]:
            page.following = texts["NextContinuationToken"].strip()
        elif path[1:] == ["IsTruncated"]:
            more = texts["IsTruncated"].strip() == "true"
        path.pop()

    def refuse(*_: object) -> None:
        raise ValueError

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = text
    # No list has one, and what it may declare is how XML is made to explode.
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, KeyError):
        raise FetchFailed("The store did not answer with a list of the bucket as S3 has it.") from None
    if not more:
        page.following = ""
    elif not page.following:
        raise FetchFailed(
            "The store's list breaks off: it knows no lists as S3 has them now (ListObjectsV2)."
        )
    return page
