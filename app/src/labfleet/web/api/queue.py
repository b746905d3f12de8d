"""The order of what waits, and what an admin says about it: quotas, groups, reservations, the workers."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from labfleet.db import models
from labfleet.errors import Forbidden
from labfleet.jobs import explain, fleet, quotas
from labfleet.users.scopes import Scope
from labfleet.users.service import get_user
from labfleet.web.api import queue_schemas, schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services


@user.get("/queue")
@needs(Scope.READ)
@user.doc(tags=["queue"], operation_id="show_queue")
@user.input(queue_schemas.QueueQuery, location="query")
@user.output(queue_schemas.Queue)
def show_queue(query_data: queue_schemas.QueueQuery) -> queue_schemas.Queue:
    """Show the order in which tasks run next

    Your own tasks, in their places among all; an admin sees everybody's.
    """
    with services().sessions() as db:
        places = explain.queue(db, current_user(), query_data.limit)
    return queue_schemas.Queue(
        items=[
            queue_schemas.QueuePlace(
                place=item.place,
                task=item.task_id,
                job=item.job_id,
                owner=item.owner,
                priority=item.priority,
                share=item.share,
                needs=queue_schemas.Needed.model_validate(item.needs),
            )
            for item in places
        ]
    )


@user.get("/jobs/<uuid:job>/queue")
@needs(Scope.READ)
@user.doc(tags=["queue"], operation_id="explain_job")
@user.output(queue_schemas.JobQueue)
def explain_job(job: uuid.UUID) -> queue_schemas.JobQueue:
    """Tell why a job's tasks wait"""
    with services().sessions() as db:
        waiting = explain.waiting_of_job(db, current_user(), job, services().settings.order)
    return queue_schemas.JobQueue(items=[queue_schemas.WaitingTasks.model_validate(item) for item in waiting])


@user.get("/users/<name>/quota")
@needs(Scope.READ)
@user.doc(tags=["quotas"], operation_id="show_quota")
@user.output(queue_schemas.Quota)
def show_quota(name: str) -> queue_schemas.Quota:
    """Show a user's quota and what is in use

    Everybody may see his own.
    """
    if not (current_user().is_admin or current_user().name == name):
        raise Forbidden("Only an admin may see the quota of somebody else.")
    with services().sessions() as db:
        return _quota(db, get_user(db, name))


@user.patch("/users/<name>/quota")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="change_quota")
@user.input(queue_schemas.QuotaIn)
@user.output(queue_schemas.Quota)
def change_quota(name: str, json_data: queue_schemas.QuotaIn) -> queue_schemas.Quota:
    """Change a user's quota

    What is not named stays. A quota is at least 1; to stop a user disable it.
    """
    with services().sessions.begin() as db:
        return _quota(db, quotas.set_user(db, name, json_data.model_dump(exclude_unset=True)))


def _quota(db: Session, row: models.User) -> queue_schemas.Quota:
    has = quotas.allowances(db, [row.id])[row.id].user
    return queue_schemas.Quota(
        user=row.name,
        group=row.group_name,
        weight=row.weight,
        max_priority=row.max_priority,
        max_running=row.max_running,
        max_cores=row.max_cores,
        max_stored_bytes=row.max_stored_bytes,
        running=has.running,
        cores=has.cores,
        stored_bytes=quotas.stored_bytes(db, row.id),
    )


@user.get("/groups")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="list_groups")
@user.output(queue_schemas.Groups)
def list_groups() -> queue_schemas.Groups:
    """List the groups"""
    with services().sessions() as db:
        return queue_schemas.Groups(items=[_group(db, row) for row in quotas.list_groups(db)])


