"""The default style: front matter, one heading per turn, every line of a text quoted, and figures with their coverage.

Only lines of ours begin with anything but `>`, and of the quotes only our callouts begin with `[!`. That is what makes
`read` exact: it gives the same texts back, whatever they contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import orjson

from runner.call import Finish, has_text
from runner.conversation import AsideKind, Note, Origin, Participant, Transcript, Turn
from runner.foreign import visible
from runner.money import dollars
from runner.render.figures import (
    UNKNOWN,
    answers,
    counted,
    difference,
    duration,
    generated,
    of_it_assumed,
    read_in,
    shown,
    stamp,
    total,
    usd,
)
from runner.render.markdown import brief, failure, link, literal, plain, quoted, row, unquoted
from runner.render.shapes import COST, PAID, cost_of, count_of, measure_of, noted, odd, with_observer
from runner.render.style import Asked, Ending, Figures, Links, Noted, ReadBack, Said

suffix: Final = ".md"
texts: Final[Mapping[str, str]] = {}

_CONTEXT: Final = "## Context"
_OPENING: Final = "## Opening"
_SYSTEM: Final = "## System text"
_STATISTICS: Final = "## Statistics"
_CALLOUT: Final = "> [!"
_COMMA: Final = ", "
_DOT: Final = "·"
"""What parts the figures of a line; in names that stand there it is spelled out."""
_APART: Final = f" {_DOT} "


def render(t: Transcript, links: Links) -> str:
    """The transcript as Markdown; `read` takes the texts out again."""
    blocks = [_front_matter(t), f"# {literal(t.name)}"]
    if t.origin is not None:
        blocks.append(_where_from(t.origin))
    if t.status != "complete":
        blocks.append(_callout("IMPORTANT", _why_incomplete(t)))
    elif t.reason:
        turns = f"{len(t.done)} of {counted(len(t.turns), 'turn')} were said."
        blocks.append(_callout("NOTE", [f"**Ended early.** {turns}", f"Reason: {brief(t.reason)}"]))
    for heading, text in (*_systems(t.participants), (_CONTEXT, t.context), (_OPENING, t.opening)):
        if text is not None:
            blocks += (heading, quoted(text))
    for turn in shown(t.turns):
        blocks += _turn(turn)
    blocks += _statistics(t)
    for note in t.notes:
        blocks += _note(note)
    if neighbours := _neighbours(links):
        blocks.append(neighbours)
    blocks.append("*Computed from the journal. The verbatim texts are in `conversations.jsonl`.*")
    return "\n\n".join(blocks) + "\n"


_MOST_FIELDS: Final = 256
"""So many values of fields are known again: most of them are the same in all transcripts of a run."""

# --- head ------------------------------------------------------------------------------------------------------------


def _front_matter(t: Transcript) -> str:
    tokens, _ = total([turn.usage.output for turn in generated(t.turns)])
    flags = [flag for flag, count in (("truncated", t.truncated), ("refused", t.refused)) if count]
    fields = {
        "title": _scalar(t.name),
        "job": _scalar(t.job),
        "run": _scalar(t.run),
        "prompt": _scalar(t.prompt),
        "pairing": _scalar(" ~ ".join(p.alias or p.label for p in t.participants)),
        "models": _list(f"{p.provider}/{p.model}" for p in t.participants if p.live),
        "status": _scalar(t.status),
        "rounds": _scalar(f"{t.rounds_done} of {t.rounds_planned}"),
        "cost_usd": dollars(t.spent),
        "tokens_out": None if tokens is None else str(tokens),
        "started": None if t.started is None else _scalar(stamp(t.started)),
        "duration_s": None if t.seconds is None else f"{t.seconds:.1f}",
        "origin": None if t.origin is None else _scalar(t.origin.name),
        "origin_id": None if t.origin is None else _scalar(t.origin.id),
        "origin_kind": None if t.origin is None else _scalar(t.origin.kind),
        "origin_lines": None if t.origin is None else str(t.origin.through),
        "tags": _list(_tag(word) for word in ("tertulia", t.job, t.prompt, t.status, *flags)),
    }
    return "\n".join(("---", *(f"{name}: {text}" for name, text in fields.items() if text is not None), "---"))


@lru_cache(_MOST_FIELDS)
def _scalar(text: str) -> str:
    # A JSON string of visible characters is a YAML string on one line.
    return orjson.dumps(visible(text, keep_newlines=False)).decode()


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_scalar(text) for text in dict.fromkeys(texts))}]"


@lru_cache(_MOST_FIELDS)
def _tag(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") or "unnamed"


_KINDS: Final[Mapping[str, str]] = {"extend": "Goes on with", "fork": "Branches off", "redo": "Mends"}


def _where_from(origin: Origin) -> str:
    lines = "its first line is" if origin.through == 1 else f"its first {origin.through:,} lines are"
    return f"*{_KINDS[origin.kind]} {literal(origin.name)} ({literal(origin.id)}): {lines} carried over.*"


def _why_incomplete(t: Transcript) -> list[str]:
    lines = [f"**Not complete: {t.status}.** {len(t.done)} of {counted(len(t.turns), 'turn')} were said."]
    if t.reason:
        lines.append(f"Reason: {brief(t.reason)}")
    if t.error is not None and str(t.error.get("message") or "?") not in (t.reason or ""):
        lines.append(f"Error: {failure(t.error)}")
    return lines


def _callout(kind: str, lines: Iterable[str]) -> str:
    # A backslash at the end of a line breaks it there without a blank that an editor might strip.
    return f"{_CALLOUT}{kind}]\n" + "\\\n".join(f"> {line}" for line in lines)


def _systems(participants: Iterable[Participant]) -> Iterator[tuple[str, str]]:
    """What each live side is told that no other sees, once for all who are told the same."""
    told: dict[str, list[str]] = {}
    for p in participants:
        if p.live and has_text(p.system):
            told.setdefault(p.system or "", []).append(literal(p.role, _COMMA))
    for text, roles in told.items():
        yield f"{_SYSTEM} ({_COMMA.join(roles)})", text


# --- turns -----------------------------------------------------------------------------------------------------------


def _turn(turn: Turn) -> list[str]:
    blocks = [_heading(turn)]
    if figures := _figures(turn):
        blocks.append(f"*{_APART.join(figures)}*")
    for note in turn.asked:
        # A line of figures begins with no parenthesis: those of names have a backslash.
        blocks.append(f"*({_APART.join(_asked(note))})*")
    blocks.append(_callout("WARNING", _what_happened(turn)) if turn.text is None else quoted(turn.text))
    if turn.outcome != "ok" or turn.usage.cost is not None:
        blocks += (_callout("NOTE", [remark]) for remark in _remarks(turn))
    return blocks


_PLAIN_ROLE: Final = re.compile(r"[A-Za-z0-9_-]+")
_PART: Final = r"(?:[^\\()]|\\.)*"
_HEADING: Final = re.compile(
    rf"## (?P<number>\d+)\. (?:(?P<speaker>{_PART}) \((?P<role>{_PART})\)|(?P<alone>(?:[A-Za-z0-9-]|\\_)+))"
    r"(?: — (?P<label>[^“]*?)(?: ?“(?P<title>.*)”)?)?"
)


def _heading(turn: Turn) -> str:
    speaker = literal(turn.speaker)
    if turn.speaker != turn.role or not _PLAIN_ROLE.fullmatch(turn.role):
        speaker += f" ({literal(turn.role)})"
    words = ([literal(turn.label, "“")] if turn.label else []) + ([f"“{literal(turn.title)}”"] if turn.title else [])
    return f"## {turn.number}. {speaker}" + (f" — {' '.join(words)}" if words else "")


def _figures(turn: Turn) -> list[str]:
    tokens_per_second = turn.tokens_per_second
    pace = None if tokens_per_second is None else f"{tokens_per_second:.1f} tok/s"
    carried = ["carried over"] if turn.carried else []
    # A vote is held, and a rule judges, whoever has said the line.
    weighed = [f"weighed {', '.join(_weighed(*figure) for figure in turn.weighed.items())}"] if turn.weighed else []
    if turn.heard is not None:
        # Whatever it took, it was not taken from the model that has its place here.
        told = _measured(replace(turn, model=None), (), pace)
        return [_source(turn.heard), *told, *carried, *weighed]
    if turn.given:
        return ["given line", *carried, *weighed]
    served = None if turn.served in (None, turn.model) else f"served {brief(turn.served or '', apart=_DOT)}"
    upstream = None if turn.upstream is None else f"by {brief(turn.upstream, apart=_DOT)}"
    told = _measured(turn, (served, upstream), pace)
    if carried or turn.left_out or weighed:
        told += [*carried, *([f"{counted(turn.left_out, 'oldest line')} left out"] if turn.left_out else []), *weighed]
    return told


_ASKED: Final[Mapping[tuple[AsideKind, bool | None], str]] = {
    ("pick", True): "chosen by",
    ("pick", False): "nobody chosen by",
    ("vote", True): "vote for the end by",
    ("vote", False): "vote against the end by",
    ("vote", None): "no vote by",
}
"""What somebody meant who was asked at a turn."""


def _asked(note: Note) -> Iterator[str]:
    # Whom a moderator chose is the speaker of the turn.
    meant = note.data is not None if note.kind == "pick" else note.data
    yield f"{_ASKED[note.kind, meant]} {literal(note.observer or '', _DOT)}"
    in_vain = [f"{usd(note.spent)} on attempts without an answer"] if note.spent else []
    if not note.attempts and note.text is None:
        yield from (brief(note.reason or "nobody knows why", apart=_DOT), *in_vain)
        return
    yield from _measured(note, (), None)
    if note.text is None:
        yield from in_vain
        yield f"no answer: {failure(note.error or {'message': note.reason}, _DOT)}"


def _source(heard: str) -> str:
    return f"heard from {brief(heard, apart=_DOT)}"


def _measured(one: Turn | Note, names: Iterable[str | None], pace: str | None) -> list[str]:
    """What is known of a reply, or of what an observer wrote."""
    usage, found = one.usage, list[str | None]()
    if one.model is not None:
        found.append(literal(f"{one.provider}/{one.model}" if one.provider else one.model, _DOT))
    found += names
    if usage.input is not None:
        found.append(f"{usage.input:,} in")
    if usage.cached_read is not None:
        found.append(f"{usage.cached_read:,} cached")
    if usage.cached_write is not None:
        found.append(f"{usage.cached_write:,} cache written")
    if usage.output is not None:
        found.append(f"{usage.output:,} out")
    if usage.reasoning is not None:
        found.append(f"{usage.reasoning:,} reasoning")
    if one.cost is not None:
        found.append(f"{usd(one.cost)} {_SOURCES[one.cost_source]}")
    if one.seconds is not None:
        found.append(duration(one.seconds))
    found.append(pace)
    if one.attempts:
        found.append(counted(one.attempts, "attempt"))
    return [figure for figure in found if figure is not None]


_SOURCES: Final = {"reported": "reported", "priced": "priced", "unknown": "assumed", None: "assumed"}
"""How a cost is known; where usage is unknown the reservation stays charged."""


def _weighed(kind: str, figure: float) -> str:
    if kind == "cost":
        return f"cost {usd(round(figure))}"
    if kind == "time":
        return f"time {duration(figure)}"
    return f"{literal(kind, _DOT)} {figure:,.0f}" if kind == "tokens" else f"{literal(kind, _DOT)} {figure:.2f}"


def _what_happened(turn: Turn) -> list[str]:
    after = f" after {counted(turn.attempts, 'attempt')}" if turn.attempts else ""
    said = "No reply" if turn.outcome == "failed" else "No reply yet"
    return [f"**{said}{after}.** {failure(turn.error)}"]


def _remarks(turn: Turn) -> Iterator[str]:
    stop = f" ({brief(turn.stop)})" if turn.stop else ""
    if turn.outcome == "truncated":
        yield f"**Truncated:** the reply ends at its output limit{stop}."
    if turn.outcome == "refused":
        yield f"**Refused:** the provider marked this reply as a refusal{stop}."
    if (by := difference(turn.usage.cost, turn.computed)) is not None:
        reported, computed = usd(turn.usage.cost or 0), usd(turn.computed or 0)
        yield f"**Cost differs:** {reported} reported, {computed} by the price list ({by})."


# --- statistics ------------------------------------------------------------------------------------------------------


def _statistics(t: Transcript) -> Iterator[str]:
    written = [p.role for p in t.participants if p.inbox is not None]
    planned = [
        turn
        for turn in t.turns
        if not turn.given and not turn.carried and turn.heard is None and turn.role not in written
    ]
    rows = [row("Speaker", "Turns", "In", "Cached", "Out", "Reasoning", "Cost", "Time"), row(*["---", *["---:"] * 7])]
    said = generated(planned)
    for participant in t.participants:
        if participant.live:
            own = [turn for turn in said if turn.role == participant.role]
            of = sum(turn.role == participant.role for turn in planned)
            rows.append(_statistics_row(_name(participant), f"{len(own)} of {of}", own))
    asked: dict[str, list[Note]] = {}
    for note in (note for turn in t.turns for note in turn.asked if note.attempts):
        task = {"pick": "moderator", "vote": "vote"}[note.kind]
        asked.setdefault(f"{literal(note.observer or '')} ({task})", []).append(note)
    for name, notes in asked.items():
        heard = [note for note in notes if note.text is not None]
        rows.append(_statistics_row(name, f"{len(heard)} of {counted(len(notes), 'answer')}", heard))
    rows.append(_statistics_row("**Total**", f"{len(said)} of {len(planned)}", [*said, *answers(t.turns)]))
    yield _STATISTICS
    yield "\n".join(rows)
    said = generated(t.turns)
    covered = sum(turn.usage.output is not None for turn in said)
    charged, _ = total([turn.cost for turn in said])
    carried = sum(turn.carried for turn in t.turns)
    coverage = f"{covered} of {counted(len(said), 'turn')} {'has' if len(said) == 1 else 'have'} figures."
    parts = ([] if charged is None else [f"{usd(charged)} on the turns above"]) + _on_answers(t.turns)
    yield (
        f"{coverage} Spent on all attempts: {usd(t.spent)}{of_it_assumed(t)}"
        + (f", of which {' and '.join(parts)}." if parts else ".")
        + _elsewhere(t.turns)
        + (f" What was carried over ({counted(carried, 'turn')}) is not in it." if carried else "")
    )


def _on_answers(turns: Iterable[Turn]) -> list[str]:
    """What those cost who were asked while it went on, and how many of their answers that covers."""
    told = answers(turns)
    cost, covers = total([note.cost for note in told])
    return [] if cost is None else [f"{usd(cost)}{covers} on {counted(len(told), 'answer')} of those who were asked"]


def _elsewhere(turns: Iterable[Turn]) -> str:
    """What the turns took that were read in, and how many of them say so."""
    told = read_in(turns)
    if not told:
        return ""
    out, out_covers = total([turn.usage.output for turn in told])
    cost, cost_covers = total([turn.cost for turn in told])
    parts = ([] if out is None else [f"{out:,} out{out_covers}"]) + (
        [] if cost is None else [f"{usd(cost)}{cost_covers}"]
    )
    took = f" took {' and '.join(parts)} by their file" if parts else " have no figures"
    were = "was" if len(told) == 1 else "were"
    return f" {counted(len(told), 'turn')} that {were} read in{took}; none of it is above."


def _name(participant: Participant) -> str:
    label = literal(participant.label)
    return label if participant.label == participant.role else f"{label} ({literal(participant.role)})"


def _statistics_row(name: str, number: str, measured: Sequence[Turn | Note]) -> str:
    usages = [one.usage for one in measured]
    columns = (
        [usage.input for usage in usages],
        [usage.cached_read for usage in usages],
        [usage.output for usage in usages],
        [usage.reasoning for usage in usages],
    )
    tokens = [UNKNOWN if known is None else f"{known:,}{covers}" for known, covers in map(total, columns)]
    cost, cost_covers = total([one.cost for one in measured])
    seconds, seconds_covers = total([one.seconds for one in measured])
    return row(
        name,
        number,
        *tokens,
        UNKNOWN if cost is None else usd(cost) + cost_covers,
        UNKNOWN if seconds is None else duration(seconds) + seconds_covers,
    )


def _note(note: Note) -> Iterator[str]:
    if note.text is not None and note.kind == "titles":
        return  # they stand in the headings
    after = f" after {counted(note.attempts, 'attempt')}" if note.attempts else ""
    yield f"## {with_observer(note)}"
    source = [] if note.heard is None else [_source(note.heard)]
    if figures := [*source, *_measured(note, (), None)]:
        yield f"*{f' {_DOT} '.join(figures)}*"
    if note.text is not None:
        yield quoted(note.text)
    else:
        yield _callout("WARNING", [f"**Nothing written{after}.** {failure(note.error or {'message': note.reason})}"])


def _neighbours(links: Links) -> str:
    ways = (("Previous", links.previous), ("Next", links.next))
    return " · ".join(f"{way}: {link(path.removesuffix(suffix), path)}" for way, path in ways if path is not None)


# --- the way back ----------------------------------------------------------------------------------------------------


def read(markdown: str) -> ReadBack:
    """The texts that `render` was given, exactly; ValueError where somebody has moved a quote."""
    texts: dict[str, str | None] = {}
    figures: dict[str, str] = {}
    asked: dict[str, list[Asked]] = {}
    remarks: dict[str, list[str]] = {}
    notes: list[list[str]] = []
    heading, ended, ending = "", False, None
    lines = iter(markdown.split("\n"))
    line = next(lines, None)
    while line is not None:
        if line.startswith("## "):
            heading, ended = line, ended or line == _STATISTICS
            if ended and line != _STATISTICS:
                notes.append([line])
            elif _HEADING.fullmatch(line):
                texts.setdefault(line, None)
        elif line.startswith("*(") and heading:
            asked.setdefault(heading, []).extend(_read_asked(line))
        elif line.startswith("*") and heading:
            figures.setdefault(heading, line)
        if not line.startswith(">"):
            line = next(lines, None)
            continue
        quote: list[str] = []
        while line is not None and line.startswith(">"):
            quote.append(line)
            line = next(lines, None)
        if quote[0].startswith(_CALLOUT):
            if heading and not ended:
                remarks.setdefault(heading, []).extend(line[2:] for line in quote[1:])
            elif not heading:
                ending = _read_ending(quote)
            continue
        if ended and notes and len(notes[-1]) == 1:
            notes[-1].append(unquoted("\n".join(quote)))
            continue
        if ended or not heading or texts.get(heading) is not None:
            raise ValueError(f"a quote stands where no turn is: {quote[0][:80]}")
        texts[heading] = unquoted("\n".join(quote))
    context, opening = texts.pop(_CONTEXT, None), texts.pop(_OPENING, None)
    systems = _read_systems(texts)
    head = _read_front_matter(markdown)
    models = head.get("models")
    started = head.get("started")
    return ReadBack(
        tuple(
            _remembered(
                _said(heading, text, figures.get(heading, ""), asked.get(heading, ())), remarks.get(heading, ())
            )
            for heading, text in texts.items()
        ),
        context,
        opening,
        systems=systems,
        notes=tuple(_noted(*note) for note in notes),
        model=", ".join(map(str, models)) or None if isinstance(models, list) else None,
        models=_read_models(markdown, list(map(str, models)) if isinstance(models, list) else []),
        date=started if isinstance(started, str) else None,
        ending=ending,
    )


_TOLD: Final = re.compile(rf"{_SYSTEM} \((?P<roles>{_PART})\)")


def _read_systems(texts: dict[str, str | None]) -> Mapping[str, str]:
    """Takes out what stands below the headings of system texts; by role."""
    found: dict[str, str] = {}
    for heading, told in [(heading, told) for heading in texts if (told := _TOLD.fullmatch(heading))]:
        text = texts.pop(heading)
        if text is not None:
            found |= dict.fromkeys(map(plain, told["roles"].split(_COMMA)), text)
    return found


_ROW: Final = re.compile(rf"\| (?:{_PART} \((?P<role>{_PART})\)|(?P<alone>[^*|(]+)) \| \d+ of \d+ \|.*")


def _read_models(markdown: str, models: Sequence[str]) -> Mapping[str, str]:
    """Which model each role is, where as many have a row in the statistics as the head names, or it names only one."""
    rows = map(_ROW.fullmatch, markdown.rpartition(f"\n{_STATISTICS}\n")[2].split("\n"))
    roles = [plain(found["role"] or found["alone"]) for found in rows if found is not None]
    each = list(models) * (len(roles) if len(models) == 1 else 1)
    return dict(zip(roles, each, strict=True)) if len(roles) == len(each) else {}


_ENDED: Final = re.compile(
    r"> \*\*(?:Ended early|Not complete: (?P<status>[a-z]+))\.\*\* \d+ of (?P<turns>\d[\d,]*) turns? were said\."
)
_REASON: Final = "> Reason: "


def _read_ending(callout: Sequence[str]) -> Ending | None:
    """What the head says of an end that did not come with the last turn."""
    lines = [line[:-1] if line.endswith("\\") else line for line in callout[1:]]
    found = _ENDED.fullmatch(lines[0]) if lines else None
    if found is None:
        return None
    reason = next((line.removeprefix(_REASON) for line in lines if line.startswith(_REASON)), None)
    return Ending(found["status"] or "complete", count_of(found["turns"]), None if reason is None else plain(reason))


def _said(heading: str, text: str | None, figures: str, asked: Iterable[Asked]) -> Said:
    found = _HEADING.fullmatch(heading)
    if found is None:
        raise ValueError(f"a quote stands under a heading that is not a turn: {heading[:80]}")
    alone, label, title = found["alone"], found["label"], found["title"]
    return Said(
        count_of(found["number"]) or 0,
        plain(alone or found["speaker"]),
        text,
        role=plain(alone or found["role"]),
        label=plain(label) if label else None,
        title=None if title is None else plain(title),
        figures=Figures() if text is None else _read_figures(figures),
        asked=tuple(asked),
        model=None if text is None else _read_model(figures),
        upstream=next((plain(part[3:]) for part in _parts(figures) if part.startswith("by ")), None),
        attempts=next((count_of(found[1]) or 0 for part in _parts(figures) if (found := _TRIED.fullmatch(part))), 0),
    )


_SILENT: Final = re.compile(r"\*\*No reply(?: yet)?(?: after (?P<attempts>\d[\d,]*) attempts?)?\.\*\* (?P<error>.*)")
_LACKING: Final = re.compile(rf"\*\*(?P<what>Truncated|Refused):\*\* {_PART}(?:\((?P<stop>{_PART})\))?\.")
_OUTCOMES: Final[Mapping[str, Finish]] = {"Truncated": "truncated", "Refused": "refused"}
_DIFFERS: Final = re.compile(rf"\*\*Cost differs:\*\* {COST} reported, (?P<computed>{COST}) by the price list .*")


def _remembered(said: Said, remarks: Iterable[str]) -> Said:
    """A turn with what its callouts say of it."""
    for line in remarks:
        if silent := _SILENT.fullmatch(line):
            said = replace(said, attempts=count_of(silent["attempts"]) or 0, error=plain(silent["error"]))
        elif lacking := _LACKING.fullmatch(line):
            stop = lacking["stop"]
            said = replace(said, outcome=_OUTCOMES[lacking["what"]], stop=None if stop is None else plain(stop))
        elif differs := _DIFFERS.fullmatch(line):
            said = replace(said, figures=replace(said.figures, computed=cost_of(differs["computed"])))
    return said


def _read_asked(line: str) -> Iterator[Asked]:
    inner = line.removeprefix("*(").removesuffix(")*")
    for (kind, meant), words in _ASKED.items():
        if inner.startswith(f"{words} "):
            by, *figures = inner.removeprefix(f"{words} ").split(f" {_DOT} ")
            yield Asked(kind, plain(by), meant, _read_figures(f" {_DOT} ".join(figures)))


def _noted(heading: str, text: str | None = None) -> Noted:
    return replace(noted([heading]), text=text)


_FIGURES: Final = {
    name: re.compile(rf"(\d[\d,]*) {word}")
    for name, word in (("input", "in"), ("output", "out"), ("reasoning", "reasoning"), ("cached", "cached"))
}
_COST: Final = re.compile(rf"({PAID}) (?:reported|priced|assumed)")
_PACE: Final = re.compile(r"(\d+(?:\.\d+)?) tok/s")
_TRIED: Final = re.compile(r"(\d[\d,]*) attempts?")
_TIME: Final = re.compile(r"(?:(\d+) h )?(?:(\d+) min ?)?(?:(\d+(?:\.\d+)?) s)?")


_MODEL: Final = re.compile(r"[\w.-]+/\S+")


def _read_model(line: str) -> str | None:
    """What a turn's figures begin with where a model wrote it: its provider and its id."""
    first = plain(_parts(line)[0])
    return first if _MODEL.fullmatch(first) else None


