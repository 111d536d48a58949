"""Mistakes in a job file: each is told once, at its place, and all of them together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.job import JobError, Problem
from runner.job.schema import KEYS
from tests.job.memory import read

PROMPTS = "prompts: {talk: {opening: Hello., rounds: 2}}"
PAIRINGS = "pairings: [{a: sim/ada, b: sim/basil}]"
PAID = "https://api.example.com/v1"


def whole(text: str) -> str:
    """The job with the parts that the text leaves out."""
    text = dedent(text).lstrip("\n")
    for part in (PROMPTS, PAIRINGS):
        if part.partition(" ")[0] not in text:
            text = f"{text.rstrip()}\n{part}\n"
    return text


def problems(text: str, files: Mapping[str, str | bytes] | None = None, *sets: str) -> tuple[Problem, ...]:
    with pytest.raises(JobError) as caught:
        read(text, files, sets)
    return caught.value.problems


def kind(keys: str) -> str:
    """A job whose prompt says this, too."""
    return f"prompts: {{t: {{opening: hi, rounds: 1, {keys}}}}}"


def after(keys: str) -> str:
    """A job with one observer, of whom this is said."""
    return kind(f"after: [{{observer: sim/eli, prompt: p, {keys}}}]")


def boxed(keys: str, more: str = "rounds: 1", pairing: str = "s: sim/ada") -> str:
    """A job with a side `u` of this kind, and a live one."""
    return f"prompts: {{t: {{roles: {{u: {keys}, s: {{}}}}, {more}}}}}\npairings: [{{prompt: t, {pairing}}}]"


# A `»` stands before the place where the mistake is expected to be found.
MISTAKES = {
    # the file as YAML
    "not YAML": ("prompts: {a: 1\npairings»: []", "not valid YAML"),
    "two documents": (f"{PROMPTS}\n{PAIRINGS}\n»---\nname: x", "a second document"),
    "a doubled key": ("seed: 1\n»seed: 2", "`seed` stands here a second time; the first is in line 1"),
    "a doubled key deep inside": (
        "prompts: {talk: {opening: hi, rounds: 2, »rounds: 3}}",
        "`rounds` stands here a second time",
    ),
    "a tag": ("seed: »!!int 5", "has no meaning here"),
    "a foreign tag": ("seed: »!python/object 5", "has no meaning here"),
    "an alias without an anchor": ("vars: {x: »*nothing}", "names no anchor"),
    "a complex key": ("? »{a: b}\n: 1", "a key is a single word"),
    "a surrogate": ('vars: {x: »"\\ud800"}', "U+D800"),
    "not a mapping": ("»- prompts:\n- pairings:", "a job is a mapping"),
    # the head
    "an unknown key": ("»budgt: 5", "unknown key `budgt`"),
    "a name with a slash": ("name: »night/ly", "the name of a folder"),
    "a name of dots": ("name: »'..'", "the name of a folder"),
    "a name of our own": ("name: »ledger.jsonl", "reserved"),
    "a device as name": ("name: »CON", "reserved"),
    "a number as name": ("name: »5", "a text is expected"),
    "a run key with an unknown field": ('run_key: »"{day}"', "no field but {date}"),
    "a run key that climbs": ("run_key: »../x", "the name of a folder"),
    "an unknown zone": ("timezone: »Europe/Lisbonn", "no time zone `Europe/Lisbonn`"),
    "a zone that is a path": ("timezone: »../../etc/passwd", "no time zone"),
    "yes for true": ("send_seed: »yes", "true or false"),
    "a negative seed": ("seed: »-1", "at least 0"),
    "a duration without a unit": ("max_wait: »300", "needs its unit"),
    "a duration with an unknown unit": ("max_wait: »3 weeks", "not a duration"),
    "a duration that reads as a clock": ("defaults: {timeout: {total: »1:30}}", "not a duration"),
    "no time at all": ("defaults: {timeout: {idle: »0s}}", "no time at all"),
    "a month of waiting": ("defaults: {timeout: {idle: »30d}}", "longer than 7 days"),
    "a variable of our own": ("vars: {»date: x}", "reserved"),
    "a variable with a dot": ("vars: {»a.b: x}", "cannot be the name of a field"),
    "a truth as a variable": ("vars: {x: »true}", "a text or a number"),
    # money
    "negative money": ("budget: »-1", "is negative"),
    "money as text": ('budget: »"5,00"', "a mapping is expected"),
    "money as text inside": ('budget: {run: »"5,00"}', "a number is expected"),
    "not a number": ("budget: ».nan", "not a finite number"),
    "endless money": ("budget: {run: »1e400}", "not a finite number"),
    "absurd money": ("budget: {run: »5000000000}", "more than a run can mean"),
    "a sliver of money": ("budget: {run: »0.00000000001}", "more than nine decimals"),
    "a day above its month": ("budget: {month: 5, day: »8}", "a day may cost $8, but the whole month $5"),
    "a negative day": ("budget: {day: »-1}", "is negative"),
    "a month as text": ('budget: {month: »"120"}', "a number is expected"),
    "a year of money": ("budget: {»year: 1000}", "unknown key `year`"),
    "a budget for nobody": ("budget: {run: 1, models: {»opus: 1}}", "no model `opus`"),
    "a budget for no provider": ("budget: {run: 1, providers: {»sin: 1}}", "no provider `sin`"),
    "a negative price": (
        "models: {m: {use: sim/m, price: {input: »-1, output: 1}}}",
        "is negative",
    ),
    "a price per token": (
        "models: {m: {use: sim/m, price: {input: »0.0000032, output: 1}}}",
        "0.0000032 dollars per million tokens is too little",
    ),
    "an absurd price": ("models: {m: {use: sim/m, price: {input: »20000, output: 1}}}", "is it per token?"),
    "a price without output": ("models: {m: {use: sim/m, price: »{input: 1}}}", "`output` is missing"),
    "a price of nothing": ("models: {m: {use: sim/m, free: »true, price: {input: 1, output: 1}}}", "and be free"),
    "nothing bounds the money": (
        f'»providers: {{w: {{type: openai, base_url: "{PAID}"}}}}\npairings: [{{a: w/x, b: sim/ada}}]',
        "`x` costs money, and nothing bounds it",
    ),
    # providers
    "a provider of no known type": ("providers: {»acme: {}}", "`type` is missing"),
    "a temperature that a provider refuses": (
        "models: {c: {use: anthropic/c, free: true, temperature: »1.7}}\npairings: [{a: c, b: sim/ada}]",
        "temperature 1.7 is more than 1, the most that `anthropic` (type anthropic) takes",
    ),
    "too little thinking for a provider": (
        "defaults: {reasoning: {tokens: »100}}\nmodels: {c: {use: anthropic/c, free: true}}\npairings: [{a: c, b: c}]",
        "reasoning of 100 tokens is less than 1,024, the least that",
    ),
    "thinking that leaves no room for an answer": (
        (
            "defaults: {max_tokens: 2000, reasoning: {tokens: »2000}}\nmodels: {c: {use: anthropic/c, free: true}}\n"
            "pairings: [{a: c, b: c}]"
        ),
        "reasoning of 2,000 tokens leaves `c` none of its max_tokens 2,000",
    ),
    "thinking that leaves no room when the output is lowered": (
        (
            "defaults: {min_tokens: 1500, reasoning: {tokens: »2000}}\nmodels: {c: {use: anthropic/c, free: true}}\n"
            "pairings: [{a: c, b: c}]"
        ),
        "none of its min_tokens 1,500",
    ),
    "more texts to stop at than a provider takes": (
        "models: {c: {use: openai/c, free: true, stop_strings: »[a, b, c, d, e]}}\npairings: [{a: c, b: c}]",
        "5 stop_strings are more than 4, the most that `openai` (type openai) takes",
    ),
    "an unknown dialect": ("providers: {w: {type: »opanai, base_url: sim}}", "this is no type of provider: "),
    "a key in the file": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", api_key: »sk-abcdefghijklmnopqrst}}}}',
        "looks like an API key",
    ),
    "a key of no known shape": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", api_key: »0123456789abcdef0123}}}}',
        "a key may not stand in a job file",
    ),
    "a key as a default": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", api_key: »"${{W:-0123456789abcdef0123}}"}}}}',
        "a key may not stand in a job file",
    ),
    "a key in a header": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", headers: {{X-Auth: »0123456789abcdef0123}}}}}}',
        "a key may not stand in a job file",
    ),
    "a variable that is none": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", api_key: »"${{W-x}}"}}}}',
        "is no variable",
    ),
    "a header with a line end": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", headers: {{X-A: »"a\\nb"}}}}}}',
        "cannot be sent in a header",
    ),
    "a header of the request itself": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", headers: {{»Host: x}}}}}}',
        "is set with each request",
    ),
    "a key over http": (
        'providers: {w: {type: openai, base_url: »"http://10.0.0.7:8000/v1", api_key: "${W}"}}',
        "unencrypted",
    ),
    "a user in the URL": ('providers: {w: {type: openai, base_url: »"https://u:p@example.com/v1"}}', "user name"),
    "the metadata address": (
        'providers: {w: {type: openai, base_url: »"http://169.254.169.254/v1"}}',
        "metadata address",
    ),
    "the metadata address as a number": (
        'providers: {w: {type: openai, base_url: »"http://2852039166/v1"}}',
        "metadata address",
    ),
    "not a URL": ('providers: {w: {type: openai, base_url: »"ftp://example.com"}}', "not a URL"),
    "sim elsewhere": (f'providers: {{w: {{type: sim, base_url: »"{PAID}"}}}}', "the built-in server"),
    "a server that cannot be configured": (
        f'providers: {{w: {{type: openai, base_url: "{PAID}", »sim: {{}}}}}}',
        "only the built-in server",
    ),
    "no requests at all": ("providers: {sim: {limits: {rpm: »0}}}", "at least 1"),
    "an unknown limit": ("providers: {sim: {limits: {»rmp: 5}}}", "unknown key `rmp`"),
    "a limit that lets nothing through": (
        "providers: {sim: {limits: {output_tpm: »1000}}}",
        "it would wait for ever",
    ),
    # models
    "a model without a provider": ("models: {m: {use: »glm}}", "provider/model-id"),
    "a model that uses nothing": ("models: {m: »{label: M}}", "`use` is missing"),
    "a model of an unknown provider": ("models: {m: {use: »acme/large}}", "no provider `acme`"),
    "an unknown setting": ("models: {m: {use: sim/m, »temprature: 1}}", "unknown key `temprature`"),
    "too warm": ("models: {m: {use: sim/m, temperature: »2.5}}", "at most 2"),
    "a fraction of a token": ("models: {m: {use: sim/m, max_tokens: »1.5}}", "a whole number"),
    "a header twice": (
        f'budget: 1\nproviders: {{w: {{type: openai, base_url: "{PAID}", headers: {{X-A: "1", »x-a: "2"}}}}}}',
        "`x-a` and `X-A` are one header",
    ),
    "the address of one kind of request": (
        'budget: 1\nproviders: {w: {type: openai, base_url: »"https://x.example/v1/chat/completions/"}}',
        "`/chat/completions` is put behind this by each request",
    ),
    "the address of messages": (
        'budget: 1\nproviders: {w: {type: anthropic, base_url: »"https://x.example/v1/messages"}}',
        "`/messages` is put behind this",
    ),
    "a dearer model to fall back on": (
        "defaults: {extra: {»models: [dear]}}",
        "`models` follows from the call at `sim`: `extra` cannot change it",
    ),
    "a field of the call in extra": (
        "defaults: {extra: {»stream: false, service_tier: flex}}",
        "`stream` follows from the call at `sim`: `extra` cannot change it",
    ),
    "no number in extra": (
        "models: {m: {use: sim/m, extra: {bias: ».nan}}}",
        "a finite number is expected here",
    ),
    "no number deep in extra": (
        "defaults: {extra: {bias: »{a: [1, -.inf]}}}",
        "a finite number is expected here: `a.1`",
    ),
    "a number of more bits than anybody reads in extra": (
        "set: [{when: {model: sim/ada}, extra: {seed: »18446744073709551616}}]",
        "a whole number of at most 64 bits is expected here",
    ),
    "a number of more bits for the built-in server": (
        "providers: {sim: {sim: {seed: »18446744073709551616}}}",
        "a whole number of at most 64 bits is expected here",
    ),
    "a field of the call deep in extra": (
        f"""
        budget: 1
        providers: {{g: {{type: gemini, base_url: "{PAID}"}}}}
        models: {{m: {{use: g/m, price: {{input: 1, output: 1}}}}}}
        pairings: [{{a: m, b: sim/ada, extra: {{generationConfig: {{»candidateCount: 2, topK: 5}}}}}}]
        """,
        "`generationConfig.candidateCount` follows from the call at `g`",
    ),
    "a field of the call in a rule": (
        "set: [{when: {model: sim/ada}, extra: {»messages: []}}]",
        "`messages` follows from the call at `sim`",
    ),
    "a graphics card of somebody else": (
        f'budget: 1\nproviders: {{g: {{type: gemini, base_url: "{PAID}", »min_gpu: 0.5}}}}',
        "`gemini` runs on no graphics card of yours",
    ),
    "room for models on machines of somebody else": (
        f'budget: 1\nproviders: {{g: {{type: gemini, base_url: "{PAID}", »resident: 1}}}}',
        "`gemini` loads its models on machines of its own",
    ),
    "room for models that are counted one by one": (
        "providers: {card: {type: ollama, limits: {per: model}, »resident: 1}}",
        "`resident` counts over all models of a provider",
    ),
    "room for no model": ("providers: {card: {type: ollama, resident: »0}}", "at least 1"),
    "more than all of the graphics card": ("providers: {sim: {min_gpu: »1.5}}", "at most 1"),
    "no token at least": ("defaults: {min_tokens: »0}", "at least 1"),
    "a least of half a token": ("models: {m: {use: sim/m, min_tokens: »0.5}}", "a whole number"),
    "a least above the built-in most": (
        "defaults: {min_tokens: »5000}",
        "min_tokens 5,000 is more than the max_tokens 4,096 of `ada`",
    ),
    "a least above a model's most": (
        "defaults: {min_tokens: »1000}\nmodels: {m: {use: sim/m, max_tokens: 500}}\npairings: [{a: m, b: sim/ada}]",
        "min_tokens 1,000 is more than the max_tokens 500 of `m`",
    ),
    "a least of a model above a prompt's most": (
        (
            "models: {m: {use: sim/m, min_tokens: »1000}}\nprompts: {t: {opening: hi, rounds: 1, max_tokens: 500}}\n"
            "pairings: [{a: m, b: sim/ada}]"
        ),
        "min_tokens 1,000 is more than the max_tokens 500 of `m`",
    ),
    "a least of a provider above its most": (
        "providers: {sim: {min_tokens: »600, max_tokens: 500}}",
        "min_tokens 600 is more than the max_tokens 500",
    ),
    "a least of a prompt above a pairing's most": (
        (
            "prompts: {t: {opening: hi, rounds: 1, min_tokens: »600}}\n"
            "pairings: [{a: sim/ada, b: sim/eli, max_tokens: 500}]"
        ),
        "min_tokens 600 is more than the max_tokens 500",
    ),
    "a least of a pairing above a rule's most": (
        "pairings: [{a: sim/ada, b: sim/eli, min_tokens: »600}]\nset: [{when: {model: ada}, max_tokens: 500}]",
        "min_tokens 600 is more than the max_tokens 500 of `ada`",
    ),
    "a least of a rule above the most": (
        (
            "defaults: {min_tokens: 100}\nset: [{when: {prompt: talk}, min_tokens: 200}, "
            "{when: {model: ada}, min_tokens: »5000}]"
        ),
        "min_tokens 5,000 is more than the max_tokens 4,096 of `ada`",
    ),
    "a blank label": ('models: {m: {use: sim/m, label: »" "}}', "blank"),
    "a label of two lines": ('models: {m: {use: sim/m, label: »"a\\nb"}}', "one line"),
    "names that differ in case": ("models: {glm: {use: sim/m}, »GLM: {use: sim/n}}", "differ in case only"),
    "a window smaller than the answer": (
        "models: {m: »{use: sim/m, context: 4096}}\npairings: [{a: m, b: sim/ada}]",
        "leaves no room for a prompt",
    ),
    "accepting what is empty": (
        "defaults: {outcomes: {empty: {then: »accept}}}",
        "must be `fail`",
    ),
    "growth without an x": ("defaults: {outcomes: {empty: {max_tokens: »2}}}", "from `x1` to `x16`"),
    "a rule for an unknown outcome": ("defaults: {outcomes: {»blank: {retry: 1}}}", "unknown key `blank`"),
    "reasoning in another way": ("defaults: {history: {reasoning: »hide}}", "must be `strip` or `keep`"),
    "a full window in another way": ("defaults: {history: {overflow: »cut}}", "`trim`"),
    "a window of nothing": ("defaults: {history: {window: »0}}", "at least 1"),
    # the night
    "a time that is none": ('deadline: »"25:00"', "neither a time of day nor a duration"),
    "a deadline at once": ("deadline: »0s", "no time at all"),
    "a deadline without a unit": ("deadline: »300", "needs its unit"),
    "an end that nobody knows": ("notify: {when: [»success], command: [x]}", "this must be"),
    "an end of nothing": ("notify: {when: »[], command: [x]}", "this is empty"),
    "nobody to tell": ("notify: »{when: [failed]}", "nobody is told"),
    "a command of nothing": ("notify: {command: »[' ']}", "its first word is the program"),
    "a webhook that is no URL": ("notify: {webhook: »hooks.example.com}", "not a URL"),
    "a webhook over http": ('notify: {webhook: »"http://hooks.example.com/x"}', "unencrypted"),
    "a webhook with its secret": (
        'notify: {webhook: »"https://hooks.example.com/services/T0/B0/abcdefgh12345678"}',
        "whoever has this address can post there",
    ),
    "a webhook that is no variable": ('notify: {webhook: »"${HOOK-x}"}', "is no variable"),
    "a variable in a command": ('notify: {command: [»"${HOME}/x"]}', "headers and webhook only"),
    # prompts
    "no prompts": (f"{PAIRINGS}\nprompts:»", "there are no prompts"),
    "a number as a text": ("prompts: {t: {opening: »5, rounds: 1}}", "a text is expected"),
    "a blank opening": ('prompts: {t: {opening: »" ", rounds: 1}}', "blank"),
    "a missing file": ("prompts: {t: {opening: {file: »no.md}, rounds: 1}}", "there is no such file"),
    "a file above the project": ("prompts: {t: {opening: {file: »../../x.md}, rounds: 1}}", "outside the project"),
    "an absolute file": ("prompts: {t: {opening: {file: »/etc/passwd}, rounds: 1}}", "must be relative"),
    "an unknown field": ('prompts: {t: {opening: »"Hi {{nam}}", rounds: 1}}', "the field {{nam}}"),
    "a field of no role": ('prompts: {t: {opening: »"Hi {{c.label}}", rounds: 1}}', "the field {{c.label}}"),
    "no end in sight": ("prompts: {»t: {opening: hi}}", "how long this goes on"),
    "nothing to read": ("prompts: {»t: {rounds: 2}}", "`a` speaks first and has nothing to read"),
    "nobody to ask": (
        "prompts: {t: {roles: »{u: {script: [hi]}}}}\npairings: [{prompt: t}]",
        "every role is scripted",
    ),
    "nothing to ask": (
        "prompts: {»t: {roles: {u: {script: [hi]}, s: {opening: yes}}}}\npairings: [{s: sim/ada}]",
        "every line is given",
    ),
    "a script that is too short": (
        "prompts: {t: {roles: {u: {script: »[one, two]}, s: {}}, rounds: 3}}\npairings: [{s: sim/ada}]",
        "the script has 2 turns, but `u` speaks 3 times",
    ),
    "an empty script": (
        "prompts: {t: {roles: {u: {script: »[]}, s: {}}}}\npairings: [{prompt: t, s: sim/ada}]",
        "this script is empty",
    ),
    "a blank turn of a script": (
        'prompts: {t: {roles: {u: {script: [one, »" "]}, s: {}}}}\npairings: [{prompt: t, s: sim/ada}]',
        "blank",
    ),
    "a script with an opening": (
        "prompts: {t: {roles: {u: {script: [one], »opening: two}, s: {}}}}\npairings: [{prompt: t, s: sim/ada}]",
        "its first line in its script",
    ),
    "a system text for a script": (
        "prompts: {t: {roles: {u: {script: [one], »system: two}, s: {}}}}\npairings: [{prompt: t, s: sim/ada}]",
        "a scripted role has no model",
    ),
    "a turn by nobody": (
        "prompts: {t: {turns: [{by: a}, {by: »c}], opening: hi}}\npairings: [{prompt: t, a: sim/ada, b: sim/eli}]",
        "there is no role `c`",
    ),
    "a role that never speaks": (
        (
            "prompts: {t: {roles: {a: {}, »b: {}}, turns: [{by: a}], opening: hi}}\n"
            "pairings: [{prompt: t, a: sim/ada, b: sim/eli}]"
        ),
        "`b` never speaks",
    ),
    "an instruction for a script": (
        (
            "prompts: {t: {roles: {u: {script: [x]}, s: {}}, turns: [{by: u, »instruct: go}, {by: s}]}}\n"
            "pairings: [{prompt: t, s: sim/ada}]"
        ),
        "`u` is scripted",
    ),
    "a role with a word of ours": (
        "prompts: {t: {roles: {»repeat: {}, b: {}}, opening: hi, rounds: 1}}\npairings: [{prompt: t, b: sim/ada}]",
        "`repeat` is reserved",
    ),
    "a role that is no word": (
        'prompts: {t: {roles: {»"->": {}, b: {}}, opening: hi, rounds: 1}}\npairings: [{prompt: t, b: sim/ada}]',
        "no name for a role",
    ),
    "an unknown key of a role": (
        (
            "prompts: {t: {roles: {a: {»lable: A}, b: {}}, opening: hi, rounds: 1}}\n"
            "pairings: [{prompt: t, b: sim/ada, a: sim/ada}]"
        ),
        "unknown key `lable`",
    ),
    "prompts in one folder": (
        "prompts: {talk: {opening: hi, rounds: 1}, »Talk: {opening: ho, rounds: 1}}",
        "would share a folder",
    ),
    "a prompt that is a path": (
        "prompts: {»../x: {opening: hi, rounds: 1}}\npairings: [{prompt: ../x, a: sim/ada, b: sim/eli}]",
        "no name for a prompt",
    ),
    "no file for the pattern": (f"{PAIRINGS}\nprompts:\n  - »prompts/*.md", "no file fits"),
    # kinds of conversation
    "an order that nobody knows": (kind("order: »rendom"), "must be `round-robin`"),
    "no moderator": (kind("order: »moderator"), "nobody is named who says"),
    "a moderator who is not asked": (
        kind("moderator: »{model: sim/eli}"),
        "nobody would ask it: the order is round-robin",
    ),
    "a moderator of no model": (
        kind("order: moderator, moderator: {model: »gml}"),
        "there is no model `gml`",
    ),
    "somebody who may begin and has nothing to read": (
        "prompts: {»t: {roles: {a: {opening: x}, b: {}}, rounds: 2, order: random}}",
        "`b` may speak first and has nothing to read",
    ),
    "two rules in one": (kind("stop: [»{phrase: x, tokens: 5}]"), "each rule stands alone"),
    "a rule that is no rule": (kind("stop: [»{}]"), "each rule stands alone"),
    "a rule by another name": (kind("stop: [{»frase: x}]"), "unknown key `frase`"),
    "a word that is no rule": (kind("stop: [»tokens]"), "only `farewell` stands alone"),
    "a rule twice": (kind("stop: [{tokens: 9}, »{tokens: 8}]"), "there is a rule for `tokens` before"),
    "a blank phrase": (kind("stop: [{phrase: »' '}]"), "this phrase is blank"),
    "a phrase of nothing": (kind("stop: [»{phrase: null}]"), "`phrase` says nothing"),
    "a share of more than all": (kind("stop: [{echo: »1.5}]"), "at most 1"),
    "a stop before the start": (kind("stop: [{cost: »0}]"), "end it before the first turn"),
    "a vote of nobody": (kind("stop: [{vote: »{every: 2}}]"), "`observer` is missing"),
    "a vote of an unknown model": (kind("stop: [{vote: {observer: »eve}}]"), "there is no model `eve`"),
    "the same vote twice": (
        kind("stop: [{vote: {observer: sim/eli}}, {vote: »{observer: sim/eli}}]"),
        "the same is asked before",
    ),
    "an observer of an unknown provider": (
        kind("after: [{observer: »acme/x, prompt: p}]"),
        "there is no provider `acme`",
    ),
    "an observer that may be several": (
        kind("after: [{observer: »'m*', prompt: p}]"),
        "a pattern may mean several models",
    ),
    "notes about nothing": (kind("after: [»{observer: sim/eli}]"), "nothing says what these notes are about"),
    "notes of no kind": (after("kind: »note"), "must be `notes` or `titles` or `scores`"),
    "scores without a schema": (
        kind("after: [»{observer: sim/eli, prompt: p, kind: scores}]"),
        "scores need a `schema`",
    ),
    "notes with a schema": (after("»schema: {}"), "notes have no schema"),
    "a schema that is a word": (after("kind: scores, schema: »x"), "a JSON Schema is expected"),
    "a schema that is none": (after("kind: scores, schema: »{type: objct}"), "this is no JSON Schema: "),
    "an endless schema": (after("kind: scores, schema: »{maximum: .inf}"), "not finite"),
    "a schema of no file": (after("kind: scores, schema: {file: »s.json}"), "there is no such file"),
    "the same observer twice": (
        kind("after: [{observer: sim/eli, prompt: p}, »{observer: sim/eli, prompt: p, heading: H}]"),
        "the same is asked before",
    ),
    "an observer with a field of the call": (after("extra: {»stream: true}"), "`stream` follows from the call"),
    "an observer with a least above its most": (
        after("min_tokens: »9999"),
        "min_tokens 9,999 is more than the max_tokens 4,096 of `eli`",
    ),
    "an unknown field for an observer": (after('system: »"{{c.label}}"'), "the field {{c.label}}"),
    "a heading of two lines": (after('heading: »"a\\nb"'), "one line"),
    "an unknown style": (kind("render: »transkript"), "this is no style: "),
    "a style of no file": (kind("render: {style: »my.py}"), "there is no such file"),
    "a style outside": (kind("render: »../../my.py"), "outside the project"),
    "a text that the style does not take": (
        kind("render: {style: transcript, »sbutitle: x}"),
        "the style `transcript` has no text `sbutitle`",
    ),
    "an inbox of nothing": (boxed("{inbox: »{}}"), "either a `file` or a `command`"),
    "an inbox of both": (boxed("{inbox: »{file: a, command: [b]}}"), "either a `file` or a `command`"),
    "an inbox without a program": (boxed("{inbox: {command: »['']}}"), "its first word is the program"),
    "an inbox with a script": (boxed("{script: [x], »inbox: {file: a}}"), "this role has a script"),
    "an inbox with a system text": (boxed("{inbox: {file: a}, »system: x}"), "a role with an inbox has no model"),
    "an inbox with a model": (
        boxed("{inbox: {file: a}}", pairing="»u: sim/ada, s: sim/ada"),
        "`u` has an inbox in `t`",
    ),
    "an instruction for an inbox": (
        boxed("{inbox: {file: a}}", "turns: [{by: u, »instruct: go}, {by: s}]"),
        "`u` has an inbox: nobody would follow",
    ),
    "nobody but inboxes": (
        "prompts: {t: {roles: »{u: {inbox: {file: a}}}, rounds: 1}}\npairings: [{prompt: t}]",
        "every role is scripted or has an inbox",
    ),
    "an inbox outside": (boxed("{inbox: {file: »'../../{{conversation}}.md'}}"), "outside the project"),
    "an inbox with an unknown field": (
        boxed("{inbox: {file: »'{{converse}}.md'}}"),
        "nothing is known for the field {{converse}}",
    ),
    "an inbox of two conversations": (
        boxed("{inbox: {file: »in.md}}", pairing="s: [sim/ada, sim/eli]"),
        "`in.md` would be the inbox of `u` of t/eli and of `u` of t/ada",
    ),
    "an inbox of each repeat": (
        boxed("{inbox: {file: »in.md}}", pairing="s: sim/ada, repeat: 2"),
        "and of each of its repeats",
    ),
    "an inbox of two sides": (
        boxed("{inbox: {file: in.md}}, v: {inbox: {file: »in.md}}"),
        "and of `u` of t/ada",
    ),
    "a variable that names a drop-box": ("vars: {»conversation: x}", "reserved"),
    # pairings
    "no pairings": (f"{PROMPTS}\npairings: »[]", "there are no pairings"),
    "an unknown prompt": ("pairings: [{prompt: »tlak, a: sim/ada, b: sim/eli}]", "there is no prompt `tlak`"),
    "an exclusion beside an unknown prompt": (
        "pairings: [{prompt: »tlak, a: sim/ada, b: sim/eli, exclude: [{a: ada}]}]",
        "there is no prompt `tlak`",
    ),
    "a pattern of no prompt": ("pairings: [{prompt: »'x*', a: sim/ada, b: sim/eli}]", "no prompt fits `x*`"),
    "an unknown model": ("pairings: [{a: sim/ada, b: [sim/eli, »gml]}]", "there is no model `gml`"),
    "a pattern of no model": ("models: {glm: {use: sim/g}}\npairings: [{a: glm, b: »'x*'}]", "no model fits `x*`"),
    "an inline model of nobody": ("pairings: [{a: sim/ada, b: »acme/z-ai/glm-5}]", "no provider `acme`"),
    "a role without a model": ("pairings: [»{prompt: talk, a: sim/ada}]", "`b` of the prompt `talk` has no model"),
    "a misspelt role": ("pairings: [{prompt: talk, a: sim/ada, b: sim/eli, »repaet: x/y}]", "neither a setting nor"),
    "a model for a script": (
        "prompts: {t: {roles: {u: {script: [x]}, s: {}}}}\npairings: [{prompt: t, »u: sim/ada, s: sim/ada}]",
        "`u` is scripted in `t`",
    ),
    "roles that no prompt has": (
        (
            "prompts: {t: {opening: hi, rounds: 1}, v: {roles: {c: {}}, opening: hi, rounds: 1}}\n"
            "pairings: [»{a: sim/ada, c: sim/eli}]"
        ),
        "no prompt has exactly the live roles a, c",
    ),
    "a zip of unequal lists": (
        "pairings: [{a: [sim/a, sim/b], b: [sim/c, sim/d, sim/e], match: »zip}]",
        "`a` 2, `b` 3",
    ),
    "an unknown way to match": ("pairings: [{a: sim/ada, b: sim/eli, match: »crss}]", "must be `cross`"),
    "no repeat": ("pairings: [{a: sim/ada, b: sim/eli, repeat: »0}]", "at least 1"),
    "a model twice": ("pairings: [{a: [sim/ada, »sim/ada], b: sim/eli}]", "stands twice in this list"),
    "an exclusion of nothing": (
        "pairings: [{a: [sim/ada, sim/eli], b: sim/eli, exclude: [{a: »dora}]}]",
        "there is no model `dora`",
    ),
    "an exclusion without effect": (
        "pairings: [{a: [sim/ada, sim/eli], b: sim/cleo, exclude: [»{a: cleo}]}]",
        "this excludes nothing",
    ),
    "an exclusion at the top without effect": ("exclude: [»{a: basil}]", "this excludes nothing"),
    "an exclusion that names nothing": ("exclude: [»{}]", "this names nothing"),
    "an exclusion of no role": ("exclude: [{»c: ada}]", "no live role"),
    "nothing left": ("pairings: [»{a: sim/ada, b: sim/ada, match: distinct}]", "no conversation of this pairing"),
    "settings without effect": ("set: [{when: »{a: basil}, max_tokens: 5}]", "this changes nothing"),
    "settings for nobody": ("set: [{when: »{}, max_tokens: 5}]", "this names nothing"),
    "settings that set nothing": ("set: [»{when: {prompt: talk}}]", "this sets nothing"),
    "a variable out of place": ('models: {m: {use: sim/m, label: »"${HOME}"}}', "headers and webhook only"),
    "a million and more": (
        "pairings: [{a: sim/x, b: sim/y}, »{a: [sim/ada, sim/eli], b: sim/cleo, repeat: 600000}]",
        "1,200,001 conversations",
    ),
    "a conversation twice": (
        "pairings: [{a: sim/ada, b: sim/eli}, »{a: sim/ada, b: [sim/dora, sim/eli]}]",
        "stands twice: it is the same as talk/ada~eli of the pairing at /project/jobs/job.yaml:1:12",
    ),
    "two prompts that say the same": (
        "prompts: {t: {opening: hi, rounds: 1}, u: {opening: hi, rounds: 1}}\npairings: [»{a: sim/ada, b: sim/eli}]",
        "stands twice",
    ),
}  # fmt: skip


@pytest.mark.fault(61, 67, 68, 69, 70, 72, 73, 76, 78, 79)
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_once_at_its_line_and_column(case: str) -> None:
    """Each bad job gives one problem, where its reader would look for it."""
    marked, fragment = MISTAKES[case]
    marked = whole(marked)
    before = marked[: marked.index("»")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    [problem] = problems(marked.replace("»", ""))
    assert fragment in problem.message
    # What is missing altogether is told of the whole file.
    assert (problem.line, problem.column) == (line, column)
    assert f"job.yaml:{line}:{column}: " in problem.render()


def test_a_least_that_an_argument_sets_is_told_of_that_argument() -> None:
    """`--set` may set `min_tokens` like any other setting, and is named where it is too large."""
    [problem] = problems(whole("seed: 1"), {}, "defaults.min_tokens=9999")
    assert problem.where == "--set defaults.min_tokens=9999"


def test_all_mistakes_are_told_in_one_go() -> None:
    """A mistake in one entry keeps no other from being found, and none is told twice."""
    marked = dedent("""\
        name: »a/b
        »budgt: 5
        budget: {run: »-1}
        defaults: {»temprature: 1, timeout: {first: »300}}
        providers:
          w: {type: openai, base_url: »"http://10.0.0.7/v1", api_key: "${W}", limits: {rpm: »0, burst: »x}}
        models:
          m: {use: w/m, price: {input: »0.000001, output: 1}}
          n: {use: »nobody/n}
        prompts:
          letter: {roles: {u: {script: ["Dear {{nam}}", »" "]}, s: {}}}
          talk: {opening: »"Hi {{nam}}", rounds: 2}
          »silent: {opening: x}
        pairings:
          - {prompt: talk, a: m, b: »nowhere}
          - {prompt: »tlak, a: m, b: m}
          - {prompt: letter, a: m}
          - {prompt: talk, a: sim/ada, b: sim/eli, repeat: »0}
        set: [{when: {model: »x}, max_tokens: »0}]
    """)
    expected: list[tuple[int, int]] = []
    for number, line in enumerate(marked.split("\n"), start=1):
        pieces = line.split("»")
        expected += [(number, len("".join(pieces[:n])) + 1) for n in range(1, len(pieces))]
    found = problems(marked.replace("»", ""))
    assert [(p.line, p.column) for p in found] == expected
    assert str(JobError(found)).count("^") == len(expected) == 18


def test_those_who_listen_are_looked_up_in_a_broken_prompt_as_well() -> None:
    """An observer that does not exist is told together with what else is wrong with its prompt."""
    found = problems(
        whole(kind("order: moderator, after: [{observer: gml, prompt: p}, {observer: acme/x, prompt: q}]"))
    )
    assert [problem.message.partition(":")[0] for problem in found] == [
        "nobody is named who says who speaks next",
        "there is no model `gml`",
        "there is no provider `acme`",
    ]


def test_a_problem_shows_its_line_a_caret_and_what_was_meant() -> None:
    """The rendering is for people: place, line, caret, suggestion."""
    [problem] = problems(whole("models: {m: {use: sim/m, temprature: 1}}"))
    assert problem.render() == (
        "/project/jobs/job.yaml:1:26: unknown key `temprature`\n"
        "    models: {m: {use: sim/m, temprature: 1}}\n"
        "                             ^\n"
        "    did you mean `temperature`?"
    )


def test_a_long_line_is_shown_in_part() -> None:
    """A job in one line of JSON does not fill the screen, and the caret still points at the mistake."""
    problem, *_ = problems('{"vars": {"x": "' + "y" * 5000 + '"}, "budgt": 5, "prompts": {}, "pairings": []}')
    _, line, caret, _ = problem.render().split("\n")
    assert len(line) < 130
    assert line[caret.index("^") :].startswith('"budgt"')


def test_an_unknown_provider_gets_the_entry_to_add() -> None:
    """The hint can be pasted: the variable has the name of the provider."""
    [problem] = problems(whole("pairings: [{a: sim/ada, b: hearth/llama}]"))
    entry = 'hearth: {type: openai, base_url: "https://.../v1", api_key: "${HEARTH_API_KEY}"}'
    assert problem.hint is not None and entry in problem.hint


def test_a_mistake_in_a_file_is_told_in_that_file() -> None:
    """A field without a value is found where it stands in the text's own file."""
    text = "prompts: {t: {opening: {file: a.md}, rounds: 1}}\n" + PAIRINGS
    [problem] = problems(text, {"a.md": "\n\nOne.\nTwo {{x}} and {{nam}}.\n", "job.yaml": text}, "vars.x=1")
    assert problem.where == "/project/jobs/a.md:4:15"
    assert problem.source_line == "Two {{x}} and {{nam}}."


