"""Lanes: one for an account, whichever job uses it; and settings that a provider has no words for."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.limits import Lane, Limits
from runner.money import Price
from runner.plan import make_plan
from runner.preflight import (
    CannotBegin,
    endpoints_of,
    first_calls_that_do_not_fit,
    lanes_of,
    left_out,
    prices,
    taking_turns,
)
from tests.nights import Night, job_of, matrix, provider, text_of

MODELS = ("m0", "m1", "m2")
EACH_ITS_OWN = {"p": ["m0"], "q": ["m1"], "r": ["m2"]}


def lanes(concurrency: Mapping[str, int], most_calls: int | None, told: list[str] | None = None) -> dict[str, Lane]:
    """The lanes of three providers with so many slots each, by provider."""
    job: dict[str, Any] = matrix(MODELS, providers=EACH_ITS_OWN)
    for name, slots in concurrency.items():
        job["providers"][name]["limits"] = {"concurrency": slots}
    plan = make_plan(job_of(text_of(job)), "2026-11-21")
    endpoints = endpoints_of(plan, {}, {("job", name): f"http://{name}.sim/v1" for name in job["providers"]})
    told = [] if told is None else told
    (by_alias,) = lanes_of([(plan, endpoints)], most_calls, told.append)
    return {lane.name: lane for lane in by_alias.values()}


@given(st.tuples(*[st.integers(1, 400)] * 3), st.integers(3, 1300))
def test_all_lanes_together_make_no_more_calls_than_the_machine_allows(
    slots: tuple[int, int, int], most_calls: int
) -> None:
    """Each keeps at least one and at most what its job says, in proportion; where there is enough nothing changes."""
    wanted = dict(zip("pqr", slots, strict=True))
    told: list[str] = []
    found = {name: int(lane.free_slots) for name, lane in lanes(wanted, most_calls, told).items()}
    if sum(slots) <= most_calls:
        assert found == wanted and told == []
    else:
        assert sum(found.values()) <= most_calls
        assert all(1 <= found[name] <= wanted[name] for name in wanted)
        assert told == [
            f"{most_calls} calls at once and not {sum(slots)}: a process may not open more files here; see ulimit -n"
        ]
        ordered = sorted(wanted, key=lambda name: wanted[name])
        assert [found[name] for name in ordered] == sorted(found.values())


def test_a_machine_that_does_not_allow_a_call_for_each_lane_holds_no_night() -> None:
    """Exit 6 before anything is sent, with the command that mends it."""
    with pytest.raises(CannotBegin) as trouble:
        lanes({"p": 1, "q": 1, "r": 1}, 2)
    assert trouble.value.code == 6
    assert "ulimit -n 1024" in trouble.value.lines[-1]


def test_a_machine_without_a_limit_leaves_the_lanes_as_they_are() -> None:
    """Also a provider that says nothing of its concurrency has its own."""
    assert {name: lane.free_slots for name, lane in lanes({"p": 5000}, None).items()} == {"p": 5000, "q": 16, "r": 16}


PAIR = """
name: pair
budget: 1
send_seed: true
defaults: {temperature: 0.5, presence_penalty: 0.1, reasoning: {effort: low, tokens: 2000}, stop_strings: [END]}
providers:
  anthropic: {limit_field: max_tokens}
  other: {type: openai-responses}
  sim: {}
models:
  c: {use: anthropic/c, price: {input: 1, output: 1}}
  d: {use: anthropic/d, price: {input: 1, output: 1}}
  o: {use: other/o, price: {input: 1, output: 1}, stop_strings: []}
  s: {use: sim/s, price: {input: 1, output: 1}}
  unused: {use: anthropic/u, price: {input: 1, output: 1}, frequency_penalty: 1}
