"""Cells: which there are, in what order, what they are called, and what their ids depend on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.conversation import view
from runner.job.cells import Posed, aside_id
from runner.job.naming import LONGEST, reserved, slug
from runner.plan import Plan, make_plan
from tests.job.memory import read

DATE = "2026-11-21"
TALK = "prompts: {talk: {opening: Hello., rounds: 2}}"
PAIR = "pairings: [{a: sim/ada, b: sim/basil}]"


def planned(*parts: str, date: str = DATE) -> Plan:
    return make_plan(read("\n".join(parts)), date)


def ids(*parts: str, date: str = DATE) -> list[str]:
    return [cell.id for cell in planned(*parts, date=date).cells]


def names(*parts: str) -> list[str]:
    return [cell.name for cell in planned(*parts).cells]


BASE = (
    "models: {m: {use: sim/ada}}",
    "prompts: {talk: {opening: 'Hello {{x}}', rounds: 2, vars: {x: you}}}",
    "pairings: [{a: m, b: sim/basil}]",
)


def changed(number: int, old: str, new: str) -> Sequence[str]:
    assert old in BASE[number]
    return [part.replace(old, new) if index == number else part for index, part in enumerate(BASE)]


def test_an_id_stays_what_it_was() -> None:
    """Ids stand in journals: another release that derives them differently would buy every conversation again."""
    assert ids(*BASE) == ["ed784149909d4e6f"]
    assert ids(RICH) == ["9a3e7a90432f5374", "dd44d641f60e0455", "9ae4734401803043", "1aae1f6db1968136"]


RICH = """
    models: {m: {use: sim/ada, extra: {user: x}, reasoning: low, stop_strings: [x], top_k: 4}}
    prompts:
      t:
        roles: {h: {script: ['A {{date}}', B]}, s: {system: 'S {{s.model}}', label: L}, g: {opening: O}}
        turns: [{by: h}, {by: s, instruct: 'I {{g.label}}'}, {by: g}]
        rounds: 2
        context: C
    pairings: [{s: m, g: [sim/basil, m], repeat: 2}]
    send_seed: true
    seed: 9
    defaults: {history: {overflow: fail}, temperature: 0.5}