@pytest.mark.fault(76)
def test_a_file_that_is_no_utf8_is_named() -> None:
    """The mistake stands at the place that names the file."""
    text = "prompts: {t: {opening: {file: a.md}, rounds: 1}}\n" + PAIRINGS
    [problem] = problems(text, {"a.md": b"ok\n\xff"})
    assert (problem.line, problem.column) == (1, 31)
    assert "not UTF-8 (line 2)" in problem.message


def test_an_argument_of_the_command_line_is_named_as_it_was_given() -> None:
    """`--set` has no line; the argument itself is the place."""
    found = problems(whole("models: {glm-4.6: {use: sim/m}}"), {}, "models.glm-4.6.max_tokens=x", "pairings.2.repeat=3")
    assert [p.where for p in found] == ["--set models.glm-4.6.max_tokens=x", "--set pairings.2.repeat=3"]
    assert "it has 1, counted from 1" in found[1].message


_WORDS = [
    "prompts", "pairings", "models", "providers", "budget", "set", "exclude", "defaults", "vars", "when", "prompt",
    "use", "a", "b", "m", "t", "sim", "roles", "script", "turns", "by", "opening", "rounds", "limits", "rpm",
    "price", "input",
    "timeout", "idle", "outcomes", "empty", "retry", "repeat", "match", "file", "system", "label", "headers", "sim/ada",
    "{{a.label}}", "{{x}}", "${A}", "*", "run", "api_key", "base_url", "type", "openai", "zip", "x2", "5s",
    "order", "random", "moderator", "model", "stop", "phrase", "farewell", "vote", "observer", "every", "after",
    "kind", "scores", "titles", "schema", "heading", "inbox", "command", "render", "style", "mine.py", "transcript",
    "history", "window", "reasoning", "keep", "deadline", "notify", "webhook", "{{conversation}}", "06:30", "sim/m",
]  # fmt: skip
_WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([0.5, 1e300]) | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
    max_leaves=15,
)
_SOUND: dict[str, Any] = {
    "models": {"m": {"use": "sim/m"}},
    "prompts": {"t": {"opening": "hi", "rounds": 1}},
    "pairings": [{"a": "m", "b": "sim/x"}],
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KEYS), _WILD, max_size=4), _WILD, st.sampled_from(["models", "prompts", "pairings"])
)
def test_no_tree_crashes_the_reading(tree: dict[str, Any], entry: Any, key: str) -> None:
    """Whatever stands in a file, the answer is a job or a list of problems that can be shown."""
    inner = [entry] if key == "pairings" else {"m": entry, "t": entry}
    for job in ({**_SOUND, **tree}, {**_SOUND, key: inner}):
        with suppress(JobError):
            read(json.dumps(job))


