"""Each thing that can go wrong looks as the vendors make it look, happens when told to, and is billed right."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money import Price, cost
from runner.sim.config import KINDS, PASSING, ModelConfig, Style, fault
from runner.sim.engine import Engine, Fault, Latency, Limits, Mark, SimAnswer, SimConfig, count_tokens
from tests.sim.asking import body, header, heard, mark, provider, raw, read_stream, request

PRICE = Price(Decimal(1), Decimal(5))
MODEL = ModelConfig(PRICE, Style(120, 0.0), reasoning=30, latency=Latency(1.0, 0.01))


def play(told: Fault, *, stream: bool = True, **fields: Any) -> tuple[Engine, SimAnswer]:
    engine = provider(MODEL, faults=(told,))
    return engine, engine.handle(request(stream=stream, **fields), 0.0)


def answered_well() -> str:
    return heard(provider(MODEL).handle(request(), 0.0)).text


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        (fault("busy"), 429, "rate_limit_exceeded"),
        (fault("quota"), 429, "insufficient_quota"),
        (fault("unauthorized"), 401, "invalid_api_key"),
        (fault("no_money"), 402, "payment_required"),
        (fault("forbidden"), 403, "permission_denied"),
        (fault("not_found"), 404, "model_not_found"),
        (fault("context_length"), 400, "context_length_exceeded"),
        (fault("unsupported_parameter", param="max_tokens"), 400, "unsupported_parameter"),
        (fault("server_error", status=500), 500, None),
        (fault("server_error"), 503, None),
        (fault("server_error", status=529), 529, None),
    ],
)
def test_a_refusal_has_its_status_and_code_and_costs_nothing(told: Fault, status: int, code: str | None) -> None:
    """Errors come before any answer, in the vendor's shape, free of charge."""
    engine, answer = play(told)
    assert answer.status == status
    error = json.loads(raw(answer))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert engine.bill.cost == 0
    assert engine.played == {told.kind: 1}
    assert engine.received[0].outcome == told.kind


@pytest.mark.parametrize(
    ("value", "form", "name", "text"),
    [
        (2, "seconds", "retry-after", "2"),
        (1.5, "seconds", "retry-after", "1.5"),
        (-5, "seconds", "retry-after", "-5"),
        (float("nan"), "seconds", "retry-after", "nan"),
        (864_000, "seconds", "retry-after", "864000"),
        ("soon", "seconds", "retry-after", "soon"),
        (120, "date", "retry-after", "Tue, 14 Nov 2023 22:15:30 GMT"),
        (1.5, "ms", "retry-after-ms", "1500"),
        (None, "seconds", "retry-after", None),
    ],
)
def test_a_retry_after_takes_every_form(value: str | float | None, form: str, name: str, text: str | None) -> None:
    """Seconds, floats, dates, milliseconds, nonsense, or nothing at all."""
    told = fault("busy", retry_after=value, retry_form=form)
    answer = provider(MODEL, epoch=1_700_000_000.0, faults=(told,)).handle(request(), 10.0)
    assert header(answer, name) == text
    assert [n for n, _ in answer.headers if n.startswith("retry")] == ([name] if text else [])


def test_a_parameter_is_refused_only_while_it_is_sent() -> None:
    """A client that drops the field that the error names is answered."""
    engine = provider(faults=(fault("unsupported_parameter", param="temperature"),))
    answer = engine.handle(request(temperature=0.5), 0.0)
    assert json.loads(raw(answer))["error"]["param"] == "temperature"
    assert engine.handle(request(), 0.0).status == 200


def test_a_redirect_points_elsewhere() -> None:
    """A 307 names another host, which nobody should follow."""
    _, answer = play(fault("redirect", location="http://elsewhere/"))
    assert (answer.status, header(answer, "location")) == (307, "http://elsewhere/")


def test_a_refused_connection_never_reached_the_provider() -> None:
    """Nothing is received, nothing is billed, and the next attempt counts on."""
    engine = provider(faults=(fault("refused", attempt=(1,)),))
    assert engine.handle(request(), 0.0).pieces[0].what is Mark.REFUSED
    assert (engine.received, engine.bill.accepted, engine.bill.refused) == ([], 0, {})
    assert engine.handle(request(), 0.0).status == 200


