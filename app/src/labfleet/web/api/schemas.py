"""What goes in and comes out of the API. Input of users is strict: an unknown field is an error."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labfleet.jobs import spec
from labfleet.jobs.spec import Label, Priority, Source
from labfleet.jobs.states import Failure, Outcome, State
from labfleet.jobs.visible import Whose
from labfleet.search import Kind
from labfleet.users.scopes import Scope

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Amount = Annotated[float, Field(ge=0, le=2**53)]
Environment = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=50)], Annotated[str, Field(max_length=200)]],
    Field(max_length=50),
]
"""What results of a machine depend on: os, kernel, architecture, interpreters and their versions."""
UsedEnvironment = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=50)], Annotated[str, Field(max_length=20_000)]],
    Field(max_length=50),
]
"""The same of one attempt; also the packages of its own environment, in one text."""
PreviewState = Literal["queued", "running", "done", "failed"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _no_count_of_seconds(value: object) -> object:
    """Pydantic reads numbers as seconds since 1970: a year, say, would silently mean an hour of that day."""
    text = value.strip() if isinstance(value, str) else value
    try:
        float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value
    raise ValueError("a date and time is needed, such as 2026-01-31T08:00:00Z")


Moment = Annotated[AwareDatetime, BeforeValidator(_no_count_of_seconds)]
"""A date and time with its zone, in ISO 8601."""


class In(BaseModel):
    """Something that is sent to us."""

    model_config = ConfigDict(extra="forbid")


class FromWorker(BaseModel):
    """Something that a worker of ours sends. One that is a release newer may say more: that is left out."""

    model_config = ConfigDict(extra="ignore")


class Out(BaseModel):
    """Something that we answer."""

    model_config = ConfigDict(from_attributes=True)


Scopes = Annotated[list[Scope], Field(min_length=1, max_length=20)]


class Login(In):
    """A user's name and password, and where he has a second factor a code of it; `name` labels the token.

    Without `scopes` it may do all that the user may.
    """

    user: Name
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    name: Annotated[str, Field(max_length=100)] = "login"
    code: Annotated[str, Field(max_length=64)] | None = None
    scopes: Scopes | None = None


class TokenIn(In):
    """A new token: without `scopes` it may do what yours may, without `days` it is good as long as yours."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    days: Annotated[float, Field(gt=0, le=3650)] | None = None
    scopes: Scopes | None = None


class Token(Out):
    """One of your tokens: what it is for, what it may do, until when."""

    id: uuid.UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class Tokens(Out):
    """Your tokens that are good, the newest first."""

    items: list[Token]


class TokenOut(Out):
    """A new token. It is shown this once."""

    token: str


class Me(Out):
    """Who is asking."""

    id: uuid.UUID
    name: str
    mail: str | None
    is_admin: bool
    created_at: datetime


class BrowserSession(Out):
    """A browser in which you are signed in: what it says it is, and where it was last seen."""

    id: uuid.UUID
    device: str
    agent: str
    address: str
    created_at: datetime
    last_seen_at: datetime


class BrowserSessions(Out):
    """Your sessions, the one that was used last first."""

    items: list[BrowserSession]
    next: None = None


class WebhookSecret(Out):
    """With it you verify who calls your webhooks."""

    secret: str


class People(BaseModel):
    """Users and groups, by name."""

    model_config = ConfigDict(extra="forbid")

    users: Annotated[list[Name], Field(max_length=1000)] = []
    groups: Annotated[list[Name], Field(max_length=1000)] = []


class JobFilter(In):
    """Which jobs; what is left out excludes none. `text` are words of label and note."""

    state: list[State] = []
    in_progress: bool = False
    errored: bool = False
    user: Name | None = None
    protocol: Name | None = None
    dataset: uuid.UUID | None = None
    model: uuid.UUID | None = None
    label: list[Label] = []
    text: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    since: Moment | None = None
    until: Moment | None = None


class JobIn(spec.JobSpec):
    """What to run: one task by its `protocol` (with parameters and inputs), or a `tree` of them."""

    @model_validator(mode="before")
    @classmethod
    def _told_with_places(cls, value: Any) -> Any:
        """Raise `InvalidJob`, which names the places of the document and not those of these classes."""
        spec.read(value)
        return value


