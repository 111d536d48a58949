"""One provider in every dialect: the same words, the same bill, each vendor's own way of saying what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money import Price, Tier, cost
from runner.sim.config import KINDS, ModelConfig, Speaks, Style, fault
from runner.sim.dialects import SPEAKERS
from runner.sim.engine import Engine, Fault, Latency, Limits, Mark, SimAnswer, SimConfig, SimRequest
from tests.sim.asking import header, mark, raw
from tests.sim.tongues import (
    ANTHROPIC,
    FORMATS,
    GEMINI,
    MISTRAL,
    OLLAMA,
    OPENROUTER,
    PLAIN,
    RESPONSES,
    TALK,
    TOGETHER,
    TONGUES,
    ZAI,
    Said,
    Tongue,
)

PRICE = Price(Decimal(1), Decimal(5), cache_read=Decimal("0.1"), cache_write=Decimal("1.25"))
MODEL = ModelConfig(
    PRICE, Style(120, 0.0), reasoning=40, latency=Latency(1.0, 0.01, keep_alive=0.4), cached=0.5, cache_written=0.25
)
WALL = 1_795_262_400.0  # 2026-11-21 12:00 UTC

each = pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.name)
each_format = pytest.mark.parametrize("tongue", FORMATS, ids=lambda tongue: tongue.name)
streamed = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def play(tongue: Tongue, told: Fault | None, *, stream: bool = True, **fields: Any) -> tuple[Engine, SimAnswer]:
    engine = tongue.provider(MODEL, faults=() if told is None else (told,), epoch=WALL)
    return engine, engine.handle(tongue.ask(stream=stream, **fields), 0.0)


def plainly(**fields: Any) -> tuple[Engine, Said]:
    """The same request in plain chat."""
    engine, answer = play(PLAIN, None, **fields)
    return engine, PLAIN.said(answer)


def error_of(answer: SimAnswer) -> Any:
    return json.loads(raw(answer))["error"]


# --- the same in every dialect -----------------------------------------------------------------------------------


@streamed
@each
def test_the_same_request_has_the_same_words_and_the_same_bill(tongue: Tongue, stream: bool) -> None:
    """Text, thinking and every figure of the bill are those of plain chat, whatever the format."""
    engine, answer = play(tongue, None, stream=stream)
    reference, expected = plainly()
    said = tongue.said(answer)
    assert answer.status == 200
    assert (said.text, said.reasoning) == (expected.text, expected.reasoning)
    assert said.finish == tongue.finish("stop")
    assert (said.input, said.output) == (expected.input, expected.output)
    assert said.cached in (expected.cached, None)
    assert engine.bill.charges == reference.bill.charges
    assert engine.bill.cost == cost(PRICE, said.input, said.output, expected.cached, engine.bill.charges[1].written)
    assert said.error is None


@streamed
@each_format
def test_a_text_that_the_limit_cuts_says_so(tongue: Tongue, stream: bool) -> None:
    """The vendor's word for it, and the whole limit in the usage."""
    said = tongue.said(play(tongue, None, stream=stream, max_tokens=80)[1])
    assert said.finish == tongue.finish("length")
    assert said.text
    assert said.output in (79, 80)


@pytest.mark.parametrize(
    ("tongue", "fields"),
    [
        (PLAIN, {"stop": ["."]}),
        (ANTHROPIC, {"stop_sequences": ["."]}),
        (GEMINI, {"stopSequences": ["."]}),
        (OLLAMA, {"options": {"stop": ["."]}}),
    ],
    ids=lambda value: value.name if isinstance(value, Tongue) else "",
)
def test_a_stop_text_ends_an_answer_before_it(tongue: Tongue, fields: dict[str, Any]) -> None:
    """What was written up to there is the answer; what is billed is what was written."""
    engine, answer = play(tongue, None, **fields)
    whole = plainly()[1]
    said = tongue.said(answer)
    assert said.text == whole.text.partition(".")[0]
    assert said.finish == ("stop_sequence" if tongue is ANTHROPIC else tongue.finish("stop"))
    assert engine.bill.charges[1].output == said.output < whole.output


