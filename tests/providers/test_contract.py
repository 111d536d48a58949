"""One contract for every dialect: each case of what can happen, in its own bytes, comes to the same thing.

A dialect that is added is held to it by its name alone: it needs a form and a column here. A case that cannot happen in
a dialect stands in its table with the reason, and `test_no_case_is_dropped_in_silence` counts them.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio
import orjson
import pytest

from runner.call import Outcome, Reply, Usage
from runner.providers import DIALECTS, Endpoint
from runner.transports.http import HttpTransport
from runner.world import HttpRequest, HttpResponse, Secret, WireError
from tests.providers.contract import (
    BODIES,
    BROKEN_OFF,
    CUTS,
    FIGURES,
    LIFE,
    SILENT,
    STATUSES,
    WAITS,
    WALL,
    Form,
    call,
    essence,
    failure,
    heard,
    reply,
    told,
)
from tests.providers.forms import chat, gemini, messages, ollama, responses
from tests.providers.troubles import COLUMNS, FULL, RESETS, TROUBLES, Says, comes_to
from tests.virtual import run_virtual
from tests.wire.manners import NoonClock

FORMS: Final[Mapping[str, Form]] = {
    "anthropic": messages.FORM,
    "deepseek": chat.FORM,
    "gemini": gemini.FORM,
    "groq": chat.FORM,
    "llamacpp": chat.FORM,
    "lmstudio": chat.FORM,
    "mistral": chat.FORM,
    "ollama": ollama.FORM,
    "openai": chat.FORM,
    "openai-responses": responses.FORM,
    "openrouter": chat.FORM,
    "sim": chat.FORM,
    "together": chat.FORM,
    "vllm": chat.FORM,
    "xai": chat.FORM,
    "zai": chat.FORM,
}
each_dialect = pytest.mark.parametrize("name", FORMS)

# --- the table is whole ----------------------------------------------------------------------------------------------


def cells(name: str) -> Iterator[tuple[str, str | None]]:
    """Every case of a dialect, and why it cannot happen there."""
    form = FORMS[name]
    written = {case for rows in (form.answers, form.cuts, form.signs, form.counted) for case, _ in rows}
    for case in (*BODIES, *CUTS, *LIFE, *FIGURES):
        assert (case in written) is not (case in form.never), f"{name}: {case}"
        yield case, form.never.get(case)
    for case in (*TROUBLES, *RESETS):
        cell = COLUMNS[name][case]
        yield case, cell if isinstance(cell, str) else None


def test_every_dialect_is_held_to_the_contract() -> None:
    """Nobody adds one without its bytes."""
    assert set(FORMS) == set(COLUMNS) == set(FULL) == set(DIALECTS)


ABSENT: Final = {
    "anthropic": 7,
    "deepseek": 9,
    "gemini": 7,
    "groq": 3,
    "llamacpp": 11,
    "lmstudio": 9,
    "mistral": 3,
    "ollama": 21,
    "openai": 3,
    "openai-responses": 4,
    "openrouter": 1,
    "sim": 3,
    "together": 7,
    "vllm": 10,
    "xai": 3,
    "zai": 4,
}
"""How many cases cannot happen in each dialect."""


def test_no_case_is_dropped_in_silence() -> None:
    """Each has its bytes or its reason in each dialect, and this is how many have a reason."""
    cases = {*BODIES, *CUTS, *LIFE, *FIGURES, *TROUBLES, *RESETS}
    assert len(cases) == len(BODIES) + len(CUTS) + len(LIFE) + len(FIGURES) + len(TROUBLES) + len(RESETS)
    absent: dict[str, int] = {}
    for name, form in FORMS.items():
        found = dict(cells(name))
        assert set(found) == cases
        assert set(form.never) <= cases and set(COLUMNS[name]) == {*TROUBLES, *RESETS}
        assert all(reason is None or len(reason.split()) > 3 for reason in found.values())
        absent[name] = sum(reason is not None for reason in found.values())
    assert absent == ABSENT


# --- bodies of status 200 --------------------------------------------------------------------------------------------


def each_of(cases: Iterable[str]) -> pytest.MarkDecorator:
    """Each of these cases in each dialect in which it can happen."""
    wanted = set(cases)
    rows = [(name, case) for name in FORMS for case, reason in cells(name) if case in wanted and reason is None]
    return pytest.mark.parametrize(("name", "case"), rows)


@pytest.mark.fault(38, 39, 40, 41, 49, 50, 55, 86)
@each_of(BODIES)
def test_an_answer_comes_to_what_the_contract_says(name: str, case: str) -> None:
    """However it is cut into pieces."""
    for body in (body for written, body in FORMS[name].answers if written == case):
        for size in (None, 1, 7):
            assert essence(heard(DIALECTS[name], body, size=size)) == BODIES[case], (body, size)


@each_dialect
def test_thinking_is_kept_apart(name: str) -> None:
    """Whatever form it has, it is in `reasoning`, once, and in no text."""
    for body in (body for case, body in FORMS[name].answers if case == "a reply after thinking"):
        assert (heard(DIALECTS[name], body).reasoning or "").split() == ["hm", "hm"], body


@pytest.mark.fault(51)
@each_of(CUTS)
def test_the_figures_of_a_cut_answer_are_not_taken_for_the_last(name: str, case: str) -> None:
    """What was counted so far settles nothing; what an end does not count is not known."""
    cut = "the connection broke" if case in BROKEN_OFF else None
    for body in (body for written, body in FORMS[name].cuts if written == case):
        for size in (None, 1, 7):
            got = heard(DIALECTS[name], body, cut, size)
            assert essence(got) == CUTS[case], (body, size)
            assert got.usage.output is None or not isinstance(got, Reply)


@each_dialect
def test_what_comes_byte_by_byte_is_held_as_bytes(name: str) -> None:
    """An event that is not whole, many lines of one, and an answer that is not streamed: no more than a few times their
    size."""
    size = 6_000
    for first, piece in ((b'data: {"', b"x"), (b'{"', b"x"), (b"data:xy\n", b"data:xy\n")):
        reader = DIALECTS[name].reader(call())
        reader.feed(first)
        tracemalloc.start()
        try:
            for _ in range(size // len(piece)):
                reader.feed(piece)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 4 * size, (first, held)


@each_of(LIFE)
def test_a_sign_of_life_is_no_data(name: str, case: str) -> None:
    """Only what belongs to the answer resets the clocks."""
    for piece in (piece for written, piece in FORMS[name].signs if written == case):
        assert DIALECTS[name].reader(call()).feed(piece) is LIFE[case], piece


@pytest.mark.fault(51)
@each_of(FIGURES)
def test_usage_is_read_or_not_trusted(name: str, case: str) -> None:
    """A figure that cannot be is None and spoils the trust in all; what was not said is None and spoils nothing."""
    for usage in (usage for written, usage in FORMS[name].counted if written == case):
        got = heard(DIALECTS[name], FORMS[name].using(usage))
        assert essence(got) == reply()
        raw = usage if isinstance(usage, dict) and usage else None
        assert replace(got.usage, cached_read=got.usage.cached_read or None) == Usage(**FIGURES[case], raw=raw), usage


# --- keys ------------------------------------------------------------------------------------------------------------


@each_dialect
def test_a_header_of_the_job_is_sent_as_the_job_has_it(name: str) -> None:
    """Also the one that carries the key: whoever says in it who they are is not sent as somebody else."""
    ours = Endpoint(
        "p", name, "https://x/v1", Secret("sk-of-the-environment"), {"AUTHORIZATION": Secret("Bearer mine")}
    )
    found = [value for header, value in DIALECTS[name].headers(ours).items() if header.lower() == "authorization"]
    assert [value.reveal() for value in found if isinstance(value, Secret)] == ["Bearer mine"]


# --- on the way ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slow:
    """A wire, and its answer: pieces with pauses before them, and perhaps no end."""

    pieces: Sequence[tuple[float, bytes]]
    cut: bool = False
    lost: bool | None = None
    """No answer at all: whether the request had been sent."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        if self.lost is not None:
            raise WireError("the connection broke", sent=self.lost)
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for pause, piece in self.pieces:
            await anyio.sleep(pause)
            yield piece
        if self.cut:
            raise WireError("the answer was cut off", sent=True)


