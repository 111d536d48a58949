"""`letter`: one message and its answer, each under the label of its role."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from runner.conversation import Transcript
from runner.render.figures import local, shown
from runner.render.markdown import literal, plain, quoted
from runner.render.shapes import (
    DATED,
    HEADED,
    LABEL,
    RULE,
    Page,
    body,
    ending,
    iso_date,
    labels,
    live,
    names,
    noted,
    notes,
    opening_of,
    remarked,
    remembered,
    text_of,
    token_line,
    with_observer,
)
from runner.render.style import Links, ReadBack, Said

suffix: Final = ".md"
texts: Final[Mapping[str, str]] = {}

_TITLE: Final = "# Voice Conversation: "
_STAMP: Final = "%Y-%m-%d %H:%M:%S"


def render(t: Transcript, links: Links) -> str:
    """The transcript as a letter and its answer; `read` takes it apart again."""
    called = names(t, lambda p: p.label)
    known = labels(t, called)
    head = [f"{_TITLE}{' and '.join(literal(model) for model in dict.fromkeys(p.model for p in live(t)))}".rstrip()]
    if t.started is not None:
        head.append(f"*{local(t.started, t.zone):{_STAMP}}*")
    blocks = ["\n".join(head)]
    if t.opening is not None:
        blocks.append(quoted(t.opening))
    blocks.append(RULE)
    for turn in shown(t.turns):
        label = literal(called.get(turn.role, turn.speaker))
        blocks += (f"**{label}:**", *body(turn, known), *token_line(turn), RULE)
    for note in notes(t, with_observer, known):
        blocks += (note, RULE)
    blocks += ending(t)
    return "\n\n".join(blocks).rstrip("\n") + "\n"


# --- the way back ----------------------------------------------------------------------------------------------------

_ANY_RULE: Final = re.compile(RULE)


def read(markdown: str) -> ReadBack:
    """What a letter holds; ValueError where it is none."""
    page = Page(markdown)
    turns = _labels(page)
    if not page.lines[0].startswith(_TITLE.rstrip()) or not turns:
        raise ValueError("this is no letter: it needs a title `# Voice Conversation: ...` and labels below rules")
    starts = page.around(turns, page.below_rules(page.find(HEADED)))
    head, *sections = page.cut(starts)
    said = [section for section in sections if not section[0].startswith("#")]
    date = next((found["date"] for line in head if (found := DATED.fullmatch(line))), None)
    return ReadBack(
        tuple(_said(number, section) for number, section in enumerate(said, 1)),
        opening=opening_of(head),
        notes=tuple(noted(section) for section in sections if section[0].startswith("#")),
        model=plain(page.lines[0].removeprefix(_TITLE)) or None,
        date=None if date is None else iso_date(date, _STAMP),
        ending=page.ending,
    )


def _labels(page: Page) -> list[int]:
    """Where a turn begins; in an answer with rules of its own bold words below one are no third label."""
    found = page.below_rules(page.find(LABEL))
    headings = page.below_rules(page.find(HEADED))
    rules = len(page.find(_ANY_RULE))
    if rules > len(found) + len(headings) + 1:
        two = [page.lines[number] for number in found[:2]]
        found = [number for number in found if page.lines[number] in two]
    return found


def _said(number: int, section: list[str]) -> Said:
    remarks = remarked(section)
    text = text_of(section[1:])
    return remembered(Said(number, _label(section[0]), text), remarks)


def _label(line: str) -> str:
    found = LABEL.fullmatch(line)
    return plain(found["label"]) if found is not None else line
