"""The native dialect of Ollama: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Message, Reasoning, Reply, Sampling, Usage, View
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Inquiry, Listed, Resident
from runner.world import HttpRequest, Secret
from tests.providers.contract import (
    BODIES,
    FIGURES,
    LIFE,
    SILENT,
    STATUSES,
    VIEWS,
    WAITS,
    WALL,
    call,
    essence,
    failure,
    heard,
    hostile,
    reply,
    told,
)

ollama = DIALECTS["ollama"]
HERE: Final = Endpoint("p", "ollama", "http://127.0.0.1:11434/")

# --- requests --------------------------------------------------------------------------------------------------------

HOT: Final = Sampling(0.7, 0.95, 0.0, -0.5, 40, ("END",))
HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"options":{'
ROOM: Final = b'"num_ctx":8192,"num_predict":400},'
TAIL: Final = b'"truncate":false,"shift":false,"stream":true}'

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    (
        "opened by the other side",
        {"view": VIEWS["opened by the other side"], "sampling": HOT, "seed": 7, "window": 16384},
        (
            b'{"model":"m","messages":[{"role":"system","content":"You are brief."},'
            b'{"role":"user","content":"What survives of a conversation?"},'
            b'{"role":"assistant","content":"Its silences."},{"role":"user","content":"And then?"}],'
            b'"options":{"temperature":0.7,"top_p":0.95,"top_k":40,"presence_penalty":0.0,"frequency_penalty":-0.5,'
            b'"stop":["END"],"seed":7,"num_ctx":16384,"num_predict":400},' + TAIL
        ),
    ),
    (
        "three speakers",
        {"view": VIEWS["three speakers"]},
        (
            b'{"model":"m","messages":[{"role":"system","content":"You are the first of three."},'
            b'{"role":"user","content":"What survives?"},{"role":"assistant","content":"Echoes."},'
            b'{"role":"user","content":"two: Names.\\n\\nthree: \xe2\x80\x9cNothing.\xe2\x80\x9d"}],"options":{'
            + ROOM
            + TAIL
        ),
    ),
    ("nothing said of thinking", {}, HEAD + ROOM + TAIL),
    ("no thinking", {"reasoning": Reasoning("none")}, HEAD + ROOM + b'"think":false,' + TAIL),
    ("little thinking", {"reasoning": Reasoning("minimal")}, HEAD + ROOM + b'"think":"low",' + TAIL),
    ("much thinking", {"reasoning": Reasoning("xhigh")}, HEAD + ROOM + b'"think":"max",' + TAIL),
    ("thinking by tokens", {"reasoning": Reasoning(tokens=1024)}, HEAD + ROOM + b'"think":true,' + TAIL),
    (
        "thinking that the model refused",
        {"reasoning": Reasoning("high"), "dropped": ("think",)},
        HEAD + ROOM + TAIL,
    ),
    (
        "fields and options of the job's own",
        {"extra": {"keep_alive": "30m", "options": {"min_p": 0.1, "num_ctx": 1, "num_predict": -1}, "truncate": True}},
        HEAD + b'"num_ctx":8192,"num_predict":400,"min_p":0.1},"keep_alive":"30m",' + TAIL,
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], expected: bytes) -> None:
    """The window and the limit are in each of them, and that nothing may be cut."""
    assert ollama.revision == "ollama/1"
    assert ollama.body(call(**changes)) == expected


def test_it_is_asked_without_a_key_unless_there_is_one() -> None:
    """A machine of one's own needs none; a server behind a proxy may."""
    assert ollama.url(HERE, "m") == "http://127.0.0.1:11434/api/chat"
    assert "authorization" not in ollama.headers(HERE)
    key = ollama.headers(Endpoint("p", "ollama", "https://x", Secret(" k\n")))["authorization"]
    assert isinstance(key, Secret)
    assert key.reveal() == "Bearer k"
    assert (ollama.home.free, ollama.home.window, ollama.home.api_key) == (True, 8192, None)


# --- bodies of status 200 --------------------------------------------------------------------------------------------

COUNTERS: Final = {"prompt_eval_count": 9, "eval_count": 3}


def line(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "created_at": "2026-11-21T12:00:00Z", **fields}) + b"\n"


def said(**message: Any) -> bytes:
    return line(message={"role": "assistant", "content": "", **message}, done=False)


