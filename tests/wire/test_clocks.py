"""The clocks of a call, on virtual time: how long a silent, slow or endless server is listened to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import pytest

from runner.call import Answer, Failure, Reply, Timeouts
from runner.world import HttpRequest, HttpResponse
from tests.virtual import run_virtual
from tests.wire.manners import DONE, GOOD, ask, call, chunk

FOREVER = 1e6
PATIENT = {"connect": 30.0, "first": 600.0, "idle": 120.0, "total": 1800.0}


@dataclass
class Slow:
    """A wire, and its one answer: headers after a time, then pieces, each after a time."""

    pieces: Sequence[tuple[float, bytes]]
    headers_after: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        await anyio.sleep(self.headers_after)
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for after, piece in self.pieces:
            await anyio.sleep(after)
            yield piece


def asked(wire: Slow, **timeouts: float) -> Answer:
    one = replace(call(), timeouts=Timeouts(**(PATIENT | timeouts)))
    return run_virtual(lambda: ask(wire, "http://x/v1", one))


COMMENT = b": keep-alive\n\n"
ROLE = chunk(role="assistant", content="")

LATE: Sequence[tuple[str, Slow, float, str]] = [
    ("no headers", Slow([], FOREVER), 600, "timed out: no data for 600 s, the `first` of its `timeout`"),
    ("no body", Slow([(FOREVER, GOOD)], 100), 600, "timed out: no data for 600 s, the `first` of its `timeout`"),
    ("only comments", Slow([(10, COMMENT)] * 999), 600, "timed out: no data for 600 s, the `first` of its `timeout`"),
    ("only who speaks", Slow([(10, ROLE)] * 999), 600, "timed out: no data for 600 s, the `first` of its `timeout`"),
    (
        "then silence",
        Slow([(500, chunk(content="Hi")), (FOREVER, GOOD)]),
        620,
        "timed out: no further data for 120 s, the `idle` of its `timeout`",
    ),
    (
        "then comments",
        Slow([(5, chunk(content="Hi")), *[(10, COMMENT)] * 99]),
        125,
        "timed out: no further data for 120 s, the `idle` of its `timeout`",
    ),
    (
        "a trickle",
        Slow([(100, chunk(content="Hi"))] * 99),
        1800,
        "timed out: not complete after 1800 s, the `total` of its `timeout`",
    ),
]


@pytest.mark.fault(34, 35)
@pytest.mark.parametrize(("wire", "seconds", "detail"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_a_call_ends_when_the_right_clock_runs_out(wire: Slow, seconds: float, detail: str) -> None:
    """The first data, each next, and all of it: signs of life wind none of the clocks."""
    outcome = asked(wire).outcome
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.money, outcome.detail) == ("lost", "assumed", detail)
    assert outcome.seconds == pytest.approx(seconds, abs=0.1)


@pytest.mark.fault(56)
def test_a_slow_answer_is_waited_for() -> None:
    """Nine minutes to the first word, and nearly two between any, are within the clocks."""
    outcome = asked(Slow([(599, chunk(content="Hi "))] + [(119, chunk(content="and "))] * 9 + [(119, GOOD)])).outcome
    assert isinstance(outcome, Reply)
    assert outcome.first_byte == pytest.approx(599, abs=0.1)


@pytest.mark.parametrize("rest", [[(FOREVER, b"")], [(0.3, COMMENT)] * 999, [(0.3, GOOD)] * 999])
def test_after_the_end_only_a_moment_is_waited(rest: list[tuple[float, bytes]]) -> None:
    """A server that leaves the line open after its last word, or goes on, holds the slot for a second and no longer."""
    outcome = asked(Slow([(1, GOOD + DONE), *rest])).outcome
    assert isinstance(outcome, Reply)
    assert outcome.text == "Hi there"
    assert outcome.seconds == pytest.approx(2, abs=0.1)


def test_the_words_of_an_error_get_a_few_seconds() -> None:
    """The status has said what matters."""
    outcome = asked(Slow([(FOREVER, b"{}")], status=503, headers={"retry-after": "9"})).outcome
    assert isinstance(outcome, Failure)
    assert (outcome.status, outcome.retry_after, outcome.money) == (503, 9.0, "free")
    assert outcome.seconds == pytest.approx(5, abs=0.1)


def test_connecting_has_no_more_time_than_the_answer() -> None:
    """Where the first data must come sooner than a connection may take, the shorter time holds for both."""
    seen: list[HttpRequest] = []

    class Watched(Slow):
        @asynccontextmanager
        async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
            seen.append(request)
            yield self

    asked(Watched([(0, GOOD)]), first=20.0)
    asked(Watched([(0, GOOD)]))
    assert [request.connect_timeout for request in seen] == [20.0, 30.0]


def test_the_clock_between_pieces_is_wound_by_each_and_runs_out_a_little_late_at_most() -> None:
    """It is not set anew with each token, and never earlier than was asked for."""
    talks = [(1, chunk(content="Hi "))] * 300
    outcome = asked(Slow([*talks, (FOREVER, GOOD)])).outcome
    assert isinstance(outcome, Failure) and "`idle`" in outcome.detail
    assert outcome.seconds is not None and 300 + 120 <= outcome.seconds <= 300 + 122.4 + 0.1
