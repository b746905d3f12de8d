"""Mails on the ends of jobs: who wants them, and notes of what has ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.add_column("users", sa.Column("job_mails", sa.Text, server_default="never", nullable=False))
    op.create_check_constraint(op.f("ck_users_job_mails"), "users", "job_mails IN ('never','each','digest')")
    op.add_column("jobs", sa.Column("mail", sa.Boolean))
    op.create_table(
        "notices",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("asked", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_notices")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_notices_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_notices_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_notices_user_id", "notices", ["user_id"])


def downgrade() -> None:
    op.drop_table("notices")
    op.drop_column("jobs", "mail")
    op.drop_column("users", "job_mails")
