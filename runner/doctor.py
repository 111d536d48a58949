"""What is wrong with this machine, with a folder, with a run: findings, made of facts that others have gathered.

A finding is one line: what was looked at, how it is, and what to do where it is not well. A `problem` has to be mended
before a run can begin, or can be trusted; a `warning` is unfinished, or worth knowing. Nothing here looks at anything
itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.foreign import command, one_line
from runner.journal import Scan
from runner.ledger import Entry
from runner.money import Nanos, shown
from runner.outputs import Reading
from runner.render.figures import counted, duration, of_them_early, stamp, usd

Grade: TypeAlias = Literal["ok", "warning", "problem"]
CODES: Final[Mapping[Grade, int]] = {"ok": 0, "warning": 3, "problem": 6}

OLDEST_PYTHON: Final = (3, 11)
NEWEST_PYTHON: Final = (3, 14)
"""The newest that the tests have run on."""
FLOORS: Final[Mapping[str, str]] = {
    "aiohttp": "3.14",
    "aiolimiter": "1.3",
    "anyio": "4.14.2",
    "click": "8.2",
    "jsonschema": "4.25",
    "orjson": "3.11",
    "pydantic": "2.12",
    "rich": "14",
    "ruamel.yaml": "0.18.15",
}
"""The oldest version of each package that will do, as pyproject.toml says."""

_CLOCK_SLACK_SECONDS: Final = 60.0
_CLOCK_WRONG_SECONDS: Final = 12 * 3600.0
"""A clock that is wrong by more may put money on the wrong day."""
_FILES_BESIDE_CALLS: Final = 40
"""Descriptors that a run needs beside one for each call: journals, locks, the event loop, the standard streams."""
_MIB: Final = 1024 * 1024
_LEAST_BYTES: Final = 16 * _MIB
_FEW_BYTES: Final = 256 * _MIB
_LEAST_FILES: Final = 100
_FEW_FILES: Final = 5_000
_SLOW_SYNC_SECONDS: Final = 0.5
_MOST_NAMED: Final = 3

_FILE_SYSTEMS: Final[tuple[tuple[str, str], ...]] = (
    (r"nfs\d*", "on a network: its locks and syncs are as good as the server and the mount options make them"),
    (r"cifs|smb\d*|smbfs|9p|afs|ceph|lustre|glusterfs|virtiofs", "on a network or another host: test its locks there"),
    (r"fuse.*", "run by a program, which may not pass syncs and locks on"),
    (r"overlay|aufs|unionfs", "a container's own layer: what is written there goes when the container goes"),
    (r"tmpfs|ramfs", "kept in memory only: a power cut or a restart takes what was paid for"),
)
"""File systems, and why a journal on them may be worth less than it seems."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    grade: Grade
    subject: str
    text: str
    remedy: str | None = None

    def line(self) -> str:
        """`problem  open files: 64 allowed, 140 may be needed -> ulimit -n 256`."""
        what = one_line(f"{self.subject}: {self.text}", 1000)
        return f"{self.grade:<8} {what}" + ("" if self.remedy is None else f" -> {one_line(self.remedy, 1000)}")


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when all is well, 6 when a run cannot begin, 3 when something is worth knowing."""
    return max((CODES[finding.grade] for finding in findings), default=0)


# --- the machine -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of this machine."""

    python: tuple[int, ...]
    packages: Mapping[str, str | None]
    """Package to the version that is there."""
    zones: Mapping[str, bool]
    """Time zone to whether there is data of it."""
    now: float
    newest: float | None
    """When the newest record was written, of any run or of the ledger."""
    umask: int
    open_files: int | None
    """How many files this process may have open; None without a limit."""
    calls: int
    """How many calls the jobs may have in flight together."""
    state: Path
    """Where processes tell each other what they use of a provider's limits."""
    state_trouble: str | None
    exposed: tuple[Path, ...]
    """Files with keys that others can read."""


def of_machine(facts: Machine) -> Iterator[Finding]:
    """Python, packages, time zones, clock, limits and permissions."""
    yield _python(facts.python)
    yield from _packages(facts.packages)
    yield _zones(facts.zones)
    yield _clock(facts.now, facts.newest)
    yield _open_files(facts.open_files, facts.calls)
    if facts.state_trouble is None:
        yield Finding("ok", "state folder", f"{facts.state} can be written and locked")
    else:
        text = f"{facts.state} {facts.state_trouble}: processes cannot share a provider's limits"
        yield Finding("warning", "state folder", text, "make it writable, or set XDG_STATE_HOME")
    if facts.umask & 0o700:
        text = f"umask {facts.umask:03o} takes their owner's rights from new files"
        yield Finding("problem", "permissions", text, "umask 077")
    else:
        yield Finding("ok", "permissions", f"umask {facts.umask:03o}")
    for path in facts.exposed:
        yield Finding("warning", "keys", f"{path} can be read by other users", f"chmod 600 {path}")


