"""The figures in words: the lines that people read, and the objects that programs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from runner.conversation import DURING
from runner.events import Closed
from runner.ledger import Purse
from runner.money import Nanos, dollars, shown
from runner.outputs import INDEX, Observer, Reading
from runner.plan import Budget, Cell, who_of
from runner.progress.picture import RunRow
from runner.render.figures import assumed, counted, duration, of_them_early, redone, usd
from runner.render.summary import Row
from runner.run import Session
from runner.status import STATUSES, Status

_LONGEST_REASON: Final = 300
_MOST_NAMED: Final = 3


def counts_text(total: int, ended: Mapping[Status, int], early: int, others: Mapping[str, int]) -> str:
    """`3 of 6 complete, 0 failed, 2 under way, 1 waiting`: what is not zero, and what everybody looks for."""
    parts = [f"{ended['complete']:,} of {total:,} complete{of_them_early(early)}", f"{ended['failed']:,} failed"]
    parts += [f"{ended[status]:,} {status}" for status in STATUSES[2:] if ended[status]]
    parts += [f"{number:,} {what}" for what, number in others.items() if number]
    return ", ".join(parts)


def talk_text(run: RunRow) -> str:
    """The conversations of a run."""
    others = {"under way": run.under_way, "waiting": run.waiting, "left out": run.left_out}
    flags = flags_text(run.truncated, run.refused)
    return counts_text(run.total, run.ended, run.stopped_early, others) + (f"; {flags}" if flags else "")


def money_text(run: RunRow) -> str:
    """What is spent, against the ceiling, and what it may come to."""
    text = f"{shown(run.settled)} spent"
    if run.ceiling is not None:
        text += f" of {usd(run.ceiling)}"
    if run.reserved:
        text += f", {shown(run.reserved)} reserved"
    if run.expected is not None and (run.under_way or run.waiting):
        if run.ceiling is not None and run.expected > run.ceiling:
            text += f", all of it would take about {shown(run.expected)}"
        else:
            text += f", about {shown(run.expected)} in all"
    return text if run.short_of is None else f"{text}; waits for {run.short_of}"


def flags_text(truncated: int, refused: int) -> str:
    """`2 turns truncated, 1 refused`; nothing when there are none."""
    if truncated and refused:
        return f"{counted(truncated, 'turn')} truncated, {refused:,} refused"
    if truncated:
        return f"{counted(truncated, 'turn')} truncated"
    return f"{counted(refused, 'turn')} refused" if refused else ""


def left_text(seconds: float | None) -> str:
    """`about 12 min to go`; nothing while it is unknown."""
    if seconds is None or seconds <= 0:
        return ""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s to go"
    minutes = round(seconds / 60)
    return f"about {minutes} min to go" if minutes < 90 else f"about {seconds / 3600:.1f} h to go"


def ended_text(row: Row, where: str) -> str:
    """One conversation that came to an end; `where` says at which attempt it failed."""
    flags = flags_text(row.truncated, row.refused)
    rounds = f"{row.rounds_done} of {counted(row.rounds_planned, 'round')}"
    early = ["stopped early"] if row.stopped_early else []
    text = ", ".join([f"{row.name}: {row.status}", *early, rounds, *([flags] if flags else []), usd(row.cost)])
    return f"{text}{where}: {short(row.reason)}" if row.reason else f"{text}{where}"


def short(reason: str) -> str:
    """A reason on one line, not too long: a provider may say whatever it likes."""
    line = " ".join(reason[: 4 * _LONGEST_REASON].split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1].rstrip() + "…"


def last_lines(reading: Reading, closed: Closed) -> list[str]:
    """What a run came to when its life is over, where to look, and how to go on."""
    state = reading.state
    parts = [counts_text(len(reading.plan.cells), reading.counts(), reading.stopped_early(), {})]
    cells = [state.of(cell.id) for cell in reading.plan.cells]
    flags = flags_text(sum(c.truncated for c in cells), sum(c.refused for c in cells))
    if flags:
        parts.append(flags)
    replaced, again = reading.replaced(), reading.redone()
    if replaced.conversations:
        parts.append(f"replaced: {replaced.conversations:,}, {usd(replaced.cost)}")
    if told := redone(again.mended, again.in_vain, again.unfinished):
        parts.append(f"mended: {told}, {usd(again.cost)}")
    most = reading.plan.budget.run
    spent = f"{usd(state.run.held)} spent" + ("" if most is None else f" of {usd(most)}")
    if state.run.assumed + state.run.reserved:
        calls = len(state.unsettled) + sum(1 for _ in state.open_calls())
        of_calls = state.run.assumed + state.run.reserved - state.nameless
        spent += f" (of it {assumed(calls, of_calls, state.nameless)})"
    parts.append(spent)
    parts.append(f"exit {closed.exit}" + (f": {', '.join(closed.reasons)}" if closed.reasons else ""))
    observers = observers_text(list(reading.observers()))
    lines = [
        f"{reading.job}/{reading.key}: {'; '.join(parts)}",
        *([f"  {observers}"] if observers else []),
        *([f"  look at {reading.folder / INDEX}"] if reading.disk.exists(reading.folder / INDEX) else []),
    ]
    command = reading.command()
    if command is not None:
        too_low = "in the job file: it is too low for an observer"
        lines += [f"  first raise {short(name)} {too_low}" for name in reading.too_low()]
        lines.append(f"  what is missing goes on{_when(reading)} with: {command}")
    return lines


def observers_text(observers: Sequence[Observer]) -> str:
    """`observers: 11 of 12; 1 failed: notes by Eli: refused answer`; nothing where nobody listens in vain.

    Who was asked while a conversation went on, and is not asked any more, is told apart: `passed over: ...`.
    """
    comments = [one for one in observers if one.aside.kind not in DURING]
    silent = [one for one in comments if one.status != "complete"]
    passed_over = [one for one in observers if one.aside.kind in DURING and one.status != "complete"]
    heard = len(comments) - len(silent)
    parts = [f"observers: {heard:,} of {len(comments):,}; {_silent_text(silent)}"] if silent else []
    parts += [f"passed over: {_silent_text(passed_over)}"] if passed_over else []
    return "; ".join(parts)


def _silent_text(silent: Sequence[Observer]) -> str:
    found = Counter((one.status, f"{who_of(one.aside)}: {one.reason or 'not asked yet'}") for one in silent)
    named = found.most_common(_MOST_NAMED)
    rest = len(silent) - sum(number for _, number in named)
    more = [f"{rest:,} more"] if rest else []
    return "; ".join([*(f"{number:,} {status}: {short(why)}" for (status, why), number in named), *more])


def waiting_text(status: Status, reason: str, number: int) -> str:
    """The conversations that are not held to their end for one and the same reason."""
    return f"{counted(number, 'conversation')} {status}: {short(reason)}"


def stopped_text(reason: str, number: int) -> str:
    """What gets no more calls, and whom that stops."""
    stay = "1 conversation that needs it stays" if number == 1 else f"{number:,} conversations that need it stay"
    return f"no more calls: {short(reason).rstrip('.')}" + (f"; {stay} pending" if number else "")


def refused_text(alias: str, names: Sequence[str]) -> str:
    """What the job sets for a model and the model refuses."""
    return f"{alias} refuses {', '.join(names)}: left out of its calls"


def _when(reading: Reading) -> str:
    """From when on the rest can be held; nothing when that is at once."""
    reached, budget, more = reading.shared_ceilings_reached(), reading.plan.budget, reading.more_budget()
    if reading.waits_for_the_job():
        return ", once the job is changed,"
    if "month" in reached:
        return " next month, or with a higher `month`,"
    if "day" in reached:
        return " tomorrow, or with a higher `day`,"
    if budget.day is not None and more is not None and more - reading.state.run.held > budget.day:
        return f", over more than a day (`day` is {usd(budget.day)}),"
    return ""


def begun_text(name: str, session: Session, missing: Collection[Cell], calls: int, dearest: Nanos) -> str:
    """What a life is about, and what is at stake at any one time."""
    total, state = len(session.plan.cells), session.journal.state
    goes_on = f"goes on (life {session.opened.life}), " if session.opened.life > 1 else ""
    parts = [f"{name}: {goes_on}{len(missing):,} of {counted(total, 'conversation')} to hold, {counted(calls, 'call')}"]
    parts.append(_ceilings(session.plan.budget))
    lanes = {lane.name: lane for lane in session.lanes.values()}
    users = Counter(name for cell in missing for name in {session.lanes[alias].name for _, alias in cell.models})
    at_once = min(len(missing), sum(int(min(lane.slots, users[lane.name])) for lane in lanes.values()))
    if dearest and at_once:
        at_stake = f"up to {counted(at_once, 'call')} at once, the largest about {shown(dearest)}: "
        together = at_once * dearest
        budget, today = session.plan.budget, sum(a.held for d, a in state.days.items() if d == session.opened.day)
        rooms = ((budget.run, state.run.held), (budget.day, today), (budget.month, today))
        fits = all(most is None or together <= most - held for most, held in rooms)
        parts.append(at_stake + (shown(together) if fits else "as many as the ceiling lets through"))
    return "; ".join(parts)


def _ceilings(budget: Budget) -> str:
    """`ceiling $5.0000, $1.0000 a day`: what bounds the money of a run, the widest first."""
    whole = ((budget.run, ""), (budget.day, " a day"), (budget.month, " a month"), (budget.conversation, " each"))
    parts = [f"{usd(most)}{of_what}" for most, of_what in whole if most is not None]
    parts += [f"{usd(most)} for {name}" for name, most in (*budget.providers.items(), *budget.models.items())]
    parts += [f"{usd(most)} for pairing {number}" for number, most in budget.pairings.items()]
    parts += [f"{usd(most)} each of pairing {number}" for number, most in budget.conversations.items()]
    parts += [f"{usd(most)} for observer {name}" for name, most in budget.observers.items()]
    return f"ceiling {short(', '.join(parts))}" if parts else "no ceiling"


def short_text(name: str, purse: Purse, max_wait: float) -> str:
    """Who has what a run waits for, and how long it does so."""
    holders = list(purse.ledger.book.drawn_beside(purse.spender))
    named = ", ".join(f"{entry.folder} ({shown(entry.amount)})" for entry in holders[:_MOST_NAMED])
    more = f" and {len(holders) - _MOST_NAMED:,} more" if len(holders) > _MOST_NAMED else ""
    return (
        f"{name}: waits for {purse.ceiling.name}, of which others have drawn: {named}{more}; "
        f"when nothing of it comes back for {duration(max_wait)}, it ends"
    )


def conversation_data(of: Mapping[str, Any], cell: Cell, row: Row) -> dict[str, Any]:
    """One conversation that came to an end, for programs."""
    return {
        "event": "conversation",
        **of,
        "name": row.name,
        "id": cell.id,
        "status": row.status,
        "reason": row.reason,
        "stopped_early": row.stopped_early,
        "flags": {"truncated": row.truncated, "refused": row.refused},
        "rounds": {"planned": row.rounds_planned, "done": row.rounds_done},
        "cost": amount(row.cost),
        "file": row.file,
    }


def end_data(
    code: int, forgiven: bool, reasons: Sequence[str], runs: Sequence[Mapping[str, Any]], errors: Sequence[str] = ()
) -> dict[str, Any]:
    """What the night came to, for programs; `errors` say why it could not begin."""
    return {
        "event": "end",
        "exit": code,
        "forgiven": forgiven,
        "reasons": list(reasons),
        "errors": list(errors),
        "runs": list(runs),
    }


def amount(nanos: Nanos) -> float:
    """Dollars with at most nine decimals."""
    return float(dollars(nanos))
