"""Objects of stores that speak S3: Amazon's, and a lab's own, such as MinIO, Ceph or Garage.

Signed GETs by the same client as for web servers, so that the guard sees each address that is connected to:
one for an object, or those of a list (`labfleet.fetching.handlers.listing`) and one for each object of it. A
store's redirect is told and not followed: the signature is good for one host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import ClassVar

import httpx

from labfleet.fetching.handlers import listing
from labfleet.fetching.handlers.base import Fetched, FetchFailed, Handler, Schema, Task, in_clear, too_large
from labfleet.fetching.handlers.http import END, PASSING, client_of, failures, received
from labfleet.fetching.handlers.listing import Listed
from labfleet.fetching.handlers.signing import query_of, quoted, signed

AMAZON = "amazonaws.com"
REGION = "us-east-1"
ERROR_BYTES = 64 * 1024
"""How much is read of what a store says when it refuses."""
SAID = 300
SKEW_SECONDS = 300
"""By how much a clock is off that stores may mind: most take a quarter of an hour."""
BUCKET = "^[A-Za-z0-9][A-Za-z0-9._-]{1,254}" + END


# A part of a key that a client, or a server on the way, would take for a step to another place.
STEPS = "(?!(.*/)?[.][.]?(/|" + END + "))"
VERSION = "x-amz-version-id"


class S3(Handler):
    """One object of a bucket, or those whose keys are of one pattern."""

    title = "S3 bucket"
    description = (
        "An object of a store that speaks S3, or several that are one table: Amazon's, or your institute's "
        "own, such as MinIO, Ceph or Garage."
    )
    parameters: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "endpoint": {
                "type": "string",
                "title": "Endpoint",
                "description": "Address of the store, such as https://s3.example.org or "
                "https://minio.example.org:9000. Amazon's own for the region without it.",
                "minLength": 8,
                "maxLength": 500,
                "pattern": f"^https?://[A-Za-z0-9._:\\[\\]-]+/?{END}",
            },
            "region": {
                "type": "string",
                "title": "Region",
                "description": f"As the store calls it; {REGION} without it, which most own stores take.",
                "minLength": 1,
                "maxLength": 100,
                "pattern": f"^[A-Za-z0-9._-]+{END}",
            },
            "bucket": {
                "type": "string",
                "title": "Bucket",
                "minLength": 2,
                "maxLength": 255,
                "pattern": BUCKET,
            },
            "key": {
                "type": "string",
                "title": "Key",
                "description": "The object's whole name in the bucket, such as plates/2026/today.csv.",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": f"^{STEPS}[^\\x00-\\x1f]+{END}",
            },
            "keys": {
                "type": "string",
                "title": "Keys",
                "description": "In place of one key: a pattern, such as plates/2026-*/wells.csv. All of "
                "these objects are read into one table. * stands for any characters but /, ** for / too, ? "
                "for one character.",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": f"^(?=[^\\x00-\\x1f]*[*?]){STEPS}[^\\x00-\\x1f]+{END}",
            },
            "version": {
                "type": "string",
                "title": "Version",
                "description": "The version id of the object, in a bucket that keeps versions; the newest "
                "without it.",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": f"^[!-~]+{END}",
            },
            "addressing": {
                "type": "string",
                "title": "Where the bucket stands",
                "description": "path: after the endpoint, as most own stores want it. host: before its "
                "name, as Amazon wants it. Without it host for Amazon, else path.",
                "enum": ["path", "host"],
            },
        },
        "required": ["bucket"],
        "oneOf": [{"required": ["key"]}, {"required": ["keys"]}],
        "dependentRequired": {"version": ["key"]},
        "additionalProperties": False,
    }
    credentials: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "access_key": {
                "type": "string",
                "title": "Access key",
                "description": "Best of an account that may only read (s3:GetObject, and s3:ListBucket for "
                "keys). None for what is public.",
                "minLength": 1,
                "maxLength": 200,
                "pattern": f"^[!-+.-~-]+{END}",
            },
            "secret_key": {
                "type": "string",
                "title": "Secret key",
                "format": "password",
                "minLength": 1,
                "maxLength": 500,
                "pattern": f"^[!-~]+{END}",
            },
            "session_token": {
                "type": "string",
                "title": "Session token",
                "description": "Only with keys that are good for some hours.",
                "format": "password",
                "minLength": 1,
                "maxLength": 8000,
                "pattern": f"^[!-~]+{END}",
            },
        },
        "dependentRequired": {
            "access_key": ["secret_key"],
            "secret_key": ["access_key"],
            "session_token": ["access_key"],
        },
        "additionalProperties": False,
    }
    place: ClassVar[Sequence[str]] = ("endpoint", "region", "bucket", "addressing")

    def fetch(self, task: Task) -> Fetched:
        """Fetch the object or the objects; the failure says what to look at, by what the store says."""
        encrypted = address(task.parameters).startswith("https:")
        if task.credentials and not encrypted and not task.clear_credentials:
            raise in_clear()
        with failures(task), client_of(task) as client:
            if "keys" in task.parameters:
                return _several(task, client)
            version = task.parameters.get("version")
            query = {} if version is None else {"versionId": version}
            with _answer(task, client, task.parameters["key"], query) as response:
                # A store that knows no versions may give what there is now.
                if version not in {None, response.headers.get(VERSION)}:
                    raise FetchFailed(
                        "The store gave the object, but not by its version: it keeps no versions, or not of "
                        "this bucket. Leave the version out."
                    )
                return received(task, response)


def _several(task: Task, client: httpx.Client) -> Fetched:
    """The objects whose keys are of the pattern, by their keys; each is the one that was listed."""

    def page(query: Mapping[str, str]) -> bytes:
        with _answer(task, client, "", query) as response:
            return _first_bytes(response, listing.PAGE_BYTES)

    found = listing.matching(page, task.parameters["keys"], task.max_objects, task.max_listed)
    total = sum(each.size for each in found)
    if total > task.max_bytes:
        raise too_large(task.max_bytes)
    directory = task.work / "objects"
    directory.mkdir()
    parts, done = [], 0
    for number, each in enumerate(found):
        part = _one_of(task, client, each, directory / str(number), done=done, total=total)
        parts.append(part)
        done += part.path.stat().st_size
    return Fetched(directory, PurePosixPath(task.parameters["keys"]).name, parts=parts)


def _one_of(
    task: Task, client: httpx.Client, listed: Listed, path: Path, *, done: int, total: int
) -> Fetched:
    """The object as it was when it was listed; `done` of `total` bytes have come before."""

    def tell(now: int, _: int | None) -> None:
        task.tell(done + now, total)

    changed = FetchFailed(f"'{listed.key}' was changed or deleted while it was fetched.", passing=True)
    within = replace(
        task, max_bytes=task.max_bytes - done, tell=tell, parameters={**task.parameters, "key": listed.key}
    )
    try:
        condition = {"If-Match": f'"{listed.etag}"'} if listed.etag else {}
        with _answer(within, client, listed.key, {}, condition) as response:
            # Not every store heeds the condition.
            if listed.etag and response.headers.get("etag", listed.etag).strip('"') != listed.etag:
                raise changed
            part = received(within, response, path=path)
    except _Gone:
        raise changed from None
    if path.stat().st_size != listed.size:
        raise changed
    return replace(part, name=listed.key)


class _Gone(FetchFailed):
    """There is no such object, or not any more as it was asked for."""


@contextmanager
def _answer(
    task: Task,
    client: httpx.Client,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> Iterator[httpx.Response]:
    """The store's good answer to a signed GET of the object, or of the bucket itself (an empty key)."""
    url = address({**task.parameters, "key": key}) + (f"?{query_of(query)}" if query else "")
    request = client.build_request("GET", url, headers=headers)
    if given := task.credentials:
        token = {"X-Amz-Security-Token": given["session_token"]} if "session_token" in given else {}
        request.headers.update(
            signed(
                request.url.raw_path.decode("ascii"),
                {"Host": request.headers["Host"], **(headers or {}), **token},
                task.parameters.get("region", REGION),
                given["access_key"],
                given["secret_key"],
                at=datetime.now(UTC),
            )
        )
    response = client.send(request, stream=True)
    try:
        if response.status_code != httpx.codes.OK:
            raise refusal(task, response)
        yield response
    finally:
        response.close()


