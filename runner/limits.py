"""Who may go now. Lanes count what a provider counts; `choose` weighs everyone who waits; nothing here awaits.

A lane is a provider and a key (and a model where the provider counts by model). It has slots, windows of requests and
tokens over a minute, requests over a day, a permit from its pacer, and perhaps a pause. Money is a list of ceilings per
call. The order among those who wait is by rank; one who has been passed over too often goes first, blocks the rest of
its lane, and claims the money that it needs from all lanes.

- A window lets through no more than its limit in any stretch of its length, spread out: after a small burst it
  refills at the limit's own pace. It is slightly longer than the provider's, because requests do not all travel
  equally fast; and each counts from when it leaves, which is later where its record waits for the disk.
- A token window is charged what the provider charges: all of `max_tokens` up front, or what is expected to be used.
  When the usage is known the entry is corrected.
- Where a server has room for a few models at a time, the calls of those that are loaded go first, and nothing is loaded
  over a model that is at work. What is loaded follows from the calls that went; the server is not asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from math import inf
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from runner.call import Hints, Left
from runner.money import Nanos
from runner.state import Account

PASSED_TOO_OFTEN: Final = 16
RUN_BUDGET: Final = "the budget of the run"
DAILY_LIMIT: Final = "its daily limit is reached"
MINUTE: Final = 60.0
DAY: Final = 86_400.0
FED: Final = 4
"""A lane has enough ahead of it when so many times its slots have begun that have calls for it."""
_IN_TIME: Final = 2.0
"""Who takes this part of what is left may be the last to end."""
_LONG: Final = 1.5
"""So many times as long as others on average is much longer."""
_FEW: Final = 2.0
"""For each slot."""

_SMALLEST: Final = 1.0
"""No call has fewer tokens."""
_MANY: Final = 8
"""From so many on it is worth while to ask first whether anybody at all could go."""
_RESIDUE: Final = 1e-6
"""Sums of floating times and amounts may miss a border by this much."""
_STRETCH: Final = 1.01
_LATE_STRETCH: Final = 1.006
"""How much longer our windows are than the provider's: room for requests that overtake each other on the way. It is
less where the true amount is known only afterwards, and a request may be refused now and then."""
_LATE_ROOM: Final = 0.004
"""The part of a limit that is kept free where the true amount is known only afterwards."""
_LATE_PACE: Final = 1.05
"""There the window decides, as the provider's does; the pace only spreads the calls, and lets them catch up."""
_BURST_SHARE: Final = 0.02
_LATE_BURST_SHARE: Final = 0.003
"""The part of a token limit that may be used at once; less where the true amount is known only afterwards."""
_PROMPT_TIMES: Final = {"reserved": 1.05, "used": 1.02}
"""How many times what others came to a prompt is thought to have, until that is known: more where it is refused if it
was thought too small."""
_NOT_OURS_SHARE: Final = 0.02
"""By so much of a limit its use may differ from what we count before others are thought to use it, too."""
_REFILLED_SHARE: Final = 0.05
"""The part of a limit that should be there again before the next call."""
_CREDIT_SHARE: Final = 0.01
_USED_MARGIN: Final = 1.0
_FIRST_MEANS: Final = 4
"""So many replies of the length expected at first are mixed into the mean: the first to come back are short."""
_FIRST_TOKENS_PER_BYTE: Final = 0.4
_COMPARABLE: Final = 2
"""What prompts of one length have come to goes for those of up to so many times that length: the shorter a prompt, the
more of it is what stands around the text."""
_FORGOTTEN: Final = 0.99
_FIRST_SHARE: Final = 0.4
_MOST_BUSY_BACKOFF: Final = 60.0
_LEAST_TOLD_BACKOFF: Final = 0.1
"""From so many seconds on a wait that was told grows, where it was told and was not enough."""
_TROUBLE_STRIKES: Final = 3
_UNHEARD_STRIKES: Final = 6
_DEAD_STRIKES: Final = 10
_LONGEST_TROUBLE_PAUSE: Final = 60.0


@dataclass(slots=True, eq=False)
class Ceiling:
    """An account and the most that may be settled and reserved in it.

    Money that is shared with other processes is drawn in slices: then `most` grows while a run goes on, at the most to
    `reach` as far as is known, and further if `may_grow`, because others may give some of theirs back.
    """

    name: str
    account: Account
    most: Nanos
    reach: Nanos = -1
    """As much as `most`, unless it is said."""
    may_grow: bool = False

    def __post_init__(self) -> None:
        if self.reach < 0:
            self.reach = self.most


