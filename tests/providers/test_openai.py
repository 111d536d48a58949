"""The OpenAI dialect: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.call import Effort, Failure, Found, Left, Reply, Sampling, Usage
from runner.providers import DIALECTS, Endpoint
from runner.providers.chat import Chat, ChatReader, nearest
from runner.providers.loose import count, retry_after, seconds, whole
from runner.providers.streams import ServerSentEvents
from runner.world import Secret
from tests.providers.contract import STATUSES, WALL, call, essence, failure, heard, reply, told
from tests.providers.forms.chat import ANSWERS, END, HI, STOP, USAGE, event, plain, said, used

openai = DIALECTS["openai"]

# --- requests --------------------------------------------------------------------------------------------------------

HOT = Sampling(temperature=0.7, top_p=0.95, presence_penalty=0.0, frequency_penalty=-0.5)

GOLDEN: Sequence[tuple[str, dict[str, Any], Any, bytes]] = [
    (
        "one message",
        {},
        "max_tokens",
        (
            b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_tokens":400,'
            b'"stream_options":{"include_usage":true},"stream":true}'
        ),
    ),
    (
        "the other name of the limit",
        {"sampling": Sampling(temperature=1.0)},
        "max_completion_tokens",
        (
            b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_completion_tokens":400,'
            b'"temperature":1.0,"stream_options":{"include_usage":true},"stream":true}'
        ),
    ),
    (
        "parameters that the model refused",
        {"sampling": HOT, "seed": 7, "dropped": ("temperature", "seed", "stream_options")},
        "max_tokens",
        (
            b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_tokens":400,'
            b'"top_p":0.95,"presence_penalty":0.0,"frequency_penalty":-0.5,"stream":true}'
        ),
    ),
]


@pytest.mark.parametrize(("changes", "limit", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], limit: Any, expected: bytes) -> None:
    """The journal keeps a hash of these bytes: a change here is a new revision of the dialect."""
    assert openai.revision == "openai/1"
    assert openai.body(call(**changes), limit) == expected


def test_a_job_may_add_to_a_request_and_change_nothing_that_follows_from_the_call() -> None:
    """Objects become one; what the model refused is not brought back."""
    extra = {
        "service_tier": "flex",
        "stream_options": {"include_obfuscation": False},
        "temperature": 2,
        "messages": [],
        "max_tokens": 9,
        "stream": False,
    }
    assert openai.body(call(extra=extra, dropped=("temperature",))) == (
        b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_tokens":400,'
        b'"stream_options":{"include_usage":true,"include_obfuscation":false},"service_tier":"flex","stream":true}'
    )


def test_headers_carry_the_key_where_only_the_wire_can_read_it() -> None:
    """The key stands in one header, hidden; white space around it is not part of it."""
    endpoint = Endpoint("p", "openai", "https://x/v1/", Secret(" sk-1\n"), {"X-Title": "T"})
    found = openai.headers(endpoint)
    assert repr(found) == (
        "{'content-type': 'application/json', 'accept': 'text/event-stream', 'authorization': ***, 'X-Title': 'T'}"
    )
    key = found["authorization"]
    assert isinstance(key, Secret)
    assert key.reveal() == "Bearer sk-1"
    assert openai.url(endpoint, "m") == "https://x/v1/chat/completions"
    assert "authorization" not in openai.headers(Endpoint("p", "openai", "http://127.0.0.1/v1"))


# --- bodies of status 200 --------------------------------------------------------------------------------------------


def test_thinking_without_an_answer_is_kept() -> None:
    """Whatever form it has, it is in `reasoning`, without its tags."""
    for body in (body for name, body in ANSWERS if name == "only thinking"):
        outcome = heard(openai, body)
        assert outcome.reasoning is not None
        assert "hm" in outcome.reasoning
        assert "<think>" not in outcome.reasoning


@pytest.mark.parametrize(
    "text",
    ["A `<think>` tag.\n</think>\nis its end.", "Say </think> and be done.", "I <think>so</think>.", "a </think"],
)
def test_a_text_about_tags_is_left_alone(text: str) -> None:
    """Only what begins with the tag, or ends a line of its own without one before it, is thinking."""
    assert essence(heard(openai, plain(content=text))) == reply(text)


def test_what_a_reply_says_of_itself_is_kept() -> None:
    """Model, upstream, generation and the provider's own word for the end."""
    body = event({"id": "gen-1", "model": "m-1", "provider": "Upstream", "choices": []}) + HI + said("eos") + used()
    got = heard(openai, body)
    assert isinstance(got, Reply)
    assert (got.model, got.upstream, got.generation, got.stop) == ("m-1", "Upstream", "gen-1", "eos")
    assert got.usage == Usage(9, 3, raw=USAGE)


