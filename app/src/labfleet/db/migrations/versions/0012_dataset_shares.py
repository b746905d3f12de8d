"""Datasets are shared, found by words, and contents that nobody points to can be told quickly."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

WORDS = (
    "to_tsvector('simple'::regconfig, (((translate(name, '._-'::text, '   '::text) || ' '::text)"
    " || description) || ' '::text) || licence)"
)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("public", sa.Boolean, server_default=sa.text("false"), nullable=False))
    op.create_table(
        "dataset_shares",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("dataset_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("group_name", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_shares")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_dataset_shares_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_dataset_shares_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_name"], ["groups.name"], name=op.f("fk_dataset_shares_group_name_groups"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("dataset_id", "user_id", name=op.f("uq_dataset_shares_dataset_id_user_id")),
        sa.UniqueConstraint("dataset_id", "group_name", name=op.f("uq_dataset_shares_dataset_id_group_name")),
        sa.CheckConstraint("(user_id IS NULL) <> (group_name IS NULL)", name=op.f("ck_dataset_shares_one")),
    )
    op.create_index("ix_dataset_shares_user_id", "dataset_shares", ["user_id"])
    op.create_index("ix_dataset_shares_group_name", "dataset_shares", ["group_name"])
    op.create_index("ix_datasets_labels", "datasets", ["labels"], postgresql_using="gin")
    op.create_index("ix_datasets_terms", "datasets", ["terms"], postgresql_using="gin")
    op.create_index("ix_datasets_words", "datasets", [sa.text(WORDS)], postgresql_using="gin")
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"])


def downgrade() -> None:
    op.drop_index("ix_artifacts_sha256", table_name="artifacts")
    for name in ("words", "terms", "labels"):
        op.drop_index(f"ix_datasets_{name}", table_name="datasets")
    op.drop_table("dataset_shares")
    op.drop_column("datasets", "public")
