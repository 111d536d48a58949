"""A whole job: what its file says, resolved; and the same again from its record."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.conversation import view
from runner.job import Job, JobError, at_hand, json_schema, unsafe
from runner.job.job import merged, settled
from runner.job.schema import KEYS, every_setting
from runner.money import Price
from runner.plan import make_plan
from runner.preflight import plays
from runner.providers import DIALECTS
from tests.job.memory import read

NIGHTLY = """
name: nightly
run_key: "{date}"
timezone: Europe/Lisbon
budget:
  {run: 5.00, conversation: 0.40, day: 8.00, month: 120.00, providers: {anthropic: 2.00}, models: {opus-4.6: 1.00}}
seed: 7
defaults:
  max_tokens: 4096
  temperature: 1.0
  timeout: {connect: 30s, first: 10m, idle: 120s, total: 30m}
  history: {reasoning: strip, overflow: stop}
  outcomes:
    empty:     {retry: 2, max_tokens: x2, then: fail}
    truncated: {retry: 0, then: accept}
    refused:   {retry: 0, then: accept}
    error:     {retry: 5, then: fail}
    lost:      {retry: 1, then: fail}
providers:
  openrouter:  {type: openai, base_url: sim, limits: {concurrency: 24, rpm: 120}}
  anthropic:   {type: openai, base_url: sim, limits: {concurrency: 6, rpm: 50, input_tpm: 40000, output_tpm: 8000}}
  workstation: {type: openai, base_url: sim, limits: {concurrency: 1}, resident: 1}
models:
  glm-5:     {use: openrouter/z-ai/glm-5, label: GLM 5, price: {input: 1.00, output: 3.20}}
  haiku-4.5: {use: openrouter/anthropic/claude-haiku-4.5, label: Claude Haiku 4.5, price: {input: 1, output: 5}}
  opus-4.6:  {use: anthropic/claude-opus-4-6, label: Claude Opus 4.6, max_tokens: 2000, price: {input: 5, output: 25}}
  flash:     {use: workstation/glm-4.7-flash, label: GLM-4.7-Flash, context: 16384, price: {input: 0, output: 0}}
  qwen:      {use: "workstation/qwen3:32b", label: "Qwen3:32B", context: 16384, price: {input: 0, output: 0}}
prompts:
  letter:
    roles: {writer: {label: USER, script: [{file: prompts/letter.md}]}, subject: {label: ASSISTANT}}
  separatrix:
    roles:
      claude: {label: Claude, script: {file: prompts/separatrix.md}}
      subject: {system: {file: prompts/separatrix-system.md}}
  prism:
    roles:
      claude: {system: {file: prompts/prism-claude.md}, opening: {file: prompts/prism-open.md}}
      subject: {}
    rounds: 5
  inherited-memory:
    context: {file: essays/inherited-memory.md}
    turns:
      - {by: a, label: Opening, instruct: "Open the discussion."}
      - {by: b, label: Response}
      - {by: a, label: Reply}
      - {by: b, label: Closing, instruct: "Close it."}
  roundtable: {roles: {one: {}, two: {}, three: {}}, opening: "What survives of a conversation?", rounds: 4}
pairings:
  - {prompt: letter, subject: [glm-5, haiku-4.5], repeat: 2}
  - {prompt: separatrix, subject: glm-5, budget: 0.25}
  - prompt: prism
    claude: [opus-4.6, haiku-4.5]
    subject: [glm-5, haiku-4.5]
    match: distinct
    exclude: [{claude: haiku-4.5, subject: glm-5}]
  - {prompt: inherited-memory, a: [flash, qwen], b: [flash, qwen], match: distinct, repeat: 3}
  - {prompt: inherited-memory, a: flash, b: haiku-4.5}
  - {prompt: roundtable, one: opus-4.6, two: glm-5, three: haiku-4.5}
