"""The servers of chat completions: what each does in its own way, beside the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings

from runner.call import Left, Reasoning, Reply, Sampling, Usage
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Fact, Listed, Resident
from runner.providers.chat import Chat
from tests.providers.contract import STATUSES, WALL, call, essence, failure, heard, hostile, reply, told
from tests.providers.forms.chat import HI, STOP, USAGE, event, plain

SERVERS: Final = {
    name: dialect for name, dialect in DIALECTS.items() if isinstance(dialect, Chat) and name != "openai-responses"
}
LOCAL: Final = ("llamacpp", "lmstudio", "vllm")


def test_each_has_a_revision_of_its_own() -> None:
    """By it a journal's requests are made again; the built-in server speaks as OpenAI does."""
    revisions = [dialect.revision for name, dialect in DIALECTS.items() if name != "sim"]
    assert len(set(revisions)) == len(revisions)
    assert all(dialect.revision.startswith(f"{name}/") for name, dialect in DIALECTS.items() if name != "sim")


@pytest.mark.parametrize("name", LOCAL)
def test_a_server_on_a_machine_of_ones_own_is_free_and_needs_no_key(name: str) -> None:
    """It is where such a server is by itself."""
    home = DIALECTS[name].home
    assert (home.free, home.api_key) == (True, None)
    assert (home.base_url or "").startswith("http://127.0.0.1:")


# --- requests --------------------------------------------------------------------------------------------------------

FULL: Final = {"sampling": Sampling(0.7, 0.95, stop=("END",)), "seed": 7}
HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],'
OLD: Final = HEAD + b'"max_tokens":400,'
NEW: Final = HEAD + b'"max_completion_tokens":400,'
SAMPLING: Final = b'"temperature":0.7,"top_p":0.95,"stop":["END"],"seed":7,'
TAIL: Final = b'"stream_options":{"include_usage":true},"stream":true}'
LOW: Final = {"reasoning": Reasoning("low")}
MAX: Final = {"reasoning": Reasoning("max")}
OFF: Final = {"reasoning": Reasoning("none")}
ON: Final = b'"chat_template_kwargs":{"enable_thinking":true},'
QUIET: Final = b'"chat_template_kwargs":{"enable_thinking":false},'

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("zai", FULL, OLD + SAMPLING + TAIL),
    ("zai", OFF, OLD + b'"thinking":{"type":"disabled"},' + TAIL),
    ("zai", MAX, OLD + b'"thinking":{"type":"enabled"},' + TAIL),
    ("mistral", FULL, OLD + SAMPLING.replace(b"seed", b"random_seed") + b'"stream":true}'),
    ("mistral", {"seed": 7, "dropped": ("random_seed",)}, OLD + b'"stream":true}'),
    ("mistral", LOW, OLD + b'"reasoning_effort":"low","stream":true}'),
    ("groq", FULL, NEW + SAMPLING + TAIL),
    ("groq", OFF, NEW + b'"reasoning_effort":"none",' + TAIL),
    ("groq", MAX, NEW + b'"reasoning_effort":"high",' + TAIL),
    ("together", FULL, OLD + SAMPLING + TAIL),
    ("xai", FULL, NEW + SAMPLING + TAIL),
    ("xai", LOW, NEW + b'"reasoning_effort":"low",' + TAIL),
    ("vllm", FULL, NEW + SAMPLING + TAIL),
    ("vllm", OFF, NEW + QUIET + TAIL),
    ("vllm", MAX, NEW + ON + b'"reasoning_effort":"high",' + TAIL),
    ("vllm", {"reasoning": Reasoning(tokens=512)}, NEW + ON + b'"thinking_token_budget":512,' + TAIL),
    ("llamacpp", FULL, OLD + SAMPLING + TAIL),
    ("llamacpp", OFF, OLD + QUIET + TAIL),
    ("llamacpp", LOW, OLD + ON + TAIL),
    ("lmstudio", FULL, OLD + SAMPLING + TAIL),
    ("lmstudio", LOW, OLD + b'"reasoning_effort":"low",' + TAIL),
]


