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
    WALL,
    call,
    essence,
    failure,
    heard,
    hostile,
    reply,
    told,
)
from tests.providers.forms.ollama import COUNTERS, FULL, HI, end

ollama = DIALECTS["ollama"]
HERE: Final = Endpoint("p", "ollama", "http://127.0.0.1:11434/")

# --- requests --------------------------------------------------------------------------------------------------------

HOT: Final = Sampling(0.7, 0.95, 0.0, -0.5, 40, ("END",))
HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"options":{'
ROOM: Final = b'"num_ctx":8192,"num_predict":400},'
TAIL: Final = b'"truncate":false,"shift":false,"stream":true}'

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
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
        "options that the model refused, also of the job's own",
        {"sampling": HOT, "dropped": ("top_p", "seed"), "seed": 7, "extra": {"options": {"top_p": 0.1}}},
        HEAD
        + b'"temperature":0.7,"top_k":40,"presence_penalty":0.0,"frequency_penalty":-0.5,"stop":["END"],'
        + ROOM
        + TAIL,
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


def test_what_a_reply_says_of_itself_is_kept_whole() -> None:
    """Every counter as it came, nanoseconds too; there is no id of the call."""
    counters = {**COUNTERS, "load_duration": 1_200_000_000, "eval_duration": 300_000_000, "total_duration": 1}
    got = heard(ollama, HI + end(counters=counters))
    assert isinstance(got, Reply)
    assert (got.model, got.stop, got.generation) == ("m", "stop", None)
    assert got.usage == Usage(9, 3, raw=counters)


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


OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)

WORDS: Sequence[tuple[int, str, Mapping[str, Any]]] = [
    (404, "model 'm' not found", failure(scope="model", money="free")),
    (503, FULL, failure(money="free", busy=True)),
    (400, "prompt too long; exceeded max context length by 12 tokens", OVERFLOW),
    (400, "request (9 tokens) exceeds the available context size (4 tokens)", OVERFLOW),
    (400, "invalid options: num_ctxx", failure(scope="conversation", money="free")),
    (400, "invalid option provided: temperature", failure(money="free", parameter="temperature")),
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
