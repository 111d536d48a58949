"""What the four older shapes have in common: `letter`, `rounds`, `dialogue` and `titled-rounds`.

Their texts stand among our own lines, so a file is taken apart at its seams: the heading of a turn, or a heading or a
label below a rule. `embedded` sees to it that no text holds one. One blank line stands before a text, others are its
own; those behind it are nobody's, since every editor adds and takes some.

What these shapes had no words for stands in lines of its own, in italics and brackets: what happened in the place of a
reply, what a reply lacks, why a conversation ended. Files that were not written here are read as far as they go: their
own rules and headings stay text unless they can be nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final

from runner.call import Finish
from runner.conversation import Note, Participant, Transcript, Turn
from runner.money import NANOS_PER_DOLLAR, Nanos
from runner.render.figures import answers, counted, generated, of_it_assumed, read_in, total, usd
from runner.render.markdown import brief, embedded, extracted, failure, is_code, literal, plain, unquoted
from runner.render.style import Ending, Figures, Noted, Said
from runner.status import STATUSES

RULE: Final = "---"
LABEL: Final = re.compile(r"\*\*(?P<label>.+):\*\*[ \t]*")
DATED: Final = re.compile(r"\*(?P<date>[^*]+)\*")
HEADED: Final = re.compile(r"## .+")
PART: Final = r"(?:[^\\()]|\\.)*"
"""A literal of ours within a heading, up to a parenthesis of ours."""

# --- who and when ----------------------------------------------------------------------------------------------------


def names(t: Transcript, called: Callable[[Participant], str]) -> Mapping[str, str]:
    """What each role is called in a file; who would share a name carries the role, too."""
    wanted = {p.role: called(p) or p.role for p in t.participants}
    every = list(wanted.values())
    return {role: name if every.count(name) == 1 else f"{name} ({role})" for role, name in wanted.items()}


def labels(t: Transcript, called: Mapping[str, str]) -> frozenset[str]:
    """The names that no text may set up as a label."""
    return frozenset([*called.values(), *(name for p in t.participants for name in (p.label, p.alias))])


def live(t: Transcript) -> list[Participant]:
    """The participants that are models."""
    return [p for p in t.participants if p.live]


_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def long_date(day: date) -> str:
    """`November 21, 2026`, in English wherever it is written."""
    return f"{_MONTHS[day.month - 1]} {day.day}, {day.year}"


def iso_date(shown: str, form: str | None = None) -> str | None:
    """A date as a file shows it, in ISO 8601; None where it is none. Without a form it is a long one."""
    if form is None:
        found = re.fullmatch(r"(\w+) (\d{1,2}), (\d{4})", shown)
        if found is None or found[1] not in _MONTHS:
            return None
        shown, form = f"{found[3]}-{_MONTHS.index(found[1]) + 1}-{found[2]}", "%Y-%m-%d"
    try:
        stamp = datetime.strptime(shown, form)  # noqa: DTZ007 - the file names no zone
    except ValueError:
        return None
    if "%H" not in form:
        return stamp.date().isoformat()
    return stamp.isoformat(timespec="seconds" if "%S" in form else "minutes")


def in_one_line(text: str) -> str:
    """A text that has one line of ours; `plain` gives it back, with blanks where its own lines ended."""
    return literal(" ".join(line for line in text.split("\n") if line.strip()))


# --- what stands beside a text ---------------------------------------------------------------------------------------

_REMARK: Final = re.compile(
    r"\*\[(?:(?:tokens|cut|refused|left out): .*"
    r"|(?:prompt|completion|reasoning|cost|computed|cached|upstream|attempts)=.*"
    r"|no (?:reply|notes)(?: yet)?(?: after \d[\d,]* attempts?)?(?:: .*)?)\]\*"
)
_ENDING: Final = re.compile(r"\*\[(?:not complete|ended): .*\]\*")
_ENDED: Final = re.compile(
    r"\*\[(?:ended|not complete: (?P<status>[a-z]+))(?:[:,] (?:after )?\d+ of (?P<turns>\d[\d,]*) turns?)?"
    r"(?:: (?P<reason>.*))?\]\*"
)
_SILENT: Final = re.compile(
    r"\*\[no reply(?: yet)?(?: after (?P<attempts>\d[\d,]*) attempts?)?(?:: (?P<error>.*))?\]\*"
)
_LACKING: Final = re.compile(rf"\*\[(?P<what>cut|refused): (?:{PART})(?:\((?P<stop>.*)\))?\]\*")
_OUTCOMES: Final[Mapping[str, Finish]] = {"cut": "truncated", "refused": "refused"}
_COMMA: Final = ", "
_COUNT: Final = r"\d[\d,]*"
COST: Final = r"-?\$\d+(?:\.\d+)?"
PAID: Final = r"-?\$-?\d+(?:\.\d+)?"
"""What stands where a cost would: `$-5` is none, and is to be told."""
_TOKENS: Final = re.compile(
    r"\*\[(?:tokens: )?(?P<figures>(?:prompt|completion|reasoning|cost|computed|cached|upstream|attempts)=.*)\]\*"
)
_FORMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("prompt", "completion", "reasoning", "cached"), _COUNT),
    **dict.fromkeys(("cost", "computed"), COST),
}
"""The figures of such a line, and how each must look."""


def body(turn: Turn, labels: Collection[str]) -> list[str]:
    """The text of a turn, or what stands in its place, and what there is to say of it."""
    return [_instead(turn) if turn.text is None else embedded(turn.text, labels), *remarks(turn)]


def _instead(turn: Turn) -> str:
    after = f" after {counted(turn.attempts, 'attempt')}" if turn.attempts else ""
    return f"*[no reply{'' if turn.outcome == 'failed' else ' yet'}{after}: {failure(turn.error)}]*"


def remarks(turn: Turn) -> Iterator[str]:
    """What a reply lacks."""
    stop = f" ({brief(turn.stop)})" if turn.stop else ""
    if turn.outcome == "truncated":
        yield f"*[cut: the reply ends at its output limit{stop}]*"
    if turn.outcome == "refused":
        yield f"*[refused: the provider marked this reply as a refusal{stop}]*"
    if turn.left_out:
        yield f"*[left out: its speaker was not shown the oldest {counted(turn.left_out, 'line')}]*"


def token_line(turn: Turn) -> Iterator[str]:
    """`*[tokens: prompt=258, completion=1053, reasoning=0, cost=$0.0036]*`: what is known, and nothing else."""
    usage = turn.usage
    counts = [
        f"{name}={count}"
        for name, count in (("prompt", usage.input), ("completion", usage.output), ("reasoning", usage.reasoning))
        if count is not None
    ]
    others = []
    if turn.cost is not None:
        others.append(f"cost={usd(turn.cost)}{'' if turn.cost_source in ('reported', 'priced') else ' assumed'}")
    if turn.computed is not None and turn.cost is not None and turn.computed != turn.cost:
        others.append(f"computed={usd(turn.computed)}")
    if usage.cached_read:
        others.append(f"cached={usage.cached_read}")
    if turn.upstream is not None:
        others.append(f"upstream={brief(turn.upstream, apart=_COMMA)}")
    if turn.attempts > 1 and turn.text is not None:
        others.append(f"attempts={turn.attempts}")
    if counts or others:
        yield f"*[{'tokens: ' if counts else ''}{', '.join(counts + others)}]*"


def total_cost(t: Transcript) -> str | None:
    """What the turns and the answers cost, how many that covers, and what all attempts cost where it is more."""
    cost, covers = total([turn.cost for turn in generated(t.turns)])
    parts = [] if cost is None else [f"{usd(cost)}{covers}"]
    carried, over = total([turn.cost for turn in t.turns if turn.carried and not turn.given and turn.heard is None])
    if carried is not None:
        parts.append(f"{usd(carried)}{over} for turns that were carried over")
    elsewhere, of = total([turn.cost for turn in read_in(t.turns)])
    if elsewhere is not None:
        parts.append(f"{usd(elsewhere)}{of} by the file that was read in")
    asked, of_asked = total([note.cost for note in answers(t.turns)])
    if asked is not None:
        parts.append(f"{usd(asked)}{of_asked} for answers of those who were asked")
    if t.spent != (cost or 0) + (asked or 0):
        parts.append(f"{usd(t.spent)} on all attempts{of_it_assumed(t)}")
    return ", ".join(parts) or None


def ending(t: Transcript) -> Iterator[str]:
    """Why the conversation is not complete, or why it is so before its last turn."""
    turns = f"{len(t.done)} of {counted(len(t.turns), 'turn')}"
    reason = f": {brief(t.reason)}" if t.reason else ""
    if t.status != "complete":
        yield f"*[not complete: {t.status}, {turns}{reason}]*"
    elif reason:
        yield f"*[ended: after {turns}{reason}]*"


def notes(t: Transcript, headed: Callable[[Note], str], labels: Collection[str]) -> Iterator[str]:
    """What observers wrote of the whole, or what happened to them, each below its heading."""
    for note in t.notes:
        if note.kind == "titles":
            continue
        if note.text is not None:
            yield f"## {headed(note)}\n\n{embedded(note.text, labels)}"
        elif note.attempts or note.error is not None or note.reason is not None:
            after = f" after {counted(note.attempts, 'attempt')}" if note.attempts else ""
            why = failure(note.error or {"message": note.reason})
            yield f"## {headed(note)}\n\n*[no notes{after}: {why}]*"


def with_observer(note: Note) -> str:
    """`Observer's Notes (opus, Claude Opus)`: a heading that says who wrote what is below it."""
    who = dict.fromkeys(name for name in (note.alias, note.observer) if name)
    heading = literal(note.heading or "Notes")
    return heading if note.observer is None else f"{heading} ({', '.join(map(literal, who))})"


# --- the way back ----------------------------------------------------------------------------------------------------


class Page:
    """A file line by line."""

    def __init__(self, markdown: str, last: re.Pattern[str] | None = None) -> None:
        """The file without its last lines: why the conversation ended, and what is of the form `last`."""
        # Files that came through an editor of another system are read, too.
        lines = markdown.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n").split("\n")
        self.lines = [RULE if line.rstrip(" \t") == RULE else line for line in lines]
        said = remarked(self.lines, _ENDING)
        self.ending = _ending_of(said[0]) if said else None
        if last is not None:
            remarked(self.lines, last)
        self.lines = self.lines or [""]
        self._code = is_code(self.lines)

    def find(self, pattern: re.Pattern[str]) -> list[int]:
        """The lines that are of this form and no code."""
        return [
            number
            for number, (line, code) in enumerate(zip(self.lines, self._code, strict=True))
            if not code and pattern.fullmatch(line)
        ]

    def below_rules(self, numbers: Iterable[int]) -> list[int]:
        """Those that stand below a rule, with nothing between them."""
        return [number for number in numbers if self._above(number) == RULE]

    def _above(self, number: int) -> str:
        return next((self.lines[n] for n in range(number - 1, -1, -1) if self.lines[n].strip()), "")

    def around(self, turns: Sequence[int], others: Iterable[int]) -> list[int]:
        """Where to cut: at these turns, and at what else stands before the first or after the last of them."""
        between = range(turns[0], turns[-1]) if turns else range(0)
        return sorted({*turns, *(number for number in others if number not in between)})

    def cut(self, starts: Sequence[int]) -> list[list[str]]:
        """The lines before the first start, then those from each on; without the rules that part them."""
        edges = [0, *starts, len(self.lines)]
        return [_without_rule(self.lines[one:other], other < len(self.lines)) for one, other in pairwise(edges)]


def _without_rule(lines: list[str], followed: bool) -> list[str]:
    """The lines without a rule at their end, and without the one blank line before it or before what follows them."""
    last = len(lines)
    while last and not lines[last - 1].strip():
        last -= 1
    if last and lines[last - 1] == RULE:
        lines = lines[: last - 1]
    elif not followed:
        return lines
    return lines[:-1] if lines and not lines[-1].strip() else lines


def _ending_of(line: str) -> Ending:
    found = _ENDED.fullmatch(line)
    status = None if found is None else found["status"] or "complete"
    if found is None or status not in STATUSES:
        return Ending("failed", None, plain(line.removeprefix("*[not complete: ").removesuffix("]*")))
    turns, reason = found["turns"], found["reason"]
    return Ending(status, count_of(turns), None if reason is None else plain(reason))


def remarked(lines: list[str], pattern: re.Pattern[str] = _REMARK) -> list[str]:
    """Takes what we said of a text from the end of its lines, with all blank lines there."""
    taken: list[str] = []
    while lines and (not lines[-1].strip() or pattern.fullmatch(lines[-1].rstrip())):
        last = lines.pop().rstrip()
        taken += [last] if last else []
    return taken


def text_of(lines: Sequence[str], *, blank_first: bool = True) -> str | None:
    """The text that these lines are; None where they are blank, which is how silence was once written down."""
    if not any(line.strip() for line in lines):
        return None
    return extracted("\n".join(lines[1:] if blank_first and not lines[0].strip() else lines))


def remembered(said: Said, remarks: Sequence[str]) -> Said:
    """A turn with what we said of its text, or in the place of one; the figures of a silence were never any."""
    if said.text is None:
        silent = next((found for line in remarks if (found := _SILENT.fullmatch(line))), None)
        if silent is None:
            return said
        error = silent["error"]
        return replace(said, attempts=count_of(silent["attempts"]) or 0, error=None if error is None else plain(error))
    if lacking := next((found for line in remarks if (found := _LACKING.fullmatch(line))), None):
        stop = lacking["stop"]
        said = replace(said, outcome=_OUTCOMES[lacking["what"]], stop=None if stop is None else plain(stop))
    if found := next((found for line in remarks if (found := _TOKENS.fullmatch(line))), None):
        named = dict(part.split("=", 1) for part in found["figures"].split(_COMMA) if "=" in part)
        upstream = named.get("upstream")
        said = replace(
            said,
            figures=_figures(named),
            upstream=None if upstream is None else plain(upstream),
            attempts=_attempts(named.get("attempts")),
        )
    return said


def _figures(named: Mapping[str, str]) -> Figures:
    shown = {name: figure.removesuffix(" assumed") for name, figure in named.items() if name in _FORMS}
    sound = {name: figure for name, figure in shown.items() if re.fullmatch(_FORMS[name], figure)}
    return Figures(
        count_of(sound.get("prompt")),
        count_of(sound.get("completion")),
        count_of(sound.get("reasoning")),
        count_of(sound.get("cached")),
        cost=cost_of(sound.get("cost")),
        computed=cost_of(sound.get("computed")),
        odd=(*odd(*sound.values()), *(figure for name, figure in shown.items() if name not in sound)),
    )


def _attempts(shown: str | None) -> int:
    return count_of(shown) or 0 if shown is not None and re.fullmatch(_COUNT, shown) else 0


_MOST: Final = 10**12
_MOST_PAID: Final = 10**6 * NANOS_PER_DOLLAR
"""More than anybody has counted or paid for a turn; sums of what is below can be written into every file of ours."""
_LONGEST_FIGURE: Final = 40


def count_of(shown: str | None) -> int | None:
    """`1,234` as a number; None where nobody can have counted so much."""
    if not shown or len(shown) > _LONGEST_FIGURE:
        return None
    count = int(shown.replace(",", ""))
    return count if count <= _MOST else None


def cost_of(shown: str | None) -> Nanos | None:
    """`$0.0036` as money; None where nobody can have paid so much."""
    if not shown or len(shown) > _LONGEST_FIGURE or not re.fullmatch(COST, shown):
        return None
    cost = round(Decimal(shown.replace("$", "")) * NANOS_PER_DOLLAR)
    return cost if abs(cost) <= _MOST_PAID else None


def measure_of(shown: str | None) -> float | None:
    """`316.9` as a number; None where nobody can have measured so much."""
    if not shown or len(shown) > _LONGEST_FIGURE:
        return None
    measure = float(shown)
    return measure if measure <= _MOST else None


def odd(*shown: str | None) -> tuple[str, ...]:
    """The counts, costs and measures that cannot be used."""
    read = {one: cost_of(one) if "$" in one else measure_of(one.replace(",", "")) for one in shown if one}
    return tuple(one for one, figure in read.items() if figure is None)


_NOTED: Final = re.compile(rf"## (?P<heading>{PART}?) \((?P<observer>.*)\)")


def noted(section: list[str]) -> Noted:
    """What an observer wrote, below a heading that may say who it was."""
    remarked(section)
    found = _NOTED.fullmatch(section[0])
    heading, observer = (section[0].removeprefix("## "), None) if found is None else found.groups()
    return Noted(plain(heading), None if observer is None else plain(observer), text_of(section[1:]))


def parted(words: str, *seams: str) -> tuple[str, str | None]:
    """What stands before and after the first of these seams that occurs at all."""
    seam = next((seam for seam in seams if seam in words), None)
    return (words, None) if seam is None else (words[: words.index(seam)], words[words.index(seam) + len(seam) :])


def opening_of(head: Sequence[str]) -> str | None:
    """The line to all that stands quoted in the head of a file."""
    quote = [line for line in head if line.startswith(">")]
    return unquoted("\n".join(quote)) if quote else None