def test_the_cut_is_told_as_it_happened() -> None:
    """The wire's own words are kept, unless the end had come before."""
    broke = heard(openai, HI, cut="the answer was cut off")
    assert isinstance(broke, Failure)
    assert broke.detail == "the answer was cut off"
    assert isinstance(heard(openai, HI + END, cut="the answer was cut off"), Reply)


@pytest.mark.fault(76)
def test_halves_of_a_character_in_two_deltas_are_not_lost() -> None:
    """A pair that a server splits, and bytes that are no UTF-8, leave the rest of the text as it is."""
    split = said(content="A").replace(b"A", b"\\ud83c") + said(content="A").replace(b"A", b"\\udf12") + STOP
    got = heard(openai, split)
    assert isinstance(got, Reply)
    assert got.text == "🌒"
    raw = heard(openai, said(content="A B").replace(b"A", b"\xff") + STOP)
    assert essence(raw) == reply("\ufffd B")


def test_what_is_held_is_counted_before_it_is_understood() -> None:
    """A line without end, and an event without end, grow in `size` as text does."""
    for piece in (b"data: " + b"x" * 1000, b"data: x\n" * 200, said(content="x" * 1000), b"{" + b" " * 1000):
        reader = openai.reader(call())
        reader.feed(piece)
        assert 1000 <= reader.size <= 1500


# --- usage -----------------------------------------------------------------------------------------------------------