"""
"""A job with a little of everything that an id has depended on from the first."""


@pytest.mark.parametrize(
    "parts",
    [
        changed(0, "sim/ada", "sim/eli"),
        changed(0, "sim/ada", "sim/ada, max_tokens: 100"),
        changed(0, "sim/ada", "sim/ada, temperature: 0.5"),
        changed(0, "sim/ada", "sim/ada, top_p: 0.5"),
        changed(0, "sim/ada", "sim/ada, presence_penalty: 0.5"),
        changed(0, "sim/ada", "sim/ada, frequency_penalty: 0.5"),
        changed(0, "sim/ada", "sim/ada, history: {overflow: fail}"),
        changed(0, "sim/ada", "openai/ada, free: true"),
        changed(1, "Hello", "Hullo"),
        changed(1, "you", "thou"),
        changed(1, "{{x}}", "{{date}}"),
        changed(1, "{{x}}", "{{a.label}}"),
        changed(1, "opening:", "context:"),
        changed(1, "rounds: 2", "rounds: 3"),
        changed(1, "rounds: 2", "rounds: 2, system: Be brief."),
        changed(1, "rounds: 2", "rounds: 2, roles: {a: {system: x}, b: {}}"),
        changed(1, "rounds: 2", "rounds: 2, roles: {a: {opening: x}, b: {}}"),
        changed(1, "rounds: 2", "rounds: 2, roles: {b: {}, a: {}}"),
        changed(1, "rounds: 2", "turns: [{by: a, instruct: Go.}, {by: b}, {by: a}, {by: b}]"),
        changed(2, "}]", ", vars: {x: all}}]"),
        [*BASE, "defaults: {max_tokens: 7}"],
        [*BASE, "set: [{when: {a: m}, max_tokens: 7}]"],
        [*BASE, "send_seed: true"],
        [*BASE, "send_seed: true", "seed: 5"],
    ],
    ids=str,
)
def test_an_id_follows_what_is_sent(parts: Sequence[str]) -> None:
    """Whatever changes a request, or what becomes of the history, makes another conversation of it."""
    assert set(ids(*parts)).isdisjoint(ids(*BASE))


@pytest.mark.parametrize(
    "parts",
    [
        [part.replace("{m:", "{other:").replace("a: m", "a: other") for part in BASE],
        changed(0, "sim/ada", "sim/ada, label: Ada"),
        [*changed(0, "sim/ada", "sim/ada, price: {input: 1, output: 2}"), "budget: 1"],
        changed(0, "sim/ada", "sim/ada, timeout: {idle: 5s}, outcomes: {empty: {retry: 9}}, context: 9000"),
        changed(1, "talk:", "chat:"),
        changed(1, "rounds: 2", "rounds: 2, roles: {a: {label: A}, b: {label: B}}"),
        changed(1, "rounds: 2", "turns: [{by: a, label: Opening}, {by: b}], rounds: 2"),
        changed(1, "'Hello {{x}}', rounds: 2, vars: {x: you}", "'{{y}} you', rounds: 2, vars: {y: Hello}"),
        changed(2, "}]", ", repeat: 1, budget: 3, match: distinct}]"),
        [*BASE, "providers: {sim: {limits: {rpm: 5}, headers: {X-A: b}}}"],
        [*BASE, "seed: 5"],
        [*BASE, "name: other", "run_key: x", "timezone: Asia/Tokyo", "max_wait: 1h", "budget: {run: 1}"],
    ],
    ids=str,
)
def test_an_id_does_not_follow_what_is_not_sent(parts: Sequence[str]) -> None:
    """Names, labels, prices, limits, budgets, timeouts and retries can be changed without buying anything again."""
    assert ids(*parts) == ids(*BASE)


def test_an_id_does_not_follow_the_address_or_the_key() -> None:
    """A provider is its name: moved to another address, it goes on where it was."""
    pairing = "pairings: [{a: w/x, b: w/y}]"
    one = 'providers: {w: {type: openai, base_url: "https://a.example/v1", api_key: "${A}", free: true}}'
    two = 'providers: {w: {type: openai, base_url: "https://b.example/v1", api_key: "${B}", free: true}}'
    assert ids(one, TALK, pairing) == ids(two, TALK, pairing)


def test_an_id_follows_a_label_only_where_a_text_uses_it() -> None:
    """The same label, changed: sent in one job, unseen in the other."""
    model, other = "models: {m: {use: sim/ada, label: %s}}", "pairings: [{a: m, b: sim/basil}]"
    used = "prompts: {t: {opening: 'You are {{a.label}}.', rounds: 1}}"
    unused = "prompts: {t: {opening: 'You are.', rounds: 1}}"
    assert ids(model % "A", used, other) != ids(model % "B", used, other)
    assert ids(model % "A", unused, other) == ids(model % "B", unused, other)


@pytest.mark.fault(28)
def test_editing_a_prompt_changes_its_cells_only_and_a_new_model_adds_its_own() -> None:
    """What a night has bought stays bought."""
    before = "prompts: {t: {opening: hi, rounds: 1}, u: {opening: ho, rounds: 1}}"
    both = "pairings: [{a: [sim/ada, sim/eli], b: sim/basil}]"
    old = planned(before, both)
    edited = planned(before.replace("ho", "hey"), both)
    assert [c.id for c in edited.cells if c.prompt == "t"] == [c.id for c in old.cells if c.prompt == "t"]
    assert {c.id for c in edited.cells if c.prompt == "u"}.isdisjoint(c.id for c in old.cells)
    more = planned(before, both.replace("eli]", "eli, sim/dora]"))
    assert {c.id for c in old.cells} < {c.id for c in more.cells}
    assert {c.models[0][1] for c in more.cells if c.id not in old.by_id} == {"dora"}


def test_the_order_is_breadth_first() -> None:
    """Repeat before prompt before pairing, so that money that runs out leaves even coverage."""
    plan = planned(
        "prompts: {t: {opening: hi, rounds: 1}, u: {opening: ho, rounds: 1}}",
        "pairings: [{a: sim/ada, b: sim/basil, repeat: 2}, {prompt: [u, t], a: sim/eli, b: sim/dora, repeat: 3}]",
    )
    order = [(cell.repeat, cell.prompt, cell.pairing) for cell in plan.cells]
    assert order == sorted(order)
    assert len(order) == 10
    assert [cell.index for cell in plan.cells] == list(range(10))


MATCHES = {
    "cross": ["x~x", "x~y", "y~x", "y~y"],
    "distinct": ["x~y", "y~x"],
    "unordered": ["x~x", "x~y", "y~y"],
    "zip": ["x~x", "y~y"],
}


@pytest.mark.parametrize("match", MATCHES)
def test_the_ways_to_match(match: str) -> None:
    """All with all, all that differ, each group once, or side by side."""
    pairing = f"pairings: [{{a: [sim/x, sim/y], b: [sim/x, sim/y], match: {match}}}]"
    assert names(TALK, pairing) == [f"talk/{pair}" for pair in MATCHES[match]]


def test_a_single_name_is_repeated_in_a_zip() -> None:
    """One host for three guests needs to be named once, and a zip may repeat a name itself."""
    pairing = "pairings: [{a: sim/host, b: [sim/x, sim/y, sim/host], match: zip}]"
    assert names(TALK, pairing) == ["talk/host~x", "talk/host~y", "talk/host~host"]
    twice = "pairings: [{a: [sim/x, sim/x], b: [sim/y, sim/z], match: zip}]"
    assert names(TALK, twice) == ["talk/x~y", "talk/x~z"]


def test_exclusions_come_last_and_from_both_places() -> None:
    """A pairing's own and the job's are applied to what the match has left; patterns are names, too."""
    pairing = "pairings: [{a: [sim/x1, sim/y], b: [sim/x2, sim/y, sim/z], exclude: [{a: 'x*', b: z}]}]"
    assert names(TALK, pairing, "exclude: [{prompt: talk, a: y, b: [sim/y, z]}]") == [
        "talk/x1~x2", "talk/x1~y", "talk/y~x2",
    ]  # fmt: skip


def test_patterns_choose_among_the_declared_models_and_prompts() -> None:
    """In the order of the file; a name that a pattern has given already is not taken twice."""
    models = "models: {gpt-1: {use: sim/g1}, glm: {use: sim/glm}, gpt-2: {use: sim/g2}}"
    prompts = "prompts: {t1: {opening: hi, rounds: 1}, v: {opening: x, rounds: 2}, t2: {opening: ho, rounds: 1}}"
    assert names(models, prompts, "pairings: [{prompt: 't?', a: ['gpt-*', gpt-1], b: glm}]") == [
        "t1/gpt-1~glm", "t1/gpt-2~glm", "t2/gpt-1~glm", "t2/gpt-2~glm",
    ]  # fmt: skip


def test_without_a_prompt_all_fit_whose_live_roles_are_exactly_these() -> None:
    """Scripted sides do not count."""
    prompts = """prompts:
  one: {roles: {u: {script: [hi]}, a: {}}}
  two: {opening: hi, rounds: 1}
  other: {roles: {b: {}, a: {}}, opening: ho, rounds: 1}
