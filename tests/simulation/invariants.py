"""The promises, each as a small function that looks and, when one is broken, says which and how.

They are asked when a record has become durable, when a request leaves, when it is billed, when a life is over, and at
the end of a world. What they look at are the bytes of the disk and the provider's own account; where the product has an
answer of its own (its fold, its views, its check of itself), that answer is held against theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Final, NoReturn

import orjson

from runner import folded
from runner.call import has_text
from runner.journal import Scan, decode, scan
from runner.limits import PASSED_TOO_OFTEN
from runner.lines import split
from runner.money import dollars
from runner.outputs import CONVERSATIONS, INDEX, LINES, STATUS, UNWRITTEN, reading_of
from runner.plan import Cell
from runner.run import EXIT_STORAGE
from runner.state import Progress, State
from runner.verify import verify
from runner.views import Views
from tests.memory import MemoryDisk
from tests.simulation.account import RUN, Account, Book, Held, Line, Move, Scope
from tests.simulation.truth import hold
from tests.simulation.worlds import KEY
from tests.virtual import FixedClock, run_virtual

if TYPE_CHECKING:
    from runner.plan import Cell
    from tests.simulation.life import Lived, Run, Story, Worker


class Broken(Exception):
    """A promise that was not kept."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


def broken(promise: str, what: str) -> NoReturn:
    raise Broken(promise, what)


# --- when a record is durable ------------------------------------------------------------------------------------


def take(run: Run, line: Line) -> None:
    """Count a record that is durable, and hold it against the promises."""
    account = run.account
    records_follow_each_other(account, line)
    one_call_of_a_conversation_at_a_time(account, line)
    each_turn_is_answered_once(account, line)
    moves = account.take(line)
    money_is_never_lost_sight_of(line, moves)
    no_ceiling_is_passed(account, line)
    no_cost_passes_its_reservation_unflagged(account, line)
    no_call_is_settled_below_its_bill(run, line)


def records_follow_each_other(account: Account, line: Line) -> None:
    """I5: numbers have no gap, and stamps never go back."""
    if line["seq"] != account.seq + 1:
        broken("I5", f"record {line['seq']} follows record {account.seq}")
    if line["at"] < account.at:
        broken("I5", f"record {line['seq']} is of {line['at']}, and the one before it of {account.at}")


def one_call_of_a_conversation_at_a_time(account: Account, line: Line) -> None:
    """I7: a call is cleared only when the one before it has ended."""
    if line["kind"] != "sent" or account.mended:
        return
    if line["cell"] in account.open:
        broken("I7", f"{line['cell']} turn {line['turn']} is cleared while {account.open[line['cell']]} is open")
    if account.closed:
        broken("I7", f"record {line['seq']} clears a call, and no life is open")


def each_turn_is_answered_once(account: Account, line: Line) -> None:
    """I10: one reply for each turn, in order, never blank; a turn that has one is never asked for again."""
    if line["kind"] not in ("sent", "replied"):
        return
    cell, turn = line["cell"], line["turn"]
    if line["kind"] == "replied" and not has_text(line["text"]):
        broken("I10", f"{cell} turn {turn} is answered by nothing that anybody could read")
    if account.mended:
        return
    if (cell, turn) in account.replies:
        broken("I10", f"{cell} turn {turn} has its reply, and is {line['kind']} again")
    later = [number for of, number in account.replies if of == cell and number > turn]
    if later:
        broken("I10", f"{cell} turn {turn} is {line['kind']} after turn {later[0]} was answered")


def money_is_never_lost_sight_of(line: Line, moves: Sequence[Move]) -> None:
    """I1: what is settled stays settled unless evidence says otherwise; nothing is given back that was not held."""
    for scope, before, after in moves:
        if after.reserved < 0 or after.settled < 0:
            broken("I1", f"after record {line['seq']} {scope} holds {after}")
        if after.settled < before.settled and line["kind"] != "settled":
            broken("I1", f"{line['kind']} takes what is settled of {scope} from {before.settled} to {after.settled}")