FIGURES: Sequence[tuple[str, Any, dict[str, Any]]] = [
    (
        "all zero",
        {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0},
        {"input": 0, "output": 0, "cost": 0, "trusted": False},
    ),
    ("a cost", {**USAGE, "cost": 0.0000123451}, {"input": 9, "output": 3, "cost": 12346}),
    ("a cost of its own", {"cost": 2}, {"cost": 2_000_000_000}),
    ("a negative cost", {**USAGE, "cost": -1}, {"input": 9, "output": 3, "trusted": False}),
    ("a cost in words", {**USAGE, "cost": "0.1"}, {"input": 9, "output": 3, "trusted": False}),
    (
        "a fee, and the upstream's cost",
        {**USAGE, "cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}},
        {"input": 9, "output": 3, "cost": 30_000_000},
    ),
    (
        "an upstream's cost that is part of it",
        {**USAGE, "cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.02}},
        {"input": 9, "output": 3, "cost": 10_000_000},
    ),
    (
        "details",
        {
            "prompt_tokens": 900,
            "completion_tokens": 400,
            "prompt_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 250},
        },
        {"input": 900, "output": 400, "reasoning": 250, "cached_read": 512, "cached_write": 100},
    ),
    ("cached elsewhere", {**USAGE, "prompt_cache_hit_tokens": 5}, {"input": 9, "output": 3, "cached_read": 5}),
    (
        "more cached than sent",
        {**USAGE, "prompt_tokens_details": {"cached_tokens": 10}},
        {"input": 9, "output": 3, "cached_read": 10, "trusted": False},
    ),
    (
        "thinking beside the output",
        {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "total_tokens": 112,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        {"input": 9, "output": 103, "reasoning": 100},
    ),
    (
        "more thinking than output",
        {**USAGE, "completion_tokens_details": {"reasoning_tokens": 4}},
        {"input": 9, "output": 3, "reasoning": 4, "trusted": False},
    ),
    (
        "details that are none",
        {**USAGE, "prompt_tokens_details": [1], "completion_tokens_details": 7},
        {"input": 9, "output": 3},
    ),
]


@pytest.mark.fault(51)
@pytest.mark.parametrize(("usage", "expected"), [row[1:] for row in FIGURES], ids=[row[0] for row in FIGURES])
def test_usage_is_read_or_not_trusted(usage: Any, expected: dict[str, Any]) -> None:
    """A figure that cannot be is None and spoils the trust in all; what was not said is None and spoils nothing."""
    got = heard(openai, HI + STOP + used(usage))
    assert isinstance(got, Reply)
    raw, hearsay = usage if isinstance(usage, dict) else None, expected.get("cost") is not None
    assert got.usage == Usage(**expected, raw=raw, hearsay=hearsay)


# --- error statuses --------------------------------------------------------------------------------------------------


OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)
REFUSED: Final = failure("refused", "conversation", "free")
PROVIDER: Final = failure(scope="provider", money="free")
MODEL: Final = failure(scope="model", money="free")

WORDS: Sequence[tuple[int, Mapping[str, Any], Mapping[str, Any]]] = [
    (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}, PROVIDER),
    (429, {"type": "insufficient_quota", "code": None}, PROVIDER),
    (429, {"code": "credit_balance_exhausted", "type": "insufficient_quota"}, PROVIDER),
    (429, {"code": "1302"}, failure(money="free", busy=True)),
    (429, {"code": "rate_limit_exceeded"}, failure(money="free", busy=True)),
    (429, {"code": "rate_limit_exceeded", "message": "Request too large for m on tokens per min"}, OVERFLOW),
    (402, {"message": "requested up to 65536 tokens, but can only afford 46666"}, PROVIDER),
    (400, {"code": "context_length_exceeded"}, OVERFLOW),
    (400, {"type": "exceed_context_size_error", "n_ctx": 4096}, OVERFLOW),
    (400, {"message": "This model's maximum context length is 4096 tokens."}, OVERFLOW),
    (400, {"metadata": {"error_type": "context_length_exceeded"}, "code": 400}, OVERFLOW),
    (422, {"message": "Prompt is too long: 9 tokens"}, OVERFLOW),
    (500, {"message": "context length of the pool"}, failure()),
    (400, {"code": "content_policy_violation"}, REFUSED),
    (400, {"code": "content_filter"}, REFUSED),
    (403, {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "x"}}, REFUSED),
    (403, {"code": "unsupported_country_region_territory"}, PROVIDER),
    (403, {"message": "no access to m"}, MODEL),
    (400, {"code": "model_not_found"}, MODEL),
    (400, {"availability": {"code": "model_not_found", "retryable": False}}, MODEL),
    (400, {"param": "temperature", "code": "unsupported_value"}, failure(money="free", parameter="temperature")),
    (400, {"param": "stream_options.include_usage"}, failure(money="free", parameter="stream_options")),
    (400, {"param": "messages[3]"}, STATUSES[400]),
    (400, {"param": "max_tokens", "code": "unsupported_parameter"}, MODEL),
    (400, {"param": "max_tokens", "code": "invalid_value"}, STATUSES[400]),
    (422, {"detail": [{"loc": ["body", "seed"], "msg": "no"}]}, failure(money="free", parameter="seed")),
    (429, {"message": "Rate limit reached on tokens per day (TPD): Limit 9."}, PROVIDER),
    (
        429,
        {"message": "Rate limit reached on requests per day (RPD). Please try again in 7m12s."},
        failure(money="free", busy=True, retry_after=432.0),
    ),
    (429, {"message": "Please try again in 20s."}, failure(money="free", busy=True, retry_after=20.0)),
    (429, {"message": "Please try again in 20 minutes, or never."}, failure(money="free", busy=True)),
    (422, {"message": {"detail": [{"loc": ["body", "seed"]}]}}, failure(money="free", parameter="seed")),
    (422, {"detail": [{"loc": ["body", "messages", 0]}]}, STATUSES[422]),
    (429, {"availability": {"retryable": False}}, PROVIDER),
    (429, {"availability": {"retryable": True, "retry_after": 9}}, failure(money="free", busy=True, retry_after=9.0)),
    (503, {"availability": {"retryable": False}}, failure(scope="conversation", money="free")),
    (400, {"availability": {"retryable": True}}, failure(money="free")),
]


