"""Two runs held against each other, conversation by conversation: what is new, gone or changed, better or worse.

Two conversations belong together when they have the same id, else the same name, else when the same was asked: prompt,
models and repeat. Of those that do, one is *changed* when its id is another, so that the models were sent something
else; and whatever its id, it may be *worse* or *better*:

- worse: it is not complete any more, ended earlier, has more truncated or refused replies, or is dearer by more than
  a tenth; better is the opposite, and one may be both;
- its cost counts only where both are complete and were bought whole: one that was cut short is not cheap;
- its speed and its texts are told and judged by nobody: they differ from night to night.

How much alike the texts are is the part of their words, taken three by three, that both have. Nothing here reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.conversation import Conversation, Transcript, Turn
from runner.foreign import one_line
from runner.money import Nanos
from runner.outlook import differences
from runner.render.figures import total, usd
from runner.status import Status

Standing: TypeAlias = Literal["new", "gone", "changed", "same"]
Verdict: TypeAlias = Literal["worse", "better"]
STANDINGS: Final[tuple[Standing, ...]] = ("new", "gone", "changed", "same")
VERDICTS: Final[tuple[Verdict, ...]] = ("worse", "better")

_DEARER_PER_CENT: Final = 10
_WORDS_TOGETHER: Final = 3
# Chinese, Japanese and Thai have no blanks between words, so that each sign counts as one.
_UNSPACED: Final = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


class Asked(NamedTuple):
    """What tells a conversation from the others of its run."""

    id: str
    name: str
    prompt: str
    models: tuple[tuple[str, str], ...]
    """Each live role with its model, `provider/id`."""
    repeat: int


class Pair(NamedTuple):
    """What belongs together, by the places in both runs; None where there is no such conversation."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a conversation came to in one run."""

    id: str
    name: str
    status: Status
    reason: str | None
    spent: Nanos
    turns: int
    """Turns that a model has spoken."""
    planned: int
    """Turns that a model was to speak. What a person says is none of them, wherever it came from."""
    tokens: int | None
    """What the models wrote, where that is known of each turn."""
    speed: float | None
    """Tokens per second, in the turns where it is known."""
    truncated: int
    refused: int
    bought: bool
    """True when all that the models said was paid for here: nothing carried over, or read from a file."""

    @property
    def is_complete(self) -> bool:
        return self.status == "complete"


@dataclass(frozen=True, slots=True)
class Difference:
    """One conversation in both runs, or in one of them."""

    before: Facts | None
    after: Facts | None
    changes: tuple[str, ...] = ()
    """What was asked otherwise, in words."""
    worse: tuple[str, ...] = ()
    better: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """What differs besides, and is neither."""
    similarity: float | None = None
    """How much alike the texts are, from 0 to 1; None where one of them has none."""

    @property
    def standing(self) -> Standing:
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        return "same" if self.before.id == self.after.id else "changed"

    @property
    def name(self) -> str:
        one = self.after or self.before
        assert one is not None
        return one.name

    def kinds(self) -> Iterator[Standing | Verdict]:
        """What it counts as: its standing, and its verdicts where it has any."""
        yield self.standing
        if self.worse:
            yield "worse"
        if self.better:
            yield "better"


class Sums(NamedTuple):
    """What the conversations of one run come to."""

    conversations: int
    complete: int
    spent: Nanos
    turns: int
    tokens: int | None
    coverage: str
    """Of how many conversations the tokens are known, where that is not all: ` (3 of 4)`."""
    speed: float | None
    """The mean of the conversations, where it is known."""


def pairs(before: Sequence[Asked], after: Sequence[Asked]) -> list[Pair]:
    """What belongs together, in the order of the later run; what is gone comes last."""
    keys: tuple[Callable[[Asked], Hashable], ...] = (
        lambda one: one.id,
        lambda one: one.name,
        lambda one: (one.prompt, one.models, one.repeat),
    )
    found: dict[int, int] = {}
    left_before, left_after = list(range(len(before))), list(range(len(after)))
    for key in keys:
        places: dict[Hashable, list[int]] = {}
        for place in left_before:
            places.setdefault(key(before[place]), []).append(place)
        rivals = Counter(key(after[place]) for place in left_after)
        for place in left_after:
            there = places.get(key(after[place]), [])
            # Where several would do, nobody knows which is meant.
            if len(there) == 1 and rivals[key(after[place])] == 1:
                found[place] = there[0]
        taken = set(found.values())
        left_before = [place for place in left_before if place not in taken]
        left_after = [place for place in left_after if place not in found]
    return [
        *(Pair(found.get(place), place) for place in range(len(after))),
        *(Pair(place, None) for place in left_before),
    ]


def difference(
    before: Transcript | None, after: Transcript | None, asked: tuple[Conversation, Conversation] | None = None
) -> Difference:
    """What differs between two conversations that belong together; `asked` is what each of them was to be."""
    if before is None or after is None:
        return Difference(None if before is None else facts(before), None if after is None else facts(after))
    was, now = facts(before), facts(after)
    worse, better, other = _judged(was, now)
    return Difference(
        was,
        now,
        changes=_changes(*asked) if was.id != now.id and asked is not None else (),
        worse=worse,
        better=better,
        other=other,
        similarity=similarity(_texts(before), _texts(after)),
    )


