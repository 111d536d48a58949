"""The limits of one account, as a provider counts them: what fits now, and the first moment at which the rest will.

- A sliding window looks back over its length from every moment; a fixed one starts anew at each multiple of its length
  on the wall clock; a bucket refills evenly and holds at most its capacity.
- Requests count when they are let in. Tokens count by one of three rules: `reserved` (input and max_tokens when let in,
  never given back), `settled` (the same, corrected to the truth at the end) or `used` (input when let in, output at
  the end; a request is refused only while the window is already full).
- Nothing is counted for a request that is refused.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

Shape: TypeAlias = Literal["sliding", "fixed", "bucket"]
Count: TypeAlias = Literal["reserved", "settled", "used"]

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_RESIDUE: Final = 1e-9
"""Sums of floating times may fall short of a border by this much."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do; None is no limit."""

    concurrency: int | None = None
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    input_tpm: int | None = None
    output_tpm: int | None = None
    window: Shape = "sliding"
    burst: int | None = None
    """How many requests a bucket of `rpm` holds: 1 is no burst at all, None a whole minute's worth."""
    count: Count = "reserved"
    headers: bool = True
    """Whether answers say what is left."""
    tpd: int | None = None


NO_LIMITS: Final = Limits()


class Refusal(NamedTuple):
    """Which limit is in the way, and for how long; `wait` is None when nobody can tell, infinite when for ever."""

    limit: str
    wait: float | None


class Room(NamedTuple):
    """What one limit has left."""

    limit: str
    most: int
    left: int
    reset: float
    """Seconds until all of it is free again."""


class Slip:
    """One amount that a window holds; corrected in place when the truth is known."""

    __slots__ = ("amount", "at")

    def __init__(self, at: float, amount: int) -> None:
        self.at = at
        self.amount = amount


class Window(Protocol):
    limit: int

    def wait(self, now: float, amount: int) -> float:
        """Seconds until so much fits, if nobody else comes; infinite when it never will."""
        ...

    def take(self, now: float, amount: int) -> Slip: ...

    def correct(self, slip: Slip, now: float, amount: int) -> None: ...

    def left(self, now: float) -> int: ...

    def reset(self, now: float) -> float:
        """Seconds until all of it is free again."""
        ...


class Sliding:
    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._slips: deque[Slip] = deque()
        self._held = 0

    def _forget(self, now: float) -> None:
        while self._slips and now - self._slips[0].at >= self._seconds - _RESIDUE:
            self._held -= self._slips.popleft().amount

    def wait(self, now: float, amount: int) -> float:
        if amount > self.limit:
            return inf
        self._forget(now)
        excess = self._held + amount - self.limit
        if excess <= 0:
            return 0.0
        for slip in self._slips:
            excess -= slip.amount
            if excess <= 0:
                return slip.at + self._seconds - now
        raise AssertionError("a window holds what its slips say")

    def take(self, now: float, amount: int) -> Slip:
        slip = Slip(now, amount)
        self._slips.append(slip)
        self._held += amount
        return slip

    def correct(self, slip: Slip, now: float, amount: int) -> None:
        self._forget(now)
        if now - slip.at < self._seconds - _RESIDUE:
            self._held += amount - slip.amount
            slip.amount = amount

    def left(self, now: float) -> int:
        self._forget(now)
        return max(0, self.limit - self._held)

    def reset(self, now: float) -> float:
        self._forget(now)
        return self._slips[-1].at + self._seconds - now if self._slips else 0.0


