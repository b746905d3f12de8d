"""How a specification becomes rows: planned, checked, inserted once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, Text, Uuid, bindparam, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from labfleet.config import JobsSection, MailSection, WebhooksSection
from labfleet.db.engine import forget_plans
from labfleet.db.models import Job, Node, User
from labfleet.errors import Forbidden, IdempotencyMismatch, Invalid
from labfleet.jobs import flow, outbox, terms, transition, webhooks
from labfleet.jobs.layout import Leaf
from labfleet.jobs.plan import Plan, make_plan
from labfleet.jobs.spec import JobSpec
from labfleet.mail import notices

MAX_KEY = 200
LIMITS = JobsSection()
NO_WEBHOOKS = WebhooksSection()
NO_MAILS = MailSection()


def submit(
    session: Session,
    owner: User,
    spec: JobSpec,
    key: str | None = None,
    *,
    max_attempts: int = 3,
    limits: JobsSection = LIMITS,
    calls: WebhooksSection = NO_WEBHOOKS,
    mails: MailSection = NO_MAILS,
) -> uuid.UUID:
    """The id of the job that the specification made, now or earlier under the same idempotency key."""
    document = spec.model_dump(mode="json", exclude_unset=True)
    if earlier := _earlier(session, owner, key, document):
        return earlier
    _check_priority(owner, spec.priority)
    webhooks.check(spec.webhook, calls)
    if spec.mail:
        notices.need(mails, owner)
    plan = make_plan(session, owner, spec, limits)
    job_id = _insert_job(session, _job_values(owner, spec, plan) | {"spec": document, "idempotency_key": key})
    if job_id is None:  # somebody else with the same key was quicker, and has committed by now
        return _earlier(session, owner, key, document) or _vanished(key)
    if plan.nodes:
        session.execute(insert(Node), [{**vars(node), "job_id": job_id} for node in plan.nodes])
    of_all = {
        "job_id": job_id,
        "owner_id": owner.id,
        "held": spec.hold,
        "priority": spec.priority,
        "max_attempts": max_attempts,
    }
    for leaf in plan.leaves:
        _insert_tasks(session, of_all, leaf)
    forget_plans(session, plan.total)
    transition.note_submitted(session, job_id)
    if plan.misfits:
        terms.end(session, transition.lock_job(session, job_id), plan.misfits)
    if plan.nodes or plan.misfits or any(leaf.cache for leaf in plan.leaves):
        flow.begin(session, transition.lock_job(session, job_id), fresh=True)
    else:
        outbox.wake(session)
    return job_id


def _earlier(session: Session, owner: User, key: str | None, document: Mapping[str, Any]) -> uuid.UUID | None:
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY:
        raise Invalid(f"An Idempotency-Key has 1 to {MAX_KEY} characters.")
    statement = select(Job.id, Job.spec).where(Job.owner_id == owner.id, Job.idempotency_key == key)
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    job_id: uuid.UUID = found.id
    if found.spec != document:
        raise IdempotencyMismatch(f"The Idempotency-Key '{key}' belongs to job {job_id}, another request.")
    return job_id


def _vanished(key: str | None) -> uuid.UUID:
    raise RuntimeError(f"the job of idempotency key {key!r} vanished within a transaction")


def _check_priority(owner: User, priority: int) -> None:
    if priority > owner.max_priority and not owner.is_admin:
        raise Forbidden(
            f"Your highest priority is {owner.max_priority}, not {priority}.",
            hint="Submit with a lower priority, or ask an admin to raise yours.",
        )


def _job_values(owner: User, spec: JobSpec, plan: Plan) -> dict[str, Any]:
    return {
        "owner_id": owner.id,
        "label": spec.label,
        "labels": sorted(set(spec.labels)),
        "note": spec.note,
        "priority": spec.priority,
        "held": spec.hold,
        "webhook": spec.webhook,
        "mail": spec.mail,
        "protocols": plan.protocols,
        "datasets": sorted(plan.datasets),
        "tasks_total": plan.total,
        "tasks_queued": plan.total,
    }


def _insert_job(session: Session, values: Mapping[str, Any]) -> uuid.UUID | None:
    """The new job's id; None if its idempotency key is taken."""
    statement = upsert(Job).values(values)
    statement = statement.on_conflict_do_nothing(index_elements=[Job.owner_id, Job.idempotency_key])
    return session.scalar(statement.returning(Job.id))


# One statement for a task as for a sweep of 100,000: the points travel as one JSON array.
_INSERT = text(
    """
    INSERT INTO tasks (job_id, owner_id, protocol_version_id, name, node, position, ready, held, optional,
        sources, priority, lane, cores, memory_bytes, wall_seconds, tags, key, max_attempts,
        parameters, inputs, cache_key)
    SELECT :job_id, :owner_id, :version_id,
        CASE WHEN :is_sweep THEN :name || '[' || (point.number - 1) || ']' ELSE :name END,
        :node, :position + point.number - 1, :ready, :held, :optional,
        :sources, :priority, :lane, :cores, :memory_bytes, :wall_seconds, :tags, :key, :max_attempts,
        :parameters || coalesce(point.own -> 'p', '{}'), :inputs || coalesce(point.own -> 'i', '{}'),
        coalesce(point.own ->> 'k', :cache_key)
    FROM jsonb_array_elements(:points) WITH ORDINALITY AS point (own, number)
    ORDER BY point.number
    """
).bindparams(
    bindparam("job_id", type_=Uuid),
    bindparam("owner_id", type_=Uuid),
    bindparam("version_id", type_=Uuid),
    bindparam("name", type_=Text),
    bindparam("is_sweep", type_=Boolean),
    bindparam("node", type_=BigInteger),
    bindparam("position", type_=BigInteger),
    bindparam("sources", type_=ARRAY(Text)),
    bindparam("tags", type_=ARRAY(Text)),
    bindparam("parameters", type_=JSONB),
    bindparam("inputs", type_=JSONB),
    bindparam("points", type_=JSONB),
    bindparam("cache_key", type_=Text),
)


def _insert_tasks(session: Session, job: Mapping[str, Any], leaf: Leaf) -> None:
    assert leaf.version is not None and leaf.needs is not None  # noqa: S101  (a plan is complete)
    own = {
        "version_id": leaf.version.id,
        "name": leaf.spec.task,
        "is_sweep": leaf.points is not None,
        "node": leaf.node,
        "position": leaf.position,
        "ready": leaf.is_first,
        "optional": leaf.spec.optional,
        "sources": leaf.sources,
        "lane": leaf.needs.lane,
        "cores": leaf.needs.cores,
        "memory_bytes": leaf.needs.memory_bytes,
        "wall_seconds": leaf.needs.wall_seconds,
        "tags": list(leaf.needs.tags),
        "key": leaf.needs.key,
        "parameters": leaf.parameters,
        "inputs": leaf.inputs,
        "points": [{}] if leaf.points is None else leaf.points,
        "cache_key": leaf.cache,
    }
    session.execute(_INSERT, {**job, **own})
