"""What admins look after: users, groups with their quotas, and the audit log."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from flask import g, redirect, render_template, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from labfleet.db.models import User
from labfleet.errors import Invalid, LabfleetError, NotFound
from labfleet.jobs import quotas
from labfleet.protocols.quantities import bytes_of
from labfleet.users import audit, identities, invitations, people, sessions
from labfleet.users import service as users
from labfleet.users.audit import Action
from labfleet.web.auth import admin_only
from labfleet.web.guard import MAX_DEPTH, check_value
from labfleet.web.pages.frame import pages
from labfleet.web.services import services

SECTION = "Administration"
LIMITS = ("max_running", "max_cores", "max_stored_bytes")
MAX_TEXT = 100
# What an action is in words, between who did it and to whom or what.
WORDS = {
    Action.SESSION_BEGUN: "signed in",
    Action.SESSION_ENDED: "signed out",
    Action.SIGN_IN_FAILED: "gave a wrong password for",
    Action.PASSWORD_CHANGED: "chose another password",
    Action.PASSWORD_RESET: "gave another password to",
    Action.PASSWORD_FORGOTTEN: "asked for another password for",
    Action.PASSWORD_RECOVERED: "chose another password by mail for",
    Action.TOKEN_MADE: "made a token",
    Action.TOKEN_REVOKED: "revoked tokens",
    Action.SECOND_FACTOR_ON: "switched the second factor on",
    Action.SECOND_FACTOR_OFF: "switched the second factor off",
    Action.SECOND_FACTOR_CODES: "made recovery codes",
    Action.SECOND_FACTOR_RECOVERED: "used a recovery code of",
    Action.SECOND_FACTOR_REFUSED: "gave a wrong code for",
    Action.USER_MADE: "added the user",
    Action.USER_INVITED: "invited",
    Action.USER_INVITED_AGAIN: "sent the invitation again to",
    Action.USER_INVITATION_WITHDRAWN: "took back the invitation of",
    Action.USER_JOINED: "has joined by an invitation as",
    Action.IDENTITY_LINKED: "linked single sign-on to",
    Action.IDENTITY_UNLINKED: "took single sign-on away from",
    Action.IDENTITY_REFUSED: "was refused by single sign-on as",
    Action.ADDRESS_CHANGED: "confirmed the mail address of",
    Action.USER_DISABLED: "disabled",
    Action.USER_ENABLED: "enabled",
    Action.USER_PROMOTED: "made an admin of",
    Action.USER_DEMOTED: "made an admin no more of",
    Action.QUOTA_CHANGED: "changed the quota of",
    Action.GROUP_CHANGED: "changed the group",
    Action.GROUP_DELETED: "deleted the group",
    Action.RESERVATION_CHANGED: "reserved slots for",
    Action.RESERVATION_DELETED: "reserves no slots any more for",
    Action.MAIL_TRIED: "sent a mail to try it out to",
    Action.WORKER_INVITED: "invited to join as the worker",
    Action.WORKER_INVITATION_WITHDRAWN: "took back the invitation of the worker",
    Action.WORKER_JOINED: "has joined by an invitation as the worker",
    Action.WORKER_JOIN_REFUSED: "came with an invitation that is over, of the worker",
    Action.WORKER_DRAINED: "drains the worker",
    Action.WORKER_RESUMED: "uses again the worker",
    Action.WORKER_REMOVED: "removed the worker",
    Action.PROTOCOL_VERSION: "added a version of the protocol",
    Action.PROTOCOL_SHARED: "shared the protocol",
    Action.PROTOCOL_UNSHARED: "no longer shares the protocol",
    Action.PROTOCOL_PUBLISHED: "gave to everybody the protocol",
    Action.PROTOCOL_WITHDRAWN: "took back from everybody the protocol",
    Action.PROTOCOL_TRANSFERRED: "gave to another owner the protocol",
    Action.PROTOCOL_DELETED: "deleted the protocol",
    Action.DATASET_SHARED: "shared the dataset",
    Action.DATASET_UNSHARED: "no longer shares the dataset",
    Action.DATASET_PUBLISHED: "gave to everybody the dataset",
    Action.DATASET_WITHDRAWN: "took back from everybody the dataset",
    Action.DATASET_DELETED: "deleted the dataset",
    Action.SOURCE_SHARED: "shared the source",
    Action.SOURCE_UNSHARED: "no longer shares the source",
    Action.SOURCE_PUBLISHED: "gave to everybody the source",
    Action.SOURCE_WITHDRAWN: "took back from everybody the source",
    Action.SOURCE_DELETED: "deleted the source",
    Action.JOB_SHARED: "shared the job",
    Action.JOB_UNSHARED: "no longer shares the job",
    Action.JOB_PUBLISHED: "let everybody see the job",
    Action.JOB_WITHDRAWN: "took back from everybody the job",
    Action.JOB_OF_ANOTHER: "acted on somebody's job",
    Action.JOB_DELETED: "deleted the job",
}


@pages.get("/admin/users")
@admin_only
def admin_users() -> str:
    """All users, and the form for another one."""
    return _users()


@pages.post("/admin/users")
@admin_only
def admin_add_user() -> BaseResponse | tuple[str, int]:
    """Make a user."""
    name = request.form.get("name", "").strip()
    try:
        check_value(name, MAX_DEPTH)
        with services().sessions.begin() as db:
            made = users.add_user(
                db, name, request.form.get("password", ""), is_admin=bool(request.form.get("is_admin"))
            )
    except LabfleetError as error:
        return _users(problem=error.problem(), name=name), error.status
    return redirect(f"/admin/users/{made.id}", 303)


@pages.post("/admin/invitations")
@admin_only
def admin_invite() -> BaseResponse | tuple[str, int]:
    """Invite somebody by mail."""
    given = {name: request.form.get(name, "").strip() for name in ("mail", "name")}
    try:
        check_value(given, MAX_DEPTH)
        with services().sessions.begin() as db:
            invitations.invite(
                db, services().post, g.user, **given, is_admin=bool(request.form.get("is_admin"))
            )
    except LabfleetError as error:
        return _users(problem=error.problem(), invited=given), error.status
    return redirect("/admin/users", 303)


@pages.post("/admin/invitations/<uuid:which>/<any(resend,withdraw):verb>")
@admin_only
def admin_invitation(which: uuid.UUID, verb: str) -> BaseResponse:
    """Send an invitation again, or take it back."""
    with services().sessions.begin() as db:
        if verb == "resend":
            invitations.send_again(db, services().post, g.user, which)
        else:
            invitations.withdraw(db, which)
    return redirect("/admin/users", 303)


@pages.get("/admin/users/<uuid:who>")
@admin_only
def admin_user(who: uuid.UUID) -> str:
    """One user."""
    return _user(who)


@pages.post("/admin/users/<uuid:who>/<any(disable,enable,promote,demote):verb>")
@admin_only
def admin_decide(who: uuid.UUID, verb: str) -> BaseResponse:
    """Let a user in or not, make him an admin or not."""
    with services().sessions.begin() as db:
        name = people.by_id(db, who).name
        if verb in {"disable", "enable"}:
            people.set_disabled(db, g.user, name, disabled=verb == "disable")
        else:
            people.set_admin(db, g.user, name, is_admin=verb == "promote")
    return _back(who)


@pages.post("/admin/users/<uuid:who>/password")
@admin_only
def admin_reset_password(who: uuid.UUID) -> BaseResponse | tuple[str, int]:
    """Give a user another password."""
    try:
        with services().sessions.begin() as db:
            people.reset_password(db, people.by_id(db, who).name, request.form.get("password", ""))
    except Invalid as error:
        return _user(who, problem=error.problem()), error.status
    return _back(who)


@pages.post("/admin/users/<uuid:who>/second-factor/reset")
@admin_only
def admin_reset_second_factor(who: uuid.UUID) -> BaseResponse:
    """Switch off the second factor of a user who has lost it."""
    with services().sessions.begin() as db:
        people.reset_second_factor(db, people.by_id(db, who).name)
    return _back(who)


@pages.post("/admin/users/<uuid:who>/sessions/end")
@admin_only
def admin_end_sessions(who: uuid.UUID) -> BaseResponse:
    """Sign a user out everywhere."""
    with services().sessions.begin() as db:
        sessions.end_all(db, people.by_id(db, who))
    return _back(who)


@pages.post("/admin/users/<uuid:who>/identities/<uuid:identity>/unlink")
@admin_only
def admin_unlink(who: uuid.UUID, identity: uuid.UUID) -> BaseResponse:
    """Let a provider of sign-ins open a user's account no more."""
    with services().sessions.begin() as db:
        people.unlink(db, g.user, people.by_id(db, who).name, identity)
    return _back(who)


