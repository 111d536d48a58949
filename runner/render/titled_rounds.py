"""`titled-rounds`: a long form that is edited and archived, its turns under titles and its synthesis at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from runner.conversation import Participant, Transcript, Turn
from runner.render.figures import local, shown
from runner.render.markdown import embedded, literal, plain, quoted
from runner.render.shapes import (
    HEADED,
    PART,
    RULE,
    Page,
    body,
    ending,
    in_one_line,
    iso_date,
    labels,
    live,
    long_date,
    names,
    noted,
    notes,
    opening_of,
    parted,
    remarked,
    remembered,
    text_of,
)
from runner.render.style import Links, ReadBack, Said

suffix: Final = ".md"
texts: Final[Mapping[str, str]] = {
    "title": "its title, after the name of the model",
    "subtitle": "a line below the date",
    "by": "who signs it; without it the label of the first role",
    "archived": "the day on which it was archived, where that is not the day of its end",
    "closing": "the closing line, below everything",
}

_TITLE: Final = "# Voice Conversation: "
_DASH: Final = " — "
_WHOSE: Final = "'s "
_CONTEXT: Final = "## Context"


def render(t: Transcript, links: Links) -> str:
    """The transcript under its titles; `read` takes it apart again."""
    called = names(t, lambda p: p.label)
    known = labels(t, called)
    blocks = [*_head(t), RULE]
    if t.context is not None:
        blocks += (_CONTEXT, embedded(t.context, known), RULE)
    last = {turn.role: turn.number for turn in t.turns}
    for turn in shown(t.turns):
        blocks += (_heading(turn, last, called), *body(turn, known), RULE)
    for note in notes(t, lambda note: literal(note.heading or "Notes"), known):
        blocks += (note, RULE)
    blocks.append("\n".join(_archived(t)))
    if closing := t.look.texts.get("closing"):
        blocks += (RULE, embedded(closing.strip("\n")))
    blocks += ending(t)
    return "\n\n".join(blocks).rstrip("\n") + "\n"


def _subject(t: Transcript) -> Participant | None:
    """The model that the conversation is held with: the last that is live."""
    return next(reversed(live(t)), None)


def _head(t: Transcript) -> Iterator[str]:
    subject, given = _subject(t), t.look.texts
    title = [] if subject is None else [literal(subject.label, _DASH)]
    if given.get("title"):
        title.append(in_one_line(given["title"]))
    yield f"{_TITLE}{_DASH.join(title)}".rstrip()
    lines = [] if t.started is None else [f"*{long_date(local(t.started, t.zone))}*"]
    if subtitle := given.get("subtitle"):
        lines.append(f"*{in_one_line(subtitle)}*")
    if lines:
        yield "\n".join(lines)
    if t.opening is not None:
        yield quoted(t.opening)


def _heading(turn: Turn, last: Mapping[str, int], called: Mapping[str, str]) -> str:
    speaker = literal(called.get(turn.role, turn.speaker), _WHOSE)
    title = f" ({literal(turn.title)})" if turn.title else ""
    return f"## Round {turn.round}: {speaker}{_WHOSE}{literal(turn.label or _part(turn, last))}{title}"


def _part(turn: Turn, last: Mapping[str, int]) -> str:
    """What a turn without a label is, by its place among all and among those of its role."""
    if turn.number == 1:
        return "Opening"
    if turn.number == max(last.values()):
        return "Closing Transmission"
    return "Final Transmission" if turn.number == last[turn.role] else "Response"


def _archived(t: Transcript) -> Iterator[str]:
    if archived := t.look.texts.get("archived"):
        yield f"*Archived {in_one_line(archived)}*"
    elif t.ended is not None:
        yield f"*Archived {long_date(local(t.ended, t.zone))}*"
    subject = _subject(t)
    by = t.look.texts.get("by") or next((p.label for p in t.participants if p != subject), None)
    if by:
        other = "" if subject is None else f", in dialogue with {literal(subject.label)} ({literal(subject.model)})"
        yield f"*By {in_one_line(by)}{other}*"
    yield "*For whoever reads next*"


# --- the way back ----------------------------------------------------------------------------------------------------

_ROUND: Final = re.compile(r"## Round \d+: (?P<heading>.+)")
_PART: Final = re.compile(rf"(?P<part>{PART}?)(?: \((?P<title>.*)\))?")
_LAST: Final = re.compile(r"\*(?:Archived|By|For) .*\*")
_BY: Final = re.compile(rf"\*By (?P<by>{PART}?)(?:, in dialogue with (?P<other>{PART}) \((?P<model>.*)\))?\*")
_ARCHIVED: Final = re.compile(r"\*Archived (?P<day>.*)\*")
_ITALIC: Final = re.compile(r"\*(?P<words>(?:[^*\\]|\\.)+)\*")


def read(markdown: str) -> ReadBack:
    """What such a long form holds; ValueError where it is none."""
    page = Page(markdown)
    if not page.lines[0].startswith(_TITLE.rstrip()):
        raise ValueError("these are no titled rounds: they need a title `# Voice Conversation: ...`")
    rounds = page.find(_ROUND)
    last = [number for number in page.below_rules(page.find(_LAST)) if not rounds or number > rounds[-1]][:1]
    headings = [number for number in page.below_rules(page.find(HEADED)) if not last or number < last[0]]
    head, *sections = page.cut(page.around(rounds, [*headings, *last]))
    archived = sections.pop() if last else []
    said = [section for section in sections if _ROUND.fullmatch(section[0])]
    context = sections.pop(0) if sections and sections[0][0] == _CONTEXT else []
    by = next((found for line in archived if (found := _BY.fullmatch(line))), None)
    label, title = parted(page.lines[0].removeprefix(_TITLE.rstrip()).strip(), _DASH)
    date, subtitle = _lines_of(head)
    day = next((found["day"] for line in archived if (found := _ARCHIVED.fullmatch(line))), None)
    closing = None if RULE not in archived else text_of(archived[archived.index(RULE) + 1 :])
    given = {"title": title, "subtitle": subtitle, "by": None if by is None else by["by"]}
    ended = None if day is None else iso_date(plain(day))
    if ended is None:
        given["archived"] = day
    turns = tuple(_said(number, section) for number, section in enumerate(said, 1))
    model = plain(label if by is None or by["model"] is None else by["model"])
    subject = plain(label if by is None or by["other"] is None else by["other"])
    speakers = {one.speaker for one in turns}
    return ReadBack(
        turns,
        context=text_of(context[1:]),
        opening=opening_of(head),
        notes=tuple(noted(section) for section in sections if not _ROUND.fullmatch(section[0])),
        model=model or None,
        models={subject: model} if model and subject in speakers else {},
        people=frozenset(() if by is None or by["by"] == subject else (plain(by["by"]),)) & speakers,
        date=date,
        ended=ended,
        ending=page.ending,
        texts={
            **{name: plain(text) for name, text in given.items() if text is not None},
            **({} if closing is None else {"closing": closing}),
        },
    )


def _said(number: int, section: list[str]) -> Said:
    speaker, words = parted(section[0].partition(": ")[2], _WHOSE, _WHOSE.replace("'", "\u2019"))
    part = None if words is None else _PART.fullmatch(words)
    label, title = (words, None) if part is None else part.groups()
    remarks = remarked(section)
    said = Said(
        number,
        plain(speaker),
        text_of(section[1:]),
        label=None if label is None else plain(label),
        title=None if title is None else plain(title),
    )
    return remembered(said, remarks)


def _lines_of(head: list[str]) -> tuple[str | None, str | None]:
    """The date and the subtitle, each as it stands."""
    words = [found["words"] for line in head if (found := _ITALIC.fullmatch(line))]
    dates = [(date, word) for word in words if (date := iso_date(word)) is not None]
    others = [word for word in words if iso_date(word) is None]
    return (dates[0][0] if dates else None), (others[0] if others else None)