def address(parameters: Mapping[str, str]) -> str:
    """The object's address; without a key the bucket's."""
    bucket, region = parameters["bucket"], parameters.get("region", REGION)
    endpoint = parameters.get("endpoint", f"https://s3.{region}.{AMAZON}").rstrip("/")
    usual = "path" if "endpoint" in parameters else "host"
    key = quoted(parameters.get("key", ""))
    if parameters.get("addressing", usual) == "path":
        return f"{endpoint}/{bucket}/{key}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}/{key}"


def _first_bytes(response: httpx.Response, most: int) -> bytes:
    """The body; of one that is larger a little more than so much."""
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > most:
            break
    return body


def refusal(task: Task, response: httpx.Response) -> FetchFailed:
    """What a store means that does not give the object, and what to do about it."""
    text = _first_bytes(response, ERROR_BYTES)[:ERROR_BYTES].decode(errors="replace")
    code, message = _element(text, "Code"), _element(text, "Message")
    region = response.headers.get("x-amz-bucket-region") or _element(text, "Region")
    asked = task.parameters.get("region", REGION)
    if response.has_redirect_location or region not in {"", asked}:
        return FetchFailed(_elsewhere(task, response, region))
    if (
        task.credentials
        and response.status_code == httpx.codes.FORBIDDEN
        and abs(_skew(response)) > SKEW_SECONDS
    ):
        return FetchFailed(_clocks(task, response))
    gone = code == "NoSuchKey" or response.status_code == httpx.codes.PRECONDITION_FAILED
    if gone and "key" in task.parameters:
        return _Gone(_no_key(task, response))
    if code in HINTS:
        return FetchFailed(HINTS[code](task, response))
    answer = f"{response.status_code} {response.reason_phrase}".strip()
    said = f" ({code}: {message})" if code else ""
    return FetchFailed(
        f"The store answered {answer}{said}.{_hint(task, response)}",
        passing=response.status_code in PASSING
        or code in {"SlowDown", "InternalError", "ServiceUnavailable"},
    )