@pages.post("/admin/users/<uuid:who>/tokens/<uuid:token>/revoke")
@admin_only
def admin_revoke_token(who: uuid.UUID, token: uuid.UUID) -> BaseResponse:
    """Let a token of a user be good no more."""
    with services().sessions.begin() as db:
        users.revoke_one_token(db, people.by_id(db, who), token)
    return _back(who)


@pages.post("/admin/users/<uuid:who>/quota")
@admin_only
def admin_set_quota(who: uuid.UUID) -> BaseResponse | tuple[str, int]:
    """Set group and quota of a user."""
    try:
        changes: dict[str, Any] = {**_limits(), "group": request.form.get("group") or None}
        changes["weight"] = _number("weight", float)
        changes["max_priority"] = _number("max_priority", int)
        with services().sessions.begin() as db:
            quotas.set_user(db, people.by_id(db, who).name, changes)
    except (Invalid, NotFound) as error:
        return _user(who, problem=error.problem()), error.status
    return _back(who)


@pages.get("/admin/groups")
@admin_only
def admin_groups() -> str:
    """All groups, and the form for another one."""
    return _groups()


@pages.post("/admin/groups")
@admin_only
def admin_put_group() -> BaseResponse | tuple[str, int]:
    """Make a group, or set its quota anew."""
    try:
        with services().sessions.begin() as db:
            quotas.put_group(db, request.form.get("name", "").strip(), _limits())
    except LabfleetError as error:
        return _groups(problem=error.problem()), error.status
    return redirect("/admin/groups", 303)