class Entry:
    """What one request counts in a window; `at` is None while it only counts against the pace.

    Of a request that was sent before a part of its window went to another process only `part` is counted here.
    """

    __slots__ = ("amount", "at", "part")

    def __init__(self, at: float | None, amount: float) -> None:
        self.at = at
        self.amount = amount
        self.part = 1.0


class Window:
    """No more than `limit` in any `seconds`, and no faster than the limit's pace but for a small burst.

    A window that counts `late` mirrors a provider that counts tokens when they are used: what a request will bring
    forth counts against the pace at once, by its estimate, and in the window when it has ended, by its usage.

    A window may be a share of a whole one: then so is its limit, and so is what it counts of the time before.
    """

    __slots__ = (
        "_debt",
        "_debt_at",
        "_entries",
        "_pace",
        "_total",
        "burst",
        "late",
        "limit",
        "seconds",
        "share",
        "whole",
        "whole_burst",
    )

    def __init__(self, limit: float, seconds: float, burst: float | None = None, late: bool = False) -> None:
        self.whole = self.limit = limit
        self.whole_burst = self.burst = burst
        self.share = 1.0
        self.seconds = seconds * (_LATE_STRETCH if late else _STRETCH)
        self.late = late
        # The provider's own: what was lost for a moment is caught up with, since the window is longer than its minute.
        self._pace = limit / seconds * (_LATE_PACE if late else 1.0)
        self._entries: deque[Entry] = deque()
        self._total = 0.0
        self._debt = 0.0
        self._debt_at = -inf

    def _expire(self, now: float) -> None:
        while self._entries and (at := self._entries[0].at) is not None and at <= now - self.seconds + _RESIDUE:
            self._total -= self._entries.popleft().amount
        if not self._entries:
            self._total = 0.0

    def _owed(self, now: float) -> float:
        """How far ahead of the even pace the window is."""
        if self._debt_at == -inf:
            return 0.0
        return max(min(self._debt, 0.0), self._debt - (now - self._debt_at) * self._pace)

    def _owe(self, amount: float, now: float) -> None:
        # Idle time earns nothing, but what was estimated too high is given back, up to a small credit.
        self._debt = max(-self.limit * _CREDIT_SHARE, self._owed(now) + amount)
        self._debt_at = now

    def when(self, amount: float, now: float) -> float:
        """The earliest moment at which `amount` fits, as things stand; `now` when it fits now."""
        self._expire(now)
        amount = min(amount, self.limit)  # a request larger than the limit goes alone, or never would
        at = now
        # Of what counts late only a part is in the window when the request arrives; the rest is what the pace is for.
        excess = self._total + (min(amount, self.limit * _LATE_ROOM) if self.late else amount) - self.limit
        for entry in self._entries:
            if excess <= _RESIDUE:
                break
            excess -= entry.amount
            assert entry.at is not None, "only what has a time is in the window"
            at = max(at, entry.at + self.seconds)
        if self.burst is not None:
            # What is owed must have fallen so far that this request ends within the burst, or to nothing if it is
            # larger.
            surplus = self._owed(now) - max(0.0, self.burst - amount)
            if surplus > _RESIDUE:
                at = max(at, now + surplus / self._pace)
        return at

    def total(self, now: float) -> float:
        """How much is in the window."""
        self._expire(now)
        return self._total

    def counted(self, now: float) -> list[tuple[float, float]]:
        """All that is in the window: (seconds ago, amount), the oldest first."""
        self._expire(now)
        return [(now - entry.at, entry.amount) for entry in self._entries if entry.at is not None]

    def resize(self, other: Window, now: float) -> None:
        """Be as large as this one from now on, with all that is in it and all that will be corrected in it."""
        self._debt, self._debt_at = self._owed(now), now
        self._pace *= other.whole / self.whole
        self.whole, self.whole_burst = other.whole, other.whole_burst
        self.limit = self.whole * self.share
        self.burst = None if self.whole_burst is None else self.whole_burst * self.share

    def rescale(self, share: float, now: float) -> None:
        """Be this share of the whole window from now on; one that gets smaller keeps that part of what is in it."""
        self._expire(now)
        kept = min(1.0, share / self.share)
        self._debt, self._debt_at = self._owed(now) * kept, now
        self._pace *= share / self.share
        self.share = share
        self.limit = self.whole * share
        self.burst = None if self.whole_burst is None else self.whole_burst * share
        for entry in self._entries:
            entry.amount *= kept
            entry.part *= kept
        self._total *= kept

    def remember(self, others: Iterable[tuple[float, float]], now: float) -> None:
        """Count what others, or earlier lives, have let through: (seconds ago, amount)."""
        found = [Entry(now - max(0.0, ago), amount) for ago, amount in others if ago < self.seconds]
        self._entries = deque(
            sorted((*self._entries, *found), key=lambda entry: -inf if entry.at is None else entry.at)
        )
        self._total += sum(entry.amount for entry in found)

    def add(self, amount: float, at: float, now: float, later: bool = False) -> Entry:
        """Count a request that leaves now, or left at some time in the past when the window opens warm."""
        if at >= now:
            self._owe(amount, now)
        entry = Entry(None if later and at >= now else at, amount)
        if entry.at is not None:
            self._entries.append(entry)
            self._total += amount
        return entry

    def leave(self, entry: Entry, now: float) -> None:
        """Count a request from now on, which leaves later than it was let through."""
        if self._holds(entry, now):
            entry.at = now

    def _holds(self, entry: Entry, now: float) -> bool:
        return entry.at is not None and entry.at > now - self.seconds + _RESIDUE

    def amend(self, entry: Entry, amount: float, now: float, expected: float | None = None) -> None:
        """Correct what a request that has ended counts; one that has left the window stays gone.

        `expected` is what would be estimated for it today: where all estimates were too high at first, giving the
        difference back to the pace would let a wave of requests through.
        """
        # Where a part of the window was given away, that part of the request went along, as large as it was thought.
        amount -= (1.0 - entry.part) * min(amount, entry.amount / entry.part)
        if entry.at is None:
            entry.at = now
            self._owe(amount - (entry.amount if expected is None else expected), now)
            entry.amount = amount
            self._entries.append(entry)
            self._total += amount
        elif self._holds(entry, now):
            self._owe(amount - entry.amount, now)
            self._total += amount - entry.amount
            entry.amount = amount


