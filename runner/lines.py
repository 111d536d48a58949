"""Files that only grow, of checksummed lines: the journal of a run, and the ledger of all of them.

A line is one JSON object; its last field is a CRC-32 of everything before it, compared as it is written, byte for byte.
Whoever appends syncs before anybody relies on it, so that only the end of a file can be torn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from runner.world import Disk

_READ_BYTES: Final = 256 * 1024
"""So much at once that what is made of it is still at hand for the processor when it is looked at."""
_TAIL: Final = b',"crc":"%08x"}'
_TAIL_BYTES: Final = len(_TAIL % 0)


class StorageError(Exception):
    """The disk would not keep what was written; nothing more may be granted."""


class Damaged(Exception):
    """Lines that had been synced cannot be read; the money behind them is unknown."""

    def __init__(self, path: Path, offset: int, seq: int) -> None:
        self.what = f"damaged at byte {offset:,}" + (f" (record {seq:,})" if seq else "")
        super().__init__(f"{path}: {self.what}")
        self.path = path
        self.offset = offset
        self.seq = seq


class TooNew(Exception):
    """Written by a later version of the format."""


def storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror or error}")


def seal(data: Mapping[str, Any]) -> bytes:
    """One line with its checksum and its end."""
    body = _dumped(data)[:-1]
    return body + _TAIL % crc32(body) + b"\n"


def unseal(line: bytes) -> dict[str, Any] | None:
    """What a line without its end says, None when it is not whole; ValueError when it is, but is no object."""
    # Compared as written, not as a number: one number has many spellings, and here each byte counts.
    if not line.endswith(_TAIL % crc32(line[:-_TAIL_BYTES])):
        return None
    found = orjson.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


class Lines(NamedTuple):
    """Lines of a file that follow each other, without their ends."""

    offset: int
    lines: Sequence[bytes]
    ended: bool
    """False of the one after which the file is cut off."""


def pieces(disk: Disk, path: Path, start: int = 0) -> Iterator[Lines]:
    """Every line of a file from `start`, as many at once as come with one read."""
    offset, rest, size = start, b"", disk.size(path)
    while start < size:
        piece = disk.read(path, start, _READ_BYTES)
        if not piece:
            break
        start += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        yield Lines(offset, whole, True)
        offset = start - len(rest)
    if rest:
        yield Lines(offset, [rest], False)


def split(disk: Disk, path: Path, start: int = 0) -> Iterator[tuple[int, bytes, bool]]:
    """Every line of a file from `start` as (offset, line without its end, whether it had one)."""
    for offset, lines, ended in pieces(disk, path, start):
        for line in lines:
            yield offset, line, ended
            offset += len(line) + 1


async def cut(disk: Disk, path: Path, end: int) -> str:
    """Set the torn end of a file aside and cut it off; the name of the file where it is."""
    for litter in disk.listdir(path.parent):
        if litter.startswith(f".{path.stem}.torn") and litter.endswith(".tmp"):
            disk.remove(path.with_name(litter))  # whoever was about to do the same has died
    name = free_name(disk, path.parent, f"{path.stem}.torn")
    try:
        await disk.replace(path.with_name(name), disk.read(path, end), durable=True)
    except OSError as error:
        # With no room for a copy the cut still has to be made: the lines in it were never relied upon.
        name = f"nowhere ({error.strerror})"
    disk.truncate(path, end)
    return name


def free_name(disk: Disk, folder: Path, stem: str) -> str:
    """The first of `stem-1`, `stem-2`, ... that is no file yet."""
    taken = set(disk.listdir(folder))
    return next(name for n in count(1) if (name := f"{stem}-{n}") not in taken)


def _dumped(data: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        # What has cost money is written down whatever is in it: half a surrogate pair as a question mark, a number of
        # any length.
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
