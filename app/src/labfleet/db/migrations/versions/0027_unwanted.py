"""Since when nobody wants a content of the store.

Code of before knows nothing of it, and spares what was stored lately.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision: str | None = "0026"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.add_column("blobs", sa.Column("unwanted_since", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("blobs", "unwanted_since")
