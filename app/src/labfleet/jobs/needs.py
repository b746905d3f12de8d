"""What a task needs of a worker, out of its protocol's manifest and its own specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labfleet.names import IMAGES_TAG
from labfleet.protocols.manifest import Needs as ManifestNeeds


@dataclass(frozen=True)
class Needs:
    """Cores, memory in bytes, wall time in seconds, and the worker's tags (sorted)."""

    key: str
    cores: int
    memory_bytes: int
    wall_seconds: int
    tags: tuple[str, ...] = ()

    @property
    def lane(self) -> str:
        """All of it in one text: tasks of one lane are alike for the dispatcher."""
        return (
            f"{self.key} cores={self.cores} memory={self.memory_bytes} "
            f"time={self.wall_seconds} tags={','.join(self.tags)}"
        )


def needs_of(manifest: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> Needs:
    """The manifest's needs, each replaced by the task's `own` where that names one; tags add up. Who names a
    container image needs a worker that runs them.

    Raises pydantic's `ValidationError` for an `own` that the manifest could not have said either.
    """
    given = dict(manifest.get("needs") or {})
    asked = ManifestNeeds.model_validate({**given, **(own or {})})
    tags: Sequence[str] = [*given.get("tags", []), *(own or {}).get("tags", [])]
    images = [IMAGES_TAG] if (manifest.get("environment") or {}).get("image") else []
    return Needs(
        key=str(manifest["key"]),
        cores=asked.cores,
        memory_bytes=asked.memory_bytes,
        wall_seconds=asked.wall_seconds,
        tags=tuple(sorted({*tags, *images})),
    )