@pages.post("/admin/groups/<name>/delete")
@admin_only
def admin_delete_group(name: str) -> BaseResponse:
    """Delete a group; its users stay."""
    with services().sessions.begin() as db:
        quotas.delete_group(db, name)
    return redirect("/admin/groups", 303)


@pages.get("/admin/audit")
@admin_only
def admin_audit() -> str:
    """The audit log."""
    query = {name: request.args.get(name, "")[:MAX_TEXT] or None for name in ("user", "kind", "after")}
    after = query["after"]
    if after is not None and not (after.isdecimal() and len(after) < 19):
        raise Invalid(f"'after' is no entry of the log: {after}.", hint="Use the links of the page.")
    with services().sessions() as db:
        page = audit.entries(db, user=query["user"], kind=query["kind"], after=int(after) if after else None)
    return render_template(
        "admin_audit.html",
        section=SECTION,
        page=page,
        query=query,
        kinds=audit.KINDS,
        way="audit",
        words=WORDS,
    )


def _back(who: uuid.UUID) -> BaseResponse:
    return redirect(f"/admin/users/{who}", 303)


def _users(**more: object) -> str:
    query = {name: request.args.get(name, "")[:MAX_TEXT] or None for name in ("text", "after")}
    with services().sessions() as db:
        page = people.page(db, text=query["text"], after=query["after"])
        waiting = [(row, row.expires_at < datetime.now(UTC)) for row in invitations.under_way(db)]
    return render_template(
        "admin_users.html",
        section=SECTION,
        way="users",
        page=page,
        query=query,
        shortest=users.MIN_PASSWORD,
        waiting=waiting,
        mail_on=services().post.on,
        **more,
    )


def _user(who: uuid.UUID, **more: object) -> str:
    with services().sessions() as db:
        (person,) = people.described(db, [people.by_id(db, who)])
        row = person.user
        return render_template(
            "admin_user.html",
            section=SECTION,
            way="users",
            person=person,
            row=row,
            tokens=users.live_tokens(db, row),
            open_sessions=len(sessions.live(db, row, services().settings.web.session_hours)),
            identities=identities.all_of(db, row),
            has_password=users.has_password(row),
            groups=quotas.list_groups(db),
            has=_has(db, row),
            log=audit.entries(db, user=row.name, limit=10).items,
            shortest=users.MIN_PASSWORD,
            size_field=size_field,
            words=WORDS,
            **more,
        )


def _has(db: Session, row: User) -> dict[str, int]:
    side = quotas.allowances(db, [row.id])[row.id].user
    return {
        "running": side.running,
        "cores": side.cores,
        "stored_bytes": quotas.stored_bytes(db, row.id),
    }


def _groups(**more: object) -> str:
    with services().sessions() as db:
        groups = [(group, quotas.members(db, group.name)) for group in quotas.list_groups(db)]
    return render_template(
        "admin_groups.html", section=SECTION, way="groups", groups=groups, size_field=size_field, **more
    )


def _limits() -> dict[str, Any]:
    """The limits of the form; an empty field is no limit."""
    return {name: _limit(name) if request.form.get(name, "").strip() else None for name in LIMITS}


def _limit(name: str) -> int:
    text = request.form[name].strip()
    if name != "max_stored_bytes" or text.isdecimal():
        return int(_number(name, int))
    try:
        return bytes_of(text)
    except ValueError:
        raise Invalid("Stored data: that is no size; write 500G, for example.") from None


def _number(name: str, kind: type[int] | type[float]) -> Any:
    try:
        number = kind(request.form.get(name, "").strip())
    except ValueError:
        raise Invalid(f"{name.replace('_', ' ')}: that is no number.") from None
    check_value(number, MAX_DEPTH)
    return number


def size_field(size: int | None) -> str:
    """A size as one types it: `500G`; empty for none."""
    if size is None:
        return ""
    for unit, worth in (("T", 1024**4), ("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if size % worth == 0:
            return f"{size // worth}{unit}"
    return str(size)
