"""How an answer's body is parted: server-sent events, or one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Frames(Protocol):
    """Splits a stream into the data of its events, however it is cut into pieces."""

    pending: int
    """Bytes of the event that has begun and not ended."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes."""
        ...

    def end(self) -> Iterator[bytes]:
        """The data that stood before the end without what should close it."""
        ...


class ServerSentEvents:
    """Splits a stream into the data of its events, whatever its line ends, and however it is cut into pieces."""

    def __init__(self) -> None:
        # Not lists: whoever sends byte by byte would make us hold each byte as an object of its own.
        self._rest = bytearray()
        self._data: bytearray | None = None
        self._after_return = False
        self.pending = 0
        """Bytes of the event that has begun and not ended."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes; comments and other fields are passed over."""
        if not piece:
            return
        if self.pending == 0 and self._data is None and not self._after_return and _is_plain(piece):
            for said in piece[:-2].split(b"\n\n"):
                yield said[6:]
            return
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        first, *more = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest += first
        self.pending += len(first)
        for begun in more:
            yield from self._end_line(begun)

    def end(self) -> Iterator[bytes]:
        """The data that stood before the end without the blank line that should close it."""
        yield from self._end_line(b"")
        yield from self._end_line(b"")

    def _end_line(self, next_line: bytes) -> Iterator[bytes]:
        line, self._rest = bytes(self._rest), bytearray(next_line)
        self.pending += len(next_line)
        if line.startswith(b"data:"):
            said = line[6:] if line[5:6] == b" " else line[5:]
            if self._data is None:
                self._data = bytearray(said)
            else:
                self._data += b"\n" + said
            return
        self.pending -= len(line)
        if not line and self._data is not None:
            data, self._data, self.pending = bytes(self._data), None, len(next_line)
            yield data


def _is_plain(piece: bytes) -> bool:
    """True for whole events of one line of data each and nothing else, as nearly all pieces are."""
    events = piece.startswith(b"data: ") + piece.count(b"\n\ndata: ")
    return piece.endswith(b"\n\n") and piece.count(b"\n") == 2 * events and b"\r" not in piece


class JsonLines:
    """Splits a stream into its lines; blank ones are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.pending = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        first, *more = piece.split(b"\n")
        self._rest += first
        self.pending += len(first)
        for begun in more:
            yield from self._end_line(begun)

    def end(self) -> Iterator[bytes]:
        yield from self._end_line(b"")

    def _end_line(self, next_line: bytes) -> Iterator[bytes]:
        line, self._rest, self.pending = bytes(self._rest), bytearray(next_line), len(next_line)
        if line.strip():
            yield line