def sent(name: str, wire: Slow) -> Outcome:
    transport = HttpTransport(wire, NoonClock(), {"p": Endpoint("p", name, "https://x/v1")})
    return run_virtual(lambda: transport.send(call(), transport.body(call()), lambda _: None)).outcome


LOST: Final = failure("lost")


@each_dialect
def test_a_slow_first_byte_is_waited_for_as_long_as_the_job_says(name: str) -> None:
    """Signs of life prove that the line is open, and not that an answer comes: they gain no time."""
    form = FORMS[name]
    whole, signs = form.begun + form.rest, [(50.0, form.sign)] * 10
    for pieces, after in (([(599.0, whole)], 599.0), ([*signs, (50.0, whole)], 550.0)):
        got = sent(name, Slow(pieces))
        assert essence(got) == reply()
        assert got.first_byte == pytest.approx(after, abs=0.01)
    for pieces in ([(601.0, whole)], [*signs, *signs, (1.0, whole)]):
        late = sent(name, Slow(pieces))
        assert essence(late) == LOST
        assert getattr(late, "detail", "") == "timed out: no data for 600 s, the `first` of its `timeout`"
    halted = sent(name, Slow([(1.0, form.begun), *signs, (1.0, form.rest)]))
    assert essence(halted) == failure("lost", partial="Hi there")