class Size(NamedTuple):
    """How large a call is: input tokens the provider has counted before, bytes that are new, and the output limit."""

    counted: int
    bytes: int
    max_tokens: int

    @property
    def input_bound(self) -> int:
        return self.counted + self.bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider lets through; None is no limit."""

    concurrency: int | None = None
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    input_tpm: int | None = None
    output_tpm: int | None = None
    burst: int | None = None
    count: Literal["reserved", "used"] = "reserved"
    """Whether the provider counts `max_tokens` when a request comes, or what was used when it ends."""
    per: Literal["provider", "model"] = "provider"
    resident: int | None = None
    """How many models a local server has loaded at once."""


TokenKind: TypeAlias = Literal["all", "input", "output"]
WindowName: TypeAlias = Literal["minute", "day", TokenKind]
Counted: TypeAlias = Mapping[WindowName, Sequence[tuple[float, float]]]
"""What is counted in the windows of a lane: (seconds ago, amount)."""


class Tokens(NamedTuple):
    """An entry of a token window, and whether a call's input or output tokens count in it."""

    input: bool
    output: bool
    window: Window
    entry: Entry

    def amount(self, input_tokens: float, output_tokens: float) -> float:
        return self.input * input_tokens + self.output * output_tokens


class Charged(NamedTuple):
    """What one admitted call holds in a lane's windows."""

    requests: tuple[tuple[Window, Entry], ...]
    tokens: tuple[Tokens, ...]
    input: float
    output: float


