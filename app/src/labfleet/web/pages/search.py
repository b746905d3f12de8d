"""The page of what a search has found, with facets to go on by."""

from __future__ import annotations

from typing import Any

from flask import g, render_template, request

from labfleet import search
from labfleet.search import Kind
from labfleet.web.api.schemas import SearchQuery
from labfleet.web.api.search import search_filter
from labfleet.web.pages.frame import pages
from labfleet.web.pages.jobs import page_query
from labfleet.web.services import services

LIMIT = 20
PLACES = {Kind.PROTOCOL: "/protocols/", Kind.DATASET: "/datasets/", Kind.RESULT: "/jobs/"}
KINDS = {Kind.PROTOCOL: "Protocols", Kind.DATASET: "Datasets", Kind.RESULT: "Results"}
TITLES = {
    "term": "Terms",
    "label": "Labels",
    "format": "Formats",
    "protocol": "Made by",
    "licence": "Licences",
    "owner": "Owners",
}
SEVERAL = frozenset({"term", "label"})


@pages.get("/search")
def search_page() -> str:
    """What was found, and what there is among it."""
    query: SearchQuery = page_query(SearchQuery, LIMIT)
    wanted = search_filter(query)
    with services().sessions() as db:
        page = search.find(db, g.user, wanted, query.limit, query.after)
        facets = search.facets(db, g.user, wanted)
    kinds = {facet.value: facet.count for facet in facets.pop("kind")}
    asked = {name: value for name, value in request.args.items() if value}
    return render_template(
        "search.html",
        section="Search",
        found=page.items,
        next=page.next,
        query=asked,
        text=query.text,
        kind=query.kind[0] if len(query.kind) == 1 else None,
        kinds=[(kind, name, kinds.get(kind, 0)) for kind, name in KINDS.items()],
        facets=[(TITLES[name], _choices(name, values, query)) for name, values in facets.items()],
        filtered=bool(asked.keys() - {"text", "kind", "after", "limit"}),
        counted=search.COUNTED,
        places=PLACES,
    )


def _choices(name: str, values: list[search.Facet], query: SearchQuery) -> list[dict[str, Any]]:
    """The values of a facet: what is chosen can be given up, the others narrow the search."""
    given = getattr(query, name)
    chosen: list[str] = given if name in SEVERAL else [given] if given else []
    counts = {facet.value: facet.count for facet in values}
    listed = [*chosen, *(value for value in counts if value not in chosen)]
    choices = []
    for value in listed:
        rest = [each for each in chosen if each != value]
        with_it = ([*chosen, value] if name in SEVERAL else [value]) if value not in chosen else rest
        choices.append(
            {
                "value": value,
                "count": counts.get(value, 0),
                "chosen": value in chosen,
                "change": {name: ",".join(with_it) or None, "after": None},
            }
        )
    return choices
