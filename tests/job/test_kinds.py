"""Kinds of conversation: what a prompt may say beside its texts, and what becomes of it in the plan."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.conversation import Aside, Conversation, Inbox, Look, view
from runner.job import Job, JobError
from runner.job.job import Notify
from runner.plan import Plan, make_plan
from runner.providers import DIALECTS
from runner.stops import FAREWELL, Rule
from tests.job.memory import read

DATE = "2026-11-21"
DOLLAR = 1_000_000_000
PAIR = "pairings: [{a: sim/ada, b: sim/basil}]"


def planned(text: str, files: dict[str, str | bytes] | None = None) -> Plan:
    return make_plan(read(text, files), DATE)


def held(text: str, files: dict[str, str | bytes] | None = None) -> Conversation:
    plan = planned(text, files)
    return plan.conversation(plan.cells[0])


def talk(keys: str, more: str = PAIR) -> str:
    return f"prompts: {{t: {{opening: hi, rounds: 3, {keys}}}}}\n{more}"


# --- who reads it afterwards -----------------------------------------------------------------------------------------

OBSERVED = """
    defaults: {max_tokens: 900}
    models: {judge: {use: sim/eli, label: The Judge, temperature: 0.2, context: 60000}}
    prompts:
      t:
        opening: hi
        rounds: 2
        max_tokens: 50
        after:
          - {observer: judge, prompt: "What did {{a.label}} mean?", system: "Be brief.", heading: Notes, budget: 0.25}
          - {observer: sim/dora, kind: titles, temperature: 0.7}
          - {observer: judge, kind: scores, prompt: Score it., schema: {type: object, required: [depth]}}
    pairings: [{a: sim/ada, b: [sim/basil, sim/cleo], temperature: 1.5}]
"""


def test_observers_are_asked_with_settings_of_their_own() -> None:
    """They have those of the job, their provider, their model and their entry, and none of the talk's."""
    notes, titles, scores = held(OBSERVED).after
    assert [one.kind for one in (notes, titles, scores)] == ["notes", "titles", "scores"]
    assert (notes.prompt, notes.by.system, notes.heading) == ("What did ada mean?", "Be brief.", "Notes")
    assert (notes.by.label, notes.by.model, notes.by.context, notes.by.live) == ("The Judge", "eli", 60000, True)
    assert (notes.by.max_tokens, notes.by.sampling.temperature) == (900, 0.2)
    assert (titles.by.alias, titles.by.sampling.temperature) == ("dora", 0.7)
    assert scores.schema == {"type": "object", "required": ["depth"]}


def test_what_must_be_read_by_a_program_is_asked_for_in_its_form() -> None:
    """Titles and scores say which JSON they want, whatever the job's own words are; notes are as the job has them."""
    _, titles, scores = held(OBSERVED).after
    assert "JSON" in titles.prompt and "title" in titles.prompt
    assert scores.prompt.startswith("Score it.\n\n")
    assert json.loads(scores.prompt.rpartition("\n")[2]) == scores.schema


def test_an_observer_that_no_pairing_names_is_among_the_models_of_the_plan() -> None:
    """Its price, key and lane are needed as those of any speaker; one of a prompt that nobody holds is not."""
    plan = planned(OBSERVED)
    assert set(plan.models) == {"ada", "basil", "cleo", "dora", "judge"}
    unused = """
        budget: 1
        prompts:
          t: {opening: hi, rounds: 1}
          u: {opening: ho, rounds: 1, after: [{observer: openai/x, prompt: p}]}
        pairings: [{prompt: WHICH, a: sim/ada, b: sim/eli}]
    """
    assert set(planned(unused.replace("WHICH", "t")).models) == {"ada", "eli"}
    assert set(planned(unused.replace("WHICH", "u")).providers) == {"sim", "openai"}


def test_an_observer_has_an_id_and_changes_none() -> None:
    """The conversations are what they were; each observer of each has an id, which follows what it is sent."""
    plan = planned(OBSERVED)
    bare = planned(OBSERVED[: OBSERVED.index("        after:")] + OBSERVED[OBSERVED.index("    pairings:") :])
    assert [cell.id for cell in plan.cells] == [cell.id for cell in bare.cells]
    ids = {one.id for cell in plan.cells for one in plan.conversation(cell).after}
    assert len(ids) == 6 and all(len(id_) == 16 and int(id_, 16) >= 0 for id_ in ids)
    warmer = planned(OBSERVED.replace("temperature: 0.7", "temperature: 0.8"))
    assert len(ids & {one.id for cell in warmer.cells for one in warmer.conversation(cell).after}) == 4
    renamed = planned(OBSERVED.replace("The Judge", "He").replace("heading: Notes", "heading: N").replace("0.25", "1"))
    assert ids == {one.id for cell in renamed.cells for one in renamed.conversation(cell).after}


