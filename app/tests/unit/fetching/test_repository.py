"""What a git server says, read without a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labfleet.fetching import repository
from labfleet.fetching.handlers.base import FetchFailed
from labfleet.protocols.smart import line

A, B = "a" * 40, "b" * 40
SERVICE = line(b"# service=git-upload-pack\n") + b"0000"
CAN = "side-band-64k ofs-delta"


def advertised(*refs: tuple[str, str]) -> bytes:
    lines = [f"{identity} {name}" for identity, name in refs]
    return (
        SERVICE
        + line(f"{lines[0]}\0{CAN}\n".encode())
        + b"".join(line(f"{each}\n".encode()) for each in lines[1:])
        + b"0000"
    )


def test_refs_and_capabilities() -> None:
    offer = repository.offered(advertised((A, "HEAD"), (A, "refs/heads/main"), (B, "refs/tags/1.0")))
    assert offer.refs == {"HEAD": A, "refs/heads/main": A, "refs/tags/1.0": B}
    assert offer.capabilities == {"side-band-64k", "ofs-delta"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "There is no git repository"),
        (b"<html></html>", "not what a git server says"),
        (line(b"ERR no\n"), "There is no git repository"),
        (SERVICE, "broke off"),
        (advertised((A, "HEAD"))[:-6], "broke off"),
        (SERVICE + line(f"{'0' * 40} capabilities^{{}}\0{CAN}".encode()) + b"0000", "empty"),
        (SERVICE + line(f"{'a' * 64} HEAD\0{CAN}".encode()) + b"0000", "SHA-256"),
        (SERVICE + line(b"../../etc HEAD\0x") + b"0000", "not what a git server says"),
    ],
)
def test_what_is_no_list_of_refs(content: bytes, told: str) -> None:
    with pytest.raises(FetchFailed, match=told):
        repository.offered(content)


def test_the_newest_tags_are_taken() -> None:
    tags = [(B, f"refs/tags/1.{number}.0") for number in range(60)]
    odd = [(B, "refs/tags/-x"), (B, "refs/tags/1.3.0^{}"), (B, "refs/tags/a/b")]
    wanted = repository.chosen(repository.offered(advertised((A, "HEAD"), *tags, *odd)), None, tags=True)
    assert list(wanted.tags) == [f"1.{number}.0" for number in range(59, 10, -1)]
    assert wanted.notes == ["Of 60 tags the 49 that seem newest were looked at."]
    assert wanted.head == A


def test_a_server_without_bands_is_too_old() -> None:
    offer = repository.Offer({"HEAD": A}, frozenset())
    with pytest.raises(FetchFailed, match="too old"):
        repository.chosen(offer, None, tags=False)


def test_the_pack_is_told_from_what_the_server_says() -> None:
    answer = line(b"NAK\n") + line(b"\x02counting") + line(b"\x01PACK") + line(b"\x01rest") + b"0000"

    def in_pieces() -> Iterator[bytes]:
        yield from (answer[at : at + 3] for at in range(0, len(answer), 3))

    assert b"".join(repository.packed(in_pieces())) == b"PACKrest"


@pytest.mark.parametrize(
    ("answer", "told", "passing"),
    [
        (line(b"NAK\n") + line(b"\x01PACK"), "broke off", True),
        (line(b"NAK\n") + b"0050\x01PACK", "broke off", True),
        (line(b"\x03out of memory\n"), "out of memory", False),
        (line(b"ERR upload-pack: not our ref"), "not our ref", False),
        (b"<html>", "not what a git server says", False),
    ],
)
def test_a_pack_that_does_not_come(answer: bytes, told: str, passing: bool) -> None:
    with pytest.raises(FetchFailed, match=told) as failed:
        list(repository.packed(iter([answer])))
    assert failed.value.passing == passing
