"""The disk in memory keeps the promises of the real one, and breaks them on demand."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, TypeVar

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.world import Disk, LockHeld, RealDisk
from tests.memory import MemoryDisk, Operation, Trouble, at, planned, trouble
from tests.virtual import Kill, PowerLoss, run_virtual

T = TypeVar("T")
RUN = Path("/run")
FILE = RUN / "journal"
MADE = 2
"""The operations of `a_disk`: the folder, and its name."""
OPEN = MADE + 3
"""With those of an appender to a new file: the file, its content, its name."""


def a_disk(content: bytes | None = None, **options: object) -> MemoryDisk:
    disk = MemoryDisk(**options)  # type: ignore[arg-type]
    disk.make_dirs(RUN)
    if content is not None:
        disk.put(FILE, content)
    return disk


async def appended(disk: Disk, path: Path, *pieces: bytes) -> None:
    appender = disk.appender(path)
    for piece in pieces:
        await appender.append(piece)
    appender.close()


async def session(disk: Disk, root: Path) -> list[object]:
    """The same life on any disk, and all that could be seen of it."""
    seen: list[object] = []

    def attempt(what: Callable[[], object]) -> None:
        try:
            seen.append(what())
        except OSError as error:
            seen.append(errno.errorcode[error.errno or 0])

    folder, file = root / "a" / "b", root / "a" / "b" / "f"
    attempt(lambda: disk.listdir(root / "nothing"))
    attempt(lambda: disk.size(file))
    attempt(lambda: disk.read(file))
    attempt(lambda: str(disk.appender(file)))
    attempt(lambda: str(disk.lock(file, "x")))
    attempt(lambda: disk.truncate(file, 0))
    disk.make_dirs(folder)
    disk.make_dirs(folder)
    await appended(disk, file, b"one\n", b"two\n", b"")
    await appended(disk, file, b"three\n")
    attempt(lambda: (disk.size(file), disk.read(file), disk.read(file, 4, 3), disk.read(file, 9), disk.read(file, 99)))
    disk.truncate(file, 6)
    attempt(lambda: disk.read(file))
    disk.truncate(file, 8)
    attempt(lambda: disk.read(file))
    await disk.replace(folder / "g", b"first", durable=True)
    await disk.replace(folder / "g", b"second")
    await disk.replace(root / "new" / "h", b"third")
    attempt(lambda: (disk.read(folder / "g"), disk.read(root / "new" / "h"), disk.listdir(root), disk.listdir(folder)))
    for path in (folder / "g", folder / "z", folder, folder / ".." / "f", folder / ".." / "b" / "g"):
        attempt(lambda path=path: disk.read_inside(folder, path, 3))  # type: ignore[misc]
    attempt(lambda: disk.make_dirs(file))
    attempt(lambda: disk.make_dirs(file / "under"))
    attempt(lambda: disk.exists(folder) and disk.exists(file) and not disk.exists(root / "z"))
    attempt(lambda: disk.listdir(file))
    try:
        await disk.replace(folder, b"onto a folder")
    except OSError:
        seen.append(disk.listdir(folder))
    several = {folder / "i": b"fourth", folder: b"onto a folder", root / "n" / "j": b"fifth", folder / "g": b"second"}
    kept = await disk.replace_each(list(several.items()))
    seen.append({path: errno.errorcode[error.errno or 0] for path, error in kept.items()})
    attempt(lambda: [disk.read(path) for path in several if path != folder])
    attempt(lambda: [disk.listdir(path) for path in (root, folder, root / "n")])
    attempt(lambda: disk.read_each(folder / "g", [(1, 2), (0, 1), (4, 9), (9, 9)]))
    attempt(lambda: disk.read_each(folder / "z", [(1, 2)]))
    disk.remove(file)
    disk.remove(file)
    lock = disk.lock(folder / "lock", "process 1")
    with pytest.raises(LockHeld, match="process 1"):
        disk.lock(folder / "lock", "process 2")
    lock.release()
    disk.lock(folder / "lock", "3").release()
    attempt(lambda: (disk.listdir(folder), disk.read(folder / "lock")))
    return seen


def test_it_behaves_as_the_real_disk_does(tmp_path: Path) -> None:
    """One session leaves the same traces on both, errors included."""
    memory = MemoryDisk()
    memory.make_dirs(tmp_path)
    simulated = run_virtual(session, memory, tmp_path)
    assert simulated == anyio.run(session, RealDisk(), tmp_path)
    assert len(simulated) > 15


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.data())
def test_a_kill_in_an_append_keeps_what_returned_and_a_prefix_of_the_rest(
    pieces: list[bytes], data: st.DataObject
) -> None:
    """Nothing that was durable is lost, nothing that was not written is there."""
    number = data.draw(st.integers(OPEN + 1, OPEN + 2 * len(pieces)))  # two for each piece
    disk = a_disk(random=Random(number), fault=at(number, Kill("now")))
    with pytest.raises(Kill, match="now"):
        run_virtual(appended, disk, FILE, *pieces)
    done, in_sync = divmod(number - OPEN - 1, 2)
    left = disk.survivor().read(FILE)
    durable = b"".join(pieces[: done + in_sync])
    assert left.startswith(durable)
    assert b"".join(pieces).startswith(left)
    assert len(left) <= len(b"".join(pieces[: done + 1]))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_kill_while_somebody_waits_for_the_disk_runs_none_of_their_code(number: int) -> None:
    """Neither the one who wrote nor the one who stands by gets as far as a `finally`: as with `kill -9`."""
    disk = a_disk(fault=at(OPEN + number, Kill("now")))
    appender = disk.appender(FILE)
    after: list[str] = []

    async def write(name: str) -> None:
        try:
            await (appender.append(b"x") if name == "append" else disk.replace(RUN / "view", b"x"))
            await anyio.sleep(100)
        finally:
            after.append(name)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(write, "append")
            group.start_soon(write, "replace")

    with pytest.raises(Kill, match="now"):
        run_virtual(main)
    gc.collect()
    assert {operation.name for operation in disk.operations[OPEN:]} <= {"write", "sync", "temporary", "rename"}
    assert after == []


def test_all_prefixes_of_a_torn_write_turn_up() -> None:
    """The cut is drawn: nothing, something and everything of the write in progress."""
    lengths = set()
    for seed in range(60):
        disk = a_disk(random=Random(seed), fault=at(OPEN + 1, Kill("torn")))
        with pytest.raises(Kill):
            run_virtual(appended, disk, FILE, b"abcd")
        lengths.add(disk.survivor().size(FILE))
    assert lengths == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("number", [MADE + 1, MADE + 2])
def test_a_replacement_is_seen_whole_or_not_at_all(number: int) -> None:
    """A kill in the middle leaves the old file, and perhaps the temporary one, which is never read."""
    disk = a_disk(b"old", fault=at(number, Kill("now")))
    with pytest.raises(Kill):
        run_virtual(disk.replace, FILE, b"new content")
    disk = disk.survivor()
    assert disk.read(FILE) == b"old"
    assert len(disk.listdir(RUN)) == 2
    run_virtual(disk.replace, FILE, b"new content")
    assert disk.read(FILE) == b"new content"


def test_files_that_are_as_they_would_be_written_stay_as_they_are(tmp_path: Path) -> None:
    """Of many that are written together only what is new or has changed is put in place; a link is no such file."""
    other, same, changed, link = (tmp_path / name for name in ("other", "same", "changed", "link"))
    for path in (other, same, changed):
        path.write_bytes(b"old")
    link.symlink_to(other)
    before = [path.stat().st_ino for path in (other, same, changed)]
    anyio.run(RealDisk().replace_each, [(same, b"old"), (changed, b"new"), (link, b"old")])
    assert [path.read_bytes() for path in (same, changed, link)] == [b"old", b"new", b"old"]
    assert [path.stat().st_ino == inode for path, inode in zip((other, same, changed), before, strict=True)] == [
        True,
        True,
        False,
    ]
    assert not link.is_symlink()


async def in_pieces(*pieces: bytes | OSError) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, OSError):
            raise piece
        yield piece


def test_a_replacement_that_comes_in_pieces_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    """On a real disk as on ours: a trouble between two pieces leaves the old file, and nothing beside it."""

    async def replaced(disk: Disk, folder: Path) -> None:
        await disk.replace(folder / "lines", in_pieces(b"one", b"two", b"three"))
        assert disk.read(folder / "lines") == b"onetwothree"
        with pytest.raises(OSError, match="no more"):
            await disk.replace(folder / "lines", in_pieces(b"four", OSError("no more")))
        assert disk.read(folder / "lines") == b"onetwothree"
        assert disk.listdir(folder) == ["lines"]

    anyio.run(replaced, RealDisk(), tmp_path / "new")
    run_virtual(replaced, MemoryDisk(), Path("/new"))


@pytest.mark.parametrize("number", [MADE + 1, MADE + 2])
def test_a_replacement_that_fails_leaves_no_trace(number: int) -> None:
    """An error is reported, the old file stays, the temporary one goes."""
    disk = a_disk(b"old", fault=at(number, OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        run_virtual(disk.replace, FILE, b"new")
    assert disk.files == {FILE: b"old"}


def test_a_full_disk_writes_short_and_says_so() -> None:
    """An append that fails keeps some prefix: whoever appends must expect a torn tail."""
    sizes = set()
    for seed in range(60):
        disk = a_disk(random=Random(seed), fault=at(OPEN + 1, OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            run_virtual(appended, disk, FILE, b"abc")
        sizes.add(disk.size(FILE))
    assert sizes == {0, 1, 2, 3}


def test_a_failed_sync_is_an_error_after_the_write() -> None:
    """The bytes are there and yet not durable, which only the error says."""
    disk = a_disk(fault=at(OPEN + 2, OSError(errno.EIO, "sync")))
    with pytest.raises(OSError, match="sync"):
        run_virtual(appended, disk, FILE, b"abc")
    assert disk.read(FILE) == b"abc"


def test_a_kill_in_a_quick_operation_happens_before_it() -> None:
    """What dies in a truncate has not truncated."""
    disk = a_disk(b"abc", fault=at(MADE + 1, Kill("now")))

    async def main() -> None:
        disk.truncate(FILE, 0)

    with pytest.raises(Kill, match="now"):
        run_virtual(main)
    assert disk.survivor().read(FILE) == b"abc"


def test_locks_end_with_their_process_and_not_before() -> None:
    """Another process is refused and told who holds it; the next life of a dead one is not."""
    disk = a_disk()
    disk.lock(RUN / "lock", "process 1")
    other = disk.beside()
    with pytest.raises(LockHeld, match="process 1"):
        other.lock(RUN / "lock", "process 2")
    other.survivor()
    with pytest.raises(LockHeld, match="process 1"):
        disk.beside().lock(RUN / "lock", "process 3")
    disk.survivor().lock(RUN / "lock", "process 4")


def test_a_dead_process_touches_nothing() -> None:
    """Whoever still holds the old disk, or an appender of it, dies at its next use."""
    disk = a_disk(b"abc")
    appender = disk.appender(FILE)
    survivor = disk.survivor()
    with pytest.raises(Kill, match="dead"):
        disk.remove(FILE)
    with pytest.raises(Kill, match="dead"):
        run_virtual(appender.append, b"late")
    assert survivor.read(FILE) == b"abc"


def test_operations_are_numbered_through_all_lives() -> None:
    """A sweep can name each point at which a run touched the disk."""
    disk = a_disk()
    run_virtual(appended, disk, FILE, b"x")
    next_life = disk.survivor()
    run_virtual(next_life.replace, FILE, b"y")
    next_life.read(FILE)
    names = [
        "make_dirs",
        "sync_dir",
        "appender",
        "sync_file",
        "sync_dir",
        "write",
        "sync",
        "temporary",
        "rename",
        "read",
    ]
    assert [(o.number, o.name) for o in next_life.operations] == list(enumerate(names, 1))
    assert [o.own for o in next_life.operations] == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]
    assert [o.changes for o in next_life.operations] == [True] * 9 + [False]


def test_syncs_take_time_from_the_seed() -> None:
    """The delay is the loop's, between the bounds, and the same for the same seed."""

    async def timed(disk: MemoryDisk) -> float:
        await appended(disk, FILE, b"x")
        return anyio.current_time()

    def took(seed: int) -> float:
        return run_virtual(timed, a_disk(random=Random(seed), sync_seconds=(1.0, 2.0)))

    assert took(1) == took(1) != took(2)
    assert all(1.0 <= took(seed) < 2.01 for seed in range(5))
    assert run_virtual(timed, a_disk(sync_seconds=(0.0, 0.0))) < 0.001