@user.get("/groups/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="show_group")
@user.output(queue_schemas.Group)
def show_group(name: str) -> queue_schemas.Group:
    """Show a group's quota and its users"""
    with services().sessions() as db:
        return _group(db, quotas.get_group(db, name))


@user.put("/groups/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="put_group")
@user.input(queue_schemas.GroupIn)
@user.output(queue_schemas.Group)
def put_group(name: str, json_data: queue_schemas.GroupIn) -> queue_schemas.Group:
    """Make a group, or set its quota anew"""
    with services().sessions.begin() as db:
        return _group(db, quotas.put_group(db, name, json_data.model_dump()))


@user.delete("/groups/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="delete_group")
@user.output({}, status_code=204)
def delete_group(name: str) -> tuple[str, int]:
    """Delete a group

    Its users stay, without a group.
    """
    with services().sessions.begin() as db:
        quotas.delete_group(db, name)
    return "", 204


def _group(db: Session, row: models.Group) -> queue_schemas.Group:
    return queue_schemas.Group(
        name=row.name,
        max_running=row.max_running,
        max_cores=row.max_cores,
        max_stored_bytes=row.max_stored_bytes,
        users=quotas.members(db, row.name),
    )


@user.get("/reservations")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="list_reservations")
@user.output(queue_schemas.Reservations)
def list_reservations() -> queue_schemas.Reservations:
    """List the reservations"""
    with services().sessions() as db:
        rows = fleet.reservations(db)
        return queue_schemas.Reservations(
            items=[queue_schemas.Reservation.model_validate(row) for row in rows]
        )


@user.get("/reservations/<key>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="show_reservation")
@user.output(queue_schemas.Reservation)
def show_reservation(key: str) -> queue_schemas.Reservation:
    """Show how many slots are kept for a key"""
    with services().sessions() as db:
        return queue_schemas.Reservation.model_validate(fleet.get_reservation(db, key))


@user.put("/reservations/<key>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="put_reservation")
@user.input(queue_schemas.ReservationIn)
@user.output(queue_schemas.Reservation)
def put_reservation(key: str, json_data: queue_schemas.ReservationIn) -> queue_schemas.Reservation:
    """Keep the last free slots for tasks of a key"""
    with services().sessions.begin() as db:
        return queue_schemas.Reservation.model_validate(fleet.reserve(db, key, json_data.slots))


@user.delete("/reservations/<key>")
@needs(Scope.ADMIN)
@user.doc(tags=["quotas"], operation_id="delete_reservation")
@user.output({}, status_code=204)
def delete_reservation(key: str) -> tuple[str, int]:
    """Keep no slots for a key any more"""
    with services().sessions.begin() as db:
        fleet.unreserve(db, key)
    return "", 204


@user.post("/workers/<name>/drain")
@needs(Scope.ADMIN)
@user.doc(tags=["workers"], operation_id="drain_worker")
@user.output(schemas.Worker)
def drain_worker(name: str) -> schemas.Worker:
    """Give a worker no new tasks

    What runs there goes on; what only waits there is placed elsewhere.
    """
    return _drain(name, draining=True)


@user.post("/workers/<name>/resume")
@needs(Scope.ADMIN)
@user.doc(tags=["workers"], operation_id="resume_worker")
@user.output(schemas.Worker)
def resume_worker(name: str) -> schemas.Worker:
    """Give a drained worker tasks again"""
    return _drain(name, draining=False)


def _drain(name: str, *, draining: bool) -> schemas.Worker:
    with services().sessions.begin() as db:
        fleet.drain(db, name, draining=draining)
        workers = fleet.described(db, services().settings.order)
        return next(views.worker(row, now) for row, now in workers if row.name == name)


@user.delete("/workers/<name>")
@needs(Scope.ADMIN)
@user.doc(tags=["workers"], operation_id="remove_worker")
@user.output({}, status_code=204)
def remove_worker(name: str) -> tuple[str, int]:
    """Forget a worker that is gone for good

    One that still reports is refused.
    """
    with services().sessions.begin() as db:
        fleet.remove(db, name, services().settings.order)
    return "", 204
