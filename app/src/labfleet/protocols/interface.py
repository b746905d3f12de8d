"""A protocol's interface: what a person or a program must know to use it."""

from __future__ import annotations

from typing import Any

from labfleet.protocols.manifest import Manifest


def interface_of(manifest: Manifest) -> dict[str, Any]:
    """The interface as plain JSON values; `parameters` is a JSON Schema, needs are bytes and seconds."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "description": manifest.description,
        "key": manifest.key,
        "parameters": manifest.parameters,
        "inputs": {slot: item.model_dump(mode="json") for slot, item in manifest.inputs.items()},
        "outputs": {name: item.model_dump(mode="json") for name, item in manifest.outputs.items()},
        "needs": {
            "cores": manifest.needs.cores,
            "memory_bytes": manifest.needs.memory_bytes,
            "wall_seconds": manifest.needs.wall_seconds,
            "packages": list(manifest.needs.packages),
            "tags": list(manifest.needs.tags),
        },
        "environment": manifest.environment.model_dump(mode="json"),
    }
