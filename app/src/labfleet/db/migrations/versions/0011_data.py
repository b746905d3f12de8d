"""What datasets tell of themselves, their versions, and previews of tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

TABLES = r"\.(csv|tsv|tab|xlsx|xls|xlsb|ods|json|jsonl|ndjson|parquet)$"


def upgrade() -> None:
    for name in ("description", "licence"):
        op.add_column("datasets", sa.Column(name, sa.Text(), server_default="", nullable=False))
    for name in ("labels", "terms"):
        op.add_column(
            "datasets",
            sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        )
    op.add_column(
        "datasets",
        sa.Column("series_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
    )
    op.add_column("datasets", sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False))
    op.add_column("datasets", sa.Column("previous_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_datasets_previous_id_datasets"),
        "datasets",
        "datasets",
        ["previous_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_unique_constraint(op.f("uq_datasets_series_id_version"), "datasets", ["series_id", "version"])
    op.create_check_constraint(op.f("ck_datasets_version"), "datasets", "version >= 1")
    op.create_index("ix_datasets_sha256", "datasets", ["sha256"])
    op.create_index("ix_datasets_previous_id", "datasets", ["previous_id"])
    op.create_table(
        "previews",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("tries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued','running','done','failed')", name=op.f("ck_previews_state")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_previews_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", name=op.f("pk_previews")),
    )
    op.create_index(
        "ix_previews_due_at",
        "previews",
        ["due_at"],
        postgresql_where=sa.text("state IN ('queued','running')"),
    )
    # Tables that are there already are looked through as well.
    op.execute(
        sa.text("INSERT INTO previews (dataset_id) SELECT id FROM datasets WHERE name ~* :tables").bindparams(
            tables=TABLES
        )
    )


def downgrade() -> None:
    op.drop_table("previews")
    for index in ("ix_datasets_sha256", "ix_datasets_previous_id"):
        op.drop_index(index, table_name="datasets")
    op.drop_constraint(op.f("fk_datasets_previous_id_datasets"), "datasets", type_="foreignkey")
    op.drop_constraint(op.f("uq_datasets_series_id_version"), "datasets", type_="unique")
    op.drop_constraint(op.f("ck_datasets_version"), "datasets", type_="check")
    for column in ("previous_id", "version", "series_id", "terms", "labels", "licence", "description"):
        op.drop_column("datasets", column)
