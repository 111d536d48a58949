"""A job held against what is there: how conversations stand, what has changed, and what is ahead."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from runner.job import Job
from runner.money import dollars, parse_dollars
from runner.outlook import Counted, Outlook, differences, means_of, outlook
from runner.plan import Plan, make_plan
from runner.preflight import DEFAULT_CONCURRENCY, prices
from runner.rehearsal import Ending
from runner.selection import Options, bought_again, select
from runner.state import Additions
from tests.nights import Night, job_of

JOB = """
name: talk
budget: {run: 1.00, conversation: 0.30, models: {bo: 0.50}}
defaults: {max_tokens: 500}
providers: {sim: {limits: {concurrency: 4, rpm: 60}, sim: SIM}}
models:
  ada: {use: sim/m, label: Ada}
  bo: {use: sim/n, label: Bo}
prompts:
  memory: {opening: "What survives of a conversation?", rounds: 2}
  letter: {roles: {a: {script: ["Dear friend"]}, b: {system: "Be brief."}}}
pairings:
  - {prompt: memory, a: ada, b: bo}
  - {prompt: letter, b: [ada, bo]}
"""
MODEL = "{price: {input: 1, output: 3}, reply: {mean: 12}}"
SIM = f"{{models: {{m: {MODEL}, n: {MODEL}}}}}"
SIM_DATA = {"models": {name: {"price": {"input": 1, "output": 3}, "reply": {"mean": 12}} for name in "mn"}}


def text(*changes: tuple[str, str]) -> str:
    job = JOB.replace("SIM", SIM, 1)
    for old, new in changes:
        assert old in job
        job = job.replace(old, new)
    return job


def ahead(night: Night, job: str, only: tuple[str, ...] = ()) -> Outlook:
    """The outlook of a job on what a night has left, its own means included."""
    state = night.reading().state
    plan = make_plan(job_of(job), state.jobs[0].date)
    return outlook(plan, state, select(plan, only), prices(plan), means_of(state), DEFAULT_CONCURRENCY)


def fresh(job: str) -> Outlook:
    from runner.state import State

    plan = make_plan(job_of(job), "2026-11-21")
    return outlook(plan, State(), plan.cells, prices(plan), {}, DEFAULT_CONCURRENCY)


def held(*, sim: Mapping[str, object] | None = None) -> Night:
    night = Night(text(), sim or SIM_DATA)
    night.live()
    return night


def standings(found: Outlook) -> dict[str, str]:
    return {row.name: row.standing for row in found.rows}


def test_before_the_first_run_everything_is_new() -> None:
    """Scripted turns are turns and no calls; the sums over rows are the totals."""
    found = fresh(text())
    assert [(row.name, row.standing, row.turns, row.calls) for row in found.rows] == [
        ("memory/ada~bo", "new", 4, 4),
        ("letter/ada", "new", 2, 1),
        ("letter/bo", "new", 2, 1),
    ]
    assert found.expected.calls == found.most.calls == 6
    assert found.expected.cost == sum(load.cost for row in found.rows for load in row.expected.values())
    assert 0 < found.expected.cost < found.most.cost
    assert found.source == "40 % of max_tokens"
    assert found.to_hold == found.slots == 3
    assert [(room.name, room.held, room.short) for room in found.rooms] == [("run", 0, False), ("model bo", 0, False)]
    assert found.cut_short == 0


def test_what_is_complete_is_done_and_costs_nothing_more() -> None:
    """After a run nothing is ahead, and its ceilings show what is spent."""
    night = held()
    found = ahead(night, text())
    assert set(standings(found).values()) == {"done"}
    assert (found.to_hold, found.expected.cost, found.most.cost, found.minutes) == (0, 0, 0, 0.0)
    assert found.rooms[0].held == night.counted == night.billed
    assert found.rooms[0].left == parse_dollars("1.00") - night.billed


def test_earlier_replies_make_the_guess_better_and_are_named() -> None:
    """Their mean replaces the share of max_tokens, model by model, whatever the job calls the model."""
    night = held()
    longer = text(("rounds: 2", "rounds: 3"), ("ada", "ann"))
    found = ahead(night, longer)
    assert found.source == "mean of 6 earlier calls"
    assert found.expected.cost < fresh(longer).expected.cost / 3
    other = ahead(night, text(("rounds: 2", "rounds: 3"), ("sim/n", "sim/ada")))
    assert other.source == "mean of 3 earlier calls; 40 % of max_tokens for bo"


def test_how_long_calls_took_makes_the_guess_of_the_time_better_and_is_named() -> None:
    """Model by model, and from where it is known; a model that was not heard is thought to take as long as most."""
    night = held(sim={"models": {name: {**SIM_DATA["models"][name], "latency": {"first": 9.0}} for name in "mn"}})
    longer = text(("rounds: 2", "rounds: 3"), ("ada", "ann"))
    found = ahead(night, longer)
    assert found.pace_source == "mean of 6 earlier calls"
    # Six calls of nine seconds, one after another; the letters fit beside them.
    assert found.longest == pytest.approx(0.9, rel=0.02)
    assert found.minutes == pytest.approx(0.9, rel=0.1)
    other = ahead(night, text(("rounds: 2", "rounds: 3"), ("sim/n", "sim/ada")))
    assert other.pace_source == "mean of 3 earlier calls; a guess of 1 s and 50 tokens/s for each call of bo"
    assert other.ending.seconds < found.ending.seconds


def test_a_night_that_is_too_large_to_be_played_through_takes_as_long_as_its_busiest_lane() -> None:
    """And as large a part of it as there is money for."""
    long = (
        ("rounds: 2", "rounds: 500"),
        ("b: bo}", "b: bo, repeat: 40}"),
        ("concurrency: 4, rpm: 60", "concurrency: 1"),
    )
    money = "run: 1.00, conversation: 0.30, models: {bo: 0.50}"
    found = fresh(text(*long, (money, "run: 90000")))
    (lane,) = found.lanes
    assert found.ending == Ending(60.0 * lane.pace.minutes)
    half = dollars(found.expected.cost // 2)
    poor = fresh(text(*long, (money, f"run: {half}"))).ending
    assert poor.seconds == pytest.approx(found.ending.seconds / 2)
    assert (poor.left, poor.why) == (21, "run: its ceiling is reached")


def test_a_conversation_with_new_words_is_changed_and_the_rest_stays() -> None:
    """It is expected anew, its predecessor's money is told, and `run` would name the same ones."""
    night = held()
    job = text(("survives of", "remains of"))
    found = ahead(night, job)
    assert standings(found) == {"memory/ada~bo": "changed", "letter/ada": "done", "letter/bo": "done"}
    (row,) = (row for row in found.rows if row.standing == "changed")
    assert row.changes == ('opening: "What survives of a conversation?" -> "What remains of a conversation?"',)
    assert row.calls == 4
    assert row.spent == night.reading().state.of(night.reading().plan.cells[0].id).account.held > 0
    state = night.reading().state
    assert bought_again(make_plan(job_of(job), "2026-11-21"), state) == ["memory/ada~bo"]


