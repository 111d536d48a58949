"""What this machine and a folder say of themselves: looked at, not judged. What is tried out leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runner.doctor import Folder, Machine, Trial
    from runner.online import Heard
    from runner.providers import Endpoint
    from runner.providers.base import Inquiry
    from runner.world import Wire

_MOST_FILES: Final = 65_536
_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def machine(zones: Iterable[str], calls: int, newest: float | None, env_files: Iterable[Path]) -> Machine:
    """This machine, as far as runs with these zones and so many calls in flight depend on it."""
    import sys
    import time

    from runner.doctor import Machine
    from runner.job import Files

    state, state_trouble = _state()
    return Machine(
        python=tuple(sys.version_info[:3]),
        packages=versions(),
        zones={zone: _has_zone(zone) for zone in zones},
        now=time.time(),
        newest=newest,
        umask=_umask(),
        open_files=open_files(),
        calls=calls,
        state=state,
        state_trouble=state_trouble,
        exposed=tuple(path for path in dict.fromkeys(env_files) if path.exists() and Files().open_to_others(path)),
    )


def open_files() -> int | None:
    """How many files this process may open, after it has asked for as many as it may have; None for any number."""
    import resource
    from contextlib import suppress

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def versions() -> dict[str, str | None]:
    """The version of each package that is needed; None for one that is missing."""
    from importlib.metadata import PackageNotFoundError, version

    from runner.doctor import FLOORS

    found: dict[str, str | None] = {}
    for name in FLOORS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def folder(outputs: Path, at_work: Sequence[Path]) -> Folder:
    """The folder of all runs; temporary files in the folders `at_work` are somebody's."""
    import os

    from runner.doctor import Folder

    there = nearest(outputs)
    room = os.statvfs(there)
    return Folder(
        path=outputs,
        there=there,
        trial=trial(there),
        kind=file_system(there),
        free_bytes=room.f_bavail * room.f_frsize,
        free_files=room.f_favail if room.f_files else None,
        strays=tuple(_strays(outputs, {path.resolve() for path in at_work})),
    )


def nearest(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    return next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))


def trial(there: Path) -> Trial:
    """Write, lock and sync a file in a folder, and take it away again."""
    import fcntl
    import os
    import time

    from runner.doctor import Trial

    probe = there / f".tertulia-check-{os.getpid()}"
    descriptors: list[int] = []
    try:
        try:
            for _ in range(2):
                descriptors.append(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.write(descriptors[0], b"x")
        except OSError as error:
            return Trial(written=error.strerror)
        try:
            fcntl.flock(descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Trial(locked=error.strerror)
        try:
            fcntl.flock(descriptors[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Trial(locked="a lock keeps nobody out")
        except OSError:
            pass  # as it must be: somebody else has it
        began = time.perf_counter()
        try:
            os.fsync(descriptors[0])
        except OSError as error:
            return Trial(synced=error.strerror)
        return Trial(seconds=time.perf_counter() - began)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        if descriptors:
            probe.unlink(missing_ok=True)


def file_system(path: Path) -> str | None:
    """The kind of the file system that a path is on, as Linux tells it; None elsewhere."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return file_system_of(path.resolve(), mounts)


def file_system_of(path: Path, mounts: str) -> str | None:
    """The kind that a table of mounts tells for a path: that of the deepest mount above it, of several the last."""
    best, kind = -1, None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if "-" not in fields:
            continue
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[fields.index("-") + 1]
    return kind


def state_folder() -> Path:
    """Where processes of this user tell each other what they use of a provider's limits."""
    import os

    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state") / "tertulia"


def _state() -> tuple[Path, str | None]:
    """The folder of the state, and what is wrong with it."""
    try:
        state = state_folder()
    except RuntimeError:
        return Path("~"), "cannot be found: this user has no home"
    found = trial(nearest(state))
    if found.written is not None:
        return state, f"cannot be written ({found.written})"
    return state, None if found.locked is None else f"cannot be locked ({found.locked})"


def _has_zone(zone: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        return False
    return True


def _umask() -> int:
    import os

    found = os.umask(0o077)  # the only way to ask is to set it
    os.umask(found)
    return found


def _strays(outputs: Path, at_work: set[Path]) -> Iterator[Path]:
    import os

    for folder, inner, names in os.walk(outputs):
        inner[:] = sorted(name for name in inner if (Path(folder) / name).resolve() not in at_work)
        for name in sorted(names):
            if name.startswith(".") and (name.endswith(".tmp") or name.startswith(".tertulia-check-")):
                yield Path(folder) / name


# --- what providers say ----------------------------------------------------------------------------------------------


def answers(asked_for: Sequence[tuple[Endpoint, Sequence[str]]]) -> list[list[Heard]]:
    """What each provider answers to what can be asked for nothing before a night with these models."""
    import anyio

    return anyio.run(_answers, asked_for)


async def _answers(asked_for: Sequence[tuple[Endpoint, Sequence[str]]]) -> list[list[Heard]]:
    import anyio

    from runner.transports.wire import AiohttpWire

    found: list[list[Heard]] = [[] for _ in asked_for]

    async def ask(wire: Wire, endpoint: Endpoint, models: Sequence[str], heard: list[Heard]) -> None:
        from runner.online import lists_to_ask_for
        from runner.providers import DIALECTS

        def questions() -> Iterator[Inquiry]:
            yield from DIALECTS[endpoint.type].inquiries(endpoint, models)
            yield from lists_to_ask_for(endpoint, heard)

        for inquiry in questions():
            heard.append(await _answer(wire, inquiry))
            if heard[-1].broke is not None:
                break  # whoever keeps us waiting for one model would do so for each

    async with AiohttpWire() as wire, anyio.create_task_group() as tasks:
        for (endpoint, models), heard in zip(asked_for, found, strict=True):
            tasks.start_soon(ask, wire, endpoint, models, heard)
    return found


async def _answer(wire: Wire, inquiry: Inquiry) -> Heard:
    from runner.online import Heard
    from runner.transports.http import answer_to
    from runner.world import WireError

    try:
        told = await answer_to(wire, inquiry.request)
    except WireError as error:
        return Heard(inquiry, broke=error)
    return Heard(inquiry, told.status, told.headers, told.body)
