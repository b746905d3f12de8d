"""Secrets of second factors are sealed; `key` tells by which key, none of one that is not sealed yet.

The loader seals those that are there. Code of before can not read them: after a rollback such a factor is
opened by its recovery codes until it is set up anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision: str | None = "0028"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.add_column("second_factors", sa.Column("key", sa.Text))


def downgrade() -> None:
    op.drop_column("second_factors", "key")