def test_a_job_that_is_as_it_was_is_not_planned_again_to_see_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only another job, or another date, is held against the one that is on record."""
    night = held()
    state = night.reading().state
    same, longer = (make_plan(job_of(job), "2026-11-21") for job in (text(), text(("rounds: 2", "rounds: 3"))))
    later = make_plan(job_of(text()), "2026-11-22")
    planned: list[str] = []

    def counting(job: Job, date: str, additions: Additions) -> Plan:
        planned.append(date)
        return make_plan(job, date, additions)

    monkeypatch.setattr("runner.selection.make_plan", counting)
    assert bought_again(same, state) == [] and planned == []
    assert bought_again(longer, state) == ["memory/ada~bo"] and bought_again(later, state) == []
    assert planned == ["2026-11-21"] * 2


def test_what_is_planned_no_more_is_replaced_under_its_old_name() -> None:
    """A model that left takes its conversations along; their money is still told, and no version of them is lost."""
    night = held()
    once = text(("rounds: 2", "rounds: 1"))
    assert night.live(Options(accept_changes=True), job=once).exit == 0
    found = ahead(night, text(("b: [ada, bo]", "b: ada")))
    assert found.counts == {"new": 0, "changed": 0, "unfinished": 0, "failed": 0, "done": 2, "replaced": 2}
    assert [row.name for row in found.rows if row.standing == "replaced"] == ["letter/bo", "memory/ada~bo"]
    assert sum(row.spent for row in found.rows) == night.counted


def test_a_selection_leaves_the_replaced_out() -> None:
    """`--only` shows what it names and nothing else."""
    found = ahead(held(), text(("b: [ada, bo]", "b: ada")), only=("memory/*",))
    assert standings(found) == {"memory/ada~bo": "done"}


def test_failed_conversations_are_told_and_not_expected() -> None:
    """A run leaves them as they are, so nothing is added for them; the reason is at hand."""
    broken = {"models": {**SIM_DATA["models"], "n": {**SIM_DATA["models"]["n"], "faults": [{"kind": "blank"}]}}}
    found = ahead(held(sim=broken), text())
    assert standings(found) == {"memory/ada~bo": "failed", "letter/ada": "done", "letter/bo": "failed"}
    assert found.to_hold == found.expected.calls == 0
    assert all(row.reason for row in found.rows if row.standing == "failed")


def test_of_a_broken_off_conversation_only_the_rest_is_expected() -> None:
    """Turns that have their reply are neither calls nor cost of the next run."""
    night = Night(text(("rounds: 2", "rounds: 20")), SIM_DATA)
    night.live(Options(max_time=0.3, only=("memory/*",)))
    done = len(night.replies())
    found = ahead(night, text(("rounds: 2", "rounds: 20")))
    (row,) = (row for row in found.rows if row.standing == "unfinished")
    assert 0 < done < 40
    assert row.calls == 40 - done


def test_repeats_that_stand_differently_are_not_taken_for_each_other() -> None:
    """One repeat is broken off and the other has not begun: each has its own rest."""
    job = text(("b: bo}", "b: bo, repeat: 2}"), ("rounds: 2", "rounds: 20"))
    night = Night(job, SIM_DATA)
    night.live(Options(max_time=0.3, only=("memory/ada~bo",)))
    done = len(night.replies())
    found = ahead(night, job, only=("memory/*",))
    assert 0 < done < 40
    assert [(row.standing, row.calls) for row in found.rows] == [("unfinished", 40 - done), ("new", 40)]


def test_what_is_spent_is_no_longer_room() -> None:
    """A ceiling that would do for a whole run may be short for the rest, and so may a conversation's own."""
    night = Night(text(("rounds: 2", "rounds: 20")), SIM_DATA)
    night.live(Options(max_time=0.3, only=("memory/*",)))
    job = text(("rounds: 2", "rounds: 20"))
    (row,) = (row for row in ahead(night, job).rows if row.standing == "unfinished")
    rest = sum(load.cost for load in row.expected.values())
    assert row.spent > 1_000
    for spare, short in ((row.spent + 1_000, False), (row.spent - 1_000, True)):
        # Two letters cost next to nothing; the selection leaves them out.
        most = dollars(rest + spare)
        tight = job.replace("run: 1.00, conversation: 0.30", f"run: {most}, conversation: {most}")
        found = ahead(night, tight, only=("memory/*",))
        assert [room.short for room in found.rooms if room.name == "run"] == [short]
        assert found.cut_short == short