set: [{when: {prompt: roundtable}, max_tokens: 1500}]
"""
FILES = {
    "prompts/letter.md": "Dear reader,\n\nwhat do you keep?\n",
    "prompts/separatrix.md": "One.\n\n<!-- turn -->\n\nTwo.\n\n<!-- turn -->\n\nThree.\n",
    "prompts/separatrix-system.md": "Answer briefly.\n",
    "prompts/prism-claude.md": "You are a prism.\n",
    "prompts/prism-open.md": "I begin.\n",
    "essays/inherited-memory.md": "An essay.\n" * 60,
}


def test_the_nightly_job_has_the_cells_that_it_describes() -> None:
    """Scripts, openings, turns, zips of names and exclusions come to fifteen conversations in plan order."""
    plan = make_plan(read(NIGHTLY, FILES), "2026-11-21")
    assert [(cell.name, cell.pairing, cell.repeat) for cell in plan.cells] == [
        ("letter/glm-5", 1, 1),
        ("letter/haiku-4.5", 1, 1),
        ("separatrix/glm-5", 2, 1),
        ("prism/opus-4.6~glm-5", 3, 1),
        ("prism/opus-4.6~haiku-4.5", 3, 1),
        ("inherited-memory/flash~qwen", 4, 1),
        ("inherited-memory/qwen~flash", 4, 1),
        ("inherited-memory/flash~haiku-4.5", 5, 1),
        ("roundtable/opus-4.6~glm-5~haiku-4.5", 6, 1),
        ("letter/glm-5.r2", 1, 2),
        ("letter/haiku-4.5.r2", 1, 2),
        ("inherited-memory/flash~qwen.r2", 4, 2),
        ("inherited-memory/qwen~flash.r2", 4, 2),
        ("inherited-memory/flash~qwen.r3", 4, 3),
        ("inherited-memory/qwen~flash.r3", 4, 3),
    ]
    assert plan.job.key(plan.date) == "2026-11-21"


def test_the_nightly_job_says_what_each_conversation_is() -> None:
    """Texts stand where their role and turn want them, with settings from the nearest entry."""
    plan = make_plan(read(NIGHTLY, FILES), "2026-11-21")
    by_name = {cell.name: plan.conversation(cell) for cell in plan.cells}
    separatrix = by_name["separatrix/glm-5"]
    assert [line.given for line in separatrix.lines] == ["One.", None, "Two.", None, "Three.", None]
    assert separatrix.participant("subject").system == "Answer briefly."
    assert separatrix.participant("claude").live is False
    prism = by_name["prism/opus-4.6~glm-5"]
    assert [line.given for line in prism.lines] == ["I begin.", *[None] * 9]
    assert (prism.rounds, prism.participant("claude").max_tokens) == (5, 2000)
    memory = by_name["inherited-memory/flash~qwen"]
    assert [(line.role, line.label, line.instruct) for line in memory.lines] == [
        ("a", "Opening", "Open the discussion."), ("b", "Response", None), ("a", "Reply", None),
        ("b", "Closing", "Close it."),
    ]  # fmt: skip
    assert view(memory, "a", [], memory.lines[0].instruct).messages[0].text.startswith("An essay.\nAn essay.")
    assert {p.max_tokens for p in by_name["roundtable/opus-4.6~glm-5~haiku-4.5"].participants} == {1500}
    letter = by_name["letter/glm-5"]
    assert [p.label for p in letter.participants] == ["USER", "ASSISTANT"]
    assert [p.label for p in memory.participants] == ["GLM-4.7-Flash", "Qwen3:32B"]


def test_the_nightly_job_has_its_ceilings_prices_and_limits() -> None:
    """Money is exact, and every ceiling stands where the plan looks for it."""
    plan = make_plan(read(NIGHTLY, FILES), "2026-11-21")
    assert (plan.budget.run, plan.budget.conversation) == (5_000_000_000, 400_000_000)
    assert (plan.budget.day, plan.budget.month) == (8_000_000_000, 120_000_000_000)
    assert plan.budget.providers == {"anthropic": 2_000_000_000}
    assert plan.budget.models == {"opus-4.6": 1_000_000_000}
    assert (plan.budget.pairings, plan.budget.conversations) == ({2: 250_000_000}, {})
    assert plan.models["glm-5"].price == Price(Decimal(1), Decimal("3.2"))
    limits = plan.providers["anthropic"].limits
    assert (limits.concurrency, limits.rpm, limits.input_tpm, limits.output_tpm, limits.tpm) == (
        6,
        50,
        40000,
        8000,
        None,
    )


def test_the_smallest_useful_job_needs_five_lines() -> None:
    """Everything that is not said has a value."""
    text = """
        name: first-talk
        budget: 0.50
        prompts:
          memory: {opening: "What survives of a conversation?", rounds: 4}
        pairings:
          - {a: sim/ada, b: openai/gpt-5}
    """
    job = read(text)
    assert (job.run_key, job.timezone, job.budget, job.max_wait) == ("main", "UTC", 500_000_000, 900.0)
    assert job.providers["openai"].limit_field == "max_completion_tokens"
    assert (job.models["ada"].free, job.models["gpt-5"].free) == (False, False)
    assert settled([job.defaults]).max_tokens == 4096


@pytest.mark.parametrize(
    ("extra", "free"),
    [
        ("models: {m: {use: sim/m}}", False),
        ("models: {m: {use: sim/m, free: true}}", True),
        ("models: {m: {use: sim/m, price: {input: 1, output: 1}}}", False),
        ("models: {m: {use: openai/m, free: true}}", True),
        ("models: {m: {use: openai/m}}\nproviders: {openai: {free: true}}", True),
        ("models: {m: {use: w/m}}\nproviders: {w: {type: openai, base_url: sim}}", False),
    ],
)
def test_a_model_is_free_by_word_alone(extra: str, free: bool) -> None:
    """The built-in provider has prices, too; what costs nothing says so, itself or its provider."""
    job = read(f"budget: 1\n{extra}\nprompts: {{t: {{opening: hi, rounds: 1}}}}\npairings: [{{a: m, b: sim/x}}]\n")
    assert job.models["m"].free is free


def test_every_kind_of_ceiling_bounds_the_money() -> None:
    """Without a ceiling for the run, each paid model needs one of its own."""
    base = "prompts: {t: {opening: hi, rounds: 1}}\npairings: [{a: openai/m, b: sim/x%s}]\n%s"
    bounds = ("conversation: 1", "day: 1", "month: 1", "providers: {openai: 1}", "models: {m: 1}")
    for pairing, budget in [(", budget: 1", ""), *(("", f"budget: {{{bound}}}") for bound in bounds)]:
        assert read(base % (pairing, budget)).prompts
    with pytest.raises(JobError, match="nothing bounds it"):
        read(base % ("", "budget: {providers: {sim: 1}}"))


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        ("", True),
        ("w: {type: openai, base_url: sim}", True),
        ("w: {type: openai, base_url: 'http://localhost'}", False),
    ],
)
def test_a_job_plays_while_only_the_built_in_provider_is_asked(providers: str, expected: bool) -> None:
    """One real server among its providers, and all that the job counts is real money; an unused one changes nothing."""
    text = "budget: 1\nproviders: {%s}\nprompts: {t: {opening: hi, rounds: 1}}\npairings: [{a: sim/x, b: %s/m}]\n"
    price = "models: {m: {use: w/m, price: {input: 1, output: 1}}}\n"
    used = "w" if providers else "sim"
    assert plays(make_plan(read((price if providers else "") + text % (providers, used)), "2026-11-21")) is expected
    assert plays(make_plan(read(text % (providers, "sim")), "2026-11-21"))


def test_min_tokens_is_a_setting_of_any_entry_and_not_of_a_conversation() -> None:
    """The strongest entry wins, null means none, and no conversation becomes another one by it."""
    text = """
        DEFAULTS
        models: {m: {use: sim/m, min_tokens: 300}, n: {use: sim/n, min_tokens: null}}
        prompts: {t: {opening: hi, rounds: 1}}
        pairings: [{a: m, b: [n, sim/x]}]
        set: [{when: {b: x, model: m}, min_tokens: 20}]
    """
    plan = make_plan(read(text.replace("DEFAULTS", "defaults: {min_tokens: 100}")), "2026-11-21")
    sides = [[p.min_tokens for p in plan.conversation(cell).participants] for cell in plan.cells]
    assert sides == [[300, None], [20, 100]]
    bare = make_plan(read(text.replace("DEFAULTS", "").replace("min_tokens: 300", "max_tokens: 4096")), "2026-11-21")
    assert [cell.id for cell in bare.cells] == [cell.id for cell in plan.cells]
    assert settled([every_setting()]).min_tokens is None


def test_day_and_month_change_no_conversation() -> None:
    """What a day may cost can be changed in the middle of it."""
    text = "BUDGET\nprompts: {t: {opening: hi, rounds: 1}}\npairings: [{a: sim/ada, b: sim/eli}]\n"
    plans = [
        make_plan(read(text.replace("BUDGET", b)), "2026-11-21") for b in ("budget: {day: 1, month: 2}", "seed: 0")
    ]
    assert [cell.id for cell in plans[0].cells] == [cell.id for cell in plans[1].cells]
    assert (plans[1].budget.day, plans[1].budget.month) == (None, None)


def test_the_record_of_an_older_version_has_no_day_no_month_and_no_least() -> None:
    """A journal from before these keys is read as if they had not been set."""
    data, texts = read("prompts: {t: {opening: hi, rounds: 1}}\npairings: [{a: sim/ada, b: sim/eli}]\n").record()
    for key in ("day_budget", "month_budget"):
        del data[key]
    del data["defaults"]["min_tokens"]
    job = Job.from_record(data, texts)
    assert (job.day_budget, job.month_budget, settled([job.defaults]).min_tokens) == (None, None, None)


def test_a_scripts_length_gives_the_rounds() -> None:
    """A script ends its conversation; with `turns` it is the cycle that counts, and what is left over is not said."""
    text = """
        prompts:
          t:
            roles: {u: {script: "One\\n<!-- turn -->\\nTwo\\n<!-- turn -->\\nThree"}, s: {}}
            TURNS
        pairings: [{s: sim/ada}]
    """
    assert read(text.replace("TURNS", "context: x")).prompts["t"].rounds == 3
    job = read(text.replace("TURNS", "turns: [{by: u}, {by: s}, {by: u}, {by: s}]"))
    plan = make_plan(job, "2026-11-21")
    assert [line.given for line in plan.conversation(plan.cells[0]).lines] == ["One", None, "Two", None]


def test_a_roles_system_replaces_the_prompts_and_null_means_none() -> None:
    """Nobody is given a system text twice."""
    text = """
        prompts: {t: {system: all, roles: {x: {}, y: {system: own}, z: {system: null}}, opening: hi, rounds: 1}}
        pairings: [{x: sim/a, y: sim/b, z: sim/c}]
    """
    assert [role.system for role in read(text).prompts["t"].roles] == ["all", "own", None]


def test_settings_are_merged_key_by_key_from_the_outside_in() -> None:
    """set, pairing, prompt, model, provider, defaults: the nearest that says something wins, for each key alone."""
    text = """
        defaults: {max_tokens: 1, temperature: 0.1, top_p: 0.1, timeout: {idle: 1s, total: 1s, first: 1s, connect: 1s}}
        providers: {sim: {max_tokens: 2, temperature: 0.2, timeout: {idle: 2s, total: 2s, first: 2s}}}
        models: {m: {use: sim/m, max_tokens: 3, temperature: 0.3, timeout: {idle: 3s, total: 3s}}}
        prompts: {t: {opening: hi, rounds: 1, max_tokens: 4, temperature: 0.4, timeout: {idle: 4s}}}
        pairings: [{a: m, b: sim/x, max_tokens: 5, temperature: null, outcomes: {empty: {retry: 0}}}]
        set: [{when: {model: m}, max_tokens: 6}, {when: {a: m}, presence_penalty: 1}]
    """
    plan = make_plan(read(text), "2026-11-21")
    a, b = plan.conversation(plan.cells[0]).participants
    assert (a.max_tokens, b.max_tokens) == (6, 5)
    assert (a.sampling.temperature, a.sampling.top_p, a.sampling.presence_penalty) == (None, 0.1, 1.0)
    assert b.sampling.presence_penalty == 1.0
    assert (a.timeouts.idle, a.timeouts.total, a.timeouts.first, a.timeouts.connect) == (4.0, 3.0, 2.0, 1.0)
    assert (a.outcomes.empty.retry, a.outcomes.empty.max_tokens_times, a.outcomes.error.retry) == (0, 2.0, 5)


_layer = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3), max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(_layer, _layer, _layer)
def test_merging_is_associative_and_keeps_the_inner_value(x: Any, y: Any, z: Any) -> None:
    """It does not matter which layers are merged first, and a merged layer never loses what it says."""
    if all(_same_shape(p, q) for p, q in ((x, y), (y, z), (x, z))):
        assert merged(merged(x, y), z) == merged(x, merged(y, z))
    assert merged(merged(x, y), y) == merged(x, y)
    assert merged({}, x) == x == merged(x, {})


def _same_shape(x: Any, y: Any) -> bool:
    """No key is a mapping in one layer and a value in the other, as the schema makes sure."""
    return all(
        _same_shape(x[key], y[key]) if isinstance(x[key], dict) and isinstance(y[key], dict)
        else not isinstance(x[key], dict) and not isinstance(y[key], dict)
        for key in x.keys() & y.keys()
    )  # fmt: skip


# --- the record ----------------------------------------------------------------------------------------------------


def again(job: Job) -> Job:
    data, texts = job.record()
    return Job.from_record(json.loads(json.dumps(data, allow_nan=False)), json.loads(json.dumps(texts)))


def test_a_job_comes_back_from_its_record() -> None:
    """The nightly job, through JSON, is the same job with the same conversations; a long text stands there once."""
    job = read(NIGHTLY, FILES)
    data, texts = job.record()
    assert again(job) == job
    assert [cell.id for cell in make_plan(again(job), "x").cells] == [cell.id for cell in make_plan(job, "x").cells]
    assert list(texts.values()) == [FILES["essays/inherited-memory.md"].strip()]
    assert "An essay." not in json.dumps(data)


def test_a_record_without_its_texts_is_refused() -> None:
    """A hash that names nothing is not taken for a text."""
    data, _ = read(NIGHTLY, FILES).record()
    with pytest.raises(KeyError):
        Job.from_record(data, {})


_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
_long = _texts.map(lambda text: text * 30)


@settings(max_examples=60, deadline=None)
@given(
    name=_texts, value=_texts | _long, price=st.decimals(0, 10_000, places=6), dollars=st.integers(0, 10**9),
    temperature=st.floats(0, 2), repeat=st.integers(1, 5), seed=st.integers(0, 2**53 - 1),
)  # fmt: skip
def test_any_job_comes_back_from_its_record(
    name: str, value: str, price: Decimal, dollars: int, temperature: float, repeat: int, seed: int
) -> None:
    """Nothing is lost or rounded on the way through JSON."""
    if 0 < price < Decimal("0.0001"):
        price = Decimal(1)
    tree = {
        "budget": dollars / 1000,
        "seed": seed,
        "vars": {"x": value},
        "models": {"m": {"use": "openai/m", "price": {"input": float(price), "output": 1}, "temperature": temperature}},
        "prompts": {
            "t": {"opening": f"Hi {name.replace('{{', '')}", "system": "!" + value.replace("{{", ""), "rounds": 2}
        },
        "pairings": [{"a": "m", "b": "sim/x", "repeat": repeat, "budget": {"conversation": 0.000000001}}],
    }
    job = read(json.dumps(tree))
    assert again(job) == job


# --- the rest ------------------------------------------------------------------------------------------------------


def test_the_json_schema_knows_what_the_file_may_hold() -> None:
    """Editors are given the same keys, and a bare number as a budget."""
    schema = json_schema()
    assert list(schema["properties"]) == list(KEYS)
    assert schema["additionalProperties"] is False
    assert {"type": "number", "minimum": 0} in schema["properties"]["budget"]["anyOf"]
    assert {"type": "number", "minimum": 0} in schema["$defs"]["PairingEntry"]["properties"]["budget"]["anyOf"]
    assert schema["$defs"]["ModelEntry"]["properties"]["timeout"]
    prompt = schema["$defs"]["PromptEntry"]["properties"]
    assert {"const": "farewell"} in prompt["stop"]["items"]["anyOf"]
    assert {"$ref": "#/$defs/RenderEntry"} in prompt["render"]["anyOf"] and len(prompt["render"]["anyOf"]) == 3
    assert "schema" in schema["$defs"]["AfterEntry"]["properties"]
    json.dumps(schema)


def test_the_built_in_settings_are_complete() -> None:
    """Whatever a job leaves out, a call has all that it needs."""
    whole = settled([every_setting()])
    assert whole.max_tokens == 4096
    assert (whole.outcomes.truncated.accept, whole.outcomes.error.accept) == (True, False)


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("url", "keyed", "fine"),
    [
        ("https://api.example.com/v1", True, True),
        ("http://127.0.0.1:8080/v1", True, True),
        ("http://[::1]:8080/v1", True, True),
        ("http://localhost/v1", True, True),
        ("http://localhost.example.com/v1", True, False),
        ("http://192.168.1.5/v1", False, True),
        ("http://192.168.1.5/v1", True, False),
        ("https://user@example.com/v1", False, False),
        ("https://example.com/v1?key=1", False, False),
        ("https://169.254.10.1/v1", False, False),
        ("https://[fe80::1%25eth0]/v1", False, False),
        ("https://[::ffff:169.254.169.254]/v1", False, False),
        ("http://0xa9fea9fe/", False, False),
        ("http://0251.0376.0251.0376/", False, False),
        ("http://metadata.google.internal./", False, False),
        ("https://", False, False),
        ("https://example.com:99999/", False, False),
        ("https://exa mple.com/", False, False),
        ("file:///etc/passwd", False, False),
        ("sim", False, False),
    ],
)
def test_a_key_goes_only_where_it_is_safe(url: str, keyed: bool, fine: bool) -> None:
    """Plain http is for this machine, and no address of the machine's own network is a model server."""
    assert (unsafe(url, keyed=keyed) is None) is fine


