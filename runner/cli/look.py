"""`status` and `show`: how runs stand, and what was said. They change nothing, and disturb no run at work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.outputs import Reading
    from runner.plan import Cell

_FOLLOW_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 10.0
"""An older `status.json` of a run at work says that it cannot write it, not how it stands."""
_MOST_NAMES: Final = 10

Standing: TypeAlias = Literal["running", "closed", "broken off", "never began", "unreadable"]


@dataclass(frozen=True, slots=True)
class _Look:
    """How a run stands at a moment."""

    run: Run
    standing: Standing
    holder: str | None
    at: float | None
    """The last sign of life."""
    figures: dict[str, Any] | None
    """What `status.json` says, or would say."""
    trouble: str | None = None

    @property
    def exit(self) -> int | None:
        return None if self.figures is None or self.standing != "closed" else self.figures["exit"]

    def data(self) -> dict[str, Any]:
        return {
            "event": "run",
            "run": self.run.name,
            "folder": str(self.run.folder),
            "standing": self.standing,
            "holder": self.holder,
            "at": self.at,
            "trouble": self.trouble,
            "figures": self.figures,
        }


# --- status ------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("run", required=False)
@outputs_option
@click.option("--follow", is_flag=True, help="Look again every two seconds until the run is closed.")
@json_option
@answered
@ended
def status(run: str | None, outputs: Path, follow: bool, as_json: bool) -> int:
    """Tell how runs stand: without RUN a list of all, with RUN one of them.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. The run may be at work in another shell.
    """
    from runner.cli.runs import all_runs, find

    if run is None:
        if follow:
            raise click.UsageError("--follow needs a RUN: tertulia status RUN --follow")
        looks = sorted((_look(one) for one in all_runs(outputs)), key=lambda look: -(look.at or 0.0))
        _tell_all(looks, outputs, as_json)
        return 0
    one = find(outputs, run)
    if follow:
        _follow(one, as_json)
    elif as_json:
        _tell_data([_look(one)])
    else:
        for line in _screen(_look(one)):
            click.echo(line)
    return 0


def _tell_all(looks: Sequence[_Look], outputs: Path, as_json: bool) -> None:
    if as_json:
        _tell_data(looks)
    elif not looks:
        say(f"no runs in {outputs}; `tertulia run JOB` begins one, --outputs names another folder")
    else:
        now = _wall()
        for line in _table(
            [("RUN", "STATE", "COMPLETE", "SPENT", "EXIT", "LAST SEEN"), *(_row(one, now) for one in looks)]
        ):
            click.echo(line)
        for one in looks:
            if one.standing == "unreadable" and one.trouble is not None:
                say(f"{one.run.name}: {one.trouble}")


def _tell_data(looks: Iterable[_Look]) -> None:
    for one in looks:
        emit(one.data())


def _row(look: _Look, now: float) -> tuple[str, ...]:
    code = "-" if look.exit is None else str(look.exit)
    seen = "-" if look.at is None else _ago(now - look.at)
    if look.figures is None:
        return look.run.name, look.standing, "-", "-", code, seen
    talks, early = look.figures["conversations"], look.figures.get("stopped_early")
    return (
        look.run.name,
        look.standing,
        f"{talks['complete']:,} of {talks['total']:,}" + (f" ({early:,} early)" if early else ""),
        _spent(look.figures),
        code,
        seen,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _screen(look: _Look) -> Iterator[str]:
    """One run on one screen."""
    from runner.foreign import one_line
    from runner.outputs import INDEX
    from runner.render.figures import counted, redone
    from runner.status import STATUSES

    held = f" ({look.holder})" if look.holder else ""
    ended = "" if look.exit is None else f", exit code {look.exit}"
    why = "" if look.figures is None or look.exit is None else ", ".join(map(str, look.figures["reasons"]))
    seen = "" if look.at is None else f", last seen {_ago(_wall() - look.at)}"
    yield f"{look.run.name}: {look.standing}{held}{ended}{f' ({one_line(why)})' if why else ''}{seen}"
    if look.trouble is not None:
        yield f"  {look.trouble}"
    figures = look.figures
    if figures is None:
        return
    talks, spent = figures["conversations"], figures["spent"]
    others = "".join(f", {talks[name]:,} {name}" for name in STATUSES if name != "complete" and talks[name])
    yield f"  conversations  {_complete(figures)}{others}"
    whys = figures.get("why", []) if look.standing != "running" else []
    for why in whys[:_MOST_NAMES]:
        yield f"  {'':13}  {why['conversations']:,} {why['status']}: {one_line(str(why['reason']), 300)}"
    if len(whys) > _MOST_NAMES:
        yield f"  {'':13}  ... and {counted(len(whys) - _MOST_NAMES, 'more reason')}"
    if figures.get("style_trouble") is not None:
        yield f"  style          {one_line(str(figures['style_trouble']), 300)}"
        yield f"  {'':13}  what it could not show is in the usual style; mend it, and the command below shows it anew"
    for alias, names in figures.get("refused_parameters", {}).items():
        yield f"  left out       {one_line(', '.join(names))}: {one_line(alias)} refuses it"
    flags = ", ".join(f"{number:,} {flag}" for flag, number in figures["flags"].items() if number)
    yield f"  turns          {figures['turns']:,}{f' ({flags})' if flags else ''}"
    flying = f", {figures['in_flight']:,} in flight" if figures["in_flight"] else ""
    yield f"  calls          {figures['calls']:,}{flying}"
    parts = ", ".join(f"{_dollars(spent[part])} {part}" for part in ("assumed", "reserved") if spent[part])
    yield f"  spent          {_spent(figures)}{f' ({parts})' if parts else ''}"
    for other in figures["ceilings"]:
        if other["name"] != "run":
            only = ", this run alone" if other.get("shared") else ""
            amounts = f"{_dollars(other['held'])} of {_dollars(other['most'])}"
            yield f"  {'':13}  {amounts}, {one_line(str(other['name']))}{only}"
    if figures["replaced"]["conversations"]:
        replaced = figures["replaced"]
        number = counted(replaced["conversations"], "conversation")
        yield f"  replaced       {number} of an earlier job, {_dollars(replaced['cost'])}"
    mended = figures.get("mended", {})
    if told := redone(mended.get("conversations", 0), mended.get("in_vain", 0), mended.get("unfinished", 0)):
        yield f"  mended         {told}; the old ones are kept beside as .old, {_dollars(mended['cost'])}"
    if (observers := figures.get("observers", {})).get("total"):
        others = "".join(f", {observers[name]:,} {name}" for name in STATUSES if name != "complete" and observers[name])
        yield f"  observers      {observers['complete']:,} of {observers['total']:,} have commented{others}"
        for why in observers["why"]:
            said = f"{why['observer']}: {why['reason'] or 'not asked yet'}"
            yield f"  {'':13}  {why['conversations']:,} {why['status']}: {one_line(said, 300)}"
    for why in figures.get("passed_over", []):
        said = f"{why['observer']}: {why['reason']}"
        yield f"  passed over    {why['conversations']:,} {why['status']}: {one_line(said, 300)}"
    for lane in figures["lanes"]:
        yield f"  lane           {one_line(_lane(lane))}"
    if figures.get("waits_for"):
        yield f"  waits for      {one_line(str(figures['waits_for']))}, of which others hold the rest"
    if figures["continue"] and look.standing != "running":
        for name in figures.get("too_low", []):
            yield f"  first raise    {one_line(str(name))}, in the job file"
        yield f"  go on with     {one_line(figures['continue'], 1000)}"
    if (look.run.folder / INDEX).exists():
        yield f"  more in        {look.run.folder / INDEX}"


def _lane(lane: dict[str, Any]) -> str:
    from runner.render.figures import duration

    if lane["dead"]:
        return f"{lane['name']}: dead, {str(lane['reason']).removeprefix(lane['name'] + ': ')}"
    pause = f", paused for {duration(lane['paused_seconds'])}: {lane['reason']}" if lane["paused_seconds"] else ""
    return f"{lane['name']}: {lane['in_flight']:,} in flight, {lane['granted']:,} granted, {lane['busy']:,} busy{pause}"


def _follow(run: Run, as_json: bool) -> None:
    """Until it is closed: redrawn on a terminal; elsewhere a line whenever something has changed."""
    drawn, told = 0, None
    while True:
        look = _look(run)
        going_on = look.standing == "running"
        if as_json:
            emit(look.data())
        elif _terminal():
            width = _width()
            # A line that wraps would take two rows, and the next picture would begin in the wrong one.
            lines = [line[: width - 1] for line in _screen(look)]
            up = f"\x1b[{drawn}A\x1b[J" if drawn else ""
            click.echo(up + "\n".join(lines))
            drawn = len(lines)
        elif not going_on:
            for line in _screen(look):
                click.echo(line)
        elif look.figures is not None and (line := _in_short(look.figures)) != told:
            told = line
            click.echo(f"{look.run.name}: {line}")
        if not going_on:
            break
        _pause()


def _in_short(figures: dict[str, Any]) -> str:
    return f"{_complete(figures)}, {figures['turns']:,} turns, {figures['in_flight']:,} in flight, {_spent(figures)}"


def _complete(figures: dict[str, Any]) -> str:
    """`3 of 6 complete, 1 of them stopped early`."""
    from runner.render.figures import of_them_early

    talks = figures["conversations"]
    return f"{talks['complete']:,} of {talks['total']:,} complete{of_them_early(figures.get('stopped_early', 0))}"


def _spent(figures: dict[str, Any]) -> str:
    most = next((ceiling["most"] for ceiling in figures["ceilings"] if ceiling["name"] == "run"), None)
    return _dollars(figures["spent"]["total"]) + ("" if most is None else f" of {_dollars(most)}")


def _dollars(amount: float) -> str:
    from runner.money import NANOS_PER_DOLLAR, shown

    return shown(round(amount * NANOS_PER_DOLLAR))


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def _wall() -> float:
    import time

    return time.time()


def _pause() -> None:
    import time

    time.sleep(_FOLLOW_SECONDS)


def _terminal() -> bool:
    """True when the answer goes to a person, so that it may be drawn over."""
    import os

    return sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


# --- looking -----------------------------------------------------------------------------------------------------


def _look(run: Run) -> _Look:
    """How a run stands, also where we may not read it."""
    try:
        return _look_into(run)
    except OSError as error:
        return _Look(run, "unreadable", None, None, None, f"{error.filename or run.folder}: {error.strerror}")


def _look_into(run: Run) -> _Look:
    """How a run stands: as `status.json` says where that is up to date, else folded from the journal."""
    from runner.cli.runs import holder, last_record, reading, scanned
    from runner.lines import StorageError, TooNew

    held = holder(run)
    written = _status_file(run)
    last = last_record(run)
    if written is not None:
        beat = written["heartbeat"]
        if held is not None and _wall() - beat < _FRESH_SECONDS:
            return _Look(run, "running", held, beat, written)
        if held is None and last is not None and last[0] == written["records"]:
            return _Look(run, "closed" if written["state"] == "closed" else "broken off", None, last[1], written)
    at = None if last is None else last[1]
    try:
        found = scanned(run)
        told = reading(run, found)
    except (StorageError, TooNew) as error:
        return _Look(run, "unreadable", held, at, None, str(error))
    if told is None:
        trouble = f"the journal is damaged; see `{run.command('verify')}`" if found.torn else None
        return _Look(run, "running" if held else "unreadable" if trouble else "never began", held, at, None, trouble)
    ends = f"the journal is damaged; these figures end where it is. See `{run.command('verify')}`"
    trouble = ends if found.damaged else None
    standing: Standing = "running" if held else "broken off" if found.state.is_open else "closed"
    return _Look(run, standing, held, found.last_at, told.figures(found.last), trouble)


def _status_file(run: Run) -> dict[str, Any] | None:
    """What `status.json` says; None when it is not there, or not as a run writes it."""
    import orjson

    from runner.outputs import STATUS

    try:
        found = orjson.loads((run.folder / STATUS).read_bytes())
        shape = {
            "conversations": dict,
            "flags": dict,
            "spent": dict,
            "replaced": dict,
            "ceilings": list,
            "lanes": list,
            "reasons": list,
            "heartbeat": int | float,
            "records": int,
            "turns": int,
            "calls": int,
            "in_flight": int,
            "state": str,
            "continue": str | None,
            "exit": int | None,
        }
        return found if found["schema"] == 1 and all(isinstance(found[k], v) for k, v in shape.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- show --------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("run")
@click.argument("conversation", metavar="CONV")
@outputs_option
@answered
def show(run: str, conversation: str, outputs: Path) -> int:
    """Show a conversation: in the pager on a terminal, plainly elsewhere.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. CONV is the conversation's name, a part of
    its name that no other has, or its id. What is shown comes from the journal, also while the run is at work.
    """
    from runner.cli.runs import find, reading, scanned

    one = find(outputs, run)
    found = scanned(one)
    told = reading(one, found)
    if told is None:
        raise click.UsageError(f"{one.name} has no conversations yet: its journal is empty.")
    if found.damaged:
        say(f"{one.name}: the journal is damaged; what follows ends where it is. See `{one.command('verify')}`")
    text = told.markdown(_meant(told, conversation))
    if _terminal():
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False)
    return 0


def _meant(told: Reading, text: str) -> Cell:
    """The conversation that is meant; UsageError with the names it may be when none or several are."""
    from difflib import get_close_matches

    from runner.foreign import one_line

    cells = told.plan.cells
    if not any(text.casefold() in cell.name.casefold() or text == cell.id for cell in cells):
        cells = told.plan.superseded or cells
    exact = [cell for cell in cells if text in (cell.name, cell.id)]
    found = exact or [cell for cell in cells if text.casefold() in cell.name.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        names = [f"  {cell.name}" for cell in found[:_MOST_NAMES]]
        more = [f"  ... and {len(found) - _MOST_NAMES:,} more"] if len(found) > _MOST_NAMES else []
        raise click.UsageError("\n".join((f"{one_line(text)!r} is part of several names:", *names, *more)))
    own = {cell.name.rpartition("/")[2]: cell.name for cell in cells}
    near = get_close_matches(text, [*own, *(cell.name for cell in cells)], 3, 0.5)
    close = list(dict.fromkeys(own.get(name, name) for name in near))
    some = ", ".join(cell.name for cell in cells[:3]) + (" ..." if len(cells) > 3 else "")
    hint = f"Did you mean {' or '.join(close)}?" if close else f"The run has {some}"
    raise click.UsageError(f"There is no conversation {one_line(text)!r}. {hint}")
