"""Texts that stand in the database so that only a key of the lab's opens them.

The first key seals, all open: an old one is good while it is changed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

NAME_BYTES = 8


class Unopened(Exception):
    """It was sealed with a key that is not known any more, or for something else."""


class Box:
    """Seals and opens with these keys, each a text of much randomness.

    `purpose` (at most 16 bytes) tells boxes apart: what one has sealed with a key no other opens with it.
    """

    def __init__(self, keys: Sequence[str], purpose: bytes) -> None:
        derived = [hashlib.blake2b(key.encode(), digest_size=32, person=purpose).digest() for key in keys]
        self._boxes = MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
        self.key = hashlib.sha256(derived[0]).hexdigest()[: 2 * NAME_BYTES]
        """What the first key is called; nothing of it can be told from that."""

    def seal(self, text: str) -> str:
        """The text, sealed with the first key."""
        return self._boxes.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text again; `Unopened` if no key opens it."""
        try:
            return self._boxes.decrypt(sealed).decode()
        except InvalidToken:
            raise Unopened from None

    def renewed(self, sealed: str) -> str:
        """The same, sealed with the first key."""
        try:
            return self._boxes.rotate(sealed).decode()
        except InvalidToken:
            raise Unopened from None
