"""What providers say before a night: each answer, held against a job, becomes one line with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from runner.doctor import Finding, exit_code
from runner.money import FREE, Price
from runner.online import Heard, findings, lists_to_ask_for
from runner.plan import Plan, make_plan
from runner.preflight import endpoint
from runner.providers import DIALECTS, Endpoint
from runner.world import WireError
from tests.nights import START, job_of

KEY = "sk-planted-0123456789"
REFUSED = WireError("cannot connect (Connection refused)", sent=False)

Answers = Mapping[str, tuple[int, Any] | WireError]
"""What a provider says to each kind of question."""


def plan_of(provider: str, use: str, **more: str) -> Plan:
    """A job with one model at one provider; `model` and `top` are more of its entry and of the whole."""
    model = more.get("model", "price: {input: 1, output: 2}")
    text = f"""
name: job
budget: {more.get("budget", "5")}
defaults: {{max_tokens: {more.get("max_tokens", "4000")}}}
providers: {{p: {{{provider}}}}}
models: {{m: {{use: p/{use}, {model}}}}}
prompts: {{talk: {{opening: "Hello?", rounds: 1}}}}
pairings: [{{a: m, b: m}}]
"""
    return make_plan(job_of(text), "2026-11-21")


def endpoint_of(plan: Plan) -> Endpoint:
    return endpoint(plan.providers["p"], {"P_KEY": KEY}, None)


def asked(plan: Plan, answers: Answers) -> list[Heard]:
    """The questions that the dialect would send, each with its answer."""
    one = endpoint_of(plan)
    models = [model.id for model in plan.models.values()]
    heard: list[Heard] = []
    for inquiry in DIALECTS[one.type].inquiries(one, models):
        answer = answers[inquiry.about]
        if isinstance(answer, WireError):
            heard.append(Heard(inquiry, broke=answer))
        else:
            status, body = answer
            heard.append(Heard(inquiry, status, {}, orjson.dumps(body)))
    for inquiry in lists_to_ask_for(one, heard):
        status, body = answers["models"]  # type: ignore[misc]
        heard.append(Heard(inquiry, status, {}, orjson.dumps(body)))
    return heard


def found(plan: Plan, answers: Answers, known: Mapping[str, Price] | None = None) -> list[Finding]:
    if known is None:
        known = {alias: model.price for alias, model in plan.models.items() if model.price is not None}
    return [*findings(plan, endpoint_of(plan), asked(plan, answers), known, START)]


def lines(plan: Plan, answers: Answers, known: Mapping[str, Price] | None = None) -> list[str]:
    return [finding.line() for finding in found(plan, answers, known)]


ROUTER = 'type: openrouter, api_key: "${P_KEY}"'
CLAUDE = 'type: anthropic, api_key: "${P_KEY}"'
HERE = "type: ollama"
LISTED = {
    "id": "z/glm",
    "context_length": 64000,
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
    "top_provider": {"max_completion_tokens": 8000},
}
KEYED = (200, {"data": {"limit_remaining": 7.5, "limit": 10}})


def router(*rows: Mapping[str, Any], account: tuple[int, Any] = KEYED) -> Answers:
    return {"models": (200, {"data": [LISTED, *rows]}), "account": account}


def local(names: list[str], *loaded: Mapping[str, Any]) -> Answers:
    tags = [{"name": name, "details": {"context_length": 32768}} for name in names]
    return {"models": (200, {"models": tags}), "resident": (200, {"models": [*loaded]})}


# --- what is well ----------------------------------------------------------------------------------------------------


def test_a_provider_that_is_well_has_a_line_for_its_key_each_model_and_its_credit() -> None:
    """The key is proven by what the account alone may ask; the model's line has window and price with its source."""
    assert lines(plan_of(ROUTER, "z/glm"), router()) == [
        "ok       p: the key is accepted",
        "ok       p/z/glm: there; window 64,000; $1 in, $2 out per million (the job file)",
        "ok       p: $7.5000 of credit left of $10",
    ]


