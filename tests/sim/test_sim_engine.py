"""The built-in provider: what it accepts, what it answers, what it bills."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money import Price, cost
from runner.sim.config import CAST, Fault, Latency, ModelConfig, Style
from runner.sim.engine import Engine, Limits, Mark, SimConfig, SimRequest, count_tokens
from tests.sim.asking import all_over, body, header, heard, mark, provider, raw, request

PRICE = Price(Decimal("1.5"), Decimal("6"), cache_read=Decimal("0.3"))
THINKER = ModelConfig(PRICE, reasoning=40, reports_cost=True)


# --- answers -----------------------------------------------------------------------------------------------------


@given(st.text(min_size=1).filter(str.strip), st.integers(1, 300), st.integers(0, 3), st.booleans())
def test_usage_is_the_truth_and_stays_in_its_bounds(text: str, max_tokens: int, seed: int, stream: bool) -> None:
    """Tokens never exceed bytes nor max_tokens, thinking is counted inside, and the bill has the same figures."""
    engine = provider(THINKER, seed=seed)
    answer = engine.handle(request(text, stream=stream, max_tokens=max_tokens), 0.0)
    said = heard(answer)
    assert said.usage is not None
    output = said.usage["completion_tokens"]
    assert output == count_tokens(said.text) + count_tokens(said.reasoning) <= max_tokens
    assert said.usage["completion_tokens_details"]["reasoning_tokens"] == count_tokens(said.reasoning)
    assert said.usage["prompt_tokens"] <= len(body(text, stream=stream, max_tokens=max_tokens))
    assert said.usage["prompt_tokens"] <= len(text.encode()) + 64
    charge = engine.bill.charges[answer.id]
    assert (charge.input, charge.output) == (said.usage["prompt_tokens"], output)
    assert charge.cost == cost(PRICE, charge.input, output) == round(said.usage["cost"] * 1e9)


@given(st.text(min_size=1).filter(str.strip), st.integers(0, 3))
def test_a_reply_depends_on_nothing_but_seed_model_and_messages(text: str, seed: int) -> None:
    """Another life, another order, another attempt or form of delivery: the same words at the same pace."""
    one, other = (provider(THINKER, seed=seed) for _ in range(2))
    first = one.handle(request(text), 0.0)
    other.handle(request("Something else, first."), 3.0)
    later = other.handle(request(text), 5.0)
    plain = other.handle(request(text, stream=False), 5.0)
    assert heard(first).text == heard(later).text == heard(plain).text
    assert [piece.at for piece in first.pieces] == [piece.at for piece in later.pieces]


def test_seed_model_and_history_each_change_the_reply() -> None:
    """Nothing is said twice to different questions."""
    models = {"m": ModelConfig(), "n": ModelConfig()}
    asked = [
        heard(Engine(SimConfig(seed, models)).handle(request(text, model), 0.0)).text
        for seed in (0, 1)
        for model in models
        for text in ("One?", "Two?")
    ]
    assert len(set(asked)) == 8


def loading(room: int | None) -> Engine:
    model = ModelConfig(reply=Style(10, 0.0), latency=Latency(first=1.0, keep_alive=100.0, load=20.0))
    return Engine(SimConfig(models=dict.fromkeys("abc", model), resident=room))


def first_piece(engine: Engine, model: str, now: float) -> float:
    """How long it takes until something is said."""
    answer = engine.handle(request("Hello?", model), now)
    return next(piece.at for piece in answer.pieces if piece.what)


def test_a_model_that_is_not_in_memory_is_loaded_first_and_everybody_waits_for_it() -> None:
    """The first request, those that come meanwhile, and the first after it has lain idle for minutes."""
    engine = loading(None)
    assert [first_piece(engine, "a", at) for at in (0.0, 5.0, 30.0, 1000.0)] == [21.0, 16.0, 1.0, 21.0]
    assert first_piece(engine, "b", 1030.0) == 21.0
    assert first_piece(engine, "a", 1060.0) == 1.0
    assert engine.loads == ["a", "a", "b"]


def test_where_there_is_room_for_a_few_models_the_one_that_rests_longest_leaves_when_it_is_done() -> None:
    """What is at work is not thrown out: the load begins when its answer has ended."""
    engine = loading(2)
    assert [first_piece(engine, model, at) for model, at in (("a", 0.0), ("b", 50.0), ("a", 100.0))] == [
        21.0,
        21.0,
        1.0,
    ]
    assert first_piece(engine, "c", 100.5) == 21.0
    assert first_piece(engine, "a", 130.0) == 1.0
    assert first_piece(engine, "b", 200.0) == 21.0
    assert engine.loads == ["a", "b", "c", "b"]
    alone = loading(1)
    assert [first_piece(alone, model, at) for model, at in (("a", 0.0), ("b", 10.0))] == [21.0, 32.0]


def test_a_reply_at_the_limit_is_cut_and_says_so() -> None:
    """`length` stands exactly where the limit ended the text."""
    engine = provider(ModelConfig(reply=Style(90, 0.0)))
    whole, cut = (heard(engine.handle(request(max_tokens=most), 0.0)) for most in (400, 20))
    assert (whole.finish, cut.finish) == ("stop", "length")
    assert whole.text.startswith(cut.text)
    assert count_tokens(cut.text) == 20


def test_thinking_can_use_up_the_limit() -> None:
    """A model that thinks for longer than it may speak says nothing."""
    said = heard(provider(ModelConfig(reasoning=500)).handle(request(max_tokens=30), 0.0))
    assert (said.text, said.finish) == ("", "length")
    assert said.reasoning


def test_a_stream_has_its_pieces_in_time() -> None:
    """Comments before the first byte, text as it is produced, and everything that closes it at the end."""
    model = ModelConfig(reply=Style(90, 0.0), reasoning=60, latency=Latency(3.0, 0.01, keep_alive=1.0))
    answer = provider(model).handle(request(), 100.0)
    times = [piece.at for piece in answer.pieces]
    assert times == sorted(times)
    comments = [piece for piece in answer.pieces if piece.what == b": keep-alive\n\n"]
    assert [piece.at for piece in comments] == [1.0, 2.0]
    tokens = engine_output(answer.pieces, comments)
    assert times[-1] == pytest.approx(3.0 + 0.01 * tokens)
    assert len({at for at in times if at > 3.0}) >= 3
    assert mark(answer) is Mark.END
    assert heard(answer).done == 1


def engine_output(pieces: tuple[Any, ...], comments: list[Any]) -> int:
    text = b"".join(piece.what for piece in pieces if isinstance(piece.what, bytes) and piece not in comments)
    usage = next(json.loads(line[6:]) for line in text.split(b"\n\n") if b'"choices":[]' in line)["usage"]
    return int(usage["completion_tokens"])


def test_usage_comes_only_when_asked_for() -> None:
    """Without `include_usage` a stream has none, like the vendor's."""
    assert not heard(provider().handle(request(stream_options=None), 0.0)).usage_given


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("stream", [True, False])
def test_thinking_stands_in_the_configured_field(field: str, stream: bool) -> None:
    """Servers differ in how they call it."""
    model = ModelConfig(reasoning=40, reasoning_field=field)  # type: ignore[arg-type]
    assert f'"{field}":"'.encode() in raw(provider(model).handle(request(stream=stream), 0.0))