class Reason(Out):
    """Why a queued task waits: a stable code, and a sentence."""

    code: str
    message: str


class Task(Out):
    """One run of one protocol version."""

    id: uuid.UUID
    job: uuid.UUID
    name: str
    protocol: str
    version: str
    commit: str
    key: str
    state: State
    ready: bool
    held: bool
    optional: bool
    skipped: bool
    reused_from: uuid.UUID | None
    reason: Reason | None
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
    inputs: dict[str, uuid.UUID | Source]


class Tasks(Out):
    """A page of a job's tasks, in the order of its specification; `next` goes into `after`."""

    items: list[Task]
    next: uuid.UUID | None


class Counts(Out):
    """How many tasks of a job stand where. Skipped ones (an earlier task failed) and forgiven ones
    (optional, and without success) are counted as such and not under their state."""

    total: int
    queued: int
    running: int
    success: int
    failed: int
    partial: int
    inapplicable: int
    cancelled: int
    skipped: int
    forgiven: int


class JobSummary(Out):
    """A job without its tasks. `progress` is the part of its tasks that has ended.

    `note`, `webhook` and `mail` are told to who may change it.
    """

    id: uuid.UUID
    state: State
    label: str
    labels: list[str]
    note: str
    owner: str
    priority: int
    held: bool
    webhook: str | None
    mail: bool | None
    visibility: Literal["private", "shared", "public"]
    may_change: bool
    protocols: list[str]
    progress: float
    counts: Counts
    created_at: datetime
    finished_at: datetime | None


class NodeOut(Out):
    """An inner node of a job's tree; `parent` is the number of the node above."""

    number: int
    parent: int | None
    position: int
    name: str
    kind: str
    on_failure: str
    optional: bool
    state: str
    total: int
    ended: int
    lost: int


class Job(JobSummary):
    """What a user submitted: its tree, and its first tasks (all of them: `GET jobs/<id>/tasks`).

    `shared_with` is told to who may change it.
    """

    shared_with: People | None
    nodes: list[NodeOut]
    tasks: list[Task]


class Jobs(Out):
    """A page of jobs, newest first; `next` goes into `after`."""

    items: list[JobSummary]
    next: uuid.UUID | None


class Lane(Out):
    """Tasks of a dry run that are alike for the dispatcher, and the workers that could take them."""

    key: str
    cores: int
    memory_bytes: int
    wall_seconds: int
    tags: list[str]
    tasks: int
    workers: list[str]


class Misfit(Out):
    """A task whose protocol does not apply to a dataset: which terms it lacks for which input."""

    task: str
    slot: str
    missing: list[str]


class DryRun(Out):
    """What a specification would become. `inapplicable` tasks would end as that before anything runs."""

    tasks: int
    nodes: int
    protocols: list[str]
    lanes: list[Lane]
    names: list[str]
    inapplicable: list[Misfit]


class JobChanges(In):
    """What may change in a job that exists; what is left out stays."""

    label: Annotated[str, Field(max_length=200)] | None = None
    labels: Annotated[list[Label], Field(max_length=20)] | None = None
    note: Annotated[str, Field(max_length=10_000)] | None = None
    priority: Priority | None = None


class Resubmission(In):
    """Fields of the specification that are to differ from the earlier job's."""

    changes: dict[str, Any] = {}


class Bulk(In):
    """A verb for all jobs that a filter finds, oldest first; `dry_run` only counts them."""

    verb: Literal["cancel", "retry", "force-retry", "reset", "hold", "resume", "delete"]
    filter: JobFilter
    dry_run: bool = False


class Refused(Out):
    """A job that a bulk call left as it was, and why."""

    job: uuid.UUID
    code: str
    detail: str


class BulkDone(Out):
    """What a bulk call did. `more` says that it stopped at the limit: call again."""

    matched: int
    done: int
    refused: list[Refused]
    more: bool


class Delivery(Out):
    """A call of a job's webhook."""

    id: uuid.UUID
    url: str
    payload: dict[str, Any]
    created_at: datetime
    tries: int
    next_try_at: datetime
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    given_up_at: datetime | None


