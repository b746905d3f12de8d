"""Credentials of sources, sealed: what stands in the database can be read with the lab's key only.

The web application seals what users give, and opens nothing; `labfleet loader` opens it for one fetch. What
is sealed says of which source it is and where it may lead, so that neither another row nor a changed address
gets it. The first key seals, all open: an old one is good while it is changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_PERSON = b"labfleet-sources"
NAME_BYTES = 8


class Unopened(Exception):
    """It was sealed with a key that is not known any more, or for something else."""


class Vault:
    """Seals and opens with these keys, each a text of much randomness."""

    def __init__(self, keys: Sequence[str]) -> None:
        derived = [hashlib.blake2b(key.encode(), digest_size=32, person=_PERSON).digest() for key in keys]
        self._boxes = MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
        self.key = hashlib.sha256(derived[0]).hexdigest()[: 2 * NAME_BYTES]
        """What the first key is called; nothing of it can be told from that."""

    def seal(
        self, source: uuid.UUID, handler: str, place: Mapping[str, Any], credentials: Mapping[str, str]
    ) -> str:
        """Credentials that are good for this source, this handler and this place."""
        told = {"source": str(source), "handler": handler, "place": place, "credentials": credentials}
        return self._boxes.encrypt(json.dumps(told).encode()).decode()

    def open(
        self, sealed: str, source: uuid.UUID, handler: str, parameters: Mapping[str, Any]
    ) -> dict[str, str]:
        """The credentials; `Unopened` unless they were sealed for this source and where it leads."""
        try:
            told = json.loads(self._boxes.decrypt(sealed))
        except InvalidToken:
            raise Unopened from None
        place = {name: parameters.get(name) for name in told["place"]}
        if (told["source"], told["handler"], told["place"]) != (str(source), handler, place):
            raise Unopened
        return dict(told["credentials"])

    def renewed(self, sealed: str) -> str:
        """The same, sealed with the first key."""
        try:
            return self._boxes.rotate(sealed).decode()
        except InvalidToken:
            raise Unopened from None