def test_an_append_is_cancelled_before_it_begins_or_not_at_all() -> None:
    """Whoever awaits an append knows whether the bytes are down."""
    disk = a_disk(sync_seconds=(10.0, 10.0))

    async def main() -> None:
        appender = disk.appender(FILE)
        with anyio.move_on_after(1):
            await appender.append(b"whole")
        assert anyio.current_time() > 10
        with anyio.CancelScope() as scope:
            scope.cancel()
            await appender.append(b"never")

    run_virtual(main)
    assert disk.read(FILE) == b"whole"


@pytest.mark.parametrize("wrong", ["two at once", "closed"])
def test_misuse_of_an_appender_is_found(wrong: str) -> None:
    """Two appends at once, and one after `close`, are errors of the program."""
    disk = a_disk()

    async def main() -> None:
        appender = disk.appender(FILE)
        if wrong == "closed":
            appender.close()
            await appender.append(b"x")
            return
        async with anyio.create_task_group() as group:
            group.start_soon(appender.append, b"x")
            group.start_soon(appender.append, b"y")

    with pytest.raises((AssertionError, ExceptionGroup)):
        run_virtual(main)


def test_a_fault_can_be_chosen_by_what_is_done() -> None:
    """A hook sees the name and the path of each operation."""

    def no_locks_here(operation: Operation) -> None:
        if operation.name == "lock" and operation.path.name == "lock":
            raise PermissionError(errno.EACCES, "no")

    disk = MemoryDisk(fault=no_locks_here)
    disk.make_dirs(RUN)
    with pytest.raises(PermissionError):
        disk.lock(RUN / "lock", "x")
    disk.lock(RUN / "other", "x")