NO_THINKING: list[tuple[Tongue, dict[str, Any]]] = [
    (PLAIN, {"reasoning_effort": "none"}),
    (OPENROUTER, {"reasoning": {"enabled": False}}),
    (OPENROUTER, {"reasoning": {"effort": "none"}}),
    (ZAI, {"thinking": {"type": "disabled"}}),
    (ANTHROPIC, {"thinking": {"type": "disabled"}}),
    (RESPONSES, {"reasoning": {"effort": "none", "summary": "auto"}}),
    (GEMINI, {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": True}}),
    (OLLAMA, {"think": False}),
]


@pytest.mark.parametrize(("tongue", "fields"), NO_THINKING, ids=lambda value: getattr(value, "name", ""))
def test_a_model_that_may_not_think_says_the_same_for_less(tongue: Tongue, fields: dict[str, Any]) -> None:
    """The words do not depend on the thinking, the bill does."""
    engine, answer = play(tongue, None, **fields)
    said, whole = tongue.said(answer), plainly()[1]
    assert (said.text, said.reasoning) == (whole.text, "")
    assert engine.bill.charges[1].reasoning == 0
    assert said.output < whole.output


HIDDEN: list[tuple[Tongue, dict[str, Any]]] = [
    (OPENROUTER, {"reasoning": {"exclude": True}}),
    (ANTHROPIC, {"thinking": {"type": "adaptive", "display": "omitted"}}),
    (RESPONSES, {"reasoning": {}}),
    (GEMINI, {"thinkingConfig": {}}),
]


@streamed
@pytest.mark.parametrize(("tongue", "fields"), HIDDEN, ids=lambda value: getattr(value, "name", ""))
def test_thinking_that_is_not_shown_is_billed_all_the_same(
    tongue: Tongue, fields: dict[str, Any], stream: bool
) -> None:
    """Not a word of it comes, and every token of it counts."""
    engine, answer = play(tongue, None, stream=stream, **fields)
    said, whole = tongue.said(answer), plainly()[1]
    assert (said.text, said.reasoning, said.output) == (whole.text, "", whole.output)
    assert engine.bill.charges[1].reasoning > 0


def test_thinking_has_at_most_the_tokens_that_it_was_given() -> None:
    """A share of the limit by its effort, or a number."""
    for tongue, fields, most in (
        (PLAIN, {"reasoning_effort": "minimal", "max_tokens": 100}, 10),
        (OPENROUTER, {"reasoning": {"max_tokens": 7}}, 7),
        (GEMINI, {"thinkingConfig": {"thinkingBudget": 5}}, 5),
        (OLLAMA, {"think": "low", "max_tokens": 100}, 20),
    ):
        engine, _ = play(tongue, None, **fields)
        assert 0 < engine.bill.charges[1].reasoning <= most


@each
def test_a_key_is_asked_for_where_the_vendor_has_it(tongue: Tongue) -> None:
    """The right one in the right header is let in, and nothing else."""
    engine = tongue.provider(MODEL, keys=("right",))
    assert engine.handle(tongue.ask(headers=tongue.keyed("right")), 0.0).status == 200
    for headers in (tongue.keyed("wrong"), {}):
        answer = engine.handle(tongue.ask(headers=headers), 0.0)
        # Gemini calls a bad key a bad argument.
        assert answer.status == (400 if tongue is GEMINI else 401)
    assert engine.bill.refused == {"unauthorized": 2}


# --- faults ------------------------------------------------------------------------------------------------------


@streamed
@each
def test_every_kind_of_fault_can_be_played_in_every_dialect(tongue: Tongue, stream: bool) -> None:
    """No kind breaks a dialect, and whatever is billed is billed as in plain chat, where the vendor bills it."""
    limit = {"gemini": "maxOutputTokens", "ollama": "num_predict", "responses": "max_output_tokens"}
    for kind in KINDS:
        told, plain = fault(kind), fault(kind)
        if kind == "unsupported_parameter":
            told, plain = fault(kind, param=limit.get(tongue.name, "max_tokens")), fault(kind, param="max_tokens")
        engine, answer = play(tongue, told, stream=stream)
        assert engine.played == {kind: 1}
        assert isinstance(answer.pieces[-1].what, Mark), kind
        if not (tongue is ANTHROPIC and kind == "refusal"):
            assert engine.bill.charges == play(PLAIN, plain)[0].bill.charges, kind


STATUSES: dict[str, dict[str, int]] = {
    "busy": {"ollama": 503, "llamacpp": 503},
    "quota": {"openrouter": 402, "deepseek": 402},
    "spend": {"openrouter": 402, "deepseek": 402},
    "no_money": {"gemini": 429, "zai": 429},
    "afford": {"gemini": 429, "zai": 429},
    "unauthorized": {"gemini": 400},
    "not_found": {"openrouter": 400, "zai": 400},
    "unprocessable": {"anthropic": 400, "gemini": 400, "ollama": 400},
    "moderated": {"gemini": 200, "openrouter": 403},
    "loading": {"anthropic": 529},
}
USUAL = {
    "busy": 429,
    "quota": 429,
    "day": 429,
    "spend": 429,
    "no_money": 402,
    "afford": 402,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "context_length": 400,
    "too_large": 413,
    "unprocessable": 422,
    "moderated": 400,
    "loading": 503,
    "redirect": 307,
}


@each
def test_a_refusal_has_the_vendors_status_and_costs_nothing(tongue: Tongue) -> None:
    """Where vendors agree the status is the usual one; where they do not, it is theirs."""
    for kind, usual in USUAL.items():
        engine, answer = play(tongue, fault(kind))
        assert answer.status == STATUSES.get(kind, {}).get(tongue.name, usual), kind
        assert engine.bill.accepted == 0
        assert engine.received[0].outcome == kind


@each
def test_a_server_error_keeps_its_status(tongue: Tongue) -> None:
    """Every dialect has an error object for it."""
    for status in (408, 409, 498, 500, 502, 503, 504, 524, 529):
        _, answer = play(tongue, fault("server_error", status=status))
        assert answer.status == status
        assert error_of(answer)


def words(tongue: Tongue, kind: str, *path: str, **told: Any) -> Any:
    """One word of the error that a fault brings."""
    found = json.loads(raw(play(tongue, fault(kind, **told))[1]))["error"]
    for name in path:
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def test_errors_have_the_words_that_a_client_branches_on() -> None:
    """Types, codes and details by which a vendor tells one trouble from another."""
    assert words(PLAIN, "quota", "code") == "insufficient_quota"
    assert words(PLAIN, "spend", "code") == "credit_balance_exhausted"
    assert words(RESPONSES, "moderated", "code") == "invalid_prompt"
    assert words(ANTHROPIC, "no_money", "type") == "billing_error"
    assert words(ANTHROPIC, "not_found", "type") == "not_found_error"
    assert words(ANTHROPIC, "too_large", "type") == "request_too_large"
    assert words(ANTHROPIC, "server_error", "type", status=529) == "overloaded_error"
    assert words(ANTHROPIC, "server_error", "type", status=504) == "timeout_error"
    assert words(ANTHROPIC, "spend", "details", "error_code") == "enforced_spend_limit_reached"
    assert words(ANTHROPIC, "spend", "type", status=400) == "invalid_request_error"
    assert "2026-12-01 at 00:00 UTC" in words(ANTHROPIC, "spend", "message", status=400)
    assert words(GEMINI, "busy", "status") == "RESOURCE_EXHAUSTED"
    assert words(GEMINI, "unauthorized", "details", "0", "reason") == "API_KEY_INVALID"
    assert words(GEMINI, "server_error", "status", status=504) == "DEADLINE_EXCEEDED"
    assert words(OPENROUTER, "no_money", "metadata", "error_type") == "payment_required"
    assert words(OPENROUTER, "context_length", "metadata", "error_type") == "context_length_exceeded"
    assert words(OPENROUTER, "server_error", "metadata", "error_type", status=502) == "provider_unavailable"
    assert words(OPENROUTER, "not_found", "availability") == {"code": "model_not_found", "retryable": False}
    assert words(OPENROUTER, "busy", "availability", retry_after=3) == {
        "code": "capacity_exhausted",
        "retryable": True,
        "retry_after": 3.0,
    }
    assert words(OLLAMA, "busy") == "server busy, please try again. maximum pending requests exceeded"
    assert words(OLLAMA, "not_found") == "model 'm' not found"
    assert [words(ZAI, kind, "code") for kind in ("busy", "no_money", "not_found", "context_length", "moderated")] == [
        *("1305", "1113", "1211", "1261", "1301")
    ]


def test_a_model_may_refuse_a_temperature_as_long_as_it_is_sent() -> None:
    """400 with its name, in the vendor's words, whether it stands at the top of a request or within."""
    told = fault("unsupported_parameter", param="temperature")
    for tongue in (PLAIN, ANTHROPIC, RESPONSES, GEMINI):
        answer = play(tongue, told, temperature=0.5)[1]
        assert answer.status == 400
        assert "temperature" in error_of(answer)["message"]
        assert play(tongue, told)[1].status == 200


def test_a_model_that_cannot_think_says_so_in_ollamas_words() -> None:
    """The field is refused by name, as long as it is sent."""
    told = fault("unsupported_parameter", param="think")
    assert error_of(play(OLLAMA, told, think=True)[1]) == '"m" does not support thinking'
    assert play(OLLAMA, told)[1].status == 200


def test_a_spent_account_is_told_no_time_by_anthropic_and_a_busy_one_always() -> None:
    """Without a Retry-After a 429 means money there."""
    assert header(play(ANTHROPIC, fault("spend"))[1], "retry-after") is None
    assert header(play(ANTHROPIC, fault("quota", retry_after=5))[1], "retry-after") is None
    assert header(play(ANTHROPIC, fault("busy"))[1], "retry-after") == "1"
    assert header(play(ANTHROPIC, fault("busy", retry_after=7))[1], "retry-after") == "7"


def gemini_details(told: Fault) -> tuple[str, dict[str, Any]]:
    error = error_of(play(GEMINI, told)[1])
    return error["message"], {row["@type"].rpartition(".")[2]: row for row in error["details"]}


def test_gemini_says_when_to_come_again_in_a_detail_and_in_its_message() -> None:
    """No header does; a time may be in the message alone, and another quota is another name."""
    message, details = gemini_details(fault("busy", retry_after=46))
    assert details["RetryInfo"]["retryDelay"] == "46s"
    assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]
    assert "Please retry in 46s." in message
    message, details = gemini_details(fault("busy", retry_after=36_905.7, retry_form="date"))
    assert "RetryInfo" not in details
    assert "Please retry in 10h15m5.7s." in message
    _, details = gemini_details(fault("day"))
    assert "PerDay" in details["QuotaFailure"]["violations"][0]["quotaId"]
    assert details["RetryInfo"]["retryDelay"] == "43200s"
    message, details = gemini_details(fault("no_money"))
    assert details["QuotaFailure"]["violations"][0]["quotaValue"] == "0"
    assert "limit: 0" in message
    assert not [name for name, _ in play(GEMINI, fault("busy", retry_after=46))[1].headers if "retry" in name]


def test_a_quota_of_the_day_names_the_time_of_its_return() -> None:
    """Noon, and so half a day; Z.ai says it as a time on its own clock."""
    assert header(play(PLAIN, fault("day"))[1], "retry-after") == "43200"
    assert words(ZAI, "day", "code") == "1308"
    assert words(ZAI, "day", "message").endswith("2026-11-22 08:00:00")
    answer = play(OPENROUTER, fault("day"))[1]
    assert header(answer, "x-ratelimit-remaining") == "0"
    assert header(answer, "x-ratelimit-reset") == str(int((WALL + 43_200) * 1000))


def test_a_router_says_how_much_could_be_paid_and_answers_who_asks_for_less() -> None:
    """402 belongs to the request, not to the account."""
    told = fault("afford", afford=90)
    engine, answer = play(OPENROUTER, told)
    assert answer.status == 402
    assert "requested up to 400 tokens, but can only afford 90." in error_of(answer)["message"]
    assert engine.handle(OPENROUTER.ask(max_tokens=90), 1.0).status == 200


def test_a_vendor_may_advise_against_or_for_another_attempt() -> None:
    """A header at those who have one, availability at the router."""
    for tongue in (PLAIN, ANTHROPIC):
        for advice in (True, False):
            answer = play(tongue, fault("server_error", status=500, should_retry=advice))[1]
            assert header(answer, "x-should-retry") == str(advice).lower()
    assert words(OPENROUTER, "busy", "availability", "retryable", should_retry=False) is False
    assert header(play(PLAIN, fault("server_error"))[1], "x-should-retry") is None


@streamed
@each_format
def test_an_error_hides_in_a_200_in_every_dialect(tongue: Tongue, stream: bool) -> None:
    """After some of the answer in a stream, in its place in one body; and no word says that it is over well."""
    _, answer = play(tongue, fault("error_in_200", after=4, status=529), stream=stream)
    said = tongue.said(answer)
    assert answer.status == 200
    assert said.error
    assert bool(said.text or said.reasoning) == stream
    # Chat has a finish reason for it, and its end mark follows; nobody else has either.
    assert said.finish == {True: {"plain": "error", "openrouter": "error"}.get(tongue.name)}.get(stream) or (
        tongue is RESPONSES and said.finish == "failed"
    )


@streamed
@each_format
def test_a_finish_that_is_an_error_is_one_in_every_dialect(tongue: Tongue, stream: bool) -> None:
    """Part of the text, and an error where the reason for the end would stand."""
    _, answer = play(tongue, fault("finish_error"), stream=stream)
    said = tongue.said(answer)
    assert answer.status == 200
    assert said.error
    assert said.finish in ("error", "failed", None)


@streamed
@each
def test_a_blank_reply_is_blank_in_every_dialect(tongue: Tongue, stream: bool) -> None:
    """No text and no thinking, for no money unless it is said to cost some."""
    engine, answer = play(tongue, fault("blank"), stream=stream)
    said = tongue.said(answer)
    assert (said.text, said.reasoning) == ("", "")
    assert not said.output
    assert engine.bill.cost == 0
    engine, answer = play(tongue, fault("blank", billed=True), stream=stream)
    assert tongue.said(answer).output == engine.bill.charges[1].output == 1


def test_a_blank_reply_of_gemini_has_no_candidate() -> None:
    """Nothing to read a finish reason from."""
    rows = [json.loads(row[6:]) for row in raw(play(GEMINI, fault("blank"))[1]).split(b"\r\n\r\n") if row]
    assert all("candidates" not in row for row in rows)


def test_a_prompt_that_gemini_blocks_is_a_200_without_a_candidate() -> None:
    """The feedback on the prompt says why, in a stream too."""
    for stream in (True, False):
        answer = play(GEMINI, fault("moderated"), stream=stream)[1]
        assert answer.status == 200
        assert GEMINI.said(answer).error == {"blockReason": "PROHIBITED_CONTENT"}


@streamed
@each
def test_thinking_alone_is_no_answer_in_any_dialect(tongue: Tongue, stream: bool) -> None:
    """The whole limit went into thoughts, and is billed."""
    engine, answer = play(tongue, fault("thinking_only"), stream=stream, max_tokens=64)
    said = tongue.said(answer)
    assert (said.text, said.finish) == ("", tongue.finish("length"))
    assert said.reasoning
    assert said.output == engine.bill.charges[1].output in (63, 64)


@streamed
@each
def test_a_filter_stops_a_text_in_the_middle(tongue: Tongue, stream: bool) -> None:
    """The reason for the end is the vendor's; Ollama has none for it."""
    said = tongue.said(play(tongue, fault("filtered"), stream=stream)[1])
    assert said.finish == tongue.finish("content_filter")
    assert said.text and plainly()[1].text.startswith(said.text)


@streamed
def test_a_refusal_is_an_answer_at_anthropic_that_is_not_billed(stream: bool) -> None:
    """Status 200, no word, `refusal`: as long as nothing was said, nothing is charged."""
    engine, answer = play(ANTHROPIC, fault("refusal"), stream=stream)
    said = ANTHROPIC.said(answer)
    assert (answer.status, said.text, said.finish) == (200, "", "refusal")
    assert engine.bill.accepted == 1
    assert engine.bill.cost == 0
    assert GEMINI.said(play(GEMINI, fault("refusal"), stream=stream)[1]).finish == "PROHIBITED_CONTENT"


@streamed
@each
def test_a_reason_for_the_end_may_be_a_word_that_nobody_knows(tongue: Tongue, stream: bool) -> None:
    """The reply is sound all the same."""
    said = tongue.said(play(tongue, fault("unknown_finish", word="eldritch"), stream=stream)[1])
    assert said.finish == "eldritch"
    assert said.text == plainly()[1].text


@streamed
@each
def test_bent_usage_is_bent_in_every_dialect(tongue: Tongue, stream: bool) -> None:
    """The figures are nobody's to believe, and the bill is the truth."""
    reference, whole = plainly()
    shapes = {"strings": str, "floats": float, "negative": int, "huge": int, "zero": int, "missing": None, "null": None}
    for form, shape in shapes.items():
        engine, answer = play(tongue, fault("usage", form=form), stream=stream)
        said = tongue.said(answer)
        assert said.text == whole.text
        assert engine.bill.charges == reference.bill.charges
        if shape is None or (tongue is OLLAMA and form == "zero"):
            assert said.output is None, form
            continue
        assert type(said.output) is shape, form
        assert said.output != whole.output
        assert form != "negative" or float(said.output) < 0
        assert form != "huge" or float(said.output) >= 1e18


@each
def test_a_kept_connection_shows_signs_of_life(tongue: Tongue) -> None:
    """Comments, pings or blank lines between the pieces change nothing in the answer."""
    engine, answer = play(tongue, fault("comments"))
    quiet = play(tongue, None)[1]
    said, whole = tongue.said(answer), tongue.said(quiet)
    assert (said.text, said.reasoning, said.finish) == (whole.text, whole.reasoning, whole.finish)
    assert raw(answer) != raw(quiet)
    assert tongue is OLLAMA or said.signs > whole.signs
    assert engine.bill.cost > 0


def test_only_those_who_do_it_keep_a_quiet_stream_alive() -> None:
    """Comments at the router and the chat servers, pings after the start at Anthropic; nothing at Gemini and Ollama."""
    signs = {tongue.name: tongue.said(play(tongue, None)[1]).signs for tongue in FORMATS}
    assert signs == {"plain": 2, "openrouter": 2, "anthropic": 2, "responses": 2, "gemini": 0, "ollama": 0}
    assert b": OPENROUTER PROCESSING\n\n" in raw(play(OPENROUTER, None)[1])
    first = play(ANTHROPIC, None)[1].pieces[0]
    assert isinstance(first.what, bytes)
    assert first.what.startswith(b"event: message_start\n") and first.what.endswith(
        b'event: ping\ndata: {"type":"ping"}\n\n'
    )


def test_deepseek_sends_blank_lines_before_a_plain_answer() -> None:
    """White space is no harm to JSON."""
    tongue = next(tongue for tongue in TONGUES if tongue.name == "deepseek")
    answer = play(tongue, None, stream=False)[1]
    assert raw(answer).startswith(b"\n\n{")
    assert tongue.said(answer).text == plainly()[1].text


@each
def test_what_is_cut_or_malformed_ends_before_its_end(tongue: Tongue) -> None:
    """Neither has a reason for the end; malformed is what no parser takes."""
    for kind in ("cut", "short", "stall"):
        said = tongue.said(play(tongue, fault(kind, after=3))[1])
        assert (said.finish, said.over) == (None, False)
        assert said.text or said.reasoning
    with pytest.raises(ValueError):
        tongue.said(play(tongue, fault("malformed"))[1])


def test_the_end_mark_of_a_stream_is_the_vendors() -> None:
    """Doubled or missing; without it an answer of Ollama or of Responses is not whole."""
    for tongue in (PLAIN, ANTHROPIC, RESPONSES, OLLAMA):
        whole, without, twice = (play(tongue, told)[1] for told in (None, fault("no_done"), fault("twice_done")))
        end = raw(whole).removeprefix(raw(without))
        assert raw(whole) == raw(without) + end
        assert raw(twice) == raw(whole) + end
        assert not tongue.said(without).over
        assert bool(tongue.said(without).finish) == (tongue in (PLAIN, ANTHROPIC))


@each
def test_a_replayed_answer_counts_nothing_and_costs_nothing(tongue: Tongue) -> None:
    """The router says in a header that it was a hit."""
    engine, answer = play(tongue, fault("replayed"))
    said = tongue.said(answer)
    assert said.text == plainly()[1].text
    assert not said.output
    assert engine.bill.cost == 0
    assert header(answer, "x-openrouter-cache-status") == ("HIT" if tongue is OPENROUTER else None)


# --- strict readers ----------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "Hi."}
REPLY = {"role": "assistant", "content": "x"}
PARTS = {"role": "user", "parts": [{"text": "Hi."}]}
BAD: list[tuple[Tongue, dict[str, Any]]] = [
    (ANTHROPIC, {"max_tokens": None}),
    (ANTHROPIC, {"max_tokens": 0}),
    (ANTHROPIC, {"messages": []}),
    (ANTHROPIC, {"messages": [REPLY, USER]}),
    (ANTHROPIC, {"messages": [USER, USER]}),
    (ANTHROPIC, {"messages": [USER, REPLY]}),
    (ANTHROPIC, {"messages": [{"role": "system", "content": "x"}, USER]}),
    (ANTHROPIC, {"messages": [{"role": "user", "content": " "}]}),
    (ANTHROPIC, {"messages": [{**USER, "name": "a"}]}),
    (ANTHROPIC, {"seed": 1}),
    (ANTHROPIC, {"temperature": 1.5}),
    (ANTHROPIC, {"thinking": {"type": "enabled", "budget_tokens": 100}}),
    (ANTHROPIC, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    (ANTHROPIC, {"thinking": {"type": "sometimes"}}),
    (RESPONSES, {"max_output_tokens": None}),
    (RESPONSES, {"max_completion_tokens": 5}),
    (RESPONSES, {"messages": [USER]}),
    (RESPONSES, {"input": []}),
    (RESPONSES, {"input": [USER, REPLY]}),
    (RESPONSES, {"input": [USER, USER]}),
    (RESPONSES, {"stop": "."}),
    (RESPONSES, {"background": True}),
    (GEMINI, {"maxOutputTokens": 0}),
    (GEMINI, {"maxTokens": 5}),
    (GEMINI, {"candidateCount": 2}),
    (GEMINI, {"stopSequences": ["a", "b", "c", "d", "e", "f"]}),
    (GEMINI, {"thinkingConfig": {"thinkingLevel": "HUGE"}}),
    (OLLAMA, {"messages": [USER, REPLY]}),
    (OLLAMA, {"num_predict": 5}),
    (OLLAMA, {"options": {"num_ctx": 0}}),
    (OLLAMA, {"options": {"max_tokens": 5}}),
    (OLLAMA, {"options": {"temperature": "hot"}}),
    (OLLAMA, {"think": "hard"}),
    (OPENROUTER, {"provider": {"cheapest": True}}),
    (OPENROUTER, {"plugins": {}}),
    (OPENROUTER, {"reasoning": {"effort": "low", "max_tokens": 5}}),
    (OPENROUTER, {"foo": 1}),
    (ZAI, {"max_completion_tokens": 5, "max_tokens": None}),
]


@pytest.mark.parametrize(("tongue", "fields"), BAD, ids=lambda value: getattr(value, "name", ""))
def test_a_strict_vendor_refuses_what_is_not_in_order(tongue: Tongue, fields: Mapping[str, Any]) -> None:
    """Each breach of a format is a 400 that costs nothing."""
    asked = tongue.ask(**fields)
    kept = {name: value for name, value in json.loads(asked.body).items() if value is not None}
    engine = tongue.provider(MODEL)
    answer = engine.handle(SimRequest("POST", asked.path, asked.headers, json.dumps(kept).encode()), 0.0)
    assert answer.status == 400
    assert engine.bill.refused == {"invalid": 1}
    assert engine.handle(tongue.ask(), 0.0).status == 200


@pytest.mark.parametrize(
    "contents",
    [[], [{**PARTS, "role": "assistant"}], [PARTS, PARTS], [PARTS, {**PARTS, "role": "model"}], [{"parts": []}]],
)
def test_gemini_wants_its_own_roles_in_turn(contents: list[dict[str, Any]]) -> None:
    """`user` and `model`, the user first and last, and never without text."""
    body = json.dumps({"contents": contents, "generationConfig": {"maxOutputTokens": 5}}).encode()
    path = "/v1/models/m:generateContent"
    assert GEMINI.provider().handle(SimRequest("POST", path, {}, body), 0.0).status == 400


def test_a_request_of_anthropic_has_a_version_and_one_key() -> None:
    """Without the one, or with two of the other, it is not looked at."""
    asked = ANTHROPIC.ask()
    engine = ANTHROPIC.provider()
    two = {**asked.headers, "x-api-key": "a", "authorization": "Bearer a"}
    for headers in ({}, two):
        assert engine.handle(SimRequest("POST", asked.path, headers, asked.body), 0.0).status == 400


def test_a_text_may_end_in_white_space() -> None:
    """Only what is put into the mouth of the model may not, and that is refused altogether."""
    for tongue in TONGUES:
        assert tongue.provider().handle(tongue.ask(talk=("Hi.\n",)), 0.0).status == 200


@pytest.mark.parametrize(
    ("tongue", "base"),
    [
        *((tongue, "") for tongue in (PLAIN, ANTHROPIC, RESPONSES, GEMINI, OPENROUTER)),
        *((tongue, "/v1/messages") for tongue in (ANTHROPIC, GEMINI)),
        *((tongue, "/v1/chat/completions") for tongue in (PLAIN, OLLAMA)),
        (PLAIN, "/v1/chat"),
        (GEMINI, "/v1beta/models"),
    ],
)
def test_an_address_that_is_too_long_or_too_short_leads_nowhere(tongue: Tongue, base: str) -> None:
    """As it is at the vendors: with a wrong `base_url` nobody answers, and nothing is billed."""
    asked, engine = tongue.ask(), tongue.provider()
    right = re.match(r"/v1(beta)?", asked.path)
    assert right is not None
    path = base + asked.path[right.end() :]
    assert engine.handle(SimRequest("POST", path, asked.headers, asked.body), 0.0).status in (404, 405)
    assert engine.bill.accepted == 0


def test_a_window_that_is_full_with_the_output_is_told_with_both_figures() -> None:
    """A prompt that is shorter than the window is not said to be longer."""
    for tongue in (ANTHROPIC, GEMINI):
        model = replace(MODEL, context=410)
        answer = tongue.provider(model).handle(tongue.ask(max_tokens=400), 0.0)
        assert answer.status == 400
        numbers = [int(number) for number in re.findall(r"\d+", error_of(answer)["message"])]
        assert numbers[1:] == [400, 410] and numbers[0] < 410


def test_a_key_in_an_address_is_refused() -> None:
    """It would stand in every log; and a stream of Gemini is one of events."""
    asked = GEMINI.ask()
    for path in (f"{asked.path}&key=secret", "/v1/models/m:streamGenerateContent"):
        assert GEMINI.provider().handle(SimRequest("POST", path, {}, asked.body), 0.0).status == 400


def test_mistral_has_another_name_for_the_seed_and_says_which_field_is_wrong() -> None:
    """422, with the place of the field."""
    engine = MISTRAL.provider()
    assert engine.handle(MISTRAL.ask(random_seed=3), 0.0).status == 200
    answer = engine.handle(MISTRAL.ask(seed=3), 0.0)
    assert answer.status == 422
    assert json.loads(raw(answer))["detail"][0]["loc"] == ["body", "seed"]


def test_mistral_speaks_in_parts_and_together_has_a_word_of_its_own() -> None:
    """Thinking is a part of the content; `eos` is an end like any other."""
    body = json.loads(raw(play(MISTRAL, None, stream=False)[1]))
    assert [part["type"] for part in body["choices"][0]["message"]["content"]] == ["thinking", "text"]
    assert TOGETHER.said(play(TOGETHER, None)[1]).finish == "eos"


def test_a_router_finds_nobody_who_is_as_cheap_as_is_asked() -> None:
    """A 404, and no bill; at just the price it answers."""
    engine = OPENROUTER.provider(ModelConfig(Price(Decimal(1), Decimal(4))))
    for cap, status in (
        ({"prompt": 1, "completion": 3.9}, 404),
        ({"prompt": 0.9}, 404),
        ({"completion": 4, "prompt": 1}, 200),
        ({}, 200),
        ({"completion": "4"}, 400),
        ({"completion": -1}, 400),
    ):
        answer = engine.handle(OPENROUTER.ask(provider={"max_price": cap}), 0.0)
        assert answer.status == status, cap
        if status == 404:
            assert error_of(answer)["availability"] == {"code": "constraint_filtered", "retryable": False}
            assert answer.id not in engine.bill.charges
    assert engine.bill.refused["too_dear"] == 2


def test_a_router_drops_what_a_model_does_not_take_unless_it_is_required() -> None:
    """In silence, or as a 404 that no endpoint is left."""
    engine = OPENROUTER.provider(MODEL, faults=(fault("unsupported_parameter", param="temperature"),))
    assert engine.handle(OPENROUTER.ask(temperature=0.5), 0.0).status == 200
    answer = engine.handle(OPENROUTER.ask(temperature=0.5, provider={"require_parameters": True}), 0.0)
    assert (answer.status, error_of(answer)["availability"]["code"]) == (404, "constraint_filtered")


@each_format
@given(
    data=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["role", "content", "parts", "text", "type"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(
        lambda tree: json.dumps(
            {"model": "m", "messages": tree, "input": tree, "contents": tree, "max_tokens": 5, "options": tree}
        ).encode()
    )
)
def test_no_body_can_break_any_dialect(tongue: Tongue, data: bytes) -> None:
    """Whatever arrives, an answer leaves."""
    asked = tongue.ask()
    engine = tongue.provider()
    one = {name: value for name, value in _tree(data).items() if name in _tree(asked.body)}
    for body in (data, json.dumps(_tree(asked.body) | one).encode()):
        answer = engine.handle(SimRequest("POST", asked.path, asked.headers, body), 0.0)
        assert answer.status in (200, 400)


def _tree(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- windows -----------------------------------------------------------------------------------------------------

LONG = tuple(f"Number {n}. " + "and so on " * 40 for n in range(9))
"""A conversation of about a thousand tokens."""


def test_ollama_refuses_what_is_too_long_when_it_may_not_cut() -> None:
    """`truncate: false` makes an error of what else would be silence."""
    answer = play(OLLAMA, None, talk=LONG, options={"num_ctx": 512})[1]
    assert answer.status == 400
    assert "too long" in error_of(answer)


def test_ollama_cuts_the_oldest_messages_in_silence() -> None:
    """200, and nothing tells but the count of the prompt: the system text and the last messages stay."""
    model = ModelConfig(PRICE, Style(echo=True))
    engine = OLLAMA.provider(model)
    options = {"num_ctx": 512, "num_predict": 200}
    said = OLLAMA.said(engine.handle(OLLAMA.ask(LONG, truncate=True, shift=True, options=options), 0.0))
    assert said.text == LONG[-1]
    assert 256 < said.input <= 512
    assert engine.bill.charges[1].input == said.input
    assert OLLAMA.said(engine.handle(OLLAMA.ask(LONG, truncate=True), 0.0)).input > 900


def test_a_prompt_that_is_still_too_long_for_ollama_fills_half_the_window() -> None:
    """The count of the prompt collapses."""
    engine = OLLAMA.provider(MODEL)
    said = OLLAMA.said(engine.handle(OLLAMA.ask(LONG[:1], truncate=True, options={"num_ctx": 64}), 0.0))
    assert said.input == 34


def test_output_ends_where_the_window_of_ollama_does() -> None:
    """Without `shift` nothing makes room for it."""
    engine = OLLAMA.provider(ModelConfig(reply=Style(200, 0.0)))
    said = OLLAMA.said(engine.handle(OLLAMA.ask(options={"num_ctx": 80}), 0.0))
    assert said.finish == "length"
    assert said.input + said.output in (79, 80)


def test_whoever_asks_ollama_for_no_window_has_a_small_one() -> None:
    """4,096 tokens."""
    many = tuple(f"{n} " + "and so on " * 400 for n in range(5))
    asked = OLLAMA.ask(many)
    body = json.loads(asked.body)
    del body["options"]["num_ctx"]
    engine = OLLAMA.provider()
    assert engine.handle(SimRequest("POST", asked.path, {}, json.dumps(body).encode()), 0.0).status == 400
    assert engine.handle(asked, 0.0).status == 200


def test_a_router_leaves_out_the_middle_of_what_a_small_window_does_not_hold() -> None:
    """Unless it is told not to; a large window is not made do."""
    off = [{"id": "context-compression", "enabled": False}]
    engine = OPENROUTER.provider(ModelConfig(context=800))
    said = OPENROUTER.said(engine.handle(OPENROUTER.ask(LONG, max_tokens=100), 0.0))
    assert said.text
    assert said.input <= 700
    assert engine.handle(OPENROUTER.ask(LONG, max_tokens=100, plugins=off), 0.0).status == 400
    large = OPENROUTER.provider(ModelConfig(context=9000))
    assert large.handle(OPENROUTER.ask(LONG, max_tokens=8500), 0.0).status == 400


def test_a_server_may_cut_in_silence_whatever_it_is_told() -> None:
    """`overflow: cut` is an old Ollama, or a setting of whoever loaded the model."""
    model = ModelConfig(context=300, overflow="cut")
    for tongue in (OLLAMA, PLAIN):
        answer = tongue.provider(model).handle(tongue.ask(LONG, max_tokens=100), 0.0)
        assert answer.status == 200
        assert tongue.said(answer).input <= 300


# --- limits ------------------------------------------------------------------------------------------------------

EVERY = Limits(rpm=10, rpd=100, tpm=5000, input_tpm=4000, output_tpm=3000, tpd=90_000)


def limit_headers(tongue: Tongue) -> dict[str, str]:
    engine = tongue.provider(MODEL, limits=EVERY, epoch=WALL)
    return {name: value for name, value in engine.handle(tongue.ask(), 0.0).headers if "limit" in name}


def test_what_is_left_is_said_as_the_vendor_says_it() -> None:
    """Requests of the minute at OpenAI, of the day at Groq; a time at Anthropic, and its tokens in thousands."""
    plain = limit_headers(PLAIN)
    assert (plain["x-ratelimit-limit-requests"], plain["x-ratelimit-remaining-requests"]) == ("10", "9")
    assert limit_headers(RESPONSES) == plain
    groq = limit_headers(next(tongue for tongue in TONGUES if tongue.name == "groq"))
    assert groq["x-ratelimit-limit-requests"] == "100"
    assert groq["x-ratelimit-limit-tokens"] == "5000"
    anthropic = limit_headers(ANTHROPIC)
    assert anthropic["anthropic-ratelimit-requests-reset"] == "2026-11-21T12:01:00Z"
    assert anthropic["anthropic-ratelimit-input-tokens-limit"] == "4000"
    assert anthropic["anthropic-ratelimit-output-tokens-remaining"] == "3000"
    together = limit_headers(TOGETHER)
    assert (together["x-ratelimit-remaining"], together["x-tokenlimit-limit"]) == ("9", "5000")
    for name in ("openrouter", "gemini", "ollama", "zai", "deepseek", "vllm"):
        assert limit_headers(next(tongue for tongue in TONGUES if tongue.name == name)) == {}


@each
def test_a_limit_that_is_reached_is_a_429_with_its_time(tongue: Tongue) -> None:
    """By the minute and by the day, each as the vendor tells them apart."""
    for limits, limit in ((Limits(rpm=1), "rpm"), (Limits(rpd=1), "rpd")):
        engine = tongue.provider(MODEL, limits=limits, epoch=WALL)
        assert engine.handle(tongue.ask(), 0.0).status == 200
        answer = engine.handle(tongue.ask(), 15.0)
        assert answer.status == (503 if limit == "rpm" and tongue.name in ("ollama", "llamacpp") else 429)
        assert engine.bill.refused == {limit: 1}
        if tongue is GEMINI:
            assert ("PerDay" if limit == "rpd" else "PerMinute") in raw(answer).decode()
        elif tongue is ZAI:
            assert error_of(answer)["code"] == ("1308" if limit == "rpd" else "1305")
        elif limit == "rpm":
            assert header(answer, "retry-after") == "45"


def test_the_routers_own_429_alone_tells_its_limits() -> None:
    """In milliseconds since 1970."""
    engine = OPENROUTER.provider(MODEL, limits=Limits(rpm=1), epoch=WALL)
    engine.handle(OPENROUTER.ask(), 0.0)
    answer = engine.handle(OPENROUTER.ask(), 15.0)
    assert header(answer, "x-ratelimit-limit") == "1"
    assert header(answer, "x-ratelimit-reset") == str(int((WALL + 60) * 1000))


def test_tokens_can_be_limited_by_the_day() -> None:
    """Beside those of the minute."""
    engine = PLAIN.provider(MODEL, limits=Limits(tpd=600))
    assert engine.handle(PLAIN.ask(), 0.0).status == 200
    assert engine.handle(PLAIN.ask(), 120.0).status == 429
    assert engine.bill.refused == {"tpd": 1}


def test_an_account_runs_out_of_its_credit() -> None:
    """What it holds is billed, then nobody is let in; the balance can be asked for."""
    engine = OPENROUTER.provider(MODEL, credit=1_500_000, epoch=WALL)
    first = engine.handle(OPENROUTER.ask(), 0.0)
    assert first.status == 200
    key = json.loads(raw(engine.handle(SimRequest("GET", "/v1/key", {}), 0.0)))["data"]
    assert round(key["limit_remaining"] * 1e9) == 1_500_000 - engine.bill.cost
    assert round(key["usage"] * 1e9) == engine.bill.cost
    while engine.bill.cost < 1_500_000:
        assert engine.handle(OPENROUTER.ask(), 1.0).status == 200
    assert engine.handle(OPENROUTER.ask(), 2.0).status == 402
    key = json.loads(raw(engine.handle(SimRequest("GET", "/v1/key", {}), 0.0)))["data"]
    assert key["limit_remaining"] == 0


# --- look-ups ----------------------------------------------------------------------------------------------------


def get(engine: Engine, path: str, now: float = 0.0, headers: Mapping[str, str] | None = None) -> Any:
    answer = engine.handle(SimRequest("GET", path, headers or {}), now)
    return json.loads(raw(answer)) if answer.status == 200 else answer.status


def test_a_router_knows_what_became_of_a_call_a_while_after_its_end() -> None:
    """Not while it goes on, not at once, and then the figures of the bill; the id is in the first header."""
    engine = OPENROUTER.provider(MODEL, record_after=5.0, epoch=WALL)
    answer = engine.handle(OPENROUTER.ask(), 0.0)
    path = f"/v1/generation?id={header(answer, 'x-generation-id')}"
    assert get(engine, path, 100.0) == 404
    engine.finished(answer.id, 3.0)
    assert get(engine, path, 7.9) == 404
    found = get(engine, path, 8.0)["data"]
    charge = engine.bill.charges[1]
    assert round(found["total_cost"] * 1e9) == charge.cost
    assert (found["native_tokens_prompt"], found["native_tokens_completion"]) == (charge.input, charge.output)
    assert (found["native_tokens_reasoning"], found["cancelled"]) == (charge.reasoning, False)
    assert get(engine, "/v1/generation?id=gen-000000000000-1", 8.0) == 404
    assert get(engine, "/v1/generation", 8.0) == 404
    assert get(engine, f"/v1/generation?id=gen-{'9' * 9999}", 8.0) == 404


def test_a_call_that_its_client_left_is_on_record_as_cancelled() -> None:
    """With what it was billed, which may be less than the whole."""
    engine = OPENROUTER.provider(MODEL, cancelled="produced", epoch=WALL)
    answer = engine.handle(OPENROUTER.ask(), 0.0)
    engine.abandoned(answer.id, 1.205)
    found = get(engine, f"/v1/generation?id={header(answer, 'x-generation-id')}", 2.0)["data"]
    assert found["cancelled"] is True
    assert found["native_tokens_completion"] == engine.bill.charges[1].output == 20


def test_a_failed_call_that_was_not_billed_is_on_record_with_nothing() -> None:
    """The evidence that it cost nothing."""
    engine, answer = play(OPENROUTER, fault("error_in_200", after=2))
    engine.finished(answer.id, 1.0)
    assert get(engine, f"/v1/generation?id={header(answer, 'x-generation-id')}", 2.0)["data"]["total_cost"] == 0


def test_what_was_stored_can_be_looked_up_and_nothing_else() -> None:
    """Responses are stored unless told otherwise, completions only when told."""
    for tongue, path, default in ((RESPONSES, "/v1/responses/", True), (PLAIN, "/v1/chat/completions/", False)):
        for fields, stored in (({}, default), ({"store": True}, True), ({"store": False}, False)):
            engine, answer = play(tongue, None, **fields)
            engine.finished(answer.id, 3.0)
            found = get(engine, path + tongue.said(answer).id, 4.0)
            assert (found != 404) == stored
            if stored:
                again = Said()
                tongue.read(again, found)
                assert (again.text, again.output) == (tongue.said(answer).text, engine.bill.charges[1].output)


def test_byok_is_billed_upstream_and_not_in_the_cost() -> None:
    """The bill is the same; the figure that says it stands elsewhere."""
    engine = OPENROUTER.provider(ModelConfig(PRICE, Style(50), byok=True))
    answer = engine.handle(OPENROUTER.ask(stream=False), 0.0)
    usage = json.loads(raw(answer))["usage"]
    assert (usage["cost"], usage["is_byok"]) == (0, True)
    assert round(usage["cost_details"]["upstream_inference_cost"] * 1e9) == engine.bill.cost > 0
    assert OPENROUTER.said(play(OPENROUTER, None)[1]).cost == play(OPENROUTER, None)[0].bill.cost / 1e9


def test_the_router_lists_prices_by_the_token_with_those_of_long_requests() -> None:
    """As texts, exact; with the window, the most output, and the day of the end."""
    price = Price(Decimal("0.15"), Decimal(6), Decimal("0.1"), tiers=(Tier(1000, Decimal("0.3"), Decimal(12)),))
    engine = OPENROUTER.provider(ModelConfig(price, context=4096, max_output=512, ends="2026-12-31"))
    (row,) = get(engine, "/v1/models")["data"]
    assert row["pricing"] == {
        "prompt": "0.00000015",
        "completion": "0.000006",
        "input_cache_read": "0.0000001",
        "request": "0",
        "image": "0",
        "overrides": [{"min_prompt_tokens": 1000, "prompt": "0.0000003", "completion": "0.000012"}],
    }
    assert row["top_provider"]["max_completion_tokens"] == 512
    assert (row["context_length"], row["expiration_date"]) == (4096, "2026-12-31")
    assert get(engine, "/v1/model/m")["data"] == row
    assert get(engine, "/v1/model/nobody") == 400


def test_each_list_of_models_has_the_vendors_shape() -> None:
    """By the headers of the request, else by whose ways the server has."""
    model = ModelConfig(context=4096, max_output=512, ends="2026-12-31", reasoning=5)
    engine = PLAIN.provider(model)
    (row,) = get(engine, "/v1/models", headers={"anthropic-version": "2023-06-01"})["data"]
    assert (row["max_input_tokens"], row["max_tokens"], row["lifecycle"]) == (4096, 512, "deprecated")
    (row,) = get(engine, "/v1/models", headers={"x-goog-api-key": "k"})["models"]
    assert (row["name"], row["inputTokenLimit"], row["outputTokenLimit"]) == ("models/m", 4096, 512)
    (row,) = get(engine, "/v1/api/tags")["models"]
    assert (row["name"], len(row["digest"]), row["details"]["context_length"]) == ("m", 64, 4096)
    assert row["capabilities"] == ["completion", "thinking"]
    assert get(engine, "/v1/models/m", headers={"x-goog-api-key": "k"})["name"] == "models/m"
    assert get(engine, "/v1/models/m", headers={"anthropic-version": "2023-06-01"})["retires_at"] == "2026-12-31"
    assert get(engine, "/v1/models/m")["id"] == "m"
    assert get(engine, "/v1/models/nobody") == 404
    windows: list[tuple[Speaks, str]] = [
        ("vllm", "max_model_len"),
        ("mistral", "max_context_length"),
        ("groq", "context_window"),
    ]
    for speaks, field in windows:
        (row,) = get(Engine(SimConfig(models={"m": model}, speaks=speaks)), "/v1/models")["data"]
        assert row[field] == 4096
    gemini = Engine(SimConfig(models={"m": model}, speaks="gemini"))
    assert get(gemini, "/v1/models")["models"][0]["name"] == "models/m"


def test_a_local_server_says_what_it_has_loaded_and_where() -> None:
    """After the first answer, for some minutes, with the window that was asked for."""
    engine = OLLAMA.provider(ModelConfig(gpu=0.25), epoch=WALL)
    assert get(engine, "/v1/api/ps") == {"models": []}
    engine.handle(OLLAMA.ask(options={"num_ctx": 2048}), 0.0)
    (row,) = get(engine, "/v1/api/ps", 60.0)["models"]
    assert (row["name"], row["context_length"], row["size_vram"] / row["size"]) == ("m", 2048, 0.25)
    assert get(engine, "/v1/api/ps", 301.0) == {"models": []}
    assert "version" in get(engine, "/v1/api/version")


def test_ollama_loads_a_model_for_whoever_says_nothing() -> None:
    """No message, no word, no bill: `load`, or `unload` when it is to stay no longer; an unknown model is a 404."""
    engine = OLLAMA.provider(MODEL, epoch=WALL)
    said = OLLAMA.said(engine.handle(OLLAMA.ask(messages=[], options={"num_ctx": 2048}), 0.0))
    assert (said.text, said.finish, said.over) == ("", "load", True)
    assert get(engine, "/v1/api/ps")["models"][0]["context_length"] == 2048
    assert OLLAMA.said(engine.handle(OLLAMA.ask(messages=[], keep_alive=0), 0.0)).finish == "unload"
    assert get(engine, "/v1/api/ps") == {"models": []}
    assert engine.bill.accepted == 0
    assert engine.handle(OLLAMA.ask(messages=[], model="nobody"), 0.0).status == 404


def test_each_local_server_has_a_list_of_its_own() -> None:
    """llama.cpp has one model and its window, LM Studio says which of several are loaded."""
    model = ModelConfig(context=4096)
    llamacpp = Engine(SimConfig(models={"m": model}, speaks="llamacpp"))
    assert get(llamacpp, "/props")["default_generation_settings"] == {"n_ctx": 4096}
    endless = Engine(SimConfig(models={"m": ModelConfig()}, speaks="llamacpp"))
    assert get(endless, "/props")["default_generation_settings"] == {"n_ctx": 131_072}
    lmstudio = Engine(SimConfig(models={"m": model, "n": model}, speaks="lmstudio"))
    lmstudio.handle(PLAIN.ask(), 0.0)
    rows = {row["key"]: row for row in get(lmstudio, "/api/v1/models")["models"]}
    assert rows["m"]["loaded_instances"] == [{"id": "m", "config": {"context_length": 4096}}]
    assert (rows["n"]["loaded_instances"], rows["n"]["max_context_length"]) == ([], 4096)
    assert get(PLAIN.provider(), "/props") == 404


def test_a_balance_is_told_where_the_vendor_tells_one() -> None:
    """DeepSeek in dollars and cents; nobody else has that path."""
    engine = Engine(SimConfig(models={"m": MODEL}, speaks="deepseek", credit=2_500_000_000))
    assert get(engine, "/v1/user/balance")["balance_infos"][0]["total_balance"] == "2.50"
    endless = Engine(SimConfig(models={"m": MODEL}, speaks="deepseek"))
    assert get(endless, "/v1/user/balance")["balance_infos"][0]["total_balance"] == "1000000.00"
    assert get(PLAIN.provider(), "/v1/user/balance") == 404
    assert get(PLAIN.provider(), "/v1/key") == 404
    assert get(PLAIN.provider(), "/v1/generation?id=gen-1") == 404


def test_paths_and_methods_that_are_not_there_are_refused_in_every_dialect() -> None:
    """405 for the wrong method, 404 for the wrong path."""
    engine = PLAIN.provider()
    for tongue in FORMATS:
        asked = tongue.ask()
        assert engine.handle(SimRequest("GET", asked.path, {}, asked.body), 0.0).status in (404, 405)
    assert engine.handle(SimRequest("POST", "/v1/models", {}), 0.0).status == 405
    assert engine.handle(SimRequest("POST", "/v1/nothing", {}), 0.0).status == 404
    assert engine.bill.refused == {}


def test_a_model_with_slashes_is_found_in_a_path() -> None:
    """As it is, or encoded."""
    engine = Engine(SimConfig(models={"z-ai/glm-5:free": MODEL}, speaks="openrouter"))
    for name in ("z-ai/glm-5:free", "z-ai%2Fglm-5%3Afree"):
        assert get(engine, f"/v1/model/{name}")["data"]["id"] == "z-ai/glm-5:free"
        asked = GEMINI.ask(model=name)
        assert GEMINI.said(engine.handle(asked, 0.0)).text


def test_whatever_may_be_spoken_is_spoken() -> None:
    """Each word of the configuration has its dialect, and each differs from plain chat only in its own ways."""
    assert set(SPEAKERS) == set(get_args(Speaks))
    for tongue in TONGUES:
        assert mark(play(tongue, None)[1]) is Mark.END


def test_a_larger_limit_than_a_model_has_is_refused() -> None:
    """`max_output` bounds what may be asked for."""
    engine = PLAIN.provider(ModelConfig(max_output=100))
    assert engine.handle(PLAIN.ask(max_tokens=100), 0.0).status == 200
    assert engine.handle(PLAIN.ask(max_tokens=101), 0.0).status == 400


def test_long_talks_are_the_same_in_every_dialect() -> None:
    """Turn after turn, each reply put into the next request."""
    told: dict[str, tuple[list[str], int]] = {}
    for tongue in TONGUES:
        engine = tongue.provider(MODEL, seed=5)
        talk = list(TALK[:1])
        for _ in range(3):
            talk += [tongue.said(engine.handle(tongue.ask(talk), 0.0)).text, "Go on."]
        told[tongue.name] = (talk, engine.bill.cost)
    assert len({repr(one) for one in told.values()}) == 1