class Fixed:
    def __init__(self, limit: int, seconds: float, epoch: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._epoch = epoch
        self._number = -1
        self._held = 0

    def _number_at(self, now: float) -> int:
        return int((self._epoch + now + _RESIDUE) // self._seconds)

    def _turn(self, now: float) -> None:
        number = self._number_at(now)
        if number != self._number:
            self._number = number
            self._held = 0

    def wait(self, now: float, amount: int) -> float:
        if amount > self.limit:
            return inf
        self._turn(now)
        return 0.0 if self._held + amount <= self.limit else self.reset(now)

    def take(self, now: float, amount: int) -> Slip:
        self._turn(now)
        self._held += amount
        return Slip(now, amount)

    def correct(self, slip: Slip, now: float, amount: int) -> None:
        self._turn(now)
        if self._number_at(slip.at) == self._number:
            self._held += amount - slip.amount
            slip.amount = amount

    def left(self, now: float) -> int:
        self._turn(now)
        return max(0, self.limit - self._held)

    def reset(self, now: float) -> float:
        return (self._number_at(now) + 1) * self._seconds - self._epoch - now


class Bucket:
    def __init__(self, limit: int, seconds: float, capacity: int) -> None:
        self.limit = limit
        self._capacity = capacity
        self._per_second = limit / seconds
        self._level = float(capacity)
        self._at: float | None = None

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._capacity, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = now

    def wait(self, now: float, amount: int) -> float:
        if amount > self._capacity:
            return inf
        self._refill(now)
        missing = amount - self._level
        return 0.0 if missing <= _RESIDUE else missing / self._per_second

    def take(self, now: float, amount: int) -> Slip:
        self._refill(now)
        self._level -= amount
        return Slip(now, amount)

    def correct(self, slip: Slip, now: float, amount: int) -> None:
        self._refill(now)
        self._level = min(self._capacity, self._level + slip.amount - amount)
        slip.amount = amount

    def left(self, now: float) -> int:
        self._refill(now)
        return max(0, int(self._level + _RESIDUE))

    def reset(self, now: float) -> float:
        self._refill(now)
        return (self._capacity - self._level) / self._per_second


class _Gauge(NamedTuple):
    limit: str
    window: Window
    requests: bool
    input: bool
    output: bool


@dataclass(slots=True)
class Taken:
    """What one request holds at a meter until it ends."""

    input_tokens: int
    ends: float
    """When the answer is planned to be over; infinite when it never ends by itself."""
    slips: list[tuple[_Gauge, Slip]] = field(default_factory=list)


class Meter:
    """One account's limits: asked first, told what was let in, told when it ended."""

    def __init__(self, limits: Limits, epoch: float) -> None:
        self._limits = limits
        self._flying: dict[int, Taken] = {}
        self._gauges = tuple(
            _Gauge(name, _window(limits, amount, seconds, epoch, name), *counts)
            for name, amount, seconds, counts in (
                ("rpm", limits.rpm, _MINUTE, (True, False, False)),
                ("rpd", limits.rpd, _DAY, (True, False, False)),
                ("tpm", limits.tpm, _MINUTE, (False, True, True)),
                ("tpd", limits.tpd, _DAY, (False, True, True)),
                ("input_tpm", limits.input_tpm, _MINUTE, (False, True, False)),
                ("output_tpm", limits.output_tpm, _MINUTE, (False, False, True)),
            )
            if amount is not None
        )

    def refusal(self, now: float, input_tokens: int, max_tokens: int) -> Refusal | None:
        """The limit that is longest in the way of such a request; None when it may come in."""
        worst: Refusal | None = None
        for gauge in self._gauges:
            if gauge.requests or self._limits.count == "used":
                amount = 1
            else:
                amount = input_tokens * gauge.input + max_tokens * gauge.output
            wait = gauge.window.wait(now, amount)
            if wait > 0 and (worst is None or worst.wait is None or wait > worst.wait):
                worst = Refusal(gauge.limit, wait)
        if worst is None and self._limits.concurrency is not None and len(self._flying) >= self._limits.concurrency:
            first = min(taken.ends for taken in self._flying.values()) - now
            return Refusal("concurrency", first if 0 < first < inf else None)
        return worst

    def let_in(self, request: int, now: float, input_tokens: int, max_tokens: int) -> None:
        taken = Taken(input_tokens, inf)
        output = 0 if self._limits.count == "used" else max_tokens
        for gauge in self._gauges:
            amount = 1 if gauge.requests else input_tokens * gauge.input + output * gauge.output
            taken.slips.append((gauge, gauge.window.take(now, amount)))
        self._flying[request] = taken

    def planned(self, request: int, ends: float) -> None:
        """When this request will be over, as far as the provider knows."""
        self._flying[request].ends = ends

    def ended(self, request: int, now: float, output_tokens: int) -> None:
        """Gives the slot back and settles the tokens; a request that is not in flight is nothing to do."""
        taken = self._flying.pop(request, None)
        if taken is None or self._limits.count == "reserved":
            return
        for gauge, slip in taken.slips:
            if gauge.requests:
                continue
            if self._limits.count == "settled":
                gauge.window.correct(slip, now, taken.input_tokens * gauge.input + output_tokens * gauge.output)
            elif gauge.output and output_tokens:
                gauge.window.take(now, output_tokens)

    def rooms(self, now: float) -> tuple[Room, ...]:
        """What is left of each limit, where answers may say so."""
        if not self._limits.headers:
            return ()
        return tuple(
            Room(gauge.limit, gauge.window.limit, gauge.window.left(now), gauge.window.reset(now))
            for gauge in self._gauges
        )


def _window(limits: Limits, amount: int, seconds: float, epoch: float, name: str) -> Window:
    if limits.window == "sliding":
        return Sliding(amount, seconds)
    if limits.window == "fixed":
        return Fixed(amount, seconds, epoch)
    return Bucket(amount, seconds, limits.burst if name == "rpm" and limits.burst is not None else amount)


def duration(seconds: float) -> str:
    """A duration as Go writes it: `12ms`, `7.66s`, `6m0s`, `1h2m3s`; rounded up to a millisecond."""
    milliseconds = max(0, ceil(seconds * 1000 - 1e-6))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole, rest = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:03d}".rstrip("0").rstrip(".")
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{whole}{fraction}s"


def plain_seconds(seconds: float) -> str:
    """Seconds as a Retry-After says them: whole where they are whole, else rounded up to a millisecond."""
    milliseconds = max(1, ceil(seconds * 1000 - 1e-6))
    return str(milliseconds // 1000) if milliseconds % 1000 == 0 else f"{milliseconds / 1000:.3f}".rstrip("0")
