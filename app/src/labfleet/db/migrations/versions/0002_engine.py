"""The job engine: trees of tasks, order, quotas, webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None
phase = "pre"
rollback_safe = True


def upgrade() -> None:
    op.create_table('groups',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('max_running', sa.BigInteger(), nullable=True),
    sa.Column('max_cores', sa.BigInteger(), nullable=True),
    sa.Column('max_stored_bytes', sa.BigInteger(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.CheckConstraint('max_running > 0 AND max_cores > 0', name=op.f('ck_groups_quota')),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_groups'))
    )
    op.create_table('reservations',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('slots', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('slots > 0', name=op.f('ck_reservations_slots')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_reservations'))
    )
    op.create_table('deliveries',
    sa.Column('id', sa.Uuid(), server_default=sa.text('gen_random_uuid()'), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('payload', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('tries', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_try_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('last_status', sa.BigInteger(), nullable=True),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.Column('delivered_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('given_up_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_deliveries_job_id_jobs'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deliveries'))
    )
    op.create_index(op.f('ix_deliveries_job_id'), 'deliveries', ['job_id'], unique=False)
    op.create_index('ix_deliveries_next_try_at', 'deliveries', ['next_try_at'], unique=False, postgresql_where=sa.text('delivered_at IS NULL AND given_up_at IS NULL'))
    op.create_table('nodes',
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('parent', sa.BigInteger(), nullable=True),
    sa.Column('position', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('last', sa.BigInteger(), nullable=False),
    sa.Column('name', sa.Text(), server_default='', nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('on_failure', sa.Text(), nullable=False),
    sa.Column('optional', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('state', sa.Text(), server_default='waiting', nullable=False),
    sa.Column('total', sa.BigInteger(), nullable=False),
    sa.Column('ended', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('lost', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("kind IN ('sequential','parallel')", name=op.f('ck_nodes_kind')),
    sa.CheckConstraint("on_failure IN ('stop','continue')", name=op.f('ck_nodes_on_failure')),
    sa.CheckConstraint("state IN ('waiting','active','ended')", name=op.f('ck_nodes_state')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_nodes_job_id_jobs'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('job_id', 'number', name=op.f('pk_nodes'))
    )
    op.create_index('ix_nodes_job_id_parent_position', 'nodes', ['job_id', 'parent', 'position'], unique=False)
    op.add_column('attempts', sa.Column('exit_code', sa.BigInteger(), nullable=True))
    op.add_column('attempts', sa.Column('usage', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('attempts', sa.Column('environment', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('jobs', sa.Column('labels', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('jobs', sa.Column('note', sa.Text(), server_default='', nullable=False))
    op.add_column('jobs', sa.Column('priority', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('held', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('jobs', sa.Column('webhook', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('protocols', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('jobs', sa.Column('datasets', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('jobs', sa.Column('tasks_total', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_queued', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_running', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_success', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_failed', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_inapplicable', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_cancelled', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_skipped', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('jobs', sa.Column('tasks_forgiven', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.create_index('ix_jobs_datasets', 'jobs', ['datasets'], unique=False, postgresql_using='gin')
    op.create_index('ix_jobs_labels', 'jobs', ['labels'], unique=False, postgresql_using='gin')
    op.create_index('ix_jobs_owner_id_state_created_at_id', 'jobs', ['owner_id', 'state', 'created_at', 'id'], unique=False)
    op.create_index('ix_jobs_protocols', 'jobs', ['protocols'], unique=False, postgresql_using='gin')
    op.create_index('ix_jobs_state_created_at_id', 'jobs', ['state', 'created_at', 'id'], unique=False)
    op.create_index('ix_jobs_words', 'jobs', [sa.literal_column("to_tsvector('simple'::regconfig, (label || ' '::text) || note)")], unique=False, postgresql_using='gin')
    op.add_column('tasks', sa.Column('sequence', sa.BigInteger(), sa.Identity(always=True), nullable=False))
    op.add_column('tasks', sa.Column('owner_id', sa.Uuid(), nullable=True))
    op.add_column('tasks', sa.Column('name', sa.Text(), server_default='task', nullable=False))
    op.add_column('tasks', sa.Column('node', sa.BigInteger(), nullable=True))
    op.add_column('tasks', sa.Column('position', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('tasks', sa.Column('ready', sa.Boolean(), server_default=sa.text('true'), nullable=False))
    op.add_column('tasks', sa.Column('held', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('tasks', sa.Column('optional', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('tasks', sa.Column('skipped', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('tasks', sa.Column('sources', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('tasks', sa.Column('priority', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('tasks', sa.Column('lane', sa.Text(), nullable=True))
    op.add_column('tasks', sa.Column('cores', sa.BigInteger(), server_default=sa.text('1'), nullable=False))
    op.add_column('tasks', sa.Column('memory_bytes', sa.BigInteger(), nullable=True))
    op.add_column('tasks', sa.Column('wall_seconds', sa.BigInteger(), nullable=True))
    op.add_column('tasks', sa.Column('tags', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('tasks', sa.Column('placed_on', sa.Text(), nullable=True))
    op.add_column('tasks', sa.Column('not_before', sa.DateTime(timezone=True), nullable=True))
    op.add_column('tasks', sa.Column('cache_key', sa.Text(), nullable=True))
    op.add_column('tasks', sa.Column('reused_from', sa.Uuid(), nullable=True))
    _fill_tasks()
    op.drop_index(op.f('ix_tasks_job_id'), table_name='tasks')
    op.create_index('ix_tasks_cache_key', 'tasks', ['cache_key'], unique=False, postgresql_where=sa.text("state = 'success' AND cache_key IS NOT NULL"))
    op.create_index('ix_tasks_job_id_node_position', 'tasks', ['job_id', 'node', 'position'], unique=False)
    op.create_index('ix_tasks_job_id_sequence', 'tasks', ['job_id', 'sequence'], unique=False)
    op.create_index('ix_tasks_placed', 'tasks', ['placed_on', 'owner_id'], unique=False, postgresql_where=sa.text("state IN ('queued','running') AND placed_on IS NOT NULL"))
    op.create_index('ix_tasks_waiting', 'tasks', ['lane', 'owner_id', sa.literal_column('priority DESC'), 'sequence'], unique=False, postgresql_where=sa.text("state = 'queued' AND ready AND NOT held AND placed_on IS NULL"))
    op.create_unique_constraint(op.f('uq_tasks_job_id_name'), 'tasks', ['job_id', 'name'])
    op.create_foreign_key(op.f('fk_tasks_owner_id_users'), 'tasks', 'users', ['owner_id'], ['id'])
    op.add_column('users', sa.Column('group_name', sa.Text(), nullable=True))
    op.add_column('users', sa.Column('weight', sa.Double(), server_default=sa.text('1'), nullable=False))
    op.add_column('users', sa.Column('max_priority', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('users', sa.Column('max_running', sa.BigInteger(), nullable=True))
    op.add_column('users', sa.Column('max_cores', sa.BigInteger(), nullable=True))
    op.add_column('users', sa.Column('max_stored_bytes', sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f('fk_users_group_name_groups'), 'users', 'groups', ['group_name'], ['name'], ondelete='SET NULL')
    op.add_column('workers', sa.Column('memory_total', sa.BigInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('workers', sa.Column('tags', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('workers', sa.Column('environment', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column('workers', sa.Column('stopping', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('workers', sa.Column('draining', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    _fill_jobs()


def _fill_tasks() -> None:
    """Tasks of before are jobs of one task each; what waits is placed anew by the dispatcher."""
    op.execute(
        """
        UPDATE tasks SET owner_id = jobs.owner_id, memory_bytes = 536870912, wall_seconds = 600,
            lane = tasks.key || ' cores=1 memory=536870912 time=600 tags=',
            placed_on = CASE WHEN tasks.state = 'running' THEN worker END
        FROM jobs WHERE jobs.id = tasks.job_id
        """
    )
    for column in ("owner_id", "lane", "memory_bytes", "wall_seconds"):
        op.alter_column("tasks", column, nullable=False)


def _fill_jobs() -> None:
    """Count the tasks of each job by state."""
    op.execute(
        """
        UPDATE jobs SET tasks_total = counted.total, tasks_queued = counted.queued,
            tasks_running = counted.running, tasks_success = counted.success, tasks_failed = counted.failed,
            tasks_inapplicable = counted.inapplicable, tasks_cancelled = counted.cancelled,
            protocols = counted.protocols
        FROM (
            SELECT tasks.job_id, count(*) AS total,
                count(*) FILTER (WHERE state = 'queued') AS queued,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'success') AS success,
                count(*) FILTER (WHERE state = 'failed') AS failed,
                count(*) FILTER (WHERE state = 'inapplicable') AS inapplicable,
                count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                array_agg(DISTINCT protocols.name) AS protocols
            FROM tasks
            JOIN protocol_versions ON protocol_versions.id = tasks.protocol_version_id
            JOIN protocols ON protocols.id = protocol_versions.protocol_id
            GROUP BY tasks.job_id
        ) AS counted WHERE counted.job_id = jobs.id
        """
    )


def downgrade() -> None:
    op.drop_column('workers', 'draining')
    op.drop_column('workers', 'stopping')
    op.drop_column('workers', 'environment')
    op.drop_column('workers', 'tags')
    op.drop_column('workers', 'memory_total')
    op.drop_constraint(op.f('fk_users_group_name_groups'), 'users', type_='foreignkey')
    op.drop_column('users', 'max_stored_bytes')
    op.drop_column('users', 'max_cores')
    op.drop_column('users', 'max_running')
    op.drop_column('users', 'max_priority')
    op.drop_column('users', 'weight')
    op.drop_column('users', 'group_name')
    op.drop_constraint(op.f('fk_tasks_owner_id_users'), 'tasks', type_='foreignkey')
    op.drop_constraint(op.f('uq_tasks_job_id_name'), 'tasks', type_='unique')
    op.drop_index('ix_tasks_waiting', table_name='tasks', postgresql_where=sa.text("state = 'queued' AND ready AND NOT held AND placed_on IS NULL"))
    op.drop_index('ix_tasks_placed', table_name='tasks', postgresql_where=sa.text("state IN ('queued','running') AND placed_on IS NOT NULL"))
    op.drop_index('ix_tasks_job_id_sequence', table_name='tasks')
    op.drop_index('ix_tasks_job_id_node_position', table_name='tasks')
    op.drop_index('ix_tasks_cache_key', table_name='tasks', postgresql_where=sa.text("state = 'success' AND cache_key IS NOT NULL"))
    op.create_index(op.f('ix_tasks_job_id'), 'tasks', ['job_id'], unique=False)
    op.drop_column('tasks', 'reused_from')
    op.drop_column('tasks', 'cache_key')
    op.drop_column('tasks', 'not_before')
    op.drop_column('tasks', 'placed_on')
    op.drop_column('tasks', 'tags')
    op.drop_column('tasks', 'wall_seconds')
    op.drop_column('tasks', 'memory_bytes')
    op.drop_column('tasks', 'cores')
    op.drop_column('tasks', 'lane')
    op.drop_column('tasks', 'priority')
    op.drop_column('tasks', 'sources')
    op.drop_column('tasks', 'skipped')
    op.drop_column('tasks', 'optional')
    op.drop_column('tasks', 'held')
    op.drop_column('tasks', 'ready')
    op.drop_column('tasks', 'position')
    op.drop_column('tasks', 'node')
    op.drop_column('tasks', 'name')
    op.drop_column('tasks', 'owner_id')
    op.drop_column('tasks', 'sequence')
    op.drop_index('ix_jobs_words', table_name='jobs', postgresql_using='gin')
    op.drop_index('ix_jobs_state_created_at_id', table_name='jobs')
    op.drop_index('ix_jobs_protocols', table_name='jobs', postgresql_using='gin')
    op.drop_index('ix_jobs_owner_id_state_created_at_id', table_name='jobs')
    op.drop_index('ix_jobs_labels', table_name='jobs', postgresql_using='gin')
    op.drop_index('ix_jobs_datasets', table_name='jobs', postgresql_using='gin')
    op.drop_column('jobs', 'tasks_forgiven')
    op.drop_column('jobs', 'tasks_skipped')
    op.drop_column('jobs', 'tasks_cancelled')
    op.drop_column('jobs', 'tasks_inapplicable')
    op.drop_column('jobs', 'tasks_failed')
    op.drop_column('jobs', 'tasks_success')
    op.drop_column('jobs', 'tasks_running')
    op.drop_column('jobs', 'tasks_queued')
    op.drop_column('jobs', 'tasks_total')
    op.drop_column('jobs', 'datasets')
    op.drop_column('jobs', 'protocols')
    op.drop_column('jobs', 'webhook')
    op.drop_column('jobs', 'held')
    op.drop_column('jobs', 'priority')
    op.drop_column('jobs', 'note')
    op.drop_column('jobs', 'labels')
    op.drop_column('attempts', 'environment')
    op.drop_column('attempts', 'usage')
    op.drop_column('attempts', 'exit_code')
    op.drop_index('ix_nodes_job_id_parent_position', table_name='nodes')
    op.drop_table('nodes')
    op.drop_index('ix_deliveries_next_try_at', table_name='deliveries', postgresql_where=sa.text('delivered_at IS NULL AND given_up_at IS NULL'))
    op.drop_index(op.f('ix_deliveries_job_id'), table_name='deliveries')
    op.drop_table('deliveries')
    op.drop_table('reservations')
    op.drop_table('groups')