def _python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    known = " to ".join(".".join(map(str, end)) for end in (OLDEST_PYTHON, NEWEST_PYTHON))
    if version[:2] < OLDEST_PYTHON:
        return Finding("problem", "Python", f"{text} is too old", f"use {known}")
    if version[:2] > NEWEST_PYTHON:
        return Finding("warning", "Python", f"{text} is newer than any that was tested", f"known to work: {known}")
    return Finding("ok", "Python", text)


def _packages(there: Mapping[str, str | None]) -> Iterator[Finding]:
    sound = True
    for name, floor in FLOORS.items():
        version = there.get(name)
        if version is not None and _release(version) >= _release(floor):
            continue
        sound = False
        text = f"{name} is missing" if version is None else f"{name} {version} is too old"
        yield Finding("problem", "packages", text, f"pip install '{name}>={floor}'")
    if sound:
        yield Finding("ok", "packages", f"all {len(FLOORS)} are new enough")


def _release(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _zones(zones: Mapping[str, bool]) -> Finding:
    missing = [zone for zone, there in zones.items() if not there]
    if missing:
        text = f"there is no data of {', '.join(missing)}"
        return Finding("problem", "time zones", text, "install the system's tzdata, or pip install tzdata")
    return Finding("ok", "time zones", ", ".join(zones))


def _clock(now: float, newest: float | None) -> Finding:
    behind = 0.0 if newest is None else newest - now
    if newest is None or behind <= _CLOCK_SLACK_SECONDS:
        return Finding("ok", "clock", stamp(now))
    grade: Grade = "problem" if behind > _CLOCK_WRONG_SECONDS else "warning"
    text = f"{stamp(now)}, but the newest record was written {duration(behind)} later, at {stamp(newest)}"
    return Finding(grade, "clock", text, "set the clock: it decides on which day money counts")


def _open_files(most: int | None, calls: int) -> Finding:
    if most is None:
        return Finding("ok", "open files", "no limit")
    need = calls + _FILES_BESIDE_CALLS
    if most < need:
        text = f"{most:,} allowed, {need:,} may be needed"
        return Finding("problem", "open files", text, f"ulimit -n {max(1024, need)}")
    return Finding("ok", "open files", f"{most:,} allowed, at most {need:,} needed")


# --- the folder --------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """What came of writing, locking and syncing a file: a trouble in words, or None; and how long the sync took."""

    written: str | None = None
    locked: str | None = None
    synced: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Folder:
    """What is known of the folder of all runs."""

    path: Path
    there: Path
    """The folder itself or, before it is made, the nearest one above it."""
    trial: Trial
    kind: str | None
    """The kind of its file system, where the system tells."""
    free_bytes: int
    free_files: int | None
    """Files that can still be made; None where the file system does not count them."""
    strays: tuple[Path, ...]
    """Temporary files that nobody is writing any more."""


def of_folder(facts: Folder) -> Iterator[Finding]:
    """Whether runs can be kept there."""
    name = str(facts.path)
    if facts.trial.written is not None:
        text = f"{'' if facts.there == facts.path else f'{facts.there} '}cannot be written: {facts.trial.written}"
        yield Finding("problem", name, text, "make it writable, or name another with --outputs")
        return
    made = "" if facts.there == facts.path else f"will be made in {facts.there}; "
    if facts.trial.locked is not None:
        text = f"{made}kernel locks do not work there ({facts.trial.locked}): two processes could write one journal"
        yield Finding("problem", name, text, "put it on a local disk")
    elif facts.trial.synced is not None:
        text = f"{made}a sync failed ({facts.trial.synced}): nothing written there is safe"
        yield Finding("problem", name, text, "look at the disk; put it on another")
    else:
        text = f"{made}can be written and locked; a sync took {facts.trial.seconds * 1000:,.1f} ms"
        if facts.trial.seconds > _SLOW_SYNC_SECONDS:
            yield Finding("warning", name, f"{text}, and every call waits for one", "look at the disk")
        else:
            yield Finding("ok", name, text)
    yield from _file_system(name, facts.kind)
    yield from _space(name, facts.free_bytes, facts.free_files)
    if facts.strays:
        named = ", ".join(map(str, facts.strays[:_MOST_NAMED]))
        more = f" and {len(facts.strays) - _MOST_NAMED:,} more" if len(facts.strays) > _MOST_NAMED else ""
        text = f"{counted(len(facts.strays), 'temporary file')} left by a crash: {named}{more}"
        yield Finding("warning", name, text, "delete them; no run needs them")


def _file_system(name: str, kind: str | None) -> Iterator[Finding]:
    if kind is not None:
        why = next((why for pattern, why in _FILE_SYSTEMS if re.fullmatch(pattern, kind)), None)
        if why is None:
            yield Finding("ok", name, f"the file system is {kind}")
        else:
            yield Finding("warning", name, f"the file system is {kind}, {why}", "a local disk is safer")


def _space(name: str, free_bytes: int, free_files: int | None) -> Iterator[Finding]:
    text = f"{free_bytes / _MIB:,.0f} MiB free"
    if free_files is not None:
        text += f", room for {free_files:,} files"
    least = free_bytes < _LEAST_BYTES or (free_files is not None and free_files < _LEAST_FILES)
    few = free_bytes < _FEW_BYTES or (free_files is not None and free_files < _FEW_FILES)
    grade: Grade = "problem" if least else "warning" if few else "ok"
    yield Finding(grade, name, text, None if grade == "ok" else "make room before a run")


# --- the ledger --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What is known of the ledger of all runs."""

    path: Path
    trouble: str | None = None
    """Why it cannot be read."""
    remedy: str | None = None
    lines: int = 0
    left: tuple[Entry, ...] = ()
    """Of those that count more than was spent: the ones whose run nobody works on."""


def of_ledger(facts: LedgerFacts) -> Iterator[Finding]:
    """Whether the money of the day and the month can be told."""
    name = str(facts.path)
    if facts.trouble is not None:
        yield Finding("problem", name, facts.trouble, facts.remedy)
        return
    yield Finding("ok", name, f"sound ({counted(facts.lines, 'line')})")
    for entry in facts.left:
        text = f"{entry.folder} was broken off, and counts all of the {usd(entry.amount)} that it drew on {entry.day}"
        yield Finding("warning", name, text, "run it again: then it counts what it has spent")


# --- a run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run."""

    name: str
    folder: Path
    holder: str | None
    """Who holds it, in words."""
    found: Scan | None = None
    trouble: str | None = None
    """Why its journal cannot be read."""
    remedy: str | None = None
    """What to do about that; None where `verify` tells more."""
    reading: Reading | None = None
    """None while the journal tells nothing."""
    up_to_date: bool = True
    """False when its views do not tell of the last record."""
    has_spare: bool = True


def of_run(facts: RunFacts) -> Iterator[Finding]:
    """Whether its journal is sound, and what is left to do."""
    name, found = facts.name, facts.found
    if found is None:
        remedy = facts.remedy or command("verify", facts.folder)
        yield Finding("problem", name, facts.trouble or "the journal cannot be read", remedy)
        return
    if found.damaged:
        text = f"the journal is damaged at byte {found.end:,} (record {found.last + 1:,}): what was spent is unknown"
        yield Finding("problem", name, text, command("repair", facts.folder))
        return
    if facts.holder is not None:
        text = f"at work: {facts.holder}, {counted(found.last, 'record')} so far"
        yield Finding("ok", name, text)
        return
    if found.torn:
        text = f"the last line of the journal is torn at byte {found.end:,}; nothing was done on the strength of it"
        yield Finding("warning", name, text, "the next run sets it aside")
    else:
        yield Finding("ok", name, f"the journal is sound ({counted(found.last, 'record')})")
    if facts.reading is None:
        yield Finding("warning", name, "it never began", "run its job again")
        return
    yield from _unfinished(name, facts.reading)
    yield from _money(name, facts.reading)
    if not facts.up_to_date:
        yield Finding("warning", name, "its views are not up to date", command("report", facts.folder))
    if not facts.has_spare:
        text = "the space set aside for a full disk is used up"
        yield Finding("warning", name, text, "make room; the next run sets it aside again")


def _unfinished(name: str, reading: Reading) -> Iterator[Finding]:
    counts, go_on, early = reading.counts(), reading.command(), of_them_early(reading.stopped_early())
    total = sum(counts.values())
    cut = "broken off, " if reading.state.is_open else ""
    if go_on is None and not cut:
        yield Finding("ok", name, f"complete: {counted(total, 'conversation')}{early}")
        return
    others = "".join(f", {number:,} {status}" for status, number in counts.items() if number and status != "complete")
    style = "" if reading.style_trouble is None else f"; a style cannot show some: {reading.style_trouble}"
    text = f"{cut}{counts['complete']:,} of {counted(total, 'conversation')} complete{early}{others}{style}"
    yield Finding("warning", name, text, go_on or command("report", reading.folder))


def _money(name: str, reading: Reading) -> Iterator[Finding]:
    state = reading.state
    flying = [call.sent.reserved for call in state.open_calls()]
    calls = len(state.unsettled) + len(flying)
    assumed: Nanos = sum(call.cost for call in state.unsettled.values()) + sum(flying)
    if calls:
        text = f"{shown(assumed)} of {counted(calls, 'call')} is assumed: nobody knows yet what they cost"
        yield Finding("warning", name, text, command("settle", reading.folder))
    over: Sequence[str] = [alias for alias, tally in state.tallies.items() if tally.overrun]
    if over:
        text = (
            f"{', '.join(over)} cost more than was reserved: the server ignores the output limit, or a price is wrong"
        )
        yield Finding("warning", name, text, "correct its price, or leave it out")