"""
    assert names(prompts, PAIR) == ["two/ada~basil", "other/basil~ada"]
    assert names(prompts, "pairings: [{a: sim/ada}]") == ["one/ada"]


def test_models_of_one_name_get_their_providers_in_front() -> None:
    """Both, not only the second; and the whole id where that is not enough."""
    providers = (
        "providers: {p: {type: openai, base_url: sim, free: true}, q: {type: openai, base_url: sim, free: true}}"
    )
    pairing = "pairings: [{a: [p/z-ai/glm-5, p/other, q/GLM-5, sim/m/x, sim/n/x], b: sim/basil}]"
    assert names(providers, TALK, pairing) == [
        f"talk/{name}~basil" for name in ("p-glm-5", "other", "q-GLM-5", "sim-m-x", "sim-n-x")
    ]


def test_a_declared_name_is_kept_and_the_inline_one_gives_way() -> None:
    """What the job calls a model is what it is called."""
    models = "models: {ada: {use: sim/lovelace}}"
    plan = planned(models, TALK, "pairings: [{a: ada, b: sim/ada}]")
    assert [cell.name for cell in plan.cells] == ["talk/ada~sim-ada"]
    assert {alias: model.id for alias, model in plan.models.items()} == {"ada": "lovelace", "sim-ada": "ada"}


def test_the_same_pair_in_a_later_pairing_is_marked_with_its_position() -> None:
    """Two pairings may differ in settings only; the first keeps its plain name."""
    pairings = "pairings: [{a: sim/x, b: sim/y}, {a: sim/x, b: sim/y, temperature: 0.5, repeat: 2}]"
    assert names(TALK, pairings) == ["talk/x~y", "talk/x~y.p2", "talk/x~y.p2.r2"]


@pytest.mark.fault(68)
def test_names_that_differ_in_case_only_are_kept_apart() -> None:
    """A file system may hold `a.R2` and `a.r2` to be the same."""
    models = "models: {b.R2: {use: sim/one}, b: {use: sim/two}}"
    plan = planned(models, TALK, "pairings: [{a: sim/a, b: b, repeat: 2}, {a: sim/a, b: b.R2}]")
    assert len({cell.name.casefold() for cell in plan.cells}) == len(plan.cells) == 3


_wild = st.text(st.characters(exclude_categories=["Cs"]), max_size=150) | st.sampled_from(
    ["..", ".", "", "CON", "nul.txt", "a/b", "../x", "com1", "-", "é", "日本", "a" * 300, "x\0y", "\u202egpj"]
)


@pytest.mark.fault(69)
@settings(max_examples=200, deadline=None)
@given(_wild)
def test_any_text_has_a_safe_slug(text: str) -> None:
    """One part of a path, of plain characters, no device, and the same each time."""
    name = slug(text)
    assert PurePosixPath(name).name == name
    assert name.isascii() and not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert ".." not in name and not name.startswith((".", "-")) and not reserved(name)
    assert slug(name) == name.rstrip("-.")


@pytest.mark.fault(69)
def test_long_names_are_cut_and_stay_apart() -> None:
    """No part of a name is longer than a hundred characters, whatever the models are called."""
    long = "m" * 90
    pairing = f"pairings: [{{a: [sim/{long}1, sim/{long}2], b: sim/{long}, repeat: 12}}]"
    found = names(f"prompts: {{{'t' * 130}: {{opening: hi, rounds: 1}}}}", pairing)
    assert len(set(found)) == len(found) == 24
    assert max(len(part) for name in found for part in name.split("/")) == LONGEST
    assert sum(name.endswith(".r12") for name in found) == 2


def test_ten_thousand_cells_share_their_parts() -> None:
    """A large plan is many small rows: ids differ, lines are one tuple, nothing is made per repeat."""
    models = "models:\n" + "\n".join(f"  m{n}: {{use: sim/m{n}}}" for n in range(50))
    plan = planned(models, TALK, "pairings: [{a: 'm*', b: 'm*', repeat: 4}]")
    assert len(plan.by_id) == len(plan.cells) == 10_000
    first, last = plan.conversation(plan.cells[0]), plan.conversation(plan.cells[-1])
    assert first.lines is last.lines
    assert plan.conversation(plan.cells[5]) == plan.conversation(plan.cells[5])


def test_those_who_listen_are_looked_for_when_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large plan costs nothing for them, and one without any never does."""
    heard = "prompts: {t: {opening: hi, rounds: 1, after: [{observer: sim/eli, prompt: p}]}}"
    pairing = "pairings: [{a: sim/ada, b: sim/basil, repeat: 3}]"
    asked: list[str] = []

    def counted(cell: str, posed: Posed) -> str:
        asked.append(cell)
        return aside_id(cell, posed)

    monkeypatch.setattr(sys.modules["runner.plan"], "aside_id", counted)
    bare, watched = planned(TALK, pairing), planned(heard, pairing)
    assert bare.aside("x") is None and asked == []
    assert watched.aside("x") is None and asked == [cell.id for cell in watched.cells]
    assert watched.aside(bare.cells[0].id) is None and len(asked) == 3


