"""Branches: which line is the last in common, who speaks on, what it is called, and each reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from runner.branches import Wish, branched
from runner.events import Branched, Engaged, Heard, Replied, Sent, Stopped
from runner.plan import Cell, Plan, branch_id, fits, make_plan, script_end
from runner.preflight import CannotBegin
from runner.state import Additions, Place, State
from runner.talk import Talk, talk_of
from tests.nights import job_of

JOB = """
name: kinds
budget: 5
providers: {sim: {}}
models:
  ada: {use: sim/ada, price: {input: 1, output: 3}}
  bo: {use: sim/bo, price: {input: 1, output: 3}}
  eli: {use: sim/eli, price: {input: 1, output: 3}}
prompts:
  duo: {opening: Talk., rounds: 2, after: [{observer: eli, prompt: What?, heading: Notes, budget: 0.5}]}
  long: {opening: Speak., rounds: 3}
  said: {roles: {a: {script: [One, Two]}, b: {}}}
  table:
    roles: {a: {}, b: {}, c: {}}
    opening: O
    rounds: 2
    order: moderator
    moderator: {model: eli}
    stop: [{vote: {observer: eli}}]
pairings:
  - {prompt: duo, a: ada, b: bo, budget: 2}
  - {prompt: said, b: ada}
  - {prompt: table, a: ada, b: bo, c: eli, budget: 1}
