"""How busy the fleet was, minute by minute, for the plots on the home page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    figures = ("workers", "slots", "busy", "cores", "queued", "running")
    op.create_table(
        "fleet_samples",
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in figures),
        sa.Column("load", sa.Double, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("fleet_samples")
