"""Sources that bring protocols."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.add_column("sources", sa.Column("protocol_id", sa.Uuid))
    op.create_foreign_key(
        op.f("fk_sources_protocol_id_protocols"),
        "sources",
        "protocols",
        ["protocol_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index("ix_sources_protocol_id", "sources", ["protocol_id"])


def downgrade() -> None:
    op.drop_index("ix_sources_protocol_id", "sources")
    op.drop_constraint(op.f("fk_sources_protocol_id_protocols"), "sources")
    op.drop_column("sources", "protocol_id")