def test_an_aside_is_found_by_its_id() -> None:
    """The plan knows whose it is; of a conversation's own id, and of any other, it knows no aside."""
    plan = planned(OBSERVED)
    for cell in plan.cells:
        for aside in plan.conversation(cell).asides:
            assert plan.aside(aside.id) == (cell, aside)
        assert plan.aside(cell.id) is None
    assert plan.aside("0" * 16) is None


def test_an_observers_budget_stands_under_the_name_that_its_asides_have() -> None:
    """One ceiling for all that it costs in a run, and none for those that have no budget."""
    plan = planned(OBSERVED)
    notes, titles, _ = plan.conversation(plan.cells[1]).after
    assert notes.budget is not None and titles.budget is None
    assert plan.budget.observers == {notes.budget: DOLLAR // 4}


def test_observers_need_a_bound_for_their_money() -> None:
    """What bounds the talks does not bound who reads them; a budget of its own does."""
    text = """
        budget: {conversation: 1}
        prompts: {t: {opening: hi, rounds: 1, after: [{observer: openai/x, prompt: p%s}]}}
        pairings: [{a: openai/y, b: sim/eli}]
    """
    with pytest.raises(JobError, match="`x` costs money, and nothing bounds it"):
        read(text % "")
    assert read(text % ", budget: 1").prompts["t"].after[0].budget == DOLLAR
    assert read((text % "").replace("conversation", "day")).prompts


# --- what ends it ----------------------------------------------------------------------------------------------------


def test_the_rules_that_stop_a_conversation_stand_as_they_are_judged() -> None:
    """Dollars are nano-dollars, durations seconds, and a bare farewell has the usual figure."""
    rules = (
        "stop: [{repetition: 0.6}, {phrase: '[[END]]'}, farewell, {echo: 1}, {tokens: 900}, {cost: 0.2}, {time: 30m}]"
    )
    assert held(talk(rules)).stops == (
        Rule("repetition", 0.6),
        Rule("phrase", phrase="[[END]]"),
        Rule("farewell", FAREWELL),
        Rule("echo", 1.0),
        Rule("tokens", 900.0),
        Rule("cost", float(DOLLAR // 5)),
        Rule("time", 1800.0),
    )
    assert held(talk("stop: [{farewell: 0.5}]")).stops == (Rule("farewell", 0.5),)


def test_a_vote_is_held_by_whoever_is_named() -> None:
    """Several may vote, each after as many rounds as it says, and each is asked for a yes or a no."""
    voters = held(
        talk("stop: [{vote: {observer: sim/eli}}, {vote: {observer: sim/eli, prompt: Enough?, every: 2, top_k: 3}}]")
    ).voters
    assert [(one.kind, one.every, one.by.role) for one in voters] == [("vote", 1, "observer"), ("vote", 2, "observer")]
    assert voters[1].prompt.startswith("Enough?\n\n") and all("yes or no" in one.prompt for one in voters)
    assert voters[1].by.sampling.top_k == 3


WAYS = (
    "vars: {}",
    "stop: [farewell]",
    "stop: [{farewell: 0.7}]",
    "stop: [{phrase: x}]",
    "stop: [{phrase: x}, farewell]",
    "stop: [{vote: {observer: sim/eli}}]",
    "stop: [{vote: {observer: sim/dora}}]",
    "stop: [{vote: {observer: sim/eli, every: 2}}]",
    "stop: [{vote: {observer: sim/eli, prompt: Enough?}}]",
    "order: random",
    "order: moderator, moderator: {model: sim/eli}",
    "order: moderator, moderator: {model: sim/dora}",
    "order: moderator, moderator: {model: sim/eli, max_tokens: 5}",
    "order: moderator, moderator: {model: sim/eli, system: S}",
    "roles: {a: {}, b: {}, c: {inbox: {file: x}}}",
    "history: {window: 2}",
    "history: {window: 3}",
    "history: {overflow: trim}",
)
SAME = {
    "render: transcript": "vars: {}",
    "after: [{observer: sim/eli, prompt: p}]": "vars: {}",
    "roles: {a: {}, b: {}, c: {inbox: {command: [x]}}}": "roles: {a: {}, b: {}, c: {inbox: {file: x}}}",
}


def test_whatever_decides_how_a_conversation_goes_on_makes_another_one_of_it() -> None:
    """No two of these are the same; how it looks, who reads it and where a drop-box lies make no other of it."""
    ids = {way: planned(talk(way)).cells[0].id for way in (*WAYS, *SAME)}
    assert len({ids[way] for way in WAYS}) == len(WAYS)
    assert {way: ids[way] for way in SAME} == {way: ids[other] for way, other in SAME.items()}


# --- who speaks when -------------------------------------------------------------------------------------------------


def roles_of(conversation: Conversation) -> list[list[str]]:
    rounds = sorted({line.round for line in conversation.lines})
    return [[line.role for line in conversation.lines if line.round == number] for number in rounds]


THREE = """
    seed: %d
    prompts: {t: {roles: {x: {}, y: {}, z: {script: [l1, l2, l3, l4, l5, l6]}}, opening: hi, rounds: 6, order: random}}
    pairings: [{x: sim/ada, y: sim/eli, repeat: 6}]
"""


def test_a_random_order_is_drawn_once_for_each_conversation() -> None:
    """Each round has everybody, nobody twice in a row; conversations differ, and each is the same when asked again."""
    plan = planned(THREE % 1)
    orders = [roles_of(plan.conversation(cell)) for cell in plan.cells]
    for cell, order in zip(plan.cells, orders, strict=True):
        conversation = plan.conversation(cell)
        assert conversation == plan.conversation(cell)
        assert all(sorted(one) == ["x", "y", "z"] for one in order)
        spoken = [role for one in order for role in one]
        assert all(one != two for one, two in pairwise(spoken))
        assert [line.number for line in conversation.lines] == list(range(1, 19))
        assert [line.given for line in conversation.lines if line.role == "z"] == ["l1", "l2", "l3", "l4", "l5", "l6"]
    assert len({str(order) for order in orders}) == len(orders)
    assert len({str(one) for order in orders for one in order}) == 6


def test_a_random_order_follows_the_seed_and_so_does_the_conversation() -> None:
    """With another seed others speak first: what was said in the one order is no part of the other."""
    one, two = (planned(THREE % seed) for seed in (1, 2))
    assert {cell.id for cell in one.cells}.isdisjoint(cell.id for cell in two.cells)
    assert roles_of(one.conversation(one.cells[0])) != roles_of(two.conversation(two.cells[0]))


def test_the_turns_of_a_cycle_are_ordered_and_each_side_keeps_its_own_order() -> None:
    """What is labelled as somebody's opening is said before the same side's closing, whoever speaks between."""
    turns = "[{by: a, label: Opening}, {by: b}, {by: a, label: Closing}, {by: b}]"
    text = f"prompts: {{t: {{opening: hi, order: random, turns: {turns}, rounds: 8}}}}\n{PAIR}"
    lines = held(text).lines
    for number in range(1, 9):
        beats = [line for line in lines if line.round == number]
        assert [line.label for line in beats if line.role == "a"] == ["Opening", "Closing"]
    assert all(one.role != two.role for one, two in pairwise(lines))


def test_a_side_with_most_to_say_begins_so_that_it_need_not_follow_itself() -> None:
    """Of three turns, two of them one side's, the third stands between them, whatever is drawn."""
    turns = "[{by: a}, {by: b}, {by: a}]"
    pairing = "pairings: [{a: sim/ada, b: sim/eli, repeat: 12}]"
    plan = planned(f"prompts: {{t: {{opening: hi, order: random, turns: {turns}}}}}\n{pairing}")
    assert {str(roles_of(plan.conversation(cell))[0]) for cell in plan.cells} == {"['a', 'b', 'a']"}


def test_a_moderator_is_asked_who_speaks_next() -> None:
    """It has words of its own where the job has none, and settings of its own; the lines stand as they are listed."""
    conversation = held(talk("order: moderator, moderator: {model: sim/eli, system: 'S {{a.model}}', max_tokens: 30}"))
    moderator = conversation.moderator
    assert isinstance(moderator, Aside)
    assert (moderator.kind, moderator.by.role, moderator.by.alias) == ("pick", "moderator", "eli")
    assert (moderator.by.system, moderator.by.max_tokens) == ("S ada", 30)
    assert "speak next" in moderator.prompt
    assert roles_of(conversation) == [["a", "b"]] * 3
    assert held(talk("order: moderator, moderator: {model: sim/eli, prompt: Who?}")).asides[0].prompt == "Who?"


def test_an_instruction_is_seen_by_its_speaker_alone_and_stays() -> None:
    """Nobody else is told, then or later; in later requests it stands where it first stood."""
    turns = "[{by: a, instruct: 'Lie.'}, {by: b, instruct: 'Find out.'}, {by: c}]"
    text = f"prompts: {{t: {{roles: {{a: {{}}, b: {{}}, c: {{}}}}, opening: hi, turns: {turns}, rounds: 2}}}}\n"
    conversation = held(text + "pairings: [{a: sim/ada, b: sim/eli, c: sim/dora}]")
    history = ["One.", "Two.", "Three."]
    views = {role: str(view(conversation, role, history, None).messages) for role in "abc"}
    assert {role for role, seen in views.items() if "Lie." in seen} == {"a"}
    assert {role for role, seen in views.items() if "Find out." in seen} == {"b"}
    first = view(conversation, "a", history, None).messages[0].text
    assert first == "hi\n\nLie."


# --- drop-boxes ------------------------------------------------------------------------------------------------------


def test_a_side_with_an_inbox_is_neither_live_nor_scripted() -> None:
    """It has no model in pairings and no given text; each conversation has a drop-box of its own."""
    text = """
        vars: {box: in}
        prompts:
          t: {roles: {me: {inbox: {file: "{{box}}/{{conversation}}/{{a.model}}.md"}, label: I}, a: {}}, rounds: 2}
          u: {roles: {me: {inbox: {command: [say, "{{conversation}}"]}, opening: I begin.}, a: {}}, rounds: 2}
        pairings: [{a: [sim/ada, sim/eli], repeat: 2}]
    """
    plan = planned(text)
    sides = {cell.name: plan.conversation(cell).participant("me") for cell in plan.cells}
    assert all(not side.live and side.model == "" for side in sides.values())
    assert sides["t/ada"].inbox == Inbox(file="in/t/ada/ada.md") and sides["t/ada"].label == "I"
    assert sides["t/eli.r2"].inbox == Inbox(file="in/t/eli.r2/eli.md")
    assert sides["u/eli"].inbox == Inbox(command=("say", "u/eli"))
    assert [line.given for line in plan.conversation(plan.cells[0]).lines] == [None] * 4
    opened = next(plan.conversation(cell) for cell in plan.cells if cell.prompt == "u")
    assert [line.given for line in opened.lines] == ["I begin.", None, None, None]


def test_one_conversation_may_have_a_plain_drop_box() -> None:
    """Where there is only one, its file needs no field."""
    text = "prompts: {t: {roles: {me: {inbox: {file: box.md}}, a: {}}, rounds: 1}}\npairings: [{a: sim/ada}]"
    assert held(text).participant("me").inbox == Inbox(file="box.md")
    text = text.replace("box.md", "box.md, every: 5s")
    assert held(text).participant("me").inbox == Inbox(file="box.md", every=5.0)


def test_who_is_fed_by_another_file_is_another_conversation_and_a_file_may_move() -> None:
    """Two prompts, or two values that the place of the inbox names; not the folder, nor whether it is a command."""
    two = """
        prompts:
          anna: {system: Be kind., roles: {me: {inbox: {file: PLACE/anna.md}}, a: {}}, rounds: 2}
          bert: {system: Be kind., roles: {me: {inbox: {file: PLACE/bert.md}}, a: {}}, rounds: 2}
        pairings: [{a: sim/ada}]
    """
    ids = [cell.id for cell in planned(two).cells]
    assert len(set(ids)) == 2
    for moved in (two.replace("PLACE", "mail"), two.replace("file: PLACE/bert.md", "command: [next]")):
        assert [cell.id for cell in planned(moved).cells] == ids
    one = """
        prompts: {t: {roles: {me: {inbox: {file: "PLACE/{{friend}}.md"}}, a: {}}, rounds: 2}}
        pairings: [{a: sim/ada, vars: {friend: anna}}, {a: sim/ada, vars: {friend: bert, mood: good}}]
    """
    ids = [cell.id for cell in planned(one).cells]
    assert len(set(ids)) == 2
    assert [cell.id for cell in planned(one.replace("PLACE", "mail").replace("good", "bad")).cells] == ids


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_a_style_is_a_word_or_a_mapping_with_its_texts() -> None:
    """Texts are filled in for each conversation; a file of one's own takes those that it names, and says its suffix."""
    assert held(talk("vars: {}")).look == Look()
    assert held(talk("render: transcript")).look == Look("transcript")
    own = talk("render: {style: styles/mine.py, title: 'On {{b.label}}, {{date}}', n: 5, long: {file: a.md}}")
    mine = 'suffix = ".txt"\ntexts = {"title": "its title", "n": "a number", "long": "more"}\n'
    files: dict[str, str | bytes] = {"styles/mine.py": mine + "def render(t, links): ...", "a.md": "A.\n"}
    texts = {"title": f"On basil, {DATE}", "n": "5", "long": "A."}
    assert held(own, files).look == Look("styles/mine.py", texts, ".txt")


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ("import nothing_of_this_name", "job.yaml:1:55: mine.py:1: ModuleNotFoundError: No module named 'nothing_of"),
        ("x = 1", "mine.py: there is no function `render(transcript, links)` in it"),
        ("def render(t): return ''", "mine.py:1: `render` must take a transcript and its links, and nothing else"),
        ("\n\nraise SystemExit(0)", "mine.py:3: SystemExit: 0"),
        ('texts = {"title": "x"}\ndef render(t, links): return ""', "the style `mine.py` has no text `titel`"),
        (b"\xff", "it is not UTF-8 (line 1)"),
    ],
)
def test_a_style_that_cannot_be_used_is_a_mistake_of_the_job(source: str | bytes, trouble: str) -> None:
    """It is found when the job is read, long before anything is spent; with the line of the job and its own."""
    with pytest.raises(JobError) as told:
        read(talk("render: {style: mine.py, titel: T}"), {"mine.py": source})
    assert trouble in str(told.value), told.value


def test_a_style_with_another_name_is_found_by_its_neighbours() -> None:
    """A typo in a path says which file may be meant."""
    with pytest.raises(JobError, match=r"did you mean `styles/plain\.py`"):
        read(talk("render: styles/plian.py"), {"styles/plain.py": ""})


def test_what_is_sent_or_shown_may_hold_anything() -> None:
    """A variable's look is text there; in the name of a style, a file or a model it is a mistake."""
    asked = "after: [{observer: sim/eli, prompt: '${A}', system: '${B}'}], stop: [{phrase: '${C}'}]"
    conversation = held(talk(f"{asked}, render: {{style: mine.py, title: '${{D}}'}}"), MINE)
    assert (conversation.after[0].prompt, conversation.after[0].by.system) == ("${A}", "${B}")
    assert (conversation.stops[0].phrase, conversation.look.texts) == ("${C}", {"title": "${D}"})
    for place in ("render: '${A}.py'", "after: [{observer: '${A}', prompt: p}]", "render: {style: '${A}.py'}"):
        with pytest.raises(JobError, match="headers and webhook only"):
            read(talk(place))


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_speaker_is_shown_as_much_as_its_history_says() -> None:
    """The last turns, its own thoughts where its provider takes them, and less when the window is full."""
    a, b = held(
        """
        models: {m: {use: sim/m, history: {window: 4}}}
        prompts: {t: {opening: hi, rounds: 3, history: {overflow: trim}}}
        pairings: [{a: m, b: sim/x}]
        """
    ).participants
    assert (a.window, a.overflow, a.keeps_reasoning) == (4, "trim", False)
    assert (b.window, b.overflow) == (None, "trim")


def test_thoughts_are_kept_where_the_provider_takes_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any other it is a mistake, told where it is set."""
    text = talk("vars: {}", "pairings: [{a: sim/ada, b: sim/basil, history: {reasoning: keep}}]")
    monkeypatch.setattr(DIALECTS["sim"], "takes_reasoning", False)
    with pytest.raises(JobError, match="`sim` \\(sim\\) cannot be told again what `ada` thought"):
        read(text)
    monkeypatch.undo()
    assert all(side.keeps_reasoning for side in held(text).participants)


# --- the night -------------------------------------------------------------------------------------------------------


def moment(text: str, zone: str = "Europe/Lisbon") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("deadline", "start", "end"),
    [
        ('"06:30"', "2026-11-21T22:00", "2026-11-22T06:30"),
        ('"06:30"', "2026-11-22T06:29:59", "2026-11-22T06:30"),
        ('"06:30"', "2026-11-22T06:30", "2026-11-23T06:30"),
        ("02:15", "2026-10-24T23:00", "2026-10-25T02:15"),
        ("01:30", "2026-03-28T23:00", "2026-03-29T01:30"),
        ("1h30m", "2026-11-21T22:00", "2026-11-21T23:30"),
    ],
)
def test_a_deadline_is_the_next_time_of_day_in_the_jobs_zone_or_so_long(deadline: str, start: str, end: str) -> None:
    """Also over a change of the clocks; a life that starts when it strikes has a day."""
    job = read(f"deadline: {deadline}\ntimezone: Europe/Lisbon\n{talk('vars: {}')}")
    assert job.ends(moment(start)) == moment(end)


def test_without_a_deadline_there_is_none() -> None:
    """A job that says nothing of it may take as long as it likes."""
    assert read(talk("vars: {}")).ends(0.0) is None


def test_the_job_says_who_is_told_how_a_run_ended() -> None:
    """A webhook stays as it was written; its variable is looked up, and its value is a secret."""
    text = 'notify: {when: [failed, budget, failed], command: [tell, it], webhook: "${HOOK}/${ROOM:-x}"}\n'
    job = read(text + talk("vars: {}"))
    assert job.notify == Notify(("failed", "budget"), ("tell", "it"), "${HOOK}/${ROOM:-x}")
    assert job.variables() == ("HOOK", "ROOM")
    assert [secret.reveal() for secret in job.secrets({"HOOK": "https://x.example/abc"})] == ["https://x.example/abc"]
    assert read("notify: {when: failed, command: [x]}\n" + talk("vars: {}")).notify == Notify(("failed",), ("x",))
    assert read("notify: {command: [x]}\n" + talk("vars: {}")).notify == Notify(("always",), ("x",))
    assert read("notify: {webhook: 'http://127.0.0.1:9/x'}\n" + talk("vars: {}")).variables() == ()


# --- the record ------------------------------------------------------------------------------------------------------

EVERYTHING = """
    deadline: "06:30"
    notify: {when: [failed], webhook: "${HOOK}"}
    defaults: {history: {window: 3, overflow: trim}}
    prompts:
      t:
        roles: {a: {}, b: {}, me: {inbox: {file: "in/{{conversation}}.md"}}}
        opening: hi
        rounds: 2
        order: moderator
        moderator: {model: sim/eli, temperature: 1}
        stop: [farewell, {tokens: 500}, {cost: 0.1}, {phrase: END}, {vote: {observer: sim/dora, every: 2}}]
        after:
          - {observer: sim/dora, kind: titles, budget: 0.5}
          - {observer: sim/dora, kind: scores, prompt: p, schema: {properties: {depth: {maximum: 5, multipleOf: 0.5}}}}
        render: {style: mine.py, title: T}
    pairings: [{a: sim/ada, b: sim/basil}]
"""
MINE: dict[str, str | bytes] = {"mine.py": 'texts = {"title": "its title"}\ndef render(t, links): return t.name'}


def through_json(job: Job) -> Job:
    data, texts = job.record()
    return Job.from_record(json.loads(json.dumps(data, allow_nan=False)), json.loads(json.dumps(texts)))


def test_a_job_of_every_kind_comes_back_from_its_record() -> None:
    """With the same conversations, asides and ids as before."""
    job = read(EVERYTHING, MINE)
    again = through_json(job)
    assert again == job
    before, after = make_plan(job, DATE), make_plan(again, DATE)
    assert before.cells == after.cells
    assert [before.conversation(c) for c in before.cells] == [after.conversation(c) for c in after.cells]
    assert len(before.conversation(before.cells[0]).asides) == 4


LATER: dict[str, tuple[str, ...]] = {
    "job": ("deadline", "notify"),
    "prompt": ("order", "moderator", "stops", "voters", "after", "look"),
    "role": ("inbox",),
}


def test_a_record_from_before_there_were_kinds_is_read_as_it_was_meant() -> None:
    """What it does not have is what a job has that says nothing of it, and its conversations keep their ids."""
    job = read(talk("vars: {}"))
    data: dict[str, Any]
    data, texts = job.record()
    for key in LATER["job"]:
        del data[key]
    for prompt in data["prompts"].values():
        for key in LATER["prompt"]:
            del prompt[key]
        for role in prompt["roles"]:
            for key in LATER["role"]:
                del role[key]
    del data["defaults"]["history"]["window"]
    old = Job.from_record(data, texts)
    assert make_plan(old, DATE).cells == make_plan(job, DATE).cells
    plan, now = make_plan(old, DATE), make_plan(job, DATE)
    assert plan.conversation(plan.cells[0]) == now.conversation(now.cells[0])
