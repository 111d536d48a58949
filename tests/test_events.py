"""Events are read back as they were written, and what is empty is left out."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Finish, Kind, Money, Scope, Usage
from runner.events import (
    Branched,
    Closed,
    Engaged,
    Event,
    Failed,
    Heard,
    Noted,
    Opened,
    Repaired,
    Replied,
    Sent,
    Settled,
    Started,
    Stopped,
    from_data,
    to_data,
    usage_data,
    usage_of,
)
from runner.journal import decode, encode
from runner.state import Place
from runner.status import STATUSES

words = st.text(st.characters(codec="utf-8"), max_size=12)
nanos = st.integers(0, 2**60)
maybe = st.none() | words
seconds = st.none() | st.floats(0, 1e9)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, plain, max_size=3)
small = st.integers(1, 10**6)
names = st.lists(words, max_size=3).map(tuple)

EVENTS: dict[type[Any], st.SearchStrategy[Any]] = {
    Opened: st.builds(
        Opened, small, words, words, words, words, words, st.none() | objects,
        st.dictionaries(words, words, max_size=3), st.dictionaries(words, nanos, max_size=3),
        st.dictionaries(words, st.dictionaries(words, words)), objects, names, words, seconds.map(lambda at: at or 0.0),
    ),
    Sent: st.builds(
        Sent, words, small, small, words, words, words, words, words, words, nanos, small, small,
        seed=st.none() | small, dropped=names,
    ),
    Started: st.builds(Started, words, small, small, words),
    Replied: st.builds(
        Replied, words, small, small, words, st.sampled_from(get_args(Finish)), nanos,
        st.sampled_from(["reported", "priced", "unknown"]), st.none() | nanos, objects, st.booleans(),
        maybe, maybe, maybe, maybe, maybe, seconds, seconds,
    ),
    Heard: st.builds(
        Heard, words, small, words, words, st.sampled_from(get_args(Finish)), objects, st.none() | nanos, maybe,
        seconds, maybe, maybe, seconds,
    ),
    Noted: st.builds(Noted, words, words, maybe, words, words),
    Failed: st.builds(
        Failed, words, small, small, st.sampled_from([*get_args(Kind), "truncated"]), st.sampled_from(get_args(Scope)),
        st.sampled_from(get_args(Money)), nanos, st.booleans(), words, st.booleans(), maybe, st.none() | small, seconds,
        objects, st.booleans(), maybe, maybe, maybe, maybe, maybe, maybe, seconds, seconds,
    ),
    Branched: st.builds(
        Branched, words, words, st.sampled_from(["extend", "fork", "redo"]), small, small, words, small,
        st.dictionaries(words, words, max_size=3), small, names,
    ),
    Engaged: st.builds(Engaged, names, objects),
    Settled: st.builds(Settled, words, small, small, nanos, words),
    Stopped: st.builds(Stopped, words, st.sampled_from(STATUSES), maybe),
    Closed: st.builds(Closed, small, st.integers(0, 255), names),
    Repaired: st.builds(Repaired, small, nanos),
}  # fmt: skip
any_event: st.SearchStrategy[Any] = st.one_of(*EVENTS.values())


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: str(kind.kind))
def test_an_event_is_read_back_as_it_was_written(kind: type[Any]) -> None:
    """Every kind, with any contents, through one line of a journal."""

    @given(EVENTS[kind], small, st.floats(0, 2e9), st.none() | small)
    @settings(max_examples=40)
    def holds(event: Event, seq: int, at: float, synced: int | None) -> None:
        line = encode(seq, at, event, synced)
        assert line.endswith(b"}\n")
        assert line.count(b"\n") == 1
        assert decode(line[:-1], 7) == (seq, at, synced, event, Place(7, len(line)))

    holds()


@given(any_event)
def test_what_is_left_out_is_empty(event: Event) -> None:
    """Only what is None or False by default is left out, and what a later version adds is passed over."""
    data = to_data(event)
    assert from_data(event.kind, {**data, "later": 1}) == event
    assert all(getattr(event, name) in (None, False) for name in event.__slots__ if name not in data)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: str(kind.kind))
def test_an_event_without_one_of_its_fields_is_none(kind: type[Any]) -> None:
    """Whatever has no default must be there, and the name of what is not is told."""
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    whole = dict.fromkeys(needed, "") | {"prompts": ()}
    from_data(kind.kind, whole)
    for name in needed:
        with pytest.raises(KeyError, match=name):
            from_data(kind.kind, {other: value for other, value in whole.items() if other != name})


@given(
    st.builds(
        Usage, st.none() | nanos, st.none() | nanos, st.none() | nanos, st.none() | nanos, st.none() | nanos,
        st.none() | nanos, st.booleans(), st.none() | objects,
    )
)  # fmt: skip
def test_usage_is_kept_as_it_was(usage: Usage) -> None:
    """Unknown stays unknown, zero stays zero, and doubt stays doubt."""
    assert usage_of(usage_data(usage)) == usage