def _hint(task: Task, response: httpx.Response) -> str:
    if response.status_code == httpx.codes.NOT_FOUND:
        return " Are endpoint, bucket and key right?"
    # Who shows no key is refused by some stores as one who shows a wrong one.
    refused = {401, 403} if task.credentials else {400, 401, 403}
    return f" {_denied(task, response)}" if response.status_code in refused else ""


def _element(text: str, name: str) -> str:
    """The text of the first such element; a store's answer is believed no further than to be shown."""
    found = re.search(rf"<{name}>([^<]{{1,{SAID}}})", text)
    return " ".join(found[1].split()) if found else ""


def _elsewhere(task: Task, response: httpx.Response, region: str) -> str:
    if region and region != task.parameters.get("region", REGION):
        return (
            f"The bucket '{task.parameters['bucket']}' lies in the region '{region}': say that as its region."
        )
    leads = response.headers.get("location", "")
    to = f" to {httpx.URL(leads).host}" if leads.startswith("http") else ""
    return (
        f"The store leads{to or ' elsewhere'} (answer {response.status_code}): give the endpoint and the "
        "region that the bucket has now. A bucket of Amazon's that is some minutes old may need an hour."
    )


def _no_bucket(task: Task, response: httpx.Response) -> str:
    return (
        f"There is no bucket '{task.parameters['bucket']}' at {response.url.host}: look at its name and at "
        "the endpoint."
    )


def _no_key(task: Task, response: httpx.Response) -> str:
    del response
    return (
        f"The bucket '{task.parameters['bucket']}' has no object '{task.parameters['key']}': give its whole "
        "name, with capital letters as they are and without the bucket."
    )


def _no_version(task: Task, response: httpx.Response) -> str:
    del response
    version, what = task.parameters.get("version", ""), _what(task)
    return f"There is no version '{version}' of {what}, or it only says that the object was deleted."


def _not_there(task: Task, response: httpx.Response) -> str:
    what = "versions: leave the version out" if "version" in task.parameters else "what is asked of it"
    return f"The store at {response.url.host} does not know {what}."


def _what(task: Task) -> str:
    """What is asked for, in words."""
    bucket = task.parameters["bucket"]
    return (
        f"'{task.parameters['key']}' of the bucket '{bucket}'"
        if "key" in task.parameters
        else (f"the list of the bucket '{bucket}'")
    )


def _denied(task: Task, response: httpx.Response) -> str:
    del response
    what = _what(task)
    if not task.credentials:
        return f"The store does not give {what} to everybody: give the source an access key."
    if "key" not in task.parameters:
        return f"The access key may not read {what}: its owner has to allow it (s3:ListBucket)."
    return (
        f"The access key may not read {what}, or there is no such object: its owner has to allow it "
        "(s3:GetObject)."
    )


def _unknown_key(task: Task, response: httpx.Response) -> str:
    del task
    return f"The store at {response.url.host} does not know the access key: give the source the right one."


def _wrong_secret(task: Task, response: httpx.Response) -> str:
    region = task.parameters.get("region", REGION)
    return (
        "The secret key does not belong to the access key: give the source both again. If they are right: is "
        f"'{region}' the region's name at {response.url.host}?"
    )


def _other_region(task: Task, response: httpx.Response) -> str:
    region = task.parameters.get("region", REGION)
    return (
        f"The store at {response.url.host} takes no requests for the region '{region}': look what it calls "
        "its own."
    )


def _clocks(task: Task, response: httpx.Response) -> str:
    """Whose clock is off can't be known, but by how much."""
    del task
    off = abs(_skew(response))
    by = f" by {off:.0f} seconds" if off > SKEW_SECONDS else ""
    return (
        f"The clocks of this Labfleet and of the store differ{by}, so it takes no signature: an admin has to "
        "set the webserver's (timedatectl), or the store's."
    )


def _skew(response: httpx.Response) -> float:
    """By how many seconds our clock is ahead of the store's; 0 where it does not tell the time."""
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(response.headers["date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0


def _expired(task: Task, response: httpx.Response) -> str:
    del task, response
    return "The session token is not good any more: give the source new credentials."


def _archived(task: Task, response: httpx.Response) -> str:
    del response
    return f"{_what(task)} is archived: restore it in the store first."


HINTS: Mapping[str, Callable[[Task, httpx.Response], str]] = {
    "NoSuchBucket": _no_bucket,
    "NoSuchVersion": _no_version,
    "MethodNotAllowed": _no_version,
    "NotImplemented": _not_there,
    "AccessDenied": _denied,
    "AllAccessDisabled": _denied,
    "InvalidAccessKeyId": _unknown_key,
    "SignatureDoesNotMatch": _wrong_secret,
    "AuthorizationHeaderMalformed": _other_region,
    "RequestTimeTooSkewed": _clocks,
    "ExpiredToken": _expired,
    "InvalidToken": _expired,
    "TokenRefreshRequired": _expired,
    "InvalidObjectState": _archived,
}
