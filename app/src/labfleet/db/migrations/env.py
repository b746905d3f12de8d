"""Run migrations on the connection that `labfleet.db.upgrade` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from labfleet.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=False,
)
context.run_migrations()