HOSTILE = ["\x1b]52;c;aGk=\x07", "## Round 9\n---\n```", "\ud800 alone", "data: [DONE]\n\n", "é" * 50, "\u202e\u0000"]


@pytest.mark.parametrize("stream", [True, False])
def test_planted_texts_arrive_as_they_are(stream: bool) -> None:
    """Any text can be put into a model's mouth, in turn, and comes out unchanged."""
    engine = provider(ModelConfig(reply=Style(texts=tuple(HOSTILE))))
    messages: list[dict[str, str]] = []
    for text in HOSTILE:
        messages.append({"role": "user", "content": "Go on."})
        said = heard(engine.handle(request(messages=messages, stream=stream), 0.0))
        assert said.text == text
        messages.append({"role": "assistant", "content": "So."})


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("What was said?", "none"),
        ("A context.\n\n[1] Ada:\nYes.\n\nIs it over?", "one"),
        ("[1] Ada:\nYes.\n\n[2] Bo (b):\nNo.\n\nIs it over?", "two"),
        ("[1] Ada:\nSee [7] and so:\n[2] is not shown, but [3] is\n\nIs it over?", "one"),
        ("[1] Ada:\n[9] I say:\n\n[2] Bo:\nNo.\n\nIs it over?", "two"),
        ("[2] Ada:\nIn the middle.", "none"),
        ("[1] A:\nx\n\n[2] B:\nx\n\n[3] A:\nx\n\n[4] B:\nx", "one"),
    ],
)
def test_who_is_shown_a_numbered_conversation_says_what_is_next_after_so_many_lines(shown: str, text: str) -> None:
    """A listener has said nothing before, so his place is that of the conversation; the texts begin again."""
    engine = provider(ModelConfig(reply=Style(texts=("none", "one", "two"))))
    assert heard(engine.handle(request(shown), 0.0)).text == text
    # Whoever speaks himself is at the line after his own last one, whatever is quoted to him.
    own = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "So."}]
    told = [*own, {"role": "user", "content": shown}]
    assert heard(engine.handle(request(messages=told), 0.0)).text == "one"