prompts: {p: {opening: "Hello?", rounds: 2, roles: {a: {}, b: {}, c: {script: ["And so on.", "And on."]}}}}
pairings: [{a: [c, d], b: [o, s]}]
"""


def test_a_setting_that_a_provider_cannot_be_told_is_named_once_for_each_provider() -> None:
    """Only what speakers have, and only where it is left out; a provider of another name shows its type."""
    found = left_out(make_plan(job_of(PAIR), "2026-11-21"))
    assert sorted(found) == [
        "anthropic takes no limit_field: it is left out",
        "anthropic takes no presence_penalty: it is left out",
        "anthropic takes no seed: it is left out",
        "other (openai-responses) takes no presence_penalty: it is left out",
        "other (openai-responses) takes no reasoning.tokens: it is left out",
        "other (openai-responses) takes no seed: it is left out",
        "sim takes no reasoning.tokens: it is left out",
    ]
    assert left_out(make_plan(job_of(text_of(matrix(MODELS))), "2026-11-21")) == ()


def test_what_a_provider_may_refuse_is_told_as_a_doubt() -> None:
    """Where it is sure it is a mistake of the job; where others stand behind, or nobody is sure, it may go well."""
    text = PAIR.replace("stop_strings: [END]", "stop_strings: [a, b, c, d, e, f]").replace(
        "stop_strings: []", "top_k: 1"
    )
    found = [line for line in left_out(make_plan(job_of(text), "2026-11-21")) if "may refuse" in line]
    assert found == [
        "6 stop_strings are more than 4, the most that `sim` (type sim) takes, as far as is known: it may refuse them"
    ]


def test_what_several_providers_lack_is_one_line() -> None:
    """A key that they share is missing once."""
    text = PAIR.replace("{type: openai-responses}", "{type: openai-responses, api_key: '${ANTHROPIC_API_KEY}'}")
    with pytest.raises(CannotBegin) as caught:
        endpoints_of(make_plan(job_of(text), "2026-11-21"), {}, {("pair", "sim"): "http://sim/v1"})
    (line,) = caught.value.lines
    assert line.startswith("providers anthropic, other: ANTHROPIC_API_KEY is not set: put it into")


def test_a_secret_path_is_hidden_and_is_no_key() -> None:
    """It may go over the lines of a house as it is, and is shown nowhere."""
    text = PAIR.replace("{type: openai-responses}", '{type: vllm, base_url: "http://10.0.0.7/${PLACE}/v1"}')
    plan = make_plan(job_of(text), "2026-11-21")
    environ = {"ANTHROPIC_API_KEY": "sk-planted-0123456789", "PLACE": "tenant-4711"}
    found = endpoints_of(plan, environ, {("pair", "sim"): "http://sim/v1"})["other"]
    assert found.base_url == "http://10.0.0.7/tenant-4711/v1"
    assert [secret.reveal() for secret in found.secrets] == ["tenant-4711"]
    assert "tenant-4711" not in repr(found.hidden) and found.keys == ()


TWO = """
name: two
budget: 1
providers:
  one: {type: openai, base_url: "https://x.example/v1", headers: {Authorization: "Bearer ${FIRST}", X-Title: t}}
  two: {type: openai, base_url: "https://x.example/v1", headers: {authorization: "Bearer ${SECOND}"}}
models:
  a: {use: one/m, price: {input: 1, output: 1}}
  b: {use: two/m, price: {input: 1, output: 1}}
prompts: {p: {opening: "Hello?", rounds: 2}}
pairings: [{a: a, b: b}]
"""


def accounts(first: str, second: str) -> tuple[Lane, Lane]:
    plan = make_plan(job_of(TWO), "2026-11-21")
    endpoints = endpoints_of(plan, {"FIRST": first, "SECOND": second}, {})
    (by_alias,) = lanes_of([(plan, endpoints)])
    return by_alias["a"], by_alias["b"]


def test_two_accounts_by_their_headers_are_two_lanes() -> None:
    """What the environment puts into a header is a key like any other; the same in both is one account."""
    one, other = accounts("sk-first-0123456789", "sk-second-0123456789")
    assert one is not other and one.identity != other.identity
    one, other = accounts("sk-first-0123456789", "sk-first-0123456789")
    assert one is other and one.name == "one"


HOME = """
name: home
budget: 1
providers: {gpu: {type: vllm, base_url: "${PLACE}"MORE}}
models: {m: {use: gpu/m PRICE}}
prompts: {p: {opening: "Hello?", rounds: 2}}
pairings: [{a: m, b: m}]
"""


@pytest.mark.parametrize(
    ("place", "more", "price", "free"),
    [
        ("http://10.0.0.7:8000/v1", "", "", True),
        ("https://gpu.cloud.example/v1", "", "", False),
        ("https://gpu.cloud.example/v1", ", free: true", "", True),
        ("https://gpu.cloud.example/v1", "", ", price: {input: 1, output: 1}", True),
    ],
)
def test_what_only_its_type_makes_free_is_free_where_the_environment_says_it_is_at_home(
    place: str, more: str, price: str, free: bool
) -> None:
    """Only a run knows the address; exit 6 before anything is sent, with what to say."""
    plan = make_plan(job_of(HOME.replace("MORE", more).replace(" PRICE", price)), "2026-11-21")
    if free:
        assert endpoints_of(plan, {"PLACE": place}, {})["gpu"].base_url == place
        return
    with pytest.raises(CannotBegin) as caught:
        endpoints_of(plan, {"PLACE": place}, {})
    assert caught.value.code == 6
    (line,) = caught.value.lines
    assert line.startswith("provider gpu: who answers at an address") and "say `free: true`" in line


CARD = """
name: card
providers: {{card: {{type: ollama, resident: {room}}}, ollama: {{}}}}
models:
  a: {{use: card/a}}
  long: {{use: card/a, context: 32000}}
  b: {{use: card/b}}
  c: {{use: ollama/c}}
  d: {{use: ollama/d}}
