"""The runs below the outputs folder: found by path, by `job/key` or by the name of their job; read, never changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from runner.journal import Scan
    from runner.outputs import Reading

_HEAD: Final = re.compile(rb'\{"v":\d+,"seq":(\d+),"at":(\d+(?:\.\d+)?)')
_TAIL_BYTES: Final = 64 * 1024
_NEAR: Final = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One run, and what people call it: `job/key`."""

    folder: Path

    def command(self, verb: str) -> str:
        """A command about this run to copy; it is called by its name only where that is found without --outputs."""
        import os

        from runner.foreign import command
        from runner.outputs import OUTPUTS

        home = Path(os.environ.get("TERTULIA_OUTPUTS") or OUTPUTS)
        here = (home / self.name).resolve() == self.folder.resolve()
        return command(verb, self.name if here else self.folder)

    @property
    def name(self) -> str:
        from os.path import abspath

        from runner.foreign import visible

        folder = Path(abspath(self.folder))
        return visible(f"{folder.parent.name}/{folder.name}", keep_newlines=False)

    @property
    def journal(self) -> Path:
        from runner.journal import FILE

        return self.folder / FILE


def all_runs(outputs: Path) -> list[Run]:
    """Every run below the outputs folder, by name."""
    return sorted((Run(path.parent) for path in outputs.glob("*/*/journal.jsonl")), key=lambda run: run.name)


def find(outputs: Path, text: str) -> Run:
    """The run that a path, `job/key` or a job's name means; of a job the one begun last. UsageError if none."""
    from difflib import get_close_matches

    from runner.foreign import one_line
    from runner.plan import slug

    path = Path(text)
    for folder in (path, path.parent if path.name == "journal.jsonl" else path, outputs / text):
        if Run(folder).journal.is_file():
            return Run(folder)
    runs = all_runs(outputs)
    own = [run for run in runs if run.folder.parent.name in (text.strip("/"), slug(text))]
    if own:
        return max(own, key=lambda run: (began(run), run.name))
    names = list(dict.fromkeys([run.name for run in runs] + [run.name.partition("/")[0] for run in runs]))
    near = get_close_matches(text, names, _NEAR, 0.5)
    if near:
        hint = f" Did you mean {' or '.join(near)}?"
    elif runs:
        hint = " `tertulia status` lists the runs that are there."
    else:
        hint = f" There are no runs in {outputs}; --outputs names another folder."
    raise click.UsageError(f"There is no run {one_line(text)!r}.{hint}")


def find_all(outputs: Path, texts: Sequence[str]) -> list[Run]:
    """Each run once, in the order in which they are named."""
    return list(dict.fromkeys(find(outputs, text) for text in texts))


# --- without folding the journal ---------------------------------------------------------------------------------


def began(run: Run) -> float:
    """When the first record was written, in seconds since the epoch; 0 when there is none that we can read."""
    try:
        with open(run.journal, "rb") as file:
            head = _HEAD.match(file.read(200))
    except OSError:
        return 0.0
    return float(head.group(2)) if head else 0.0


def last_record(run: Run) -> tuple[int, float] | None:
    """Number and time of the last whole line; None when there is none, or its beginning is not readable."""
    with open(run.journal, "rb") as file:
        size = file.seek(0, 2)
        span = _TAIL_BYTES
        while True:
            start = max(0, size - span)
            file.seek(start)
            tail = file.read(size - start)
            end = tail.rfind(b"\n")
            begin = tail.rfind(b"\n", 0, max(0, end)) + 1
            if start == 0 or (end > 0 and begin > 0):
                head = _HEAD.match(tail[begin : end + 1])
                return (int(head.group(1)), float(head.group(2))) if head else None
            span *= 16


def stands_for(run: Run, name: str) -> bool:
    """True when the run in this folder is the one that the ledger calls so, and not another after it was deleted."""
    from runner.events import Opened
    from runner.journal import decode
    from runner.ledger import run_id
    from runner.lines import TooNew

    try:
        with open(run.journal, "rb") as file:
            record = decode(file.readline()[:-1], 0)
    except PermissionError:
        return True  # it is there, and somebody else's
    except (OSError, TooNew):
        return False
    if record is None or not isinstance(record.event, Opened) or not record.event.born:
        return True  # damaged, repaired, or older than the ledger: whose it is, its folder says
    return run_id(name.rpartition("@")[0], record.event.born) == name


def may_be_held(run: Run) -> bool:
    """False when nobody holds the run now; of a lock that we may not read, nobody can tell."""
    try:
        return holder(run) is not None
    except OSError:
        return True


def holder(run: Run) -> str | None:
    """Who holds the run now, in words; None when nobody does. OSError when its lock cannot be read."""
    import fcntl

    from runner.foreign import in_words
    from runner.journal import LOCK_FILE

    try:
        file = open(run.folder / LOCK_FILE, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        try:
            # Shared, and gone at once: two who look do not see each other, and what the file says stays.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return in_words(file.read(4096).decode("utf-8", "replace"))
    return None


def me() -> str:
    """What this process writes about itself when it takes a lock."""
    import json
    import os
    import socket
    import time

    now = time.time()
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    # `since` is for people, on this machine's clock; whoever compares must not depend on anybody's time zone.
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since, "began": now})


# --- folding it --------------------------------------------------------------------------------------------------


def scanned(run: Run) -> Scan:
    """The journal up to its first damage. StorageError when it cannot be read, or contradicts itself."""
    from runner.foreign import one_line
    from runner.journal import scan
    from runner.lines import StorageError
    from runner.state import HistoryError
    from runner.world import RealDisk

    try:
        return scan(RealDisk(), run.journal)
    except OSError as error:
        raise StorageError(f"{run.journal}: {error.strerror or error}") from error
    except (HistoryError, KeyError, TypeError) as error:
        told = one_line(str(error))
        raise StorageError(
            f"{run.journal} contradicts itself ({told}); `{run.command('verify')}` says where"
        ) from error


def reading(run: Run, found: Scan) -> Reading | None:
    """The run as its journal tells it; None when that tells nothing yet."""
    from runner.outputs import reading_of
    from runner.world import RealDisk

    return None if found.state.job is None else reading_of(RealDisk(), run.folder, found)
