"""`dialogue`: model to model, turn by turn with their pace, and what an observer made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from runner.conversation import Transcript, Turn
from runner.render.figures import counted, local, shown, total, usd
from runner.render.markdown import embedded, literal, plain, quoted
from runner.render.shapes import (
    HEADED,
    PAID,
    RULE,
    Page,
    body,
    cost_of,
    count_of,
    ending,
    in_one_line,
    labels,
    live,
    measure_of,
    names,
    noted,
    notes,
    odd,
    opening_of,
    parted,
    remarked,
    remembered,
    text_of,
    with_observer,
)
from runner.render.style import Figures, Links, ReadBack, Said

suffix: Final = ".md"
texts: Final[Mapping[str, str]] = {
    "topic": "what it is about, in a few words",
    "facilitator": "the name of who has set it up",
    "facilitated": "what the facilitator did, in brackets after the name",
    "intro": "an introduction, before the first turn",
    "remark": "a remark on speed or hardware, after the introduction",
}

_TITLE: Final = "# Model-to-Model Dialogue: "
_TOPIC: Final = "## Topic: "
_FACILITATOR: Final = "## Facilitator: "
_REMARK: Final = "Note: "
_DASH: Final = " — "
_VERSUS: Final = " vs "


def render(t: Transcript, links: Links) -> str:
    """The transcript turn by turn; `read` takes it apart again."""
    called = names(t, lambda p: p.label)
    known = labels(t, called)
    blocks = [_head(t, called), *_introduction(t), RULE]
    for turn in shown(t.turns):
        speaker = literal(called.get(turn.role, turn.speaker), _DASH)
        heading = f"### Turn {turn.number}: {speaker}{_DASH}{literal(turn.label or _part(turn, t))}"
        blocks.append("\n".join((heading, *_figures(turn))))
        blocks += (*body(turn, known), RULE)
    written = list(notes(t, with_observer, known))
    if written:
        blocks.append(f"\n\n{RULE}\n\n".join(written))
    blocks += (*_total(t), *ending(t))
    return "\n\n".join(blocks).rstrip("\n") + "\n"


def _head(t: Transcript, called: Mapping[str, str]) -> str:
    # A side that no model speaks for is known by that: it is not in the title.
    models = [called[p.role] for p in live(t)] or list(called.values())
    lines = [_TITLE + _VERSUS.join(literal(name, _VERSUS) for name in models)]
    if t.started is not None:
        began = local(t.started, t.zone)
        lines.append(f"## {began:%Y-%m-%d} ({_part_of_day(began.hour)})")
    given = t.look.texts
    if topic := given.get("topic"):
        lines.append(_TOPIC + in_one_line(topic))
    if facilitator := given.get("facilitator"):
        did = given.get("facilitated")
        lines.append(_FACILITATOR + in_one_line(facilitator) + (f" ({in_one_line(did)})" if did else ""))
    return "\n".join(lines)


def _part_of_day(hour: int) -> str:
    return next(
        part
        for end, part in ((5, "Night"), (12, "Morning"), (18, "Afternoon"), (22, "Evening"), (24, "Night"))
        if hour < end
    )


def _introduction(t: Transcript) -> Iterator[str]:
    if intro := t.look.texts.get("intro"):
        # The opening is the only quote in the head.
        yield re.sub(r"^(\\*)>", r"\1\\>", embedded(intro.strip("\n")), flags=re.MULTILINE)
    if remark := t.look.texts.get("remark"):
        yield _REMARK + in_one_line(remark)
    if t.opening is not None:
        yield quoted(t.opening)


def _part(turn: Turn, t: Transcript) -> str:
    """What a turn without a label is, by its place."""
    if turn.number == 1:
        return "Opening"
    if turn.number == len(t.turns):
        return "Closing"
    return "Response" if turn.number == 2 else "Reply"


def _figures(turn: Turn) -> Iterator[str]:
    usage = turn.usage
    parts = (
        None if usage.output is None else f"{usage.output} tokens",
        None if turn.tokens_per_second is None else f"{turn.tokens_per_second:.1f} tok/s",
        None if turn.seconds is None else f"{turn.seconds:.1f}s",
        # What a model waits or loads is not what it writes.
        None if turn.first_byte is None or turn.seconds is None else f"first byte after {turn.first_byte:.1f}s",
        None if not usage.reasoning else f"{usage.reasoning} of them reasoning",
        None if not turn.cost else usd(turn.cost),
        None if turn.attempts < 2 or turn.text is None else counted(turn.attempts, "attempt"),
    )
    if known := [part for part in parts if part is not None]:
        yield f"*({', '.join(known)})*"


def _total(t: Transcript) -> Iterator[str]:
    said = t.done
    tokens, _ = total([turn.usage.output for turn in said])
    if tokens is None:
        return
    counts = sum(turn.usage.output is not None for turn in said)
    times = [turn.seconds - (turn.first_byte or 0.0) for turn in said if turn.seconds is not None]
    pace = ""
    if times:
        spent = sum(times)
        around = counted(round(spent / 60), "minute") if spent >= 60 else counted(round(spent), "second")
        covers = "" if len(times) == counts else f" in {counted(len(times), 'turn')}"
        pace = f" (~{around} of generation{covers})"
    covers = counted(len(said), "turn")
    yield f"Total: {tokens} tokens across {covers if counts == len(said) else f'{counts} of {covers}'}{pace}"


# --- the way back ----------------------------------------------------------------------------------------------------

_TURN: Final = re.compile(r"### Turn (?P<number>\d+): (?P<heading>.+)")
_DATE: Final = re.compile(r"## (?P<date>\d{4}-\d{2}-\d{2})\b.*")
_FACILITATED: Final = re.compile(rf"{_FACILITATOR}(?P<name>.+?)(?: \((?P<did>.*)\))?")
_TOTAL: Final = re.compile(r"Total: [\d,]+ tokens.*")
_SPOKEN: Final = re.compile(
    r"\*\((?=[\d$])(?:(?P<output>\d[\d,]*) tokens)?(?:, )?(?:(?P<pace>\d+(?:\.\d+)?) tok/s)?(?:, )?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?) ?s)?(?P<more>.*)\)\*"
)
_FIRST_BYTE: Final = re.compile(r"first byte after (\d+(?:\.\d+)?)s")
_REASONING: Final = re.compile(r"(\d[\d,]*) of them reasoning")
_ATTEMPTS: Final = re.compile(r"(\d[\d,]*) attempts?")
_COST: Final = re.compile(rf"({PAID})")


def read(markdown: str) -> ReadBack:
    """What a dialogue holds; ValueError where it is none."""
    page = Page(markdown, _TOTAL)
    if not page.lines[0].startswith(_TITLE.rstrip()):
        raise ValueError("this is no dialogue: it needs a title `# Model-to-Model Dialogue: ...`")
    turns = page.find(_TURN)
    headings = [number for number in page.below_rules(page.find(HEADED)) if turns and number > turns[0]]
    head, *sections = page.cut(page.around(turns, headings))
    date = next((found["date"] for line in head if (found := _DATE.fullmatch(line))), None)
    said = tuple(_said(found, section[1:]) for section in sections if (found := _TURN.fullmatch(section[0])))
    return ReadBack(
        said,
        opening=opening_of(head),
        notes=tuple(noted(section) for section in sections if not _TURN.fullmatch(section[0])),
        model=plain(page.lines[0].removeprefix(_TITLE)),
        people=_people(page.lines[0], said),
        date=date,
        ending=page.ending,
        texts=_texts(head),
    )


def _people(title: str, said: Iterable[Said]) -> frozenset[str]:
    """Who speaks, is not in the title and has no figures, where all speak who are in it."""
    speakers = {one.speaker for one in said}
    named = set(map(plain, title.removeprefix(_TITLE).split(_VERSUS)))
    counted = {one.speaker for one in said if one.figures != Figures()}
    return frozenset(speakers - named - counted) if named <= speakers else frozenset()


def _said(found: re.Match[str], lines: list[str]) -> Said:
    remarks = remarked(lines)
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    figures = _SPOKEN.fullmatch(lines[first].rstrip()) if lines else None
    text = text_of(lines if figures is None else lines[first + 1 :])
    speaker, label = parted(found["heading"], _DASH, " - ")
    said = Said(count_of(found["number"]) or 0, plain(speaker), text, label=None if label is None else plain(label))
    if figures is not None and text is not None:
        tried = _ATTEMPTS.search(figures["more"])
        said = replace(said, figures=_read_figures(figures), attempts=0 if tried is None else count_of(tried[1]) or 0)
    return remembered(said, remarks)


def _read_figures(found: re.Match[str]) -> Figures:
    reasoning, cost, first = (
        None if (part := pattern.search(found["more"])) is None else part[1]
        for pattern in (_REASONING, _COST, _FIRST_BYTE)
    )
    return Figures(
        output=count_of(found["output"]),
        reasoning=count_of(reasoning),
        cost=cost_of(cost),
        seconds=measure_of(found["seconds"]),
        first_byte=measure_of(first),
        pace=measure_of(found["pace"]),
        odd=odd(found["output"], reasoning, cost, found["seconds"], first, found["pace"]),
    )


def _texts(head: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    intro: list[str] = []
    for line in head[1:]:
        if line.startswith(_TOPIC):
            found["topic"] = plain(line.removeprefix(_TOPIC))
        elif who := _FACILITATED.fullmatch(line):
            found["facilitator"] = plain(who["name"])
            if who["did"] is not None:
                found["facilitated"] = plain(who["did"])
        elif line.startswith(_REMARK):
            found["remark"] = plain(line.removeprefix(_REMARK))
        elif not line.startswith((">", "# ", "## ")):
            intro.append(re.sub(r"^(\\*)\\>", r"\1>", line))
    if text := text_of(intro):
        found["intro"] = text.strip("\n")
    return found