@pytest.mark.parametrize(("status", "error", "expected"), WORDS)
def test_the_words_of_an_error_say_how_far_it_reaches(
    status: int, error: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Inside `error`, by itself, or in a list: the same words come to the same thing."""
    for body in ({"error": error}, error, [{"error": error}]):
        assert essence(told(openai, status, orjson.dumps(body))) == expected


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        (500, "false", failure(scope="conversation")),
        (503, "False", failure(scope="conversation", money="free")),
        (429, "false", PROVIDER),
        (400, "true", failure(money="free")),
        (401, "true", PROVIDER),
        (500, "perhaps", failure()),
    ],
)
def test_the_providers_own_word_about_another_try_is_obeyed(
    status: int, word: str, expected: Mapping[str, Any]
) -> None:
    """`x-should-retry` decides where it is free to."""
    assert essence(told(openai, status, headers={"x-should-retry": word})) == expected


@pytest.mark.parametrize(
    ("status", "body", "headers", "detail"),
    [
        (400, b'{"error":{"message":"no such thing"}}', {}, "HTTP 400: no such thing"),
        (400, b'{"detail":"Not this way"}', {}, "HTTP 400: Not this way"),
        (400, b'{"error":{"why":[1]}}', {}, 'HTTP 400: {"why":[1]}'),
        (502, b"  Bad\xff Gateway\n", {}, "HTTP 502: Bad\ufffd Gateway"),
        (
            404,
            b"<html>",
            {},
            "HTTP 404: a web page, not a completion: is base_url right, is a proxy or a login page in between?",
        ),
        (
            301,
            b"",
            {"location": "https://x/"},
            "HTTP 301: a redirect to https://x/, and none is followed; is base_url right?",
        ),
        (
            400,
            b'{"error":{"message":"no max_tokens","param":"max_tokens","code":"unsupported_parameter"}}',
            {},
            "HTTP 400: no max_tokens (at this provider, say `limit_field: max_completion_tokens`)",
        ),
    ],
)
def test_an_error_is_told_in_words_that_help(status: int, body: bytes, headers: dict[str, str], detail: str) -> None:
    """The status, the provider's words, and where the mistake is ours to mend, how."""
    assert told(openai, status, body, headers).detail == detail


def test_a_limit_of_the_day_is_told_from_one_of_the_minute() -> None:
    """The code word is the same for all of them: the message says it."""
    for message, quota in (("on tokens per day (TPD)", "day"), ("on requests (RPD)", "day"), ("per min (TPM)", None)):
        body = orjson.dumps({"error": {"code": "rate_limit_exceeded", "message": message}})
        assert told(openai, 429, body).quota == quota
        assert told(openai, 500, body).quota is None


# --- what became of a call -------------------------------------------------------------------------------------------

HERE: Final = Endpoint("p", "openai", "https://x/v1", Secret("sk-1"))


def test_a_call_can_be_asked_for_only_where_it_was_stored() -> None:
    """Only the job's own `store: true` makes a record; its id is no part of a path of ours."""
    assert openai.look_up(HERE, "gen-1") is None
    assert openai.look_up(HERE, "gen-1", {"store": "yes"}) is None
    asked = openai.look_up(HERE, "gen/1", {"store": True})
    assert asked is not None
    assert (asked.method, asked.url) == ("GET", "https://x/v1/chat/completions/gen%2F1")
    assert "authorization" in asked.headers


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (plain(content="Hi there"), Found(None, 9, 3)),
        (plain(content="", usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 5}}), Found(None, 9, 3, 5)),
        (plain(None, content="Hi"), None),
        (plain(content="Hi", usage={"prompt_tokens": 9}), None),
        (plain(content="Hi", usage={"prompt_tokens": 9, "completion_tokens": 0}), None),
        (b'{"error":{"message":"not found"}}', None),
        (b"<html>", None),
    ],
)
def test_what_is_stored_tells_the_tokens_of_a_call_that_has_ended(body: bytes, found: Found | None) -> None:
    """A figure that cannot be, and a record of something else, tell nothing."""
    assert openai.looked_up(body, "gen-1") == found
    assert openai.looked_up(body, "gen-2") is None, "it is the record of another call"


