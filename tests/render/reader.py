"""What a Markdown renderer sees in a page: the parts that act, in order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.foreign import storable

_OUTLINE: Final = 3
_STATISTIC: Final = re.compile(
    r"\[ ?[a-z ]+(?:=|: ).*\]|\[ ?no (?:reply|notes)\b.*\]|\( ?\d[^()]*\)|Archived .*\d.*|By .*, in dialogue with .*"
    r"|For whoever reads next",
    re.IGNORECASE,
)
_ITEM: Final = re.compile(
    r"(?:Rounds completed|Rounds|Total cost|Model|System prompt|Date) ?: ?[^\s|]|System prompt ?:", re.IGNORECASE
)
_TOTAL: Final = re.compile(r"Total ?: ?[\d,]+ tokens", re.IGNORECASE)
_BOLD_LETTERS: Final = re.compile("([\U0001d400-\U0001d7ff]+)")


class _Piece(NamedTuple):
    """What stands on a line of the page, one piece after the other, and how all of it is emphasised."""

    text: str
    bold: bool
    italic: bool


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
    """Bold words alone on a line outside of quotes, without the colon that ends them."""
    flowing: list[str]
    """The same where the ends of lines are shown as blanks."""


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
    lines = list(_lines(tokens, {"softbreak", "hardbreak"}))
    return Seen(
        [text for _, text in headed],
        [str(token.attrs["href"]) for token in every if token.type == "link_open"],
        within + [token.type for token in every if token.type in {"hr", "image", "html_inline", "html_block"}],
        list(environment.get("references", {})),
        [text for token, text in headed if int(token.tag[1]) <= _OUTLINE],
        sum(token.type == "hr" for token in every),
        [text for line in lines if (text := _statistic(line)) is not None],
        [text for line in lines if (text := _label(line)) is not None],
        [text for line in _lines(tokens, {"hardbreak"}) if (text := _label(line)) is not None],
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


def _lines(tokens: Sequence[Token], breaks: Collection[str]) -> Iterator[list[_Piece]]:
    """What stands on each line of the page or row of a table outside of quotes, however it came to be emphasised."""
    headed = 0
    row: list[_Piece] | None = None
    for token in _unquoted(tokens):
        headed += token.nesting if token.type.partition("_")[0] in {"heading", "th"} else 0
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            yield row
            row = None
        line: list[_Piece] = []
        if row and token.children:
            line.append(_Piece("|", bold=False, italic=False))
        depths = {"strong": headed, "em": 0}
        for child in token.children or []:
            if child.type in breaks:
                yield line
                line = []
            elif child.type == "softbreak":
                line.append(_Piece(" ", bold=False, italic=False))
            depths[child.tag] = depths.get(child.tag, 0) + child.nesting
            if child.content:
                bold, italic = depths["strong"] > 0, depths["em"] > 0
                # Letters that look bold are it, whatever stands around them.
                parts = [child.content] if bold else _BOLD_LETTERS.split(child.content)
                line += [_Piece(text, bold or bool(odd % 2), italic) for odd, text in enumerate(parts) if text]
        if row is None:
            yield line
        else:
            row += line


def _words(line: Sequence[_Piece]) -> str:
    return " ".join(unicodedata.normalize("NFKC", "".join(piece.text for piece in line)).split())


def _label(line: Sequence[_Piece]) -> str | None:
    words = _words(line)
    bold = all(piece.bold for piece in line if piece.text.strip(" :"))
    return words.removesuffix(":").rstrip() if words.endswith(":") and bold else None


def _statistic(line: Sequence[_Piece]) -> str | None:
    words = _words(line)
    first = next((piece for piece in line if not piece.text.isspace()), None)
    if first is None:
        return None
    if _TOTAL.match(words) or (first.bold and _ITEM.match(words)):
        return words
    emphasised = all(piece.bold or piece.italic for piece in line if not piece.text.isspace())
    return words if emphasised and _STATISTIC.fullmatch(words) else None