def end(reason: str | None = "stop", counters: Any = COUNTERS, **message: Any) -> bytes:
    why = {} if reason is None else {"done_reason": reason}
    return line(message={"role": "assistant", "content": "", **message}, done=True, **why, **(counters or {}))


HI: Final = said(content="Hi ") + said(content="there")
THINK: Final = said(thinking="hm") + said(thinking=" hm")
FULL: Final = "server busy, please try again.  maximum pending requests exceeded"

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + end()),
    ("a reply", (HI + end())[:-1]),
    ("a reply", (HI + end()).replace(b"\n", b"\r\n\r\n")),
    ("a reply", b"\n\n" + HI + end()),
    ("a reply", end(content="Hi there")),
    ("a reply", HI + end(counters=None)),
    ("a reply", HI + end() + said(content=" and more") + b"junk\n"),
    ("a reply after thinking", THINK + HI + end()),
    ("a reply after thinking", said(content="<think>hm hm</think>\n\n") + HI + end()),
    ("a reply cut by the limit", HI + end("length")),
    ("blank", said() + end()),
    ("blank", said(content=" \n") + end()),
    ("blank", end("load")),
    ("blank, and no figures", end("load", None)),
    ("blank, and all figures zero", end(counters={"prompt_eval_count": 0, "eval_count": 0})),
    ("invisible", said(content="\u200b\ufeff") + end(counters=None)),
    ("only thinking", THINK + end()),
    ("only thinking, cut by the limit", THINK + end("length")),
    ("an unknown end", HI + end("because")),
    ("no end", HI),
    ("no end", HI + end(None)),
    ("cut in the middle", said(content="Hi") + said(content=" there")[:-20]),
    ("damaged in the middle", said(content="Hi ") + b'{"message":{"cont\n' + end(counters=None)),
    ("damaged in the middle", said(content="Hi ") + b"7\n" + end(counters=None)),
    ("an error in place of an answer", orjson.dumps({"error": "model runner has unexpectedly stopped"}) + b"\n"),
    ("an error in place of an answer", orjson.dumps({"error": {"message": "oh"}})),
    ("an error after some text", said(content="Hi ") + orjson.dumps({"error": "an error was encountered"}) + b"\n"),
    ("an end that is an error", HI + end("error", None)),
    ("busy, in place of an answer", orjson.dumps({"error": FULL})),
    ("too long, in place of an answer", orjson.dumps({"error": "the prompt exceeds the context length"})),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n"),
    ("not this format", b"upstream connect error"),
    ("not this format", b'{"message": {"cont'),
    ("not this format", b"{}"),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]
UNKNOWN_HERE: Final = {
    *("a refusal with text", "a refusal without text", "filtered after some text", "filtered without text"),
    "out of money, in place of an answer",
}
"""A model of one's own has no filter that says so, and costs nothing."""


def test_every_case_of_the_contract_is_met() -> None:
    """No row of the contract is left without bytes of this dialect, but for what it cannot say."""
    assert {name for name, _ in ANSWERS} == set(BODIES) - UNKNOWN_HERE


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(("name", "body"), ANSWERS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(ANSWERS)])
def test_an_answer_comes_to_what_the_contract_says(name: str, body: bytes, size: int | None) -> None:
    """However it is cut into pieces."""
    assert essence(heard(ollama, body, size=size)) == BODIES[name]


def test_thinking_is_kept_apart() -> None:
    """In a field of its own or between tags, it is no part of the text."""
    for body in (body for name, body in ANSWERS if name == "a reply after thinking"):
        assert heard(ollama, body).reasoning == "hm hm"


def test_what_a_reply_says_of_itself_is_kept_whole() -> None:
    """Every counter as it came, nanoseconds too; there is no id of the call."""
    counters = {**COUNTERS, "load_duration": 1_200_000_000, "eval_duration": 300_000_000, "total_duration": 1}
    got = heard(ollama, HI + end(counters=counters))
    assert isinstance(got, Reply)
    assert (got.model, got.stop, got.generation) == ("m", "stop", None)
    assert got.usage == Usage(9, 3, raw=counters)


PIECES: Mapping[str, bytes] = {
    "blank lines": b"\n\n",
    "who speaks": said(),
    "text": said(content="x"),
    "thinking": said(thinking="x"),
    "an end": end(),
    "an error": b'{"error":"x"}\n',
    "a plain answer": end(content="x"),
}


