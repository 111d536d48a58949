"""What shows a night: a table on a terminal, plain lines elsewhere, and the log of each run."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import IO, Any, Final, Protocol

import anyio
import anyio.lowlevel

from runner.foreign import visible
from runner.journal import Journal
from runner.progress.picture import LaneRow, Picture
from runner.progress.words import left_text, money_text, short, talk_text
from runner.render.figures import duration, stamp
from runner.world import Appender, World

LOG: Final = "log.txt"


class Display(Protocol):
    """Shows lines and pictures to a person. Never raises, never waits."""

    quiet: bool
    """True when what goes well need not be told line by line."""

    def line(self, *texts: str) -> None:
        """One line, or several together: each stroke may cost as much as a hundred lines."""
        ...

    def draw(self, picture: Picture) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Plain lines, one after the other."""

    quiet = False

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def line(self, *texts: str) -> None:
        self._file.write("".join(f"{text}\n" for text in texts))
        self._file.flush()

    def draw(self, picture: Picture) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.flush()


class Screen:
    """A table on a terminal, drawn in place, with lines above it."""

    quiet = True

    def __init__(self, file: IO[str], writable: Callable[[], bool] = lambda: True, width: int | None = None) -> None:
        # Late, as everything that only a terminal needs.
        from rich.console import Console
        from rich.live import Live

        self._writable = writable
        self._console = Console(file=file, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def line(self, *texts: str) -> None:
        from rich.text import Text

        self._console.print(Text("\n".join(texts)), soft_wrap=True)  # which draws the table once more

    def draw(self, picture: Picture) -> None:
        if not self._writable():
            return  # held by Ctrl-S, perhaps; the next picture is as good
        if not self._live.is_started:
            self._live.start()
            # A process that is killed gives nothing back: the cursor would stay away.
            self._console.show_cursor(True)
        self._live.update(_table(picture, self._console.width), refresh=True)

    def close(self) -> None:
        self._live.stop()


_WIDE: Final = 90
_MEDIUM: Final = 60


def _table(picture: Picture, width: int) -> Any:
    """The picture for a terminal of this width."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(visible(text, keep_newlines=False), style=style, no_wrap=True, overflow="ellipsis")

    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    columns = _columns(width)
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in ("lane", "") else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "" else None,
            max_width=24 if name == "lane" else None,
        )
    for lane in picture.lanes:
        cells = lane_cells(lane)
        style = "red" if lane.dead is not None else "yellow" if lane.paused else ""
        table.add_row(*(line(cells[name], style) for name in columns))
    head = [line(text) for run in picture.runs for text in (f"{run.name}: {talk_text(run)}", f"  {money_text(run)}")]
    if picture.stopping is not None:
        head.append(line(f"no new calls: {short(picture.stopping)}", "yellow"))
    left = left_text(picture.seconds_left)
    if left and picture.stopping is None:
        head.append(line(left, "dim"))
    # Last what may be cut off where a terminal is low.
    return Group(*head, table)


def _columns(width: int) -> tuple[str, ...]:
    if width >= _WIDE:
        return ("lane", "in flight", "waiting", "done", "tokens in", "out", "busy", "failed", "")
    if width >= _MEDIUM:
        return ("lane", "in flight", "waiting", "done", "busy", "")
    return ("lane", "in flight", "done", "")


def lane_cells(lane: LaneRow) -> dict[str, str]:
    """A row of the table, by column."""
    state = ""
    if lane.dead is not None:
        state = f"stopped: {short(lane.dead.removeprefix(f'{lane.name}: '))}"
    elif lane.paused:
        state = f"paused {duration(lane.paused)}: {short(lane.reason)}"
    return {
        "lane": lane.name,
        "in flight": f"{lane.in_flight}" if lane.slots == inf else f"{lane.in_flight}/{int(lane.slots)}",
        "waiting": f"{lane.waiting:,}",
        "done": f"{lane.done:,}",
        "tokens in": "–" if lane.tokens_in is None else f"{lane.tokens_in:,}",
        "out": "–" if lane.tokens_out is None else f"{lane.tokens_out:,}",
        "busy": f"{lane.busy:,}",
        "failed": f"{lane.failures:,}",
        "": state,
    }


# --- the log ---------------------------------------------------------------------------------------------------------


class Log:
    """`log.txt` of one run: the plain lines, each with its time. What cannot be written is left."""

    def __init__(self, world: World, journal: Journal) -> None:
        self._world = world
        self._journal = journal
        self._lines: list[str] = []
        self._file: Appender | None = None
        self._given_up = False

    def line(self, text: str) -> None:
        if not self._given_up:
            self._lines.append(f"{stamp(self._world.clock.wall())} {text}\n")

    async def put_down(self) -> None:
        """Write what has been told since; the room that is left on a full disk belongs to the journal."""
        if not self._lines or self._given_up or self._journal.failing is not None:
            return
        lines, self._lines = self._lines, []
        with anyio.CancelScope(shield=True):
            try:
                if self._file is None:
                    self._file = self._world.disk.appender(self._journal.folder / LOG)
                await self._file.append("".join(lines).encode())
            except OSError:
                self._given_up = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
