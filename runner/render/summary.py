"""`index.md`: the whole night on one page, computed from the journal and adding up.

`Night` is what the page shows, as data; whoever folds the journal fills it. Sums over conversations and over models are
made here, from the rows that are shown, so that the page cannot disagree with itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from runner.money import Nanos
from runner.render.figures import UNKNOWN, counted, difference, duration, of_them_early, redone, stamp, total, usd
from runner.render.markdown import brief, fenced, link, literal, row
from runner.status import STATUSES, Status

_MOST_WHYS: Final = 20
_ROWS_AT_A_TIME: Final = 256
"""So many rows make a piece."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process that worked on the run; without an end it was cut off, or is still at work."""

    opened: float
    closed: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One limit of money that applies to the run, and what counts against it: `run`, `provider anthropic`."""

    name: str
    limit: Nanos
    committed: Nanos
    """Settled and reserved together."""
    shared: bool = False
    """True where other runs count against it, too, of which this page knows nothing."""

    @property
    def room(self) -> Nanos:
        """What is left; below zero after an overrun."""
        return self.limit - self.committed


@dataclass(frozen=True, slots=True)
class Spend:
    """The run's money: what is settled, what is counted at its reservation, and where the settled figures come from."""

    settled: Nanos = 0
    assumed: Nanos = 0
    assumed_calls: int = 0
    nameless: Nanos = 0
    """The part of `assumed` that stands for lines that a repair replaced, and for no call."""
    reported: Nanos = 0
    """The part of `settled` that providers named themselves."""
    priced: Nanos = 0
    """The part of `settled` computed from tokens and prices."""


@dataclass(frozen=True, slots=True)
class Account:
    """One model, or one provider: its calls and what they came to."""

    name: str
    calls: int
    replies: int
    tokens_in: int | None
    tokens_out: int | None
    calls_with_figures: int
    cost: Nanos
    """Settled and assumed together."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts by kind."""