# --- the connection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("kind", "expected"), [("cut", Mark.CUT), ("stall", Mark.STALL), ("short", Mark.END), ("reset", Mark.CUT)]
)
def test_an_answer_that_breaks_off_is_billed_in_full(kind: str, expected: Mark, stream: bool) -> None:
    """Some of it came, no more does, and the account is charged as if it had."""
    engine, answer = play(fault(kind), stream=stream)
    whole = provider(MODEL)
    whole_answer = whole.handle(request(stream=stream), 0.0)
    assert mark(answer) is expected
    assert raw(whole_answer).startswith(raw(answer)[:-1])
    assert len(raw(answer)) < len(raw(whole_answer))
    assert engine.bill.charges[1] == whole.bill.charges[1]
    assert engine.bill.cost > 0


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_stream_breaks_after_the_pieces_it_was_told(after: int) -> None:
    """No piece, or exactly so many; never a finish reason or an end mark."""
    _, answer = play(fault("cut", after=after))
    said = read_stream(raw(answer))
    assert raw(answer).count(b'"reasoning_content":') + raw(answer).count(b'"delta":{"content":') == after
    assert (said.finish, said.done, said.usage_given) == (None, 0, False)


def test_silence_sends_not_even_headers() -> None:
    """Nothing comes at all, until the client leaves."""
    engine, answer = play(fault("silent"))
    assert [piece.what for piece in answer.pieces] == [Mark.STALL]
    assert engine.bill.cost > 0


def test_a_slow_body_comes_byte_by_byte() -> None:
    """The same bytes as ever, one at a time."""
    _, answer = play(fault("slow", seconds=0.5))
    assert raw(answer) == raw(provider(MODEL).handle(request(), 0.0))
    assert all(len(piece.what) == 1 for piece in answer.pieces if isinstance(piece.what, bytes))
    assert answer.pieces[5].at - answer.pieces[4].at == pytest.approx(0.5)


def test_a_late_answer_is_only_late() -> None:
    """Twenty minutes to the first byte, then all is well."""
    _, answer = play(fault("late", seconds=1200.0))
    assert heard(answer).text == answered_well()
    first = next(piece for piece in answer.pieces if isinstance(piece.what, bytes) and b"delta" in piece.what)
    assert first.at > 1200
    assert answer.pieces[0].what == b": keep-alive\n\n"


# --- answers that are no reply -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("billed", [True, False])
def test_a_blank_reply_is_blank_and_its_usage_matches_the_bill(stream: bool, billed: bool) -> None:
    """No text, finish reason `stop`; the usage is zero when it is free, and true when it is not."""
    engine, answer = play(fault("blank", billed=billed), stream=stream)
    said = heard(answer)
    assert (said.text, said.reasoning, said.finish) == ("", "", "stop")
    assert said.usage is not None
    assert (said.usage["prompt_tokens"] > 0) == (said.usage["completion_tokens"] > 0) == billed
    assert engine.bill.cost == cost(PRICE, said.usage["prompt_tokens"], said.usage["completion_tokens"])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("told", "text", "finish"),
    [
        (fault("whitespace"), "\n \n", "stop"),
        (fault("thinking_only"), "", "length"),
        (fault("thinking_only", finish="stop"), "", "stop"),
        (fault("filtered", text=False), "", "content_filter"),
        (fault("refusal"), "", "stop"),
    ],
)
def test_an_answer_without_a_reply_is_billed_by_its_usage(told: Fault, text: str, finish: str, stream: bool) -> None:
    """There is usage and a bill, and both agree, but nothing that a reader could see."""
    engine, answer = play(told, stream=stream)
    said = heard(answer)
    assert (said.text, said.finish) == (text, finish)
    assert said.usage is not None
    assert engine.bill.cost == cost(PRICE, said.usage["prompt_tokens"], said.usage["completion_tokens"]) > 0
    assert bool(said.refusal) == (told.kind == "refusal")
    assert bool(said.reasoning)


def test_thinking_that_ends_at_the_limit_used_all_of_it() -> None:
    """`length` without text: the whole limit went into thinking."""
    _, answer = play(fault("thinking_only"), max_tokens=64)
    assert count_tokens(heard(answer).reasoning) in (63, 64)


