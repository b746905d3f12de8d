"""Structured logs: one JSON object a line on standard error, with the ids that were bound.

`configure` once per process; then `get_logger(__name__).info("job submitted", job=str(id))`.
"""

from __future__ import annotations

import logging
import sys
import uuid
from typing import Any

import structlog
from structlog.stdlib import BoundLogger

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def configure(level: str = "info") -> None:
    """Send the records of structlog and of `logging` to standard error as JSON lines."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # httpx tells every request at INFO; that is noise beside our own events.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> BoundLogger:
    """A logger that takes an event and key=value pairs."""
    return structlog.stdlib.get_logger(name)


def bind(**ids: str) -> None:
    """Bind ids (job, task, request …) to every later record of this thread or context."""
    structlog.contextvars.bind_contextvars(**ids)


bound = structlog.contextvars.bound_contextvars
"""`with bound(request=…):` binds ids for the records of a block."""


def request_id() -> str:
    """The request that is bound, or a new name for one."""
    return str(structlog.contextvars.get_contextvars().get("request") or uuid.uuid4().hex)


def unbind_all() -> None:
    """Forget what was bound; call it where a request or a task begins."""
    structlog.contextvars.clear_contextvars()
