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
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

NOW = text("clock_timestamp()")
NEW_ID = text("gen_random_uuid()")
STATES = "('queued','running','success','failed','partial','inapplicable','cancelled')"


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


class User(Base):
    """Somebody who may sign in."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    disabled_at: Mapped[datetime | None]


class Token(Base):
    """A user's API token; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class Protocol(Base):
    """A protocol; its code lies in the git repository of its name."""

    __tablename__ = "protocols"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    versions: Mapped[list[ProtocolVersion]] = relationship(
        back_populates="protocol", order_by="ProtocolVersion.created_at.desc()"
    )


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


class Blob(Base):
    """A file of the content-addressed store."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Dataset(Base):
    """An immutable file that somebody uploaded."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_owner_id_created_at_id", "owner_id", "created_at", "id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    media_type: Mapped[str] = mapped_column(server_default="application/octet-stream")
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Job(Base):
    """What a user submitted. `state` follows from its tasks."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        CheckConstraint(f"state IN {STATES}", name="state"),
        Index("ix_jobs_owner_id_created_at_id", "owner_id", "created_at", "id"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
    state: Mapped[str] = mapped_column(server_default="queued")
    label: Mapped[str] = mapped_column(server_default="")
    spec: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]

    owner: Mapped[User] = relationship()
    tasks: Mapped[list[Task]] = relationship(back_populates="job", order_by="(Task.created_at, Task.id)")


class Task(Base):
    """One run of one protocol version. `attempt` is the only attempt whose word counts."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("failure IN ('user','system')", name="failure"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
        Index("ix_tasks_lease_until", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_tasks_dispatched_at", "dispatched_at", postgresql_where=text("state = 'queued'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    protocol_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("protocol_versions.id"))
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

    job: Mapped[Job] = relationship(back_populates="tasks")
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
    message: Mapped[str] = mapped_column(server_default="")
    log_size: Mapped[int] = mapped_column(server_default=text("0"))


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
    memory_free: Mapped[int]
    disk_free: Mapped[int]
    version: Mapped[str]
    last_seen: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