def _parts(line: str) -> list[str]:
    return line.strip("*").split(f" {_DOT} ")


def _read_figures(line: str) -> Figures:
    parts = _parts(line)
    counts = {
        name: found[1] for name, pattern in _FIGURES.items() for part in parts if (found := pattern.fullmatch(part))
    }
    cost = next((found[1] for part in parts if (found := _COST.fullmatch(part))), None)
    time = next((found.groups() for part in parts if part and (found := _TIME.fullmatch(part))), None)
    units = zip(time or (), (3600, 60, 1), strict=False)
    pace = next((found[1] for part in parts if (found := _PACE.fullmatch(part))), None)
    return Figures(
        **{name: count_of(count) for name, count in counts.items()},
        cost=cost_of(cost),
        seconds=None if time is None else sum((measure_of(number) or 0.0) * unit for number, unit in units),
        pace=measure_of(pace),
        odd=odd(*counts.values(), cost, pace, *(time or ())),
    )


def _read_front_matter(markdown: str) -> Mapping[str, object]:
    """The fields as `render` writes them; none where the file begins otherwise, what was edited is left out."""
    head, end, _ = markdown.removeprefix("---\n").partition("\n---\n")
    found: dict[str, object] = {}
    for line in head.split("\n") if end and markdown.startswith("---\n") else ():
        name, _, value = line.partition(": ")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            continue
    return found
