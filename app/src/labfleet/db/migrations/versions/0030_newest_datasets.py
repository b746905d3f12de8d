"""The newest datasets by an index, for who may see all of them.

Code of before knows nothing of it.
"""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision: str | None = "0029"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.create_index("ix_datasets_created_at_id", "datasets", ["created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_datasets_created_at_id", "datasets")