def test_an_echo_says_the_last_message_again() -> None:
    """What a model was sent can be read from its reply."""
    assert (
        heard(provider(ModelConfig(reply=Style(echo=True))).handle(request("Hallo, Echo!"), 0.0)).text == "Hallo, Echo!"
    )


def test_the_cast_behaves_as_announced() -> None:
    """One is busy once, one blank once, one thinks; the quick and the slow just answer."""
    engine = Engine()
    first, second = ({name: engine.handle(request(model=name), 0.0) for name in CAST} for _ in range(2))
    assert [answer.status for answer in first.values()] == [200, 200, 429, 200, 200]
    assert header(first["cleo"], "retry-after") == "1"
    assert heard(first["dora"]).text == ""
    assert all(heard(answer).text for answer in second.values())
    assert heard(second["eli"]).reasoning
    assert first["basil"].pieces[-1].at > 4 * first["ada"].pieces[-1].at


def test_the_catalogue_lists_models_with_their_prices() -> None:
    """`GET /models` says what there is, per token and exact."""
    model = ModelConfig(Price(Decimal("0.15"), Decimal("6")))
    answer = provider(model).handle(SimRequest("GET", "/v1/models", {}), 0.0)
    (row,) = json.loads(raw(answer))["data"]
    assert (row["id"], row["pricing"]) == ("m", {"prompt": "0.00000015", "completion": "0.000006"})


