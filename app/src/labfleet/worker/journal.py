"""The shepherds' records: one JSON object a line, as `labfleet.log` writes them, by the standard library.

For the process of each attempt an import of structlog would be one more thing to pay for.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_bound: dict[str, object] = {}


class Line(logging.Formatter):
    """Event, level, logger and time, with what was bound."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        told = {
            **_bound,
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


def configure() -> None:
    """Send records to standard error, which is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def bind(**ids: object) -> None:
    """Put these ids into every later record of this process."""
    _bound.update(ids)
