"""What the API takes and tells of sources and their fetches."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from labfleet.sources.spec import Definition
from labfleet.web.api.schemas import In, Out, People

FetchState = Literal["queued", "running", "success", "failed", "cancelled"]
SourceName = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=10_000)]
Lifetime = Annotated[int, Field(ge=0, le=10 * 366 * 86400)]


Credentials = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], SecretStr],
    Field(max_length=20, json_schema_extra={"writeOnly": True}),
]


class SourceIn(In):
    """A new source: where data is, and what is made of it. `lifetime_seconds`: for how long what was fetched
    is good; the lab's own value where it is left out. `credentials`: what the source shows to where it
    fetches from, as its handler wants it; they are never told again."""

    name: SourceName
    description: Description = ""
    definition: Definition
    lifetime_seconds: Lifetime | None = None
    credentials: Credentials | None = None


class ImportIn(In):
    """A protocol in a git repository. `branch`: the repository's default branch where it is left out; `tags`:
    also earlier versions, by their tags; `rewrite`: also where the branch does not go on from what was
    imported before. `credentials` (`user`, `password`, which may be an access token) are kept, sealed, for
    the next import of the same address; without them those of the last one count, `{}` takes them away."""

    url: Annotated[str, Field(min_length=8, max_length=2000)]
    branch: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    tags: bool = True
    rewrite: bool = False
    credentials: Credentials | None = None


class SourceChange(In):
    """What to change of a source; what is left out stays. Another definition makes what was fetched stale.
    `credentials` take the place of those that there are, `{}` takes them away. Where the definition leads
    elsewhere, they have to be given again."""

    name: SourceName | None = None
    description: Description | None = None
    definition: Definition | None = None
    lifetime_seconds: Lifetime | None = None
    credentials: Credentials | None = None


class Fetch(Out):
    """One time that a source is fetched. `changed`: whether something new came; else the dataset is the one
    that was there. `message` says what went wrong, and of a good one what was noticed. Of a source that
    brings a protocol `protocol` is its name, and `progress_text` in the end says which versions are new."""

    id: uuid.UUID
    source: uuid.UUID
    state: FetchState
    progress: float
    progress_text: str
    message: str
    tries: int
    rows: int | None
    bytes: int | None
    dataset: uuid.UUID | None
    protocol: str | None
    changed: bool
    asked_by: str | None
    may_cancel: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Fetches(Out):
    """The last fetches of a source, newest first."""

    items: list[Fetch]
    next: None = None


class DataSource(Out):
    """Where data comes from. `dataset` is what was made of it last (`protocol`, where it brings a protocol),
    `fetch` how its last fetch went,
    `good_until` until when that is not fetched again. `credentials` are the names of those that it has (their
    values are told to nobody), given at `credentials_at`. `shared_with` is told to who may change it."""

    id: uuid.UUID
    name: str
    owner: str
    description: str
    definition: dict[str, Any]
    lifetime_seconds: int
    dataset: uuid.UUID | None
    protocol: str | None
    fetch: Fetch | None
    good_until: datetime | None
    credentials: list[str]
    credentials_at: datetime | None
    visibility: Literal["private", "shared", "public"]
    may_change: bool
    shared_with: People | None
    created_at: datetime


class DataSources(Out):
    """The sources that you may see, your own first."""

    items: list[DataSource]
    next: None = None


class SourceHandler(Out):
    """A way to fetch, with the JSON Schemas of its parameters and credentials. Where a parameter of `place`
    changes, credentials have to be given again."""

    name: str
    title: str
    description: str
    parameters: dict[str, Any]
    credentials: dict[str, Any] = Field(default_factory=dict)
    place: list[str] = Field(default_factory=list)


class SourceHandlers(Out):
    """The handlers of this lab. `folders`: below which the handler `folder` takes files."""

    items: list[SourceHandler]
    folders: list[str]
    next: None = None


class FetchIn(In):
    """`anew`: also if what was fetched last is still good."""

    anew: bool = False


class FetchesQuery(In):
    """How many fetches."""

    limit: Annotated[int, Field(ge=1, le=200)] = 20
