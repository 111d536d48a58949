"""The simulated wire fails and delivers as a real one would, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio
import pytest

from runner.sim.config import Latency, ModelConfig, Style, fault
from runner.sim.engine import Engine, Limits
from runner.sim.wire import SimWire
from runner.world import HttpRequest, Secret, Wire, WireError
from tests.sim.asking import body, heard, provider, raw, read_stream, request
from tests.sim.tongues import GEMINI, OPENROUTER
from tests.virtual import run_virtual

BASE = "http://sim.test/v1"


def post(text: str = "What survives?", base: str = BASE, **fields: Any) -> HttpRequest:
    return HttpRequest("POST", f"{base}/chat/completions", {"Authorization": Secret("Bearer k")}, body(text, **fields))


async def read(wire: Wire, asked: HttpRequest, chunks: list[bytes] | None = None) -> bytes:
    """The whole body; `chunks` keeps what came of one that breaks off."""
    got: list[bytes] = [] if chunks is None else chunks
    async with wire.exchange(asked) as response:
        assert response.status == 200
        async for chunk in response.chunks():
            got.append(chunk)
    return b"".join(got)


def virtually(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a test in order, and with its steps shuffled."""
    for seed in (None, 1, 2):
        run_virtual(test, seed=seed)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_arrives_whole_and_in_its_time(stream: bool) -> None:
    """The engine's bytes, after the engine's time and one round trip."""
    model = ModelConfig(reply=Style(100, 0.0), latency=Latency(20 * 60.0, 0.5))

    async def test() -> None:
        engine, twin = provider(model), provider(model)
        began = anyio.current_time()
        data = await read(SimWire({BASE: engine}, rtt=(2.0, 2.0)), post(stream=stream))
        answer = twin.handle(request(stream=stream), began + 1.0)
        assert len(data) == len(raw(answer))
        if stream:
            assert read_stream(data) == heard(answer)
        assert anyio.current_time() - began == pytest.approx(2.0 + answer.pieces[-1].at, abs=0.01)
        assert engine.received[0].ended == "finished"
        assert engine.bill.charges == twin.bill.charges

    virtually(test)


def test_a_key_reaches_the_provider_and_is_checked() -> None:
    """The wire is where a secret is revealed."""

    async def test() -> None:
        engine = provider(keys=("k",))
        assert await read(SimWire({BASE: engine}), post())
        assert engine.bill.refused == {}

    virtually(test)


@pytest.mark.parametrize(
    ("kind", "sent", "begun"),
    [("refused", False, False), ("reset", True, False), ("cut", True, True)],
)
def test_a_broken_exchange_says_whether_it_was_sent(kind: str, sent: bool, begun: bool) -> None:
    """Only a refused connection is surely not billed; what breaks later may have been."""

    async def test() -> None:
        engine = provider(ModelConfig(latency=Latency(1.0)), faults=(fault(kind),))
        with pytest.raises(WireError) as broken:
            await read(SimWire({BASE: engine}), post())
        assert broken.value.sent is sent
        assert (anyio.current_time() >= 1.0) == sent
        assert bool(engine.bill.accepted) == sent
        assert [r.ended for r in engine.received] == (["finished"] if sent else [])

    async def partly() -> None:
        wire = SimWire({BASE: provider(faults=(fault(kind, after=2),))})
        chunks: list[bytes] = []
        with pytest.raises(WireError):
            await read(wire, post(), chunks)
        got = b"".join(chunks)
        assert got.count(b'"content":') == 3
        assert b"[DONE]" not in got

    virtually(test)
    if begun:
        virtually(partly)


def test_what_nobody_serves_refuses_the_connection() -> None:
    """An unknown address is a closed port, and a base is no mere beginning of another's name."""

    async def test() -> None:
        engine = provider()
        for base in ("http://elsewhere.test/v1", BASE + "2"):
            with pytest.raises(WireError) as broken:
                await read(SimWire({BASE: engine}), post(base=base))
            assert broken.value.sent is False
        assert engine.received == []

    virtually(test)


def test_each_base_has_its_own_engine() -> None:
    """Two providers keep two books, even where one address lies below the other's."""

    async def test() -> None:
        outer, inner = provider(), provider()
        wire = SimWire({BASE: outer, BASE + "/inner/v1": inner})
        await read(wire, post("Out?"))
        await read(wire, post("In?", base=BASE + "/inner/v1"))
        assert (outer.bill.accepted, inner.bill.accepted) == (1, 1)

    virtually(test)


