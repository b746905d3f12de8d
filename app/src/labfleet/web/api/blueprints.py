"""The API's blueprints: who may ask, and what every call with a JSON body goes through."""

from __future__ import annotations

from apiflask import APIBlueprint

from labfleet.web.auth import attempt_auth, join_auth, user_auth, worker_auth
from labfleet.web.guard import strict_json

PREFIX = "/api/v1"

anyone = APIBlueprint("anyone", __name__, url_prefix=PREFIX)
user = APIBlueprint("user", __name__, url_prefix=PREFIX)
attempts = APIBlueprint("attempts", __name__, url_prefix=f"{PREFIX}/attempts/<uuid:task>/<int:number>")
workers = APIBlueprint("workers", __name__, url_prefix=PREFIX)
joins = APIBlueprint("joins", __name__, url_prefix=PREFIX)
ALL = (anyone, user, attempts, workers, joins)


@user.before_request
@user.auth_required(user_auth)
def _for_users() -> None:
    strict_json()


@attempts.before_request
@attempts.auth_required(attempt_auth)
def _for_attempts() -> None:
    strict_json()


@workers.before_request
@workers.auth_required(worker_auth)
def _for_workers() -> None:
    strict_json()


@joins.before_request
@joins.auth_required(join_auth)
def _for_those_who_join() -> None:
    strict_json()


anyone.before_request(strict_json)
