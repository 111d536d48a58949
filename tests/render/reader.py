"""What a Markdown renderer sees in a page: the parts that act, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.foreign import storable


@dataclass(frozen=True, slots=True)
class Seen:
    """Headings by their text, links by their target, and all that should never be there."""

    headings: list[str]
    links: list[str]
    forbidden: list[str]
    definitions: list[str]


def see(markdown: str) -> Seen:
    """The page without its front matter, as CommonMark with GitHub's tables shows it."""
    if markdown.startswith("---\n"):
        markdown = markdown.split("\n---\n", 1)[1]
    environment: dict[str, Any] = {}
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(storable(markdown), environment)
    every = list(_walk(tokens))
    headings = [_text(tokens[i + 1]) for i, token in enumerate(tokens) if token.type == "heading_open"]
    within = [token.type for token in every if token.type == "heading_open" and token.level > 0]
    return Seen(
        headings,
        [str(token.attrs["href"]) for token in every if token.type == "link_open"],
        within + [token.type for token in every if token.type in {"hr", "image", "html_inline", "html_block"}],
        list(environment.get("references", {})),
    )


def _walk(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or [])


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or [])
