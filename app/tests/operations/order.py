"""Tests that follow each other on one lab, where other tests are shuffled."""

from __future__ import annotations

from pathlib import Path

import pytest


def keep_order(items: list[pytest.Item], folder: Path, *files: str) -> None:
    """Put the items of the folder, wherever they stand, in the order of its `files` and of their lines."""
    places = [place for place, item in enumerate(items) if item.path.parent == folder]
    ordered = sorted(
        (items[place] for place in places),
        key=lambda item: (files.index(item.path.stem), item.reportinfo()[1] or 0),
    )
    for place, item in zip(places, ordered, strict=True):
        items[place] = item
