"""Many models on one graphics card: nights in which a server has room for a few, and to load another one takes time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from runner.events import Failed, Replied, Sent
from runner.limits import PASSED_TOO_OFTEN
from tests.nights import Life, Night

FOUR = ("m0", "m1", "m2", "m3")
LOAD = 4.0
Figures = Callable[[str, object], None]


def card(
    *,
    room: int = 1,
    resident: int | None = 1,
    slots: int = 1,
    models: Sequence[str] = ("m0", "m1"),
    everybody: bool = False,
    repeat: int = 12,
    rounds: int = 3,
    **habits: Any,
) -> Night:
    """A local server with room for so many models, and a job that says so, or not."""
    limits: dict[str, Any] = {"limits": {"concurrency": slots}}
    pairing: dict[str, Any] = {"a": models[0], "b": models[1]}
    if everybody:
        pairing = {"a": list(models), "b": list(models), "match": "distinct"}
    job = {
        "name": "job",
        "defaults": {"max_tokens": 60, "timeout": {"first": "30m", "idle": "30m", "total": "1h"}},
        "providers": {
            "card": {"type": "ollama", "base_url": "sim"} | limits | ({"resident": resident} if resident else {})
        },
        "models": {model: {"use": f"card/{model}"} for model in models},
        "prompts": {"talk": {"opening": "What survives?", "rounds": rounds}},
        "pairings": [{**pairing, "repeat": repeat}],
    }
    latency = {"first": 0.1, "per_token": 0.02, "load": LOAD}
    reply = {"mean": 30}
    return Night(
        job, {"resident": room, "models": {model: {"latency": latency, "reply": reply, **habits} for model in models}}
    )


def held(night: Night) -> Life:
    life = night.live()
    assert life.exit == 0
    return life


def most_at_work(night: Night) -> int:
    """Of how many models calls were in flight together, at most."""
    flying: Counter[str] = Counter()
    most, model = 0, {}
    for record in night.records():
        event = record.event
        if isinstance(event, Sent):
            model[event.cell] = event.model
            flying[event.model] += 1
            most = max(most, sum(1 for calls in flying.values() if calls))
        elif isinstance(event, Replied | Failed):
            flying[model[event.cell]] -= 1
    return most


def longest_group(night: Night) -> int:
    """How many calls of one model went in a row, at most."""
    longest = here = 1
    for one, next_one in pairwise(night.sents()):
        here = here + 1 if one.model == next_one.model else 1
        longest = max(longest, here)
    return longest


def test_two_models_that_talk_on_one_card_are_loaded_a_few_times_and_not_at_each_turn(
    record_property: Figures,
) -> None:
    """12 conversations of 6 turns: 72 loads without `resident`, and with it not many more than one for each turn."""
    plain, grouped = card(resident=None), card()
    before, after = held(plain), held(grouped)
    calls = len(grouped.sents())
    assert calls == len(plain.sents()) == len(plain.engine.loads) == 72
    assert len(grouped.engine.loads) <= 6 + 2
    # The same calls take as long as before: what is saved is the loading, and nothing but that.
    saved = (72 - len(grouped.engine.loads)) * LOAD
    assert before.seconds - after.seconds == pytest.approx(saved, rel=0.02)
    loads = len(grouped.engine.loads)
    record_property("figures", f"72 calls: {loads} loads, {after.seconds:.0f} s; one for each, {before.seconds:.0f} s")


def test_a_matrix_of_four_models_is_grouped_on_several_slots_and_nothing_is_loaded_over_a_call() -> None:
    """Each load serves many calls, and while those of one model fly none of another leaves."""
    night = card(models=FOUR, everybody=True, repeat=1, rounds=2, slots=4)
    held(night)
    assert len(night.sents()) == 48
    assert most_at_work(night) == 1
    assert len(night.engine.loads) <= 20
    plain = card(models=FOUR, everybody=True, repeat=1, rounds=2, slots=4, resident=None)
    held(plain)
    assert len(plain.engine.loads) > 3 * len(night.engine.loads)


def test_where_there_is_room_for_two_models_two_are_at_work_and_no_third() -> None:
    """The third waits until one of them is out, and the card is not idle meanwhile."""
    night = card(models=FOUR, everybody=True, repeat=1, rounds=2, slots=4, room=2, resident=2)
    held(night)
    assert most_at_work(night) == 2
    assert len(night.engine.loads) <= 25


def test_a_model_changes_when_too_many_calls_went_past_those_who_wait_for_another() -> None:
    """Work without end for the loaded model starves nobody: its groups have an end, and one load serves each."""
    night = card(repeat=40, rounds=1)
    held(night)
    assert PASSED_TOO_OFTEN <= longest_group(night) <= PASSED_TOO_OFTEN + 2
    assert len(night.engine.loads) <= 80 / PASSED_TOO_OFTEN + 3


def test_who_is_known_by_one_model_goes_on_while_another_that_is_dead_is_left_out() -> None:
    """A model that is not there keeps nobody from the card but its own conversations."""
    night = card(models=("m0", "m1", "gone"), everybody=True, repeat=1, rounds=2)
    night.change({**night.sim, "models": {name: row for name, row in night.sim["models"].items() if name != "gone"}})
    life = night.live()
    assert life.exit == 3
    statuses = Counter(line["status"] for line in night.lines())
    assert statuses == {"complete": 2, "pending": 4}


def test_a_run_that_is_taken_up_again_is_grouped_as_before() -> None:
    """Killed in the middle of the night, the next life begins by knowing nothing, and groups what is left."""
    night = card(repeat=6)
    assert night.live(signals=[(12.0, 15)]).exit == 143
    loads = len(night.engine.loads)
    held(night)
    assert len(night.engine.loads) - loads <= 6 + 2
    assert {line["status"] for line in night.lines()} == {"complete"}