def test_faults_can_be_put_at_the_operations_of_one_process() -> None:
    """`own` counts from the beginning of a life, whatever others do meanwhile."""
    disk = a_disk(b"x")
    second = disk.beside(at(2, OSError(errno.EIO, "mine"), own=True))
    third = disk.beside(planned({2: "EIO"}, own=True))
    for other in (disk, second, third):
        other.read(FILE)
        disk.read(FILE)
    with pytest.raises(OSError, match="mine"):
        second.read(FILE)
    with pytest.raises(OSError, match="Input/output"):
        third.read(FILE)
    assert third.read(FILE) == b"x"


# --- it asks for what the real disk asks for -------------------------------------------------------------------------


def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is asked of the operating system from now on and done by it, in the names of `Operation`."""
    calls: list[tuple[str, Path]] = []
    opened: dict[int, tuple[Path, int]] = {}
    written: set[int] = set()

    def tell(name: str, result: Any, first: Any, second: Any = None) -> str | None:
        if name == "open":
            opened[result] = Path(first), second
            written.discard(result)
            return "appender" if second & os.O_APPEND else "lock" if second & os.O_RDWR else None
        if name in ("mkdir", "unlink", "replace"):
            return {"mkdir": "make_dirs", "unlink": "remove", "replace": "rename"}[name]
        path, flags = opened[first]
        if name == "write":
            written.add(first)
            return "temporary" if path.suffix == ".tmp" else "write"
        if name == "pwrite":
            return "holder"
        if name == "ftruncate":
            return None if flags & os.O_RDWR else "truncate"
        return (
            "sync_dir"
            if flags & os.O_DIRECTORY
            else "sync"
            if first in written and path.suffix != ".tmp"
            else "sync_file"
        )

    def trace(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(first: Any, *rest: Any, **options: Any) -> Any:
            result = real(first, *rest, **options)
            what = tell(name, result, first, *rest[:1])
            if what is not None:
                path = rest[0] if name == "replace" else opened[first][0] if isinstance(first, int) else first
                calls.append((what, untimed(Path(path))))
            return result

        monkeypatch.setattr(module, name, call)

    for name in ("open", "mkdir", "unlink", "replace", "write", "pwrite", "ftruncate", "fsync", "fdatasync"):
        if hasattr(os, name):  # macOS has no fdatasync
            trace(os, name)
    if hasattr(fcntl, "F_FULLFSYNC"):
        trace(fcntl, "fcntl")
    return calls


def untimed(path: Path) -> Path:
    """A path without what makes the name of a temporary file its process's own."""
    return path.with_name(re.sub(r"\.[0-9-]+\.tmp$", ".tmp", path.name))