@pytest.mark.parametrize("generation", ["", ".", ".."])
def test_an_id_that_is_a_way_to_another_place_is_not_asked_for(generation: str) -> None:
    """The key would go along."""
    assert openai.look_up(HERE, generation, {"store": True}) is None
    assert DIALECTS["openai-responses"].look_up(HERE, generation, {"store": True}) is None


def test_the_next_higher_word_is_sent_where_a_server_does_not_know_one() -> None:
    """And the highest that it has, where there is none above; no thinking is always no thinking."""
    known: Sequence[Effort] = ("low", "high")
    assert [nearest(effort, known) for effort in (None, *get_args(Effort))] == [
        *(None, "none", "low", "low", "high", "high", "high", "high")
    ]
    assert nearest("medium", ()) == "medium"


# --- readings that all dialects share --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7.0),
        ("7.66s", 7.66),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3s", 3723.0),
        ("2m59.56s", 179.56),
        ("1d", 86400.0),
        (" 0 ", 0.0),
        ("", None),
        ("-1", None),
        ("s", None),
        ("1x", None),
        ("6m 0s", None),
        ("1e999", None),
        ("9999999d", None),
    ],
)
def test_durations_are_read_as_headers_write_them(text: str, expected: float | None) -> None:
    """What is not a duration is None, never a guess."""
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["²", "٣", "1" * 5000, "-1", "1.0", "", None])
def test_a_strange_number_is_none(text: str | None) -> None:
    """Digits of other scripts and numbers without end are no whole numbers, and no crash."""
    assert whole(text) is None


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 10**12, [], {}])
def test_what_is_no_count_is_none(value: Any) -> None:
    """Only whole numbers that somebody could have counted."""
    assert count(value) is None


def test_hints_are_read_where_they_make_sense() -> None:
    """Remaining and reset values; what is missing or absurd is None."""
    assert openai.hints({}, WALL) == ()
    assert openai.hints(
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "1795262460000",
            "x-ratelimit-limit-tokens": "90000",
        },
        WALL,
    ) == (Left("requests", "minute", 0, None, 360.0), Left("tokens", "minute", None, 90_000, None))


