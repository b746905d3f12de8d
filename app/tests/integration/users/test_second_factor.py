from __future__ import annotations

import uuid

import pyotp
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.db.models import RecoveryCode, SecondFactor, User
from labfleet.errors import Conflict, Invalid
from labfleet.users import second_factor as factor
from labfleet.users.second_factor import Limit, Verdict

Sessions = sessionmaker[Session]
LIMIT = Limit(3, 300)
SEALER = factor.box(["a key"])
NOW = 1_800_000_015.0
STEP = 30


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor, "clock", lambda: NOW)


def code(sessions: Sessions, user: User, at: float = NOW) -> str:
    with sessions() as db:
        _, _, secret = SEALER.open(db.get_one(SecondFactor, user.id).secret).partition(":")
    return pyotp.TOTP(secret).at(int(at))


def check(sessions: Sessions, user: User, given: str) -> Verdict:
    with sessions.begin() as db:
        return factor.check(db, user, SEALER, given, LIMIT)


@pytest.fixture
def codes(sessions: Sessions, user: User) -> list[str]:
    """The second factor is on; its recovery codes."""
    with sessions.begin() as db:
        factor.prepare(db, user, SEALER)
    with sessions.begin() as db:
        return factor.confirm(db, user, SEALER, code(sessions, user))


def test_it_counts_only_when_a_code_has_been_told(sessions: Sessions, user: User) -> None:
    with sessions.begin() as db:
        factor.prepare(db, user, SEALER)
        setup = factor.prepared(db, user, SEALER, "Labfleet labfleet.test")
        assert not factor.is_on(db, user)
    assert setup is not None and setup.uri.startswith("otpauth://totp/Labfleet%20labfleet.test:ada?secret=")
    with sessions() as db, pytest.raises(Invalid, match="not right"):
        factor.confirm(db, user, SEALER, "000000" if code(sessions, user) != "000000" else "000001")
    with sessions.begin() as db:
        codes = factor.confirm(db, user, SEALER, f" {code(sessions, user)[:3]} {code(sessions, user)[3:]} ")
        assert factor.is_on(db, user) and factor.codes_left(db, user) == len(set(codes)) == 10
    with sessions() as db, pytest.raises(Conflict):
        factor.confirm(db, user, SEALER, code(sessions, user))
    with sessions() as db, pytest.raises(Conflict):
        factor.prepare(db, user, SEALER)


def test_a_code_is_good_once_and_an_older_one_never_again(
    sessions: Sessions, user: User, codes: list[str]
) -> None:
    assert check(sessions, user, code(sessions, user)) is Verdict.WRONG  # it confirmed
    later = code(sessions, user, NOW + STEP)
    assert check(sessions, user, later) is Verdict.RIGHT
    assert check(sessions, user, later) is Verdict.WRONG
    assert check(sessions, user, code(sessions, user, NOW)) is Verdict.WRONG


@pytest.mark.parametrize(("steps", "verdict"), [(-2, "wrong"), (-1, "right"), (1, "right"), (2, "wrong")])
def test_a_phone_s_clock_may_be_off_a_little(
    sessions: Sessions, user: User, codes: list[str], steps: int, verdict: str
) -> None:
    with sessions.begin() as db:
        db.execute(text("UPDATE second_factors SET last_step = 0"))
    assert check(sessions, user, code(sessions, user, NOW + steps * STEP)) == verdict


def test_a_recovery_code_opens_once(sessions: Sessions, user: User, codes: list[str]) -> None:
    assert check(sessions, user, codes[0].upper().replace("-", " ")) is Verdict.RECOVERED
    assert check(sessions, user, codes[0]) is Verdict.WRONG
    with sessions.begin() as db:
        assert factor.codes_left(db, user) == 9
        assert not set(codes) & set(db.scalars(select(RecoveryCode.hash)))
        fresh = factor.renew_codes(db, user)
    assert check(sessions, user, codes[1]) is Verdict.WRONG
    assert check(sessions, user, fresh[1]) is Verdict.RECOVERED


def test_guessing_is_slowed_down_for_all_processes(sessions: Sessions, user: User, codes: list[str]) -> None:
    right = code(sessions, user, NOW + STEP)
    for _ in range(3):
        assert check(sessions, user, "no code") is Verdict.WRONG
    assert check(sessions, user, right) is check(sessions, user, codes[0]) is Verdict.TOO_OFTEN
    with sessions.begin() as db:
        db.execute(text("UPDATE second_factors SET failed_at = failed_at - interval '301 seconds'"))
    assert check(sessions, user, right) is Verdict.RIGHT


def test_off_is_off(sessions: Sessions, user: User, codes: list[str]) -> None:
    with sessions.begin() as db:
        assert factor.remove(db, user) and not factor.remove(db, user)
        assert not factor.is_on(db, user) and factor.codes_left(db, user) == 0


def test_the_code_of_another_user_opens_nothing(
    sessions: Sessions, user: User, admin: User, codes: list[str]
) -> None:
    with sessions.begin() as db:
        factor.prepare(db, admin, SEALER)
    with sessions.begin() as db:
        theirs = factor.confirm(db, admin, SEALER, code(sessions, admin))
    assert check(sessions, user, theirs[0]) is Verdict.WRONG


def test_the_database_has_no_code(sessions: Sessions, user: User) -> None:
    """What stands there is sealed, and good for its own user only."""
    with sessions.begin() as db:
        factor.prepare(db, user, SEALER)
        setup = factor.prepared(db, user, SEALER, "x")
        assert setup is not None
        row = db.get_one(SecondFactor, user.id)
        assert setup.secret not in row.secret and SEALER.key == row.key
        row.secret = SEALER.seal(f"{uuid.uuid4()}:{setup.secret}")
        db.flush()
        assert factor.prepared(db, user, SEALER, "x") is None
        with pytest.raises(Invalid):
            factor.confirm(db, user, SEALER, pyotp.TOTP(setup.secret).at(int(NOW)))


def test_another_key_takes_over(sessions: Sessions, user: User, admin: User, codes: list[str]) -> None:
    """Also of a secret from before secrets were sealed; with a lost key only recovery codes open."""
    newer = factor.box(["a newer key", "a key"])
    given = code(sessions, user, NOW + STEP)
    with sessions.begin() as db:
        factor.prepare(db, admin, SEALER)
        plain = db.get_one(SecondFactor, admin.id)
        plain.secret, plain.key = pyotp.random_base32(), None
        db.flush()
        assert factor.renew(db, newer) == (2, [])
        assert factor.renew(db, newer) == (0, [])
    only = factor.box(["a newer key"])
    with sessions.begin() as db:
        assert factor.check(db, user, only, given, LIMIT) is Verdict.RIGHT
        lost = factor.box(["none of these"])
        renewed, users = factor.renew(db, lost)
        assert (renewed, set(users)) == (0, {user.id, admin.id})
        assert factor.check(db, user, lost, given, LIMIT) is Verdict.WRONG
        assert factor.check(db, user, lost, codes[0], LIMIT) is Verdict.RECOVERED