# --- requests ----------------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "Hi."}
REPLY = {"role": "assistant", "content": "x"}
BAD: list[tuple[dict[str, Any], str | None]] = [
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
    ({"messages": [USER, REPLY]}, "messages"),
    ({"messages": [USER, USER]}, "messages[1].role"),
    ({"messages": [REPLY, USER]}, "messages[0].role"),
    (
        {"messages": [USER, {"role": "assistant", "content": "x"}, {"role": "system", "content": "x"}]},
        "messages[2].role",
    ),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_completion_tokens": 5}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**12}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 5.0}, "max_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"seed": 1.5}, "seed"),
    ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"),
    ({"stream": False, "stream_options": {}}, "stream_options"),
    ({"logit_bias": {}}, "logit_bias"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
def test_a_strict_server_refuses_what_is_not_in_order(fields: dict[str, Any], param: str | None) -> None:
    """Each breach of the format is a 400 that names its field, and costs nothing."""
    engine = provider()
    answer = engine.handle(request(**fields), 0.0)
    assert answer.status == 400
    error = json.loads(raw(answer))["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert engine.bill.refused == {"invalid": 1}
    assert engine.bill.cost == 0


def test_either_name_of_the_limit_and_text_parts_will_do() -> None:
    """The old and the new name of the output limit, and a message in parts, are all in order."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}]
    engine = provider()
    for fields in ({"max_tokens": None, "max_completion_tokens": 9}, {"messages": parts}):
        assert engine.handle(request(**fields), 0.0).status == 200


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"a":NaN}'])
def test_a_body_that_is_no_json_object_is_refused(data: bytes) -> None:
    """Nonsense is a 400 and never an exception."""
    assert provider().handle(SimRequest("POST", "/v1/chat/completions", {}, data), 0.0).status == 400


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(
        lambda tree: json.dumps({"model": "m", "messages": tree, "max_tokens": 5}).encode()
    )
)
def test_no_body_can_break_the_provider(data: bytes) -> None:
    """Whatever arrives, an answer leaves."""
    assert provider().handle(SimRequest("POST", "/v1/chat/completions", {}, data), 0.0).status in (200, 400)


def test_unknown_models_paths_and_methods_are_refused() -> None:
    """404 for what is not there, 405 for what cannot be done there."""
    engine = provider()
    assert engine.handle(request(model="nobody"), 0.0).status == 404
    assert engine.handle(SimRequest("POST", "/v1/embeddings", {}), 0.0).status == 404
    assert engine.handle(SimRequest("GET", "/v1/chat/completions", {}), 0.0).status == 405
    assert engine.bill.refused == {"unknown_model": 1}


def test_only_known_keys_are_let_in() -> None:
    """With keys configured, a wrong or missing one is a 401, before the body is looked at."""
    engine = provider(keys=("right",))
    for headers, status in (
        ({"authorization": "Bearer right"}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({}, 401),
    ):
        assert engine.handle(SimRequest("POST", "/v1/chat/completions", headers, body()), 0.0).status == status


def test_a_conversation_that_outgrows_the_window_is_refused() -> None:
    """Input and limit together must fit the model's window."""
    engine = provider(ModelConfig(context=100))
    assert engine.handle(request(max_tokens=80), 0.0).status == 200
    answer = engine.handle(request(max_tokens=95), 0.0)
    assert json.loads(raw(answer))["error"]["code"] == "context_length_exceeded"


# --- limits ------------------------------------------------------------------------------------------------------


def test_a_limit_is_refused_with_the_exact_wait() -> None:
    """Whoever waits as long as Retry-After says is let in; a quarter second sooner is refused."""
    engine = provider(limits=Limits(rpm=2))
    answers = [engine.handle(request(), now) for now in (0.0, 10.0, 30.25)]
    all_over(engine, answers)
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert header(answers[2], "retry-after") == "29.75"
    assert engine.handle(request(), 59.75).status == 429
    assert engine.handle(request(), 60.0).status == 200
    assert engine.bill.refused == {"rpm": 2}
    assert engine.bill.accepted == 3


def test_headers_say_what_is_left() -> None:
    """The account's state stands in the headers, in the vendor's form, unless told not to."""
    engine = provider(limits=Limits(rpm=10, tpm=10_000))
    answer = engine.handle(request(), 0.0)
    assert header(answer, "x-ratelimit-limit-requests") == "10"
    assert header(answer, "x-ratelimit-remaining-requests") == "9"
    assert header(answer, "x-ratelimit-reset-requests") == "1m0s"
    tokens = heard(answer).usage
    assert tokens is not None
    assert header(answer, "x-ratelimit-remaining-tokens") == str(10_000 - tokens["prompt_tokens"] - 400)
    quiet = provider(limits=Limits(rpm=10, headers=False)).handle(request(), 0.0)
    assert header(quiet, "x-ratelimit-limit-requests") is None


def test_keys_have_accounts_of_their_own_and_models_limits_of_their_own() -> None:
    """One key's traffic does not use up another's, nor one model's another's."""
    limited = ModelConfig(limits=Limits(rpm=1))
    engine = Engine(SimConfig(models={"m": limited, "n": limited}, limits=Limits(rpm=2)))

    def status(key: str, model: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return engine.handle(SimRequest("POST", "/v1/chat/completions", headers, body(model=model)), 0.0).status

    assert [status("x", "m"), status("x", "m"), status("x", "n"), status("x", "n"), status("y", "m")] == [
        *(200, 429, 200, 429, 200),
    ]


def test_a_refused_request_uses_up_nothing() -> None:
    """Refusals leave the windows as they were."""
    engine = provider(limits=Limits(rpm=2, tpm=1000))
    assert [engine.handle(request(max_tokens=n), 0.0).status for n in (400, 900, 400)] == [200, 429, 200]


def test_a_slot_is_free_again_once_the_shell_says_so() -> None:
    """Concurrency ends by `finished` and by `abandoned`, once each."""
    engine = provider(limits=Limits(concurrency=1))
    first = engine.handle(request(), 0.0)
    assert engine.handle(request(), 0.0).status == 429
    engine.finished(first.id, 1.0)
    second = engine.handle(request(), 1.0)
    engine.abandoned(second.id, 2.0)
    engine.abandoned(second.id, 2.0)
    assert engine.handle(request(), 2.0).status == 200
    assert engine.handle(request(), 2.0).status == 429


# --- the bill ----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("mn"), st.text(min_size=1).filter(str.strip)), max_size=8))
def test_the_bill_adds_up(asked: list[tuple[str, str]]) -> None:
    """The total is the sum of the charges, by request and by model."""
    engine = Engine(SimConfig(models={"m": THINKER, "n": ModelConfig(Price(Decimal("0.1"), Decimal("0.7")))}))
    for model, text in asked:
        engine.handle(request(text, model), 0.0)
    bill = engine.bill
    assert bill.cost == sum(charge.cost for charge in bill.charges.values())
    assert bill.cost == sum(account.cost for account in bill.models.values())
    assert sum(account.requests for account in bill.models.values()) == bill.accepted == len(asked)
    assert json.loads(json.dumps(bill.record()))["cost"] == bill.cost


def test_cached_tokens_are_reported_and_cheaper() -> None:
    """The share of the old messages that a cache held is charged at its own price."""
    engine = provider(ModelConfig(PRICE, cached=0.5))
    messages = [USER, {"role": "assistant", "content": "word " * 100}, USER]
    answer = engine.handle(request(messages=messages), 0.0)
    usage = heard(answer).usage
    charge = engine.bill.charges[answer.id]
    assert usage is not None
    assert usage["prompt_tokens_details"]["cached_tokens"] == charge.cached > 50
    assert (
        charge.cost
        == cost(PRICE, charge.input, charge.output, charge.cached)
        < cost(PRICE, charge.input, charge.output)
    )
    assert engine.bill.charges[engine.handle(request(), 0.0).id].cached == 0


@pytest.mark.parametrize(("cancelled", "share"), [("full", 1.0), ("produced", 0.5)])
def test_who_leaves_is_billed_as_the_house_says(cancelled: str, share: float) -> None:
    """In full, or for what had been produced when the client left."""
    model = ModelConfig(PRICE, Style(100, 0.0), latency=Latency(1.0, 0.01))
    engine = provider(model, cancelled=cancelled)
    answer = engine.handle(request(), 10.0)
    whole = engine.bill.charges[answer.id]
    engine.abandoned(answer.id, 10.0 + 1.0 + 0.01 * whole.output * 0.5 + 1e-6)
    charge = engine.bill.charges[answer.id]
    assert charge.output == int(whole.output * share)
    assert engine.bill.cost == charge.cost == cost(PRICE, charge.input, charge.output)


def test_what_arrived_can_be_compared_byte_for_byte() -> None:
    """Every chat request is on record by its hash, and by its bytes when told to keep them."""
    engine = provider(keep_bodies=True)
    answers = [engine.handle(request(text), 0.0) for text in ("One?", "Two?", "Three?")]
    engine.finished(answers[0].id, 1.0)
    engine.abandoned(answers[1].id, 1.0)
    assert [(r.id, r.body, r.ended) for r in engine.received] == [
        (answers[0].id, body("One?"), "finished"),
        (answers[1].id, body("Two?"), "left"),
        (answers[2].id, body("Three?"), "open"),
    ]
    assert engine.received[0].sha256 == sha256(body("One?")).hexdigest()
    forgetful = provider()
    forgetful.handle(request(), 0.0)
    assert [r.body for r in forgetful.received] == [None]


def test_a_reset_forgets_all_but_the_ids() -> None:
    """After a reset the books are empty, and an answer still in the air belongs to nobody."""
    engine = provider(ModelConfig(faults=(Fault("busy", request=(1,)),)), limits=Limits(concurrency=1))
    before = [engine.handle(request(), 0.0) for _ in range(2)]
    engine.reset()
    assert (engine.bill.accepted, engine.bill.refused, engine.received, engine.played) == (0, {}, [], {})
    assert engine.handle(request(), 0.0).status == 429
    current = engine.handle(request(), 0.0)
    assert current.id > before[-1].id
    engine.finished(before[-1].id, 0.0)
    assert engine.handle(request(), 0.0).status == 429
