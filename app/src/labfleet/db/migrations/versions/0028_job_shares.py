"""Jobs are shared. Those that are there stay their owners' alone.

Code of before knows nothing of it: after a rollback every job is its owner's alone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision: str | None = "0027"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.add_column("jobs", sa.Column("public", sa.Boolean, server_default=sa.text("false"), nullable=False))
    op.create_table(
        "job_shares",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("group_name", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_shares")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_shares_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_job_shares_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_name"], ["groups.name"], name=op.f("fk_job_shares_group_name_groups"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("job_id", "user_id", name=op.f("uq_job_shares_job_id_user_id")),
        sa.UniqueConstraint("job_id", "group_name", name=op.f("uq_job_shares_job_id_group_name")),
        sa.CheckConstraint("(user_id IS NULL) <> (group_name IS NULL)", name=op.f("ck_job_shares_one")),
    )
    op.create_index("ix_job_shares_user_id", "job_shares", ["user_id"])
    op.create_index("ix_job_shares_group_name", "job_shares", ["group_name"])
    op.create_index(
        "ix_jobs_public_created_at_id", "jobs", ["created_at", "id"], postgresql_where=sa.text("public")
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_public_created_at_id", table_name="jobs")
    op.drop_table("job_shares")
    op.drop_column("jobs", "public")
