"""What becomes of a turn: every outcome against every policy, and no attempt beyond what was allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Kind, Money, Outcome, Reply, Scope, Usage
from runner.conversation import Outcomes, Participant, Policy
from runner.events import Failed, Replied, Sent
from runner.judge import MOST_BUSY, failed, judge, max_tokens_for, policy_for, read_whole, replied
from runner.prices import Charge
from runner.state import Place, State, Tried

SPEAKER = Participant("a", "A", True, alias="ada", provider="sim", model="m", max_tokens=100)
KINDS: tuple[Kind, ...] = get_args(Kind)
CALL_KINDS: tuple[Kind, ...] = ("empty", "refused", "context_cut", "error", "lost")


def speaker(**policies: Policy) -> Participant:
    return replace(SPEAKER, outcomes=replace(Outcomes(), **policies))


def failure(kind: Kind = "error", scope: Scope = "call", **more: Any) -> Failure:
    return Failure(kind, scope, "known", "trouble", **more)


def tried(busy: int = 0, **kinds: int) -> Tried:
    return Tried(attempts=busy + sum(kinds.values()), busy=busy, kinds=kinds)


def verdict(outcome: Outcome, who: Participant = SPEAKER, before: Tried | None = None, *dropped: str) -> str:
    return judge(outcome, who, before or Tried(), 0.5, dropped).next


# --- the table ---------------------------------------------------------------------------------------------------


def test_a_plain_reply_is_accepted() -> None:
    """Whatever was tried before."""
    assert verdict(Reply("x", "ok"), SPEAKER, tried(busy=19, error=9, lost=9)) == "accept"


@pytest.mark.fault(55)
@pytest.mark.parametrize("finish", ["truncated", "refused"])
@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("retry", [0, 1, 3])
def test_a_reply_that_is_not_ok_is_tried_again_and_then_taken_or_not(finish: str, accept: bool, retry: int) -> None:
    """So often as its policy says, and then as its policy says."""
    who = speaker(**{finish: Policy(retry, accept)})
    for before in range(retry + 2):
        found = verdict(Reply("x", finish), who, tried(**{finish: before}))  # type: ignore[arg-type]
        assert found == ("retry" if before < retry else "accept" if accept else "fail")


@pytest.mark.parametrize("kind", CALL_KINDS)
@pytest.mark.parametrize("retry", [0, 1, 3])
def test_a_failed_call_is_tried_again_as_often_as_its_policy_says(kind: Kind, retry: int) -> None:
    """And then the conversation fails: a failure is never accepted, not even where a reply would be."""
    name = "error" if kind == "context_cut" else kind
    who = speaker(**{name: Policy(retry, accept=True)})
    for before in range(retry + 2):
        assert verdict(failure(kind), who, tried(**{kind: before})) == ("retry" if before < retry else "fail")


def test_one_kind_of_trouble_does_not_use_up_the_tries_of_another() -> None:
    """Each is counted by itself."""
    assert verdict(failure("lost"), SPEAKER, tried(error=5, empty=2)) == "retry"
    assert verdict(failure("error"), SPEAKER, tried(error=5)) == "fail"


@pytest.mark.parametrize("kind", CALL_KINDS)
@pytest.mark.parametrize(
    ("scope", "expected"), [("conversation", "fail"), ("model", "park_model"), ("provider", "park_provider")]
)
def test_the_scope_says_who_stops(kind: Kind, scope: Scope, expected: str) -> None:
    """At once, with tries left or without, and each time."""
    for before in (tried(), tried(**{kind: 99})):
        assert verdict(failure(kind, scope), speaker(error=Policy(99), empty=Policy(99)), before) == expected


@pytest.mark.fault(48)
def test_a_full_window_ends_the_conversation_as_its_policy_says() -> None:
    """It is over, or it has failed; the reason names the window."""
    full = failure(scope="conversation", overflow=True)
    assert judge(full, SPEAKER, Tried(), 0.5, ()) == ("stop", 0.0, "context full: trouble")
    assert verdict(full, replace(SPEAKER, overflow="fail")) == "fail"


def test_a_count_that_falls_means_that_the_history_was_cut() -> None:
    """A reply to less than it was shown is no turn; one that is counted a little otherwise is."""
    reply = Reply("Yes.", "ok", Usage(input=949, output=3))
    cut = read_whole(reply, 1000)
    assert isinstance(cut, Failure)
    assert (cut.kind, cut.scope, cut.money, cut.partial, cut.usage) == (
        "context_cut",
        "conversation",
        "known",
        "Yes.",
        reply.usage,
    )
    for counted in (0, 900, 998):
        assert read_whole(reply, counted) is reply
    for usage in (Usage(), Usage(input=5, trusted=False)):
        unknown = replace(reply, usage=usage)
        assert read_whole(unknown, 1000) is unknown


def test_busy_answers_cost_no_try_until_there_are_too_many() -> None:
    """Nineteen are waited out, the twentieth fails the turn; other tries do not matter."""
    busy = failure(busy=True, retry_after=30.0)
    for before in range(MOST_BUSY - 1):
        assert judge(busy, SPEAKER, tried(before, error=9), 0.5, ()) == ("retry", 0.0, "")
    found = judge(busy, SPEAKER, tried(MOST_BUSY - 1), 0.5, ())
    assert found.next == "fail"
    assert found.reason == "busy 20 times: trouble"


def test_a_refused_parameter_is_dropped_once() -> None:
    """Dropped without spending a try; refused once more, though it was not sent, no other try can help."""
    refused = failure(parameter="top_p")
    who = speaker(error=Policy(1))
    assert judge(refused, who, tried(error=9), 0.5, ()) == ("retry", 0.0, "")
    assert verdict(refused, who, tried(error=9), "seed") == "retry"
    assert verdict(refused, who, tried(), "top_p") == "fail"


def test_a_model_that_goes_on_refusing_a_dropped_parameter_is_given_up() -> None:
    """Judged and folded together, as a run does it: the tries come to an end."""
    state, attempt = State(), 0
    place = Place(0, 1)
    while attempt < 50:
        attempt += 1
        before = state.of("c").tried
        sent = sent_at(attempt, dropped=state.dropped.get("ada", ()))
        state.apply(sent, 0.0, place)
        refused = failure("error", parameter="top_p")
        found = judge(refused, speaker(error=Policy(2)), before, 0.5, sent.dropped)
        state.apply(failed(refused, sent, Charge(0, "reported", None, False), found.next == "fail"), 0.0, place)
        if found.next == "fail":
            break
    # Once to learn it, and once to learn that it is no use.
    assert attempt == 2


def test_a_wait_that_the_provider_asks_for_is_its_lanes_to_keep() -> None:
    """A conversation that rested for days by itself would hold up the night; the waiting line knows when to give up."""
    assert judge(failure(retry_after=864_000.0), SPEAKER, Tried(), 0.999, ()).pause <= 0.5


# --- pauses and limits -------------------------------------------------------------------------------------------


@pytest.mark.fault(29)
@given(st.integers(0, 200), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_anything_up_to_a_bound_that_doubles(before: int, chance: float) -> None:
    """Full jitter, from half a second to a minute, for failures and for replies alike."""
    who = speaker(error=Policy(999), truncated=Policy(999))
    for outcome in (failure(), Reply("x", "truncated")):
        found = judge(outcome, who, tried(error=before, truncated=before), chance, ())
        assert found.next == "retry"
        assert found.pause == pytest.approx(chance * min(60.0, 0.5 * 2.0 ** min(before, 20)))


outcomes = st.one_of(
    st.builds(Reply, st.just("x"), st.sampled_from(["ok", "truncated", "refused"])),
    st.builds(
        Failure,
        st.sampled_from(KINDS),
        st.sampled_from(get_args(Scope)),
        st.sampled_from(get_args(Money)),
        st.just("d"),
        retry_after=st.none() | st.floats(0, 1e9),
        busy=st.booleans(),
        overflow=st.booleans(),
        parameter=st.none() | st.sampled_from(["seed", "top_p"]),
    ),
)


@given(outcomes, st.dictionaries(st.sampled_from([*KINDS, "truncated"]), st.integers(0, 50)), st.integers(0, 50))
@settings(max_examples=300)
def test_only_text_is_accepted_and_only_tries_that_are_left_are_used(
    outcome: Outcome, kinds: dict[str, int], busy: int
) -> None:
    """For every outcome and every past: no failure becomes a turn, and no endless retry."""
    found = judge(outcome, SPEAKER, Tried(busy=busy, kinds=kinds), 0.5, ("seed", "top_p"))
    if found.next == "accept":
        assert isinstance(outcome, Reply)
    if isinstance(outcome, Reply) and outcome.finish == "ok":
        assert found.next == "accept"
    if found.next == "retry":
        assert 0 <= found.pause <= 60
        if isinstance(outcome, Failure) and outcome.busy:
            assert busy < MOST_BUSY
        else:
            kind = outcome.kind if isinstance(outcome, Failure) else outcome.finish
            assert kinds.get(kind, 0) < policy_for(kind, SPEAKER).retry
    if found.next in ("fail", "stop") and isinstance(outcome, Failure):
        assert found.reason.endswith("d")


@pytest.mark.fault(50)
def test_a_limit_grows_with_each_try_that_more_room_may_help() -> None:
    """By each kind's own factor; busy answers and errors leave it alone."""
    who = speaker(empty=Policy(3, max_tokens_times=2.0), truncated=Policy(3, max_tokens_times=1.5))
    assert max_tokens_for(who, Tried()) == 100
    assert max_tokens_for(who, tried(busy=9, error=4, lost=1)) == 100
    assert max_tokens_for(who, tried(empty=2)) == 400
    assert max_tokens_for(who, tried(empty=1, truncated=2)) == 450