@pytest.mark.parametrize("kind", ["filtered", "finish_error"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_broken_finish_leaves_part_of_the_text(kind: str, stream: bool) -> None:
    """A filter or an error stops the text in the middle and says so in the finish reason."""
    _, answer = play(fault(kind), stream=stream)
    said = heard(answer)
    assert answered_well().startswith(said.text)
    assert 0 < len(said.text) < len(answered_well())
    assert said.finish == {"filtered": "content_filter", "finish_error": "error"}[kind]
    assert bool(said.errors) == (kind == "finish_error")
    assert said.usage_given == (kind == "filtered")


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_hides_in_a_200(after: int, stream: bool) -> None:
    """The status is 200; the error is in the body, in a stream perhaps after some of the answer."""
    engine, answer = play(fault("error_in_200", after=after, status=529), stream=stream)
    said = heard(answer)
    assert answer.status == 200
    assert [error["code"] for error in said.errors] == [529]
    assert bool(said.text or said.reasoning) == (stream and after > 0)
    assert engine.bill.cost == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("form", ["missing", "null", "strings", "floats", "negative", "huge", "zero"])
def test_bent_usage_says_one_thing_and_the_bill_another(form: str, stream: bool) -> None:
    """The reply is sound, the figures are not, and the provider charges the truth."""
    engine, answer = play(fault("usage", form=form), stream=stream)
    said = heard(answer)
    assert said.text == answered_well()
    charge = engine.bill.charges[1]
    assert charge.cost == cost(PRICE, charge.input, charge.output) > 0
    assert said.usage_given == (form != "missing")
    if form in ("missing", "null"):
        assert said.usage is None
        return
    assert said.usage is not None
    output = said.usage["completion_tokens"]
    expected = {
        "strings": str(charge.output),
        "floats": charge.output + 0.5,
        "negative": -charge.output - 1,
        "huge": 10**18,
        "zero": 0,
    }
    assert output == expected[form]
    assert type(output) is type(expected[form])


@pytest.mark.parametrize("max_tokens", [1, 40, 400])
def test_an_overrun_goes_beyond_the_limit_and_is_billed(max_tokens: int) -> None:
    """A server that ignores max_tokens produces more, says so, and charges it."""
    engine, answer = play(fault("overrun", times=1.5), max_tokens=max_tokens)
    said = heard(answer)
    assert said.usage is not None
    assert said.usage["completion_tokens"] > max_tokens
    assert count_tokens(said.text) > max_tokens
    assert engine.bill.charges[1].output == said.usage["completion_tokens"]
    assert said.finish == "stop"


def test_another_model_may_answer() -> None:
    """The name in the answer is not the one that was asked for."""
    _, answer = play(fault("other_model", served="m-mini"))
    assert heard(answer).model == "m-mini"


@pytest.mark.parametrize("stream", [True, False])
def test_malformed_json_is_malformed(stream: bool) -> None:
    """A 200 whose body no parser accepts, billed all the same."""
    engine, answer = play(fault("malformed"), stream=stream)
    with pytest.raises(ValueError):
        heard(answer)
    assert answer.status == 200
    assert engine.bill.cost > 0


def test_a_captive_portal_answers_in_html() -> None:
    """A 200 that is a page."""
    engine, answer = play(fault("html"))
    assert header(answer, "content-type") == "text/html"
    assert raw(answer).startswith(b"<!doctype html>")
    assert engine.bill.cost == 0


@pytest.mark.parametrize(("kind", "done"), [("twice_done", 2), ("no_done", 0)])
def test_end_marks_may_be_doubled_or_missing(kind: str, done: int) -> None:
    """The answer is whole: a finish reason came, whatever the end mark."""
    _, answer = play(fault(kind))
    said = heard(answer)
    assert (said.text, said.finish, said.done) == (answered_well(), "stop", done)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_fault_can_be_played(kind: str, stream: bool) -> None:
    """No kind breaks the provider itself, and each is told by its answer from a sound one."""
    told = fault(kind, param="max_tokens") if kind == "unsupported_parameter" else fault(kind)
    engine, answer = play(told, stream=stream)
    sound = provider(MODEL).handle(request(stream=stream), 0.0)
    assert engine.played == {kind: 1}
    same = kind in ("twice_done", "no_done") and not stream
    assert ((answer.status, answer.pieces) == (sound.status, sound.pieces)) == same
    assert isinstance(answer.pieces[-1].what, Mark)


# --- when --------------------------------------------------------------------------------------------------------


def statuses(engine: Engine, *asked: tuple[str, str, float]) -> list[int]:
    return [engine.handle(request(text, model), now).status for model, text, now in asked]


def test_requests_are_counted_for_each_model() -> None:
    """`request: 2` is the second one to that model, whoever else asks in between."""
    engine = Engine(SimConfig(models={"m": MODEL, "n": MODEL}, faults=(fault("busy", model="m", request=(2,)),)))
    asked = [("m", "a", 0.0), ("n", "b", 0.0), ("n", "c", 0.0), ("m", "d", 0.0), ("m", "e", 0.0)]
    assert statuses(engine, *asked) == [200, 200, 200, 429, 200]


def test_attempts_are_counted_for_each_conversation() -> None:
    """`attempt: 1` meets every request the first time it is made, whatever its limit or form."""
    engine = provider(MODEL, faults=(fault("busy", attempt=(1,)),))
    assert statuses(engine, ("m", "a", 0.0), ("m", "b", 0.0), ("m", "a", 0.0)) == [429, 429, 200]
    assert engine.handle(request("b", stream=False, max_tokens=7), 0.0).status == 200


def test_a_fault_can_follow_a_text() -> None:
    """`contains` follows one conversation through all its turns."""
    engine = provider(MODEL, faults=(fault("forbidden", contains="storm"),))
    later = [
        {"role": "user", "content": "a storm"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert statuses(engine, ("m", "calm", 0.0), ("m", "the storm", 0.0)) == [200, 403]
    assert engine.handle(request(messages=later), 0.0).status == 403


def test_a_fault_can_begin_and_end() -> None:
    """A burst of errors, counted in seconds from the first request of all."""
    engine = provider(MODEL, faults=(fault("server_error", since=10.0, until=20.0),))
    assert statuses(engine, *(("m", "a", 1000.0 + t) for t in (0.0, 9.9, 10.0, 19.9, 20.0))) == [
        200,
        200,
        503,
        503,
        200,
    ]


def test_the_first_fault_that_fits_happens() -> None:
    """The script comes before a model's own faults, and one request meets one fault."""
    model = ModelConfig(faults=(fault("forbidden"),))
    engine = provider(model, faults=(fault("busy", request=(1,)), fault("quota", request=(1, 2), attempt=(2,))))
    assert statuses(engine, *(("m", "a", 0.0),) * 3) == [429, 429, 403]
    assert engine.played == {"busy": 1, "quota": 1, "forbidden": 1}


@given(st.permutations(range(12)))
def test_rates_do_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    """The same requests meet the same faults, whoever comes first."""
    engine = provider(MODEL, fault_rate=0.5, seed=3)
    played = {n: engine.handle(request(f"Question {n}"), 0.0).pieces for n in order}
    again = provider(MODEL, fault_rate=0.5, seed=3)
    for n in range(12):
        assert [p.at for p in again.handle(request(f"Question {n}"), 0.0).pieces] == [p.at for p in played[n]]
    assert again.played == engine.played


def test_the_mix_meets_its_share_and_all_its_kinds() -> None:
    """Five per cent is five per cent, spread over every kind that passes; the next attempt is drawn anew."""
    engine = provider(MODEL, fault_rate=0.05)
    for n in range(4000):
        engine.handle(request(f"Question {n}"), 0.0)
    assert 150 <= sum(engine.played.values()) <= 250
    assert set(engine.played) == {told.kind for told in PASSING}
    stubborn = provider(MODEL, fault_rate=0.5)
    for _ in range(40):
        stubborn.handle(request("Again"), 0.0)
    assert 10 <= sum(stubborn.played.values()) <= 30
    assert len(stubborn.played) > 3


def test_a_rate_in_the_script_is_a_share_too() -> None:
    """Each scripted kind can have a weight of its own."""
    engine = provider(MODEL, faults=(fault("blank", rate=0.2), fault("busy", rate=0.5)))
    for n in range(1000):
        engine.handle(request(f"Question {n}"), 0.0)
    assert 160 <= engine.played["blank"] <= 240
    assert 340 <= engine.played["busy"] <= 460
    again = provider(MODEL, faults=(fault("busy", rate=0.5),))
    assert {again.handle(request("Again"), 0.0).status for _ in range(40)} == {200, 429}


def test_a_fault_that_a_limit_forestalls_has_not_happened() -> None:
    """A request that is refused for its number is on record as that, and as nothing else."""
    engine = provider(MODEL, faults=(fault("blank"),), limits=Limits(rpm=1))
    assert statuses(engine, ("m", "a", 0.0), ("m", "b", 0.0)) == [200, 429]
    assert engine.played == {"blank": 1}
    assert [r.outcome for r in engine.received] == ["blank", "rpm"]


def test_faults_leave_the_request_as_it_was_sent() -> None:
    """A request that failed is on record like any other."""
    engine = provider(MODEL, faults=(fault("busy"),), keep_bodies=True)
    engine.handle(request(), 0.0)
    assert [r.body for r in engine.received] == [body()]
