"""The tables as typed classes; the migrations make them, and a test holds the two together.

Rows keep states as plain text (`labfleet.jobs.states` gives them meaning). All times come from
the database's clock and are aware.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    func,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    declared_attr,
    mapped_column,
    relationship,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

NOW = text("clock_timestamp()")
NEW_ID = text("gen_random_uuid()")
WORDS = text("to_tsvector('simple'::regconfig, (label || ' '::text) || note)")
DATASET_WORDS = text(
    "to_tsvector('simple'::regconfig, (((translate(name, '._-'::text, '   '::text) || ' '::text)"
    " || description) || ' '::text) || licence)"
)
# What a search looks through beside these (`labfleet.search`); `labfleet_joined` is our own function.
PROTOCOL_WORDS = text(
    "to_tsvector('simple'::regconfig, (((((translate(name, '._-'::text, '   '::text) || ' '::text) || title)"
    " || ' '::text) || description) || ' '::text) || labfleet_joined(terms))"
)
DATASET_LABELS = text(
    "to_tsvector('simple'::regconfig, (labfleet_joined(labels) || ' '::text) || labfleet_joined(terms))"
)
JOB_LABELS = text(
    "to_tsvector('simple'::regconfig, (labfleet_joined(labels) || ' '::text) || labfleet_joined(protocols))"
)
STATES = "('queued','running','success','failed','partial','inapplicable','cancelled')"

SCOPES = "'{read,jobs,data,protocols,account,admin}'::text[]"


class Base(DeclarativeBase):
    """Column types by annotation: str is text, int is bigint, datetime is timestamptz."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class Group(Base):
    """Users that share a quota; None is no limit. What is stored: datasets, artifacts and protocols."""

    __tablename__ = "groups"
    __table_args__ = (CheckConstraint("max_running > 0 AND max_cores > 0", name="quota"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    max_running: Mapped[int | None]
    max_cores: Mapped[int | None]
    max_stored_bytes: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class User(Base):
    """Somebody who may sign in. `weight` is the part that fair share gives; quotas are as a group's."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("weight > 0", name="weight"),
        CheckConstraint("max_running > 0 AND max_cores > 0", name="quota"),
        CheckConstraint("job_mails IN ('never','each','digest')", name="job_mails"),
        Index("uq_users_mail", text("lower(mail)"), unique=True),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    group_name: Mapped[str | None] = mapped_column(ForeignKey("groups.name", ondelete="SET NULL"))
    weight: Mapped[float] = mapped_column(server_default=text("1"))
    max_priority: Mapped[int] = mapped_column(server_default=text("0"))
    max_running: Mapped[int | None]
    max_cores: Mapped[int | None]
    max_stored_bytes: Mapped[int | None]
    # An address that is known to be theirs: it stands here when a link that was sent there has been followed.
    mail: Mapped[str | None]
    # On which ends of jobs they want mails.
    job_mails: Mapped[str] = mapped_column(server_default="never")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    disabled_at: Mapped[datetime | None]


class Token(Base):
    """A user's API token; only its SHA-256 is kept. `scopes` say what it may do (`users/scopes.py`)."""

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint(f"scopes <@ {SCOPES} AND cardinality(scopes) > 0", name="scopes"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    # The default is that of older code, which asks for none: tokens that may do everything.
    scopes: Mapped[list[str]] = mapped_column(server_default=text(SCOPES))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class WebSession(Base):
    """A browser in which a user is signed in; of its key only the SHA-256 is kept."""

    __tablename__ = "sessions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    hash: Mapped[str] = mapped_column(unique=True)
    address: Mapped[str]
    agent: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=NOW, index=True)
    # Whether it was begun by single sign-on, not by a password.
    by_provider: Mapped[bool] = mapped_column(server_default=text("false"))

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class UserIdentity(Base):
    """Who a user is at a provider of sign-ins: `subject` of `issuer`, and never a mail address."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), UniqueConstraint("user_id", "issuer"))

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str]
    subject: Mapped[str]
    # What it was called there last, for people to know it again.
    name: Mapped[str]
    # Whether the user is an admin because the provider says so, and only as long as it does.
    gives_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class SecondFactor(Base):
    """A user's one-time passwords; on with `confirmed_at`. `last_step` is the latest that was taken.

    `secret` is sealed (`users/second_factor.py`) by the key of the name `key`; without one it is plain.
    """

    __tablename__ = "second_factors"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str]
    key: Mapped[str | None]
    last_step: Mapped[int] = mapped_column(server_default=text("0"))
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    confirmed_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """Opens once in place of a one-time password; only its SHA-256 is kept."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("second_factors.user_id", ondelete="CASCADE"), primary_key=True
    )
    hash: Mapped[str] = mapped_column(primary_key=True)
    used_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what; rows are added by `users.audit` and never changed. Names as they were then."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_actor_id", "actor", "id"),
        Index("ix_audit_subject_id", "subject", "id"),
        Index("ix_audit_action_id", "action", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor_id: Mapped[uuid.UUID | None]
    actor: Mapped[str]
    via: Mapped[str]
    address: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Protocol(Base):
    """A protocol; its code lies in the git repository of its name.

    One without an owner is the lab's own. `public` is for everybody; else the owner and whom it is shared
    with see it. `stored_bytes` is what its repository takes; `terms` and `formats` are what the newest
    version's inputs want.
    """

    __tablename__ = "protocols"
    __table_args__ = (
        Index("ix_protocols_search", PROTOCOL_WORDS, postgresql_using="gin"),
        Index("ix_protocols_terms", "terms", postgresql_using="gin"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    name: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    public: Mapped[bool] = mapped_column(server_default=text("true"))
    stored_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    title: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    terms: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    formats: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    versions: Mapped[list[ProtocolVersion]] = relationship(
        back_populates="protocol", order_by="ProtocolVersion.created_at.desc()"
    )
    owner: Mapped[User | None] = relationship()
    shares: Mapped[list[ProtocolShare]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class _Share:
    """With whom something of somebody is shared: a user, or a group."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    group_name: Mapped[str | None] = mapped_column(ForeignKey("groups.name", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    @declared_attr
    @classmethod
    def user(cls) -> Mapped[User | None]:
        """The user, where it is one."""
        return relationship()


def _one_each(thing: str) -> tuple[CheckConstraint, UniqueConstraint, UniqueConstraint]:
    """Either a user or a group, and each once for a thing."""
    return (
        CheckConstraint("(user_id IS NULL) <> (group_name IS NULL)", name="one"),
        UniqueConstraint(thing, "user_id"),
        UniqueConstraint(thing, "group_name"),
    )


class ProtocolShare(_Share, Base):
    """A user, or a group, that may see and use a protocol of somebody else."""

    __tablename__ = "protocol_shares"
    __table_args__ = _one_each("protocol_id")

    protocol_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("protocols.id", ondelete="CASCADE"))


class ProtocolVersion(Base):
    """One commit of a protocol, with its manifest as it stands in `protocol.yml`."""

    __tablename__ = "protocol_versions"
    __table_args__ = (
        UniqueConstraint("protocol_id", "version"),
        CheckConstraint("commit ~ '^[0-9a-f]{40}$'", name="commit"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    protocol_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("protocols.id"))
    commit: Mapped[str]
    version: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    protocol: Mapped[Protocol] = relationship(back_populates="versions", lazy="joined", innerjoin=True)


class SelfTest(Base):
    """One time that a version was tried as its manifest says: a job, and what was found in its results.

    `lines` say what did not come as it should. The job may be deleted; the verdict stays.
    """

    __tablename__ = "self_tests"
    __table_args__ = (
        CheckConstraint("state IN ('running','passed','failed')", name="state"),
        Index("ix_self_tests_version_created_at", "protocol_version_id", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    protocol_version_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("protocol_versions.id", ondelete="CASCADE")
    )
    job_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    asked_by: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(server_default="running")
    lines: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]

    version: Mapped[ProtocolVersion] = relationship()
    asker: Mapped[User | None] = relationship()


class Blob(Base):
    """A file of the content-addressed store. `created_at`: when it was last stored; `unwanted_since`: when
    the sweep found that nothing points to it any more."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    unwanted_since: Mapped[datetime | None]


class Dataset(Base):
    """An immutable file that somebody uploaded. What is told about it may change.

    `public` is for everybody; else the owner and whom it is shared with see it. Versions of one dataset have
    a `series_id`, and numbers from 1; `previous_id` is the one before.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("series_id", "version"),
        CheckConstraint("version >= 1", name="version"),
        Index("ix_datasets_owner_id_created_at_id", "owner_id", "created_at", "id"),
        Index("ix_datasets_created_at_id", "created_at", "id"),
        Index("ix_datasets_sha256", "sha256"),
        Index("ix_datasets_previous_id", "previous_id"),
        Index("ix_datasets_labels", "labels", postgresql_using="gin"),
        Index("ix_datasets_terms", "terms", postgresql_using="gin"),
        Index("ix_datasets_words", DATASET_WORDS, postgresql_using="gin"),
        Index("ix_datasets_search", DATASET_LABELS, postgresql_using="gin"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    media_type: Mapped[str] = mapped_column(server_default="application/octet-stream")
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size: Mapped[int]
    description: Mapped[str] = mapped_column(server_default="")
    licence: Mapped[str] = mapped_column(server_default="")
    labels: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    terms: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    series_id: Mapped[uuid.UUID] = mapped_column(server_default=NEW_ID)
    version: Mapped[int] = mapped_column(server_default=text("1"))
    previous_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    public: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    owner: Mapped[User] = relationship()
    shares: Mapped[list[DatasetShare]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class DatasetShare(_Share, Base):
    """A user, or a group, that may see and use a dataset of somebody else."""

    __tablename__ = "dataset_shares"
    __table_args__ = _one_each("dataset_id")

    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))


class Preview(Base):
    """What is shown of a dataset that is a table; made by `labfleet data`, which takes one at a time."""

    __tablename__ = "previews"
    __table_args__ = (
        CheckConstraint("state IN ('queued','running','done','failed')", name="state"),
        Index("ix_previews_due_at", "due_at", postgresql_where=text("state IN ('queued','running')")),
    )

    dataset_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(server_default="queued")
    # When it may be taken; while it runs, when whoever took it is believed to be gone.
    due_at: Mapped[datetime] = mapped_column(server_default=NOW)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    message: Mapped[str] = mapped_column(server_default="")
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]


class SourceHandler(Base):
    """A way to fetch, as the fetcher of this lab describes it: title, description, schemas."""

    __tablename__ = "source_handlers"

    name: Mapped[str] = mapped_column(primary_key=True)
    described: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Source(Base):
    """Where data comes from: a handler, its parameters, and what is made of it (`labfleet.sources.spec`).

    `public` is for everybody; else the owner and whom it is shared with see and fetch it. `dataset_id` is
    what was made of it last, `protocol_id` the protocol of one that brings a protocol.
    """

    __tablename__ = "sources"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint("lifetime_seconds >= 0", name="lifetime_seconds"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    definition: Mapped[dict[str, Any]]
    lifetime_seconds: Mapped[int]
    dataset_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("datasets.id", ondelete="SET NULL"), index=True
    )
    protocol_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("protocols.id", ondelete="SET NULL"), index=True
    )
    public: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    # What was fetched before is not good any more.
    changed_at: Mapped[datetime] = mapped_column(server_default=NOW)

    owner: Mapped[User] = relationship()
    dataset: Mapped[Dataset | None] = relationship()
    protocol: Mapped[Protocol | None] = relationship()
    shares: Mapped[list[SourceShare]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    credentials: Mapped[SourceCredentials | None] = relationship(viewonly=True)


class SourceCredentials(Base):
    """What a source shows to where it fetches from, sealed (`labfleet.sources.vault`)."""

    __tablename__ = "source_credentials"

    source_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sources.id", ondelete="CASCADE"), primary_key=True
    )
    # Read by nobody but the loader.
    sealed: Mapped[str] = mapped_column(deferred=True)
    # Which credentials there are, and what the key is called that has sealed them.
    names: Mapped[list[str]]
    key: Mapped[str]
    set_at: Mapped[datetime] = mapped_column(server_default=NOW)


class SourceShare(_Share, Base):
    """A user, or a group, that may see and fetch a source of somebody else."""

    __tablename__ = "source_shares"
    __table_args__ = _one_each("source_id")

    source_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))


class Fetch(Base):
    """One time that a source is fetched, by `labfleet loader`. A source has one open fetch at most."""

    __tablename__ = "fetches"
    __table_args__ = (
        CheckConstraint("state IN ('queued','running','success','failed','cancelled')", name="state"),
        Index(
            "uq_fetches_open",
            "source_id",
            unique=True,
            postgresql_where=text("state IN ('queued','running')"),
        ),
        Index("ix_fetches_due_at", "due_at", postgresql_where=text("state IN ('queued','running')")),
        Index("ix_fetches_source_id_created_at", "source_id", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    source_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    asked_by: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(server_default="queued")
    # When it may be taken; while it runs, when whoever took it is believed to be gone.
    due_at: Mapped[datetime] = mapped_column(server_default=NOW)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    progress: Mapped[float] = mapped_column(server_default=text("0"))
    progress_text: Mapped[str] = mapped_column(server_default="")
    message: Mapped[str] = mapped_column(server_default="")
    rows: Mapped[int | None]
    bytes: Mapped[int | None]
    dataset_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("datasets.id", ondelete="SET NULL"), index=True
    )
    # Whether there was anything new.
    changed: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    asker: Mapped[User | None] = relationship()


class JobShare(_Share, Base):
    """A user, or a group, that may look at a job of somebody else."""

    __tablename__ = "job_shares"
    __table_args__ = _one_each("job_id")

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))


class Job(Base):
    """What a user submitted. `state` follows from its tasks, of which the row keeps count by state.

    `public` is for everybody to look at; else the owner and whom it is shared with see it
    (`labfleet.jobs.visible`). `tasks_skipped` are those that an earlier failure left without sense,
    `tasks_forgiven` optional ones that ended without success; neither is counted under its state.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        CheckConstraint(f"state IN {STATES}", name="state"),
        Index("ix_jobs_owner_id_created_at_id", "owner_id", "created_at", "id"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
        Index("ix_jobs_state_created_at_id", "state", "created_at", "id"),
        Index("ix_jobs_owner_id_state_created_at_id", "owner_id", "state", "created_at", "id"),
        Index("ix_jobs_protocols", "protocols", postgresql_using="gin"),
        Index("ix_jobs_datasets", "datasets", postgresql_using="gin"),
        Index("ix_jobs_labels", "labels", postgresql_using="gin"),
        Index("ix_jobs_words", WORDS, postgresql_using="gin"),
        Index("ix_jobs_search", JOB_LABELS, postgresql_using="gin"),
        Index("ix_jobs_public_created_at_id", "created_at", "id", postgresql_where=text("public")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    state: Mapped[str] = mapped_column(server_default="queued")
    label: Mapped[str] = mapped_column(server_default="")
    labels: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    note: Mapped[str] = mapped_column(server_default="")
    # As large as a sweep's list of values, and wanted by those who ask for it only.
    spec: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    webhook: Mapped[str | None]
    # Whether its end is worth a mail; None: as its owner has it for all.
    mail: Mapped[bool | None]
    protocols: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    datasets: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    idempotency_key: Mapped[str | None]
    public: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
    tasks_total: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_queued: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_running: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_success: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_failed: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_partial: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_inapplicable: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_cancelled: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_skipped: Mapped[int] = mapped_column(server_default=text("0"))
    tasks_forgiven: Mapped[int] = mapped_column(server_default=text("0"))

    owner: Mapped[User] = relationship()
    shares: Mapped[list[JobShare]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    # For lists, without a row for each share; the dispatcher may not ask. No `EXISTS`: for that all shares
    # may be read at once, and a page has few jobs.
    has_shares: Mapped[bool] = column_property(
        func.coalesce(
            select(true()).where(JobShare.job_id == id).correlate_except(JobShare).limit(1).scalar_subquery(),
            false(),
        ),
        deferred=True,
    )


class Node(Base):
    """An inner node of a job's tree; tasks are its leaves. Numbered from the root (0), parents first:
    the nodes below `number` are those up to `last`."""

    __tablename__ = "nodes"
    __table_args__ = (
        CheckConstraint("kind IN ('sequential','parallel')", name="kind"),
        CheckConstraint("on_failure IN ('stop','continue')", name="on_failure"),
        CheckConstraint("state IN ('waiting','active','ended')", name="state"),
        Index("ix_nodes_job_id_parent_position", "job_id", "parent", "position"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None]
    position: Mapped[int] = mapped_column(server_default=text("0"))
    last: Mapped[int]
    name: Mapped[str] = mapped_column(server_default="")
    kind: Mapped[str]
    on_failure: Mapped[str]
    optional: Mapped[bool] = mapped_column(server_default=text("false"))
    state: Mapped[str] = mapped_column(server_default="waiting")
    total: Mapped[int]
    ended: Mapped[int] = mapped_column(server_default=text("0"))
    lost: Mapped[int] = mapped_column(server_default=text("0"))


class Task(Base):
    """One run of one protocol version. `attempt` is the only attempt whose word counts.

    `ready` says that nothing before it in the tree is open, `placed_on` to which worker the dispatcher has
    given it, `sources` which earlier tasks it takes inputs from. `lane` names what it needs of a worker in
    one text: tasks of one lane are alike for the dispatcher. `sequence` is the order of submission.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("failure IN ('user','system')", name="failure"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
        UniqueConstraint("job_id", "name"),
        Index("ix_tasks_lease_until", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_tasks_dispatched_at", "dispatched_at", postgresql_where=text("state = 'queued'")),
        Index("ix_tasks_job_id_sequence", "job_id", "sequence"),
        Index("ix_tasks_job_id_node_position", "job_id", "node", "position"),
        Index(
            "ix_tasks_waiting",
            "lane",
            "owner_id",
            text("priority DESC"),
            "sequence",
            postgresql_where=text("state = 'queued' AND ready AND NOT held AND placed_on IS NULL"),
        ),
        Index("ix_tasks_not_before", "not_before", postgresql_where=text("not_before IS NOT NULL")),
        Index(
            "ix_tasks_placed",
            "placed_on",
            "owner_id",
            postgresql_where=text("state IN ('queued','running') AND placed_on IS NOT NULL"),
        ),
        Index(
            "ix_tasks_cache_key",
            "cache_key",
            postgresql_where=text("state = 'success' AND cache_key IS NOT NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    sequence: Mapped[int] = mapped_column(Identity(always=True))
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    protocol_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("protocol_versions.id"))
    name: Mapped[str] = mapped_column(server_default="task")
    node: Mapped[int | None]
    position: Mapped[int] = mapped_column(server_default=text("0"))
    ready: Mapped[bool] = mapped_column(server_default=text("true"))
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    optional: Mapped[bool] = mapped_column(server_default=text("false"))
    skipped: Mapped[bool] = mapped_column(server_default=text("false"))
    sources: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    lane: Mapped[str]
    cores: Mapped[int] = mapped_column(server_default=text("1"))
    memory_bytes: Mapped[int]
    wall_seconds: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    placed_on: Mapped[str | None]
    not_before: Mapped[datetime | None]
    cache_key: Mapped[str | None]
    reused_from: Mapped[uuid.UUID | None]
    key: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    inputs: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="queued")
    failure: Mapped[str | None]
    message: Mapped[str] = mapped_column(server_default="")
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    resends: Mapped[int] = mapped_column(server_default=text("0"))
    progress: Mapped[float] = mapped_column(server_default=text("0"))
    progress_text: Mapped[str] = mapped_column(server_default="")
    worker: Mapped[str | None]
    exit_code: Mapped[int | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    lease_until: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    job: Mapped[Job] = relationship()
    protocol_version: Mapped[ProtocolVersion] = relationship()


class Attempt(Base):
    """One try on one worker; the row begins with the claim."""

    __tablename__ = "attempts"

    task_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker: Mapped[str]
    claim_id: Mapped[str]
    claimed_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    exit_code: Mapped[int | None]
    message: Mapped[str] = mapped_column(server_default="")
    log_size: Mapped[int] = mapped_column(server_default=text("0"))
    usage: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    environment: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class EventRow(Base):
    """What happened to a task; written by `jobs.transition` only."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    task_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    event: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class OutboxRow(Base):
    """A message that the broker has not confirmed yet."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("kind IN ('run','cancel')", name="kind"),
        Index("ix_outbox_next_try_at_id", "next_try_at", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    task_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_error: Mapped[str | None]


class Artifact(Base):
    """A result file of one attempt."""

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("task_id", "attempt", "name"),
        Index("ix_artifacts_sha256", "sha256"),
        ForeignKeyConstraint(
            ["task_id", "attempt"], ["attempts.task_id", "attempts.number"], ondelete="CASCADE"
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    task_id: Mapped[uuid.UUID]
    attempt: Mapped[int]
    name: Mapped[str]
    output: Mapped[str | None]
    kind: Mapped[str]
    media_type: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class WorkerRow(Base):
    """What a worker last said of itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    keys: Mapped[list[str]]
    slots: Mapped[int]
    free_slots: Mapped[int]
    cores: Mapped[int]
    load1: Mapped[float]
    memory_total: Mapped[int] = mapped_column(server_default=text("0"))
    memory_free: Mapped[int]
    disk_free: Mapped[int]
    version: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    environment: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    stopping: Mapped[bool] = mapped_column(server_default=text("false"))
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    last_seen: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Join(Base):
    """An invitation by which a machine joins as a worker, good once. Of its token only the SHA-256."""

    __tablename__ = "joins"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    worker: Mapped[str] = mapped_column(index=True)
    hash: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]


class FleetSample(Base):
    """How busy the fleet was in one minute (`jobs.samples`)."""

    __tablename__ = "fleet_samples"

    at: Mapped[datetime] = mapped_column(primary_key=True)
    workers: Mapped[int]
    slots: Mapped[int]
    busy: Mapped[int]
    cores: Mapped[int]
    load: Mapped[float]
    queued: Mapped[int]
    running: Mapped[int]


class Analysis(Base):
    """Saved settings of a protocol's form (`jobs.analyses`). By name: protocols and versions may go."""

    __tablename__ = "analyses"
    __table_args__ = (Index("ix_analyses_owner_id_protocol", "owner_id", "protocol"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    protocol: Mapped[str]
    version: Mapped[str]
    name: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    owner: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class Reservation(Base):
    """Slots of the fleet that only tasks of one key may fill."""

    __tablename__ = "reservations"
    __table_args__ = (CheckConstraint("slots > 0", name="slots"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    slots: Mapped[int]


class Turn(Base):
    """When a task of this user was last given to a worker: among equals it is the turn of another."""

    __tablename__ = "turns"

    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[datetime]


class Delivery(Base):
    """A webhook call: what is told to whom, and how it went. Delivered or given up, it stays as a log."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_next_try_at",
            "next_try_at",
            postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]


class Mail(Base):
    """A mail: to whom, what, and how it went. Sent or given up, it stays for a while, without its text.

    One that has an end (`expires_at`) is not worth sending after it.
    """

    __tablename__ = "mails"
    __table_args__ = (
        Index(
            "ix_mails_next_try_at",
            "next_try_at",
            postgresql_where=text("sent_at IS NULL AND given_up_at IS NULL"),
        ),
        Index("ix_mails_created_at", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    kind: Mapped[str]
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_error: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]


class Notice(Base):
    """A job has ended and its owner wants a mail: written with the final state, forgotten with the mail.

    `asked`: the job itself asks for one, whatever its owner wants of others.
    """

    __tablename__ = "notices"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    asked: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Link(Base):
    """A link that was sent in a mail, good once: an invitation, a forgotten password, a new address.

    Of its key only the SHA-256 is kept. `name` and `is_admin` are what an invitation gives.
    """

    __tablename__ = "links"
    __table_args__ = (
        CheckConstraint("kind IN ('invitation','password','address')", name="kind"),
        CheckConstraint("(kind = 'invitation') = (user_id IS NULL)", name="user"),
        Index("ix_links_mail", text("lower(mail)")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    kind: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    mail: Mapped[str]
    name: Mapped[str | None]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    made_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]


class SchemaChange(Base):
    """A revision that has run, and what it said of itself (`labfleet.db.upgrade`)."""

    __tablename__ = "schema_changes"
    __table_args__ = (CheckConstraint("phase IN ('pre','post')", name="phase"),)

    revision: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str]
    rollback_safe: Mapped[bool]
    at: Mapped[datetime] = mapped_column(server_default=NOW)