prompts: {{p: {{opening: "Hello?", rounds: 2}}}}
pairings: [{{a: a, b: long}}, {{a: b, b: [c, d]}}]
"""


@pytest.mark.parametrize(
    ("room", "lines"), [(1, ("card: 3 models take turns, 1 loaded at a time",)), (3, ())], ids=["one", "all"]
)
def test_a_provider_with_more_models_than_room_is_named(room: int, lines: tuple[str, ...]) -> None:
    """One model with two windows counts twice; where all fit, or nobody counts, there is nothing to say."""
    plan = make_plan(job_of(CARD.format(room=room)), "2026-11-21")
    assert taking_turns(plan) == lines
    assert plan.providers["card"].limits == Limits(resident=room)
    assert plan.providers["ollama"].limits == Limits()


def test_jobs_with_one_server_keep_to_the_smaller_room() -> None:
    """And one that says nothing of it is bound by the other."""
    plans = [
        make_plan(job_of(CARD.format(room=room).replace("name: card", f"name: c{room}")), "2026-11-21")
        for room in (2, 1)
    ]
    found = lanes_of([(plan, endpoints_of(plan, {}, {})) for plan in plans])
    assert {lane.limits.resident for lanes in found for alias, lane in lanes.items()} == {1}


def test_a_run_says_so_before_it_begins() -> None:
    """Whoever did not check hears it all the same, once."""
    job = {**matrix(MODELS[:2], rounds=1), "name": "job"}
    job["defaults"] = {**job["defaults"], "reasoning": {"tokens": 2000}}
    told = Night(job, provider(MODELS)).live().told
    assert [line for line in told if "left out" in line] == [
        "warning: p (openai) takes no reasoning.tokens: it is left out"
    ]


HEARD = """
name: heard
budget: {run: 1, conversation: 0.000001}
providers: {other: {type: sim, base_url: sim, limits: {per: model}}, closed: {type: openai, base_url: "https://x.example"}}
models:
  judge: {use: other/ada, temperature: 0.5, price: {input: 1, output: 1}}
prompts:
  t:
    roles: {box: {inbox: {file: "{{conversation}}.md"}}, a: {}}
    opening: hi
    rounds: 1
    order: moderator
    moderator: {model: closed/lead, reasoning: {tokens: 2000}}
    after: [{observer: judge, prompt: p}]
pairings: [{a: sim/ada}]
"""


def test_those_who_listen_need_a_price_a_key_and_a_lane_like_those_who_speak() -> None:
    """What a provider cannot be told is said of them as well, and a price that is missing is asked for."""
    plan = make_plan(job_of(HEARD), "2026-11-21")
    with pytest.raises(CannotBegin, match=r"lead: \{use: closed/lead") as trouble:
        prices(plan)
    assert trouble.value.code == 6
    endpoints = endpoints_of(plan, {}, {("heard", name): f"http://{name}.sim/v1" for name in plan.providers})
    (by_alias,) = lanes_of([(plan, endpoints)])
    assert {alias: lane.name for alias, lane in by_alias.items()} == {
        "judge": "other/judge",
        "ada": "sim",
        "lead": "closed",
    }
    assert any(line.startswith("closed (openai) takes no reasoning.tokens") for line in left_out(plan))


def test_the_first_call_of_a_conversation_is_that_of_its_first_live_side() -> None:
    """Lines out of an inbox are no calls: what comes after them must fit."""
    plan = make_plan(job_of(HEARD), "2026-11-21")
    known = {alias: Price(Decimal(1), Decimal(1)) for alias in plan.models}
    [line] = first_calls_that_do_not_fit(plan, plan.cells, known).values()
    assert line.startswith("t/ada: its first call may cost $0.0")
