"""Finding things, whatever they are: protocols, datasets and results, by words and by typed terms."""

from labfleet.search.filters import Filter, Kind, words_of
from labfleet.search.service import COUNTED, FACETS, Facet, Found, Page, facets, find

__all__ = ["COUNTED", "FACETS", "Facet", "Filter", "Found", "Kind", "Page", "facets", "find", "words_of"]
