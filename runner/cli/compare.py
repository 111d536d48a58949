"""`compare`: two runs held against each other, or two moments of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.compare import Asked, Difference, Facts, Sums
    from runner.journal import Scan
    from runner.money import Nanos
    from runner.outputs import Reading

EXIT_DIFFERENT: Final = 3
_MOST_SHOWN: Final = 40
_KINDS: Final = ("worse", "better", "new", "gone", "changed")


class _Side(NamedTuple):
    """One of the two."""

    name: str
    told: Reading
    records: int


@click.command()
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@outputs_option
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(_KINDS),
    help="End with exit code 3 when a conversation is so; once for each kind.",
)
@json_option
@answered
@ended
def compare(before: str, after: str, outputs: Path, fail_on: tuple[str, ...], as_json: bool) -> int:
    """Tell what differs between two runs: conversations that are new, gone, changed, better or worse, and the sums.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. With `@N` it is the run as it stood after
    its Nth life: `compare nightly/main@1 nightly/main@2` tells what the second night has brought.

    Worse is: not complete any more, ended earlier, more truncated or refused replies, or dearer by more than 10 %.
    Changed is: the models were asked something else. The exit code is 0 whether or not they differ, but for --fail-on.
    """
    first, second = _side(outputs, before), _side(outputs, after)
    found = _differences(first.told, second.told)
    if as_json:
        _tell_data(first, second, found)
    else:
        for line in _screen(first, second, found):
            click.echo(line)
    kinds = {kind for one in found for kind in one.kinds()}
    return EXIT_DIFFERENT if kinds & set(fail_on) else 0


# --- the runs ----------------------------------------------------------------------------------------------------


def _side(outputs: Path, text: str) -> _Side:
    """The run that is meant, now or after one of its lives. UsageError when there is none."""
    import re

    from runner.cli.runs import find, reading, scanned

    asked = re.fullmatch(r"(.+)@([0-9]{1,9})", text)
    run = find(outputs, text if asked is None else asked[1])
    found = scanned(run) if asked is None else _after_life(run, int(asked[2]))
    if found.damaged:
        say(f"{run.name}: the journal is damaged; what is compared ends where it is. See `{run.command('verify')}`")
    told = reading(run, found)
    if told is None:
        raise click.UsageError(f"{run.name} has no conversations yet: its journal is empty.")
    return _Side(run.name if asked is None else f"{run.name}@{asked[2]}", told, found.last)


def _after_life(run: Run, life: int) -> Scan:
    """The journal as far as it told when that life had ended: up to the beginning of the next.

    What was wished of the run after one life is on record before the next one opens, and belongs to that.
    """
    from runner.cli.runs import scanned
    from runner.events import Branched, Engaged, Opened, Repaired
    from runner.journal import Record, Scan, decode
    from runner.lines import split
    from runner.world import RealDisk

    lives = scanned(run).state.lives  # which also says what is wrong with the journal
    if not 1 <= life <= lives:
        known = "1 life" if lives == 1 else f"{lives:,} lives"
        raise click.UsageError(f"{run.name} has had {known}: there is no @{life}.")
    found, wished = Scan(), list[Record]()
    for offset, line, whole in split(RealDisk(), run.journal):
        record = decode(line, offset) if whole else None
        if record is None or (isinstance(record.event, Opened) and record.event.life > life):
            break
        if isinstance(record.event, Branched | Engaged):
            wished.append(record)
            continue
        if isinstance(record.event, Opened):
            for wish in wished:
                found.state.apply(wish.event, wish.at, wish.place)
            wished.clear()
        found.state.apply(record.event, record.at, record.place)
        found.last = record.event.through if isinstance(record.event, Repaired) else record.seq
        found.last_at = record.at
    return found


def _differences(before: Reading, after: Reading) -> list[Difference]:
    """Every conversation of both; the texts of no more than one are held at a time."""
    from runner.compare import difference, pairs

    found = []
    for pair in pairs(_asked(before), _asked(after)):
        one = None if pair.before is None else before.plan.cells[pair.before]
        other = None if pair.after is None else after.plan.cells[pair.after]
        asked = None
        if one is not None and other is not None and one.id != other.id:
            asked = before.plan.conversation(one), after.plan.conversation(other)
        found.append(
            difference(
                None if one is None else before.transcript(one),
                None if other is None else after.transcript(other),
                asked,
            )
        )
    return found


def _asked(told: Reading) -> list[Asked]:
    from runner.compare import Asked

    models = {alias: f"{model.provider}/{model.id}" for alias, model in told.plan.models.items()}
    return [
        Asked(cell.id, cell.name, cell.prompt, tuple((role, models[alias]) for role, alias in cell.models), cell.repeat)
        for cell in told.plan.cells
    ]


# --- for people --------------------------------------------------------------------------------------------------


def _screen(first: _Side, second: _Side, found: Sequence[Difference]) -> Iterator[str]:
    from collections import Counter

    counts = Counter(kind for one in found for kind in one.kinds())
    yield f"{first.name} -> {second.name}"
    yield from _sums(found)
    yield "  " + ", ".join(f"{counts[kind]:,} {kind}" for kind in (*_KINDS, "same"))
    told = [one for one in found if set(one.kinds()) != {"same"}]
    for one in told[:_MOST_SHOWN]:
        yield from _shown(one)
    if len(told) > _MOST_SHOWN:
        yield f"... and {len(told) - _MOST_SHOWN:,} more; --json tells of all"
    alike = [one.similarity for one in found if one.standing == "same" and one.similarity is not None]
    if alike:
        same = sum(one == 1.0 for one in alike)
        mean = sum(alike) / len(alike)
        yield f"texts of those asked the same: {same:,} of {len(alike):,} the same, {mean:.2f} alike on average"


def _sums(found: Sequence[Difference]) -> Iterator[str]:
    from runner.compare import per_cent, sums
    from runner.render.figures import UNKNOWN, usd

    was, now = sums(one.before for one in found), sums(one.after for one in found)

    def row(name: str, before: str, after: str, change: str = "") -> str:
        return f"  {name:<18}{before:>14}  {after:>14}{change}"

    def tokens(of: Sums) -> str:
        return UNKNOWN if of.tokens is None else f"{of.tokens:,}{of.coverage}"

    def speed(of: Sums) -> str:
        return UNKNOWN if of.speed is None else f"{of.speed:.1f}"

    change = per_cent(was.spent, now.spent) if was.spent != now.spent else ""
    yield row("", "before", "after")
    yield row("conversations", f"{was.conversations:,}", f"{now.conversations:,}")
    yield row("complete", f"{was.complete:,}", f"{now.complete:,}")
    yield row("cost", usd(was.spent), usd(now.spent), change)
    yield row("turns", f"{was.turns:,}", f"{now.turns:,}")
    yield row("tokens written", tokens(was), tokens(now))
    yield row("tokens per second", speed(was), speed(now))


def _shown(one: Difference) -> Iterator[str]:
    """One conversation that differs, and what of it."""
    from runner.foreign import visible
    from runner.render.figures import usd

    renamed = one.before is not None and one.after is not None and one.before.name != one.after.name
    was = f" (was {one.before.name})" if renamed and one.before is not None else ""
    kinds = [kind for kind in one.kinds() if kind != "same"]
    yield visible(f"{', '.join(kinds)}: {one.name}{was}", keep_newlines=False)
    if one.before is None or one.after is None:
        there = one.before or one.after
        assert there is not None
        yield f"    {there.status}, {there.turns} of {there.planned} turns, {usd(there.spent)}"
        return
    for what in one.changes:
        yield f"    asked: {what}"
    for verdict, reasons in (("worse", one.worse), ("better", one.better), ("also", one.other)):
        for what in reasons:
            yield f"    {verdict}: {what}"
    if one.similarity is not None:
        yield f"    texts: {one.similarity:.2f} alike"


# --- for programs ------------------------------------------------------------------------------------------------


def _tell_data(first: _Side, second: _Side, found: Sequence[Difference]) -> None:
    from collections import Counter

    from runner.compare import STANDINGS, VERDICTS, sums

    for one in found:
        emit(
            {
                "event": "conversation",
                "name": one.name,
                "standing": one.standing,
                "changes": list(one.changes),
                "worse": list(one.worse),
                "better": list(one.better),
                "other": list(one.other),
                "similarity": None if one.similarity is None else round(one.similarity, 6),
                "before": _facts(one.before),
                "after": _facts(one.after),
            }
        )
    counts = Counter(kind for one in found for kind in one.kinds())
    emit(
        {
            "event": "sum",
            "counts": {kind: counts[kind] for kind in (*STANDINGS, *VERDICTS)},
            "before": {"run": first.name, "records": first.records, **_sum(sums(one.before for one in found))},
            "after": {"run": second.name, "records": second.records, **_sum(sums(one.after for one in found))},
        }
    )


def _facts(of: Facts | None) -> dict[str, Any] | None:
    if of is None:
        return None
    return {
        "id": of.id,
        "name": of.name,
        "status": of.status,
        "reason": of.reason,
        "cost": _dollars(of.spent),
        "turns": of.turns,
        "planned": of.planned,
        "tokens": of.tokens,
        "tokens_per_second": of.speed,
        "truncated": of.truncated,
        "refused": of.refused,
    }


def _sum(of: Sums) -> dict[str, Any]:
    return {
        "conversations": of.conversations,
        "complete": of.complete,
        "cost": _dollars(of.spent),
        "turns": of.turns,
        "tokens": of.tokens,
        "tokens_per_second": of.speed,
    }


def _dollars(amount: Nanos) -> float:
    from runner.money import dollars

    return float(dollars(amount))