@each_dialect
def test_a_cut_connection_is_charged_unless_nothing_was_sent(name: str) -> None:
    """What came stays beside the failure; after the mark of the end nothing that matters can be cut."""
    form = FORMS[name]
    assert essence(sent(name, Slow([], lost=False))) == failure(money="free")
    assert essence(sent(name, Slow([], lost=True))) == LOST
    assert essence(sent(name, Slow([(1.0, form.sign)], cut=True))) == LOST
    assert essence(sent(name, Slow([(1.0, form.begun)], cut=True))) == failure("lost", partial="Hi there")
    ended = reply() if form.marked else failure("lost", partial="Hi there")
    assert essence(sent(name, Slow([(1.0, form.begun + form.rest)], cut=True))) == ended


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@each_dialect
def test_a_status_comes_to_what_the_contract_says(name: str, status: int) -> None:
    """Where the words say nothing, the status decides, and it is told."""
    for body in SILENT:
        got = told(DIALECTS[name], status, body)
        assert essence(got) == comes_to(name, status), body
        assert (got.status, got.detail[:8]) == (status, f"HTTP {status}")


@pytest.mark.fault(43)
@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
@each_dialect
def test_a_hint_is_taken_when_it_is_one(name: str, status: int) -> None:
    """Seconds, durations, dates and milliseconds; nonsense, and no time at all, are no hint."""
    for headers, wait in WAITS:
        got = told(DIALECTS[name], status, headers=headers)
        assert got.retry_after == wait, headers
        assert {**essence(got), "retry_after": None} == {**comes_to(name, status), "retry_after": None}


@each_of(TROUBLES)
def test_a_trouble_comes_to_what_the_contract_says(name: str, case: str) -> None:
    """How far it reaches, what became of the money, and until when, by the words of each provider."""
    says = COLUMNS[name][case]
    assert isinstance(says, Says)
    got = told(DIALECTS[name], says.status, orjson.dumps(says.body), says.headers)
    expected: dict[str, Any] = {**TROUBLES[case]}
    if says.wait is not None:
        expected["retry_after"] = says.wait
    if case in ("overloaded", "broken"):
        expected = {**STATUSES[says.status]}
    found = essence(got) | ({} if got.quota is None else {"quota": got.quota})
    if name == "ollama" and "parameter" in expected:
        expected["parameter"] = "think"  # the one thing that a model there refuses
    assert found == expected


@pytest.mark.fault(43)
@each_of(RESETS)
def test_when_a_limit_is_lifted_is_read_where_it_stands(name: str, case: str) -> None:
    """In the form of each provider, for a call that was turned away or for the limits that are left."""
    says = COLUMNS[name][case]
    assert isinstance(says, Says)
    dialect = DIALECTS[name]
    if says.status == 200:
        assert [hint.reset for hint in dialect.hints(says.headers, WALL)] == [says.wait]
    else:
        assert told(dialect, says.status, orjson.dumps(says.body), says.headers).retry_after == says.wait