@pytest.mark.parametrize("kind", ["silent", "stall"])
def test_a_silent_server_holds_the_slot_until_the_client_leaves(kind: str) -> None:
    """Nothing comes for hours; the client's own patience ends it, and the provider learns of it then."""

    async def test() -> None:
        engine = provider(limits=Limits(concurrency=1), faults=(fault(kind, request=(1,)),))
        wire = SimWire({BASE: engine})
        with anyio.move_on_after(7200) as patience:
            await read(wire, post())
        assert patience.cancelled_caught
        assert [r.ended for r in engine.received] == ["left"]
        await read(wire, post())
        assert [r.ended for r in engine.received] == ["left", "finished"]

    virtually(test)


def test_a_client_that_stops_in_the_middle_has_left() -> None:
    """Leaving early is told to the provider, which bills by its rule; leaving after the last byte is no leaving."""

    async def test() -> None:
        model = ModelConfig(reply=Style(100, 0.0), latency=Latency(1.0, 0.1))
        engine = provider(model, cancelled="produced")
        wire = SimWire({BASE: engine})
        async with wire.exchange(post()) as response:
            async for _ in response.chunks():
                break
        assert engine.received[0].ended == "left"
        left = engine.bill.charges[1].output
        async with wire.exchange(post()) as response:
            async for chunk in response.chunks():
                if b"[DONE]" in chunk:
                    break
        assert engine.received[1].ended == "finished"
        assert 0 < left < engine.bill.charges[2].output

    virtually(test)


def test_a_watcher_sees_each_request_before_it_leaves() -> None:
    """A test can ask whether the intent is durable when the bytes go."""

    async def test() -> None:
        engine = provider()
        seen: list[tuple[HttpRequest, int]] = []
        wire = SimWire({BASE: engine}, watch=lambda asked: seen.append((asked, len(engine.received))))
        asked = [post(text) for text in ("One?", "Two?")]
        for one in asked:
            await read(wire, one)
        assert seen == [(asked[0], 0), (asked[1], 1)]

    virtually(test)


def test_round_trips_are_drawn_from_the_seed() -> None:
    """The same seed takes the same time, another seed another."""

    def night(seed: int) -> float:
        async def test() -> float:
            wire = SimWire({BASE: provider()}, rtt=(0.01, 3.0), random=Random(seed))
            for n in range(5):
                await read(wire, post(f"Question {n}"))
            return anyio.current_time()

        return run_virtual(test)

    assert night(1) == night(1) != night(2)


def test_limits_hold_over_a_virtual_night() -> None:
    """Two hundred impatient clients get through as fast as the limit lets them, and no faster."""

    async def test() -> None:
        engine = provider(limits=Limits(rpm=60, concurrency=10))
        wire = SimWire({BASE: engine}, rtt=(0.05, 0.2))
        accepted: list[float] = []

        async def client(number: int) -> None:
            while True:
                async with wire.exchange(post(f"Question {number}")) as response:
                    if response.status == 200:
                        accepted.append(anyio.current_time())
                        async for _ in response.chunks():
                            pass
                        return
                    pause = float(response.headers.get("retry-after", "1"))
                await anyio.sleep(pause)

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(client, number)
        assert len(accepted) == 200
        for start in accepted:
            # Half a round trip may be shorter for one than for another, so their arrival here may bunch a little.
            assert sum(start <= at < start + 59.8 for at in accepted) <= 60
        assert 180 <= max(accepted) <= 200

    run_virtual(test)


def test_two_wires_share_nothing() -> None:
    """An engine's state is its own: a second one starts from the beginning."""

    async def test() -> None:
        first, second = Engine(), Engine()
        for engine in (first, second):
            async with SimWire({BASE: engine}).exchange(post(model="cleo")) as response:
                assert response.status == 429
                assert response.headers["retry-after"] == "1"

    virtually(test)


def test_a_question_in_an_address_arrives_with_it() -> None:
    """A stream of events, and a look-up by its id, are asked for after the question mark."""

    async def test() -> None:
        engine = OPENROUTER.provider(ModelConfig())
        wire = SimWire({BASE: engine})
        asked = GEMINI.ask()
        data = await read(wire, HttpRequest("POST", BASE.removesuffix("/v1") + asked.path, {}, asked.body))
        assert data.startswith(b"data: ")
        async with wire.exchange(post()) as response:
            generation = response.headers["x-generation-id"]
            async for _ in response.chunks():
                pass
        assert b"total_cost" in await read(wire, HttpRequest("GET", f"{BASE}/generation?id={generation}", {}, b""))

    virtually(test)
