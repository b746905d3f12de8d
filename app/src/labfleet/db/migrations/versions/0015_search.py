"""Protocols, datasets and results are found by words, labels and terms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True

INDEXES = {
    "protocols": (
        "to_tsvector('simple'::regconfig, (((((translate(name, '._-'::text, '   '::text) || ' '::text) || title)"
        " || ' '::text) || description) || ' '::text) || labfleet_joined(terms))"
    ),
    "datasets": (
        "to_tsvector('simple'::regconfig, (labfleet_joined(labels) || ' '::text) || labfleet_joined(terms))"
    ),
    "jobs": (
        "to_tsvector('simple'::regconfig, (labfleet_joined(labels) || ' '::text) || labfleet_joined(protocols))"
    ),
}


def upgrade() -> None:
    # array_to_string is only called stable, for the sake of other types than text.
    op.execute(
        "CREATE FUNCTION labfleet_joined(text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE"
        " AS $$ SELECT pg_catalog.array_to_string($1, ' ') $$"
    )
    for name in ("terms", "formats"):
        op.add_column(
            "protocols",
            sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        )
        op.execute(
            f"""
            UPDATE protocols SET {name} = ARRAY(
                SELECT DISTINCT found #>> '{{}}' FROM jsonb_path_query((
                    SELECT manifest FROM protocol_versions WHERE protocol_id = protocols.id
                    ORDER BY created_at DESC, id DESC LIMIT 1
                ), '$.inputs.*.{name}[*]') AS found ORDER BY 1
            )
            """
        )
    for table, words in INDEXES.items():
        op.create_index(f"ix_{table}_search", table, [sa.text(words)], postgresql_using="gin")
    op.create_index("ix_protocols_terms", "protocols", ["terms"], postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_protocols_terms", table_name="protocols")
    for table in INDEXES:
        op.drop_index(f"ix_{table}_search", table_name=table)
    for name in ("formats", "terms"):
        op.drop_column("protocols", name)
    op.execute("DROP FUNCTION labfleet_joined")
