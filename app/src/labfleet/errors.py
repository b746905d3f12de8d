"""Errors that people see: what went wrong, a stable code, and what to do about it.

Every expected failure is a `LabfleetError`. The web turns it into `application/problem+json`,
the command line into one line and a hint. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar


class LabfleetError(Exception):
    """An expected failure. Subclasses fix `code`, `status` and `title`; `hint` says what to do.

    `extra` members go into the problem document as they are (for example `expected_offset`).
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    title: ClassVar[str] = "Something went wrong"
    default_hint: ClassVar[str] = "Look into the service's journal; report it if it stays."

    def __init__(self, detail: str = "", *, hint: str | None = None, **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.hint = self.default_hint if hint is None else hint
        self.extra = extra

    def problem(self) -> dict[str, Any]:
        """The error as an RFC 9457 problem document."""
        return {
            "type": f"urn:labfleet:{self.code}",
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
            **self.extra,
        }


class Invalid(LabfleetError):
    """The request is understood and wrong; change it as `detail` says."""

    code = "invalid"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "The request is not valid"
    default_hint = "Correct what the detail names and send it again."


class Malformed(LabfleetError):
    """The request can't be read at all (no JSON, bad header)."""

    code = "malformed"
    status = HTTPStatus.BAD_REQUEST
    title = "The request can't be read"
    default_hint = "Send a well-formed request; the API's documentation is at /api/docs."


class InvalidJob(Invalid):
    """A job's specification has faults; `extra['errors']` lists the path and message of each."""

    code = "invalid_job"
    title = "The job can't be run as it is written"
    default_hint = "Correct what is named; 'labfleet validate FILE' shows the places in the file."

    def __init__(self, faults: Sequence[Mapping[str, str]]) -> None:
        detail = "; ".join(f"{fault['path']}: {fault['message']}" for fault in faults[:20])
        super().__init__(detail, errors=list(faults))


class MailOff(Invalid):
    """What was asked for takes a mail, and the admin has named no server for mails."""

    code = "mail_off"
    title = "Mail is off"
    default_hint = "Ask an admin: webserver_mail_host says which server takes mails (docs/admin/mail.md)."


class NoAddress(Invalid):
    """A mail about jobs is wanted, and the account has no address that is confirmed."""

    code = "no_address"
    title = "The account has no mail address"
    default_hint = "Set your address on the page of your account, and open the link that is sent there."


class WebhooksOff(Invalid):
    """A job has a webhook, and the admin has named no network into which one may lead."""

    code = "webhooks_off"
    title = "Webhooks are off"
    default_hint = (
        "Leave the webhook out, or ask an admin: webserver_webhook_networks says where webhooks may lead."
    )


class InvalidParameters(Invalid):
    """Parameters don't fit the protocol's schema; `extra['errors']` lists path and message."""

    code = "invalid_parameters"
    title = "The parameters don't fit the protocol"
    default_hint = "See the protocol's interface for its parameters."


class InvalidInputs(Invalid):
    """Inputs name a slot that the protocol lacks, or leave out one that it needs."""

    code = "invalid_inputs"
    title = "The inputs don't fit the protocol"
    default_hint = "See the protocol's interface for its input slots."


class InvalidSource(Invalid):
    """A source's definition has faults; `extra['errors']` lists the path and message of each."""

    code = "invalid_source"
    title = "The source can't be fetched as it is written"
    default_hint = "Correct what is named; 'labfleet sources handlers' shows what each handler takes."

    def __init__(self, faults: Sequence[Mapping[str, str]]) -> None:
        detail = "; ".join(f"{fault['path']}: {fault['message']}" for fault in faults[:20])
        super().__init__(detail, errors=list(faults))


class Unauthorized(LabfleetError):
    """Nobody known is asking: sign in, or send a token that is still good."""

    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED
    title = "Sign in first"
    default_hint = "Send 'Authorization: Bearer <token>'; 'labfleet login' gets a token."


class SecondFactorNeeded(Unauthorized):
    """The password is right; a code of the second factor is wanted with it."""

    code = "second_factor_needed"
    title = "A code is needed too"
    default_hint = "Send the code that your app shows, or a recovery code, as 'code'."


class SignOnFailed(Unauthorized):
    """The provider of sign-ins, or what it answered, leaves us without knowing who is there."""

    code = "sign_on_failed"
    title = "The sign-in did not come to its end"
    default_hint = "Begin again. If it stays like this, tell an admin of this Labfleet."


class Forbidden(LabfleetError):
    """Who is asking is known and may not do this; an admin may."""

    code = "forbidden"
    status = HTTPStatus.FORBIDDEN
    title = "Not allowed"
    default_hint = "Ask an admin of this Labfleet."


class SignOnRefused(Forbidden):
    """The provider says who is there, and this one is not let in."""

    code = "sign_on_refused"
    title = "You are not let in"


class ScopeMissing(Forbidden):
    """The user may do this, but the token that asks was made for less; `extra['scope']` is what it lacks."""

    code = "scope_missing"
    title = "The token may not do this"

    def __init__(self, scope: str, detail: str = "") -> None:
        super().__init__(
            detail or f"The token lacks the scope '{scope}'.",
            hint=f"Use a token with the scope '{scope}': make one on the page of your account or by "
            "'labfleet tokens make', or sign in anew by 'labfleet login'.",
            scope=scope,
        )


class NotFound(LabfleetError):
    """There is no such thing, or it isn't yours to see."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND
    title = "Not found"
    default_hint = "Check the name or id; you see only what is yours."


class UnknownProtocol(NotFound):
    """No protocol of this name."""

    code = "unknown_protocol"
    title = "Unknown protocol"
    default_hint = "'labfleet protocols' lists the protocols."


class UnknownVersion(NotFound):
    """The protocol has no such version."""

    code = "unknown_version"
    title = "Unknown version"
    default_hint = "'labfleet protocols NAME' lists its versions; leave it out for the newest."


class UnknownDataset(NotFound):
    """No dataset of this id among those you may see."""

    code = "unknown_dataset"
    title = "Unknown dataset"
    default_hint = "'labfleet datasets' lists yours; upload one first."


class UnknownSource(NotFound):
    """No source of this id among those you may see."""

    code = "unknown_source"
    title = "Unknown source"
    default_hint = "'labfleet sources' lists those you may see."


class LinkOver(LabfleetError):
    """A link out of a mail that is good no more: used, ended, withdrawn or replaced by a newer one."""

    code = "link_over"
    status = HTTPStatus.GONE
    title = "This link is good no more"
    default_hint = "Each link works once and for a limited time. Ask for a new one."


class JoinOver(LabfleetError):
    """An invitation of a machine that is good no more: used, ended, taken back or replaced by a newer one."""

    code = "join_over"
    status = HTTPStatus.GONE
    title = "This invitation is good no more"
    default_hint = "Each works once and for a limited time. Run playbooks/invite.yml on the controller again."


class Conflict(LabfleetError):
    """The request is fine, the state of things isn't; ask for the state and decide again."""

    code = "conflict"
    status = HTTPStatus.CONFLICT
    title = "Not possible in this state"
    default_hint = "Ask for the current state and decide again."


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_mismatch"
    title = "The Idempotency-Key was used for something else"
    default_hint = "Use a new key for a new request."


class UserExists(Conflict):
    """A user of this name exists."""

    code = "user_exists"
    title = "The user exists"
    default_hint = "Choose another name, or use --if-missing."


class SourceExists(Conflict):
    """The owner has a source of this name."""

    code = "source_exists"
    title = "The source exists"
    default_hint = "Choose another name, or change the one that is there."


class AlreadyClaimed(Conflict):
    """Another process holds this attempt; drop the message."""

    code = "already_claimed"
    title = "The attempt is claimed"
    default_hint = "Drop the message: another process runs this attempt."


class AttemptSuperseded(Conflict):
    """The attempt isn't the current one; nothing of it counts any more."""

    code = "attempt_superseded"
    title = "The attempt was superseded"
    default_hint = "Stop the attempt and discard its results: a later attempt counts."


class TaskFinal(Conflict):
    """The task has reached its final state."""

    code = "task_final"
    title = "The task is finished"
    default_hint = "A final state stays; submit a new job instead."


class TaskCancelled(TaskFinal):
    """The task was cancelled."""

    code = "task_cancelled"
    title = "The task was cancelled"
    default_hint = "Stop the attempt; a cancelled task stays cancelled."


class LogGap(Conflict):
    """The log's offset lies beyond what the server has; send from `expected_offset`."""

    code = "log_gap"
    title = "The log has a gap"
    default_hint = "Send the log again from expected_offset."


class IllegalTransition(Conflict):
    """The table of transitions has no entry for this state and event."""

    code = "illegal_transition"
    title = "The state doesn't allow this"


class WrongState(Conflict):
    """The job or task is in a state in which this can't be done to it; `extra['state']` names it."""

    code = "wrong_state"
    title = "Not possible in this state"
    default_hint = "Look at it again: somebody else may have been quicker."


class QuotaExceeded(LabfleetError):
    """A user's or group's quota leaves no room."""

    code = "quota_exceeded"
    status = HTTPStatus.CONFLICT
    title = "The quota is used up"
    default_hint = "Delete what is not needed any more, or ask an admin for more."


class TooLarge(LabfleetError):
    """The body is larger than the configured limit."""

    code = "too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "Too large"
    default_hint = "Send less, or ask an admin to raise the limit."


class Unavailable(LabfleetError):
    """A part that is needed doesn't answer now; the same request may work a little later."""

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Not available now"
    default_hint = "Try again in a few seconds."


class ProviderUnavailable(Unavailable):
    """The provider of sign-ins does not answer, or not as it should."""

    code = "provider_unavailable"
    default_hint = (
        "Try again in a while, or sign in with a password if you have one. If it stays like this, tell an "
        "admin: the journal of labfleet-web says more."
    )


class ConfigError(LabfleetError):
    """The configuration is missing or wrong; the message names file, key and remedy."""

    code = "config_error"
    title = "The configuration is not valid"
    default_hint = "Correct the file, then run 'labfleet config check'."