@dataclass(frozen=True, slots=True)
class CostDifference:
    """A model whose provider reported another cost than its price list gives."""

    model: str
    calls: int
    reported: Nanos
    computed: Nanos


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation of the plan; `file` is relative to the page, None when nothing is written yet."""

    name: str
    file: str | None
    status: Status
    reason: str | None
    rounds_done: int
    rounds_planned: int
    truncated: int
    refused: int
    cost: Nanos
    seconds: float | None

    @property
    def stopped_early(self) -> bool:
        """True when it is complete although its last planned lines were not said."""
        return self.status == "complete" and self.reason is not None


@dataclass(frozen=True, slots=True)
class Silent:
    """Somebody who listens to a conversation and has not said what was asked."""

    conversation: str
    who: str
    status: Status
    reason: str | None
    comments: bool = True
    """False for one who was asked while it went on, and whom nothing waits for."""


@dataclass(frozen=True, slots=True)
class Night:
    """All that `index.md` shows of a run."""

    job: str
    run: str
    exit_code: int | None
    """None while the run is going on."""
    reasons: tuple[str, ...]
    """Why the exit code is not 0, worst first."""
    records: int
    """The last journal record that is counted in."""
    conversations: tuple[Row, ...]
    spend: Spend
    ceilings: tuple[Ceiling, ...] = ()
    models: tuple[Account, ...] = ()
    providers: tuple[Account, ...] = ()
    lives: tuple[Life, ...] = ()
    differences: tuple[CostDifference, ...] = ()
    replaced: int = 0
    """Conversations of an earlier job file whose cells have changed."""
    replaced_cost: Nanos = 0
    mended: int = 0
    """Conversations of which bad turns were said again, and are good now."""
    redone_in_vain: int = 0
    not_yet_redone: int = 0
    mended_cost: Nanos = 0
    """What those have cost in whose place they stand."""
    observers: int = 0
    """Comments that complete conversations should have."""
    silent: tuple[Silent, ...] = ()
    style_trouble: str | None = None
    """What is wrong with a style of the user's own, and where."""
    command: str | None = None
    """The command that continues the run; None when nothing is left to do."""
    too_low: tuple[str, ...] = ()
    """The ceilings that have to be raised in the job before all of it can go on."""
    refused_parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What was left out of the calls of a model, by its alias, because it refuses it."""


def render(night: Night) -> str:
    """The page; the same night gives the same text."""
    return "".join(pieces(night))


def pieces(night: Night) -> Iterator[str]:
    """The page piece by piece, none of them much work, however many conversations there are."""
    yield f"# {literal(night.job)} / {literal(night.run)}\n\n{_status(night)}"
    above = (
        _continue(night),
        _conversations_by_status(night),
        _money(night),
        _accounts("Models", "Model", night.models),
        _accounts("Providers", "Provider", night.providers),
        _differences(night.differences),
    )
    yield from (f"\n\n{block}" for block in chain.from_iterable(above))
    yield from _conversations(night.conversations)
    yield from (f"\n\n{block}" for block in _lives(night.lives))
    last = f"Computed from journal record 1 to {night.records:,}." if night.records else "The journal is empty."
    yield f"\n\n*{last}*\n"


def _table(head: Sequence[str], left: int, rows: Iterable[str]) -> str:
    """A table whose first `left` columns are words and whose others are figures."""
    return "\n".join((row(*head), row(*(["---"] * left + ["---:"] * (len(head) - left))), *rows))


def _status(night: Night) -> str:
    complete = sum(one.status == "complete" for one in night.conversations)
    early = sum(one.stopped_early for one in night.conversations)
    done = f"{complete:,} of {counted(len(night.conversations), 'conversation')} complete{of_them_early(early)}"
    code = "going on" if night.exit_code is None else f"exit code {night.exit_code}"
    why = f" ({', '.join(brief(reason) for reason in night.reasons)})" if night.reasons else ""
    return f"**{done}, {code}{why}.**"


def _continue(night: Night) -> Iterator[str]:
    if night.style_trouble is not None:
        yield (
            f"A style of your own is in trouble: {literal(night.style_trouble)}. What it could not show is in the "
            "usual style. Once it is mended, the command below writes the transcripts anew, and makes no call for it."
        )
    if night.command is not None:
        for name in night.too_low:
            yield f"First raise {literal(name)} in the job file: it is too low for an observer."
        yield "What is missing goes on with:"
        yield fenced(night.command)


def _conversations_by_status(night: Night) -> Iterator[str]:
    every = night.conversations
    yield "## Outcome"
    counts = Counter(one.status for one in every)
    early = sum(one.stopped_early for one in every)
    rows = [row(status, f"{counts[status]:,}") for status in STATUSES if counts[status]]
    if early:
        rows.insert(1, row("– of them stopped early", f"{early:,}"))
    yield _table(("Status", "Conversations"), 1, (*rows, row("**Total**", f"{len(every):,}")))
    flags = [
        f"{counted(sum(counts), 'turn')} {flag} in {counted(sum(map(bool, counts)), 'conversation')}"
        for flag, counts in (
            ("truncated", [one.truncated for one in every]),
            ("refused", [one.refused for one in every]),
        )
        if any(counts)
    ]
    yield from _whys(every)
    if flags:
        yield f"Flags: {', '.join(flags)}."
    for alias, names in night.refused_parameters.items():
        yield f"Left out, because {literal(alias)} refuses it: {literal(', '.join(names))}."
    if night.replaced:
        yield (
            f"Replaced: {night.replaced:,}, {usd(night.replaced_cost)}. "
            "Their cells have changed since; their money counts, their transcripts are not listed."
        )
    if told := redone(night.mended, night.redone_in_vain, night.not_yet_redone):
        yield (
            f"Mended: {told}, {usd(night.mended_cost)}. Some of their turns were said again by others, which "
            "stand in their place; their money counts, their transcripts are kept as `.old`."
        )
    if night.observers:
        heard = night.observers - sum(one.comments for one in night.silent)
        yield f"Observers: {heard:,} of {night.observers:,} have commented."
    if night.silent:
        yield _table(
            ("Who listens", "Conversation", "Status", "Reason"),
            4,
            (
                row(literal(one.who), literal(one.conversation), one.status, brief(one.reason or "", 120))
                for one in night.silent
            ),
        )


def _whys(conversations: Sequence[Row]) -> Iterator[str]:
    """What stopped conversations, each reason once; each conversation's own stands in its row."""
    found: dict[tuple[str, str], int] = {}
    for one in conversations:
        if one.reason is not None:
            status = "complete, stopped early" if one.stopped_early else one.status
            found[status, one.reason] = found.get((status, one.reason), 0) + 1
    if found:
        most = sorted(found.items(), key=lambda item: -item[1])[:_MOST_WHYS]
        rows = [row(status, brief(reason, 300), f"{number:,}") for (status, reason), number in most]
        more = len(found) - len(most)
        yield _table(("Status", "Reason", "Conversations"), 2, rows) + (
            f"\n\nAnd {counted(more, 'more reason')}; each stands in the row of its conversation." if more else ""
        )