def test_a_local_server_that_is_well_says_what_is_loaded_and_where_it_sits() -> None:
    """A model on the card, one that is not in the job, and no key anywhere."""
    row = {"name": "qwen3:32b", "size": 100, "size_vram": 100, "context_length": 8192}
    answers = local(["qwen3:32b"], row, {"name": "other:1b", "size": 10, "size_vram": 10})
    assert lines(plan_of(HERE, "qwen3:32b", model=""), answers, {"m": FREE}) == [
        "ok       p: answers at http://127.0.0.1:11434",
        (
            "ok       p/qwen3:32b: there; window 32,768; calls open 8,192 of it (`context`); free; "
            "100 % of it on the graphics card"
        ),
        "ok       p: loaded: qwen3:32b, other:1b",
    ]


def test_a_provider_that_can_be_asked_nothing_is_said_to_be_so() -> None:
    """No question, no answer, and no reason to stop."""
    plan = plan_of(CLAUDE, "c")
    assert [*findings(plan, endpoint_of(plan), [], {}, START)] == [
        Finding("ok", "p", "nothing can be asked there for nothing")
    ]


# --- what is not -----------------------------------------------------------------------------------------------------

OTHER = (200, {"data": [{"id": "claude-sonnet-5"}, {"id": "claude-opus-5"}]})
WRONG: dict[str, tuple[Plan, Answers, str]] = {
    "a wrong key": (
        plan_of(CLAUDE, "c"),
        {"model": (401, {"error": {"type": "authentication_error", "message": f"invalid {KEY}"}})},
        "problem  p: the key is not accepted (HTTP 401: invalid ***) -> put a valid key into P_KEY",
    ),
    "a key that may not": (
        plan_of(CLAUDE, "c"),
        {"model": (403, {"error": {"type": "permission_error", "message": "not you"}})},
        "problem  p: the key is not accepted (HTTP 403: not you) -> put a valid key into P_KEY",
    ),
    "a wrong key where lists are public": (
        plan_of(ROUTER, "z/glm"),
        router(account=(401, {"error": {"message": "no user", "code": 401}})),
        "problem  p: the key is not accepted (HTTP 401: no user) -> put a valid key into P_KEY",
    ),
    "a wrong key as Gemini says it": (
        plan_of('type: gemini, api_key: "${P_KEY}"', "g"),
        {
            "model": (
                400,
                {
                    "error": {
                        "code": 400,
                        "status": "INVALID_ARGUMENT",
                        "message": "API key not valid",
                        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
                    }
                },
            )
        },
        "problem  p: the key is not accepted (HTTP 400: API key not valid) -> put a valid key into P_KEY",
    ),
    "no key where one is wanted": (
        plan_of("type: vllm", "v"),
        {"models": (401, {"error": "Unauthorized"})},
        "problem  p: it wants a key (HTTP 401: Unauthorized) -> give the provider an `api_key`",
    ),
    "a model that is not there, in a list": (
        plan_of(ROUTER, "glm"),
        router(),
        "problem  p/glm: there is no such model; close to it: z/glm -> correct `use`",
    ),
    "a model that is not there, asked for by its name": (
        plan_of(CLAUDE, "claude-sonet-5"),
        {"model": (404, {"error": {"type": "not_found_error", "message": "model: claude-sonet-5"}}), "models": OTHER},
        (
            "problem  p/claude-sonet-5: there is no such model; close to it: claude-sonnet-5, claude-opus-5 "
            "-> correct `use`"
        ),
    ),
    "a model that was never fetched": (
        plan_of(HERE, "qwen3:32b"),
        local(["qwen3:8b"]),
        "problem  p/qwen3:32b: there is no such model; close to it: qwen3:8b -> ollama pull qwen3:32b",
    ),
    "a server that has no model at all": (
        plan_of(HERE, "qwen3:32b"),
        local([]),
        "problem  p/qwen3:32b: there is no such model -> ollama pull qwen3:32b",
    ),
    "a model that only a list of somebody else lacks": (
        plan_of('type: openai, base_url: "https://far.example/v1", api_key: "${P_KEY}"', "model-1"),
        {"models": (200, {"data": [{"id": "model-2"}]})},
        "warning  p/model-1: there is no such model; close to it: model-2 -> correct `use`",
    ),
    "a list that says nothing": (
        plan_of('type: groq, api_key: "${P_KEY}"', "m1"),
        {"models": (200, {})},
        "warning  p/m1: its provider's list names no model at all, so nobody can tell whether it is there",
    ),
    "a model that is gone": (
        plan_of(ROUTER, "z/old"),
        router({"id": "z/old", "context_length": 64000, "expiration_date": "2026-11-01"}),
        (
            "problem  p/z/old: it was taken away: 2026-11-01; there; window 64,000; $1 in, $2 out per million "
            "(the job file) -> take another model"
        ),
    ),
    "a model that will go": (
        plan_of(ROUTER, "z/old"),
        router({"id": "z/old", "context_length": 64000, "expiration_date": "2026-12-01"}),
        (
            "warning  p/z/old: it is taken away: 2026-12-01; there; window 64,000; $1 in, $2 out per million "
            "(the job file) -> take another one in time"
        ),
    ),
    "a window that is too small for an answer": (
        plan_of(ROUTER, "z/small"),
        router({"id": "z/small", "context_length": 4000}),
        (
            "problem  p/z/small: max_tokens 4,000 leaves no room for a prompt in its window of 4,000 tokens; there; "
            "$1 in, $2 out per million (the job file) -> lower max_tokens"
        ),
    ),
    "a window that leaves room for hardly a round": (
        plan_of(ROUTER, "z/small"),
        router({"id": "z/small", "context_length": 8000}),
        (
            "warning  p/z/small: it may be full after few lines, of max_tokens 4,000 each, and up to 72 for the prompt"
            "; there; window 8,000; $1 in, $2 out per million (the job file) "
            "-> lower max_tokens: a window that is full stops a conversation"
        ),
    ),
    "a window that is smaller than the job says": (
        plan_of(ROUTER, "z/glm", model="price: {input: 1, output: 2}, context: 100000"),
        router(),
        (
            "warning  p/z/glm: `context` of m is 100,000, more than its window of 64,000; there; window 64,000; "
            "$1 in, $2 out per million (the job file) -> correct `context`"
        ),
    ),
    "an answer that is too long": (
        plan_of(ROUTER, "z/glm", max_tokens="9000"),
        router(),
        (
            "warning  p/z/glm: max_tokens 9,000 is more than the 8,000 that it may write; there; window 64,000; "
            "$1 in, $2 out per million (the job file) -> lower max_tokens"
        ),
    ),
    "a price that has gone up": (
        plan_of(ROUTER, "z/glm", model="price: {input: 1, output: 1.5}"),
        router(),
        (
            "warning  p/z/glm: its list says more: $1 in, $2 out per million; there; window 64,000; "
            "$1 in, $1.5 out per million (the job file) -> correct its price: calls will cost more"
        ),
    ),
    "an empty account": (
        plan_of(ROUTER, "z/glm"),
        router(account=(200, {"data": {"limit_remaining": 0, "limit": 10}})),
        "problem  p: $0.0000 of credit left of $10 -> add credit to the account, or raise the key's limit",
    ),
    "less credit than the budget": (
        plan_of(ROUTER, "z/glm", budget="8"),
        router(),
        "warning  p: $7.5000 of credit left of $10, and the budget is $8.0000 -> add credit, or lower `budget`",
    ),
    "no credit at all": (
        plan_of(ROUTER, "z/glm"),
        router(account=(402, {"error": {"message": "no more", "code": 402}})),
        "problem  p: no credit is left (HTTP 402: no more) -> add credit to the account",
    ),
    "nobody there": (
        plan_of(HERE, "q"),
        {"models": REFUSED, "resident": REFUSED},
        "problem  p: nothing listens at http://127.0.0.1:11434: is Ollama running? -> start it, or correct `base_url`",
    ),
    "a name that nobody knows": (
        plan_of(CLAUDE, "c"),
        {"model": WireError("the host name is not known", sent=False)},
        (
            "problem  p: https://api.anthropic.com/v1 cannot be reached: the host name is not known "
            "-> look at the network, or `base_url`"
        ),
    ),
    "a wrong address of a local server": (
        plan_of('type: ollama, base_url: "http://127.0.0.1:11434/v1"', "q"),
        {"models": (404, "404 page not found"), "resident": (404, "404 page not found")},
        (
            "problem  p: HTTP 404: no Ollama there; base_url is the root of its server, without /v1 or /api "
            "-> correct its `base_url`"
        ),
    ),
    "an address at which nobody knows the models": (
        plan_of('type: anthropic, base_url: "https://far.example/v2", api_key: "${P_KEY}"', "c"),
        {"model": (404, "404 page not found"), "models": (404, "404 page not found")},
        (
            "problem  p: neither its models nor their list is there (HTTP 404) "
            "-> does its `base_url` end as it should, such as in /v1?"
        ),
    ),
    "a local model with a smaller window than calls open": (
        plan_of(HERE, "q", max_tokens="1000"),
        {"models": (200, {"models": [{"name": "q", "details": {"context_length": 4096}}]}), "resident": (200, {})},
        (
            "warning  p/q: calls open 8,192 for m, more than its window; there; window 4,096; "
            "$1 in, $2 out per million (the job file) -> give it a `context` of 4,096 at most"
        ),
    ),
    "a busy provider": (
        plan_of(CLAUDE, "c"),
        {"model": (529, {"error": {"type": "overloaded_error", "message": "later"}})},
        "warning  p: it does not tell what was asked (HTTP 529: later)",
    ),
    "a server without a list": (
        plan_of('type: openai, base_url: "https://far.example/v1", api_key: "${P_KEY}"', "m1"),
        {"models": (404, {"error": {"message": "nothing here"}})},
        (
            "warning  p: it does not tell what was asked (HTTP 404: nothing here) "
            "-> does its `base_url` end as it should, such as in /v1?"
        ),
    ),
    "a model that is half on the card": (
        plan_of(HERE, "q"),
        local(["q"], {"name": "q", "size": 1000, "size_vram": 426}),
        (
            "warning  p/q: 42 % of it on the graphics card; there; window 32,768; calls open 8,192 of it (`context`); "
            "$1 in, $2 out per million (the job file) -> it will be slow: "
            "free memory, or take a smaller model or `context`"
        ),
    ),
    "a model of which less than the job wants is on the card": (
        plan_of("type: ollama, min_gpu: 0.98", "q"),
        local(["q"], {"name": "q", "size": 1000, "size_vram": 979}),
        (
            "problem  p/q: 97 % of it on the graphics card, less than `min_gpu` 0.98; there; window 32,768; "
            "calls open 8,192 of it (`context`); $1 in, $2 out per million (the job file) "
            "-> free its memory, or take a smaller model or `context`"
        ),
    ),
    "a model that is not loaded, of which some must be on the card": (
        plan_of("type: ollama, min_gpu: 0.98", "q"),
        local(["q"]),
        'warning  p/q: not loaded, so nobody can tell whether it fits the graphics card -> ollama run q ""',
    ),
    "a server that does not tell what is loaded": (
        plan_of("type: vllm, min_gpu: 0.5", "q"),
        {"models": (200, {"data": [{"id": "q", "max_model_len": 8192}]})},
        (
            "warning  p/q: the server does not tell how much of it is on the graphics card; there; window 8,192; "
            "$1 in, $2 out per million (the job file)"
        ),
    ),
    "a server that does not tell where its model is": (
        plan_of("type: llamacpp, min_gpu: 0.5", "q"),
        {
            "models": (200, {"data": [{"id": "other"}]}),
            "resident": (200, {"default_generation_settings": {"n_ctx": 8192}}),
        },
        (
            "warning  p/q: the server does not tell how much of it is on the graphics card; there; its window is not "
            "told; $1 in, $2 out per million (the job file)"
        ),
    ),
    "more models on the card than the job says fit": (
        plan_of("type: ollama, resident: 1", "q"),
        local(["q"], {"name": "q", "size": 10, "size_vram": 10}, {"name": "r", "size": 10, "size_vram": 10}),
        ("warning  p: loaded: q, r, more than `resident` 1 -> raise it, if all of them fit, and they stay loaded"),
    ),
    "a model that is loaded with too small a window": (
        plan_of(HERE, "q", model="price: {input: 1, output: 2}, context: 16000"),
        local(["q"], {"name": "q", "size": 10, "size_vram": 10, "context_length": 4096}),
        (
            "warning  p/q: loaded with a window of 4,096, less than the 16,000 that calls open for m; there; "
            "window 32,768; calls open 16,000 of it (`context`); $1 in, $2 out per million (the job file); "
            "100 % of it on the graphics card -> the first call loads it anew"
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_well_is_one_line_with_what_to_do(name: str) -> None:
    """The gravest is told first, and every line that keeps a run from beginning is a problem."""
    plan, answers, line = WRONG[name]
    some = found(plan, answers)
    wrong = [finding for finding in some if finding.grade != "ok"]
    assert [finding.line() for finding in wrong] == [line]
    assert exit_code(some) == (6 if line.startswith("problem") else 3)


def test_a_price_that_is_not_known_comes_with_the_one_that_the_list_gives() -> None:
    """The line to add can be copied."""
    (line,) = [one for one in lines(plan_of(ROUTER, "z/glm", model="label: M"), router(), {}) if "problem" in one]
    assert "its price is not known" in line
    assert line.endswith("-> give `m` a `price`: its list says {input: 1, output: 2}")


def test_an_ending_that_no_list_shows_is_that_of_the_model_before_it() -> None:
    """A router takes more names than it lists."""
    assert lines(plan_of(ROUTER, "z/glm:nitro"), router())[1].startswith("ok       p/z/glm:nitro: there; window 64,000")


def test_a_list_that_anybody_may_read_proves_no_key() -> None:
    """Where the account says nothing, the key is not called accepted."""
    said = lines(plan_of(ROUTER, "z/glm"), router(account=(500, {"error": {"message": "later"}})))
    assert said[:2] == [
        "ok       p: answers at https://openrouter.ai/api/v1",
        "warning  p: it does not tell what was asked (HTTP 500: later)",
    ]


def test_free_models_need_no_credit() -> None:
    """An empty account is no matter to a job that pays nothing."""
    answers = router(account=(200, {"data": {"limit_remaining": 0, "limit": 10}}))
    plan = plan_of(ROUTER, "z/glm", model="free: true")
    assert exit_code(found(plan, answers, {"m": FREE})) in (0, 3)


@pytest.mark.parametrize("name", [name for name, (plan, *_) in WRONG.items() if plan.providers["p"].api_key])
def test_no_key_is_in_a_line_wherever_a_provider_puts_it(name: str) -> None:
    """Every string of every answer is the key, as far as the answer is understood."""
    plan, answers, _ = WRONG[name]
    poisoned: dict[str, tuple[int, Any] | WireError] = {
        about: answer if isinstance(answer, WireError) else (answer[0], _poisoned(answer[1]))
        for about, answer in answers.items()
    }
    assert KEY not in "\n".join(lines(plan, poisoned))


def _poisoned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _poisoned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_poisoned(inner) for inner in value]
    return f"{value} {KEY}" if isinstance(value, str) else value