@pytest.mark.parametrize("name", PIECES)
def test_a_sign_of_life_is_no_data(name: str) -> None:
    """Only what belongs to the answer resets the clocks; comments and events without data this format does not have."""
    assert ollama.reader(call()).feed(PIECES[name]) is LIFE[name]


# --- usage -----------------------------------------------------------------------------------------------------------

COUNTED: Mapping[str, Any] = {
    "missing": {},
    "plain": COUNTERS,
    "no output": {"prompt_eval_count": 9},
    "strings": {"prompt_eval_count": "9", "eval_count": "3"},
    "floats": {"prompt_eval_count": 9.0, "eval_count": 3.5},
    "negative": {"prompt_eval_count": -9, "eval_count": 3},
    "huge": {"prompt_eval_count": 9, "eval_count": 2**60},
    "true": {"prompt_eval_count": 9, "eval_count": True},
    "zero beside text": {"prompt_eval_count": 9, "eval_count": 0},
    "all zero": {"prompt_eval_count": 0, "eval_count": 0},
}


@pytest.mark.parametrize("name", COUNTED)
def test_usage_is_read_or_not_trusted(name: str) -> None:
    """A counter that was left out is unknown, one that cannot be spoils the trust."""
    got = heard(ollama, HI + end(counters=COUNTED[name]))
    assert isinstance(got, Reply)
    assert got.usage == Usage(**FIGURES[name], raw=COUNTED[name] or None)


# --- a history that was cut ------------------------------------------------------------------------------------------

LONG: Final = View("s" * 100, (Message("user", "x" * 23_900),))


@pytest.mark.parametrize(
    ("counted", "window", "cut"),
    [
        (999, 32768, True),
        (1000, 32768, False),
        (5333, 32768, False),
        (2050, 4096, True),
        (2048, 4096, True),
        (2052, 4096, True),
        (2047, 4096, False),
        (2053, 4096, False),
        (4001, 8000, False),
        (0, 4096, False),
    ],
)
def test_a_prompt_that_was_cut_is_noticed_by_its_count(counted: int, window: int, cut: bool) -> None:
    """Far too few tokens for its bytes, or just half a window where more was sent: nobody read that history."""
    reader = ollama.reader(call(view=LONG, window=window))
    reader.feed(HI + end(counters={"prompt_eval_count": counted, "eval_count": 3}))
    got = reader.outcome(None)
    if not cut:
        assert essence(got) == reply()
        return
    assert essence(got) == failure("context_cut", "conversation", "known", partial="Hi there")
    assert isinstance(got, Failure)
    assert f"counted {counted} tokens in a prompt of 24000 bytes" in got.detail
    assert got.usage.input == counted


def test_a_blank_answer_to_a_history_that_was_cut_is_not_asked_for_again() -> None:
    """What is wrong is the history, and another try would not have more of it."""
    for body, kind in ((end(), "context_cut"), (end(counters=None), "empty"), (HI, "lost")):
        reader = ollama.reader(call(view=LONG))
        reader.feed(body)
        assert essence(reader.outcome(None))["kind"] == kind


# --- error statuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", SILENT)
def test_a_status_comes_to_what_the_contract_says(status: int, body: bytes) -> None:
    """Where the words say nothing, the status decides; a full queue is the one thing that 503 means here."""
    got = told(ollama, status, body)
    assert essence(got) == (failure(money="free", busy=True) if status == 503 else STATUSES[status])
    assert got.status == status


@pytest.mark.parametrize(("headers", "wait"), WAITS)
def test_a_hint_is_taken_when_it_is_one(headers: dict[str, str], wait: float | None) -> None:
    """A proxy in front of it may give one."""
    assert told(ollama, 503, headers=headers).retry_after == wait


OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)

WORDS: Sequence[tuple[int, str, Mapping[str, Any]]] = [
    (404, "model 'm' not found", failure(scope="model", money="free")),
    (503, FULL, failure(money="free", busy=True)),
    (400, "prompt too long; exceeded max context length by 12 tokens", OVERFLOW),
    (400, "request (9 tokens) exceeds the available context size (4 tokens)", OVERFLOW),
    (400, "invalid options: num_ctxx", failure(scope="conversation", money="free")),
    (400, '"m" does not support thinking', failure(money="free", parameter="think")),
    (400, 'think value "max" is not supported for this model', failure(money="free", parameter="think")),
    (500, "model requires more system memory (9 GiB) than is available (4 GiB)", failure(scope="model")),
    (500, "llama runner process has terminated", failure()),
    (429, "you have reached your session usage limit, upgrade", failure(scope="provider", money="free")),
    (401, "unauthorized", failure(scope="provider", money="free")),
]


