"""`settle`: what calls have cost of which nobody knew it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.evidence import Assumed, Row
    from runner.journal import Scan
    from runner.money import Nanos
    from runner.outputs import Reading
    from runner.plan import Plan
    from runner.state import State

EXIT_MISTAKE: Final = 2
EXIT_UNSURE: Final = 3
EXIT_HELD: Final = 7
EXIT_STORAGE: Final = 8

_MOST_BYTES: Final = 256 * 1024 * 1024
_MOST_LINES: Final = 20
_AMOUNT: Final = 3
"""The column of the table whose figures stand under each other."""


def _cost(context: click.Context, option: click.Parameter, text: str | None) -> Nanos | None:
    from runner.money import MoneyError, parse_billed

    if text is None:
        return None
    try:
        return parse_billed(text)
    except MoneyError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("run")
@outputs_option
@click.option(
    "--call", "names", multiple=True, metavar="CALL", help="This call: 'prompt/a~b#3.1', its turn and attempt."
)
@click.option("--all", "everything", is_flag=True, help="Every call whose cost is assumed.")
@click.option("--cost", metavar="DOLLARS", callback=_cost, help="What each of them was billed; 0 where it was not.")
@click.option("--from", "file", type=click.Path(path_type=Path), metavar="FILE", help="A usage file: CSV or JSONL.")
@click.option(
    "--above-reservation",
    "above",
    is_flag=True,
    help="Take a cost above what was reserved for the call: it was billed.",
)
@click.option("--because", metavar="TEXT", help="How you know, in your own words; it is kept as the evidence.")
@click.option("--dry-run", is_flag=True, help="Say what would be settled, and change nothing.")
@json_option
@answered
@ended
def settle(
    run: str,
    outputs: Path,
    names: tuple[str, ...],
    everything: bool,
    cost: Nanos | None,
    file: Path | None,
    above: bool,
    because: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say what calls have cost of which nobody knows it; without options, list them.

    A call that failed, or that a crash cut off, may have been billed: it counts at its reservation until somebody knows
    better. RUN is a run's folder, `job/key`, or a job, which means its newest run.

    A call that was settled before may be settled again with --call: what was said of it last counts. A cost above the
    reservation, which is the most that a call should cost, is refused as a slip unless --above-reservation is given.

    A usage FILE has a row for each call, with its `id` (or `generation`, `generation_id`), or its `cell`, `turn` and
    `attempt`; and its `cost` (or `usage`, `total_cost`) in dollars. Rows of other calls are passed over.

    \b
    Exit code:
      0  all that was asked for is settled
      2  a mistake in the command or the file; nothing was changed
      3  a row is ambiguous, or none is of a call of this run
      7  another process holds the run
      8  the journal is damaged, or the disk failed
    """
    from runner.cli.runs import find

    ways = sum((bool(names), everything, file is not None))
    if ways > 1:
        raise click.UsageError("--call, --all and --from exclude each other.")
    if (names or everything) and cost is None:
        raise click.UsageError("--cost says what they were billed: --cost 0.0031, or --cost 0 where they were not.")
    if not (names or everything) and cost is not None:
        raise click.UsageError("--cost belongs to --call or --all.")
    if not ways and (above or because is not None or dry_run):
        raise click.UsageError("--above-reservation, --because and --dry-run belong to --call, --all or --from.")
    one = find(outputs, run)
    if not ways:
        return _list(one, as_json)
    rows = () if file is None else _rows(file)
    if rows is None:
        return EXIT_MISTAKE
    wish = _Wish(names, everything, cost or 0, file, tuple(rows), above, because, as_json)
    return _try_out(one, wish) if dry_run else _settle(one, wish)


class _Wish(NamedTuple):
    """What is to be settled."""

    names: tuple[str, ...]
    everything: bool
    cost: Nanos
    file: Path | None
    rows: tuple[Row, ...]
    above: bool
    """True when more than was reserved is meant so."""
    because: str | None
    as_json: bool

    def evidence(self, row: Row | None = None) -> str:
        from runner.foreign import storable

        said = "" if self.because is None else storable(self.because)
        if self.file is None or row is None:
            return said or "by hand"
        return f"{storable(self.file.name)}, line {row.line:,}" + (f": {said}" if said else "")


