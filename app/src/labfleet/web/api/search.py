"""One search over protocols, datasets and results."""

from __future__ import annotations

from labfleet import search
from labfleet.users.scopes import Scope
from labfleet.web.api import schemas
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.services import services


@user.get("/search")
@needs(Scope.READ)
@user.doc(tags=["search"], operation_id="search")
@user.input(schemas.SearchQuery, location="query")
@user.output(schemas.FoundPage)
def find(query_data: schemas.SearchQuery) -> schemas.FoundPage:
    """Find protocols, datasets and results that you may see"""
    limit = min(query_data.limit, services().settings.web.page_size_max)
    with services().sessions() as db:
        page = search.find(db, current_user(), search_filter(query_data), limit, query_data.after)
    return schemas.FoundPage.model_validate(page)


@user.get("/search/facets")
@needs(Scope.READ)
@user.doc(tags=["search"], operation_id="show_search_facets")
@user.input(schemas.SearchFilter, location="query")
@user.output(schemas.SearchFacets)
def show_search_facets(query_data: schemas.SearchFilter) -> schemas.SearchFacets:
    """Count what there is of each kind, term, label … among what a search finds"""
    with services().sessions() as db:
        return schemas.SearchFacets.model_validate(
            search.facets(db, current_user(), search_filter(query_data))
        )


def search_filter(given: schemas.SearchFilter) -> search.Filter:
    """What the API's words mean to a search."""
    return search.Filter(
        text=given.text,
        kinds=tuple(given.kind),
        terms=tuple(given.term),
        labels=tuple(given.label),
        owner=given.owner,
        licence=given.licence,
        format=given.format.lower() if given.format else None,
        protocol=given.protocol,
    )