def test_repeats_are_different_conversations_that_say_the_same() -> None:
    """Their ids, names and seeds differ, and nothing else."""
    plan = planned(TALK, "pairings: [{a: sim/ada, b: sim/basil, repeat: 2}]", "send_seed: true")
    one, two = map(plan.conversation, plan.cells)
    assert (one.repeat, two.repeat) == (1, 2)
    assert one.id != two.id and one.send_seed != two.send_seed
    assert (one.participants, one.lines) == (two.participants, two.lines)
    assert planned(TALK, PAIR).conversation(planned(TALK, PAIR).cells[0]).send_seed is None


def test_only_what_is_used_is_in_the_plan() -> None:
    """An unused model or provider needs no price and no key."""
    models = "models: {spare: {use: openai/gpt}, m: {use: sim/ada}}"
    plan = planned(models, TALK, "pairings: [{a: m, b: sim/basil}]")
    assert (list(plan.models), list(plan.providers)) == (["m", "basil"], ["sim"])


def test_texts_are_filled_in_for_each_cell() -> None:
    """Labels and models of the cell, the date of the run, and nothing twice."""
    prompt = (
        "prompts: {t: {opening: 'On {{date}} {{a.label}} met {{b.model}}.', rounds: 1, roles: {a: {label: A}, b: {}}}}"
    )
    plan = planned(prompt, "pairings: [{a: sim/ada, b: [sim/x/basil, sim/eli]}]")
    openings = [plan.conversation(cell).opening for cell in plan.cells]
    assert openings == [f"On {DATE} A met x/basil.", f"On {DATE} A met eli."]
    conversation = plan.conversation(plan.cells[0])
    assert view(conversation, "a", [], None).messages[0].text == openings[0]