LINES = st.lists(st.sampled_from(["data: a", "data:b", "data", ": c", "event: x", "", "", "data: d"]), max_size=12)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 5))
def test_events_are_the_same_however_they_are_cut(lines: list[str], end: str, size: int) -> None:
    """Line ends and the borders of pieces change nothing."""

    def data(stream: bytes, step: int) -> list[bytes]:
        events = ServerSentEvents()
        found = [one for at in range(0, len(stream), step) for one in events.feed(stream[at : at + step])]
        return [*found, *events.end()]

    assert data(end.join(lines).encode(), size) == data("\n".join(lines).encode(), 10**6)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["x", "429", "error", "1" * 5000, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "id",
                        "model",
                        "choices",
                        "usage",
                        "error",
                        "delta",
                        "message",
                        "content",
                        "finish_reason",
                        "code",
                    ),
                    *("index", "reasoning", "refusal", "type", "text", "thinking", "metadata", "availability", "param"),
                    *(
                        "detail",
                        "loc",
                        "cost",
                        "prompt_tokens",
                        "completion_tokens",
                        "total_tokens",
                        "object",
                        "retry_after",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(st.lists(JSON, max_size=4), st.sampled_from([200, 400, 422, 429, 500]))
def test_no_answer_can_raise(chunks: list[Any], status: int) -> None:
    """Whatever JSON a server sends, the reader comes to an outcome; its words may be nonsense, its types never."""
    bodies = [json.dumps(chunk).encode() for chunk in chunks]
    stream = b"".join(b"data: " + body + b"\n\n" for body in bodies)
    assert isinstance(heard(openai, stream), (Reply, Failure))
    for body in bodies:
        assert isinstance(heard(openai, body), (Reply, Failure))
        assert isinstance(told(openai, status, body), Failure)


@given(st.binary(max_size=200))
def test_no_bytes_can_raise(body: bytes) -> None:
    """Bytes that are no JSON, and no text, are an outcome too."""
    assert isinstance(heard(openai, body), (Reply, Failure))
    assert isinstance(told(openai, 500, body), Failure)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_can_raise(text: str, date: str) -> None:
    """Headers are as hostile as bodies."""
    names = ("retry-after", "retry-after-ms", "x-should-retry", "location", "x-ratelimit-remaining-requests")
    headers = dict.fromkeys(names, text) | {"date": date, "x-ratelimit-reset-tokens": text}
    wait = retry_after(headers, WALL)
    assert wait is None or wait > 0
    openai.hints(headers, WALL)
    assert isinstance(told(openai, 307, headers=headers), Failure)


_TWISTS: Sequence[Mapping[str, Mapping[str, Any]]] = [
    *({"piece": {name: value}} for name in ("id", "model", "provider") for value in ("x", "y", None)),
    *({"piece": {name: "error"}} for name in ("object", "type")),
    *({"piece": {"usage": usage}} for usage in (None, USAGE)),
    {"piece": {"error": {"message": "no"}}}, {"piece": {"x_groq": {"usage": USAGE}}}, {"piece": {"choices": []}},
    *({"choice": {"index": index}} for index in (0, 1)),
    {"choice": {"finish_reason": "stop"}}, {"choice": {"error": {"code": 1}}}, {"choice": {"delta": None}},
    {"choice": {"message": {"content": "whole"}, "delta": {}}},
    *({"delta": {"content": content}} for content in ("", None, [{"type": "text", "text": "part"}])),
    {"delta": {"role": "assistant"}}, {"delta": {"reasoning": "hm"}}, {"delta": {"refusal": "no"}},
]  # fmt: skip
"""What can stand in a piece beside its text, or in its place."""


def twisted(*twists: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    about = {part: {k: v for twist in twists for k, v in twist.get(part, {}).items()} for part in ("delta", "choice")}
    choice = {"delta": {"content": "word", **about["delta"]}, **about["choice"]}
    return {"choices": [choice], **{k: v for twist in twists for k, v in twist.get("piece", {}).items()}}


_PIECES = st.lists(st.sampled_from(_TWISTS), max_size=2).map(lambda twists: twisted(*twists))


@given(st.lists(_PIECES, max_size=8))
@example([twisted(), twisted({"piece": {"object": "error"}})])
def test_a_piece_of_nothing_but_text_is_taken_as_any_other(pieces: list[dict[str, Any]]) -> None:
    """The short way gives what the long one gives, whatever came before and stands beside it."""
    chat = DIALECTS["openai"]
    assert isinstance(chat, Chat)
    short, long = ChatReader(chat), ChatReader(chat)
    for piece in pieces:
        assert short.take(piece) == long.take_whole(piece)
    assert {**vars(short), "_events": None} == {**vars(long), "_events": None}
