"""Credentials of sources, sealed: what stands in the database can be read with the lab's key only.

The web application seals what users give, and opens nothing; `labfleet loader` opens it for one fetch. What
is sealed says of which source it is and where it may lead, so that neither another row nor a changed address
gets it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from labfleet.sealing import Box, Unopened

_PURPOSE = b"labfleet-sources"


class Vault:
    """Seals and opens with these keys; see `Box`."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._box = Box(keys, _PURPOSE)
        self.key = self._box.key

    def seal(
        self, source: uuid.UUID, handler: str, place: Mapping[str, Any], credentials: Mapping[str, str]
    ) -> str:
        """Credentials that are good for this source, this handler and this place."""
        told = {"source": str(source), "handler": handler, "place": place, "credentials": credentials}
        return self._box.seal(json.dumps(told))

    def open(
        self, sealed: str, source: uuid.UUID, handler: str, parameters: Mapping[str, Any]
    ) -> dict[str, str]:
        """The credentials; `Unopened` unless they were sealed for this source and where it leads."""
        told = json.loads(self._box.open(sealed))
        place = {name: parameters.get(name) for name in told["place"]}
        if (told["source"], told["handler"], told["place"]) != (str(source), handler, place):
            raise Unopened
        return dict(told["credentials"])

    def renewed(self, sealed: str) -> str:
        """The same, sealed with the first key."""
        return self._box.renewed(sealed)
