"""Protocols from git repositories: what the handler takes. How it is done stands in `fetching.repository`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from labfleet.fetching.handlers.base import Fetched, Handler, Schema, Task


class Git(Handler):
    """A protocol in a git repository."""

    title = "Git repository of a protocol"
    description = (
        "A repository with protocol.yml at its top, such as a colleague's on a git server. What comes is no "
        "dataset, but a protocol of yours, or new versions of it."
    )
    protocol = True
    parameters: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "title": "Address",
                "description": "As for git clone, such as https://example.org/lab/protocol.git. "
                "Without a name and a password in it.",
                "minLength": 8,
                "maxLength": 2000,
                "pattern": "^https?://[^/@?#\\s]+/[^?#\\s]+$",
            },
            "branch": {
                "type": "string",
                "title": "Branch",
                "description": "The repository's own default branch without it.",
                "minLength": 1,
                "maxLength": 200,
                "pattern": "^[^\\s~^:?*\\[\\\\]+$",
            },
            "tags": {
                "type": "boolean",
                "title": "Earlier versions",
                "description": "Tags that are called as the version of their protocol.yml come, too.",
                "default": True,
            },
            "rewrite": {
                "type": "boolean",
                "title": "Follow a rewritten history",
                "description": "Take the branch also where it does not go on from what came before. "
                "Versions that are here stay.",
                "default": False,
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    }
    credentials: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "user": {
                "type": "string",
                "title": "User",
                "description": "Where the server wants one with an access token, too.",
                "minLength": 1,
                "maxLength": 500,
                "pattern": "^[^:]+$",
            },
            "password": {
                "type": "string",
                "title": "Password or access token",
                "format": "password",
                "minLength": 1,
                "maxLength": 8000,
            },
        },
        "dependentRequired": {"user": ["password"]},
        "additionalProperties": False,
    }
    place: ClassVar[Sequence[str]] = ("url",)

    def fetch(self, task: Task) -> Fetched:
        """Fetch the branch and the tags that are versions, as one pack."""
        # Here, so that fetches of data don't wait for what reads protocols.
        from labfleet.fetching.repository import fetched  # noqa: PLC0415

        return fetched(task)