def no_ceiling_is_passed(account: Account, line: Line) -> None:
    """I1: with each call that is cleared, settled and reserved together are within every ceiling that applies."""
    if line["kind"] != "sent" or account.ceilings is None or line["seq"] <= account.mended_to:
        return  # what a repair counted, nobody knew yet when the lines before it were written
    for name, most, held in ceilings_over(account, line):
        if held.all > most:
            broken("I1", f"record {line['seq']}: {name} may cost {most}, and {held.settled} + {held.reserved} are held")


def no_cost_passes_its_reservation_unflagged(account: Account, line: Line) -> None:
    """I1: a call that cost more than was set aside for it is said to have."""
    if line["kind"] not in ("replied", "failed"):
        return
    call = account.calls.get((line["cell"], line["turn"], line["attempt"]))
    if call is not None and line["cost"] > call["reserved"] and not line.get("overrun"):
        broken("I1", f"record {line['seq']}: {line['cost']} for a call with {call['reserved']} reserved, unflagged")


def no_call_is_settled_below_its_bill(run: Run, line: Line) -> None:
    """I2: what is settled for a call is at least what its provider billed for it."""
    if line["kind"] not in ("replied", "failed"):
        return
    call = run.account.calls.get((line["cell"], line["turn"], line["attempt"]))
    if call is None or run.account.mended or line["seq"] <= run.account.mended_to:
        return
    if max(run.left[call["request"]], run.account.sent[call["request"]]) > 1 or call["request"] in run.bent:
        return  # of several requests that are the same nobody can say which was billed what; and an overrun, who knows
    bill = run.bills[call["request"]]
    if line["cost"] < bill:
        broken("I2", f"record {line['seq']} settles a call at {line['cost']} that is billed {bill}")


def ceilings_over(account: Account, sent: Line) -> Iterator[tuple[str, int, Held]]:
    """The ceilings of the open life that a call must fit: what they are called, the most, and what is held."""
    assert account.ceilings is not None
    pairing = account.pairing_of.get(sent["cell"])
    scopes: dict[str, Scope] = {
        "run": RUN,
        "conversation": ("cell", sent["cell"]),
        f"conversation of pairing {pairing}": ("cell", sent["cell"]),
        f"model {sent['alias']}": ("model", sent["alias"]),
        f"provider {sent['provider']}": ("provider", sent["provider"]),
    }
    for name, scope in scopes.items():
        if name in account.ceilings:
            yield name, account.ceilings[name], account.of(*scope)
    name = f"pairing {pairing}"
    if pairing is not None and name in account.ceilings:
        yield name, account.ceilings[name], account.of_pairing(pairing)


def take_of_the_ledger(story: Story, line: Line) -> None:
    """I1: what is drawn for a run leaves the sum of all runs within every ceiling over the day and the month."""
    book = story.book
    if line["seq"] != book.seq + 1:
        broken("I5", f"line {line['seq']} of the ledger follows line {book.seq}")
    more = book.take(line)
    if line["kind"] != "drawn" or more <= 0:
        return
    for scope, span in (("day", line["day"]), ("month", line["day"][:7])):
        most = line.get("caps", {}).get(scope)
        story.day_caps[span] = inf if most is None else max(story.day_caps.get(span, 0), most)
        if most is not None and book.total(span) > most:
            broken("I1", f"{line['run']} draws {more}, and {span} counts {book.total(span)} of {most}")


# --- when a request leaves, and when it is billed ----------------------------------------------------------------


def at_each_request(story: Story, run: Run, request: str, body: bytes) -> None:
    what_leaves_was_cleared(run, request, body)
    if not story.ledger_failed:
        for one in story.runs.values():
            one.journal.look(story.disk)
            what_is_held_is_drawn(one, story.book)


def what_is_held_is_drawn(run: Run, book: Book) -> None:
    """I1: whatever a run has settled or reserved on a day is durably counted for it, whether it goes on or is dead."""
    if run.account.mended:
        return  # what a repair counts, the next start tells the ledger
    for kind, day in [scope for scope in run.account.held if scope[0] == "day"]:
        held = run.account.of(kind, day).all - run.excess.total()
        drawn = book.amounts.get((run.name, day), 0)
        if held > drawn:
            broken("I1", f"{run.name} holds {held} on {day}, and {drawn} is drawn")


