"""The loop of a night: a few at a time, everybody in turn, and nobody who has gone."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.machinery import ModuleSpec
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from runner.cli import loop
from runner.cli.hold import hold, load_all
from runner.cli.loop import FewAtATime, loop_for, new_loop
from runner.preflight import DEFAULT_CONCURRENCY
from runner.selection import Options

JOB = """
budget: 1
defaults: {max_tokens: 10}
providers:
  one: {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: none, limits: {concurrency: 300}}
  two: {type: openai, base_url: "http://127.0.0.1:9/two/v1", api_key: none}
models:
  left: {use: one/left, price: {input: 1, output: 1}}
  right: {use: two/right, price: {input: 1, output: 1}}
prompts: {talk: {opening: "Hello.", rounds: 1}}
pairings: [{prompt: talk, a: left, b: right}]
"""


@pytest.fixture
def ready() -> Iterator[list[socket.socket]]:
    """A hundred connections on each of which something has come."""
    with ExitStack() as stack:
        found: list[socket.socket] = []
        for _ in range(100):
            one, other = socket.socketpair()
            stack.enter_context(one)
            stack.enter_context(other).send(b"x")
            found.append(one)
        yield found


def test_of_many_that_are_ready_a_few_are_told_at_a_time_and_each_in_its_turn(ready: list[socket.socket]) -> None:
    """The first first, and nobody twice before all others were told of once."""
    with FewAtATime() as selector:
        for one in ready:
            selector.register(one, EVENT_READ)
        rounds = [selector.select(0) for _ in range(14)]
    assert [len(told) for told in rounds] == [16, 16, 16, 16, 16, 16, 4] * 2
    assert [key.fileobj for told in rounds[:7] for key, _ in told] == ready
    for seven in (rounds[:7], rounds[7:]):
        assert set(Counter(key.fd for told in seven for key, _ in told).values()) == {1}


def test_who_has_gone_or_changed_before_its_turn_is_not_told_of(ready: list[socket.socket]) -> None:
    """Its number may be that of another connection by then; who still waits for something is told of the next time."""
    with FewAtATime() as selector:
        for one in ready:
            selector.register(one, EVENT_READ, "old")
        told = {key.fileobj for key, _ in selector.select(0)}
        gone, changed, *_ = [one for one in ready if one not in told]
        selector.unregister(gone)
        selector.modify(changed, EVENT_READ | EVENT_WRITE, "new")
        later = [key for _ in range(6) for key, _ in selector.select(0)]
        assert gone not in [key.fileobj for key in later] and changed not in [key.fileobj for key in later]
        again = [event for _ in range(7) for event in selector.select(0) if event[0].fileobj is changed]
    assert [(key.data, events) for key, events in again] == [("new", EVENT_READ | EVENT_WRITE)]


def test_a_timer_comes_between_the_parts_of_a_crowd(ready: list[socket.socket]) -> None:
    """However many were answered at once, what is due goes on after a few of them."""
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def answered(one: socket.socket) -> None:
            order.append("answer")
            loop.remove_reader(one)

        for one in ready:
            loop.add_reader(one, answered, one)

        def tick() -> None:
            order.append("tick")
            if order.count("answer") < len(ready):
                loop.call_later(0, tick)

        loop.call_later(0, tick)
        while order.count("answer") < len(ready):
            await anyio.lowlevel.checkpoint()

    anyio.run(main, backend_options={"loop_factory": new_loop})
    told = "".join("a" if one == "answer" else " " for one in order).split()
    assert max(map(len, told)) <= 16 and sum(map(len, told)) == 100


def test_a_signal_is_heard_between_the_parts_of_a_crowd_however_often_threads_wake_the_loop(
    ready: list[socket.socket],
) -> None:
    """What both of them come by is small: looked at only in its turn, it would be full, and the signal lost."""
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, order.append, "signal")

        def answered(one: socket.socket) -> None:
            order.append("answer")
            loop.remove_reader(one)
            for _ in range(10):
                loop.call_soon_threadsafe(int)
            if order.count("answer") == 60:
                signal.raise_signal(signal.SIGINT)

        for one in ready:
            loop.add_reader(one, answered, one)
        while order.count("answer") < len(ready):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)

    anyio.run(main, backend_options={"loop_factory": new_loop})
    assert 60 <= order.index("signal") <= 60 + 2 * 16


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("calls", [256, 257])
def test_uvloop_holds_few_calls_where_it_is_installed(
    calls: int, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all that has come at once, so it is not for many."""
    uvloop = ModuleType("uvloop")
    uvloop.new_event_loop = asyncio.new_event_loop  # type: ignore[attr-defined]
    uvloop.__spec__ = ModuleSpec("uvloop", None)
    monkeypatch.setitem(sys.modules, "uvloop", uvloop if installed else None)
    assert loop_for(calls) is (asyncio.new_event_loop if installed and calls == 256 else new_loop)


def test_a_night_is_held_on_the_loop_for_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as all its providers together have slots for."""
    (tmp_path / "job.yaml").write_text(JOB)
    seen: list[Any] = []

    def chosen(calls: int) -> Any:
        seen.append(calls)
        return new_loop

    def run(*_: Any, backend_options: dict[str, Any]) -> int:
        seen.append(backend_options)
        return 0

    monkeypatch.setattr(loop, "loop_for", chosen)
    monkeypatch.setattr(anyio, "run", run)
    assert hold(load_all([tmp_path / "job.yaml"]), Options(), tmp_path) == 0
    assert seen == [300 + DEFAULT_CONCURRENCY, {"loop_factory": new_loop}]