async def changing(disk: Disk, root: Path) -> None:
    """All that a process can change on a disk."""
    folder = root / "a" / "b"
    disk.make_dirs(folder)
    disk.make_dirs(folder)  # it is empty still: its name may not be durable yet
    await appended(disk, folder / "f", b"one", b"two")
    await appended(disk, folder / "f", b"three")
    disk.make_dirs(folder)
    disk.truncate(folder / "f", 0)
    await appended(disk, folder / "f", b"again")
    await disk.replace(folder / "g", b"durable", durable=True)
    await disk.replace(folder / "g", b"quick")
    await disk.replace(root / "c" / "d" / "g", b"quick")
    await disk.replace(root / "e" / "g", b"durable", durable=True)
    lock = disk.lock(folder / "lock", "me")
    with pytest.raises(LockHeld):
        disk.lock(folder / "lock", "you")
    lock.release()
    disk.remove(folder / "f")


def test_it_asks_for_what_the_real_disk_asks_the_system_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write, sync and name, in the same order: what the model says of durability holds for the real thing."""
    memory, root = MemoryDisk(), tmp_path / "root"
    memory.put(root / "beside", b"")
    run_virtual(changing, memory, root)
    made: set[Path] = set()
    simulated = []
    for operation in memory.operations:
        if operation.name == "make_dirs" and operation.path in made:
            continue  # nothing to do for the real one
        made.add(operation.path)
        if operation.changes:
            simulated.append((operation.name, untimed(operation.path)))
    root.mkdir()
    (root / "beside").touch()
    with monkeypatch.context() as patches:
        calls = traced(patches)
        anyio.run(changing, RealDisk(), root)
    assert calls == simulated
    assert len({name for name, _ in calls}) == 12


@pytest.mark.parametrize("failing", ["pwrite", "ftruncate"])
def test_a_lock_whose_holder_cannot_be_written_is_free_again(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both disks: a full disk must not leave a lock that nobody can release."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    real = RealDisk()
    with monkeypatch.context() as patches:
        patches.setattr(os, failing, full)
        with pytest.raises(OSError, match="full"):
            real.lock(tmp_path / "lock", "me")
    real.lock(tmp_path / "lock", "me").release()
    memory = a_disk(fault=at(MADE + 2, OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        memory.lock(RUN / "lock", "me")
    memory.beside().lock(RUN / "lock", "me")


def test_an_appender_that_cannot_be_made_durable_leaves_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tries again and again does not run out of descriptors."""
    closed: list[int] = []
    close = os.close

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    def closing(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", broken)
        patches.setattr(os, "close", closing)
        with pytest.raises(OSError, match="broken"):
            RealDisk().appender(tmp_path / "f")
    assert len(closed) == 1


def test_an_empty_folder_where_we_may_not_look_round_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has made it for us: that its name cannot be synced is no reason not to begin."""
    opened, given = os.open, tmp_path / "given"
    given.mkdir()

    def guarded(path: Path, flags: int, *mode: int) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "no")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    RealDisk().make_dirs(given)
    RealDisk().make_dirs(given / "ours")
    assert (given / "ours").is_dir()


# --- what is durable, and what is left when the power goes -----------------------------------------------------------


def lives(seeds: int, what: Callable[[MemoryDisk], None], look: Callable[[MemoryDisk], T]) -> list[T]:
    """What is seen after the same life and a loss of power, for many draws of what that leaves."""
    seen = []
    for seed in range(seeds):
        disk = MemoryDisk(random=Random(seed), sync_seconds=(0, 0))
        disk.make_dirs(RUN)
        what(disk)
        seen.append(look(disk.after_power_loss()))
    return seen


def content(disk: MemoryDisk) -> bytes | None:
    return disk.files.get(FILE)


def test_what_the_seam_calls_durable_outlives_the_power() -> None:
    """Folders, appended bytes, cuts and durable replacements are there whatever is drawn."""

    async def life(disk: MemoryDisk) -> None:
        disk.make_dirs(RUN / "a" / "b")
        await appended(disk, RUN / "a" / "b" / "f", b"one", b"two")
        disk.truncate(RUN / "a" / "b" / "f", 4)
        await disk.replace(FILE, b"old", durable=True)
        await disk.replace(FILE, b"new", durable=True)
        assert (disk.durable(RUN / "a" / "b" / "f"), disk.durable(FILE)) == (4, 3)

    def look(disk: MemoryDisk) -> object:
        return disk.files, disk.exists(RUN / "a" / "b")

    seen = lives(40, lambda disk: run_virtual(life, disk), look)
    assert seen == [({FILE: b"new", RUN / "a" / "b" / "f": b"onet"}, True)] * 40


@given(st.binary(max_size=40), st.binary(max_size=2000), st.integers())
def test_of_what_was_not_synced_a_prefix_is_left_whose_last_bytes_may_be_spoiled(
    synced: bytes, rest: bytes, seed: int
) -> None:
    """Nothing before the last sync changes, nothing is added, and at most the last 512 bytes are not as written."""
    disk = a_disk(random=Random(seed), sync_seconds=(0, 0))
    run_virtual(appended, disk, FILE, synced)
    disk.fault = planned({len(disk.operations) + 2: "power"})
    with pytest.raises(PowerLoss):
        run_virtual(appended, disk, FILE, rest)
    left = disk.survivor().read(FILE)
    assert left.startswith(synced) and len(left) <= len(synced) + len(rest)
    sound = max(len(synced), len(left) - 512)
    assert (synced + rest).startswith(left[:sound])


@pytest.mark.parametrize("number", [OPEN + 1, OPEN + 2])
def test_all_that_a_lost_tail_can_look_like_turns_up(number: int) -> None:
    """Nothing, all, a part; as it was written, zeros at its end, or noise; in the write as before its sync."""

    def looks(left: bytes) -> str:
        if not left or left == b"x" * 600:
            return "all" if left else "nothing"
        sound = left.rstrip(b"\0")
        return "part" if left == b"x" * len(left) else "zeros" if sound == b"x" * len(sound) else "noise"

    seen = set()
    for seed in range(80):
        disk = a_disk(random=Random(seed), fault=planned({number: "power"}))
        with pytest.raises(PowerLoss):
            run_virtual(appended, disk, FILE, b"x" * 600)
        seen.add(looks(disk.files[FILE]))
    assert seen == {"nothing", "all", "part", "zeros", "noise"}


def test_a_replacement_that_was_not_synced_is_done_or_not_or_done_with_less_in_it() -> None:
    """And its temporary file may be there as well: a rename is a change of the folder, not of the file."""

    async def life(disk: MemoryDisk) -> None:
        await disk.replace(FILE, b"old", durable=True)
        await disk.replace(FILE, b"new content")
        assert disk.durable(FILE) == 0

    def look(disk: MemoryDisk) -> tuple[bytes | None, int]:
        return content(disk), len(disk.listdir(RUN))

    seen = lives(200, lambda disk: run_virtual(life, disk), look)
    whole = {(b"old", 1), (b"old", 2), (b"", 1), (b"new content", 1)}
    assert whole <= set(seen)
    assert any(left not in (b"old", b"", b"new content") for left, _ in seen)


def test_a_removed_file_may_be_back_and_a_new_one_missing() -> None:
    """What was done to names alone is there or is not, each by itself."""

    def life(disk: MemoryDisk) -> None:
        disk.put(FILE, b"x")
        disk.remove(FILE)
        disk.lock(RUN / "lock", "me")

    seen = lives(60, life, lambda disk: tuple(disk.listdir(RUN)))
    assert set(seen) == {(), ("journal",), ("lock",), ("journal", "lock")}


def test_a_folder_whose_name_was_not_synced_may_be_missing_with_all_that_is_in_it() -> None:
    """However durable its files are: whoever goes on after an error has been told."""
    seen = set()
    for seed in range(20):
        disk = MemoryDisk(random=Random(seed), fault=planned({2: "EIO"}), sync_seconds=(0, 0))
        with pytest.raises(OSError, match="Input/output"):
            disk.make_dirs(RUN)
        run_virtual(appended, disk, FILE, b"x")
        assert disk.durable(FILE) == 0
        disk = disk.after_power_loss()
        seen.add((disk.exists(RUN), disk.files.get(FILE)))
    assert seen == {(True, b"x"), (False, None)}


def test_what_is_planted_is_durable_whatever_came_before_it() -> None:
    """A file from outside is history, not something that this process has yet to sync."""

    def life(disk: MemoryDisk) -> None:
        run_virtual(disk.replace, FILE, b"replaced")
        disk.put(FILE, b"planted")
        run_virtual(appended, disk, RUN / "another", b"x")

    assert lives(20, life, content) == [b"planted"] * 20


def test_a_cut_that_was_not_synced_may_be_undone() -> None:
    """When the power goes between the cut and its sync, the file is short or as long as it was."""
    seen = set()
    for seed in range(20):
        disk = a_disk(b"abcdef", random=Random(seed), fault=planned({MADE + 2: "power"}))
        with pytest.raises(PowerLoss):
            disk.truncate(FILE, 2)
        seen.add(disk.files[FILE])
    assert seen == {b"abcdef", b"ab"}


@pytest.mark.parametrize("number", range(1, OPEN + 3))
def test_a_file_whose_maker_died_is_made_durable_by_whoever_appends_to_it(number: int) -> None:
    """The next life finds a folder or an empty file and cannot know that its name was never synced."""
    for seed in range(20):
        disk = MemoryDisk(random=Random(seed), fault=at(number, Kill("now")), sync_seconds=(0, 0))

        async def life(disk: MemoryDisk) -> None:
            disk.make_dirs(RUN)
            await appended(disk, FILE, b"x")

        with pytest.raises(Kill):
            run_virtual(life, disk)
        disk = disk.survivor()
        run_virtual(life, disk)
        size = disk.size(FILE)
        assert disk.durable(FILE) == size
        disk = disk.after_power_loss()
        assert disk.size(FILE) == size


def test_all_that_ran_on_the_machine_is_dead_when_the_power_goes() -> None:
    """Other processes, their appenders and their locks; the next life finds what is left, and can have the locks."""
    disk = a_disk(b"x")
    other = disk.beside()
    other.lock(RUN / "lock", "other")
    survivor = disk.after_power_loss()
    for dead in (disk, other):
        with pytest.raises(Kill, match="dead"):
            dead.remove(FILE)
    assert survivor.files[FILE] == b"x"
    survivor.make_dirs(RUN)
    survivor.lock(RUN / "lock", "next")
    assert other.after_power_loss().locks == []


def test_a_loss_of_power_says_so() -> None:
    """Whoever ran the process can tell it from another death, and what is left is there to be seen at once."""
    disk = a_disk(fault=planned({OPEN + 2: "power"}), random=Random(2))
    with pytest.raises(PowerLoss):
        run_virtual(appended, disk, FILE, b"x" * 100)
    left = disk.files
    assert disk.survivor().files == left == disk.after_power_loss().files


def test_the_kernel_writes_names_by_itself_in_the_end() -> None:
    """A folder that is never synced does not keep all that was ever in it."""

    async def life(disk: MemoryDisk) -> None:
        for number in range(200):
            await disk.replace(FILE, b"%d" % number)

    seen = lives(20, lambda disk: run_virtual(life, disk), lambda disk: disk.listdir(RUN))
    left_over = [int(name.split(".")[2]) for names in seen for name in names if name != FILE.name]
    assert left_over and min(left_over) > 150


# --- troubles that stay, and what rots -------------------------------------------------------------------------------


def test_a_failed_sync_may_lose_what_later_syncs_seem_to_keep() -> None:
    """Half the time: the bytes are shown, a later sync succeeds, and they are not on the disk all the same."""
    lost = 0
    for seed in range(40):
        disk = a_disk(random=Random(seed), fault=planned({OPEN + 4: "EIO"}), sync_seconds=(0, 0))

        async def life(disk: MemoryDisk) -> None:
            appender = disk.appender(FILE)
            await appender.append(b"one")
            with pytest.raises(OSError, match="Input/output"):
                await appender.append(b"two")
            assert disk.durable(FILE) == 3
            await appender.append(b"three")

        run_virtual(life, disk)
        assert disk.read(FILE) == b"onetwothree"
        given_up = disk.durable(FILE) == 3
        assert disk.durable(FILE) == (3 if given_up else 11)
        disk = disk.after_power_loss()
        assert disk.read(FILE) == (b"one\0\0\0three" if given_up else b"onetwothree")
        lost += given_up
    assert 10 < lost < 30


def test_what_a_failed_sync_has_lost_at_the_end_of_a_file_is_not_there() -> None:
    """The size of a file is written with its bytes; and what is cut and written anew is kept."""
    shown = set()
    for seed in range(20):
        disk = a_disk(random=Random(seed), fault=planned({OPEN + 2: "EIO"}), sync_seconds=(0, 0))

        async def life(disk: MemoryDisk) -> None:
            appender = disk.appender(FILE)
            with pytest.raises(OSError, match="Input/output"):
                await appender.append(b"one")
            await appender.append(b"")

        run_virtual(life, disk)
        written_anew = seed % 2 == 0
        if written_anew:
            disk.truncate(FILE, 0)
            run_virtual(appended, disk, FILE, b"one")
        shown.add((written_anew, disk.after_power_loss().files[FILE]))
    assert shown == {(True, b"one"), (False, b""), (False, b"one")}


@pytest.mark.parametrize("kind", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_stays_full_until_something_is_freed(kind: Trouble) -> None:
    """Whatever is written fails with the same error; what is removed, cut or replaced makes as much room."""
    disk = a_disk(fault=planned({OPEN + 1: kind}), sync_seconds=(0, 0))
    disk.put(RUN / "spare", bytes(10))
    number = getattr(errno, kind)

    async def fails(what: Callable[[], Any]) -> None:
        with pytest.raises(OSError) as failed:
            await what()
        assert failed.value.errno == number

    async def life(disk: MemoryDisk) -> None:
        appender = disk.appender(FILE)
        await fails(lambda: appender.append(b"123456"))
        written = disk.size(FILE)
        await fails(lambda: appender.append(b"1"))
        await fails(lambda: disk.replace(RUN / "view", b"1"))
        with pytest.raises(OSError):
            disk.lock(RUN / "lock", "me")
        assert disk.size(FILE) == written and disk.room == 0
        disk.remove(RUN / "spare")
        assert disk.room == 10
        await appender.append(b"12345678")
        await fails(lambda: appender.append(b"123"))
        assert disk.size(FILE) == written + 10
        disk.truncate(FILE, written + 4)
        await disk.replace(RUN / "view", b"123456")
        await fails(lambda: disk.replace(RUN / "view", b"1"))  # for a while both are there
        assert disk.files[RUN / "view"] == b"123456"
        disk.truncate(FILE, 0)
        await disk.replace(RUN / "view", b"1234")
        assert disk.room == written + 6

    run_virtual(life, disk)
    disk = disk.survivor()
    assert disk.room is not None
    disk.room = None
    run_virtual(appended, disk, FILE, bytes(1000))


def test_a_disk_that_turns_read_only_stays_so_until_the_next_life() -> None:
    """Nothing can be changed, everything can be read."""
    disk = a_disk(b"x", fault=planned({MADE + 1: "EROFS"}))
    other = disk.beside()

    async def life() -> None:
        for one in (disk, other):
            with pytest.raises(OSError, match="Read-only"):
                await one.replace(FILE, b"y")
            with pytest.raises(OSError, match="Read-only"):
                one.remove(FILE)
            assert one.read(FILE) == b"x"

    run_virtual(life)
    assert disk.files == {FILE: b"x"}
    disk.survivor().remove(FILE)


def test_what_goes_with_the_power_makes_room() -> None:
    """A full disk has as much more as was lost of the tails."""
    rooms = set()
    for seed in range(20):
        disk = a_disk(random=Random(seed), fault=planned({OPEN + 2: "power"}), sync_seconds=(0, 0))
        disk.room = 5
        with pytest.raises(PowerLoss):
            run_virtual(appended, disk, FILE, b"12345")
        assert disk.room == 5 - disk.size(FILE)
        rooms.add(disk.room)
    assert len(rooms) > 2


def test_a_torn_write_leaves_a_part_of_it() -> None:
    """Not nothing and not all, which a kill may leave as well."""
    sizes = set()
    for seed in range(40):
        disk = a_disk(random=Random(seed), fault=planned({OPEN + 1: "torn"}))
        with pytest.raises(Kill):
            run_virtual(appended, disk, FILE, b"abcd")
        sizes.add(disk.size(FILE))
    assert sizes == {1, 2, 3}


def test_one_bit_rots() -> None:
    """Of what is on the disk, anywhere or at a given byte; and the power does not bring it back."""
    disk = a_disk(sync_seconds=(0, 0), fault=planned({OPEN + 4: "EIO"}))
    with pytest.raises(OSError):
        run_virtual(appended, disk, FILE, b"synced", b"not synced")
    places = {disk.rot(FILE) for _ in range(100)}
    assert places == set(range(6))
    disk = a_disk(b"abc")
    assert disk.rot(FILE, 1) == 1
    left = disk.after_power_loss().files[FILE]
    assert (left[:1], left[2:]) == (b"a", b"c")
    assert (left[1] ^ ord("b")).bit_count() == 1


def test_some_syncs_are_slow() -> None:
    """The share that is asked for takes up to two seconds, the others as long as ever."""

    async def timed(disk: MemoryDisk) -> list[float]:
        appender, took = disk.appender(FILE), []
        for _ in range(200):
            began = anyio.current_time()
            await appender.append(b"x")
            took.append(anyio.current_time() - began)
        return took

    took = run_virtual(timed, a_disk(slow_syncs=0.2).survivor())
    slow = [seconds for seconds in took if seconds > 0.021]
    assert 20 < len(slow) < 60 and 1.5 < max(slow) <= 2.001


def test_every_kind_of_trouble_is_what_its_name_says() -> None:
    """Deaths are deaths, errors have their numbers; the power takes all, the others one process."""
    kinds: list[Trouble] = ["kill", "torn", "power"]
    assert [isinstance(trouble(kind), PowerLoss) for kind in kinds] == [False, False, True]
    assert all(isinstance(trouble(kind), Kill) for kind in kinds)
    errors: list[Trouble] = ["ENOSPC", "EDQUOT", "EIO", "EROFS"]
    for kind in errors:
        error = trouble(kind)
        assert isinstance(error, OSError) and errno.errorcode[error.errno or 0] == kind


def test_the_locks_of_a_process_are_known_and_free_at_its_death() -> None:
    """Nobody has to come and look: another process can have them at once."""
    disk = a_disk(fault=at(MADE + 4, Kill("now")))
    other = disk.beside()
    lock = disk.lock(RUN / "lock", "me")
    assert disk.locks == [RUN / "lock"] and other.locks == []
    disk.read(RUN / "lock")
    with pytest.raises(Kill):
        disk.read(RUN / "lock")
    assert other.lock(RUN / "lock", "you") and disk.locks == []
    lock.release()
    assert other.locks == [RUN / "lock"]