class Deliveries(Out):
    """The log of a job's webhook, newest first."""

    items: list[Delivery]
    next: None = None


class Event(Out):
    """Something that happened to a task."""

    id: int
    at: datetime
    event: str
    attempt: int
    from_state: State | None
    to_state: State
    detail: dict[str, Any]


class JobEvent(Event):
    """An event with the task that it happened to."""

    task_id: uuid.UUID


class Timeline(Out):
    """A page of what happened to a job's tasks, in order; `next` goes into `after`."""

    items: list[JobEvent]
    next: int | None


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


class Result(Artifact):
    """An artifact with the name of the task that made it."""

    task_name: str


class Results(Out):
    """A page of a job's artifacts, in the order of its tasks."""

    items: list[Result]
    next: uuid.UUID | None


class Attempt(Out):
    """One try at a task."""

    number: int
    worker: str
    claimed_at: datetime
    ended_at: datetime | None
    outcome: str | None
    exit_code: int | None
    message: str
    usage: dict[str, Any]
    environment: dict[str, Any]


class InputFile(Out):
    """A file that a task took."""

    slot: str
    name: str
    media_type: str
    sha256: Sha256
    size: int


class Provenance(Out):
    """Where a task's result came from."""

    task: Task
    inputs: list[InputFile]
    attempts: list[Attempt]
    artifacts: list[Artifact]


class Artifacts(Out):
    """The artifacts of a task's current attempt."""

    items: list[Artifact]
    next: None = None


class Version(Out):
    """One version of a protocol."""

    version: str
    commit: str
    created_at: datetime


class SelfTestIn(In):
    """`version`: by its name or commit; the newest where it is left out."""

    version: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class SelfTest(Out):
    """How a version fared when it was tried as its `protocol.yml` says. `lines` say what did not come as it
    should; `job` is the job that tried it, null where it was deleted since."""

    id: uuid.UUID
    version: str
    commit: str
    state: Literal["running", "passed", "failed"]
    lines: list[str]
    job: uuid.UUID | None
    asked_by: str | None
    created_at: datetime
    finished_at: datetime | None


class SelfTests(Out):
    """The last self-test of each version of a protocol that has one, newest version first."""

    items: list[SelfTest]
    next: None = None


class Protocol(Out):
    """A protocol and its versions, newest first.

    `owner` is null for the lab's own, which admins keep; `shared_with` is told to who may change it.
    """

    name: str
    title: str
    description: str
    owner: str | None
    visibility: Literal["private", "shared", "public"]
    may_change: bool
    shared_with: People | None
    stored_bytes: int
    versions: list[Version]


class ProtocolQuery(In):
    """Which protocols: each word of `text` is in a name, title or description."""

    text: Annotated[str, Field(max_length=200)] = ""


class NewOwner(In):
    """Who gets a protocol."""

    user: Name


class KeptVersion(Out):
    """A version that was sent; `created` is false when it was there with the same content."""

    protocol: str
    version: str
    commit: str
    created: bool


class Versions(Out):
    """The versions of a protocol, newest first."""

    items: list[Version]
    next: None = None


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
    environment: dict[str, Any]


class CompareQuery(In):
    """Two versions, by name or commit; `head` is the newest if it is left out."""

    base: Name
    head: Name | None = None


class InterfaceChange(Out):
    """A part of the interface that is not the same; null where it is not there."""

    path: str
    before: Any
    after: Any


class FileChange(Out):
    """A file that is not the same. Lines are null for one that is not text, the patch for one not shown."""

    path: str
    earlier_path: str | None
    status: Literal["added", "removed", "changed", "renamed"]
    added: int | None
    removed: int | None
    patch: str | None


class Comparison(Out):
    """What differs between two versions of a protocol."""

    protocol: str
    base: Version
    head: Version
    interface: list[InterfaceChange]
    files: list[FileChange]