def what_leaves_was_cleared(run: Run, request: str, body: bytes) -> None:
    """I6, I7, I8: what leaves was cleared, durably; once; and rests on nothing that a crash could take back."""
    cleared = [sent for sent in run.account.open.values() if sent["request"] == request]
    if not cleared or run.left[request] >= run.account.sent[request]:
        broken("I6", f"a request leaves that no durable record clears: {request[:12]}")
    if run.flying[request] >= len(cleared):
        broken("I7", f"request {request[:12]} leaves {run.flying[request] + 1} times for {len(cleared)} calls")
    said = "\n".join(message["content"] for message in orjson.loads(body)["messages"])
    for sent in cleared:
        for turn in run.generated(sent["cell"]):
            if turn >= sent["turn"]:
                break
            reply = run.account.replies.get((sent["cell"], turn))
            if reply is None:
                broken("I8", f"{sent['cell']} turn {sent['turn']} is asked for before turn {turn} is durable")
            if reply["text"] not in said:
                broken("I8", f"{sent['cell']} turn {sent['turn']} is not shown what turn {turn} has on record")


def nobody_is_asked_too_early(now: float, since: float, until: float) -> None:
    """I14: who asked to be left alone is asked again when that time is over, but for what was under way."""
    if since < now < until - 1e-3:
        broken("I14", f"a request leaves at {now}, and its provider asked for silence until {until}")


def what_is_shown_is_durable(run: Run, path: Path) -> None:
    """I8: a transcript tells of the end of a conversation only when a crash cannot take it back."""
    if run.folder not in path.parents or path.parent.parent.name != CONVERSATIONS:
        return
    ended = {f"{cell.name}.md" for cell in run.plan.cells if cell.id in run.account.statuses}
    if f"{path.parent.name}/{path.name}" not in ended:
        broken("I8", f"{path} is written, and that its conversation has ended is not durable")


def at_each_bill(story: Story, run: Run) -> None:
    the_bill_is_counted(run)
    no_day_costs_more(story)


def no_day_costs_more(story: Story) -> None:
    """I1, I2: what all runs are billed for a day or a month is within its highest ceiling, whoever spent it."""
    for span, most in story.day_caps.items():
        billed = sum(n for run in story.runs.values() for day, n in run.billed_on.items() if day.startswith(span))
        excess = sum(run.excess.total() for run in story.runs.values())
        if billed - excess > most:
            broken("I2", f"{span} may cost {most}, and is billed {billed}")


def the_bill_is_counted(run: Run) -> None:
    """I2, I3: whatever the providers have billed is settled or reserved in records that would survive."""
    counted = run.account.of(*RUN).all
    billed = run.billed.total() - run.excess.total() - run.forgotten
    if billed > counted:
        broken("I2", f"{billed} is billed, and {counted} counted")
    if run.account.mended:
        return  # nobody knows any more whose the lost money was
    for provider, bill in run.billed.items():
        known = run.account.of("provider", provider).all
        if bill - run.excess[provider] > known:
            broken("I2", f"{provider} bills {bill - run.excess[provider]}, and {known} is counted for it")


# --- when a life is over -----------------------------------------------------------------------------------------


INTERRUPTED: Final = (130, 143)


def after_each_life(story: Story, run: Run, lived: Lived) -> None:
    """What must hold however a life ended."""
    the_bill_is_counted(run)
    no_key_is_shown(story, lived)
    nobody_exceeds_the_slots(story)
    it_ends_in_time(lived)
    if not lived.opened:
        return
    if run.account.seq:
        the_fold_agrees(run.account, what_is_left_can_be_read(run).state)
        what_was_folded_is_the_fold(story, run)
    if lived.killed and not lived.disk_failed and not run.account.mended:
        a_death_loses_only_what_was_in_flight(run, lived)
    if not lived.killed:
        nothing_is_left_behind(story, run, lived)
    # Of two reasons to end a life its code tells one: that it was told to stop.
    if lived.exit not in (None, EXIT_STORAGE) and not (lived.disk_failed and lived.exit in INTERRUPTED):
        no_money_is_left_open(run, lived)
        every_conversation_stands_somewhere(run, lived)
        the_exit_code_is_true(story, run, lived)
        the_day_counts_what_was_spent(story, run)
        if not run.aged:
            what_is_shown_is_computed(story, run, lived)
            what_is_shown_adds_up(story, run)


