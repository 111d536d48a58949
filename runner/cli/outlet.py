"""Where a long command writes: to somebody who may be slow, or gone. Writing there never waits and never fails."""

from __future__ import annotations

import io
import json
import os
import select
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Literal

_MOST_PIECES: Final = 10_000
"""What somebody who does not read for a long time finds in the end: the last of it."""


class Outlet(io.StringIO):
    """One of our two streams. When nobody is at its other end any more, all further text is dropped."""

    def __init__(self, name: Literal["stdout", "stderr"], most: int | None = _MOST_PIECES) -> None:
        super().__init__()
        self._name = name
        self._stream = getattr(sys, name)  # None when it was closed before we began
        self._pieces: deque[str] = deque(maxlen=most)

    def write(self, text: str, /) -> int:
        if self._stream is not None:
            self._pieces.append(text)
        return len(text)

    def flush(self) -> None:
        while self._pieces and self.is_free():
            self._put(self._pieces.popleft())

    def close(self) -> None:
        """Write what is left, however long it takes."""
        while self._pieces:
            self._put(self._pieces.popleft())
        super().close()

    def is_free(self) -> bool:
        """True when writing would not wait."""
        if self._stream is None:
            return False
        try:
            return bool(select.select([], [self._stream.fileno()], [], 0)[1])
        except (OSError, ValueError):
            return True  # no file behind it; or none any more, and writing will tell

    def isatty(self) -> bool:
        return self._stream is not None and bool(self._stream.isatty())

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Whoever else writes there, until and at exit, must not meet the same end, and take our exit code with it.
            setattr(sys, self._name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            self._stream = None
            self._pieces.clear()


class JsonLines:
    """Answers for programs on stdout: one object a line, and exactly one `end`, whatever happens."""

    def __init__(self) -> None:
        self._outlet = Outlet("stdout", None)
        self._ended = False

    def __call__(self, data: Mapping[str, Any]) -> None:
        self._outlet.write(json.dumps(data) + "\n")
        self._outlet.flush()
        if data["event"] == "end":
            self._ended = True
            self._outlet.close()

    def broke(self, error: BaseException) -> None:
        """The night could not begin, or broke off by a bug."""
        if self._ended:
            return
        from runner.cli.door import failure_of
        from runner.progress import end_data

        code, lines = failure_of(error)
        self(end_data(code, False, [], [], lines))
