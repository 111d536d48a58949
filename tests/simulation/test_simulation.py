"""The simulation itself: it can be repeated, it tells what it found so that it can be seen again, and it has teeth."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import orjson
import pytest

from runner.job import JobError
from runner.lines import seal
from runner.run import Session
from tests.nights import ROOT, job_of, text_of
from tests.simulation import __main__ as command
from tests.simulation import sweep
from tests.simulation.account import RUN, Account, Book, Held, Line, synced_mark, whole_lines
from tests.simulation.batch import Came, live, live_all, live_some, shrunk, world
from tests.simulation.cutting import cuts
from tests.simulation.invariants import Broken, it_ends_in_time
from tests.simulation.life import Lived, Run, Story, asked_for
from tests.simulation.mutants import MUTANTS
from tests.simulation.truth import undisturbed
from tests.simulation.worlds import World, draw

HERE = Path(__file__).parents[2]
FEW = (*range(100, 114), 200_019, 200_025, 200_080, 200_095, 200_099, 200_105)
"""Among them some that went this way or that as long as the order of a cancellation came from addresses in memory."""


# --- it can be repeated ------------------------------------------------------------------------------------------


def begin(hash_seed: str, seeds: Iterable[int]) -> subprocess.Popen[str]:
    """A Python that orders its sets in its own way, and says what happens in some worlds."""
    words = [sys.executable, "-m", "tests.simulation", "digest", *map(str, seeds)]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(words, cwd=HERE, env=environ, stdout=subprocess.PIPE, text=True)


@pytest.mark.prove
def test_a_seed_is_the_same_story_in_every_python_process() -> None:
    """Twenty worlds come to the same, operation for operation, whatever the order of a set and of the worlds."""
    with begin("0", FEW) as one, begin("4711", reversed(FEW)) as other:
        first, second = one.communicate()[0].splitlines(), other.communicate()[0].splitlines()
    assert len(first) == len(FEW) == len(set(first))
    assert sorted(first) == sorted(second)


def test_what_happened_before_in_a_process_changes_no_story() -> None:
    """A world lived after others is the one that is lived alone: the command that replays it shows the same."""
    alone = {name: live(name).digest for name in ("pair/power-20", "104")}
    assert {
        came.name: came.digest for came in live_some(["104", "pair/kill-20", "pair/power-20"])
    }.items() >= alone.items()


def test_worlds_differ_and_their_last_lives_have_nothing_in_their_way() -> None:
    """Of forty seeds no two draw the same world, and every job in them could stand in a file."""
    worlds = [draw(seed) for seed in range(40)]
    assert len({repr(drawn(w)) for w in worlds}) == 40
    for one in worlds:
        last = [life for life in one.lives if life.final]
        assert last and one.lives[-1].final
        assert all(life.undisturbed and "faults" not in sim for life in last for sim in life.sims.values())
        for life in one.lives:
            assert job_of(text_of(life.job)).name == life.job["name"]


def drawn(one: World) -> tuple[object, ...]:
    return one.lives, one.order, one.rtt, one.sync_seconds


# --- it tells what it found ----------------------------------------------------------------------------------------


@pytest.fixture
def wrong() -> Iterator[None]:
    """A product that checks the money before, and counts it after."""
    with MUTANTS["check_then_act"].place():
        yield


def a_failure() -> Came:
    """The first world that shows a wrong product to be wrong."""
    return next(came for came in map(live, map(str, range(100))) if came.failure is not None)


def test_a_failure_says_which_promise_is_broken_and_where(wrong: object) -> None:
    """Told are promise, life, operation of the disk and the last thirty records, and the command to see it again."""
    came = a_failure()
    assert came.failure is not None
    assert came.failure.promise == "I1"
    assert came.failure.life >= 1 and came.failure.operation > 0
    assert 0 < len(came.failure.records) <= 30 * 2
    assert orjson.loads(came.failure.records[-1])["kind"] == "sent"
    assert came.again == f"python -m tests.simulation replay {came.name}"


def test_a_failure_is_shrunk_to_a_smaller_world_with_the_same_failure(wrong: object) -> None:
    """What is left out is named, and the named world breaks the same promise once more."""
    came = shrunk(a_failure())
    assert came.failure is not None and came.without
    assert came.again.count("--without") == len(came.without)
    again = live(came.name, came.without)
    assert again.failure == came.failure and again.digest == came.digest
    assert len(repr(world(came.name, came.without))) < len(repr(world(came.name)))


def test_the_command_prints_a_failure_and_exits_with_1(wrong: object, capsys: pytest.CaptureFixture[str]) -> None:
    """`replay` of a world that breaks a promise tells all of it; of one that does not, its figures."""
    name = a_failure().name
    assert command.main(["replay", name, "--verbose"]) == 1
    told = capsys.readouterr().out
    assert f"{name} broke I1 in life " in told
    assert f"again: python -m tests.simulation replay {name}" in told
    assert "providers {" in told


def test_a_world_that_breaks_no_promise_is_told_in_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Lives, kills and requests are counted."""
    assert command.main(["replay", "pair/kill-30"]) == 0
    assert capsys.readouterr().out.startswith("2 lives, 1 kills, ")