def what_is_left_can_be_read(run: Run) -> Scan:
    """I5: whole records up to a torn end at the most; nothing that was durable is gone."""
    found = scan(run.journal_alone(), run.journal.path)
    if found.damaged:
        broken("I5", f"what had been synced is damaged at byte {found.end}")
    if found.last != run.account.seq:
        broken("I5", f"the run reads {found.last} records, and {run.account.seq} are there")
    apart = State()
    for offset, line, _ in split(run.journal_alone(), run.journal.path):
        if offset < found.end and (record := decode(line, offset)) is not None:
            apart.apply(record.event, record.at, record.place)
    if apart != found.state or [call.sent for call in apart.open_calls()] != [
        call.sent for call in found.state.open_calls()
    ]:
        broken("I5", "records are folded otherwise than their events")
    return found


def what_was_folded_is_the_fold(story: Story, run: Run) -> None:
    """I5: who begins with what is kept beside the journal comes to the same as who folds it from its beginning."""
    path, files = run.journal.path, story.disk.files
    kept = files.get(path.with_name(folded.FILE))
    if kept is None or path not in files:
        return
    alone, beside = MemoryDisk(), MemoryDisk()
    alone.put(path, files[path])
    beside.put(path, files[path])
    beside.put(path.with_name(folded.FILE), kept)
    apart, found = scan(alone, path), scan(beside, path)
    for one in (apart.state, found.state):
        one.cells = {id_: progress for id_, progress in one.cells.items() if progress != Progress()}
    theirs, ours = (
        (one.state, one.last, one.end, one.last_at, one.damaged, list(one.state.open_calls())) for one in (apart, found)
    )
    if theirs != ours:
        broken("I5", f"what was folded of {found.known and found.known.seq} records is not what they fold to")


def the_fold_agrees(account: Account, state: State) -> None:
    """I12: the product's figures are those of all lives' records, added up by somebody else."""
    theirs = {
        RUN: state.run,
        **{("cell", cell): progress.account for cell, progress in state.cells.items()},
        **{scope: found for scope, found in state.scopes.items() if scope[0] in ("model", "provider")},
        **{("day", day): found for day, found in state.days.items() if not account.mended},
    }
    for scope, found in theirs.items():
        held = account.of(*scope)
        if (found.settled, found.reserved) != held:
            broken("I12", f"the run holds {found.settled} + {found.reserved} for {scope}, its records {held}")
    turns = {(cell, turn) for cell, progress in state.cells.items() for turn in progress.replies}
    if turns != account.replies.keys():
        broken("I12", f"the run knows {len(turns)} turns, and {len(account.replies)} replies are there")


def a_death_loses_only_what_was_in_flight(run: Run, lived: Lived) -> None:
    """I13: an answer that the process had heard, and had the time to write down, is not among the lost."""
    lost = list(run.account.open.values())
    heard = {sent["request"]: run.heard.get(sent["request"], inf) for sent in lost}
    long_ago = lived.ended - lived.patience
    # Two conversations may ask the same; then nobody can say whose answer it was.
    late = [s for s in lost if run.account.sent[s["request"]] == 1 and lived.began <= heard[s["request"]] < long_ago]
    if late:
        broken("I13", f"the answer to turn {late[0]['turn']} of {late[0]['cell']} was there long ago, and is lost")
    if len(lost) > lived.slots:
        broken("I13", f"{len(lost)} calls are lost, and no more than {lived.slots} may be in flight")


def nothing_is_left_behind(story: Story, run: Run, lived: Lived) -> None:
    """I17: a process that ended leaves no task, no lock and no unfinished file."""
    if lived.tasks:
        broken("I17", f"{lived.tasks} are left of a life that has ended")
    if lived.locked:
        broken("I17", f"a life has ended, and {lived.locked[0]} is still locked")
    litter = [path for path in story.files() if path.name.startswith(".") and run.folder in path.parents]
    if litter and not lived.disk_failed and not run.aged:
        broken("I17", f"{litter[0]} is left")


def no_money_is_left_open(run: Run, lived: Lived) -> None:
    """I9: a life that ended in order is closed, and holds nothing any more."""
    if not run.account.closed:
        broken("I9", f"the life ended with {lived.exit}, and was not closed")
    held = {scope: money for scope, money in run.account.held.items() if money.reserved}
    if (held or run.account.open) and not run.account.mended:
        broken("I9", f"the life is closed, and {held or run.account.open} is still held")


