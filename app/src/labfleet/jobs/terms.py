"""Whether datasets have the terms that a protocol wants of its inputs, before anything runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from labfleet.db.models import Job, Task
from labfleet.jobs import transition
from labfleet.jobs.states import Event, State


@dataclass(frozen=True)
class Misfit:
    """A task one of whose datasets lacks terms that its protocol wants of them."""

    task: str
    slot: str
    missing: tuple[str, ...]

    @property
    def message(self) -> str:
        """As the task says it."""
        return f"The dataset for the input '{self.slot}' lacks {', '.join(self.missing)}."


def misfits(
    task: str, manifest: Mapping[str, Any], inputs: Mapping[str, Any], terms: Mapping[str, Sequence[str]]
) -> Iterator[Misfit]:
    """What is missing of the inputs of a task; `terms` are those of each dataset. What an earlier task will
    leave has no terms, and is taken as it is."""
    for slot, item in (manifest.get("inputs") or {}).items():
        wanted, given = (item or {}).get("terms") or (), inputs.get(slot)
        if wanted and isinstance(given, str) and (missing := set(wanted) - set(terms.get(given, ()))):
            yield Misfit(task, slot, tuple(sorted(missing)))


def end(session: Session, job: Job, found: Iterable[Misfit]) -> None:
    """End these queued tasks of the (locked) job: their protocols don't apply. A few statements for many."""
    told: dict[str, list[Misfit]] = defaultdict(list)
    for misfit in found:
        told[misfit.task].append(misfit)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for task, each in told.items():
        message = " ".join(misfit.message for misfit in each)
        alike[message, tuple(sorted({term for misfit in each for term in misfit.missing}))].append(task)
    for (message, missing), tasks in alike.items():
        which = Task.name == any_(literal(tasks, ARRAY(Text)))
        values = {Task.message: message}
        transition.apply_many(
            session, job, State.QUEUED, Event.INAPPLICABLE, which, values, missing=list(missing)
        )