class _Choice(NamedTuple):
    """A call, what it cost, and how that is known."""

    call: Assumed
    cost: Nanos
    evidence: str


def _rows(file: Path) -> list[Row] | None:
    """The rows of a usage file; None when its mistakes have been told."""
    from runner.evidence import Unusable, rows_of
    from runner.job.files import Files, Misread
    from runner.render.figures import counted

    try:
        return rows_of(Files().read(file, _MOST_BYTES))
    except Misread as error:
        say(f"{file}: {error}")
    except Unusable as unusable:
        _say_some([f"{file}:{line}: {text}" if line else f"{file}: {text}" for line, text in unusable.mistakes])
        say(f"{counted(len(unusable.mistakes), 'mistake')}; nothing was changed")
    return None


def _say_some(lines: Sequence[str]) -> None:
    for line in lines[:_MOST_LINES]:
        say(line)
    if len(lines) > _MOST_LINES:
        say(f"... and {len(lines) - _MOST_LINES:,} more")


# --- listing -----------------------------------------------------------------------------------------------------


def _list(run: Run, as_json: bool) -> int:
    from runner.cli.runs import holder
    from runner.evidence import assumed_calls
    from runner.render.figures import usd

    told, found = _told(run)
    if told is None:
        say(f"{run.name}: its journal is empty")
        return 0
    held = holder(run)
    calls = assumed_calls(found.state, told.plan, at_work=held is not None)
    if as_json:
        for call in calls:
            emit(_data(run, call))
        emit({"event": "sum", "run": run.name, "at_work": held, **_amounts(found.state)})
        return 0
    for line in _table(run, calls):
        click.echo(line)
    if found.state.nameless:
        nameless = usd(found.state.nameless)
        click.echo(f"  {nameless} more stands for lines that a repair replaced: there is no call to settle")
    if held is not None:
        say(f"{run.name} is at work ({held}): its calls can be settled when it has ended")
    return 0


def _data(run: Run, call: Assumed) -> dict[str, Any]:
    sent = call.known.sent
    return {
        "event": "call",
        "run": run.name,
        "call": call.name,
        "provider": sent.provider,
        "model": sent.model,
        "sent": call.known.at,
        "counts": _dollars(call.known.cost),
        "reserved": _dollars(sent.reserved),
        "generation": call.known.generation,
        "why": call.known.why,
    }


def _amounts(state: State) -> dict[str, float]:
    """What is spent, and what of it is assumed: of calls, and of lines that a repair replaced."""
    of_calls = state.run.assumed - state.nameless + sum(call.sent.reserved for call in state.open_calls())
    amounts = {"spent": state.run.held, "assumed": of_calls, "lost_lines": state.nameless}
    return {name: _dollars(amount) for name, amount in amounts.items()}


def _dollars(amount: Nanos) -> float:
    from runner.money import dollars

    return float(dollars(amount))


def _told(run: Run) -> tuple[Reading | None, Scan]:
    """A run as its journal tells it. Damaged when that is not sound."""
    from runner.cli.runs import reading, scanned
    from runner.lines import Damaged

    found = scanned(run)
    if found.damaged:
        raise Damaged(run.journal, found.end, found.last + 1)
    return reading(run, found), found