def the_day_counts_what_was_spent(story: Story, run: Run) -> None:
    """I12: after a life the ledger counts for its run, day by day, what its journal says."""
    for (kind, day), held in run.account.held.items():
        amount = story.book.amounts.get((run.name, day), 0)
        if kind == "day" and not run.account.mended and amount != held.all:
            broken("I12", f"the ledger counts {amount} for {run.name} on {day}, and {held.all} was spent")


def every_conversation_stands_somewhere(run: Run, lived: Lived) -> None:
    """I9, I10: complete with every turn answered, or stopped with a reason; not begun only if nobody wanted it."""
    account = run.account
    for cell in run.plan.cells:
        status, reason = account.statuses.get(cell.id, ("pending", None))
        missing = [turn for turn in run.generated(cell.id) if (cell.id, turn) not in account.replies]
        wanted = lived.wanted_all or not account.mended
        if status == "complete" and reason is None and missing and wanted:
            broken("I10", f"{cell.name} is complete without turn {missing[0]}")
        if status != "complete" and reason is None and lived.wanted_all and not lived.life.signals:
            broken("I9", f"{cell.name} is {status}, and nobody says why")


def the_exit_code_is_true(story: Story, run: Run, lived: Lived) -> None:
    """I9: 0 when all that was asked for is complete, and then only; and where all views are written."""
    standing = [run.account.statuses.get(cell.id, ("pending", None))[0] for cell in run.plan.cells]
    whole = all(status == "complete" for status in standing)
    whole = whole and not views_were_left(story.copy(), run, lived)
    if lived.wanted_all and lived.exit != 8 and (lived.exit == 0) != whole and "overrun" not in run.account.reasons:
        broken("I9", f"exit {lived.exit}, and the conversations are {', '.join(standing)}")


def what_is_shown_is_computed(story: Story, run: Run, lived: Lived) -> None:
    """I11: each view is, byte for byte, what the journal makes of it; each request is the one on record.

    Whoever was told twice to stop, or whose grace is over, may leave all but the status, if that says so.
    """
    disk = story.copy()
    checked = verify(run.folder, disk)
    if checked.problems:
        broken("I11", f"verify: {'; '.join(checked.problems[:2])}")
    fresh = run.journal_alone()
    views = Views(reading_of(fresh, run.folder, scan(fresh, run.journal.path)), FixedClock())
    run_virtual(views.all, run.account.seq)
    shown, made = _views(disk, run.folder), _views(fresh, run.folder)
    path = run.folder / STATUS
    if views_were_left(disk, run, lived):
        if {run.folder / LINES, run.folder / INDEX} & shown.keys():
            broken("I11", f"{LINES} or {INDEX} tells of an earlier moment")
        end = {name: orjson.loads(made[path])[name] for name in ("exit", "reasons")}
        shown, made = {path: orjson.dumps({**orjson.loads(shown[path]), **end})}, {path: made[path]}
    if shown.keys() != made.keys():
        broken("I11", f"these views differ by name: {sorted(map(str, shown.keys() ^ made.keys()))}")
    for path, content in made.items():
        if _lasting(path, shown[path]) != _lasting(path, content):
            broken("I11", f"{path} is not what its journal makes of it")


def views_were_left(disk: MemoryDisk, run: Run, lived: Lived) -> bool:
    """True where a process that was to leave its calls says that it left its views as well."""
    signals = [signal for _, signal in lived.life.signals]
    path = run.folder / STATUS
    told = orjson.loads(disk.read(path))["reasons"] if disk.exists(path) else []
    return lived.exit in INTERRUPTED and (len(signals) > 1 or SIGTERM in signals) and UNWRITTEN in told


def _views(disk: MemoryDisk, folder: Path) -> dict[Path, bytes]:
    shown = (folder / CONVERSATIONS, folder / LINES, folder / INDEX, folder / STATUS)
    return {p: content for p, content in disk.files.items() if any(one in (p, *p.parents) for one in shown)}


def _lasting(path: Path, content: bytes) -> bytes:
    """A view without what only the moment made of it."""
    if path.name != STATUS:
        return content
    return orjson.dumps({**orjson.loads(content), "heartbeat": None, "lanes": None})


