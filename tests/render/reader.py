"""What a Markdown renderer sees in a page: the parts that act, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.foreign import storable

_OUTLINE: Final = 3
_STATISTIC: Final = re.compile(r"\[[a-z ]+(?:=|: ).*\]|\[no (?:reply|notes)\b.*\]|\(\d.*\)|Archived .*")
_ITEM: Final = re.compile(r"(?:Rounds completed|Rounds|Total cost|Model|System prompt|Date):", re.IGNORECASE)
_TOTAL: Final = re.compile(r"Total: [\d,]+ tokens")


@dataclass(frozen=True, slots=True)
class Seen:
    """Headings by their text, links by their target, and all that should never be there."""

    headings: list[str]
    links: list[str]
    forbidden: list[str]
    definitions: list[str]
    outline: list[str]
    """The headings of the first three levels, wherever they stand."""
    rules: int
    statistics: list[str]
    """Lines outside of quotes that look like our figures."""
    labels: list[str]
    """Bold words alone on a line outside of quotes, without their colon."""


def see(markdown: str) -> Seen:
    """The page without its front matter, as CommonMark with GitHub's tables shows it."""
    if markdown.startswith("---\n"):
        markdown = markdown.split("\n---\n", 1)[1]
    environment: dict[str, Any] = {}
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(storable(markdown), environment)
    every = list(_walk(tokens))
    headed = [(token, _text(tokens[i + 1])) for i, token in enumerate(tokens) if token.type == "heading_open"]
    within = [token.type for token in every if token.type == "heading_open" and token.level > 0]
    lines = [line for token in _unquoted(tokens) if token.type == "inline" for line in _lines(token)]
    return Seen(
        [text for _, text in headed],
        [str(token.attrs["href"]) for token in every if token.type == "link_open"],
        within + [token.type for token in every if token.type in {"hr", "image", "html_inline", "html_block"}],
        list(environment.get("references", {})),
        [text for token, text in headed if int(token.tag[1]) <= _OUTLINE],
        sum(token.type == "hr" for token in every),
        [text for line in lines if (text := _statistic(line)) is not None],
        [text.removesuffix(":") for line in lines if (text := _whole(line, "strong")) is not None],
    )


def _unquoted(tokens: Sequence[Token]) -> Iterator[Token]:
    """The tokens that stand in no quote: what is quoted passes for nobody's but its speaker's."""
    depth = 0
    for token in tokens:
        depth += token.nesting if token.type in {"blockquote_open", "blockquote_close"} else 0
        if not depth:
            yield token


def _walk(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or [])


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def _lines(token: Token) -> Iterator[list[Token]]:
    """What stands on each line of a paragraph or the like."""
    for is_break, children in groupby(token.children or [], lambda child: child.type in {"softbreak", "hardbreak"}):
        if not is_break:
            yield [child for child in children if child.content or child.type != "text"]


def _whole(line: Sequence[Token], kind: str) -> str | None:
    """The text of a line that is wholly emphasised."""
    if len(line) < 2 or line[0].type != f"{kind}_open" or line[-1].type != f"{kind}_close":
        return None
    return "".join(child.content for child in line)


def _statistic(line: Sequence[Token]) -> str | None:
    text = "".join(child.content for child in line)
    if _TOTAL.match(text.strip()):
        return text
    if line and line[0].type == "strong_open" and _ITEM.match(text):
        return text
    whole = _whole(line, "em")
    return text if whole is not None and _STATISTIC.fullmatch(whole.strip()) else None
