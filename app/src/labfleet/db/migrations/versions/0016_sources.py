"""Sources: where data comes from, whom they are shared with, and each time that one is fetched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

OPEN = sa.text("state IN ('queued','running')")


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False)


def _time(name: str, *, now: bool = False) -> sa.Column[object]:
    default = sa.text("clock_timestamp()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def upgrade() -> None:
    op.create_table(
        "source_handlers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("described", postgresql.JSONB, nullable=False),
        _time("seen_at", now=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_source_handlers")),
    )
    op.create_table(
        "sources",
        _id(),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, server_default="", nullable=False),
        sa.Column("definition", postgresql.JSONB, nullable=False),
        sa.Column("lifetime_seconds", sa.BigInteger, nullable=False),
        sa.Column("dataset_id", sa.Uuid),
        sa.Column("public", sa.Boolean, server_default=sa.text("false"), nullable=False),
        _time("created_at", now=True),
        _time("changed_at", now=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_sources_owner_id_users")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_sources_dataset_id_datasets"), ondelete="SET NULL"
        ),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_sources_owner_id_name")),
        sa.CheckConstraint("lifetime_seconds >= 0", name=op.f("ck_sources_lifetime_seconds")),
    )
    op.create_index("ix_sources_dataset_id", "sources", ["dataset_id"])
    op.create_table(
        "source_shares",
        _id(),
        sa.Column("source_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("group_name", sa.Text),
        _time("created_at", now=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_shares")),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_source_shares_source_id_sources"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_source_shares_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_name"], ["groups.name"], name=op.f("fk_source_shares_group_name_groups"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("source_id", "user_id", name=op.f("uq_source_shares_source_id_user_id")),
        sa.UniqueConstraint("source_id", "group_name", name=op.f("uq_source_shares_source_id_group_name")),
        sa.CheckConstraint("(user_id IS NULL) <> (group_name IS NULL)", name=op.f("ck_source_shares_one")),
    )
    op.create_index("ix_source_shares_user_id", "source_shares", ["user_id"])
    op.create_index("ix_source_shares_group_name", "source_shares", ["group_name"])
    op.create_table(
        "fetches",
        _id(),
        sa.Column("source_id", sa.Uuid, nullable=False),
        sa.Column("asked_by", sa.Uuid),
        sa.Column("state", sa.Text, server_default="queued", nullable=False),
        _time("due_at", now=True),
        sa.Column("tries", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("progress", sa.Double, server_default=sa.text("0"), nullable=False),
        sa.Column("progress_text", sa.Text, server_default="", nullable=False),
        sa.Column("message", sa.Text, server_default="", nullable=False),
        sa.Column("rows", sa.BigInteger),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("dataset_id", sa.Uuid),
        sa.Column("changed", sa.Boolean, server_default=sa.text("false"), nullable=False),
        _time("created_at", now=True),
        _time("started_at"),
        _time("finished_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fetches")),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_fetches_source_id_sources"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["asked_by"], ["users.id"], name=op.f("fk_fetches_asked_by_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_fetches_dataset_id_datasets"), ondelete="SET NULL"
        ),
        sa.CheckConstraint(
            "state IN ('queued','running','success','failed','cancelled')", name=op.f("ck_fetches_state")
        ),
    )
    op.create_index("uq_fetches_open", "fetches", ["source_id"], unique=True, postgresql_where=OPEN)
    op.create_index("ix_fetches_due_at", "fetches", ["due_at"], postgresql_where=OPEN)
    op.create_index("ix_fetches_source_id_created_at", "fetches", ["source_id", "created_at"])
    op.create_index("ix_fetches_dataset_id", "fetches", ["dataset_id"])


def downgrade() -> None:
    for table in ("fetches", "source_shares", "sources", "source_handlers"):
        op.drop_table(table)