def _table(run: Run, calls: Sequence[Assumed]) -> Iterator[str]:
    from runner.foreign import one_line
    from runner.render.figures import counted, stamp, usd

    if not calls:
        yield f"{run.name}: no cost is assumed"
        return
    whole = usd(sum(call.known.cost for call in calls))
    yield f"{run.name}: nobody knows what {counted(len(calls), 'call')} cost, counted at {whole}"
    rows = [("CALL", "MODEL", "SENT", "COUNTS", "GENERATION", "WHY")]
    for call in calls:
        sent, known = call.known.sent, call.known
        rows.append(
            (
                one_line(call.name, 120),
                one_line(f"{sent.provider}/{sent.model}", 60),
                stamp(known.at),
                usd(known.cost),
                one_line(known.generation or "-", 80),
                one_line(known.why, 80),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        cells[_AMOUNT] = row[_AMOUNT].rjust(widths[_AMOUNT])
        yield ("  " + "  ".join(cells)).rstrip()
    yield f"  {run.command('settle')} --from FILE, or --call CALL --cost DOLLARS, or --all --cost 0"


# --- settling ----------------------------------------------------------------------------------------------------


def _try_out(run: Run, wish: _Wish) -> int:
    """Say what would be settled."""
    from runner.cli.runs import holder
    from runner.evidence import assumed_calls, settled_calls

    told, found = _told(run)
    calls = [] if told is None else assumed_calls(found.state, told.plan, at_work=holder(run) is not None)
    before = [] if told is None else settled_calls(found.state, told.plan)
    choices, code = _chosen(run, wish, calls, before)
    _say_choices(run, choices, wish, is_done=False)
    return code


def _settle(run: Run, wish: _Wish) -> int:
    import anyio

    from runner.foreign import in_words
    from runner.world import LockHeld

    try:
        return anyio.run(_settle_held, run, wish)
    except LockHeld as held:
        say(f"{run.name} is held by {in_words(held.holder)}; its calls can be settled when it has ended")
        return EXIT_HELD


async def _settle_held(run: Run, wish: _Wish) -> int:
    """Settle what is wished for, with the lock of the run; before that, nothing that was read of it is relied upon."""
    from runner.cli.runs import me, reading, scanned
    from runner.evidence import assumed_calls, events_of, settled_calls
    from runner.journal import Journal
    from runner.world import RealClock, RealDisk

    journal = await Journal.open(RealDisk(), RealClock(), run.folder, me())
    try:
        told = reading(run, scanned(run))
        if told is None:
            say(f"{run.name}: its journal is empty")
            return 0
        state = journal.state
        choices, code = _chosen(run, wish, assumed_calls(state, told.plan), settled_calls(state, told.plan))
        if not choices:
            return code
        before = _sum(state)
        async with journal.writing():
            for choice in choices:
                for event in events_of(choice.call, choice.cost, choice.evidence, told.plan):
                    journal.record(event)
        if journal.failing is not None:
            raise journal.failing
        _say_choices(run, choices, wish, is_done=True)
        if wish.as_json:
            emit({"event": "sum", "run": run.name, "at_work": None, **_amounts(state)})
        else:
            click.echo(f"  before: {before}")
            click.echo(f"  after:  {_sum(state)}")
        return max(code, await _count(run, state, journal.seq, told.plan), await _write_views(run))
    finally:
        journal.close()


def _chosen(run: Run, wish: _Wish, calls: Sequence[Assumed], before: Sequence[Assumed]) -> tuple[list[_Choice], int]:
    """What is to be settled at which cost, and the exit code for what cannot be; UsageError where nothing may be."""
    choices, code = _wished(run, wish, calls, before)
    above = [] if wish.above else [choice for choice in choices if choice.cost > choice.call.known.sent.reserved]
    if above:
        from runner.foreign import one_line
        from runner.render.figures import usd

        slips = "".join(
            f"\n  {one_line(call.name)}: {usd(cost)}, with {usd(call.known.sent.reserved)} reserved"
            for call, cost, _ in above[:_MOST_LINES]
        )
        raise click.UsageError(
            "A call should not cost more than was reserved for it, so nothing was settled. If that was billed, add "
            f"--above-reservation:{slips}"
        )
    return choices, code


def _wished(run: Run, wish: _Wish, calls: Sequence[Assumed], before: Sequence[Assumed]) -> tuple[list[_Choice], int]:
    """What is wished for, be it a slip or not; only by its name is a call found that was settled before."""
    from runner.evidence import called, matched

    if wish.file is None:
        if wish.names:
            known = [*calls, *before]
            meant = [_meant(run, name, called(name, known), known) for name in wish.names]
        else:
            meant = list(calls)
            if not meant:
                say(f"{run.name}: no cost is assumed")
        return [_Choice(call, wish.cost, wish.evidence()) for call in dict.fromkeys(meant)], 0
    found = matched(wish.rows, calls)
    _say_some([f"not settled: {text}" for text in found.ambiguous])
    if found.unmatched:
        lines = ", ".join(f"{row.line:,}" for row in found.unmatched[:_MOST_LINES])
        more = ", ..." if len(found.unmatched) > _MOST_LINES else ""
        say(f"{len(found.unmatched):,} of {len(wish.rows):,} rows are of other calls: line {lines}{more}")
    settled = {call.id for call, _ in found.rows}
    left = [call.name for call in calls if call.id not in settled]
    if left:
        _say_some([f"still assumed: {name}" for name in left])
    code = EXIT_UNSURE if found.ambiguous or not found.rows else 0
    return [_Choice(call, row.cost, wish.evidence(row)) for call, row in found.rows], code


def _meant(run: Run, name: str, fits: Sequence[Assumed], calls: Sequence[Assumed]) -> Assumed:
    """The one call that a name means."""
    from runner.foreign import one_line

    if len(fits) == 1:
        return fits[0]
    some = fits or calls
    names = "".join(f"\n  {one_line(call.name)}" for call in some[:_MOST_LINES])
    if not some:
        raise click.UsageError(f"{run.name}: no cost was ever assumed, so there is nothing to settle.")
    if fits:
        raise click.UsageError(f"{one_line(name)!r} may mean several calls:{names}")
    raise click.UsageError(
        f"The cost of {one_line(name)!r} was never assumed, or there is no such call. These were:{names}"
    )


def _say_choices(run: Run, choices: Sequence[_Choice], wish: _Wish, *, is_done: bool) -> None:
    from runner.foreign import one_line
    from runner.render.figures import counted, usd

    if not wish.as_json:
        click.echo(f"{run.name}: {counted(len(choices), 'call')} {'settled' if is_done else 'would be settled'}")
    for choice in choices:
        known = choice.call.known
        what = f"{choice.call.name}: {usd(known.cost)} -> {usd(choice.cost)}"
        if wish.as_json:
            told = {"cost": _dollars(choice.cost), "evidence": choice.evidence, "done": is_done}
            emit({**_data(run, choice.call), "event": "settled", **told})
        else:
            click.echo(f"  {one_line(what)} ({one_line(choice.evidence)})")
        if choice.cost > known.sent.reserved:
            say(
                f"warning: {choice.call.name} cost more than the {usd(known.sent.reserved)} reserved for it. "
                "That counts; but its price is not what the job says, or its server ignores max_tokens"
            )


def _sum(state: State) -> str:
    from runner.render.figures import assumed, usd

    flying = [call.sent.reserved for call in state.open_calls()]
    of_calls = state.run.assumed - state.nameless + sum(flying)
    told = assumed(len(state.unsettled) + len(flying), of_calls, state.nameless)
    return f"{usd(state.run.held)} spent, of it {told}"


async def _count(run: Run, state: State, records: int, plan: Plan) -> int:
    """Let the days count what is known now; the exit code."""
    from runner.cli.runs import me
    from runner.journal import LOCK_FILE
    from runner.ledger import Ledger, Spender, run_id, told_by
    from runner.lines import Damaged, StorageError, TooNew
    from runner.preflight import plays
    from runner.world import RealClock, RealDisk

    live = state.live
    if live is None or not live.born:
        return 0  # older than the ledger, which its next life brings it into
    folder = run.folder.resolve()
    ledger = Ledger(RealDisk(), RealClock(), folder.parent.parent, me(), LOCK_FILE)
    name = run_id(f"{folder.parent.name}/{folder.name}", live.born)
    try:
        await ledger.refresh()
        spender = Spender(name, live.day, live.zone, plays(plan), ledger.book.caps(name, live.day))
        await ledger.count(spender, told_by(state, records))
    except (StorageError, Damaged, TooNew) as error:
        say(f"{error}; the day counts what was settled as soon as the run is run again")
        return EXIT_STORAGE
    return 0


async def _write_views(run: Run) -> int:
    from runner.cli.keep import write_views
    from runner.cli.runs import reading, scanned

    found = scanned(run)
    told = reading(run, found)
    assert told is not None
    try:
        await write_views(run, told, found)
    except OSError as error:
        remedy = f"what was settled is kept: {run.command('report')}"
        say(f"{run.name}: the views could not be written ({error.strerror}); {remedy}")
        return EXIT_STORAGE
    return 0
