"""What goes in and comes out of the API. Input is strict: an unknown field is an error."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from labfleet.jobs.states import Failure, Outcome, State

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class In(BaseModel):
    """Something that is sent to us."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    """Something that we answer."""

    model_config = ConfigDict(from_attributes=True)


class Login(In):
    """A user's name and password; `name` labels the token."""

    user: Name
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    name: Annotated[str, Field(max_length=100)] = "login"


class TokenOut(Out):
    """A new token. It is shown this once."""

    token: str


class Me(Out):
    """Who is asking."""

    id: uuid.UUID
    name: str
    is_admin: bool
    created_at: datetime


class JobIn(In):
    """What to run: parameters by name, inputs as slot → dataset id."""

    protocol: Name
    version: Name | None = None
    parameters: dict[str, Any] = {}
    inputs: dict[str, uuid.UUID] = {}
    label: Annotated[str, Field(max_length=200)] = ""


class Task(Out):
    """One run of one protocol version."""

    id: uuid.UUID
    job: uuid.UUID
    protocol: str
    version: str
    commit: str
    key: str
    state: State
    failure: Failure | None
    message: str
    attempt: int
    max_attempts: int
    progress: float
    progress_text: str
    worker: str | None
    exit_code: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    parameters: dict[str, Any]
    inputs: dict[str, uuid.UUID]


class Job(Out):
    """What a user submitted."""

    id: uuid.UUID
    state: State
    label: str
    owner: str
    created_at: datetime
    finished_at: datetime | None
    tasks: list[Task]


class Jobs(Out):
    """A page of jobs, newest first; `next` goes into `after`."""

    items: list[Job]
    next: uuid.UUID | None


class Event(Out):
    """Something that happened to a task."""

    id: int
    at: datetime
    event: str
    attempt: int
    from_state: State | None
    to_state: State
    detail: dict[str, Any]


class Events(Out):
    """All events of a task, in order."""

    items: list[Event]
    next: None = None


class Artifact(Out):
    """A result file."""

    id: uuid.UUID
    task: uuid.UUID
    name: str
    kind: str
    media_type: str
    size: int
    sha256: Sha256


class Artifacts(Out):
    """The artifacts of a task's current attempt."""

    items: list[Artifact]
    next: None = None


class Version(Out):
    """One version of a protocol."""

    version: str
    commit: str
    created_at: datetime


class Protocol(Out):
    """A protocol and its versions, newest first."""

    name: str
    title: str
    description: str
    versions: list[Version]


class Protocols(Out):
    """All protocols."""

    items: list[Protocol]
    next: None = None


class Interface(Out):
    """What a protocol version wants and leaves."""

    name: str
    version: str
    commit: str
    title: str
    description: str
    key: str
    parameters: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    needs: dict[str, Any]


class CheckProblem(Out):
    """A fault of a protocol."""

    file: str
    line: int | None
    code: str
    message: str
    hint: str


class Check(Out):
    """What is said of a protocol; `ok` means that it can be used."""

    ok: bool
    files: int
    problems: list[CheckProblem]
    interface: dict[str, Any] | None


class Dataset(Out):
    """An immutable file."""

    id: uuid.UUID
    name: str
    media_type: str
    size: int
    sha256: Sha256
    created_at: datetime


class Datasets(Out):
    """A page of datasets, newest first; `next` goes into `after`."""

    items: list[Dataset]
    next: uuid.UUID | None


class Worker(Out):
    """What a worker last said of itself; bytes for memory and disk."""

    name: str
    keys: list[str]
    slots: int
    free_slots: int
    cores: int
    load1: float
    memory_free: int
    disk_free: int
    version: str
    last_seen: datetime


class Workers(Out):
    """All workers that ever reported."""

    items: list[Worker]
    next: None = None


class Health(Out):
    """The process is alive."""

    status: str
    version: str


class Ready(Out):
    """Whether the parts that are needed answer."""

    ready: bool
    checks: dict[str, bool]


class PageQuery(In):
    """Which page."""

    limit: Annotated[int, Field(ge=1, le=2**31)] = 50
    after: uuid.UUID | None = None


class JobsQuery(PageQuery):
    """Which jobs."""

    state: State | None = None


class VersionQuery(In):
    """Which version; the newest where it is left out."""

    version: Name | None = None


class LogQuery(In):
    """Where to read a log from (bytes), and of which attempt; the current one where it is left out."""

    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    attempt: Annotated[int, Field(ge=1, le=10**9)] | None = None


class DatasetQuery(In):
    """The name of the new dataset."""

    name: Annotated[str, Field(min_length=1, max_length=255)]


class ClaimIn(In):
    """Who claims; `claim_id` is a random text that makes the call repeatable."""

    worker: Name
    claim_id: Name


class ClaimedProtocol(Out):
    """What to run."""

    name: str
    version: str
    commit: str
    command: list[str]
    outputs: dict[str, dict[str, Any]]
    needs: dict[str, Any]


class ClaimedInput(Out):
    """A file to fetch."""

    slot: str
    name: str
    sha256: Sha256
    size: int


class ClaimLimits(Out):
    """What the attempt may use."""

    wall_seconds: int
    memory_bytes: int
    log_bytes: int
    output_bytes: int
    processes: int


class Claim(Out):
    """All that a worker needs to run the attempt."""

    lease_seconds: float
    heartbeat_seconds: float
    protocol: ClaimedProtocol
    parameters: dict[str, Any]
    inputs: list[ClaimedInput]
    limits: ClaimLimits


class HeartbeatIn(In):
    """How far it is."""

    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    progress_text: Annotated[str, Field(max_length=2000)] | None = None


class Heartbeat(Out):
    """The lease is extended; `cancel` asks to stop."""

    lease_seconds: float
    cancel: bool


class AppendQuery(In):
    """Where the piece belongs (bytes)."""

    offset: Annotated[int, Field(ge=0, le=2**53)]


class Appended(Out):
    """How long the log is now (bytes)."""

    size: int


class ArtifactQuery(In):
    """What the file is: its kind and the output that declares it."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "text"
    output: Annotated[str, Field(max_length=100)] | None = None


class FinishIn(In):
    """How the attempt ended."""

    outcome: Outcome
    failure: Failure | None = None
    exit_code: Annotated[int, Field(strict=True, ge=-(2**31), le=2**31)] | None = None
    message: Annotated[str, Field(max_length=100_000)] = ""


class Finished(Out):
    """What became of the task."""

    state: State
    attempt: int


class PresenceIn(In):
    """A worker's report."""

    keys: Annotated[list[Name], Field(max_length=1000)]
    slots: Count
    free_slots: Count
    cores: Count
    load1: Annotated[float, Field(ge=0, le=1e9)]
    memory_free: Count
    disk_free: Count
    version: Annotated[str, Field(max_length=100)]


class Seen(Out):
    """The report was noted."""

    name: str