def what_is_shown_adds_up(story: Story, run: Run) -> None:
    """I12: the figures that people and programs are shown are those of the records."""
    disk = story.copy()
    spent = orjson.loads(disk.read(run.folder / STATUS))["spent"]
    counted = run.account.of(*RUN).all
    if round(spent["total"] * 1e9) != counted:
        broken("I12", f"{STATUS} says {spent['total']}, and {dollars(counted)} is counted")
    lines = disk.read(run.folder / LINES) if disk.exists(run.folder / LINES) else b""  # what is missing, I11 tells
    for text in lines.splitlines():
        line = orjson.loads(text)
        held = run.account.of("cell", line["id"]).all
        if round(line["totals"]["spent"] * 1e9) != held:
            broken("I12", f"{LINES} says {line['totals']['spent']} of {line['name']}, and {dollars(held)} is counted")


def no_key_is_shown(story: Story, lived: Lived) -> None:
    """I18: no byte of disk or screen has the planted key."""
    for path, content in story.files().items():
        if KEY.encode() in content:
            broken("I18", f"the key stands in {path}")
    if KEY in lived.screen:
        broken("I18", "the key was shown on the screen")


def nobody_exceeds_the_slots(story: Story) -> None:
    """I14: no provider was ever asked more at once than it allows."""
    if len(story.runs) > 1:
        return  # two processes on one key, neither of which was told to share its limits
    for name, engine in story.engines():
        if engine.bill.refused.get("concurrency"):
            broken("I14", f"{name} refused {engine.bill.refused['concurrency']} requests that were too many at once")


LONGEST_LIFE: Final = 8 * 3600.0


def it_ends_in_time(lived: Lived) -> None:
    """I16: no life goes on for ever, nor much longer than its providers told it to."""
    if lived.seconds > LONGEST_LIFE:
        broken("I16", f"a life took {lived.seconds:.0f} s in which nobody had asked it to wait")


def it_gives_way(worker: Worker, holders: Sequence[Lived]) -> None:
    """I17: a second process says that the run is held only while somebody holds it, and touches nothing."""
    late = worker.lived
    if not any(lived.began <= late.ended and late.began <= lived.ended + 1 for lived in holders):
        broken("I17", "the run is said to be held, and nobody is there")
    if changed := [name for name in worker.trouble.changed if name not in ("lock", "make_dirs")]:
        broken("I17", f"a process that was not given the run did {changed[0]} on its disk")


# --- at the end --------------------------------------------------------------------------------------------------


def at_the_end(story: Story, run: Run, lived: Lived) -> None:
    """After a life with nothing in its way."""
    everything_is_there(run, lived)
    it_says_what_it_would_have_said(story, run)
    limits_were_kept(story)
    if story.world.crowded:
        nobody_is_passed_over_for_ever(run, lived)
    if story.world.rival is not None:
        a_dead_provider_slows_nobody(run, story.rival(story.world.rival))


def everything_is_there(run: Run, lived: Lived) -> None:
    """I9: every conversation is complete, but for those of models that overran: these wait for a change of the job."""
    stands = {cell.name: run.account.statuses.get(cell.id, ("pending", None)) for cell in run.plan.cells}
    left = {name: status for name, status in stands.items() if status[0] != "complete"}
    waits = {c.name for c in run.plan.cells if c.name in left and _waits_for_the_job(run, c, *left[c.name])}
    if lived.exit != (3 if waits else 0) or left.keys() - waits:
        broken("I9", f"with nothing in the way the run ended with {lived.exit} {lived.told[:2]}; {left}")


def _waits_for_the_job(run: Run, cell: Cell, status: str, reason: str | None) -> bool:
    overran = [alias for _, alias in cell.models if alias in run.account.overran]
    return status == "pending" and any((reason or "").startswith(f"{alias}: overrun, ") for alias in overran)