def test_a_limit_does_not_grow_beyond_all_models() -> None:
    """However often it doubles; and a limit that the job names is never lowered."""
    who = speaker(empty=Policy(100, max_tokens_times=16.0))
    assert max_tokens_for(who, tried(empty=100)) == 1_000_000
    assert max_tokens_for(replace(who, max_tokens=2_000_000), tried(empty=1)) == 2_000_000


# --- what is written down ----------------------------------------------------------------------------------------


def sent_at(attempt: int = 1, dropped: tuple[str, ...] = ()) -> Sent:
    return Sent("c", 1, attempt, "a", "ada", "sim", "m", "0" * 64, "openai/1", 500, 10, 100, dropped=dropped)


def test_an_accepted_reply_is_written_down_with_its_bill() -> None:
    """Text, finish and figures as they came, and what they cost."""
    usage = Usage(input=3, output=2, cost=7, raw={"x": 1})
    reply = Reply("text", "truncated", usage, reasoning="hm", model="m2", generation="g", stop="length", seconds=1.5)
    event = replied(reply, sent_at(2), Charge(7, "reported", 9, True))
    assert event == Replied(
        "c", 1, 2, "text", "truncated", 7, "reported", 9,
        {"input": 3, "output": 2, "cost": 7, "raw": {"x": 1}},
        overrun=True, reasoning="hm", model="m2", generation="g", stop="length", seconds=1.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "source", "kind", "money", "partial"),
    [
        (Failure("empty", "call", "known", "d"), "priced", "empty", "known", None),
        (Failure("error", "call", "free", "d"), "reported", "error", "free", None),
        (Failure("lost", "call", "assumed", "d", partial="half"), "unknown", "lost", "assumed", "half"),
        (Failure("empty", "call", "known", "d"), "unknown", "empty", "assumed", None),
        (Reply("no", "refused"), "priced", "refused", "known", "no"),
        (Reply("cut", "truncated"), "unknown", "truncated", "assumed", "cut"),
    ],
)
def test_a_failed_attempt_is_written_down_with_its_money(
    outcome: Outcome, source: Any, kind: str, money: str, partial: str | None
) -> None:
    """A cost that nobody knows is assumed, and the text of a reply that was not accepted is kept beside it."""
    event = failed(outcome, sent_at(), Charge(11, source, None, False), final=True)
    assert isinstance(event, Failed)
    assert (event.failure, event.money, event.cost, event.partial, event.final) == (kind, money, 11, partial, True)
    assert event.scope == "call"