@pytest.mark.parametrize(("name", "changes", "expected"), GOLDEN)
def test_a_request_has_exactly_these_bytes(name: str, changes: dict[str, Any], expected: bytes) -> None:
    """The limit, the seed and the thinking under the names of each server."""
    assert DIALECTS[name].revision == f"{name}/1"
    assert DIALECTS[name].body(call(**changes)) == expected


# --- errors and limits -----------------------------------------------------------------------------------------------

BUSY: Final = failure(money="free", busy=True)
PROVIDER: Final = failure(scope="provider", money="free")
MODEL: Final = failure(scope="model", money="free")
OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)
CREDIT: Final = "Your team x has either used all available credits or reached its monthly spending limit."
EXTRA: Final = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}

DROPS_TOP_K = failure(money="free", parameter="top_k")


def refusal(message: str) -> Mapping[str, Any]:
    return {"error": {"message": message}}


ERRORS: Sequence[tuple[str, int, Any, Mapping[str, Any], str | None]] = [
    *(("zai", 429, {"error": {"code": code}}, BUSY, None) for code in ("1302", "1303", "1305", "1312")),
    *(("zai", 429, {"error": {"code": code}}, PROVIDER, "day") for code in ("1304", "1308", "1310", "1316", "1321")),
    *(("zai", 429, {"error": {"code": code}}, PROVIDER, "credit") for code in ("1113", "1112", "1121")),
    ("zai", 429, {"error": {"code": 1113, "message": "Insufficient balance"}}, PROVIDER, "credit"),
    ("zai", 429, {"code": "1211"}, MODEL, None),
    ("mistral", 422, {"detail": [{"loc": ["body", "seed"]}]}, STATUSES[422], None),
    (
        "mistral",
        422,
        {"object": "error", "message": {"detail": [{**EXTRA, "loc": ["body", "frequency_penalty"]}]}, "param": None},
        failure(money="free", parameter="frequency_penalty"),
        None,
    ),
    ("xai", 429, {"code": "Some resource has been exhausted", "error": CREDIT}, PROVIDER, "credit"),
    *(
        ("xai", 400, {"code": "invalid-argument", "error": message}, failure(money="free", parameter=name), None)
        for message, name in (
            ("Model grok-4 does not support parameter reasoningEffort.", "reasoning_effort"),
            ("Argument not supported on this model: presencePenalty", "presence_penalty"),
            ("Argument not supported on this model: stop", "stop"),
        )
    ),
    ("xai", 400, {"code": "x", "error": "Argument not supported on this model: messages"}, STATUSES[400], None),
    ("lmstudio", 400, {"error": "Unsupported parameter: 'top_k'"}, failure(money="free", parameter="top_k"), None),
    ("zai", 400, refusal("Unrecognized request argument supplied: top_k"), DROPS_TOP_K, None),
    ("groq", 400, refusal("property 'top_k' is unsupported"), DROPS_TOP_K, None),
    ("together", 400, refusal("Completions.create() got an unexpected keyword argument 'top_k'"), DROPS_TOP_K, None),
    ("vllm", 400, refusal("The model doesn't support parameters: ['top_k', 'x']"), DROPS_TOP_K, None),
    ("deepseek", 422, refusal("Bad request: top_k: Extra inputs are not permitted"), DROPS_TOP_K, None),
    ("llamacpp", 400, refusal("`top_k` is not supported with this model"), DROPS_TOP_K, None),
    ("xai", 400, refusal("Invalid argument: topK"), DROPS_TOP_K, None),
    ("llamacpp", 400, refusal("Invalid 'top_k': at most 4 are supported."), DROPS_TOP_K, None),
    ("vllm", 400, refusal("Invalid value for top_k"), DROPS_TOP_K, None),
    ("vllm", 400, refusal("Invalid stop of the tram"), STATUSES[400], None),
    # What somebody says of a parameter is not what the server says.
    ("zai", 400, refusal('Your text is refused: "and so on. Unknown parameter: top_k, he said"'), STATUSES[400], None),
    ("zai", 400, refusal("The text speaks of an unknown parameter: top_k"), STATUSES[400], None),
    ("zai", 400, refusal("We do not support seed money"), STATUSES[400], None),
    ("zai", 400, refusal("Not in order: " + "and so on " * 40 + ". Unknown parameter: top_k"), STATUSES[400], None),
    ("vllm", 503, {"error": {"message": "The engine is not ready"}}, BUSY, None),
    ("lmstudio", 503, {"error": "Model is loading"}, BUSY, None),
    ("vllm", 400, {"object": "error", "message": "maximum context length is 4", "code": 400}, OVERFLOW, None),
]


