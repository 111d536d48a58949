"""The files of a run, written: a transcript as each conversation ends, the rest now and then and at the end.

What has not changed since this process has written it is not made again: transcripts stay as they are, and the lines of
`conversations.jsonl` are copied from the file that is there. What an earlier one wrote is not relied upon: no view is
ever synced, and a loss of power may have taken a part of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

import anyio.lowlevel
import orjson

from runner.conversation import Transcript
from runner.limits import Lane
from runner.outputs import CONVERSATIONS, INDEX, LINES, STATUS, Reading
from runner.plan import Cell
from runner.render import DEFAULT, STYLES, StyleError, summary
from runner.state import Place
from runner.world import Clock

_MOST_READY_BYTES: Final = 32 * 1024 * 1024
"""So much of lines that are still to be put down is held."""
_PIECE_BYTES: Final = 1024 * 1024
"""So much of a large view is put down at once, and so much of transcripts."""
_BREATH_BYTES: Final = 32 * 1024
"""After so much of lines that were made everybody else may go on."""
_BREATH_ROWS: Final = 256
"""After so many rows of the index, too."""
_PASSES: Final = 4
"""So often it is gone through them beforehand."""


class Views:
    """Writes the files of one run: a transcript as each conversation ends, the rest now and then and at the end."""

    def __init__(self, reading: Reading, clock: Clock) -> None:
        self.reading = reading
        self.disk = reading.disk
        self._clock = clock
        self.style_trouble: str | None = None
        """What went wrong first in a style of the user's own; what it could not show is shown in the usual one."""
        self._trouble: OSError | None = None
        """What went wrong first with a transcript of those that are written one after another."""
        self.written = 0
        """How many transcripts were written."""
        self._tried: set[str] = set()
        self._changed = reading.state.follow()
        self._transcripts: set[str] = set()
        """The conversations whose transcripts are as they would be written now."""
        self._lines: dict[str, Place] = {}
        """Where the lines stand in `conversations.jsonl` that are as they would be written now."""
        self._ready: dict[str, bytes] = {}
        """Lines of conversations that have ended and stand in no file yet, as long as there is room for them."""
        self._ready_bytes = 0
        self._rows: dict[str, summary.Row] = {}
        """Rows of the index that is to be written next, as they would be made now."""
        self._since: set[str] = set()
        """What has changed since the lines were begun to be written last."""

    def _follow(self) -> None:
        """Forget what was written of all that has changed since."""
        for id_ in self._changed:
            aside = None if id_ in self.reading.plan.by_id else self.reading.plan.aside(id_)
            of = id_ if aside is None else aside[0].id
            self._transcripts.discard(of)
            self._lines.pop(of, None)
            self._rows.pop(of, None)
            self._ready_bytes -= len(self._ready.pop(of, b""))
            self._since.add(of)
        self._changed.clear()

    async def conversation(self, cell: Cell) -> None:
        """The transcript of a conversation that has come to an end."""
        if not self._is_shown(cell):
            return
        self._follow()
        # Here it is at hand; read from the journal once more it would take as long as all the rest.
        transcript = self.reading.transcript(cell)
        if self._ready_bytes < _MOST_READY_BYTES and cell.id in self.reading.plan.by_id:
            line = self._ready[cell.id] = self.reading.line(cell, transcript)
            self._ready_bytes += len(line)
        text = self._shown(cell, transcript).encode()
        self._transcripts.add(cell.id)  # before it is written: what changes meanwhile takes it out again
        try:
            await self._put(str(self.reading.file(cell)), text)
        except BaseException:
            self._transcripts.discard(cell.id)
            raise
        self.written += 1

    def _is_shown(self, cell: Cell) -> bool:
        """True for a conversation that has begun, and is shown in a style that is known here."""
        return self.reading.state.of(cell.id).started is not None and self.reading.style(cell) is not None

    def _shown(self, cell: Cell, transcript: Transcript | None = None) -> str:
        self._tried.add(cell.id)
        try:
            return self.reading.markdown(cell, transcript=transcript)
        except StyleError as error:
            self.style_trouble = self.style_trouble or str(error)
            return self.reading.markdown(cell, STYLES[DEFAULT], transcript)

    def find_trouble(self) -> str | None:
        """Why a style of the user's own cannot show some conversation, whichever life held it; None where all can."""
        prompts = self.reading.plan.job.prompts
        own = {name for name, prompt in prompts.items() if prompt.look.style not in STYLES}
        for cell in self.reading.written() if own else ():
            if cell.prompt in own and cell.id not in self._tried:
                self._shown(cell)
        return self.style_trouble

    async def status(
        self, records: int, lanes: tuple[Lane, ...] = (), now: float = 0.0, waits_for: str | None = None
    ) -> None:
        figures = self.reading.figures(records, lanes, now, waits_for)
        figures["heartbeat"] = round(self._clock.wall(), 3)
        await self._put(STATUS, orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")

    async def prepare(self) -> None:
        """Make the rows of the index beforehand, so that it takes but a moment to show how all of them stand in one."""
        for _ in range(_PASSES):  # each of them has to make again only what has changed during the one before
            self._follow()
            missing = [cell for cell in self.reading.plan.cells if cell.id not in self._rows]
            for number, cell in enumerate(missing, 1):
                self._rows[cell.id] = self.reading.row(cell)
                if number % _BREATH_ROWS == 0:
                    await anyio.lowlevel.checkpoint()

    async def night(self, records: int, transcripts: bool = False) -> None:
        """The index, and a line for each conversation; and on the way the transcripts that are still to be written."""
        places: dict[str, Place] = {}
        self._follow()
        self._since.clear()
        rows = (self._rows.get(cell.id) or self.reading.row(cell) for cell in self.reading.plan.cells)
        night = self.reading.night(records, rows)
        self._rows.clear()
        index: list[str] = []
        for piece in summary.pieces(night):
            index.append(piece)
            await anyio.lowlevel.checkpoint()
        # Closed here: a full disk leaves it in the middle, and what nobody closes ends some time after the night.
        async with aclosing(self._pieces(dict(self._lines), places, transcripts)) as pieces:
            await self.disk.replace(self.reading.folder / LINES, pieces)
        self._follow()
        self._lines = {id_: piece for id_, piece in places.items() if id_ not in self._since}
        self._ready.clear()
        self._ready_bytes = 0
        await self._put(INDEX, "".join(index).encode())

    async def _pieces(
        self, old: Mapping[str, Place], places: dict[str, Place], transcripts: bool
    ) -> AsyncGenerator[bytes, None]:
        """`conversations.jsonl` in plan order, as far as it has not changed from the old one.

        `places` is told where each line stands.
        """
        held, size, offset, made = [], 0, 0, 0
        texts: list[tuple[Cell, bytes]] = []
        copied = Place(0, 0)
        for cell in self.reading.plan.cells:
            piece = old.get(cell.id)
            follows = piece is not None and piece.offset == copied.offset + copied.size and copied.size <= _PIECE_BYTES
            if copied.size and not follows:
                held.append(self._copy(copied))
                copied = Place(0, 0)
            if piece is None:
                if transcripts and self._is_due(cell):
                    transcript = self.reading.transcript(cell)
                    line = self.reading.line(cell, transcript)
                    if self._is_shown(cell):
                        texts.append((cell, self._shown(cell, transcript).encode()))
                else:
                    line = self._ready.get(cell.id) or self.reading.line(cell)
                held.append(line)
                length = len(line)
                made += length
            else:
                length = piece.size
                copied = Place(copied.offset if copied.size else piece.offset, copied.size + length)
            places[cell.id] = Place(offset, length)
            offset, size = offset + length, size + length
            if size > _PIECE_BYTES:
                await self._put_together(texts)
                yield b"".join(held)
                held, texts, size = [], [], 0
            elif made > _BREATH_BYTES:
                made = 0
                await anyio.lowlevel.checkpoint()
        if copied.size:
            held.append(self._copy(copied))
        await self._put_together(texts)
        yield b"".join(held)

    async def _put_together(self, texts: list[tuple[Cell, bytes]]) -> None:
        """Put these transcripts down; one that cannot be written does not cost the others, and no older one stands on.

        What has changed since the lines were begun is due again.
        """
        if not texts:
            return
        paths = {self.reading.folder / self.reading.file_name(cell): cell for cell, _ in texts}
        troubles = await self.disk.replace_each(list(zip(paths, (text for _, text in texts), strict=True)))
        for path, error in troubles.items():
            self._failed(paths[path], error)
        self._follow()
        self._transcripts.update(
            cell.id for path, cell in paths.items() if path not in troubles and cell.id not in self._since
        )
        self.written += len(paths) - len(troubles)

    async def _tried_to_write(self, cell: Cell) -> None:
        """The same for one alone."""
        try:
            await self.conversation(cell)
        except OSError as error:
            self._failed(cell, error)

    def _failed(self, cell: Cell, error: OSError) -> None:
        self._trouble = self._trouble or error
        self._remove(self.reading.folder / self.reading.file(cell))

    def _copy(self, piece: Place) -> bytes:
        return self.disk.read(self.reading.folder / LINES, piece.offset, piece.size)

    async def all(self, records: int) -> None:
        """Every view, and none that belongs to no conversation any more; OSError when all but some are written."""
        kept: set[str] = set()
        self._trouble = None
        self._follow()
        for cell in self.reading.written():
            kept.add(self.reading.file_name(cell))
            # The others are written with their lines.
            if self._is_due(cell) and (cell.id in self._lines or cell.id not in self.reading.plan.by_id):
                await self._tried_to_write(cell)
        self._clear(lambda name: name not in kept)
        await self.night(records, transcripts=True)
        if self._trouble is not None:
            raise self._trouble
        await self.status(records)

    async def what_can_be(self, records: int) -> None:
        """After trouble with the disk: whatever there is room for; the rest tells of an earlier moment, and is removed.

        Without the status nobody could tell from the others that some are missing.
        """
        for cell in self.reading.written():
            if self._is_due(cell):
                await self._tried_to_write(cell)
        stale = [STATUS, LINES, INDEX]
        with suppress(OSError):
            await self.status(records)
            stale.remove(STATUS)
            await self.night(records)
            stale.clear()
        for name in stale:
            self._remove(self.reading.folder / name)

    async def none(self, records: int) -> None:
        """Nobody waits for them: the status says so, and what tells of an earlier moment of the run is removed."""
        stale = [STATUS, LINES, INDEX]
        with suppress(OSError):
            await self.status(records)
            stale.remove(STATUS)
        for name in stale:
            self._remove(self.reading.folder / name)

    def _remove(self, path: Path) -> None:
        with suppress(OSError):  # whatever keeps it from being removed, it has been told of
            self.disk.remove(path)

    def _is_due(self, cell: Cell) -> bool:
        """True when there is a transcript to be written."""
        return cell.id not in self._transcripts and self.reading.is_written(cell)

    def tidy(self) -> None:
        """Remove what a crash left half written among the transcripts."""
        self._clear(lambda name: name.rpartition("/")[2].startswith(".") and name.endswith(".tmp"))

    def _clear(self, is_litter: Callable[[str], bool]) -> None:
        """Remove those files of transcripts, by their names in the run's folder."""
        root = self.reading.folder / CONVERSATIONS
        for folder in self.disk.listdir(root):
            for name in self.disk.listdir(root / folder):
                if is_litter(f"{CONVERSATIONS}/{folder}/{name}"):
                    self.disk.remove(root / folder / name)

    async def _put(self, name: str, data: bytes) -> None:
        await self.disk.replace(self.reading.folder / name, data)
