"""The second factor: one-time passwords of an app on the user's phone (RFC 6238), and recovery codes.

It is asked for where a password opens something; API tokens, which were made behind it, work without. A code
is good once, recovery codes too, and of these only the SHA-256 is kept; the app's secret is sealed for its
user, so that who reads the database has no codes. Wrong codes are counted in the row, so that all web
processes together allow so many. No function commits; its caller does, after a wrong one too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, auto

import pyotp
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from labfleet.db.models import RecoveryCode, SecondFactor, User
from labfleet.errors import Conflict, Invalid
from labfleet.sealing import Box, Unopened
from labfleet.users import audit
from labfleet.users.audit import Action

RECOVERY_CODES = 10
RECOVERY_BYTES = 10
MAX_CODE = 64
# A phone's clock may be off by so many steps of half a minute.
DRIFT = 1
_PURPOSE = b"labfleet-totp"


class Verdict(StrEnum):
    """What came of a code: right, right and one of the recovery codes, wrong, or not even looked at."""

    RIGHT = auto()
    RECOVERED = auto()
    WRONG = auto()
    TOO_OFTEN = auto()


@dataclass(frozen=True)
class Setup:
    """What the phone's app has to know: the secret, and the address that carries it in a QR code."""

    secret: str
    uri: str


@dataclass(frozen=True)
class Limit:
    """At most so many wrong codes in so many seconds."""

    tries: int
    seconds: float


def box(keys: Sequence[str]) -> Box:
    """What seals secrets, by the keys that seal credentials of sources too."""
    return Box(keys, _PURPOSE)


def clock() -> float:
    """Seconds since 1970, as phones count them too."""
    return time.time()


def is_on(session: Session, user: User) -> bool:
    """Whether the user has a second factor."""
    return get(session, user) is not None


def get(session: Session, user: User) -> SecondFactor | None:
    """The user's second factor, if it is on."""
    return session.scalars(
        select(SecondFactor).where(SecondFactor.user_id == user.id, SecondFactor.confirmed_at.is_not(None))
    ).one_or_none()


def prepare(session: Session, user: User, sealer: Box) -> None:
    """Make a secret for the user, which counts when a code of it has been told. `Conflict` if one is on."""
    if is_on(session, user):
        raise Conflict("The second factor is on already.", hint="Switch it off first to set it up anew.")
    session.execute(delete(SecondFactor).where(SecondFactor.user_id == user.id))
    sealed = _sealed(user.id, pyotp.random_base32(), sealer)
    session.add(SecondFactor(user_id=user.id, secret=sealed, key=sealer.key))
    session.flush()


def prepared(session: Session, user: User, sealer: Box, issuer: str) -> Setup | None:
    """What the user has yet to confirm; None if nothing was prepared that can be read."""
    row = session.get(SecondFactor, user.id)
    if row is None or row.confirmed_at is not None:
        return None
    try:
        secret = _secret(row, sealer)
    except Unopened:
        return None
    return Setup(secret, pyotp.TOTP(secret).provisioning_uri(name=user.name, issuer_name=issuer))


def confirm(session: Session, user: User, sealer: Box, code: str) -> list[str]:
    """Switch the prepared second factor on; its recovery codes. `Invalid` if the code is none of it."""
    row = session.get(SecondFactor, user.id, with_for_update=True, populate_existing=True)
    if row is None or row.confirmed_at is not None:
        raise Conflict("There is nothing to confirm.", hint="Begin again on the page of your account.")
    if not _right(row, sealer, code, clock()):
        raise Invalid(
            "That code is not right.",
            hint="Type the one that the app shows now; the phone's clock must be right.",
        )
    row.confirmed_at = func.clock_timestamp()
    audit.record(session, Action.SECOND_FACTOR_ON, user.name)
    return renew_codes(session, user)


