"""The bounds of docs/guarantees.md, and how much sooner the test lab must keep those that wait for leases."""

from __future__ import annotations

SOONER = 20
"""By so many seconds the test lab's lease and its patience with unclaimed messages are below the defaults
(inventory/group_vars/labfleet/resilience.yml)."""

FINAL_SECONDS = 60 - SOONER
"""A task is final so long after the repair, however it was hit."""

RESENT_SECONDS = 120 - SOONER
"""All that a broker has lost is sent again, and ends, so long after the broker's repair."""

SUBMIT_SECONDS = 1.0
"""A submission is answered within it, whatever the broker does."""

CANCEL_QUEUED_SECONDS = 1.0
CANCEL_RUNNING_SECONDS = 5.0

MAX_ATTEMPTS = 3
"""Attempts after which a task that fails by the system's fault is given up."""