class KeptInterface(Interface):
    """The interface of a version that is kept. `tree` is git's name for its files, whatever the commit."""

    tree: str


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
    """An immutable file, and what is told about it.

    Versions of one dataset have the same `series` and numbers from 1; `previous` is the one before.
    `preview` is the state of its preview, null where none is made. `shared_with` is told to who may change
    it.
    """

    id: uuid.UUID
    name: str
    media_type: str
    size: int
    sha256: Sha256
    owner: str
    description: str
    licence: str
    labels: list[str]
    terms: list[str]
    series: uuid.UUID
    version: int
    previous: uuid.UUID | None
    preview: PreviewState | None
    visibility: Literal["private", "shared", "public"]
    may_change: bool
    shared_with: People | None
    created_at: datetime


class Datasets(Out):
    """A page of datasets, newest first; `next` goes into `after`."""

    items: list[Dataset]
    next: uuid.UUID | None


class Facet(Out):
    """A value, and how many of what was found have it."""

    value: str
    count: int


class Facets(Out):
    """The most frequent values among the datasets that a search finds."""

    labels: list[Facet]
    terms: list[Facet]
    licences: list[Facet]


class Found(Out):
    """Something that a search has found: `id` is what other calls take (a protocol's name, a dataset's or a
    job's id), `text` the beginning of what is told about it. A result's terms are those of its data."""

    kind: Kind
    id: str
    name: str
    text: str
    owner: str | None
    labels: list[str]
    terms: list[str]
    licence: str | None
    formats: list[str]
    protocols: list[str]
    state: State | None
    created_at: datetime


class FoundPage(Out):
    """What was found: first what has all the words in its name, then the newest."""

    items: list[Found]
    next: str | None


class SearchFacets(Out):
    """The most frequent values among what a search finds. `kind` counts every kind, whichever was asked for.
    Of each kind the newest 10,000 are counted."""

    kind: list[Facet]
    term: list[Facet]
    label: list[Facet]
    format: list[Facet]
    protocol: list[Facet]
    licence: list[Facet]
    owner: list[Facet]


class Preview(Out):
    """What is shown of a dataset that is a table, once its state is `done`; `message` says why there is none.

    `result` has `rows`, `columns_total`, the first `columns` (name, type, missing, distinct; of numbers
    least, greatest, mean, median and a histogram of 20 equal bins; of others the most frequent values),
    `head` (first rows) and, of text, encoding, separator, header, notes, and the lines that were `rejected`
    and why.
    """

    state: PreviewState | None
    message: str
    result: dict[str, Any] | None
    finished_at: datetime | None


class Worker(Out):
    """What a worker last said of itself; bytes for memory and disk.

    `away`: it has been silent for too long. `taken`: how many tasks were given to it or run there.
    """

    name: str
    keys: list[str]
    slots: int
    free_slots: int
    cores: int
    load1: float
    memory_total: int
    memory_free: int
    disk_free: int
    version: str
    tags: list[str]
    stopping: bool
    draining: bool
    away: bool
    taken: int
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


