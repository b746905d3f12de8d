"""What an ending means: the body of `finish`, with a sentence for the person who waits."""

from __future__ import annotations

from typing import Any

from labfleet.jobs.states import Failure, Outcome
from labfleet.worker.execution import Ending

INAPPLICABLE = 65
SIGNALLED = 128
KILL = 9
NOT_EXECUTABLE, NOT_FOUND = 126, 127
MAX_MESSAGE = 2000


def finish(
    outcome: Outcome, message: str, failure: Failure | None = None, exit_code: int | None = None
) -> dict[str, Any]:
    """The body of `POST finish`."""
    return {
        "outcome": outcome.value,
        "failure": failure and failure.value,
        "exit_code": exit_code,
        "message": message[:MAX_MESSAGE],
    }


def user_failure(message: str, exit_code: int | None = None) -> dict[str, Any]:
    """The protocol's or its inputs' fault."""
    return finish(Outcome.FAILED, message, Failure.USER, exit_code)


def system_failure(message: str) -> dict[str, Any]:
    """Ours: it will be tried again."""
    return finish(Outcome.FAILED, message, Failure.SYSTEM)


def partial(result: dict[str, Any], names: str) -> dict[str, Any]:
    """What becomes of a user's failure when some of the declared outputs are there and have been kept."""
    message = f"{result['message'].removesuffix('.')}. What it left is kept: {names}."
    return result | {"outcome": Outcome.PARTIAL.value, "failure": None, "message": message[:MAX_MESSAGE]}


def judge(ending: Ending) -> dict[str, Any]:
    """The verdict on a sandbox that has ended. Success still depends on the outputs."""
    code, words = ending.exit_code, ending.last_words
    if ending.stopped:
        return finish(Outcome.STOPPED, "It was stopped.", exit_code=code)
    if ending.exceeded:
        return user_failure(ending.exceeded, code)
    if code is None:
        return system_failure(f"The sandbox could not be started: {words or 'bubblewrap gave no reason'}")
    if code == 0:
        return finish(Outcome.SUCCESS, "", exit_code=0)
    if code == INAPPLICABLE:
        return finish(Outcome.INAPPLICABLE, words or "The protocol does not apply.", exit_code=code)
    return user_failure(_sentence(code, words), code)


def _sentence(code: int, words: str) -> str:
    said = f": {words}" if words else "; it printed no reason"
    if code in {NOT_EXECUTABLE, NOT_FOUND}:
        return f"Its command could not be run on this worker{said}"
    if code == SIGNALLED + KILL:
        return f"It was killed, most likely because it used more memory than it may (needs: memory){said}"
    if code > SIGNALLED:
        return f"It was ended by signal {code - SIGNALLED}{said}"
    return f"It ended with exit code {code}{said}"