def _changes(before: Conversation, after: Conversation) -> tuple[str, ...]:
    """What was asked otherwise; of one that goes on with the other, from where on."""
    if after.origin is not None and after.origin.id == before.id:
        return (f"{after.origin.kind} from turn {after.origin.through + 1} on",)
    return tuple(differences(before, after))


def facts(t: Transcript) -> Facts:
    """What a conversation came to, as far as two of them are compared by it."""
    spoken = _spoken(t)
    timed = [(turn.usage.output or 0, speed) for turn in spoken if (speed := turn.tokens_per_second) is not None]
    tokens, coverage = total([turn.usage.output for turn in spoken])
    return Facts(
        id=t.id,
        name=t.name,
        status=t.status,
        reason=t.reason,
        spent=t.spent,
        turns=len(spoken),
        planned=len(_models_own(t)),
        # A sum of some of them cannot be held against a sum of all.
        tokens=None if coverage else tokens,
        speed=sum(output for output, _ in timed) / sum(output / speed for output, speed in timed) if timed else None,
        truncated=t.truncated,
        refused=t.refused,
        bought=not any(turn.carried or turn.heard is not None for turn in spoken),
    )


def _models_own(t: Transcript) -> list[Turn]:
    live = {side.role for side in t.participants if side.live}
    return [turn for turn in t.turns if turn.role in live and not turn.given]


def _spoken(t: Transcript) -> list[Turn]:
    return [turn for turn in _models_own(t) if turn.text is not None]


def _texts(t: Transcript) -> list[str]:
    return [turn.text or "" for turn in _spoken(t)]


def _judged(before: Facts, after: Facts) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What is worse, what is better, and what only differs."""
    worse: list[str] = []
    better: list[str] = []
    other: list[str] = []
    was, now = _status(before), _status(after)
    if was != now:
        verdicts = {(True, False): worse, (False, True): better}
        verdicts.get((before.is_complete, after.is_complete), other).append(f"status: {was} -> {now}")
    if before.turns != after.turns:
        # Where another number was planned, fewer of them are no loss.
        verdict = other if before.planned != after.planned else worse if after.turns < before.turns else better
        verdict.append(f"turns: {before.turns} -> {after.turns}")
    for what, then, today in (
        ("truncated replies", before.truncated, after.truncated),
        ("refused replies", before.refused, after.refused),
    ):
        if then != today:
            (worse if today > then else better).append(f"{what}: {then} -> {today}")
    if before.spent != after.spent:
        told = f"cost: {usd(before.spent)} -> {usd(after.spent)}{per_cent(before.spent, after.spent)}"
        comparable = before.is_complete and after.is_complete and before.bought and after.bought
        dearer = comparable and after.spent * 100 > before.spent * (100 + _DEARER_PER_CENT)
        cheaper = comparable and before.spent * 100 > after.spent * (100 + _DEARER_PER_CENT)
        (worse if dearer else better if cheaper else other).append(told)
    if before.tokens != after.tokens and None not in (before.tokens, after.tokens):
        other.append(f"tokens written: {before.tokens:,} -> {after.tokens:,}")
    if before.speed is not None and after.speed is not None and round(before.speed, 1) != round(after.speed, 1):
        other.append(f"tokens per second: {before.speed:.1f} -> {after.speed:.1f}")
    return tuple(worse), tuple(better), tuple(other)


def _status(one: Facts) -> str:
    return one.status if one.reason is None else f"{one.status} ({one_line(one.reason, 80)})"


def per_cent(before: float, after: float) -> str:
    """By how much a figure has changed: ` (+12.5 %)`; nothing where it was zero."""
    return f" ({(after - before) / before * 100:+.1f} %)" if before else ""


def similarity(before: Sequence[str], after: Sequence[str]) -> float | None:
    """From 0, not three words alike, to 1, the same; None where one side has said nothing."""
    one, other = _threes(before), _threes(after)
    if not one or not other:
        return None
    both, either = (one & other).total(), (one | other).total()
    return both / either


def _threes(texts: Iterable[str]) -> Counter[tuple[str, ...]]:
    """Every three words that follow each other in a text; a shorter one counts as a whole."""
    found: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = _WORD.findall(text.casefold())
        last = max(1, len(words) - _WORDS_TOGETHER + 1)
        found.update(tuple(words[n : n + _WORDS_TOGETHER]) for n in range(last if words else 0))
    return found


def sums(sides: Iterable[Facts | None]) -> Sums:
    """What the conversations of one side come to."""
    there = [one for one in sides if one is not None]
    tokens, coverage = total([one.tokens for one in there])
    speeds = [one.speed for one in there if one.speed is not None]
    return Sums(
        conversations=len(there),
        complete=sum(one.is_complete for one in there),
        spent=sum(one.spent for one in there),
        turns=sum(one.turns for one in there),
        tokens=tokens,
        coverage=coverage,
        speed=sum(speeds) / len(speeds) if speeds else None,
    )
