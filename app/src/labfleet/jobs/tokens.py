"""Tokens of machines: one per attempt (HMAC, nothing stored) and one per worker (its hash is configured)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence

from labfleet.errors import ConfigError, Unauthorized

ATTEMPT_PREFIX = "la_"
WORKER_PREFIX = "lw_"
_HINT = "Use the token that came with the message of this attempt."


def sign_attempt(task_id: uuid.UUID, number: int, keys: Sequence[str]) -> str:
    """`la_<task>.<number>.<mac>`, signed with the first key."""
    return f"{ATTEMPT_PREFIX}{task_id}.{number}.{_mac(task_id, number, keys[0])}"


def verify_attempt(token: str, task_id: uuid.UUID, number: int, keys: Sequence[str]) -> None:
    """Raise `Unauthorized` unless the token was signed for this very attempt with one of the keys."""
    given = token.encode()
    good = False
    for key in keys:  # all of them, so that the time tells nothing
        good |= hmac.compare_digest(given, sign_attempt(task_id, number, [key]).encode())
    if not good:
        raise Unauthorized("The token is not good for this attempt.", hint=_HINT)


def verify_worker(token: str, name: str, hashes: dict[str, list[str]]) -> None:
    """Raise `Unauthorized` unless the token's SHA-256 is one of those configured for the worker `name`."""
    given = hashlib.sha256(token.encode()).hexdigest()
    good = False
    for known in hashes.get(name, []):
        good |= hmac.compare_digest(given, known)
    if not good or not token.startswith(WORKER_PREFIX):
        raise Unauthorized(
            f"The token is not that of the worker '{name}'.",
            hint="Run playbooks/webserver.yml and playbooks/worker.yml so that both know the same token.",
        )


def worker_hashes(text: str) -> dict[str, list[str]]:
    """The credential `worker_tokens`: JSON `{name: sha256 hex}`, or a list of them while one is rotated."""
    try:
        table = json.loads(text)
        return {name: [value] if isinstance(value, str) else list(value) for name, value in table.items()}
    except (ValueError, AttributeError, TypeError):
        raise ConfigError(
            "The secret 'worker_tokens' is not a JSON object.",
            hint='Write it as {"worker-1": "<sha256 of its token>"}.',
        ) from None


def _mac(task_id: uuid.UUID, number: int, key: str) -> str:
    digest = hmac.new(key.encode(), f"{task_id}.{number}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
