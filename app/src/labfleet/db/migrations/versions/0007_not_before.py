"""The index of tasks that wait for their time, by their time alone: it answers what the dispatcher asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.drop_index("ix_tasks_not_before", table_name="tasks")
    op.create_index(
        "ix_tasks_not_before", "tasks", ["not_before"], postgresql_where=sa.text("not_before IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_tasks_not_before", table_name="tasks")
    op.create_index(
        "ix_tasks_not_before",
        "tasks",
        ["not_before"],
        postgresql_where=sa.text(
            "state = 'queued' AND ready AND NOT held AND placed_on IS NULL AND not_before IS NOT NULL"
        ),
    )