@dataclass(slots=True)
class Lane:
    """One provider account as we know it, or our share of it."""

    name: str
    limits: Limits
    """What the provider lets through in all."""
    identity: str | None = None
    """What other processes know this account by; None when it is nobody else's."""
    share: float = 1.0
    """The part of the limits that is ours."""
    most: float = inf
    """How many calls may be in flight at once; `slots` are as many or, after a busy answer, fewer."""
    flying: int = 0
    arriving: int = 0
    """Conversations that were started for this lane and have not asked yet."""
    slots: float = inf
    paused_until: float = -inf
    pause_reason: str = ""
    dead: str | None = None
    permit: bool = False
    starving: int = 0
    """So many at the most of those who wait for it were passed over too often."""
    busy_in_a_row: int = 0
    strikes: int = 0
    """Errors in a row, each of a call that was made after the one before it was known."""
    answered: float = -inf
    """When the last of the calls was made that the provider has answered; -inf while it has answered none."""
    last_cut: float = -inf
    tokens_per_byte: float = _FIRST_TOKENS_PER_BYTE
    granted: int = 0
    refused: int = 0
    loads: int = 0
    """How often a model had to be loaded, as far as the calls that went can tell."""
    _loaded: dict[str, int] = field(default_factory=dict)
    """The models that are loaded, and how many calls of each fly; the one whose calls went last stands last."""
    _loaded_at: dict[str, int] = field(default_factory=dict)
    """Which load was the last of each model."""
    _went_past: int = 0
    """Calls of loaded models that went since the last load while others waited for theirs."""
    _minute: Window | None = None
    _day: Window | None = None
    _tokens: tuple[tuple[TokenKind, Window], ...] = ()
    _longest: float = 0.0
    """How many new bytes the longest of the prompts had that the provider has counted lately."""
    _mean_output: float | None = None
    _measured: int = 0
    _struck_at: float = -inf

    def __post_init__(self) -> None:
        limits = self.limits
        if limits.concurrency is not None:
            self.slots = self.most = float(limits.concurrency)
        if limits.rpm is not None:
            self._minute = Window(limits.rpm, MINUTE)
        if limits.rpd is not None:
            self._day = Window(limits.rpd, DAY)
        kinds: tuple[tuple[TokenKind, int | None], ...] = (
            ("all", limits.tpm),
            ("input", limits.input_tpm),
            ("output", limits.output_tpm),
        )
        self._tokens = tuple((kind, self._token_window(limit)) for kind, limit in kinds if limit is not None)

    def _token_window(self, limit: float) -> Window:
        late = self.limits.count == "used"
        burst = _LATE_BURST_SHARE if late else _BURST_SHARE
        return Window(limit, MINUTE, limit * burst, late)

    @property
    def windows(self) -> dict[WindowName, Window]:
        found: dict[WindowName, Window | None] = {"minute": self._minute, "day": self._day, **dict(self._tokens)}
        return {name: window for name, window in found.items() if window is not None}

    @property
    def burst(self) -> int | None:
        """How many requests may leave together; None where nothing is said of it."""
        return None if self.limits.burst is None else max(1, int(self.limits.burst * self.share + _RESIDUE))

    # -- sharing --------------------------------------------------------------------------------------------------

    def least(self, max_tokens: int) -> float:
        """The smallest share with which a call of so many output tokens can be made without passing it."""
        limits = self.limits
        counts = (limits.concurrency, limits.rpm, limits.rpd, limits.burst, limits.resident)
        ones = [1.0 / n for n in counts if n is not None]
        # What is counted as used is refused only when the limit is passed already: there any call fits.
        tokens = [max_tokens / w.whole for kind, w in self._tokens if kind != "input" and not w.late]
        return min(1.0, max((*ones, *tokens), default=0.0))

    def rescale(self, share: float, now: float) -> None:
        """Have this share of every window from now on; a smaller one keeps that part of what is counted."""
        for window in self.windows.values():
            window.rescale(share, now)
        self.share = share

    def allow(self, slots: float) -> None:
        """Let at most so many calls fly at once; those that fly already land in their own time."""
        self.slots = slots if self.slots >= self.most else min(self.slots, slots)
        self.most = slots

    def counted(self, now: float) -> Counted:
        return {name: window.counted(now) for name, window in self.windows.items()}

    def remember(self, others: Counted, now: float) -> None:
        """Count what others have let through, in the windows that this lane has."""
        for name, window in self.windows.items():
            window.remember(others.get(name, ()), now)

    # -- what fits ------------------------------------------------------------------------------------------------

    @property
    def paced(self) -> bool:
        """True when each request needs a permit of the pacer."""
        return self.limits.rpm is not None

    @property
    def free_slots(self) -> float:
        return self.slots - self.flying

    def estimate(self, size: Size) -> tuple[float, float]:
        """Input and output tokens to charge at first for a call: what this provider is expected to count."""
        per_byte, max_tokens = self.tokens_per_byte, size.max_tokens
        if self.limits.count == "reserved":
            if size.bytes > self._longest * _COMPARABLE:
                per_byte = max(per_byte, _FIRST_TOKENS_PER_BYTE)
            return size.counted + size.bytes * per_byte, float(max_tokens)
        expected_input = size.counted + size.bytes * per_byte
        mean = max_tokens * _FIRST_SHARE if self._mean_output is None else self._mean_output * _USED_MARGIN
        return expected_input, min(float(max_tokens), mean)

    def when(self, input_tokens: float, output_tokens: float, now: float) -> float:
        """The earliest moment at which a call of this size fits the windows and the pause."""
        if self.dead is not None:
            return inf
        at = max(now, self.paused_until)
        for window in (self._minute, self._day):
            if window is not None:
                at = max(at, window.when(1, now))
        for kind, window in self._tokens:
            at = max(at, window.when(_amount(kind, input_tokens, output_tokens), now))
        return at

    def shut_until(self, now: float) -> float:
        """When it opens again, a minute's limits aside: they make a call wait, but never park a lane."""
        if self.dead is not None:
            return inf
        return max(now, self.paused_until, now if self._day is None else self._day.when(1, now))

    def why_shut(self, now: float) -> str:
        """What `shut_until` waits for."""
        return self.pause_reason if self.paused_until >= self.shut_until(now) else DAILY_LIMIT

    def requests(self, now: float) -> list[tuple[float, float]]:
        """(Seconds ago, number) of the last minute's requests, also of earlier lives; none without such a limit."""
        return [] if self._minute is None else self._minute.counted(now)

    def take(self, input_tokens: float, output_tokens: float, now: float, at: float | None = None) -> Charged:
        """Count a call in every window; `at` lies in the past when a lane opens warm."""
        at = now if at is None else at
        tokens: list[Tokens] = []
        for kind, window in self._tokens:
            # What a provider counts late, it counts late for the output alone: the input is there from the start.
            parts = ((True, True),) if kind == "all" and not window.late else ((True, False), (False, True))
            for has_input, has_output in parts:
                if (kind == "input" and has_output) or (kind == "output" and has_input):
                    continue
                amount = has_input * input_tokens + has_output * output_tokens
                entry = window.add(amount, at, now, later=window.late and has_output)
                tokens.append(Tokens(has_input, has_output, window, entry))
        # Days of the past are counted by `warm_day`.
        windows = (self._minute, self._day) if at >= now else (self._minute,)
        requests = tuple((w, w.add(1, at, now)) for w in windows if w is not None)
        return Charged(requests, tuple(tokens), input_tokens, output_tokens)

    def leave(self, held: Charged, now: float) -> None:
        """Count a call from now on: no provider has seen it before it leaves, however long that took."""
        for window, entry in held.requests:
            window.leave(entry, now)
        for part in held.tokens:
            part.window.leave(part.entry, now)

    def warm_day(self, minutes: Iterable[tuple[float, int]], now: float) -> None:
        """Count the requests of earlier lives in the daily window: (seconds ago, requests)."""
        if self._day is not None:
            self._day.remember(minutes, now)

    def settle(
        self, held: Charged, size: Size, input_tokens: int | None, output_tokens: int | None, now: float
    ) -> None:
        """Correct what a finished call holds, once its usage is known."""
        expected = self.estimate(size)
        if input_tokens is not None and size.bytes > 0:
            per_byte = min(1.0, max(0.0, (input_tokens - size.counted) / size.bytes))
            per_byte *= _PROMPT_TIMES[self.limits.count]
            self._longest = max(float(size.bytes), self._longest * _FORGOTTEN)
            pace = 0.2
            if self.limits.count == "reserved":
                # Up at once and down slowly: what was thought too large is put right at the end, and what was thought
                # too small is refused at the beginning.
                pace = 1.0 if per_byte > self.tokens_per_byte else 0.1
                pace = pace if size.bytes * _COMPARABLE >= self._longest else 0.0
            self.tokens_per_byte += (per_byte - self.tokens_per_byte) * pace
        if output_tokens is not None:
            self._measured += 1
            mean = self._mean_output if self._mean_output is not None else size.max_tokens * _FIRST_SHARE
            self._mean_output = mean + (output_tokens - mean) / min(_FIRST_MEANS + self._measured, 200)
        true_input = held.input if input_tokens is None else float(input_tokens)
        # A provider that counts `max_tokens` up front does not give the unused part back.
        true_output = held.output if output_tokens is None or self.limits.count == "reserved" else float(output_tokens)
        for part in held.tokens:
            part.window.amend(part.entry, part.amount(true_input, true_output), now, part.amount(*expected))

    def give_back(self, held: Charged, now: float) -> None:
        """The request never reached the provider: it counts nothing."""
        for window, entry in held.requests:
            window.amend(entry, 0.0, now)
        for part in held.tokens:
            part.window.amend(part.entry, 0.0, now)

    # -- what is loaded -------------------------------------------------------------------------------------------

    @property
    def resident(self) -> float:
        """How many models may be loaded at once."""
        return inf if self.limits.resident is None else max(1, int(self.limits.resident * self.share + _RESIDUE))

    @property
    def change_is_due(self) -> bool:
        """True when so many calls went past those who wait for another model that it comes next."""
        return self._went_past >= PASSED_TOO_OFTEN

    def is_loaded(self, model: str) -> bool:
        """True when a call of this model makes its server load nothing, as far as we know."""
        return self.limits.resident is None or model in self._loaded

    def has_place(self, model: str, wanted: Container[str] = ()) -> bool:
        """True when a model is loaded, or can be without one that is at work or `wanted` going for it."""
        if self.is_loaded(model):
            return True
        # Whoever was begun for a loaded model asks for it in a moment.
        kept = sum(1 for name, flying in self._loaded.items() if flying or self.arriving or name in wanted)
        return kept < self.resident

    def unloads_for(self, model: str) -> bool:
        """True when a call of this model makes its server throw out another one."""
        return not self.is_loaded(model) and len(self._loaded) >= self.resident

    def turn(self, model: str) -> tuple[int, int]:
        """Smallest first: loaded models, then the one that was loaded longest ago; a change that is due goes first."""
        if self.is_loaded(model):
            return 0, 0
        return -1 if self.change_is_due else 1, self._loaded_at.get(model, 0)

    def first_to_go(self) -> str | None:
        """The loaded model that gets no more calls when a change is due and all of them are at work."""
        return next(iter(self._loaded), None)

    def departs(self, model: str, waiting: Collection[str] = ()) -> None:
        """A call of this model goes, while others wait for these."""
        self.flying += 1
        if self.limits.resident is None:
            return
        if model in self._loaded:
            self._went_past += any(name not in self._loaded for name in waiting)
        else:
            self.loads += 1
            self._loaded_at[model] = self.loads
            self._went_past = 0
            idle = sorted((name for name, flying in self._loaded.items() if not flying), key=waiting.__contains__)
            for name in idle[: max(0, int(len(self._loaded) + 1 - self.resident))]:
                del self._loaded[name]
        self._loaded[model] = self._loaded.pop(model, 0) + 1

    def lands(self, model: str) -> None:
        """A call of this model has ended."""
        self.flying -= 1
        if model in self._loaded:
            self._loaded[model] -= 1

    # -- what outcomes teach ------------------------------------------------------------------------------------

    def succeeded(self, granted: float) -> None:
        self.busy_in_a_row = self.strikes = 0
        self.answered = max(self.answered, granted)
        if self.slots < self.most:
            self.slots = min(self.most, self.slots + max(0.25, 1.0 / max(1.0, self.slots)))

    def pause(self, until: float, reason: str) -> None:
        if until > self.paused_until:
            self.paused_until = until
            self.pause_reason = reason

    def was_busy(self, retry_after: float | None, jitter: float, now: float, why: str | None = None) -> None:
        """The provider says it is too much: wait as it says, or a little longer each time, with fewer at once."""
        self.refused += 1
        episode = now - self.last_cut > 15.0 or self.last_cut == -inf
        if now >= self.paused_until:
            self.busy_in_a_row += 1  # once for each pause: the answers of one moment say it once
        if episode:
            self.last_cut = now
            at_once = self.flying if self.slots == inf else min(self.slots, max(self.flying, 1))
            self.slots = max(1.0, at_once * 0.7)
        if retry_after is not None:
            said = f"asked to wait {retry_after:.{0 if retry_after >= 1.0 else 3}f} s"
            wait = retry_after
            if self.busy_in_a_row > 1:
                # It was told before, was waited for, and was not enough.
                grown = max(retry_after, _LEAST_TOLD_BACKOFF) * 2.0 ** min(self.busy_in_a_row - 1, 16)
                wait = max(retry_after, min(_MOST_BUSY_BACKOFF, grown))
                said = f"{said}, and busy again after that"
            self.pause(now + wait + jitter * min(1.0, wait * 0.1), why or said)
        else:
            wait = min(_MOST_BUSY_BACKOFF, 2.0 ** min(self.busy_in_a_row, 6))
            self.pause(now + wait * (0.5 + jitter / 2), "busy")

    def heed(self, hints: Hints, now: float) -> None:
        """What headers say of limits that the job does not name: how large they are, and when nothing is left of one.

        A limit of the day is not mirrored: nobody says at which hour its day began. It shuts the lane when it is used
        up, until it is whole again.
        """
        limits = self.limits
        told = {"requests": limits.rpm, "tokens": limits.tpm, "input": limits.input_tpm, "output": limits.output_tpm}
        for hint in hints:
            if hint.window == "day":
                if hint.left == 0 and hint.reset and not (hint.counts == "requests" and limits.rpd is not None):
                    self.pause(now + hint.reset, f"its {hint.counts} of the day are used up")
            elif told[hint.counts] is None:
                if hint.most:
                    self._learn(hint, hint.most, now)
                if hint.left == 0 and hint.reset:
                    # The reset is that of the whole limit; where it refills all the time, a part is there much sooner.
                    self.pause(now + hint.reset * _REFILLED_SHARE, "its limit is used up")

    def _learn(self, hint: Left, most: int, now: float) -> None:
        """Mirror a limit of the minute that the provider has told, and count in it what others have used of it."""
        counts = hint.counts
        name: WindowName = "minute" if counts == "requests" else "all" if counts == "tokens" else counts
        new = Window(most, MINUTE, max(2.0, most * _BURST_SHARE)) if name == "minute" else self._token_window(most)
        window = self.windows.get(name)
        if window is not None and window.whole != new.whole:
            window.resize(new, now)
        elif window is None:
            new.rescale(self.share, now)
            window = new
            if name == "minute":
                self._minute = new
            else:
                rest = tuple((kind, other) for kind, other in self._tokens if kind != name)
                self._tokens = (*rest, (cast(TokenKind, name), new))
        # Nothing left, and no word of when there will be, beside an answer: that is a header that nobody keeps.
        if hint.left is not None and (hint.left or hint.reset is not None) and self.share == 1.0:
            others = most - hint.left - window.total(now)
            if others > most * _NOT_OURS_SHARE:
                # All of the limit is there again at the reset, and what others have used of it is forgotten by then.
                ago = 0.0 if hint.reset is None else max(0.0, window.seconds - hint.reset)
                window.remember([(ago, others)], now)

    def erred(self, granted: float, jitter: float, now: float) -> None:
        """A retryable error: after some in a row one call at a time, after longer and longer pauses, finds out more."""
        if granted < self._struck_at:
            return  # it was under way when the trouble began, and says nothing new
        self._struck_at = now
        self.strikes += 1
        if self.in_trouble:
            self.slots = 1.0
            wait = min(_LONGEST_TROUBLE_PAUSE, 2.0 ** (self.strikes - _TROUBLE_STRIKES))
            self.pause(now + wait * (0.5 + jitter / 2), "its provider is in trouble")

    @property
    def in_trouble(self) -> bool:
        """True when its errors are the provider's, and not one conversation's bad luck."""
        return self.strikes >= _TROUBLE_STRIKES

    @property
    def beyond_hope(self) -> bool:
        """True when it has failed for so long, or from the start, that this life makes no more calls to it."""
        return self.strikes >= (_DEAD_STRIKES if self.answered > -inf else _UNHEARD_STRIKES)


