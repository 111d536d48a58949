from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.render.summary import Account, Ceiling, CostDifference, Night, Row, Spend, pieces, render
from runner.status import STATUSES
from tests.render.golden import assert_golden
from tests.render.reader import see
from tests.render.samples import FRAGMENTS, night

WORDS = st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
QUIET = Night("job", "main", 0, (), 0, (), Spend())


def cells(page: str, first: str) -> list[str]:
    """The row of a table that begins with this cell."""
    line = next(line for line in page.split("\n") if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_page_of_an_eventful_night_is_the_golden_one() -> None:
    """Outcome, money, models, differences, conversations and lives look as they did."""
    assert_golden("index.md", render(night()))


def test_each_reason_stands_once_under_the_outcome_the_most_frequent_first() -> None:
    """Nobody has to read all conversations to know why they are not complete; a full window is said as well."""
    row = night().conversations[2]
    waiting = tuple(replace(row, name=f"n{n}", status="pending", reason="sim: parked, until noon") for n in range(3))
    page = render(replace(night(), conversations=(*night().conversations, *waiting)))
    whys = page.split("## Outcome")[1].split("## Money")[0].split("| Status | Reason | Conversations |")[1]
    assert whys.split("\n")[2].endswith("| pending | sim: parked, until noon | 3 |")
    assert "| complete, stopped early | context full | 1 |" in whys
    many = tuple(replace(row, reason=f"reason {n}") for n in range(25))
    page = render(replace(QUIET, conversations=many))
    assert "And 5 more reasons; each stands in the row of its conversation." in page


def test_a_page_of_very_many_is_made_in_pieces() -> None:
    """None of them has more rows than a few hundred, and together they are the page."""
    row = night().conversations[0]
    many = replace(night(), conversations=tuple(replace(row, name=f"n{n}") for n in range(1_000)))
    found = list(pieces(many))
    assert "".join(found) == render(many)
    assert max(piece.count("\n") for piece in found) <= 256


def test_a_quiet_night_shows_no_empty_tables() -> None:
    """Where nothing happened nothing is listed."""
    assert see(render(QUIET)).headings == ["job / main", "Outcome", "Money"]


def test_the_first_line_says_what_happened() -> None:
    """Complete conversations, exit code and reasons stand at the top."""
    first = render(night()).split("\n\n")[1]
    assert first == "**2 of 4 conversations complete, 1 of them stopped early, exit code 4 (budget, 1 failed).**"
    assert "exit code" not in render(replace(QUIET, exit_code=None)).split("## Outcome")[0]


@given(st.lists(st.sampled_from(STATUSES), max_size=12))
@settings(max_examples=60, deadline=None)
def test_counts_per_status_add_up_to_the_total(statuses: list[str]) -> None:
    """Each conversation is counted once."""
    rows = tuple(replace(night().conversations[0], status=status) for status in statuses)  # type: ignore[arg-type]
    page = render(replace(night(), conversations=rows))
    table = page.split("## Outcome")[1].split("## Money")[0]
    counts = [int(count) for count in re.findall(r"^\| [a-z]+ \| (\d+) \|$", table, re.MULTILINE)]
    assert sum(counts) == len(statuses) == int(cells(table, r"**Total**")[1])


def test_those_of_the_complete_that_stopped_early_stand_below_them() -> None:
    """They are a part of the complete, and no status of their own; nothing is said where none did."""
    table = render(night()).split("## Outcome")[1].split("## Money")[0]
    assert "| complete | 2 |\n| – of them stopped early | 1 |\n| failed | 1 |\n" in table
    whole = tuple(replace(one, reason=None) for one in night().conversations)
    assert "stopped early" not in render(replace(night(), conversations=whole))


def test_money_adds_up_exactly() -> None:
    """Settled and assumed are the total, to the last decimal that is shown."""
    page = render(night())
    money = page.split("## Money")[1]
    assert cells(money, "Settled")[1] == "$0.006734567"
    assert cells(money, "Assumed (1 call, at the reservation)")[1] == "$0.0009"
    assert cells(money, r"**Total**")[1] == "$0.007634567"
    assert cells(page.split("## Models")[1], r"**Total**")[-1] == "$0.007634567"


def test_a_ceiling_that_is_passed_shows_a_room_below_zero() -> None:
    """An overrun is not hidden."""
    assert cells(render(night()), "provider sim")[-1] == "-$0.000634567"


def test_failures_are_counted_by_kind_and_in_all() -> None:
    """The total of the models holds every kind that a model has."""
    models = render(night()).split("## Models")[1].split("## Providers")[0]
    assert cells(models, "sim/basil")[1] == "1 lost"
    assert cells(models, r"**Total**")[1] == "1 empty, 1 lost"


@pytest.mark.fault(52)
def test_only_cost_differences_above_two_percent_are_listed() -> None:
    """A small difference is rounding, a large one a question."""
    page = render(night())
    assert cells(page.split("## Costs")[1], "sim/basil")[-1] == "-10.0 %"
    assert "sim/ada" not in page.split("## Costs")[1].split("##")[0]
    small = replace(QUIET, differences=(CostDifference("m", 1, 100, 101),))
    assert "## Costs" not in render(small)


def test_conversations_link_to_their_files() -> None:
    """One that has no file yet is named without a link."""
    page = render(night())
    names = ("ada~basil", "basil~ada", "ada~fay")
    assert see(page).links == [f"conversations/memory/{name}.md" for name in names]
    assert "| memory/ada\\~eli | budget | run ceiling reached |  | 0 of 4 | $0.0000 | – |" in page


def test_the_command_that_continues_is_shown_until_nothing_is_left() -> None:
    """It can be copied as it stands."""
    assert "```sh\ntertulia run jobs/nightly.yaml --run 2026-11-21\n```" in render(night())
    assert "```" not in render(QUIET)


def test_the_page_says_from_which_records_it_was_made() -> None:
    """Anybody can compute it again."""
    assert render(night()).endswith("*Computed from journal record 1 to 1,234.*\n")


@given(WORDS, WORDS)
@settings(max_examples=150, deadline=None)
def test_hostile_names_and_reasons_act_nowhere_on_the_page(word: str, other: str) -> None:
    """Headings and links are ours alone, and each row keeps its number of cells."""
    page = render(
        Night(
            job=word,
            run=other,
            exit_code=3,
            reasons=(word, other),
            records=1,
            conversations=(
                Row(word, "a.md", "failed", other, 0, 1, 0, 0, 0, None),
                Row(other, None, "pending", word, 0, 1, 1, 1, 0, 1.0),
            ),
            spend=Spend(),
            ceilings=(Ceiling(word, 1, 0),),
            models=(Account(word, 1, 0, None, None, 0, 0, {other: 1}),),
            providers=(Account(other, 1, 0, None, None, 0, 0, {word: 1}),),
            differences=(CostDifference(word, 1, 2, 1),),
            command=f"tertulia {word}",
        )
    )
    seen = see(page)
    assert len(seen.headings) == 7
    assert (seen.links, seen.forbidden, seen.definitions) == (["a.md"], [], [])
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