def check(session: Session, user: User, sealer: Box, code: str, limit: Limit) -> Verdict:
    """Judge a code of the app or a recovery code; a right one is used up. The user must have the factor."""
    row = session.get_one(SecondFactor, user.id, with_for_update=True, populate_existing=True)
    recent = func.clock_timestamp() - timedelta(seconds=limit.seconds)
    if not session.scalar(select(SecondFactor.failed_at > recent).where(SecondFactor.user_id == user.id)):
        row.failures = 0
    if row.failures >= limit.tries:
        return Verdict.TOO_OFTEN
    if _right(row, sealer, code, clock()):
        verdict = Verdict.RIGHT
    else:
        verdict = Verdict.RECOVERED if _use_recovery_code(session, user, code) else Verdict.WRONG
    row.failures = row.failures + 1 if verdict is Verdict.WRONG else 0
    if verdict is Verdict.WRONG:
        row.failed_at = func.clock_timestamp()
        audit.record(session, Action.SECOND_FACTOR_REFUSED, user.name)
    if verdict is Verdict.RECOVERED:
        audit.record(session, Action.SECOND_FACTOR_RECOVERED, user.name)
    session.flush()
    return verdict


def renew_codes(session: Session, user: User) -> list[str]:
    """New recovery codes in place of the old ones, shown this once. `Conflict` without a second factor."""
    if not is_on(session, user):
        raise Conflict("The second factor is off.", hint="Set it up first.")
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = [_new_code() for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(user_id=user.id, hash=_digest(code)) for code in codes)
    audit.record(session, Action.SECOND_FACTOR_CODES, user.name)
    session.flush()
    return codes


def codes_left(session: Session, user: User) -> int:
    """How many recovery codes the user has not used."""
    unused = select(func.count()).where(RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None))
    return int(session.scalar(unused) or 0)


def remove(session: Session, user: User) -> bool:
    """Switch it off, recovery codes and all; whether it was on."""
    statement = delete(SecondFactor).where(SecondFactor.user_id == user.id)
    was_on = session.scalar(statement.returning(SecondFactor.confirmed_at)) is not None
    if was_on:
        audit.record(session, Action.SECOND_FACTOR_OFF, user.name)
    return was_on


def renew(session: Session, sealer: Box) -> tuple[int, Sequence[uuid.UUID]]:
    """Seal with the first key what another one has sealed, or none; how many, and whose no key opens."""
    rows = session.scalars(
        select(SecondFactor)
        .where(SecondFactor.key.is_distinct_from(sealer.key))
        .with_for_update(skip_locked=True)
    ).all()
    lost = []
    for row in rows:
        try:
            row.secret, row.key = _sealed(row.user_id, _secret(row, sealer), sealer), sealer.key
        except Unopened:
            lost.append(row.user_id)
    session.flush()
    return len(rows) - len(lost), lost


def _sealed(user: uuid.UUID, secret: str, sealer: Box) -> str:
    return sealer.seal(f"{user}:{secret}")


def _secret(row: SecondFactor, sealer: Box) -> str:
    """What the phone knows; `Unopened` if it was sealed with a lost key, or for somebody else."""
    if row.key is None:
        return row.secret
    user, _, secret = sealer.open(row.secret).partition(":")
    if user != str(row.user_id):
        raise Unopened
    return secret


def _right(row: SecondFactor, sealer: Box, code: str, now: float) -> bool:
    """Whether it is a code of about now, later than any that was taken; it is taken by this."""
    try:
        otp = pyotp.TOTP(_secret(row, sealer))
    except Unopened:
        # As a phone that was lost: recovery codes open, and an admin can take the factor away.
        return False
    given = code.replace(" ", "")
    for step in range(int(now) // otp.interval - DRIFT, int(now) // otp.interval + DRIFT + 1):
        if hmac.compare_digest(otp.generate_otp(step).encode(), given.encode()) and step > row.last_step:
            row.last_step = step
            return True
    return False


def _use_recovery_code(session: Session, user: User, code: str) -> bool:
    # The look-up is by the hash of an 80-bit random value, so its time tells nothing of use.
    unused = update(RecoveryCode).where(
        RecoveryCode.user_id == user.id,
        RecoveryCode.hash == _digest(code[:MAX_CODE]),
        RecoveryCode.used_at.is_(None),
    )
    used = unused.values(used_at=func.clock_timestamp()).returning(RecoveryCode.hash)
    return session.scalar(used) is not None


def _new_code() -> str:
    text = base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _digest(code: str) -> str:
    plain = code.lower().replace("-", "").replace(" ", "")
    return hashlib.sha256(plain.encode()).hexdigest()