def test_an_error_of_ours_is_a_failure_of_the_world_and_not_of_the_harness() -> None:
    """An exception out of the product is told like a broken promise, with the line it comes from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "open", lambda session: 1 / 0)
        came = live("100")
    assert came.failure is not None and came.failure.promise == "bug"
    assert came.failure.what.startswith("ZeroDivisionError: division by zero (")


def test_worlds_are_lived_in_other_processes_and_counted() -> None:
    """The file of seeds can be read, and what worlds come to is added up, wherever they were lived."""
    assert all(seed >= 0 for seed in command.kept_seeds())
    tally = live_all(iter(["pair/kill-9", "pair/EIO-9", "pair/torn-9"]), 1)
    assert tally.worlds == 3 and not tally.failed
    assert str(tally).startswith("3 worlds, 6 lives, 2 kills, ") and str(tally).endswith("no promise broken")


# --- worlds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 31, 43, 86])
def test_every_cut_makes_a_world_that_can_be_lived(seed: int) -> None:
    """Whatever is left out, the job can still be read and the last life is still there."""
    whole = draw(seed)
    for name, cut in cuts(whole).items():
        smaller = cut(whole)
        assert smaller.lives[-1].final, name
        for life in smaller.lives:
            try:
                job_of(text_of(life.job))
            except JobError as error:  # pragma: no cover
                raise AssertionError(f"{name}: {error}") from error


def test_a_world_and_the_one_it_is_held_against_are_cut_alike() -> None:
    """Else a night would be compared with one that has more to do."""
    whole = next(w for w in map(draw, range(200)) if w.rival is not None)
    for name, cut in cuts(whole).items():
        smaller = cut(whole)
        assert smaller.rival is not None and smaller.rival.lives[0].job == smaller.lives[0].job, name
        assert smaller.rival.order == smaller.order, name


def test_the_sweep_names_each_operation_with_each_trouble_that_can_befall_it() -> None:
    """A name is a world again; a write can be torn, everything else can fail in four ways."""
    names = list(sweep.once("pair"))
    operations = sweep.changes("pair")
    assert len(names) == len(set(names)) == sum(5 if name in sweep.WRITES else 4 for name in operations)
    assert {"write", "sync", "rename", "sync_dir", "lock", "truncate"} & set(operations)
    second = world("round/EIO-17+power-3")
    faults = [(life.fault.kind, life.fault.change) for life in second.lives if life.fault]
    assert faults == [("EIO", 17), ("power", 3)] and second.lives[-1].final
    twice = list(islice(sweep.twice("pair"), 8))
    assert twice[0] == names[0] and twice[1].startswith(f"{names[0]}+")


def test_what_is_undisturbed_is_what_a_run_without_troubles_comes_to() -> None:
    """The arithmetic of texts and money, and a whole run on the virtual loop, agree to the nano-dollar."""
    calm = next(w for w in map(draw, range(200)) if w.is_calm and w.rival is None and not w.crowded)
    story = Story(calm).live()
    run = next(iter(story.runs.values()))
    found = undisturbed(calm.final.job, calm.final.sims)
    assert {key: reply["text"] for key, reply in run.account.replies.items()} == found.texts
    assert run.account.of(*RUN) == (found.spend.run, 0) == (run.billed.total(), 0)


# --- the second account --------------------------------------------------------------------------------------------


def account(*lines: Line) -> Account:
    found = Account(lambda opened, texts: {"c": 1})
    for seq, line in enumerate(lines, 1):
        found.take({"seq": seq, "at": float(seq), **line})
    return found


DAY = "2026-11-21"
OPENED: Line = {"kind": "opened", "life": 1, "day": DAY, "date": DAY, "ceilings": {}, "texts": {}, "job": {}}
SENT: Line = {
    "kind": "sent", "cell": "c", "turn": 1, "attempt": 1, "alias": "m", "provider": "p", "request": "r", "reserved": 90,
}  # fmt: skip
REPLIED: Line = {"kind": "replied", "cell": "c", "turn": 1, "attempt": 1, "text": "yes", "cost": 40}
LOST: Line = {"kind": "failed", "cell": "c", "turn": 1, "attempt": 1, "failure": "lost", "cost": 90}


def test_the_second_account_adds_up_what_is_reserved_and_what_is_settled() -> None:
    """A call reserves in every scope, its outcome settles; evidence alone lowers what was settled."""
    before, after = account(OPENED, SENT), account(OPENED, SENT, REPLIED)
    for scope in (RUN, ("cell", "c"), ("model", "m"), ("provider", "p"), ("day", DAY)):
        assert (before.of(*scope), after.of(*scope)) == (Held(0, 90), Held(40, 0))
    assert before.open.keys() == {"c"} and not after.open
    assert after.replies["c", 1]["text"] == "yes"
    settled = {"kind": "settled", "cell": "c", "turn": 1, "attempt": 1, "cost": 12}
    assert account(OPENED, SENT, LOST, settled).of(*RUN) == Held(12, 0)
    assert account(OPENED, SENT, LOST, settled, {**settled, "cost": 30}).of(*RUN) == Held(30, 0)
    assert account(OPENED, SENT, REPLIED).of_pairing(1) == Held(40, 0)


def test_after_a_repair_the_second_account_keeps_the_money_and_forgets_what_was_built_on_it() -> None:
    """Lost lines count at what the repair says; a turn that is asked for again takes those behind it with it."""
    repaired = {"kind": "repaired", "through": 5, "cost": 500}
    found = account(OPENED, SENT, REPLIED, repaired, SENT)
    assert found.of(*RUN) == Held(540, 90)
    assert not found.replies and found.mended and found.ceilings is None


def test_lines_count_up_to_the_first_that_is_not_whole() -> None:
    """A torn end and a flipped bit end what is believed; a mark of what was synced is found behind them, too."""
    whole = b"".join(seal({"seq": seq, "synced": seq - 1}) for seq in (1, 2, 3))
    assert [line["seq"] for _, line in whole_lines(whole)] == [1, 2, 3]
    assert [line["seq"] for _, line in whole_lines(whole[:-1])] == [1, 2]
    flipped = bytearray(whole)
    flipped[whole.index(b"\n") + 10] ^= 1
    assert [line["seq"] for _, line in whole_lines(flipped)] == [1]
    assert synced_mark(bytes(flipped)) == 2


def test_the_book_counts_the_last_line_of_a_run_and_a_day() -> None:
    """Days and months are sums over all runs; a line says all that a run counts, not what it adds."""
    book = Book()
    rows = [("a/main@1.0", "2026-11-21", 50), ("b/main@2.0", "2026-11-22", 30), ("a/main@1.0", "2026-11-21", 20)]
    more = [
        book.take({"seq": seq, "run": run, "day": day, "amount": amount, "kind": "drawn"})
        for seq, (run, day, amount) in enumerate(rows, 1)
    ]
    assert more == [50, 30, -30]
    assert (book.total("2026-11-21"), book.total("2026-11")) == (20, 50)


# --- the promises --------------------------------------------------------------------------------------------------


def follow(*lines: Line, **ceilings: int) -> Run:
    """A run whose journal has these lines, followed from its beginning."""
    run = Run(ROOT / "job" / "main")
    run.account = Account(lambda opened, texts: {"c": 1})
    sealed = [
        seal({"v": 1, "seq": seq, "at": float(seq), **line})
        for seq, line in enumerate(({**OPENED, "ceilings": ceilings}, *lines), 1)
    ]
    run.journal.look_back(b"".join(sealed))
    return run


AGAIN: Line = {**SENT, "attempt": 2}
NEXT: Line = {**SENT, "turn": 2}

BROKEN: dict[str, tuple[str, tuple[Line, ...], dict[str, int]]] = {
    "a ceiling of the run is passed": ("I1", (SENT,), {"run": 89}),
    "a ceiling of a conversation is passed by an attempt": ("I1", (SENT, LOST, AGAIN), {"conversation": 100}),
    "a ceiling of a model is passed": ("I1", (SENT,), {"model m": 89}),
    "a ceiling of a provider is passed": ("I1", (SENT,), {"provider p": 89}),
    "a ceiling of a pairing is passed": ("I1", (SENT,), {"pairing 1": 89}),
    "a ceiling of a pairing's conversations is passed": ("I1", (SENT,), {"conversation of pairing 1": 89}),
    "a cost passes its reservation unflagged": ("I1", (SENT, {**REPLIED, "cost": 91}), {}),
    "a cost is negative": ("I1", (SENT, {**REPLIED, "cost": -1}), {}),
    "a number is left out": ("I5", (SENT, {**REPLIED, "seq": 4}), {}),
    "a stamp goes back": ("I5", (SENT, {**REPLIED, "at": 1.5}), {}),
    "two calls at once": ("I7", (SENT, AGAIN), {}),
    "a call after the end": ("I7", ({"kind": "closed", "life": 1, "exit": 0, "reasons": []}, SENT), {}),
    "a turn is answered by nothing": ("I10", (SENT, {**REPLIED, "text": " \n"}), {}),
    "a turn is asked for again": ("I10", (SENT, REPLIED, AGAIN), {}),
    "a turn is asked for too late": ("I10", (NEXT, {**REPLIED, "turn": 2}, SENT), {}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_journal_that_breaks_a_promise_is_not_believed(what: str) -> None:
    """The same lines are fine but for the one thing."""
    promise, lines, ceilings = BROKEN[what]
    with pytest.raises(Broken, match=rf"^{promise}: "):
        follow(*lines, **ceilings)


def test_a_journal_that_keeps_every_promise_is_believed() -> None:
    """Ceilings that are just reached, an overrun that is flagged, and evidence that lowers what was assumed."""
    everything = {
        "run": 180,
        "conversation": 180,
        "model m": 180,
        "provider p": 180,
        "pairing 1": 180,
        "conversation of pairing 1": 180,
    }
    follow(SENT, LOST, AGAIN, {**REPLIED, "attempt": 2, "cost": 99, "overrun": True}, **everything)
    follow(SENT, LOST, {"kind": "settled", "cell": "c", "turn": 1, "attempt": 1, "cost": 1})


AT_NOON = 1_795_262_400.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7.66"}, 7.66),
        ({"retry-after-ms": "5000"}, 5.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:10 GMT"}, 70.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:59:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e400"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3s"}, 3723.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms", "retry-after": "7"}, 7.0),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "12ms"}, None),
    ],
)
def test_how_long_an_answer_asks_to_wait_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    """As a number, in milliseconds, as a date against our clock, or as the reset of a limit that is used up."""
    assert asked_for(headers, AT_NOON) == seconds


def test_only_the_time_in_which_nobody_had_asked_it_to_wait_is_held_against_a_life() -> None:
    """Silences that overlap count once, and only as far as they lie in the life; all other time is its own."""

    def lasting(own: float, *silences: tuple[float, float]) -> Lived:
        return Lived(draw(0).lives[0], 1, 100.0, 0.1, 0, ended=100.0 + own, silences=list(silences))

    assert lasting(50.0).seconds == 50.0
    assert (
        lasting(50.0, (110.0, 120.0), (105.0, 115.0), (0.0, 101.0), (149.0, 900.0)).seconds == 50.0 - 15.0 - 1.0 - 1.0
    )
    assert lasting(50.0, (200.0, 300.0), (30.0, 40.0)).seconds == 50.0
    it_ends_in_time(lasting(90_000.0, (100.0, 80_000.0)))
    with pytest.raises(Broken, match=r"^I16: a life took 89000 s "):
        it_ends_in_time(lasting(90_000.0, (100.0, 1_100.0)))


def test_what_was_durable_must_still_be_there() -> None:
    """A journal that is shorter than what surely outlived everything, or another one, breaks a promise."""
    run = follow(SENT, REPLIED)
    whole = run.journal.kept
    run.journal.safe = len(whole)
    run.journal.look_back(whole + b"torn")
    for less in (whole[:-1], whole.replace(b'"text":"yes"', b'"text":"yet"')):
        with pytest.raises(Broken, match=r"^I5: "):
            run.journal.look_back(less)


def test_what_was_not_durable_may_be_gone_and_is_then_forgotten() -> None:
    """A line that died with the power counts no more, and its money with it."""
    run = follow(SENT, REPLIED)
    first = next(end for end, _ in whole_lines(run.journal.kept))
    run.journal.safe = first
    run.journal.look_back(run.journal.kept[:first])
    assert run.account.seq == 1 and run.account.of(*RUN) == Held(0, 0)