def late_from(left: Iterable[tuple[float, float, int]]) -> float:
    """How long a conversation takes that would be the last to end in its lanes, if others went before it.

    `left` is what the calls that are left for each of these take one after another, its slots, and how many
    conversations use it. How long each call takes nobody knows before, and so half of what is left is much; but where
    all take about as long, whole conversations after one another are as good. And where few are left everybody has a
    place soon: who goes first is then a matter of chance, and counts for much.
    """
    left = list(left)
    seconds, slots, talks = max(left, key=lambda lane: lane[0] / lane[1])
    if seconds <= 0.0 or talks <= _FEW * slots:
        return inf
    return max(seconds / slots / _IN_TIME, _LONG * sum(seconds / talks for seconds, _, talks in left))


def burst_of(rpm: float, told: int | None) -> int:
    """How many requests leave together of so many a minute, if so large a burst is allowed, or nothing said of it."""
    # One less than a provider allows: room for requests that overtake each other on the way.
    return max(2, int(rpm) // 200) if told is None else max(1, told - 1)


def _amount(kind: TokenKind, input_tokens: float, output_tokens: float) -> float:
    if kind == "all":
        return input_tokens + output_tokens
    return input_tokens if kind == "input" else output_tokens


# --- choosing ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who wants to make a call."""

    lane: Lane
    rank: tuple[int, ...]
    reserved: Nanos
    ceilings: Sequence[Ceiling]
    size: Size
    least: Nanos = -1
    """What it would reserve with the smallest output limit that its job allows; as much as `reserved` if not said."""
    passed: int = 0
    model: str = ""
    """What its server must have loaded."""

    def __post_init__(self) -> None:
        if self.least < 0:
            self.least = self.reserved

    def too_dear(self) -> Ceiling | None:
        """A ceiling that this call can never fit, whatever comes back from those in flight."""
        never = (c for c in self.ceilings if c.account.settled + self.least > c.reach and not c.may_grow)
        return next(never, None)

    @property
    def starves(self) -> bool:
        """True when it was passed over too often: it goes before all that do not starve, whatever their rank."""
        return self.passed >= PASSED_TOO_OFTEN

    def pass_over(self) -> None:
        """Somebody behind it goes first."""
        self.passed += 1
        if self.passed == PASSED_TOO_OFTEN:
            self.lane.starving += 1

    def fits(self, claims: Mapping[Ceiling, Nanos] = MappingProxyType({})) -> bool:
        """True when every ceiling has room for this call beside what others claim."""
        return all(c.account.held + claims.get(c, 0) + self.reserved <= c.most for c in self.ceilings)

    def will_fit(self) -> bool:
        """True when all it waits for is money that calls in flight may give back, or that is there to be drawn."""
        return all(c.account.settled + self.reserved <= c.reach for c in self.ceilings)

    def needs_what(self, other: Waiter) -> bool:
        """True when this call does not fit any more once `other` has gone."""
        taken = other.reserved + self.reserved
        return any(c in other.ceilings and c.account.held + taken > c.most for c in self.ceilings)

    def room(self) -> Nanos | None:
        """The money that is there for a call that could go with a smaller output limit only; None for any other.

        While calls are in flight, more may come back from them; one that was passed over too often takes what there is.
        """
        never = [c for c in self.ceilings if c.account.settled + self.reserved > c.reach and not c.may_grow]
        room = min((c.most - c.account.held for c in self.ceilings), default=0)
        if not never or room < self.least:
            return None
        waits = self.passed < PASSED_TOO_OFTEN and any(c.account.reserved for c in never)
        return None if waits else room


class Choice(NamedTuple):
    """Who goes now, which lanes want a permit first, and when to look again if nothing happens before."""

    grant: Waiter | None
    want_permit: tuple[Lane, ...]
    look_again: float


def choose(waiting: Iterable[Sequence[Waiter]], now: float) -> Choice:
    """The next to go among those who wait, given by rank, lane by lane; one at a time, for each changes the rest."""
    want_permit: list[Lane] = []
    look_again = inf
    ahead: list[tuple[Waiter, bool]] = []
    claims: dict[Ceiling, Nanos] = {}
    shut: set[str] = set()
    wanted: dict[str, set[str]] = {}
    """By lane: loaded models that somebody waits for who can go as soon as a window lets them."""
    leaving: set[tuple[str, str]] = set()
    """Models, by lane, that get no more calls until another one has their place."""
    queues: list[Sequence[Waiter]] = []
    for queue in waiting:
        if queue and queue[0].lane.free_slots >= 1.0:
            if len(queue) < _MANY:
                queues.append(queue)
                continue
            opens = queue[0].lane.when(_SMALLEST, _SMALLEST, now)
            if opens <= now:
                queues.append(queue)
            else:
                look_again = min(look_again, opens)  # nobody fits, however small, and so none passes another
    if not queues:
        return Choice(None, (), look_again)
    for waiter in _in_order(queues):
        lane = waiter.lane
        if len(shut) == len(queues):
            break
        if lane.name in shut or (lane.name, waiter.model) in leaving:
            continue
        at = lane.when(*lane.estimate(waiter.size), now)
        if at > now:
            look_again = min(look_again, at)
            goes_first = waiter.starves or at >= lane.paused_until > now
            if lane.is_loaded(waiter.model):
                wanted.setdefault(lane.name, set()).add(waiter.model)
        elif not waiter.fits(claims):
            goes_first = waiter.starves and waiter.will_fit()
        elif not lane.has_place(waiter.model, wanted.get(lane.name, ())):
            # Who waits for a model to be loaded is not passed over by a single call, but by all of those that are.
            if lane.change_is_due and (first := lane.first_to_go()) is not None:
                leaving.add((lane.name, first))
            continue
        elif lane.paced and not lane.permit:
            want_permit.append(lane)
            goes_first = True
        else:
            for other, ready in ahead:
                if other.lane is lane or (ready and other.needs_what(waiter)):
                    other.pass_over()
            return Choice(waiter, (), now)
        if goes_first:
            shut.add(lane.name)
        if goes_first and at <= now and waiter.starves:
            for ceiling in waiter.ceilings:
                claims[ceiling] = claims.get(ceiling, 0) + waiter.reserved
        ahead.append((waiter, at <= now))
    return Choice(None, tuple(want_permit), look_again)


def _in_order(queues: list[Sequence[Waiter]]) -> Iterator[Waiter]:
    """Everyone, by rank; those who were passed over too often come first."""
    if len(queues) == 1 and not queues[0][0].lane.starving and queues[0][0].lane.limits.resident is None:
        yield from queues[0]
        return
    rank = attrgetter("rank")
    starving = [queue for queue in queues if queue[0].lane.starving]
    yield from sorted((waiter for queue in starving for waiter in queue if waiter.starves), key=rank)
    key: Callable[[Waiter], Any] = rank
    if any(queue[0].lane.limits.resident is not None for queue in queues):
        key = _turn
        queues = [queue if queue[0].lane.limits.resident is None else sorted(queue, key=key) for queue in queues]
    everyone = queues[0] if len(queues) == 1 else merge(*queues, key=key)
    yield from (waiter for waiter in everyone if not waiter.starves)


def _turn(waiter: Waiter) -> tuple[tuple[int, int], tuple[int, ...]]:
    return waiter.lane.turn(waiter.model), waiter.rank
