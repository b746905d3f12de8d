"""Markdown of users as HTML that can do no harm: no HTML of theirs, no pictures from elsewhere."""

from __future__ import annotations

from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup

MAX_BYTES = 200_000


def rendered(text: str) -> Markup:
    """The text as HTML. Headings begin below the page's own, raw HTML is shown as it is written."""
    tokens = _markdown().parse(text[:MAX_BYTES])
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    return Markup(_markdown().renderer.render(tokens, _markdown().options, {}))  # noqa: S704 - no raw HTML in it


@cache
def _markdown() -> MarkdownIt:
    # `js-default` escapes HTML and lets links lead to the web and to mail only.
    return MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
