"""Events with little to say, and a history in which there is one of every kind."""

from __future__ import annotations

from typing import Any

from runner.events import (
    Branched,
    Closed,
    Engaged,
    Event,
    Failed,
    Heard,
    Noted,
    Opened,
    Replied,
    Sent,
    Settled,
    Started,
    Stopped,
)


def opened(life: int = 1, **more: Any) -> Opened:
    return Opened(life, "1", "job", "main", "2026-11-21", "UTC", {"a": 1}, {}, {}, {}, {}, **more)


def sent(
    cell: str = "x", turn: int = 1, attempt: int = 1, reserved: int = 100, alias: str = "ada", **more: Any
) -> Sent:
    where = "east" if alias < "m" else "west"
    return Sent(cell, turn, attempt, "a", alias, where, "m", "h", "openai/1", reserved, 10, 20, **more)


def reply(cell: str = "x", turn: int = 1, attempt: int = 1, cost: int = 60, **more: Any) -> Replied:
    usage = more.pop("usage", {"input": 5, "output": 6})
    source = more.pop("source", "priced")
    return Replied(cell, turn, attempt, "text", more.pop("finish", "ok"), cost, source, cost, usage, **more)


def fail(cell: str = "x", turn: int = 1, attempt: int = 1, cost: int = 0, **more: Any) -> Failed:
    money = more.pop("money", "free")
    return Failed(cell, turn, attempt, more.pop("kind", "error"), "call", money, cost, False, "trouble", **more)


def heard(cell: str = "x", turn: int = 1, **more: Any) -> Heard:
    return Heard(cell, turn, "text", "box", **more)


def branch(through: int = 1, cell: str = "y", **more: Any) -> Branched:
    return Branched(cell, "x", "fork", through, 1, "p", 1, {"a": "ada"}, 2, **more)


def everything() -> list[Event]:
    """A history with events of every kind, and with whatever a call can come to."""
    costly = {"input": 5, "output": 6, "reasoning": 2, "cost": 90}
    return [
        opened(),
        *(sent(seed=7, dropped=("top_p",), left_out=1), Started("x", 1, 1, "g1"), reply(usage=costly, seconds=2.0)),
        *(sent(turn=2), fail(turn=2, busy=True), sent(turn=2, attempt=2), Started("x", 2, 2, "g2")),
        *(reply(turn=2, attempt=2, source="unknown", finish="truncated", reasoning="why"), Stopped("x", "complete")),
        *(sent("z"), fail("z", parameter="seed"), sent("z", attempt=2), fail("z", attempt=2, cost=9, money="assumed")),
        *(sent("z", attempt=3), reply("z", attempt=3, cost=150, overrun=True, usage={"output": 900, "trusted": False})),
        *(heard("w"), Noted("w", "Notes", None, "text", "file"), branch(), Engaged(("p",), {}), sent("y", turn=2)),
        *(heard("u", when=5.0), Stopped("u", "failed", when=7.0, error={"kind": "error", "message": "no"}, attempts=2)),
        *(Settled("z", 1, 2, 4, "a bill"), Settled("x", 2, 2, 300, "a bill"), sent("v"), Closed(1, 3)),
        *(opened(2, about=("x",)), sent("w", turn=2), Started("w", 2, 1, "g3")),
    ]
