"""Objects of stores that speak S3: Amazon's, and a lab's own, such as MinIO, Ceph or Garage.

One signed GET by the same client as for web servers, so that the guard sees each address that is connected
to. A store's redirect is told and not followed: the signature is good for one host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar

import httpx

from labfleet.fetching.handlers.base import Fetched, FetchFailed, Handler, Schema, Task, in_clear
from labfleet.fetching.handlers.http import END, PASSING, client_of, failures, received
from labfleet.fetching.handlers.signing import quoted, signed

AMAZON = "amazonaws.com"
REGION = "us-east-1"
ERROR_BYTES = 64 * 1024
"""How much is read of what a store says when it refuses."""
SAID = 300
SKEW_SECONDS = 300
"""By how much a clock is off that stores may mind: most take a quarter of an hour."""
BUCKET = "^[A-Za-z0-9][A-Za-z0-9._-]{1,254}" + END


class S3(Handler):
    """One object of a bucket."""

    title = "S3 bucket"
    description = (
        "An object of a store that speaks S3: Amazon's, or your institute's own, such as MinIO, Ceph or "
        "Garage."
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
                "pattern": f"^(?!(.*/)?[.][.]?(/|{END}))[^\\x00-\\x1f]+{END}",
            },
            "addressing": {
                "type": "string",
                "title": "Where the bucket stands",
                "description": "path: after the endpoint, as most own stores want it. host: before its "
                "name, as Amazon wants it. Without it host for Amazon, else path.",
                "enum": ["path", "host"],
            },
        },
        "required": ["bucket", "key"],
        "additionalProperties": False,
    }
    credentials: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "access_key": {
                "type": "string",
                "title": "Access key",
                "description": "Best of an account that may only read (s3:GetObject). None for what is "
                "public.",
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
        """Fetch the object; the failure says what to look at, by what the store says."""
        url = address(task.parameters)
        if task.credentials and not url.startswith("https:") and not task.clear_credentials:
            raise in_clear()
        with failures(task), client_of(task) as client:
            request = client.build_request("GET", url)
            if given := task.credentials:
                token = {"X-Amz-Security-Token": given["session_token"]} if "session_token" in given else {}
                request.headers.update(
                    signed(
                        request.url.raw_path.decode("ascii"),
                        {"Host": request.headers["Host"], **token},
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
                return received(task, response)
            finally:
                response.close()


def address(parameters: Mapping[str, str]) -> str:
    """The object's address."""
    bucket, region = parameters["bucket"], parameters.get("region", REGION)
    endpoint = parameters.get("endpoint", f"https://s3.{region}.{AMAZON}").rstrip("/")
    usual = "path" if "endpoint" in parameters else "host"
    if parameters.get("addressing", usual) == "path":
        return f"{endpoint}/{bucket}/{quoted(parameters['key'])}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}/{quoted(parameters['key'])}"


def refusal(task: Task, response: httpx.Response) -> FetchFailed:
    """What a store means that does not give the object, and what to do about it."""
    body = b""
    for piece in response.iter_bytes():
        body += piece
        if len(body) > ERROR_BYTES:
            break
    text = body[:ERROR_BYTES].decode(errors="replace")
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


def _denied(task: Task, response: httpx.Response) -> str:
    del response
    what = f"'{task.parameters['key']}' of the bucket '{task.parameters['bucket']}'"
    if not task.credentials:
        return f"The store does not give {what} to everybody: give the source an access key."
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
    return f"'{task.parameters['key']}' is archived: restore it in the store first."


HINTS: Mapping[str, Callable[[Task, httpx.Response], str]] = {
    "NoSuchBucket": _no_bucket,
    "NoSuchKey": _no_key,
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