@pytest.mark.parametrize(
    ("host", "near"),
    [
        *(("127.0.0.1:8000", True), ("localhost", True), ("[::1]:1234", True), ("[::ffff:10.1.2.3]", True)),
        *(("10.1.2.3", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.7.1", True), ("8.8.8.8", False)),
        *(("100.100.7.7", True), ("100.128.0.1", False), ("[fd12::7]", True), ("[2606:4700::1111]", False)),
        *(("gpu", True), ("4090box:8000", True), ("gpu.local", True), ("gpu.lan.", True), ("h.docker.internal", True)),
        *(("GPU.LOCAL", True), ("gpu.home.arpa", True), ("gpu.cloud.example", False), ("local.example", False)),
        *(("134744072", False), ("0x08080808", False), ("2130706433", True), ("ollama.com", False), ("[", False)),
    ],
)
def test_a_server_is_free_by_its_type_only_at_hand(host: str, near: bool) -> None:
    """On this machine and in networks of one's own; a public host with the same software sends bills."""
    assert at_hand(f"http://{host}/v1") is near
    if host != "[":
        job = read((AT % f'type: vllm, base_url: "https://{host}/v1"').replace("budget: 1", "budget: {run: 1}"))
        provider = job.providers["p"]
        assert (provider.free, provider.free_at_hand, job.models["a"].free) == (near, near, near)
        said = read(AT % f'type: vllm, free: true, base_url: "https://{host}/v1"').providers["p"]
        assert (said.free, said.free_at_hand) == (True, False)


AT = "name: j\nbudget: 1\npairings: [{a: p/a, b: p/b}]\nprompts: {p: {opening: Hi., rounds: 1}}\nproviders: {p: {%s}}\n"


@pytest.mark.parametrize(
    ("entry", "per", "count", "field"),
    [
        ('type: anthropic, base_url: "https://far.example/v1"', "model", "used", None),
        ("type: anthropic", "model", "used", None),
        ('type: openai-responses, base_url: "https://far.example/v1"', "model", "reserved", None),
        ('type: openai, base_url: "https://far.example/v1"', "provider", "reserved", None),
        ('type: openai, base_url: "https://api.openai.com/v1/"', "model", "reserved", "max_completion_tokens"),
        ("type: openai", "model", "reserved", "max_completion_tokens"),
        ("type: openai, limits: {rpm: 5}", "provider", "reserved", "max_completion_tokens"),
    ],
)
def test_the_type_and_no_name_says_how_a_provider_counts(entry: str, per: str, count: str, field: str | None) -> None:
    """Wherever it is; but of the type that anybody speaks that is known at its own address alone."""
    found = read(AT % entry).providers["p"]
    assert (found.limits.per, found.limits.count, found.limit_field) == (per, count, field)


@pytest.mark.parametrize("type_", [name for name in DIALECTS if name != "sim"])
def test_a_type_without_an_address_is_one_more_account_at_its_own(type_: str) -> None:
    """With a key of its own, and with that of its variable where none is given."""
    home = DIALECTS[type_].home
    second, same = (read(AT % f"type: {type_}{key}").providers["p"] for key in (', api_key: "${SECOND}"', ""))
    assert second.base_url == same.base_url == home.base_url
    assert (second.api_key, same.api_key) == ("${SECOND}", home.api_key)


def test_a_model_without_an_entry_has_the_window_of_its_server_too() -> None:
    """Where a server must be told of one, it is the same however the model is named."""
    text = """
        name: j
        models: {m: {use: ollama/m}}
        prompts: {p: {opening: Hi., rounds: 1}}
        pairings: [{a: m, b: ollama/n}]
    """
    assert {alias: model.context for alias, model in read(text).models.items()} == {"m": 8192, "n": 8192}


@pytest.mark.parametrize("header", ["Authorization", "api-key", "X-Api-Key", "x-goog-api-key"])
def test_a_key_in_a_header_is_the_only_key(header: str) -> None:
    """The usual one of that name is neither asked for nor sent to whoever is at the address."""
    text = "name: j\nbudget: 1\npairings: [{a: openai/a, b: openai/b}]\nprompts: {p: {opening: Hi., rounds: 1}}\n"
    entry = 'providers: {openai: {base_url: "https://proxy.example/v1", headers: {%s: "Bearer ${MINE}"}}}'
    keyed, other = (read(text + entry % name).providers["openai"] for name in (header, "X-Title"))
    assert (keyed.api_key, other.api_key) == (None, "${OPENAI_API_KEY}")


def test_reasoning_may_be_a_bare_word_and_is_part_of_what_a_conversation_is() -> None:
    """The word is its effort; a job that says nothing of it has the conversations that it always had."""
    text = 'name: j\npairings: [{a: sim/ada, b: sim/bo}]\nprompts: {p: {opening: "Hi.", rounds: 1}}\ndefaults: {%s}\n'
    plain, word, long = (
        make_plan(read(text % said), "2026-11-21") for said in ("", "reasoning: low", "reasoning: {effort: low}")
    )
    assert word.cells[0].id == long.cells[0].id != plain.cells[0].id
    speaker = word.conversation(word.cells[0]).participant("a")
    assert (speaker.reasoning.effort, speaker.reasoning.tokens) == ("low", None)
