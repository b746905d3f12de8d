"""Deliveries of webhooks: pick due rows, call their URLs, settle what the receivers answered.

The rows stay locked while they are called, so that two processes never call for the same row at once; if
the process dies the locks go and the calls are made again. A receiver knows a call again by its id.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labfleet.config import WebhooksSection
from labfleet.db.models import Delivery, Job
from labfleet.dispatch import webhooks_metrics as metrics
from labfleet.dispatch.caller import Answer, Call, Caller
from labfleet.jobs.webhooks import secret_of, signature
from labfleet.log import get_logger

_log = get_logger(__name__)
OPEN = (Delivery.delivered_at.is_(None), Delivery.given_up_at.is_(None))
"""What is neither delivered nor given up."""


@dataclass(frozen=True)
class Sender:
    """What delivering takes: the caller, the signing keys (the first counts), the site, the settings."""

    caller: Caller
    keys: Sequence[str]
    public_url: str
    section: WebhooksSection

    def prepare(self, row: Delivery, owner_id: uuid.UUID) -> Call:
        """The call for a row; its body is the same at each try, its signature is not."""
        body = self._body(row)
        headers = {
            "Content-Type": "application/json",
            "X-Labfleet-Delivery": str(row.id),
            "X-Labfleet-Signature": signature(secret_of(owner_id, self.keys), body, int(time.time())),
        }
        return Call(row.url, body, headers)

    def _body(self, row: Delivery) -> bytes:
        told = {
            **row.payload,
            "delivery": str(row.id),
            "time": row.created_at.astimezone(UTC).isoformat(),
            "url": f"{self.public_url.rstrip('/')}/jobs/{row.job_id}",
        }
        return json.dumps(told).encode()


def deliver_batch(session: Session, sender: Sender) -> int:
    """Make the calls of up to `batch_size` due rows, all at once; how many there were. The caller commits."""
    due = _pick(session, sender.section.batch_size)
    answers = sender.caller.call([sender.prepare(row, owner_id) for row, owner_id in due])
    for (row, _), answer in zip(due, answers, strict=True):
        settle(row, answer, sender.section)
    session.flush()
    return len(due)


def _pick(session: Session, limit: int) -> list[tuple[Delivery, uuid.UUID]]:
    statement = (
        select(Delivery, Job.owner_id)
        .join(Job, Job.id == Delivery.job_id)
        .where(*OPEN, Delivery.next_try_at <= func.clock_timestamp())
        .order_by(Delivery.next_try_at, Delivery.id)
        .limit(limit)
        .with_for_update(of=Delivery, skip_locked=True)
    )
    return [(row, owner_id) for row, owner_id in session.execute(statement)]


def settle(row: Delivery, answer: Answer, section: WebhooksSection) -> None:
    """Write down what came of a call: delivered, to be tried again, or given up."""
    row.tries += 1
    row.last_status = answer.status
    row.last_error = answer.error and answer.error[:1000]
    if answer.error is None:
        row.delivered_at = func.clock_timestamp()
        metrics.DELIVERED.inc()
    elif row.tries >= section.tries:
        row.given_up_at = func.clock_timestamp()
        metrics.GIVEN_UP.inc()
    else:
        row.next_try_at = func.clock_timestamp() + timedelta(seconds=section.delay(row.tries))
        metrics.TO_BE_TRIED_AGAIN.inc()
    # Without the URL, and the error that may have it: whoever knows it can often write to where it leads.
    _log.info(
        "webhook called", job=str(row.job_id), delivery=str(row.id), status=answer.status, tries=row.tries
    )


def next_due(session: Session) -> float:
    """In how many seconds the next open delivery is due, negative when it is late; infinity for none."""
    first = select(func.extract("epoch", func.min(Delivery.next_try_at) - func.clock_timestamp()))
    seconds = session.scalar(first.where(*OPEN))
    return float("inf" if seconds is None else seconds)
