"""What the API takes and tells of saved settings."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from labfleet.jobs import analyses
from labfleet.jobs.spec import TARGET, Label, Name, Priority
from labfleet.web.api.schemas import In, Out, PageQuery

SavedSweep = Annotated[
    dict[Annotated[str, Field(pattern=TARGET.pattern)], Annotated[list[Any], Field(min_length=1)]],
    Field(max_length=20),
]
"""Several values, as the `grid` of a job's sweep: by `parameters.NAME` or `inputs.SLOT`."""


class AnalysisIn(In):
    """Settings to be kept: a protocol (its newest version, where none is named) with parameters, inputs, and
    in `sweep` several values of some of them, as the `grid` of a job's sweep."""

    name: Annotated[str, Field(min_length=1, max_length=analyses.MAX_NAME)]
    protocol: Name
    version: Name | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, uuid.UUID] = Field(default_factory=dict)
    sweep: SavedSweep = Field(default_factory=dict)


class Analysis(Out):
    """Saved settings. `address` opens them in a browser, for whoever may see their protocol and data."""

    id: uuid.UUID
    name: str
    owner: str
    protocol: str
    version: str
    parameters: dict[str, Any]
    inputs: dict[str, uuid.UUID]
    sweep: dict[str, list[Any]]
    address: str
    may_delete: bool
    created_at: datetime


class Analyses(Out):
    """A page of your saved settings, newest first; `next` goes into `after`."""

    items: list[Analysis]
    next: uuid.UUID | None


class AnalysesQuery(PageQuery):
    """Which page, and of which protocol."""

    protocol: Name | None = None


class AnalysisRun(In):
    """What the job of saved settings is to be: values that take the place of those that were saved, and what
    is said of the job, as when it is submitted. Its label is their name, where none is given."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, uuid.UUID] = Field(default_factory=dict)
    label: Annotated[str, Field(max_length=200)] | None = None
    labels: Annotated[list[Label], Field(max_length=20)] = Field(default_factory=list)
    note: Annotated[str, Field(max_length=10_000)] = ""
    priority: Priority = 0
    hold: bool = False
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)] | None = None
    mail: bool | None = None
