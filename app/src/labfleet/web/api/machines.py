"""Workers, sign-in, and how the service itself is."""

from __future__ import annotations

from importlib.metadata import version

from labfleet.errors import Forbidden, Invalid
from labfleet.jobs import fleet, presence
from labfleet.jobs.presence import Presence
from labfleet.jobs.webhooks import secret_of
from labfleet.users import service as users
from labfleet.users.scopes import Scope
from labfleet.web import probes
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import anyone, user, workers
from labfleet.web.auth import check_second_factor, current_user, lacks_second_factor, needs, sign_in
from labfleet.web.services import services
from labfleet.web.tracing import known

TOKEN_DAYS = 365.0


@anyone.post("/login")
@anyone.doc(tags=["users"], operation_id="login")
@anyone.input(schemas.Login)
@anyone.output(schemas.TokenOut)
def login(json_data: schemas.Login) -> schemas.TokenOut:
    """Get a token for a name and password

    It is good for a year, or until it is revoked. Where a second factor is on, `second_factor_needed` asks
    for a `code` of it.
    """
    found = sign_in(json_data.user, json_data.password)
    check_second_factor(found, json_data.code)
    if lacks_second_factor(found):
        raise Forbidden(
            "Admins of this Labfleet need a second factor.", hint="Sign in with a browser to set it up."
        )
    known(found)
    with services().sessions.begin() as db:
        return schemas.TokenOut(
            token=users.issue_token(db, found, json_data.name, days=TOKEN_DAYS, wanted=json_data.scopes)
        )


@user.get("/me")
@needs(Scope.READ)
@user.doc(tags=["users"], operation_id="me")
@user.output(schemas.Me)
def me() -> schemas.Me:
    """Who you are"""
    return schemas.Me.model_validate(current_user())


@user.get("/me/webhook-secret")
@needs(Scope.ACCOUNT)
@user.doc(tags=["users"], operation_id="show_webhook_secret")
@user.output(schemas.WebhookSecret)
def show_webhook_secret() -> schemas.WebhookSecret:
    """Show the secret that signs the calls of your webhooks

    It stays the same until the admin changes the signing key of this Labfleet.
    """
    return schemas.WebhookSecret(secret=secret_of(current_user().id, services().signing_keys))


@user.get("/workers")
@needs(Scope.READ)
@user.doc(tags=["workers"], operation_id="list_workers")
@user.output(schemas.Workers)
def list_workers() -> schemas.Workers:
    """List the workers"""
    with services().sessions() as db:
        known = fleet.described(db, services().settings.order)
        return schemas.Workers(items=[views.worker(row, now) for row, now in known])


@workers.put("/workers/<name>")
@workers.doc(tags=["workers"], operation_id="report_worker")
@workers.input(schemas.PresenceIn)
@workers.output(schemas.Seen)
def report(name: str, json_data: schemas.PresenceIn) -> schemas.Seen:
    """Report a worker's presence"""
    if json_data.free_slots > json_data.slots:
        raise Invalid("A worker has no more free slots than slots.")
    with services().sessions.begin() as db:
        draining = presence.report(db, name, Presence(**json_data.model_dump()))
    return schemas.Seen(name=name, draining=draining)


@anyone.get("/health")
@anyone.doc(tags=["service"], operation_id="health")
@anyone.output(schemas.Health)
def health() -> schemas.Health:
    """Whether the process is alive"""
    return schemas.Health(status="ok", version=version("labfleet"))


@anyone.get("/ready")
@anyone.doc(tags=["service"], operation_id="ready", extensions={"x-labfleet-unready": True})
@anyone.output(schemas.Ready)
def ready() -> tuple[schemas.Ready, int, dict[str, str]]:
    """Whether database, store and queue tier answer"""
    checks = probes.checks()
    good = all(checks.values())
    headers = {} if good else {"Retry-After": "5"}
    return schemas.Ready(ready=good, checks=checks), 200 if good else 503, headers