def test_a_ceiling_below_what_is_expected_is_short() -> None:
    """Each ceiling is held against what is expected under it alone; a conversation's own against each conversation."""
    found = fresh(text(("run: 1.00", "run: 0.003"), ("conversation: 0.30", "conversation: 0.002")))
    assert [(room.name, room.short) for room in found.rooms] == [("run", True), ("model bo", False)]
    assert found.cut_short == 1
    apart = fresh(text(("models: {bo: 0.50}", "models: {bo: 0.50}, providers: {sim: 0.001}")))
    assert {room.name: room.expected for room in apart.rooms}["provider sim"] == apart.expected.cost
    bo = next(room for room in apart.rooms if room.name == "model bo")
    assert bo.expected == apart.expected.models["bo"].cost < apart.expected.cost


def test_a_budget_of_a_pairing_is_a_ceiling_of_its_conversations() -> None:
    """Its room counts their cost and nothing else."""
    found = fresh(text(("b: [ada, bo]", "b: [ada, bo], budget: 0.01")))
    room = next(room for room in found.rooms if room.name == "pairing 2")
    letters = [row for row in found.rows if row.prompt == "letter"]
    assert room.expected == sum(load.cost for row in letters for load in row.expected.values()) > 0


def test_lanes_are_timed_each_and_the_longest_conversation_bounds_them_all() -> None:
    """A lane for each provider, or for each model where the provider counts so; idle ones are left out."""
    (lane,) = fresh(text()).lanes
    assert (lane.lane, lane.calls) == ("sim", 6)
    slow = fresh(text(("rpm: 60", "rpm: 1")))
    assert slow.lanes[0].pace.minutes == 6.0
    assert 4.0 < slow.minutes < 5.0  # two requests leave together
    assert slow.longest < 1.0
    apart = fresh(text(("rpm: 60", "per: model")))
    assert {lane.lane: lane.calls for lane in apart.lanes} == {"sim/ada": 3, "sim/bo": 3}
    assert apart.slots == 3
    assert fresh(text(("concurrency: 4", "concurrency: 2"))).slots == 2


