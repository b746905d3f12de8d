"""Self-tests of protocols' versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision: str | None = "0023"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "self_tests",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("protocol_version_id", sa.Uuid, nullable=False),
        sa.Column("job_id", sa.Uuid),
        sa.Column("asked_by", sa.Uuid),
        sa.Column("state", sa.Text, server_default="running", nullable=False),
        sa.Column("lines", postgresql.ARRAY(sa.Text), server_default="{}", nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("finished_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_self_tests")),
        sa.ForeignKeyConstraint(
            ["protocol_version_id"],
            ["protocol_versions.id"],
            name=op.f("fk_self_tests_protocol_version_id_protocol_versions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_self_tests_job_id_jobs"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["asked_by"], ["users.id"], name=op.f("fk_self_tests_asked_by_users"), ondelete="SET NULL"
        ),
        sa.CheckConstraint("state IN ('running','passed','failed')", name=op.f("ck_self_tests_state")),
    )
    op.create_index("ix_self_tests_version_created_at", "self_tests", ["protocol_version_id", "created_at"])
    op.create_index("ix_self_tests_job_id", "self_tests", ["job_id"])


def downgrade() -> None:
    op.drop_table("self_tests")
