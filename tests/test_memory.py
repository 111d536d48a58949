"""The disk in memory keeps the promises of the real one, and breaks them on demand."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from pathlib import Path
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.world import Disk, LockHeld, RealDisk
from tests.memory import MemoryDisk, Operation, at
from tests.virtual import Kill, run_virtual

RUN = Path("/run")
FILE = RUN / "journal"


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
    attempt(lambda: disk.make_dirs(file))
    attempt(lambda: disk.make_dirs(file / "under"))
    attempt(lambda: disk.exists(folder) and disk.exists(file) and not disk.exists(root / "z"))
    attempt(lambda: disk.listdir(file))
    try:
        await disk.replace(folder, b"onto a folder")
    except OSError:
        seen.append(disk.listdir(folder))
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
    number = data.draw(st.integers(3, 2 + 2 * len(pieces)))  # after make_dirs and appender, two for each piece
    disk = a_disk(random=Random(number), fault=at(number, Kill("now")))
    with pytest.raises(Kill, match="now"):
        run_virtual(appended, disk, FILE, *pieces)
    done, in_sync = divmod(number - 3, 2)
    left = disk.survivor().read(FILE)
    durable = b"".join(pieces[: done + in_sync])
    assert left.startswith(durable)
    assert b"".join(pieces).startswith(left)
    assert len(left) <= len(b"".join(pieces[: done + 1]))


@pytest.mark.parametrize("number", [3, 4, 5, 6])
def test_a_kill_while_somebody_waits_for_the_disk_runs_none_of_their_code(number: int) -> None:
    """Neither the one who wrote nor the one who stands by gets as far as a `finally`: as with `kill -9`."""
    disk = a_disk(fault=at(number, Kill("now")))
    after: list[str] = []

    async def write(name: str) -> None:
        try:
            await (appended(disk, FILE, b"x") if name == "append" else disk.replace(RUN / "view", b"x"))
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
    assert {operation.name for operation in disk.operations[2:]} <= {"write", "sync", "temporary", "rename"}
    assert after == []


def test_all_prefixes_of_a_torn_write_turn_up() -> None:
    """The cut is drawn: nothing, something and everything of the write in progress."""
    lengths = set()
    for seed in range(60):
        disk = a_disk(random=Random(seed), fault=at(3, Kill("torn")))
        with pytest.raises(Kill):
            run_virtual(appended, disk, FILE, b"abcd")
        lengths.add(disk.survivor().size(FILE))
    assert lengths == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("number", [2, 3])
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


@pytest.mark.parametrize("number", [2, 3])
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
        disk = a_disk(random=Random(seed), fault=at(3, OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            run_virtual(appended, disk, FILE, b"abc")
        sizes.add(disk.size(FILE))
    assert sizes == {0, 1, 2, 3}


def test_a_failed_sync_is_an_error_after_the_write() -> None:
    """The bytes are there and yet not durable, which only the error says."""
    disk = a_disk(fault=at(4, OSError(errno.EIO, "sync")))
    with pytest.raises(OSError, match="sync"):
        run_virtual(appended, disk, FILE, b"abc")
    assert disk.read(FILE) == b"abc"


def test_a_kill_in_a_quick_operation_happens_before_it() -> None:
    """What dies in a truncate has not truncated."""
    disk = a_disk(b"abc", fault=at(2, Kill("now")))

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
    names = ["make_dirs", "appender", "write", "sync", "temporary", "rename", "read"]
    assert [(o.number, o.name) for o in next_life.operations] == list(enumerate(names, 1))
    assert [o.changes for o in next_life.operations] == [True] * 6 + [False]


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