@pytest.mark.parametrize(("name", "status", "body", "expected", "quota"), ERRORS)
def test_an_error_says_how_far_it_reaches(
    name: str, status: int, body: Any, expected: Mapping[str, Any], quota: str | None
) -> None:
    """By the words of each server, which know better than its statuses."""
    got = told(DIALECTS[name], status, orjson.dumps(body))
    assert essence(got) == expected
    assert got.quota == quota


@pytest.mark.parametrize("code", ["1302", "1303", "1305", "1312"])
def test_a_code_of_zai_is_known_without_a_status(code: str) -> None:
    """Inside an answer there is nothing else to tell a full server from a broken one."""
    assert essence(heard(DIALECTS["zai"], event({"error": {"code": code}}))) == failure(busy=True)


@pytest.mark.parametrize(
    ("message", "headers", "wait"),
    [
        # WALL is 12:00 in Greenwich, and 20:00 in China.
        ("Usage limit reached for 5 hour. Your limit will reset at 2026-11-21 21:30:00", {}, 5400.0),
        ("您的限额将在 2026-11-21 21:30:00 重置。", {}, 5400.0),
        ("Your limit will reset at 2026-11-21 13:00:00", {}, 3600.0),
        ("Your limit will reset at 2026-11-21 21:30:00", {"date": "Sat, 21 Nov 2026 13:00:00 GMT"}, 1800.0),
        ("Your limit will reset at 2026-11-21 21:30:00", {"retry-after": "7"}, 7.0),
        ("Your limit will reset at 2026-11-21 11:30:00", {}, None),
        ("Your limit will reset at 2026-13-41 11:30:00", {}, None),
        ("Your limit will reset soon", {}, None),
    ],
)
def test_a_quota_at_zai_is_waited_for_until_the_moment_that_it_names(
    message: str, headers: dict[str, str], wait: float | None
) -> None:
    """By its own clock; a moment without a zone is one of China, or where that has passed, of Greenwich."""
    body = orjson.dumps({"error": {"code": "1308", "message": message}})
    got = told(DIALECTS["zai"], 429, body, headers)
    assert (got.quota, got.retry_after) == ("day", wait)
    assert (got.busy, got.scope) == ((False, "provider") if wait is None else (True, "call"))
    inside = heard(DIALECTS["zai"], event({"error": {"code": "1308", "message": message}}))
    assert essence(inside) == failure(scope="provider")


def test_requests_are_counted_by_the_day_at_groq() -> None:
    """The same header speaks of the minute elsewhere."""
    headers = {"x-ratelimit-remaining-requests": "14", "x-ratelimit-remaining-tokens": "9"}
    assert DIALECTS["groq"].hints(headers, WALL) == (Left("requests", "day", 14), Left("tokens", "minute", 9))
    assert DIALECTS["xai"].hints(headers, WALL) == (Left("requests", "minute", 14), Left("tokens", "minute", 9))


def test_headers_whose_window_nobody_states_are_left_alone() -> None:
    """A limit of a second, taken for one of a minute, would halt a night."""
    headers = {"x-ratelimit-remaining": "1", "x-ratelimit-limit": "1", "x-tokenlimit-remaining": "0"}
    assert DIALECTS["together"].hints(headers, WALL) == ()


# --- answers ---------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_stream_at_groq_may_stand_beside_its_own_id() -> None:
    """In an object of its own, in the last piece."""
    got = heard(DIALECTS["groq"], HI + event({"choices": [], "x_groq": {"id": "req_1", "usage": USAGE}}) + STOP)
    assert isinstance(got, Reply)
    assert got.usage == Usage(9, 3, raw=USAGE)


