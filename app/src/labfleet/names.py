"""Names that several tiers agree on: routing keys and workers. The one place that says what they look like.

No import stands here: the CGI program reads this module too, and has milliseconds.
"""

MAX_CHARACTERS = 100
"""With `labfleet.worker.` before it a queue's name stays below AMQP's 255 bytes."""
WORKER = "worker"
"""The first word of the routing keys that lead to one worker; no other key begins with it."""

IMAGES_TAG = "images"
"""The tag of workers that run container images, and of the tasks whose protocols name one."""

MAX_ADDRESS = 254
"""No mail server takes a longer address."""

_SMALL = set("abcdefghijklmnopqrstuvwxyz0123456789_-")
_ANY = _SMALL | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_OF_A_HOST = _ANY - {"_"}
_OF_A_BOX = _ANY | set("!#$%&'*+/=?^`{|}~")


def is_key(value: object) -> bool:
    """Whether this is a key that a protocol may name: dotted words of a-z, 0-9, _ and -."""
    return _is_dotted(value, _SMALL) and str(value).partition(".")[0] != WORKER


def is_worker(value: object) -> bool:
    """Whether this is a worker's name: like a key, but capitals are allowed (as in names of machines)."""
    return _is_dotted(value, _ANY)


def is_address(value: object) -> bool:
    """Whether this is a mail address as it is typed: ASCII, no quotes, no name around it, no port."""
    if not isinstance(value, str) or len(value) > MAX_ADDRESS:
        return False
    box, _, host = value.rpartition("@")
    return _is_dotted(box, _OF_A_BOX) and all(
        word and set(word) <= _OF_A_HOST and not word.startswith("-") for word in host.split(".")
    )


def worker_key(name: str) -> str:
    """The routing key that leads to this worker and to no other."""
    return f"{WORKER}.{name}"


def _is_dotted(value: object, letters: set[str]) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARACTERS:
        return False
    return all(word and set(word) <= letters for word in value.split("."))
