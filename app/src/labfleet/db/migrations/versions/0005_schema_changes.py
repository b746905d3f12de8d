"""Schema changes: what each revision says of itself, for older releases that do not know it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.create_table(
        "schema_changes",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("rollback_safe", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("phase IN ('pre','post')", name=op.f("ck_schema_changes_phase")),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_changes")),
    )


def downgrade() -> None:
    op.drop_table("schema_changes")
