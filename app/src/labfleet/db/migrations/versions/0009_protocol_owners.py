"""Protocols belong to somebody: owner, shares, and what they take of the owner's quota."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    # Without an owner and public: what an admin has imported so far, and what the old code still imports.
    op.add_column("protocols", sa.Column("owner_id", sa.Uuid))
    op.add_column("protocols", sa.Column("public", sa.Boolean, nullable=False, server_default=sa.text("true")))
    op.add_column(
        "protocols", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
    op.create_foreign_key("fk_protocols_owner_id_users", "protocols", "users", ["owner_id"], ["id"])
    op.create_index("ix_protocols_owner_id", "protocols", ["owner_id"])
    op.create_table(
        "protocol_shares",
        sa.Column("id", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("protocol_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("group_name", sa.Text),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_protocol_shares"),
        sa.ForeignKeyConstraint(
            ["protocol_id"],
            ["protocols.id"],
            name="fk_protocol_shares_protocol_id_protocols",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_protocol_shares_user_id_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_name"], ["groups.name"], name="fk_protocol_shares_group_name_groups", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("protocol_id", "user_id", name="uq_protocol_shares_protocol_id_user_id"),
        sa.UniqueConstraint("protocol_id", "group_name", name="uq_protocol_shares_protocol_id_group_name"),
        # Through op.f, so that the naming convention does not name it twice.
        sa.CheckConstraint(
            "(user_id IS NULL) <> (group_name IS NULL)", name=op.f("ck_protocol_shares_one")
        ),
    )
    op.create_index("ix_protocol_shares_user_id", "protocol_shares", ["user_id"])
    op.create_index("ix_protocol_shares_group_name", "protocol_shares", ["group_name"])


def downgrade() -> None:
    op.drop_table("protocol_shares")
    op.drop_index("ix_protocols_owner_id", table_name="protocols")
    op.drop_constraint("fk_protocols_owner_id_users", "protocols", type_="foreignkey")
    for column in ("stored_bytes", "public", "owner_id"):
        op.drop_column("protocols", column)