KEY = "sk-or-v1-Zq3" + "x9" * 20
PLAIN_KEY = "Zq3" + "x9" * 20


@pytest.mark.fault(78)
@pytest.mark.parametrize("key", [KEY, PLAIN_KEY])
@pytest.mark.parametrize(
    "text",
    [
        "providers: {w: {type: openai, base_url: sim, api_key: KEY}}",
        "providers: {w: {type: openai, base_url: sim, api_key: KEY, rpm: 5}}",
        "providers: {w: {type: opnai, api_key: KEY}}",
        "providers: {w: {type: openai, base_url: sim, api_kye: KEY}}",
        'providers: {w: {type: openai, base_url: sim, api_key: "${W:-KEY}"}}',
        'providers: {w: {type: openai, base_url: sim, headers: {Authorization: "Bearer KEY"}}}',
        "providers: {w: {type: openai, base_url: sim, api_key: KEY}\nname: [",
        "providers:\n  w:\n    api_key: KEY\n   type: openai\n",
        "api_key: KEY",
        "providers: {w: {api_key: KEY}} trailing: [",
        "providers:\n  w:\n    type: openai\n    base_url: sim\n    api_key:\n      KEY\n",
        "providers:\n  w:\n    type: openai\n    base_url: sim\n    api_kye: >-\n      KEY\n    api_kye: 1",
        "providers: {w: {type: openai, base_url: sim, headers: {X-Auth: KEY}}}",
        "providers: {w: {type: openai, base_url: sim, api_key: KEY, api_key: KEY}}",
        "set: [{when: {api_key: KEY}, max_tokens: 5}]",
        "providers: {w: {type: openai, base_url: sim, api_key: [KEY]}}",
    ],
)
def test_a_key_in_a_bad_job_is_never_printed(text: str, key: str) -> None:
    """Whatever else is wrong with its line, a key stays out of every message."""
    found = problems(whole(text).replace("KEY", key))
    assert found
    error = JobError(found)
    for shown in (str(error), repr(error), repr(found), *map(Problem.render, found)):
        assert key not in shown
        assert key[-12:] not in shown


@pytest.mark.parametrize("place", ["name", "models.m.use", "models.m.label", "timezone", "providers.sim.base_url", "x"])
def test_a_key_of_known_shape_is_never_printed_wherever_it_stands(place: str) -> None:
    """Vendors' keys are known by their shape, in any setting, and on the command line as well."""
    found = problems(whole("models: {m: {use: sim/m}}"), {}, f"{place}={KEY}")
    assert KEY[-12:] not in str(JobError(found))
    assert any("API key" in p.message or "unknown" in p.message for p in found)
