"""The shape of a batch: what may go on to the publisher.

A batch is taken or refused as a whole, so that a refused one leaves no trace in the broker.
"""

from labfleet.names import MAX_CHARACTERS, WORKER, is_key, is_worker
from labfleet.runner.lean import loads
from labfleet.runner.problem import Problem, invalid, malformed, too_large

FIELDS = {"schedule": ("task", "attempt", "key", "token"), "cancel": ("task", "attempt")}
OPTIONAL = {"schedule": ("worker",), "cancel": ()}
MAX_ATTEMPT = 2**31 - 1
MAX_TOKEN = 512

_HEX = set("0123456789abcdef")
_PRINTABLE = {chr(code) for code in range(33, 127)}


def messages_of(verb: str, body: bytes, max_batch: int) -> list[object]:
    """The messages of a request; a `Problem` (400, 413 or 422) that names the first fault."""
    try:
        document = loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise malformed(f"The body is no JSON: {error}.") from None
    if not isinstance(document, dict) or set(document) != {"messages"}:
        raise invalid("The body must be an object with the one member 'messages'.")
    messages = document["messages"]
    if not isinstance(messages, list) or not messages:
        raise invalid("'messages' must be a list with at least one message.")
    if len(messages) > max_batch:
        detail = f"{len(messages)} messages; at most {max_batch} are taken at once."
        raise too_large(detail, "Send smaller batches ([dispatcher] batch_size).")
    for number, message in enumerate(messages):
        fault = fault_of(verb, message)
        if fault:
            raise _at(number, fault)
    if len({(message["task"], message["attempt"]) for message in messages}) < len(messages):
        raise invalid("A task's attempt stands in the batch twice.")
    return messages


def fault_of(verb: str, message: object) -> str:
    """What is wrong with one message; empty if nothing is."""
    fields, optional = FIELDS[verb], OPTIONAL[verb]
    if not isinstance(message, dict) or set(message) - set(optional) != set(fields):
        allowed = f", and perhaps {', '.join(optional)}" if optional else ""
        return f"must be an object with exactly {', '.join(fields)}{allowed}"
    if not _is_uuid(message["task"]):
        return "'task' must be a lower-case UUID"
    attempt = message["attempt"]
    if type(attempt) is not int or not 1 <= attempt <= MAX_ATTEMPT:
        return "'attempt' must be an integer from 1"
    return "" if verb == "cancel" else _fault_of_order(message)


def _fault_of_order(message: dict[str, object]) -> str:
    if not is_key(message["key"]):
        words = f"dotted words of a-z, 0-9, _ and -, at most {MAX_CHARACTERS} characters"
        return f"'key' must be {words}, the first of them not '{WORKER}'"
    if "worker" in message and not is_worker(message["worker"]):
        return "'worker' must be the name of a worker"
    if not _is_token(message["token"]):
        return f"'token' must be 1 to {MAX_TOKEN} printable ASCII characters"
    return ""


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str) or [len(part) for part in value.split("-")] != [8, 4, 4, 4, 12]:
        return False
    return set(value) <= _HEX | {"-"}


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN and set(value) <= _PRINTABLE


def _at(number: int, fault: str) -> Problem:
    return invalid(f"messages[{number}] {fault}.")
