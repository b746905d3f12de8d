"""The runner's errors as `application/problem+json` (the same members as `labfleet.errors`)."""


class Problem(Exception):
    """Ends a request with this status; `hint` says what the client can do."""

    def __init__(self, status: int, code: str, title: str, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.hint = hint

    def document(self) -> dict[str, object]:
        """The RFC 9457 document."""
        return {
            "type": f"urn:labfleet:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
        }


def malformed(detail: str) -> Problem:
    """400: the request can't be read."""
    hint = 'Send {"messages": [{"task": …, "attempt": …, …}]} as UTF-8 JSON.'
    return Problem(400, "malformed", "The request can't be read", detail, hint)


def invalid(detail: str) -> Problem:
    """422: the request can be read and is wrong."""
    hint = "Correct what the detail names; nothing of this batch was published."
    return Problem(422, "invalid", "The request is not valid", detail, hint)


def too_large(detail: str, hint: str) -> Problem:
    """413: more than the runner takes at once."""
    return Problem(413, "too_large", "Too large", detail, hint)


def unavailable(detail: str) -> Problem:
    """503: the publisher doesn't answer."""
    hint = "Try again in a few seconds; on the queue machine: systemctl status labfleet-publisher."
    return Problem(503, "unavailable", "Not available now", detail, hint)


def too_late() -> Problem:
    """504: our own time limit has passed."""
    return Problem(
        504,
        "timeout",
        "The publisher took too long",
        "The runner's time limit passed before the broker had confirmed.",
        "Send the batch again: an attempt that arrives twice still runs once.",
    )


def misconfigured(detail: str) -> Problem:
    """500: this machine is not set up."""
    hint = "Run playbooks/queue.yml for this machine again, or correct the file."
    return Problem(500, "config_error", "The runner is not configured", detail, hint)
