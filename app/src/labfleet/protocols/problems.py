"""What can be wrong with a protocol, told so that its author can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from labfleet.errors import Invalid

MANIFEST = "protocol.yml"


@dataclass(frozen=True)
class Problem:
    """One fault: in which file, on which line (where known), what it is and what to do."""

    file: str
    line: int | None
    code: str
    message: str
    hint: str

    def as_dict(self) -> dict[str, Any]:
        """As the API and the CGI runner answer it."""
        return asdict(self)

    def __str__(self) -> str:
        """As a compiler would say it: `file:line: message`."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}"


class InvalidProtocol(Invalid):
    """The protocol has faults; `problems` lists them all, `detail` says them a line each."""

    code = "invalid_protocol"
    title = "The protocol is not valid"
    default_hint = "Correct the files that the detail names; 'labfleet protocols check DIR' checks again."

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        detail = "\n".join(str(problem) for problem in self.problems)
        hint = self.problems[0].hint if len(self.problems) == 1 else None
        super().__init__(detail, hint=hint, problems=[problem.as_dict() for problem in self.problems])
