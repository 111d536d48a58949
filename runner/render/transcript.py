"""The default style: front matter, one heading per turn, every line of a text quoted, and figures with their coverage.

Only lines of ours begin with anything but `>`, and of the quotes only our callouts begin with `[!`. That is what makes
`read` exact: it gives the same texts back, whatever they contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from runner.conversation import Participant, Transcript, Turn
from runner.foreign import visible
from runner.money import dollars
from runner.render.figures import UNKNOWN, counted, difference, duration, stamp, total, usd
from runner.render.markdown import brief, link, literal, plain, quoted, row, unquoted
from runner.render.style import Links

suffix: Final = ".md"

_CONTEXT: Final = "## Context"
_OPENING: Final = "## Opening"
_CALLOUT: Final = "> [!"


def render(t: Transcript, links: Links) -> str:
    """The transcript as Markdown; `read` takes the texts out again."""
    blocks = [_front_matter(t), f"# {literal(t.name)}"]
    if t.status != "complete":
        blocks.append(_callout("IMPORTANT", _why_incomplete(t)))
    for heading, text in ((_CONTEXT, t.context), (_OPENING, t.opening)):
        if text is not None:
            blocks += (heading, quoted(text))
    for turn in t.turns:
        if turn.text is not None or turn.outcome != "open" or turn.error is not None:
            blocks += _turn(turn)
    blocks += _statistics(t)
    if neighbours := _neighbours(links):
        blocks.append(neighbours)
    blocks.append("*Computed from the journal. The verbatim texts are in `conversations.jsonl`.*")
    return "\n\n".join(blocks) + "\n"


# --- head ------------------------------------------------------------------------------------------------------------


def _front_matter(t: Transcript) -> str:
    tokens, _ = total(turn.usage.output for turn in _generated(t.turns))
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
        "duration_s": None if t.started is None or t.ended is None else f"{t.ended - t.started:.1f}",
        "tags": _list(_tag(word) for word in ("tertulia", t.job, t.prompt, t.status, *flags)),
    }
    return "\n".join(("---", *(f"{name}: {text}" for name, text in fields.items() if text is not None), "---"))


def _scalar(text: str) -> str:
    # A JSON string of visible characters is a YAML string on one line.
    return orjson.dumps(visible(text, keep_newlines=False)).decode()


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_scalar(text) for text in dict.fromkeys(texts))}]"


def _tag(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") or "unnamed"


def _why_incomplete(t: Transcript) -> list[str]:
    lines = [f"**Not complete: {t.status}.** {len(t.done)} of {counted(len(t.turns), 'turn')} were said."]
    if t.reason:
        lines.append(f"Reason: {brief(t.reason)}")
    if t.error is not None and str(t.error.get("message") or "?") not in (t.reason or ""):
        lines.append(f"Error: {_error(t.error.get('kind'), t.error.get('message'))}")
    return lines


def _error(kind: object, message: object) -> str:
    words = [brief(str(word), 500) for word in (kind, message) if word]
    return ": ".join(words) or "no particulars"


def _callout(kind: str, lines: Iterable[str]) -> str:
    # A backslash at the end of a line breaks it there without a blank that an editor might strip.
    return f"{_CALLOUT}{kind}]\n" + "\\\n".join(f"> {line}" for line in lines)


# --- turns -----------------------------------------------------------------------------------------------------------


def _turn(turn: Turn) -> Iterator[str]:
    yield _heading(turn)
    if figures := _figures(turn):
        yield f"*{' · '.join(figures)}*"
    if turn.text is not None:
        yield quoted(turn.text)
    else:
        yield _callout("WARNING", _what_happened(turn))
    for remark in _remarks(turn):
        yield _callout("NOTE", [remark])


_PLAIN_ROLE: Final = re.compile(r"[A-Za-z0-9_-]+")
_PART: Final = r"(?:[^\\()]|\\.)*"
_HEADING: Final = re.compile(
    rf"## (?P<number>\d+)\. (?:{_PART} \((?P<role>{_PART})\)|(?P<alone>(?:[A-Za-z0-9-]|\\_)+))(?: — .*)?"
)


def _heading(turn: Turn) -> str:
    speaker = literal(turn.speaker)
    if turn.speaker != turn.role or not _PLAIN_ROLE.fullmatch(turn.role):
        speaker += f" ({literal(turn.role)})"
    return f"## {turn.number}. {speaker}" + (f" — {literal(turn.label)}" if turn.label else "")


def _figures(turn: Turn) -> list[str]:
    if turn.given:
        return ["given line"]
    usage = turn.usage
    figures = (
        None if turn.model is None else literal(f"{turn.provider}/{turn.model}" if turn.provider else turn.model),
        None if turn.served in (None, turn.model) else f"served {brief(turn.served or '')}",
        None if turn.upstream is None else f"by {brief(turn.upstream)}",
        None if usage.input is None else f"{usage.input:,} in",
        None if usage.cached_read is None else f"{usage.cached_read:,} cached",
        None if usage.cached_write is None else f"{usage.cached_write:,} cache written",
        None if usage.output is None else f"{usage.output:,} out",
        None if usage.reasoning is None else f"{usage.reasoning:,} reasoning",
        None if turn.cost is None else f"{usd(turn.cost)} {_SOURCES[turn.cost_source]}",
        None if turn.seconds is None else duration(turn.seconds),
        None if turn.tokens_per_second is None else f"{turn.tokens_per_second:.1f} tok/s",
        None if not turn.attempts else counted(turn.attempts, "attempt"),
    )
    return [figure for figure in figures if figure is not None]


_SOURCES: Final = {"reported": "reported", "priced": "priced", "unknown": "assumed", None: "assumed"}
"""How a cost is known; where usage is unknown the reservation stays charged."""


def _what_happened(turn: Turn) -> list[str]:
    after = f" after {counted(turn.attempts, 'attempt')}" if turn.attempts else ""
    said = "No reply" if turn.outcome == "failed" else "No reply yet"
    error = turn.error or {}
    return [f"**{said}{after}.** {_error(error.get('kind'), error.get('message'))}"]


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


def _generated(turns: Iterable[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.text is not None and not turn.given]


def _statistics(t: Transcript) -> Iterator[str]:
    live = [turn for turn in t.turns if not turn.given]
    rows = [row("Speaker", "Turns", "In", "Cached", "Out", "Reasoning", "Cost", "Time"), row(*["---", *["---:"] * 7])]
    for participant in t.participants:
        if participant.live:
            rows.append(_statistics_row(_name(participant), [turn for turn in live if turn.role == participant.role]))
    rows.append(_statistics_row("**Total**", live))
    yield "## Statistics"
    yield "\n".join(rows)
    said = _generated(t.turns)
    covered = sum(turn.usage.output is not None for turn in said)
    charged, _ = total(turn.cost for turn in said)
    coverage = f"{covered} of {counted(len(said), 'turn')} {'has' if len(said) == 1 else 'have'} figures."
    yield (
        f"{coverage} Spent on all attempts: {usd(t.spent)}"
        + ("." if charged is None else f", of which {usd(charged)} on the turns above.")
    )


def _name(participant: Participant) -> str:
    label = literal(participant.label)
    return label if participant.label == participant.role else f"{label} ({literal(participant.role)})"


def _statistics_row(name: str, planned: Sequence[Turn]) -> str:
    said = _generated(planned)
    columns = (
        [turn.usage.input for turn in said],
        [turn.usage.cached_read for turn in said],
        [turn.usage.output for turn in said],
        [turn.usage.reasoning for turn in said],
    )
    tokens = [UNKNOWN if known is None else f"{known:,}{covers}" for known, covers in map(total, columns)]
    cost, cost_covers = total(turn.cost for turn in said)
    seconds, seconds_covers = total(turn.seconds for turn in said)
    return row(
        name,
        f"{len(said)} of {len(planned)}",
        *tokens,
        UNKNOWN if cost is None else usd(cost) + cost_covers,
        UNKNOWN if seconds is None else duration(seconds) + seconds_covers,
    )


def _neighbours(links: Links) -> str:
    ways = (("Previous", links.previous), ("Next", links.next))
    return " · ".join(f"{way}: {link(path.removesuffix(suffix), path)}" for way, path in ways if path is not None)


# --- the way back ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a transcript that has a text."""

    number: int
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The texts of a transcript, exactly as they were."""

    context: str | None
    opening: str | None
    said: tuple[Said, ...]


def read(markdown: str) -> ReadBack:
    """The texts that `render` was given; ValueError where somebody has moved a quote."""
    texts: dict[str, str] = {}
    heading = ""
    lines = iter(markdown.split("\n"))
    line = next(lines, None)
    while line is not None:
        if line.startswith("## "):
            heading = line
        if not line.startswith(">"):
            line = next(lines, None)
            continue
        quote: list[str] = []
        while line is not None and line.startswith(">"):
            quote.append(line)
            line = next(lines, None)
        if quote[0].startswith(_CALLOUT):
            continue
        if not heading or heading in texts:
            raise ValueError(f"a quote stands where no turn is: {quote[0][:80]}")
        texts[heading] = unquoted("\n".join(quote))
    context, opening = texts.pop(_CONTEXT, None), texts.pop(_OPENING, None)
    return ReadBack(context, opening, tuple(_said(heading, text) for heading, text in texts.items()))


def _said(heading: str, text: str) -> Said:
    found = _HEADING.fullmatch(heading)
    if found is None:
        raise ValueError(f"a quote stands under a heading that is not a turn: {heading[:80]}")
    return Said(int(found["number"]), plain(found["alone"] if found["role"] is None else found["role"]), text)