@pytest.mark.parametrize(("status", "error", "expected"), WORDS)
def test_the_words_of_an_error_say_how_far_it_reaches(status: int, error: str, expected: Mapping[str, Any]) -> None:
    """There are no codes: what is wrong stands in a sentence."""
    got = told(ollama, status, orjson.dumps({"error": error}))
    assert essence(got) == expected
    assert got.detail == f"HTTP {status}: {error}"


def test_an_address_that_is_not_its_root_is_told_for_what_it_is() -> None:
    """Most servers want `/v1` at the end of theirs."""
    got = told(ollama, 404, b"404 page not found")
    assert essence(got) == failure(scope="provider", money="free")
    assert got.detail == "HTTP 404: no Ollama there; base_url is the root of its server, without /v1 or /api"


# --- what can be asked before a night --------------------------------------------------------------------------------

LIST: Final = {
    "models": [
        {"name": "qwen3:32b", "details": {"context_length": 40960}, "size": 20},
        {"name": "flash:latest", "details": None},
        {"model": "other:latest"},
        {"size": 3},
        7,
    ]
}
LOADED: Final = {
    "models": [
        {"name": "qwen3:32b", "size": 20, "size_vram": 15, "context_length": 8192},
        {"name": "flash:latest", "size": 20, "size_vram": 20},
        {"name": "cpu:latest", "size": 20},
        {"name": "odd", "size": 20, "size_vram": 21, "context_length": 0},
        {"name": "none", "size": 0, "size_vram": 0},
        {"name": "words", "size": "20", "size_vram": None},
    ]
}


def test_it_is_asked_which_models_it_has_and_which_are_loaded() -> None:
    """Two questions, at its root."""
    asked = ollama.inquiries(HERE, ["flash"])
    assert [(one.about, one.request.method, one.request.url, one.models) for one in asked] == [
        ("models", "GET", "http://127.0.0.1:11434/api/tags", ("flash",)),
        ("resident", "GET", "http://127.0.0.1:11434/api/ps", ("flash",)),
    ]


def test_what_it_has_is_told_by_the_names_of_the_job() -> None:
    """A name without a tag means the latest; of one that nobody asked for, the tag is kept."""
    models, resident = ollama.inquiries(HERE, ["flash", "qwen3:32b"])
    assert ollama.learned(models, orjson.dumps(LIST)) == [
        Listed("qwen3:32b", 40960),
        Listed("flash"),
        Listed("other:latest"),
    ]
    assert ollama.learned(resident, orjson.dumps(LOADED)) == [
        Resident("qwen3:32b", 0.75, 8192),
        Resident("flash", 1.0),
        Resident("cpu:latest", 0.0),
        Resident("odd", None),
        Resident("none", None),
        Resident("words", None),
    ]


# --- hostile input ---------------------------------------------------------------------------------------------------

JSON = hostile(
    "done", "done_reason", "content", "thinking", "prompt_eval_count", "eval_count", "models", "name", "size"
)


@settings(max_examples=100)
@given(st.lists(JSON, max_size=4), st.sampled_from([400, 404, 429, 500, 503]))
def test_no_answer_can_raise(chunks: list[Any], status: int) -> None:
    """Whatever JSON comes, it is an outcome, an error, or facts."""
    bodies = [json.dumps(chunk).encode() for chunk in chunks]
    assert isinstance(heard(ollama, b"\n".join(bodies)), (Reply, Failure))
    for body in bodies:
        assert isinstance(told(ollama, status, body), Failure)
        for about in ("models", "resident"):
            ollama.learned(Inquiry(about, HttpRequest("GET", "u", {}, b""), ("m",)), body)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_no_bytes_can_raise(body: bytes, text: str) -> None:
    """Nor do bytes that are no JSON, and headers that say nothing."""
    assert isinstance(heard(ollama, body), (Reply, Failure))
    assert isinstance(told(ollama, 500, body, {"retry-after": text}), Failure)
    assert ollama.hints({"x-ratelimit-remaining-requests": text}, WALL) == ()