CHANGES = [
    (
        ("survives of a", "survives of the"),
        'opening: "What survives of a conversation?" -> "What survives of the conversation?"',
    ),
    (("rounds: 2", "rounds: 5"), "rounds: 2 -> 5"),
    (("sim/m", "sim/dora"), "model of a: sim/m -> sim/dora"),
    (("max_tokens: 500", "max_tokens: 500, temperature: 0.7"), "temperature of a: none -> 0.7"),
    (("max_tokens: 500", "max_tokens: 400"), "max_tokens of b: 500 -> 400"),
    (("max_tokens: 500", "max_tokens: 500, history: {overflow: fail}"), "overflow of a: stop -> fail"),
    (("rounds: 2", "rounds: 2, context: An essay"), "context: added"),
    (("rounds: 2", "rounds: 2, roles: {a: {system: Hush}, b: {}}"), "system text of a: added"),
    (("name: talk", "name: talk\nsend_seed: true"), "the seed that is sent"),
    (("rounds: 2", "turns: [{by: a}, {by: b, instruct: Now}], rounds: 2"), "instruction 1 of b: added"),
    (("rounds: 2", "turns: [{by: b}, {by: a}], rounds: 2"), "turns: another order of speaking"),
    (("max_tokens: 500", "max_tokens: 500, top_k: 40"), "top_k of a: none -> 40"),
    (("max_tokens: 500", "max_tokens: 500, stop_strings: END"), "texts that stop a: none -> 'END'"),
    (("max_tokens: 500", "max_tokens: 500, reasoning: {effort: low}"), "reasoning effort of a: none -> low"),
    (("max_tokens: 500", "max_tokens: 500, history: {window: 6}"), "window of a: none -> 6"),
    (("rounds: 2", "rounds: 2, stop: [{repetition: 0.6}, {cost: 0.2}]"), "stop: none -> repetition 0.6, cost $0.2"),
    (("rounds: 2", "rounds: 2, stop: [{phrase: END}]"), "stop: none -> phrase 'END'"),
    (("rounds: 2", "rounds: 2, stop: [{vote: {observer: bo}}]"), "voters: none -> sim/n"),
    (("rounds: 2", "rounds: 2, order: moderator, moderator: {model: bo}"), "moderator: none -> sim/n"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[told for _, told in CHANGES])
def test_each_part_that_makes_a_conversation_another_is_named(change: tuple[str, str], told: str) -> None:
    """Whatever goes into the id of a conversation is found again when two of them are compared."""
    before, after = (make_plan(job_of(text(*changes)), "2026-11-21") for changes in ((), (change,)))
    old, new = (plan.conversation(plan.cells[0]) for plan in (before, after))
    assert old.id != new.id
    assert told in differences(old, new)


def test_a_change_far_into_a_text_is_shown_where_it_is() -> None:
    """The excerpt begins at a word shortly before the first difference."""
    long = "What survives of a conversation? " * 20
    before, after = (
        make_plan(job_of(text(("What survives of a conversation?", f"{long}{end}"))), "2026-11-21")
        for end in ("Say it.", "Sing it.")
    )
    (found,) = differences(*(plan.conversation(plan.cells[0]) for plan in (before, after)))
    assert found == 'opening: "…conversation? Say it." -> "…conversation? Sing it."'


def test_a_script_and_a_cast_are_compared_line_by_line() -> None:
    """A changed line is shown from a little before the first difference; a new side is named."""
    letter = text(("Dear friend", "Dear friend of mine"))
    before, after = (make_plan(job_of(job), "2026-11-21") for job in (text(), letter))
    old, new = (plan.conversation(plan.cells[1]) for plan in (before, after))
    assert differences(old, new) == ['line 1 of a: "Dear friend" -> "Dear friend of mine"']
    three = text(
        (
            '"What survives of a conversation?", rounds: 2',
            '"What survives of a conversation?", rounds: 2, roles: {a: {}, b: {}, c: {}}',
        ),
        ("a: ada, b: bo", "a: ada, b: bo, c: bo"),
    )
    cast = make_plan(job_of(three), "2026-11-21")
    found = differences(before.conversation(before.cells[0]), cast.conversation(cast.cells[0]))
    assert found[0] == "roles: a, b -> a, b, c"


def test_roles_that_are_called_otherwise_do_not_speak_in_another_order_for_that() -> None:
    """Where each name has another owner, who spoke first is held against who spoke first."""
    prompt = '"What survives of a conversation?", rounds: 2'

    def told(order: str) -> list[str]:
        new = text((prompt, f"{prompt}, roles: {{x: {{}}, y: {{}}}}{order}"), ("a: ada, b: bo", "x: ada, y: bo"))
        before, after = (make_plan(job_of(job), "2026-11-21") for job in (text(), new))
        return differences(before.conversation(before.cells[0]), after.conversation(after.cells[0]))

    assert told("") == ["roles: a, b -> x, y"]
    assert "turns: another order of speaking" in told(", turns: [{by: x}, {by: x}, {by: y}, {by: y}]")


def test_the_day_and_the_month_are_ceilings_beside_the_others_and_count_what_all_runs_have_spent() -> None:
    """What the whole job is expected to need is held against what is left of them; a job without them has none."""
    from runner.state import State

    job = text(("{run: 1.00, conversation: 0.30, models: {bo: 0.50}}", "{day: 0.50, month: 2.00}"))
    plan = make_plan(job_of(job), "2026-11-21")
    counted = Counted(day=parse_dollars("0.499"), month=parse_dollars("0.7"))
    found = outlook(plan, State(), plan.cells, prices(plan), {}, DEFAULT_CONCURRENCY, counted)
    assert [(room.name, dollars(room.left), room.short) for room in found.rooms] == [
        ("day", "0.001", True),
        ("month", "1.3", False),
    ]
    assert {room.expected for room in found.rooms} == {found.expected.cost}
    assert "day" not in [room.name for room in fresh(text()).rooms]