def _listed(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class JobsQuery(JobFilter, PageQuery):
    """Which page of which jobs; several states or labels stand with commas between them.

    `whose`: your own (`mine`), those of others that are `shared` with you, those that are `public`, or `all`
    that you may look at. Without it your own; for an admin everybody's.
    """

    whose: Whose | None = None
    state: Annotated[list[State], BeforeValidator(_listed)] = []
    label: Annotated[list[Label], BeforeValidator(_listed)] = []


class TasksQuery(PageQuery):
    """Which page of a job's tasks."""

    state: State | None = None


class TimelineQuery(In):
    """Which page of a job's events."""

    limit: Annotated[int, Field(ge=1, le=2**31)] = 200
    after: Annotated[int, Field(ge=0, le=2**53)] | None = None


class SubmitQuery(In):
    """`dry_run`: say what would run, and make no job."""

    dry_run: bool = False


class VersionQuery(In):
    """Which version; the newest where it is left out."""

    version: Name | None = None


class LogQuery(In):
    """Where to read a log from (bytes), and of which attempt; the current one where it is left out."""

    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    attempt: Annotated[int, Field(ge=1, le=10**9)] | None = None


class DatasetAbout(In):
    """What is told about a dataset; what is left out stays. Labels are words to find it by, terms say what it
    has (of an ontology, or your own)."""

    description: Annotated[str, Field(max_length=10_000)] | None = None
    licence: Annotated[str, Field(max_length=200)] | None = None
    labels: Annotated[list[Label], Field(max_length=20)] | None = None
    terms: Annotated[list[Label], Field(max_length=100)] | None = None

    def given(self) -> dict[str, Any]:
        """What is said, without what is left out."""
        return {key: value for key in DatasetAbout.model_fields if (value := getattr(self, key)) is not None}


class DatasetQuery(DatasetAbout):
    """The name of the new dataset, and what is told about it; several labels or terms stand with commas
    between them. With `previous` it is the next version of that dataset, and tells what that one told unless
    you say other."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    previous: uuid.UUID | None = None
    labels: Annotated[list[Label] | None, BeforeValidator(_listed), Field(max_length=20)] = None
    terms: Annotated[list[Label] | None, BeforeValidator(_listed), Field(max_length=100)] = None


class DatasetFilter(In):
    """Which datasets; several labels or terms stand with commas between them, and a dataset has all of them.
    `text` are words of name, description and licence, or one label or term as a whole."""

    text: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    labels: Annotated[list[Label], BeforeValidator(_listed)] = []
    terms: Annotated[list[Label], BeforeValidator(_listed)] = []
    licence: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    mine: bool = False


class DatasetsQuery(DatasetFilter, PageQuery):
    """Which page of which datasets."""


class SearchFilter(In):
    """What is looked for; several kinds, terms or labels stand with commas between them. Each word of `text`
    must be there or one that begins so, each term and label as a whole. `format` is how a dataset's name
    ends, or what a protocol takes; `protocol` is what a result was made by."""

    text: Annotated[str, Field(max_length=200)] = ""
    kind: Annotated[list[Kind], BeforeValidator(_listed), Field(max_length=3)] = []
    term: Annotated[list[Label], BeforeValidator(_listed), Field(max_length=20)] = []
    label: Annotated[list[Label], BeforeValidator(_listed), Field(max_length=20)] = []
    format: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    protocol: Name | None = None
    licence: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    owner: Name | None = None


class SearchQuery(SearchFilter):
    """Which page of what was found."""

    limit: Annotated[int, Field(ge=1, le=2**31)] = 20
    after: Annotated[str, Field(max_length=200)] | None = None


class ClaimIn(FromWorker):
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
    environment: dict[str, Any]


class ClaimedInput(Out):
    """A file to fetch."""

    slot: str
    name: str
    sha256: Sha256
    size: int


class ClaimLimits(Out):
    """What the attempt may use."""

    wall_seconds: int
    cpu_seconds: int
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


class HeartbeatIn(FromWorker):
    """How far it is."""

    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    progress_text: Annotated[str, Field(max_length=2000)] | None = None


class Heartbeat(Out):
    """The lease is extended; `cancel` asks to stop."""

    lease_seconds: float
    cancel: bool


class AppendQuery(FromWorker):
    """Where the piece belongs (bytes)."""

    offset: Annotated[int, Field(ge=0, le=2**53)]


class Appended(Out):
    """How long the log is now (bytes)."""

    size: int


class ArtifactQuery(FromWorker):
    """What the file is: its kind and the output that declares it."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "text"
    output: Annotated[str, Field(max_length=100)] | None = None


class FinishIn(FromWorker):
    """How the attempt ended."""

    outcome: Outcome
    failure: Failure | None = None
    exit_code: Annotated[int, Field(strict=True, ge=-(2**31), le=2**31)] | None = None
    message: Annotated[str, Field(max_length=100_000)] = ""
    usage: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$")], Amount] = {}
    environment: UsedEnvironment = {}


class Finished(Out):
    """What became of the task."""

    state: State
    attempt: int


class PresenceIn(FromWorker):
    """A worker's report."""

    keys: Annotated[list[Name], Field(max_length=1000)]
    slots: Count
    free_slots: Count
    cores: Count
    load1: Annotated[float, Field(ge=0, le=1e9)]
    memory_total: Count = 0
    memory_free: Count
    disk_free: Count
    version: Annotated[str, Field(max_length=100)]
    tags: Annotated[list[Name], Field(max_length=100)] = []
    stopping: bool = False
    environment: Environment = {}


class Seen(Out):
    """The report was noted. `draining`: take nothing more from the queues of your keys."""

    name: str
    draining: bool = False
