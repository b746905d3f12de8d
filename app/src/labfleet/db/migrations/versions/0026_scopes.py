"""What API tokens may do. Those that are there keep all rights.

Code of before knows nothing of it: after a rollback every token may do everything.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0026"
down_revision: str | None = "0025"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

SCOPES = "'{read,jobs,data,protocols,account,admin}'::text[]"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("scopes", ARRAY(sa.Text), server_default=sa.text(SCOPES), nullable=False))
    op.create_check_constraint(
        op.f("ck_tokens_scopes"), "tokens", f"scopes <@ {SCOPES} AND cardinality(scopes) > 0"
    )


def downgrade() -> None:
    op.drop_column("tokens", "scopes")