@pytest.mark.parametrize(
    ("name", "finish", "expected"),
    [("together", "eos", "ok"), ("mistral", "model_length", "truncated"), ("zai", "sensitive", "refused")],
)
def test_a_reason_to_end_is_known_by_the_word_of_its_server(name: str, finish: str, expected: str) -> None:
    """And it is kept."""
    got = heard(DIALECTS[name], plain(finish, content="Hi there"))
    assert essence(got) == reply(finish=expected)
    assert got.stop == finish


def test_thinking_at_xai_is_paid_for_beside_the_output() -> None:
    """Only the total shows it."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 112}
    got = heard(DIALECTS["xai"], plain(content="Hi there", usage=usage))
    assert got.usage.output == 103


# --- what can be asked before a night --------------------------------------------------------------------------------

MODELS: Sequence[tuple[str, Any, list[Fact]]] = [
    ("vllm", {"data": [{"id": "m", "max_model_len": 8192}]}, [Listed("m", 8192)]),
    ("groq", {"data": [{"id": "m", "context_window": 9, "max_completion_tokens": 3}]}, [Listed("m", 9, 3)]),
    (
        "mistral",
        {"data": [{"id": "m", "max_context_length": 9, "deprecation": "2026-12-01"}]},
        [Listed("m", 9, ends="2026-12-01")],
    ),
    ("together", [{"id": "m", "context_length": 9}, {"id": None}, 7], [Listed("m", 9)]),
    ("xai", {"error": "no"}, []),
    ("zai", {"data": {}}, []),
]


@pytest.mark.parametrize(("name", "answer", "facts"), MODELS)
def test_a_list_of_models_tells_what_it_can(name: str, answer: Any, facts: list[Fact]) -> None:
    """The window under the name of each server, and when a model is taken away."""
    here = Endpoint("p", name, "https://x/v1/")
    asked = DIALECTS[name].inquiries(here, ["m"])
    assert (asked[0].about, asked[0].request.method) == ("models", "GET")
    assert asked[0].request.url == "https://x/v1/models"
    assert list(DIALECTS[name].learned(asked[0], orjson.dumps(answer))) == facts


def test_the_window_of_llama_cpp_is_that_of_a_slot() -> None:
    """Beside the root of this format; the one model answers to any name."""
    here = Endpoint("p", "llamacpp", "http://127.0.0.1:8080/v1")
    _, asked = DIALECTS["llamacpp"].inquiries(here, ["m", "n"])
    assert asked.request.url == "http://127.0.0.1:8080/props"
    learned = DIALECTS["llamacpp"].learned
    properties = {"default_generation_settings": {"n_ctx": 4096}, "n_ctx": 16384, "total_slots": 4}
    assert learned(asked, orjson.dumps(properties)) == [Resident("m", None, 4096), Resident("n", None, 4096)]
    assert learned(asked, b'{"n_ctx": 16384}') == [Resident("m", None, 16384), Resident("n", None, 16384)]
    assert learned(asked, b'{"n_ctx": "16384"}') == []


def test_the_window_at_lm_studio_is_what_a_model_was_loaded_with() -> None:
    """One fact for each time that it is loaded."""
    here = Endpoint("p", "lmstudio", "http://127.0.0.1:1234/v1")
    _, asked = DIALECTS["lmstudio"].inquiries(here, ["m"])
    assert asked.request.url == "http://127.0.0.1:1234/api/v1/models"
    rows = [
        {
            "key": "m",
            "max_context_length": 9,
            "loaded_instances": [{"id": "m:1", "config": {"context_length": 4096}}, 7],
        },
        {"key": "idle", "loaded_instances": []},
        {"key": "odd", "loaded_instances": {}},
        {"loaded_instances": [{}]},
    ]
    found = DIALECTS["lmstudio"].learned(asked, orjson.dumps({"models": rows}))
    assert found == [Resident("m", None, 4096), Resident("m", None)]


@settings(max_examples=100)
@given(hostile("data", "models", "id", "key", "loaded_instances", "config", "n_ctx", "default_generation_settings"))
def test_no_record_can_raise(answer: Any) -> None:
    """Whatever a server says of its models, or of an error."""
    for name, server in SERVERS.items():
        for inquiry in server.inquiries(Endpoint("p", name, "https://x/v1"), ["m"]):
            server.learned(inquiry, json.dumps(answer).encode())
        told(server, 429, json.dumps({"error": answer}).encode())