def it_says_what_it_would_have_said(story: Story, run: Run) -> None:
    """I11: each reply is what its provider says to that request, and so is the whole, as if nothing had happened."""
    account = run.account
    odd: dict[str, None] = {}
    for (cell, turn), reply in account.replies.items():
        sent = account.calls.get((cell, turn, reply["attempt"]))
        if sent is None or sent["request"] in run.bent:
            odd[cell] = None
            continue
        known = run.plan.by_id.get(cell)
        if known is None or sent["max_tokens"] != run.plan.conversation(known).participant(sent["role"]).max_tokens:
            odd[cell] = None
        provider, body = run.bodies[sent["request"]]
        if story.honest.answer(provider, body)[0] != reply["text"]:
            broken("I11", f"{cell} turn {turn} is not what {sent['model']} says to that")
    for (cell, turn), text in hold(run.plan, story.honest).texts.items():
        ended_early = account.statuses[cell][1] is not None
        if cell not in odd and not ended_early and account.replies[cell, turn]["text"] != text:
            broken("I11", f"{cell} turn {turn} is not what it would have been, had nothing happened")


def limits_were_kept(story: Story) -> None:
    """I14: nothing was refused for being too much or too early, where nothing else went wrong."""
    if not story.world.is_calm:
        return
    for name, engine in story.engines():
        limits = story.world.final.job["providers"][name]["limits"]
        way, sync = story.world.rtt[1], story.world.sync_seconds[1]
        if way > _STRETCH or (limits.get("burst") == 1 and way + sync > _EVEN_ENOUGH):
            continue  # a request may be held up for longer than windows and intervals allow for
        refused = sum(n for limit, n in engine.bill.refused.items() if limit in _WINDOWS)
        # What is counted when a call has ended can be known a little too late.
        late = limits.get("count") == "used" and any(name in limits for name in _TOKENS)
        if refused > (1 + len(engine.received) * _REFUSED_LATE if late else 0):
            broken("I14", f"{name} refused {engine.bill.refused} of {len(engine.received)}, and nothing had gone wrong")


_TOKENS: Final = ("tpm", "input_tpm", "output_tpm")
_WINDOWS: Final = ("rpm", "rpd", *_TOKENS)
_EVEN_ENOUGH: Final = 0.025
_STRETCH: Final = 0.35
_REFUSED_LATE: Final = 0.005


def nobody_is_passed_over_for_ever(run: Run, lived: Lived) -> None:
    """I15: a large call waits for a few smaller ones, and then for no more of them."""
    calls = {cell.id: _calls(run, cell) for cell in run.plan.cells}
    large = max(calls, key=lambda id_: len(calls[id_]))
    said = passed = 0
    for line in run.lines:
        if line.get("cell") == large:
            passed = 0
            said = line["turn"] if line["kind"] == "replied" else said
        # Whoever takes longer may go first; with no more calls of any model, nobody does.
        elif line["kind"] == "sent" and _left(calls[line["cell"]], line["turn"]) <= _left(calls[large], said + 1):
            passed += 1
        if _left(calls[large], said + 1) and passed > PASSED_TOO_OFTEN + lived.slots:
            broken("I15", f"{passed} calls went before the next of {run.plan.by_id[large].name}, which was there first")


def _calls(run: Run, cell: Cell) -> list[tuple[int, str]]:
    """The turns of a conversation that somebody has to be asked for, and whom."""
    conversation = run.plan.conversation(cell)
    lines = (line for line in conversation.lines if line.given is None)
    return [(line.number, conversation.participant(line.role).alias) for line in lines]


def _left(calls: Sequence[tuple[int, str]], turn: int) -> Counter[str]:
    """How many calls of each model are left from this turn on."""
    return Counter(alias for number, alias in calls if number >= turn)


def a_dead_provider_slows_nobody(run: Run, without: Run) -> None:
    """I15: those who have nothing to do with a provider that is dead take no longer than if it lived."""
    alive, dead = (_until_mine_are_complete(one) for one in (run, without))
    if dead > alive * _HARDLY_LONGER + 1.0:
        broken("I15", f"in {alive:.1f} s conversations are complete that take {dead:.1f} s beside a dead provider")


def _until_mine_are_complete(run: Run) -> float:
    ids = {cell.id for cell in run.plan.cells if cell.prompt == "mine"}
    ends = [line["at"] for line in run.lines if line["kind"] == "stopped" and line["cell"] in ids]
    if len(ends) < len(ids):
        broken("I15", f"{len(ids) - len(ends)} conversations did not end beside a dead provider")
    return float(max(ends) - run.lines[0]["at"])


_HARDLY_LONGER: Final = 1.05
