"""Users' mail addresses, and the links that are sent there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("users", sa.Column("mail", sa.Text))
    op.create_index("uq_users_mail", "users", [sa.text("lower(mail)")], unique=True)
    op.create_table(
        "links",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("mail", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("is_admin", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME),
        sa.Column("withdrawn_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_links_user_id_users"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("hash", name=op.f("uq_links_hash")),
        sa.CheckConstraint("kind IN ('invitation','password','address')", name=op.f("ck_links_kind")),
        sa.CheckConstraint("(kind = 'invitation') = (user_id IS NULL)", name=op.f("ck_links_user")),
    )
    op.create_index("ix_links_user_id", "links", ["user_id"])
    op.create_index("ix_links_mail", "links", [sa.text("lower(mail)")])


def downgrade() -> None:
    op.drop_table("links")
    op.drop_index("uq_users_mail", "users")
    op.drop_column("users", "mail")
