"""A long run taken up again, and a large one reported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Final, NamedTuple

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import RUN, journal, talks
from scripts.benchmarks.processes import MIB, TERTULIA, Ground
from scripts.benchmarks.sizes import size

_JOURNALS: Final = (sys.executable, "-P", "-m", "scripts.benchmarks.journals")
_READING: Final = (sys.executable, "-P", "-m", "scripts.benchmarks.reading")
_TURNS: Final = 8
_PARTIAL: Final = 3
"""The exit code of a run that was told to hold no more than one conversation."""


@dataclass(frozen=True, slots=True)
class Sizes:
    turns: int = size(1_000_000, "Turns that the journal has.")
    report: int = size(10_000, "Conversations that are reported.")


QUICK: Final = Sizes(turns=160, report=10)


class Pass(NamedTuple):
    """One resume, and the same file only read."""

    seconds: float
    peak: float
    reading: float
    reading_peak: float


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """The journals are written once, and each is then read as often as asked for."""
    told = Told("resume")
    folder = _large(ground, -(-sizes.turns // _TURNS), left=4 * times)
    # As the run that died would have them: nothing is to be written before the first call that was written already.
    ground.took((*TERTULIA, "report", "/".join(RUN), "--outputs", str(folder / "outputs")), folder)
    path = journal(folder / "outputs")
    length = path.stat().st_size / MIB
    resumes = [_resume(ground, folder, path) for _ in range(times)]
    seconds, peaks = tuple(one.seconds for one in resumes), tuple(one.peak for one in resumes)
    what = f"a journal of {sizes.turns:,} turns, {number(length)} MiB"
    told.figures += [
        Figure(
            "first call",
            middle(seconds),
            "s",
            middle([one.reading for one in resumes]),
            "reading the file with orjson",
            15.0,
            True,
            "value",
            f"from the start of `run` to its first request; {what}",
            seconds,
        ),
        Figure(
            "memory",
            middle(peaks),
            "MiB",
            middle([one.reading_peak for one in resumes]),
            "reading the file with orjson",
            500.0,
            True,
            "value",
            "the most until the first request",
            peaks,
        ),
    ]
    folder = _large(ground, sizes.report, left=0)
    command = (*TERTULIA, "report", "/".join(RUN), "--outputs", str(folder / "outputs"))
    reads: list[float] = []
    reports: list[float] = []
    for _ in range(times):
        reads.append(ground.took((*_READING, str(journal(folder / "outputs"))), folder).seconds)
        reports.append(ground.took(command, folder).seconds)
    speeds = tuple(sizes.report / one for one in reports)
    told.figures.append(
        Figure(
            "report",
            middle(speeds),
            "conversations/s",
            sizes.report / middle(reads),
            "reading the file with orjson",
            3_000.0,
            False,
            "value",
            f"`report` of {sizes.report:,} conversations of {_TURNS} turns in Markdown, the whole process",
            speeds,
        )
    )
    return told


def _job(folder: Path, url: str, conversations: int) -> Path:
    return talks(
        folder,
        url,
        conversations=conversations,
        turns=_TURNS,
        at_once=1,
        # What is in flight when a run is killed is lost, and asked again however often.
        outcomes={"lost": {"retry": 100, "then": "fail"}},
    )


def _large(ground: Ground, conversations: int, left: int) -> Path:
    """The folder of a run in which so many conversations are complete, and `left` more are not."""
    folder = ground.fresh()
    with ground.server() as server:
        job = _job(folder, server.url, conversations + left)
        arguments = ("--outputs", str(folder / "outputs"), "--limit", "1")
        ground.took((*TERTULIA, "run", str(job), *arguments), folder, planned=(_PARTIAL, 0))
    path = journal(folder / "outputs")
    ground.took((*_JOURNALS, str(job), str(path), str(left)), folder)
    return folder


def _resume(ground: Ground, folder: Path, path: Path) -> Pass:
    read = ground.took((*_READING, str(path)), folder)
    with ground.server(latency=600) as server:
        # The address is no part of what a conversation is.
        job = folder / "bench.yaml"
        known = job.read_text()
        before = known[known.index("http://") : known.index("/v1")]
        job.write_text(known.replace(before, server.url))
        with ground.running((*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs")), folder) as client:
            client.until(lambda: server.seen().calls > 0)
            seconds, peak = server.seen().first - client.started, client.peak()
            client.kill()
            client.ended((-SIGKILL,))
    return Pass(seconds, peak / MIB, read.seconds, read.peak / MIB)
