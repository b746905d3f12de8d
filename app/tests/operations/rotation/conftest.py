"""Fixtures of the rotation tests."""

from __future__ import annotations

from acceptance.conftest import deployed, lab, nobody, webserver, worker  # noqa: F401  (fixtures)

from operations.update.conftest import database, user  # noqa: F401  (fixtures)
