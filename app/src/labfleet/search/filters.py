"""What is looked for, as conditions of SQL: one function for each kind of thing.

All of them begin with who may see what, by the conditions that the lists of these things use as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    SQLColumnExpression,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY, UUID

from labfleet.datasets import access as dataset_access
from labfleet.db import models
from labfleet.db.models import Dataset, Job, Protocol, User
from labfleet.jobs.visible import note_is_for, readable
from labfleet.protocols import access as protocol_access

THROUGH_DATA = 500
"""By the words of its data a result is found through so many datasets at most, the newest of those that have
the word: one that nearly all have leads nowhere, and would cost much."""
MAX_WORDS = 12
# As the indexes have them.
_PROTOCOL: ColumnElement[str] = literal_column(models.PROTOCOL_WORDS.text)
_DATASET: Sequence[ColumnElement[str]] = (
    literal_column(models.DATASET_WORDS.text),
    literal_column(models.DATASET_LABELS.text),
)
_JOB: ColumnElement[str] = literal_column(models.WORDS.text)
_JOB_LABEL: ColumnElement[str] = literal_column("to_tsvector('simple'::regconfig, label)")
_JOB_LABELS: ColumnElement[str] = literal_column(models.JOB_LABELS.text)
dataset_format = func.lower(func.substring(Dataset.name, r"\.([A-Za-z0-9]{1,16})$"))
"""How a dataset's name ends."""


class Kind(StrEnum):
    """What may be found. A result is a job of which something has come out."""

    PROTOCOL = "protocol"
    DATASET = "dataset"
    RESULT = "result"


@dataclass(frozen=True)
class Filter:
    """What is looked for; what is None or empty excludes nothing. Each word of `text` must be there, or one
    that begins with it; each label and term must be there as a whole."""

    text: str = ""
    kinds: Sequence[Kind] = ()
    terms: Sequence[str] = ()
    labels: Sequence[str] = ()
    owner: str | None = None
    licence: str | None = None
    format: str | None = None
    protocol: str | None = None


def words_of(text: str) -> list[str]:
    """The words that are looked for, without what has no letter or digit."""
    return [word for word in text.split() if any(char.isalnum() for char in word)][:MAX_WORDS]


def beginning(word: str) -> ColumnElement[str]:
    """The query for words that begin so: as PostgreSQL takes the word, or in the parts that it has."""
    parts = func.translate(word, "._-/", "    ")
    return _prefix(literal(word)).op("||", return_type=TSQUERY())(_prefix(parts))


def _prefix(word: ColumnElement[str]) -> ColumnElement[str]:
    query = cast(func.plainto_tsquery(literal_column("'simple'::regconfig"), word), Text)
    return cast(func.nullif(query, "").concat(":*"), TSQUERY)


def of_protocols(viewer: User, wanted: Filter) -> ColumnElement[bool]:
    """The condition on `Protocol`."""
    if wanted.labels or wanted.licence or wanted.protocol:
        return false()
    return and_(
        protocol_access.visible_to(viewer),
        *(_has(word, _PROTOCOL) for word in words_of(wanted.text)),
        Protocol.terms.contains(list(wanted.terms)) if wanted.terms else true(),
        Protocol.formats.contains([wanted.format]) if wanted.format else true(),
        _owned(Protocol.owner_id, wanted),
    )


def of_datasets(viewer: User, wanted: Filter) -> ColumnElement[bool]:
    """The condition on `Dataset`."""
    if wanted.protocol:
        return false()
    return and_(
        dataset_access.visible_to(viewer),
        *(_has(word, *_DATASET) for word in words_of(wanted.text)),
        Dataset.terms.contains(list(wanted.terms)) if wanted.terms else true(),
        Dataset.labels.contains(list(wanted.labels)) if wanted.labels else true(),
        Dataset.licence == wanted.licence if wanted.licence else true(),
        dataset_format == wanted.format if wanted.format else true(),
        _owned(Dataset.owner_id, wanted),
    )


def of_results(viewer: User, wanted: Filter) -> ColumnElement[bool]:
    """The condition on `Job`: words of its own (but no note of another's), of
    its protocols and of its data; terms are its data's."""
    if wanted.licence or wanted.format:
        return false()
    return and_(
        readable(viewer),
        Job.tasks_success + Job.tasks_partial > 0,
        *(_result_has(word, viewer) for word in words_of(wanted.text)),
        *(_result_has_term(term, viewer) for term in wanted.terms),
        Job.labels.contains(list(wanted.labels)) if wanted.labels else true(),
        Job.protocols.contains([wanted.protocol]) if wanted.protocol else true(),
        _owned(Job.owner_id, wanted),
    )


def terms_of_results(viewer: User) -> ColumnElement[list[str]]:
    """What a result's data have, as far as the viewer may see them."""
    of_data = select(func.unnest(Dataset.terms)).where(_taken(), dataset_access.visible_to(viewer))
    return func.array(of_data.distinct().correlate(Job).scalar_subquery(), type_=ARRAY(Text))


def _has(word: str, *columns: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(*(column.op("@@", is_comparison=True)(beginning(word)) for column in columns))


def _result_has(word: str, viewer: User) -> ColumnElement[bool]:
    protocols = select(Protocol.name).where(protocol_access.visible_to(viewer), _has(word, _PROTOCOL))
    # Found by the words' index before they are put in order (`OFFSET 0` keeps these apart): to go through the
    # newest ones and look for the word in each takes seconds.
    having = (
        select(Dataset.id, Dataset.created_at)
        .where(dataset_access.visible_to(viewer), _has(word, *_DATASET))
        .offset(0)
        .subquery()
    )
    datasets = select(cast(having.c.id, Text)).order_by(having.c.created_at.desc()).limit(THROUGH_DATA)
    return or_(
        and_(_has(word, _JOB), or_(note_is_for(viewer), _has(word, _JOB_LABEL))),
        _has(word, _JOB_LABELS),
        Job.protocols.overlap(func.array(protocols.scalar_subquery(), type_=ARRAY(Text))),
        Job.datasets.overlap(func.array(datasets.scalar_subquery(), type_=ARRAY(Text))),
    )


def _result_has_term(term: str, viewer: User) -> ColumnElement[bool]:
    """Whether some of a result's data have the term. PostgreSQL then looks at the newest results first and
    ends when a page is full; terms of all of a result's data would be put together for all results before."""
    having = select(Dataset.id).where(_taken(), Dataset.terms.contains([term]))
    return having.where(dataset_access.visible_to(viewer)).correlate(Job).exists()


def _taken() -> ColumnElement[bool]:
    """Whether a job takes a dataset."""
    return Dataset.id == any_(cast(Job.datasets, ARRAY(UUID(as_uuid=True))))


def _owned(column: SQLColumnExpression[Any], wanted: Filter) -> ColumnElement[bool]:
    if wanted.owner is None:
        return true()
    return column == select(User.id).where(User.name == wanted.owner).scalar_subquery()
