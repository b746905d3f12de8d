"""Signature Version 4 of requests to S3, as far as a GET of an object or a list needs it.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
NOTHING = hashlib.sha256(b"").hexdigest()
"""Of the body of a request that has none."""


def quoted(key: str) -> str:
    """An object's key as it stands in an address: all is escaped but letters, digits and `-._~/`."""
    return quote(key, safe="-._~/")


def query_of(arguments: Mapping[str, str]) -> str:
    """The query of an address as it is signed: escaped as keys are and slashes too, ordered by names."""
    return "&".join(
        f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in sorted(arguments.items())
    )


def signed(
    path: str,
    headers: Mapping[str, str],
    region: str,
    access_key: str,
    secret_key: str,
    *,
    at: datetime,
) -> dict[str, str]:
    """The headers of a GET of `path` (escaped, its query by `query_of`) with these, with time and signature.

    `headers` have at least `Host`. All of them are signed, so none may change on its way.
    """
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    all_of_it = {**headers, "X-Amz-Content-Sha256": NOTHING, "X-Amz-Date": moment}
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in all_of_it.items())
    names = ";".join(name for name, _ in lines)
    place, _, query = path.partition("?")
    request = "\n".join(
        ["GET", place, query, *(f"{name}:{value}" for name, value in lines), "", names, NOTHING]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    to_sign = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    all_of_it["Authorization"] = (
        f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return all_of_it
