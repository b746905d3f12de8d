"""How a job's tree moves on: what may run once something has ended, and what has no sense any more.

Everything here happens under the job's lock. A sequential node lets its children run one after the
other, a parallel one all at once. `on_failure` says what the loss of a child means: `stop` skips what
has not begun (and cancels what runs), `continue` lets the others be. The loss of an optional child is none.

A node keeps count of its children that have ended, so that the end of one task costs the same in a
job of ten tasks and of a hundred thousand; only when many tasks change at once they are counted anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, and_, func, literal, or_, select, text, true, update
from sqlalchemy.orm import Session

from labfleet.db.models import Job, Node, Task
from labfleet.jobs import caching, inputs, outbox, transition
from labfleet.jobs.states import FINAL, Event, State

WAITING, ACTIVE, ENDED = "waiting", "active", "ended"
SEQUENTIAL, PARALLEL = "sequential", "parallel"
STOP, CONTINUE = "stop", "continue"
SKIPPED_AFTER = "Not run: something that it comes after, or beside, has failed."
SKIPPED_INPUT = "Not run: an earlier task left no file for one of its inputs."

_FINAL = [state.value for state in FINAL]
_LOST = and_(Task.state.in_(_FINAL), Task.state != State.SUCCESS, ~Task.optional)


@dataclass(frozen=True)
class Child:
    """A child of a node; `number` is None for a task."""

    position: int
    number: int | None


def begin(session: Session, job: Job, *, fresh: bool = False) -> None:
    """Let run what may run first, in a job that is new (`fresh`) or has been reopened."""
    root = session.get(Node, (job.id, 0))
    if root is None:
        _ready(session, job, true())
    else:
        _recount(session, job, root)
        if fresh:
            _skip_beside_lost(session, job, root)
        _activate(session, job, root)
        _end(session, job, root)
    outbox.wake(session)


def _skip_beside_lost(session: Session, job: Job, root: Node) -> None:
    """Skip what lies beside tasks that a new job has lost before it began."""
    stopped = select(Node.number).where(
        Node.job_id == job.id, Node.kind == PARALLEL, Node.on_failure == STOP, Node.lost > 0
    )
    for number in session.scalars(stopped.order_by(Node.number.desc())).all():
        _skip_rest(session, job, _node(session, job, number))
        _recount(session, job, root)


def task_ended(session: Session, job: Job, task: Task) -> None:
    """Move the tree on after a task has reached a final state."""
    outbox.wake(session)  # a slot is free
    if task.node is None:
        return
    node = _node(session, job, task.node)
    lost = task.state != State.SUCCESS and not task.optional
    _count(session, job, node, lost=lost)
    _end(session, job, node)


def many_ended(session: Session, job: Job) -> None:
    """Move the tree on after any number of tasks have been ended at once; nothing new begins by it."""
    outbox.wake(session)
    root = session.get(Node, (job.id, 0))
    if root is not None:
        _recount(session, job, root)
        _end(session, job, root)


def request_cancel(session: Session, task: Task) -> None:
    """Ask the worker of a running task to stop it; once more is harmless."""
    if not task.cancel_requested:
        task.cancel_requested = True
        transition.apply(session, task, Event.CANCEL_REQUESTED)
        outbox.enqueue(session, task, "cancel")


def _count(session: Session, job: Job, node: Node, *, lost: bool) -> None:
    """A child of `node` has ended: stop the others, or let the next one run."""
    node.ended += 1
    node.lost += lost
    session.flush()
    if lost and node.on_failure == STOP:
        _skip_rest(session, job, node)
    elif node.kind == SEQUENTIAL and node.state == ACTIVE:
        _run_sequence(session, job, node)


def _end(session: Session, job: Job, node: Node) -> None:
    """End the node if all of its children have, and its parents likewise."""
    while node.ended >= node.total and node.state != ENDED:
        node.state = ENDED
        session.flush()
        if node.parent is None:
            return
        lost = node.lost > 0 and not node.optional
        node = _node(session, job, node.parent)
        _count(session, job, node, lost=lost)


def _activate(session: Session, job: Job, node: Node) -> None:
    node.state = ACTIVE
    session.flush()
    if node.kind == SEQUENTIAL:
        _run_sequence(session, job, node)
        return
    lost_before = node.lost
    for number in _open_nodes(session, job, node):
        _activate(session, job, _node(session, job, number))
    _ready(session, job, Task.node == node.number)
    _recount(session, job, node)
    if node.lost > lost_before and node.on_failure == STOP:
        _skip_rest(session, job, node)


def _run_sequence(session: Session, job: Job, node: Node) -> None:
    """Let the first child run that has not ended; go on while they end in that very moment."""
    while child := _first_open(session, job, node):
        if node.lost and node.on_failure == STOP and _lost_before(session, job, node, child.position):
            _skip_rest(session, job, node)
            return
        if child.number is None:
            which = and_(Task.node == node.number, Task.position == child.position)
            if not _ready(session, job, which):
                return
        else:
            inner = _node(session, job, child.number)
            if inner.state != ACTIVE:
                _activate(session, job, inner)
            if inner.ended < inner.total:
                return
        _recount(session, job, node)


def _ready(session: Session, job: Job, which: ColumnElement[bool]) -> int:
    """Let these queued tasks run; skip those without an input, reuse known results. How many ended by it."""
    skipped = transition.apply_many(
        session,
        job,
        State.QUEUED,
        Event.SKIPPED,
        and_(which, inputs.missing()),
        {Task.message: SKIPPED_INPUT},
        reason="input",
    )
    begin_now = and_(which, Task.job_id == job.id, Task.state == State.QUEUED, ~Task.ready)
    session.execute(
        update(Task).where(begin_now).values(ready=True), execution_options={"synchronize_session": False}
    )
    session.expire_all()
    return len(skipped) + caching.reuse(session, job, which)


def _skip_rest(session: Session, job: Job, node: Node) -> None:
    """Skip what is queued below the node, cancel what runs there."""
    below = Task.node.between(node.number, node.last)
    values = {Task.message: SKIPPED_AFTER}
    transition.apply_many(session, job, State.QUEUED, Event.SKIPPED, below, values, reason="stop")
    running = select(Task.id).where(Task.job_id == job.id, below, Task.state == State.RUNNING)
    for task_id in session.scalars(running.order_by(Task.id)).all():
        request_cancel(session, transition.lock_task_alone(session, task_id))
    _recount(session, job, node)


def _recount(session: Session, job: Job, top: Node) -> None:
    """Set the counts of `top` and of the nodes below it, and the states of those below, from the tasks."""
    session.flush()
    ended, lost = _tasks_ended(session, job, top)
    below = select(Node).where(Node.job_id == job.id, Node.number.between(top.number, top.last))
    # From the last to the first: children come before their parents.
    for node in session.scalars(below.order_by(Node.number.desc())).all():
        node.ended, node.lost = ended[node.number], lost[node.number]
        if node.number == top.number:
            break
        if node.ended >= node.total:
            node.state = ENDED
            ended[node.parent] += 1
            lost[node.parent] += node.lost > 0 and not node.optional
        elif node.state == ENDED:
            node.state = WAITING
    if top.state == ENDED and top.ended < top.total:
        top.state = WAITING
    session.flush()


def _tasks_ended(session: Session, job: Job, top: Node) -> tuple[Counter[int | None], Counter[int | None]]:
    ended: Counter[int | None] = Counter()
    lost: Counter[int | None] = Counter()
    statement = (
        select(Task.node, func.count().filter(Task.state.in_(_FINAL)), func.count().filter(_LOST))
        .where(Task.job_id == job.id, Task.node.between(top.number, top.last))
        .group_by(Task.node)
    )
    for number, count, gone in session.execute(statement):
        ended[number], lost[number] = count, gone
    return ended, lost


def _node(session: Session, job: Job, number: int) -> Node:
    return session.get_one(Node, (job.id, number))


def _open_nodes(session: Session, job: Job, node: Node) -> list[int]:
    children = select(Node.number).where(
        Node.job_id == job.id, Node.parent == node.number, Node.state != ENDED
    )
    return list(session.scalars(children.order_by(Node.position)))


def _first_open(session: Session, job: Job, node: Node) -> Child | None:
    tasks = select(Task.position, literal(None, Integer).label("number")).where(
        Task.job_id == job.id, Task.node == node.number, Task.state.not_in(_FINAL)
    )
    nodes = select(Node.position, Node.number).where(
        Node.job_id == job.id, Node.parent == node.number, Node.state != ENDED
    )
    first = session.execute(tasks.union_all(nodes).order_by(text("position")).limit(1)).one_or_none()
    return None if first is None else Child(first.position, first.number)


def _lost_before(session: Session, job: Job, node: Node, position: int) -> bool:
    tasks = select(Task.id).where(
        Task.job_id == job.id, Task.node == node.number, Task.position < position, _LOST
    )
    nodes = select(Node.number).where(
        Node.job_id == job.id,
        Node.parent == node.number,
        Node.position < position,
        Node.lost > 0,
        ~Node.optional,
    )
    return bool(session.scalar(select(or_(tasks.exists(), nodes.exists()))))