"""
DATE = "2026-11-21"
DUO, SAID, TABLE = "duo/ada~bo", "said/ada", "table/ada~bo~eli"


class Run:
    """A run whose conversations say what a test wants; a text that begins with `!` is one that was cut off."""

    def __init__(self) -> None:
        self.job = job_of(JOB)
        self.state = State()
        self.records: list[Any] = []

    @property
    def plan(self) -> Plan:
        return make_plan(self.job, DATE, self.state.additions)

    def cell(self, name: str) -> Cell:
        return next(cell for cell in (*self.plan.cells, *self.plan.superseded) if cell.name == name)

    def put(self, event: Any) -> None:
        self.state.apply(event, float(len(self.records)), Place(len(self.records), 1))
        self.records.append(event)

    def talk(self, cell: Cell) -> Talk:
        def read(place: Place) -> tuple[Replied | Heard, float]:
            return self.records[place.offset], 0.0

        return talk_of(self.plan.conversation(cell), self.state, read)

    def say(self, name: str, *texts: str, status: Any = "complete") -> None:
        cell = self.cell(name)
        for text in texts:
            line = self.talk(cell).next()
            assert line is not None
            self.put(Sent(cell.id, line.number, 1, line.role, "ada", "sim", "ada", "h", "d", 10, 1, 1))
            finish: Any = "truncated" if text.startswith("!") else "ok"
            self.put(Replied(cell.id, line.number, 1, text, finish, 5, "priced", 5, {}))
        if status is not None:
            self.put(Stopped(cell.id, status))

    def branch(self, how: Any, *patterns: str, **wish: Any) -> list[Branched]:
        found = self.branch_only(how, *patterns, **wish)
        for one in found:
            self.put(one)
        return found

    def branch_only(self, how: Any, *patterns: str, **wish: Any) -> list[Branched]:
        """What a wish would add, without adding it."""
        return branched(Wish(how, patterns, **wish), self.plan, self.state, self.talk)

    def refused(self, how: Any, *patterns: str, **wish: Any) -> str:
        with pytest.raises(CannotBegin) as error:
            branched(Wish(how, patterns, **wish), self.plan, self.state, self.talk)
        assert error.value.code == 2
        return " ".join(error.value.lines)


@pytest.fixture
def run() -> Run:
    one = Run()
    one.say(DUO, "1", "2", "3", "4")
    one.say(SAID, "x", "y")
    one.say(TABLE, "1", "2", "3", "4", "5", "6")
    return one


def roles(run: Run, name: str) -> str:
    return "".join(line.role for line in run.plan.conversation(run.cell(name)).lines)


def test_an_extension_has_all_that_was_said_and_some_rounds_more(run: Run) -> None:
    """Its name says what it is, its place is at the end, and it begins with what the other has."""
    (one,) = run.branch("extend", "duo/*", more_rounds=2)
    assert (one.through, one.rounds, one.number, one.roles) == (4, 4, 1, ("a", "b", "a", "b"))
    cell = run.cell(f"{DUO}.extend1")
    assert cell.index == 3 and [c.name for c in run.plan.cells] == [DUO, SAID, TABLE, f"{DUO}.extend1"]
    assert run.talk(cell).history == ["1", "2", "3", "4"] and roles(run, cell.name) == "ab" * 4
    origin = run.plan.conversation(cell).origin
    assert origin is not None and (origin.name, origin.kind, origin.through) == (DUO, "extend", 4)
    assert run.state.of(cell.id).account.held == 0 and run.state.of(cell.id).carried == 4


def test_a_fork_goes_on_with_others(run: Run) -> None:
    """The sides that are not named keep their models; settings are those of the pairing."""
    (one,) = run.branch("fork", DUO, turn=1, models={"b": "eli"})
    assert (one.models, one.through, one.rounds, one.pairing) == ({"a": "ada", "b": "eli"}, 1, 2, 1)
    (two,) = run.branch("fork", DUO, turn=0, prompt="long", more_rounds=1)
    assert (two.prompt, two.rounds, two.roles, two.number) == ("long", 4, (), 2)
    assert run.cell(f"{DUO}.fork2").id == two.cell != one.cell
    assert [one.by.alias for one in run.plan.conversation(run.cell(f"{DUO}.fork1")).after] == ["eli"]
    assert run.plan.conversation(run.cell(f"{DUO}.fork2")).opening == "Speak."


def test_the_same_wish_once_more_is_the_same_conversation(run: Run) -> None:
    """Nothing is branched twice: it is found again, also when another branch was made in between."""
    wishes: list[tuple[Any, str, dict[str, Any]]] = [
        ("extend", DUO, {"more_rounds": 1}),
        ("fork", DUO, {"turn": 1, "models": {"b": "eli"}}),
        ("fork", DUO, {"turn": 0, "prompt": "long"}),
        ("fork", DUO, {"turn": 1}),
    ]
    made = [run.branch(how, name, **wish) for how, name, wish in wishes]
    for (how, name, wish), (one,) in zip(wishes, made, strict=True):
        assert run.branch_only(how, name, **wish) == [one]
    assert len({one.cell for (one,) in made}) == 4
    assert [one.number for (one,) in made] == [1, 1, 2, 3]
    run.say(f"{DUO}.fork3", "2", "3", "4")
    again = run.branch_only("fork", f"{DUO}.fork3", turn=1)
    assert again[0].cell not in run.state.branches, "a third throw is a branch of the second"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{opening: Speak., rounds: 3}", "{opening: Say more., rounds: 3}"),
        ("{opening: Speak., rounds: 3}", "{opening: Speak., system: Be brief., rounds: 3}"),
        ("eli: {use: sim/eli", "eli: {use: sim/other"),
        ("eli: {use: sim/eli", "eli: {max_tokens: 77, use: sim/eli"),
    ],
)
def test_a_branch_under_other_words_or_of_another_model_is_another_conversation(old: str, new: str, run: Run) -> None:
    """The one that was held is not taken for what the job asks now, and the same wish asks for a new one."""
    wish: dict[str, Any] = {"turn": 0, "prompt": "long", "models": {"b": "eli"}}
    (one,) = run.branch("fork", DUO, **wish)
    (kept,) = run.branch("fork", DUO, turn=1)
    run.job = job_of(JOB.replace(old, new))
    names = [cell.name for cell in run.plan.cells]
    assert f"{DUO}.fork1" not in names and f"{DUO}.fork2" in names
    (other,) = run.branch("fork", DUO, **wish)
    assert (other.number, other.cell != one.cell) == (3, True)
    assert f"{DUO}.fork3" in [cell.name for cell in run.plan.cells]
    run.job = job_of(JOB)
    assert [run.cell(f"{DUO}.fork{n}").id for n in (1, 2)] == [one.cell, kept.cell]


def test_what_no_model_is_sent_makes_no_other_branch(run: Run) -> None:
    """Prices, budgets and who comments on it may change."""
    (one,) = run.branch("fork", DUO, turn=0, prompt="long", models={"b": "eli"})
    run.job = job_of(
        JOB.replace("price: {input: 1, output: 3}", "price: {input: 2, output: 3}")
        .replace("budget: 5", "budget: 7")
        .replace("{opening: Speak., rounds: 3}", "{opening: Speak., rounds: 3, after: [{observer: bo, prompt: So?}]}")
    )
    assert run.cell(f"{DUO}.fork1").id == one.cell


def test_what_is_redone_takes_the_place_and_the_name(run: Run) -> None:
    """The other is kept as old, is planned no more, and is the origin; the plan is as long as it was."""
    before = run.cell(DUO)
    (one,) = run.branch("redo", DUO, turn=3)
    assert one.through == 2 and [c.name for c in run.plan.cells] == [DUO, SAID, TABLE]
    assert run.cell(DUO).id == one.cell and run.cell(f"{DUO}.old1").id == before.id not in run.plan.by_id
    run.say(DUO, "5", "6")
    (two,) = run.branch("redo", DUO, turn=4)
    assert (two.origin, two.number) == (one.cell, 2)
    assert [c.name for c in run.plan.superseded] == [f"{DUO}.old1", f"{DUO}.old2"]
    assert run.talk(run.cell(DUO)).history == ["1", "2", "5"]


def test_without_a_turn_the_first_bad_one_is_redone() -> None:
    """The first that was cut off, or the one at which the conversation failed."""
    one = Run()
    one.say(DUO, "1", "!2", "!3", "4")
    assert one.branch("redo", DUO)[0].through == 1
    two = Run()
    two.say(DUO, "1", "2", "3", status="failed")
    assert two.branch("redo", DUO)[0].through == 3


def test_names_stay_apart_when_their_origin_was_mended(run: Run) -> None:
    """A fork of what was mended counts on; one of another conversation does not."""
    run.branch("fork", DUO, turn=1)
    run.branch("redo", DUO, turn=2)
    assert run.branch("fork", DUO, turn=1)[0].number == 2
    assert run.branch("extend", TABLE, more_rounds=1)[0].number == 1
    names = [cell.name for cell in run.plan.cells]
    assert len(names) == len(set(names))
    origin = run.plan.conversation(run.cell(f"{DUO}.fork1")).origin
    assert origin is not None and origin.name == f"{DUO}.old1"


def test_a_branch_may_be_branched(run: Run) -> None:
    """What is said in common is found through all of them."""
    run.branch("fork", DUO, turn=3)
    name = f"{DUO}.fork1"
    run.say(name, "other 4")
    run.branch("extend", name, more_rounds=1)
    assert run.talk(run.cell(f"{name}.extend1")).history == ["1", "2", "3", "other 4"]


def test_a_round_that_was_begun_is_ended_by_those_who_are_left() -> None:
    """Also where a moderator had turned the order round, and the plan has another one."""
    one = Run()
    cell = one.cell(TABLE)
    moderator = one.plan.conversation(cell).moderator
    assert moderator is not None
    for turn, name in ((1, "c"), (2, "b")):
        one.put(Sent(moderator.id, turn, 1, "moderator", "eli", "sim", "eli", "h", "d", 10, 1, 1))
        one.put(Replied(moderator.id, turn, 1, name, "ok", 5, "priced", 5, {}))
    one.say(TABLE, "1", "2", "3", status=None)
    assert one.branch("fork", TABLE, turn=1)[0].roles == ("c",)
    assert roles(one, f"{TABLE}.fork1") == "cababc"


WRONG: dict[str, tuple[Sequence[str], dict[str, Any], str]] = {
    "a name that nobody has": (("extend", "duo/adda~bo"), {}, "names no conversation of kinds"),
    "a turn that was not said": (("fork", DUO), {"turn": 5}, "it has 4 turns, and no turn 5"),
    "a redo of what was not said": (("redo", DUO), {"turn": 6}, "it has 4 turns, and no turn 6"),
    "a redo of what is good": (("redo", DUO), {}, "none of its turns failed, was cut or refused"),
    "a fork at the end": (("fork", DUO), {"turn": 4}, "nothing would be left to say: add --rounds"),
    "no such prompt": (("fork", DUO), {"turn": 0, "prompt": "longer"}, "there is no prompt longer; did you mean"),
    "no such model": (("fork", DUO), {"turn": 0, "models": {"a": "adda"}}, "there is no model adda; did you mean"),
    "no such side": (("fork", DUO), {"turn": 0, "models": {"x": "ada"}}, "x is no live role of duo: a, b"),
    "a scripted side": (("fork", SAID), {"turn": 0, "models": {"a": "ada"}}, "a is no live role of said: b"),
    "a side without a model": (("fork", DUO), {"turn": 0, "prompt": "table"}, "c of table has no model: add --model c"),
    "a script that is too short": (("extend", SAID), {"more_rounds": 1}, "the script of a ends after round 2"),
    "turns in another order": (
        ("fork", TABLE), {"turn": 3, "prompt": "duo"}, "its turns do not fit duo, in which a, b speak in turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_each_wish_that_cannot_be_fulfilled_says_why(case: str, run: Run) -> None:
    """With the conversation that it is about, and nothing is recorded."""
    (how, name), wish, why = WRONG[case]
    records = len(run.records)
    assert why in run.refused(how, name, **wish)
    assert len(run.records) == records


def test_what_is_not_at_its_end_is_told_by_what_it_is() -> None:
    """Not begun, under way, failed, or with a call that nobody has heard the end of."""
    one = Run()
    assert "it has not begun" in one.refused("fork", DUO, turn=0)
    one.say(DUO, "1", status=None)
    assert "it is not at its end; only what is complete grows" in one.refused("extend", DUO, more_rounds=1)
    cell = one.cell(DUO)
    one.put(Sent(cell.id, 2, 1, "b", "ada", "sim", "ada", "h", "d", 10, 1, 1))
    assert "a call of it is still open" in one.refused("fork", DUO, turn=1)


def test_of_several_none_is_branched_when_one_cannot_be(run: Run) -> None:
    """Every reason is told at once."""
    told = run.refused("extend", "*", more_rounds=1)
    assert "nothing was changed" in told and SAID in told and DUO not in told


def test_a_branch_of_what_is_planned_no_more_is_left_out() -> None:
    """Nor is one whose model or prompt the job does not know any more, or whose turns no longer fit it."""
    run = Run()
    run.say(DUO, "1", "2", "3", "4")
    (one,) = run.branch("fork", DUO, turn=3, prompt="long")
    additions = Additions((one,))
    name = f"{DUO}.fork1"
    for edited in (
        JOB.replace("opening: Talk.", "opening: Say."),
        JOB.replace("long: {opening: Speak.", "longer: {opening: Speak up."),
        JOB.replace(
            "long: {opening: Speak., rounds: 3}", "long: {opening: S, rounds: 3, turns: [{by: b}, {by: a}, {by: b}]}"
        ),
        JOB.replace("long: {opening: Speak., rounds: 3}", "long: {roles: {a: {script: [x, y]}, b: {}}}"),
    ):
        plan = make_plan(job_of(edited), DATE, additions)
        assert name not in [cell.name for cell in plan.cells], edited
        for cell in plan.cells:
            plan.conversation(cell)
    assert name in [cell.name for cell in make_plan(job_of(JOB), DATE, additions).cells]


RENAMED = {
    "an alias": JOB.replace("  bo: {use", "  bob: {use").replace("b: bo", "b: bob"),
    "the alias of a fork": JOB.replace("eli: {use", "elias: {use").replace(": eli", ": elias"),
    "two aliases, one for the other": JOB.replace("  bo: {", "  x: {").replace("  eli: {", "  bo: {")
    .replace("  x: {", "  eli: {").replace("{observer: eli", "{observer: bo").replace("{model: eli}", "{model: bo}")
    .replace("b: bo", "b: eli").replace("c: eli", "c: bo"),
    "a label": JOB.replace("bo: {use", "bo: {label: Bob, use"),
    "the prompt": JOB.replace("duo", "two"),
    "the prompt of a fork": JOB.replace("long", "longer"),
    "a pairing in front": JOB.replace("pairings:", "pairings:\n  - {prompt: said, b: eli, budget: 0.01}"),
    "a pairing less in front": JOB.replace("  - {prompt: said, b: ada}\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("edit", RENAMED)
def test_a_branch_is_found_again_whatever_things_are_called(edit: str, run: Run) -> None:
    """Its id hangs on what is sent: none is lost, each is in the pairing of its origin, and no wish makes another."""
    fork = {"turn": 0, "prompt": "long", "models": {"b": "eli"}}
    made = run.branch("extend", DUO, more_rounds=1) + run.branch("fork", DUO, **fork)
    made += run.branch("redo", TABLE, turn=2) + run.branch("fork", DUO, turn=1)
    sent = [run.plan.conversation(run.plan.by_id[one.cell]) for one in made]
    run.job = job_of(RENAMED[edit])
    plan = run.plan
    assert {one.cell for one in made} <= plan.by_id.keys()
    for one, before in zip(made, sent, strict=True):
        cell = plan.by_id[one.cell]
        origins = {cell.id: cell for cell in (*plan.cells, *plan.superseded)}
        now = plan.conversation(cell)
        assert cell.pairing == origins[one.origin].pairing
        assert [(side.model, side.system) for side in now.participants] == [
            (side.model, side.system) for side in before.participants
        ]
        assert (now.opening, len(now.lines)) == (before.opening, len(before.lines))
    duo = plan.by_id[made[0].origin]
    assert run.branch_only("extend", duo.name, more_rounds=1) == [made[0]]
    aliases = {model.id: alias for alias, model in plan.job.models.items()}
    long = next(name for name, prompt in plan.job.prompts.items() if prompt.opening == "Speak.")
    again = {"turn": 0, "prompt": long, "models": {"b": aliases["eli"]}}
    assert run.branch_only("fork", duo.name, **again) == [made[1]]


def older(branch: Branched) -> Branched:
    """The same as the version before had it: an id out of names, and no word of what is sent."""
    words = [branch.origin, branch.how, branch.through, branch.number, branch.prompt, branch.pairing, branch.rounds]
    named = [f"{role}={alias}" for role, alias in branch.models.items()]
    id_ = sha256("\n".join(["tertulia branch 1", *map(str, words), *named]).encode()).hexdigest()[:16]
    return replace(branch, cell=id_, uses=None)


def test_branches_of_the_version_before_go_on_under_their_ids(run: Run) -> None:
    """The same wish finds them, also when what their origin is made of is called otherwise by now."""
    for how, wish in (
        ("extend", {"more_rounds": 1}),
        ("fork", {"turn": 0, "prompt": "long", "models": {"b": "eli"}}),
        ("redo", {"turn": 3}),
    ):
        (one,) = run.branch_only(how, DUO, **wish)
        run.put(older(one))
    extended, forked, redone = run.state.branches.values()
    assert run.cell(f"{DUO}.extend1").id == extended.cell and run.cell(f"{DUO}.fork1").id == forked.cell
    assert run.cell(DUO).id == redone.cell
    run.say(f"{DUO}.extend1", "5", "6")
    (longer,) = run.branch_only("extend", f"{DUO}.extend1", more_rounds=1)
    run.put(older(longer))
    assert [one.cell for one in run.branch_only("extend", f"{DUO}.extend1", more_rounds=1)] == [older(longer).cell]
    run.job = job_of(RENAMED["an alias"].replace("duo", "two"))
    assert {extended.cell, redone.cell, older(longer).cell} <= run.plan.by_id.keys()
    run.job = job_of(RENAMED["the alias of a fork"])
    assert forked.cell not in run.plan.by_id, "who `eli` was, nobody can tell"


def test_an_edit_that_is_taken_back_finds_all_branches_again(run: Run) -> None:
    """Also where a conversation was extended, and mended once more, while its first redo was not to be seen."""
    (extended,) = run.branch_only("extend", DUO, more_rounds=1)
    (first,) = run.branch("redo", DUO, turn=2)
    origin = first.origin
    late = replace(first, cell="", through=3, roles=("a", "b", "a"))
    plan = run.plan
    id_ = branch_id(late, plan.scene(plan.by_id[first.cell]), plan.by_id[first.cell].models, 1)
    late = replace(late, cell=id_)
    plan = make_plan(run.job, DATE, Additions((first, late, extended)))
    assert plan.by_id[late.cell].name == DUO
    assert plan.by_id[extended.cell].name == f"{DUO}.old1.extend1"
    assert {cell.id for cell in plan.superseded} == {origin, first.cell}
    names = [cell.name for cell in (*plan.cells, *plan.superseded)]
    assert len(set(names)) == len(names) and plan.first(plan.by_id[late.cell]).id == origin


def test_a_wish_for_what_was_mended_since_is_about_what_stands_in_its_place(run: Run) -> None:
    """It is no other conversation, and none that is planned no more."""
    run.branch("extend", DUO, more_rounds=1)
    run.say(f"{DUO}.extend1", "5", "6")
    (mended,) = run.branch("redo", f"{DUO}.extend1", turn=6)
    assert run.branch_only("extend", DUO, more_rounds=1) == [mended]


def test_a_prompt_with_a_field_that_the_pairing_does_not_fill_is_refused(run: Run) -> None:
    """The field is named; a branch that was made when it was filled in is left out."""
    text = JOB.replace("Talk., rounds", '"Talk of {{topic}}.", rounds').replace("budget: 2}", "vars: {topic: X}}")
    run.job = job_of(text)
    run.say(DUO, "1", "2", "3", "4")
    told = run.refused("fork", SAID, turn=0, prompt="duo", models={"a": "ada"})
    assert "duo names {{topic}}, to which pairing 2 gives no value" in told
    with_it = text.replace("{prompt: said, b: ada}", "{prompt: said, b: ada, vars: {topic: Y}}")
    run.job = job_of(with_it)
    (one,) = run.branch("fork", SAID, turn=0, prompt="duo", models={"a": "ada"})
    assert one.cell in run.plan.by_id
    run.job = job_of(text)
    assert one.cell not in run.plan.by_id


def test_names_of_branches_are_nobody_elses() -> None:
    """A model may be called like a branch, and so may a branch of that; also where case does not count."""
    aliases = ("bo.extend1", "Bo.Fork1", "bo.old1", "bo.extend1.extend1")
    models = "".join(
        f"  {name}: {{use: sim/m{at}, price: {{input: 1, output: 3}}}}\n" for at, name in enumerate(aliases)
    )
    run = Run()
    run.job = job_of(
        JOB.replace("prompts:", f"{models}prompts:", 1).replace(
            "b: bo, budget", f"b: [bo, {', '.join(aliases)}], budget"
        )
    )
    run.say(DUO, "1", "2", "3", "4")
    planned = {cell.name for cell in run.plan.cells}
    run.branch("extend", DUO, more_rounds=1)
    (grown,) = (cell for cell in run.plan.cells if cell.branch is not None)
    assert grown.name == f"{DUO}.extend1-{grown.id[:8]}"
    run.say(grown.name, "5", "6")
    run.branch("extend", grown.name, more_rounds=1)
    run.branch("fork", DUO, turn=1)
    run.branch("redo", DUO, turn=2)
    names = [cell.name.casefold() for cell in (*run.plan.cells, *run.plan.superseded)]
    assert len(set(names)) == len(names) == len(planned) + 4
    assert planned <= {cell.name for cell in run.plan.cells}, "those of the job keep their names"
    assert f"{grown.name}.extend1" in {cell.name for cell in run.plan.cells}


def test_names_of_branches_fit_into_the_name_of_a_file() -> None:
    """What goes on again and again in the same way tells how often; what is short enough stays as it is."""
    job = job_of(JOB)
    origin, spoken = make_plan(job, DATE).cells[0].id, 4
    chain: list[Branched] = []
    ways: list[Any] = [*["extend"] * 50, *["fork", "extend"] * 20, "redo"]
    for how in ways:
        models = {"a": "ada", "b": "bo"}
        one = Branched("", origin, how, spoken, 1, "duo", 1, models, spoken // 2 + 1, ("a", "b") * (spoken // 2))
        chain.append(older(one))
        origin, spoken = chain[-1].cell, spoken + 2
    plan = make_plan(job, DATE, Additions(tuple(chain)))
    names = {cell.id: cell.name for cell in (*plan.cells, *plan.superseded)}
    assert names[chain[2].cell] == f"{DUO}.extend1.extend1.extend1" and names[chain[49].cell] == f"{DUO}.extend1x50"
    last = [name.partition("/")[2] for name in names.values()]
    assert len(set(last)) == len(last) == 3 + len(chain) and 180 < max(map(len, last)) <= 200


def test_an_engaged_observer_comments_on_the_prompts_that_were_meant_once() -> None:
    """Beside those of the job; one that is there already, or whose model is gone, is not added."""
    listener = {"kind": "notes", "model": "eli", "prompt": "And?", "heading": "Later"}
    meant = Engaged(("duo", "gone"), listener)
    plan = make_plan(job_of(JOB), DATE, Additions((), (meant, meant, Engaged(("duo",), {**listener, "model": "no"}))))
    by_name = {cell.name: [one.heading for one in plan.after(cell)] for cell in plan.cells}
    assert by_name == {DUO: ["Notes", "Later"], SAID: [], TABLE: []}


def test_ceilings_over_several_accounts_have_all_that_is_in_them(run: Run) -> None:
    """A pairing has its conversations with who is asked meanwhile, an observer his own words; the old count, too."""
    run.branch("redo", DUO, turn=2)
    plan = run.plan
    groups = {(kind, name): ids for kind, name, ids in plan.groups()}
    old, new, table = run.cell(f"{DUO}.old1"), run.cell(DUO), run.cell(TABLE)
    during = [aside.id for aside in plan.during(table)]
    assert len(during) == 2 and groups["conversation", table.id] == [table.id, *during]
    assert set(groups["pairing", "1"]) == {old.id, new.id} and groups["pairing", "3"] == [table.id, *during]
    comments = {aside.id for cell in (old, new) for aside in plan.after(cell)}
    assert len(comments) == 2 and set(groups["observer", "duo.after.1"]) == comments
    assert plan.name_of(during[0]) == f"{TABLE} (moderator by eli)" and plan.name_of(old.id) == f"{DUO}.old1"
    assert plan.name_of(next(iter(plan.after(new))).id) == f"{DUO} (Notes by eli)" and plan.name_of("x") == "x"


def test_lines_fit_where_each_round_can_have_them() -> None:
    """In any order within a round; a script must last."""
    prompts = job_of(JOB).prompts
    assert fits(prompts["table"], list("cab" + "b")) and not fits(prompts["table"], list("cac"))
    assert fits(prompts["duo"], []) and not fits(prompts["duo"], ["c"])
    assert script_end(prompts["said"], 2) is None and script_end(prompts["said"], 3) == ("a", 2)
