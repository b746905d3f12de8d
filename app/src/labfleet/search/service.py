"""One page of what is found, and how much of what there is among it.

What has all the words in its name comes first, then the newest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Row,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session

from labfleet.db.models import Dataset, Job, Protocol, User
from labfleet.errors import Invalid
from labfleet.jobs.visible import note_is_for
from labfleet.search.filters import (
    Filter,
    Kind,
    beginning,
    dataset_format,
    of_datasets,
    of_protocols,
    of_results,
    terms_of_results,
    words_of,
)

FACETS = 20
"""So many values of each facet are told."""
COUNTED = 10_000
"""Of each kind so many are counted at most, the newest."""
EXCERPT = 300
_PLACE = re.compile(r"(?P<first>[01])~(?P<at>[^~]{1,40})~(?P<kind>[a-z]{1,20})~(?P<id>[a-z0-9-]{1,100})")
_NONE = cast(literal_column("'{}'"), ARRAY(Text))


@dataclass(frozen=True)
class Found:
    """One thing: `id` is what other calls take (a protocol's name, the id of a dataset or job), `text` the
    beginning of what is told about it."""

    kind: Kind
    id: str
    name: str
    text: str
    owner: str | None
    labels: list[str]
    terms: list[str]
    licence: str | None
    formats: list[str]
    protocols: list[str]
    state: str | None
    created_at: datetime


@dataclass(frozen=True)
class Page:
    """One page; `next` goes into `after`, None at the end."""

    items: Sequence[Found]
    next: str | None


@dataclass(frozen=True)
class Facet:
    """A value, and how many of the things found have it."""

    value: str
    count: int


def find(session: Session, viewer: User, wanted: Filter, limit: int = 20, after: str | None = None) -> Page:
    """What the viewer may see and the filter lets through; `limit` a page, following `after`."""
    mark = _read(after) if after else None
    branches = []
    for kind, branch in _branches(viewer, wanted).items():
        if wanted.kinds and kind not in wanted.kinds:
            continue
        key = tuple_(branch.selected_columns["first"], branch.selected_columns["created_at"])
        key = tuple_(*key.clauses, branch.selected_columns["kind"], branch.selected_columns["id"])
        page = branch if mark is None else branch.where(key < tuple_(*mark))
        descending = [column.desc() for column in key.clauses]
        branches.append(page.order_by(*descending).limit(limit + 1).subquery().select())
    found = union_all(*branches).subquery("found")
    order = [found.c[name].desc() for name in ("first", "created_at", "kind", "id")]
    statement = select(found, User.name.label("owner")).outerjoin(User, User.id == found.c.owner_id)
    rows = session.execute(statement.order_by(*order).limit(limit + 1)).all()
    items = [_found(row) for row in rows[:limit]]
    return Page(items, _written(rows[limit - 1]) if len(rows) > limit else None)


def facets(session: Session, viewer: User, wanted: Filter) -> dict[str, list[Facet]]:
    """The most frequent values among what is found, by facet.

    `kind` counts all kinds, whichever the filter wants, so that one can go from one to the other.
    """
    counted = [
        branch.order_by(branch.selected_columns["created_at"].desc()).limit(COUNTED).subquery().select()
        for branch in _branches(viewer, wanted).values()
    ]
    found = union_all(*counted).cte("found").prefix_with("MATERIALIZED", dialect="postgresql")
    kinds = [kind.value for kind in wanted.kinds or Kind]
    values: Mapping[str, ColumnElement[Any]] = {
        "term": func.unnest(found.c.terms),
        "label": func.unnest(found.c.labels),
        "format": func.unnest(found.c.formats),
        "protocol": func.unnest(found.c.protocols),
        "licence": found.c.licence,
        "owner": select(User.name).where(User.id == found.c.owner_id).scalar_subquery(),
    }
    each = [select(literal("kind").label("facet"), found.c.kind.label("value"))]
    for name, value in values.items():
        each.append(select(literal(name), value).where(found.c.kind.in_(kinds)))
    all_values = union_all(*each).subquery()
    count = func.count()
    place = func.row_number().over(
        partition_by=all_values.c.facet, order_by=(count.desc(), all_values.c.value)
    )
    ranked = (
        select(all_values.c.facet, all_values.c.value, count.label("count"), place.label("place"))
        .where(all_values.c.value.is_not(None))
        .group_by(all_values.c.facet, all_values.c.value)
        .subquery()
    )
    rows = session.execute(select(ranked).where(ranked.c.place <= FACETS).order_by(ranked.c.place))
    told: dict[str, list[Facet]] = {name: [] for name in ("kind", *values)}
    for facet, value, number, _ in rows:
        told[facet].append(Facet(value, number))
    return told


def _branches(viewer: User, wanted: Filter) -> dict[Kind, Select[Any]]:
    """What is found of each kind, as rows of the same columns."""
    title = func.coalesce(func.nullif(Job.label, ""), func.array_to_string(Job.protocols, ", "))
    return {
        Kind.PROTOCOL: _rows(
            Kind.PROTOCOL,
            wanted,
            id=Protocol.name,
            name=func.coalesce(func.nullif(Protocol.title, ""), Protocol.name),
            named=Protocol.name.concat(" ").concat(Protocol.title),
            text=Protocol.description,
            owner_id=Protocol.owner_id,
            terms=Protocol.terms,
            formats=Protocol.formats,
            created_at=Protocol.created_at,
        ).where(of_protocols(viewer, wanted)),
        Kind.DATASET: _rows(
            Kind.DATASET,
            wanted,
            id=cast(Dataset.id, Text),
            name=Dataset.name,
            named=Dataset.name,
            text=Dataset.description,
            owner_id=Dataset.owner_id,
            labels=Dataset.labels,
            terms=Dataset.terms,
            licence=func.nullif(Dataset.licence, ""),
            formats=func.array_remove(array([dataset_format]), cast(null(), Text)),
            created_at=Dataset.created_at,
        ).where(of_datasets(viewer, wanted)),
        Kind.RESULT: _rows(
            Kind.RESULT,
            wanted,
            id=cast(Job.id, Text),
            name=title,
            named=Job.label,
            text=case((note_is_for(viewer), Job.note), else_=""),
            owner_id=Job.owner_id,
            labels=Job.labels,
            terms=terms_of_results(viewer),
            protocols=Job.protocols,
            state=Job.state,
            created_at=Job.created_at,
        ).where(of_results(viewer, wanted)),
    }


def _rows(kind: Kind, wanted: Filter, *, named: SQLColumnExpression[str], **columns: Any) -> Select[Any]:
    given = {
        "kind": literal_column(f"'{kind.value}'", Text),
        "first": _in_name(named, wanted.text),
        "labels": _NONE,
        "terms": _NONE,
        "licence": cast(null(), Text),
        "formats": _NONE,
        "protocols": _NONE,
        "state": cast(null(), Text),
        **columns,
        "text": func.left(columns["text"], EXCERPT),
    }
    return select(*(given[name].label(name) for name in sorted(given)))


def _in_name(name: SQLColumnExpression[str], text: str) -> ColumnElement[bool]:
    """Whether a name has all the words."""
    vector = func.to_tsvector(literal_column("'simple'::regconfig"), func.translate(name, "._-", "   "))
    words = [vector.op("@@", is_comparison=True)(beginning(word)) for word in words_of(text)]
    return func.coalesce(and_(*words), false()) if words else false()


def _found(row: Row[Any]) -> Found:
    given = {name: getattr(row, name) for name in Found.__dataclass_fields__}
    return Found(**given | {"kind": Kind(row.kind)})


def _written(row: Row[Any]) -> str:
    return f"{int(row.first)}~{row.created_at.isoformat()}~{row.kind}~{row.id}"


def _read(after: str) -> tuple[bool, datetime, str, str]:
    found = _PLACE.fullmatch(after)
    try:
        when = datetime.fromisoformat(found["at"]) if found else None
    except ValueError:
        when = None
    if found is None or when is None or when.tzinfo is None:
        raise Invalid("'after' is no place in what was found.", hint="Use the value of 'next' as it came.")
    return found["first"] == "1", when, found["kind"], found["id"]