def _money(night: Night) -> Iterator[str]:
    spend = night.spend
    yield "## Money"
    yield _table(
        ("Spent", "Amount"),
        1,
        (
            row("Settled", usd(spend.settled)),
            row("– of it reported by the provider", usd(spend.reported)),
            row("– of it priced from tokens", usd(spend.priced)),
            row(
                f"Assumed ({counted(spend.assumed_calls, 'call')}, at the reservation)",
                usd(spend.assumed - spend.nameless),
            ),
            *_nameless(spend),
            row("**Total**", usd(spend.settled + spend.assumed)),
        ),
    )
    if night.ceilings:
        yield _table(
            ("Ceiling", "Limit", "Settled and reserved", "Room"),
            1,
            (row(literal(c.name), usd(c.limit), usd(c.committed), _room(c)) for c in night.ceilings),
        )


def _nameless(spend: Spend) -> Iterator[str]:
    if spend.nameless:
        yield row("Assumed for lines that a repair replaced; there is no call to settle", usd(spend.nameless))


def _room(ceiling: Ceiling) -> str:
    return "see `tertulia spend`" if ceiling.shared else usd(ceiling.room)


def _accounts(title: str, noun: str, accounts: Sequence[Account]) -> Iterator[str]:
    if not accounts:
        return
    rows = [_account(literal(one.name), [one]) for one in accounts]
    yield f"## {title}"
    yield _table(
        (noun, "Failed attempts", "Calls", "Replies", "In", "Out", "Cost"),
        2,
        (*rows, _account("**Total**", accounts)),
    )


def _account(name: str, accounts: Sequence[Account]) -> str:
    calls = sum(one.calls for one in accounts)
    covered = sum(one.calls_with_figures for one in accounts)
    covers = "" if covered == calls else f" ({covered:,} of {calls:,} calls)"
    tokens = (total([one.tokens_in for one in accounts])[0], total([one.tokens_out for one in accounts])[0])
    failures: dict[str, int] = {}
    for one in accounts:
        for kind, count in sorted(one.failures.items()):
            failures[kind] = failures.get(kind, 0) + count
    return row(
        name,
        ", ".join(f"{count:,} {literal(kind)}" for kind, count in sorted(failures.items()) if count) or UNKNOWN,
        f"{calls:,}",
        f"{sum(one.replies for one in accounts):,}",
        *(UNKNOWN if known is None else f"{known:,}{covers}" for known in tokens),
        usd(sum(one.cost for one in accounts)),
    )


def _differences(differences: Sequence[CostDifference]) -> Iterator[str]:
    rows = [
        row(literal(one.model), f"{one.calls:,}", usd(one.reported), usd(one.computed), by)
        for one in differences
        if (by := difference(one.reported, one.computed)) is not None
    ]
    if rows:
        yield "## Costs that differ from the price list"
        yield _table(("Model", "Calls", "Reported", "By price list", "Difference"), 1, rows)


def _conversations(conversations: Sequence[Row]) -> Iterator[str]:
    """What stands of them below the rest, a piece of it at a time."""
    if conversations:
        head = ("Conversation", "Status", "Reason", "Flags", "Rounds", "Cost", "Time")
        yield "\n\n## Conversations\n\n" + _table(head, 4, ())
    for first in range(0, len(conversations), _ROWS_AT_A_TIME):
        yield "".join(f"\n{_conversation(one)}" for one in conversations[first : first + _ROWS_AT_A_TIME])


def _conversation(one: Row) -> str:
    flags = (("truncated", one.truncated), ("refused", one.refused))
    return row(
        literal(one.name) if one.file is None else link(one.name, one.file),
        one.status,
        brief(one.reason or "", 120),
        ", ".join(f"{count:,} {flag}" for flag, count in flags if count),
        f"{one.rounds_done} of {one.rounds_planned}",
        usd(one.cost),
        UNKNOWN if one.seconds is None else duration(one.seconds),
    )


def _lives(lives: Sequence[Life]) -> Iterator[str]:
    if lives:
        yield "## Lives"
        yield _table(
            ("Opened", "Closed", "Exit code"),
            2,
            (
                row(
                    stamp(one.opened),
                    "open or cut off" if one.closed is None else stamp(one.closed),
                    UNKNOWN if one.exit_code is None else str(one.exit_code),
                )
                for one in lives
            ),
        )
