"""`rounds`: a scripted or facilitated side against one model, round by round, its lines quoted."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby, takewhile
from typing import Final

from runner.conversation import Transcript, Turn
from runner.render.figures import local, shown
from runner.render.markdown import ANY_BOLD, literal, plain, quoted, unquoted
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
    names,
    noted,
    notes,
    opening_of,
    remarked,
    remarks,
    remembered,
    text_of,
    token_line,
    total_cost,
    with_observer,
)
from runner.render.style import Links, ReadBack, Said

suffix: Final = ".md"
texts: Final[Mapping[str, str]] = {}

_TITLE: Final = "# Voices Chat: "
_BETWEEN: Final = " <-> "
_STAMP: Final = "%Y-%m-%d %H:%M"
_STATISTICS: Final = "## Session Statistics"
_MODEL: Final = "**Model:** "
_ROUNDS: Final = "**Rounds:** "
_COST: Final = "**Total cost:** "
_SYSTEM: Final = "**System prompt:** "


def render(t: Transcript, links: Links) -> str:
    """The transcript round by round; `read` takes it apart again."""
    called = _names(t)
    blocks = [_head(t, called)]
    if t.opening is not None:
        blocks.append(quoted(t.opening))
    blocks.append(RULE)
    known = labels(t, called)
    if len(called) > 2:
        # With so many, whoever reads the file knows a label by its look alone.
        known |= {ANY_BOLD}
    for number, turns in groupby(shown(t.turns), lambda turn: turn.round):
        blocks.append(f"## Round {number}")
        for turn in turns:
            first = turn.role == t.participants[0].role
            blocks += _turn(turn, called.get(turn.role, turn.speaker), known, first)
        blocks.append(RULE)
    for note in notes(t, with_observer, known):
        blocks += (note, RULE)
    blocks += (_STATISTICS, "\n".join(_statistics(t)), *ending(t))
    return "\n\n".join(blocks).rstrip("\n") + "\n"


def _names(t: Transcript) -> Mapping[str, str]:
    """The first side is known by its label, the others by the aliases of their models."""
    return names(t, lambda p: p.label if p == t.participants[0] else p.alias or p.label)


def _models(t: Transcript) -> list[str]:
    return list(dict.fromkeys(p.model for p in t.participants[1:] or t.participants if p.live))


_PLAIN: Final = re.compile(r"[\w./:@+-]+", re.ASCII)


def _as_code(model: str) -> str:
    return f"`{model}`" if _PLAIN.fullmatch(model) else literal(model)


def _head(t: Transcript, called: Mapping[str, str]) -> str:
    sides = [p.model if p.live and place else called[p.role] for place, p in enumerate(t.participants)]
    lines = [_TITLE + _BETWEEN.join(literal(side, _BETWEEN) for side in sides)]
    if t.started is not None:
        lines.append(f"*{local(t.started, t.zone):{_STAMP}}*")
    lines.append("")
    if models := _models(t):
        lines.append(_MODEL + " and ".join(map(_as_code, models)))
    lines.append(f"{_ROUNDS}{t.rounds_planned}")
    if (cost := total_cost(t)) is not None:
        lines.append(f"{_COST}{cost}")
    if t.system is not None:
        lines += _system(t.system.strip("\n"))
    return "\n".join(lines)


def _system(text: str) -> Iterator[str]:
    """On one line, as ever; a text of several lines is quoted below its name."""
    if "\n" in text:
        yield _SYSTEM.rstrip()
        yield quoted(text)
    else:
        yield _SYSTEM + literal(text)


def _turn(turn: Turn, name: str, labels: Collection[str], first: bool) -> Iterator[str]:
    label = f"**{literal(name)}:**\n"
    if first and turn.text is not None:
        yield label + quoted(turn.text)
        yield from remarks(turn)
    else:
        text, *others = body(turn, labels)
        yield label + text
        yield from others
    yield from token_line(turn)


def _statistics(t: Transcript) -> Iterator[str]:
    whole = t.rounds_done == t.rounds_planned
    yield f"- **Rounds completed:** {t.rounds_done}{'' if whole else f' of {t.rounds_planned}'}"
    if (cost := total_cost(t)) is not None:
        yield f"- **Total cost:** {cost}"
    if t.started is not None:
        yield f"- **Date:** {local(t.started, t.zone):{_STAMP}}"
    if models := _models(t):
        yield f"- **Model:** {' and '.join(map(literal, models))}"


# --- the way back ----------------------------------------------------------------------------------------------------

_ROUND: Final = re.compile(r"## Round \d+[ \t]*")
_CODE: Final = re.compile(r"(?<!\\)`([^`]*)`")


def read(markdown: str) -> ReadBack:
    """What a file of rounds holds; ValueError where it is none."""
    page = Page(markdown)
    if not page.lines[0].startswith(_TITLE.rstrip()):
        raise ValueError("these are no rounds: they need a title `# Voices Chat: ...`")
    starts = page.around(page.find(_ROUND), page.below_rules(page.find(HEADED)))
    head, *sections = page.cut(starts)
    rounds = [section[1:] for section in sections if _ROUND.fullmatch(section[0])]
    others = [section for section in sections if not _ROUND.fullmatch(section[0]) and section[0] != _STATISTICS]
    sides = [plain(side) for side in page.lines[0].removeprefix(_TITLE).split(_BETWEEN)]
    first, labels = _sides(sides, [line for section in rounds for line in section])
    turns = [turn for section in rounds for turn in _turns(section, labels)]
    date = next((found["date"] for line in head if (found := DATED.fullmatch(line))), None)
    model = next((line.removeprefix(_MODEL) for line in head if line.startswith(_MODEL)), None)
    head, system = _read_system(head)
    said = tuple(_said(number, turn, first) for number, turn in enumerate(turns, 1))
    return ReadBack(
        said,
        opening=opening_of(head),
        system=system,
        notes=tuple(map(noted, others)),
        model=None if model is None else plain(_CODE.sub(r"\1", model)),
        people=frozenset(sides[:1]) & {one.speaker for one in said},
        date=None if date is None else iso_date(date, _STAMP),
        ending=page.ending,
    )


def _read_system(head: list[str]) -> tuple[list[str], str | None]:
    """The head without the system text, and that text: quoted, or in old files all that stands before a quote."""
    start = next((number for number, line in enumerate(head) if line.startswith(_SYSTEM.rstrip())), None)
    if start is None:
        return head, None
    below = head[start + 1 :]
    quote = list(takewhile(lambda line: line.startswith(">"), below))
    if quote:
        return [*head[:start], *below[len(quote) :]], unquoted("\n".join(quote))
    more = list(takewhile(lambda line: not line.startswith((">", _MODEL, _ROUNDS, _COST)), below))
    words = head[start].removeprefix(_SYSTEM.rstrip()).removeprefix(" ")
    return [*head[:start], *below[len(more) :]], "\n".join(map(plain, (words, *more))).strip("\n")


def _sides(sides: list[str], lines: list[str]) -> tuple[str, set[str]]:
    """Who is quoted, and every label: the first names that stand beside that one, as many as there are sides."""
    named = list(dict.fromkeys(label for line in lines if (label := _label(line)) is not None))
    alike = (name for name in named if name.casefold() == sides[0].casefold())
    first = next(alike, next(iter(named), ""))
    return first, {first, *[name for name in named if name != first][: len(sides) - 1]}


def _label(line: str) -> str | None:
    found = LABEL.fullmatch(line)
    return None if found is None else plain(found["label"])


def _turns(section: list[str], labels: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """The lines of each turn of a round below their label."""
    starts = [number for number, line in enumerate(section) if _label(line) in labels]
    for start, end in zip(starts, [*starts[1:], len(section)], strict=True):
        yield _label(section[start]) or "", section[start + 1 : end]


def _said(number: int, turn: tuple[str, list[str]], first: str) -> Said:
    speaker, lines = turn
    said = remarked(lines)
    quote = [line if line.startswith("> ") else f"> {line[1:]}" for line in lines if line.startswith(">")]
    if speaker == first and quote:
        text = unquoted("\n".join(quote)) if any(line[2:].strip() for line in quote) else None
    else:
        text = text_of(lines, blank_first=False)
    return remembered(Said(number, speaker, text), said)
