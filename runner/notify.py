"""Who is told how a run ended, and what: a command of the user's own, a webhook, or both.

What is sent is made of our own words and figures alone: no reply, no error message of a provider and no address can
speak through it. A notification that fails is told in one line, and changes nothing: least of all the exit code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import orjson

from runner.foreign import one_line
from runner.job import MissingVariable, resolve, unsafe
from runner.job.job import Notify, When
from runner.money import Nanos, dollars
from runner.render.figures import counted, of_them_early, usd
from runner.status import STATUSES, Status
from runner.world import HttpRequest, Programs, Wire, WireError

_SECONDS: Final = 30.0
_MOST_CHARACTERS: Final = 1900
"""Discord takes no more than 2,000."""
_BY_CODE: Final[Mapping[int, When]] = {
    0: "complete",
    1: "failed",
    4: "budget",
    5: "deadline",
    6: "preflight",
    7: "preflight",
    8: "failed",
    130: "interrupted",
    143: "interrupted",
}
"""What an exit code says by itself; 3 leaves open whether anything failed."""
_NOT_BEGUN: Final[Mapping[int, str]] = {
    6: "a key, a price or a provider is missing",
    7: "another process holds it",
    8: "the disk or its journal is not in order",
}
"""Why a night did not begin; what exactly is missing may hold an address, and is in what the command printed."""
_BY_REASON: Final[Mapping[str, When]] = {
    "failed": "failed",
    "observers": "failed",
    "render": "failed",
    "storage": "failed",
    "pending": "pending",
    "budget": "budget",
    "overrun": "budget",
    "deadline": "deadline",
    "interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, or why it did not begin."""

    job: str
    run: str
    """Its key."""
    exit: int
    reasons: tuple[str, ...] = ()
    conversations: Mapping[Status, int] | None = None
    """How many stand so; None where nobody knows, because the run did not begin."""
    stopped_early: int = 0
    """Of the complete: those that were over before their last line."""
    spent: Nanos = 0
    most: Nanos | None = None
    """The budget of the run."""
    goes_on: str | None = None
    """The command that goes on with it."""


def ends(end: End) -> frozenset[When]:
    """Everything that this end is, of what `when` can name: several causes may have met."""
    found = {_BY_REASON[reason] for reason in end.reasons if reason in _BY_REASON}
    if end.exit in _BY_CODE:
        found.add(_BY_CODE[end.exit])
    if end.conversations is None:
        found.add("preflight")
    there = {status for status, number in (end.conversations or {}).items() if number}
    found |= {one for one in _BY_REASON.values() if one in there}
    return frozenset(found | {"always"})


def is_wanted(notify: Notify, end: End) -> bool:
    """True when this is an end that somebody wants to be told of."""
    return not ends(end).isdisjoint(notify.when)


def text(end: End) -> str:
    """The end in one line: `nightly/2026-11-21: exit code 3 (failed), 11 of 12 complete, 1 failed, $1.2340 spent`."""
    why = f" ({', '.join(end.reasons)})" if end.reasons else ""
    parts = [f"{end.job}/{end.run}: exit code {end.exit}{why}", *_figures(end)]
    # Where a sign can call everybody in a room, no name of a job may do so.
    return one_line(", ".join(parts).translate(_HARMLESS), _MOST_CHARACTERS)


_HARMLESS: Final = str.maketrans({"@": "(at)", "<": "(", ">": ")", "&": "+", "`": "'"})


def _figures(end: End) -> Iterator[str]:
    if end.conversations is None:
        why = _NOT_BEGUN.get(end.exit)
        yield "it did not begin" if why is None else f"it did not begin: {why}"
        return
    whole = sum(end.conversations.values())
    early = of_them_early(end.stopped_early)
    yield f"{end.conversations.get('complete', 0):,} of {counted(whole, 'conversation')} complete{early}"
    for status in STATUSES:
        number = end.conversations.get(status, 0)
        if number and status != "complete":
            yield f"{number:,} {status}"
    yield f"{usd(end.spent)}{'' if end.most is None else f' of {usd(end.most)}'} spent"


def message(end: End) -> dict[str, Any]:
    """The end for programs."""
    counts = None if end.conversations is None else {status: end.conversations.get(status, 0) for status in STATUSES}
    return {
        "event": "night",
        "text": text(end),
        "job": end.job,
        "run": end.run,
        "exit": end.exit,
        "reasons": list(end.reasons),
        "conversations": counts,
        "stopped_early": end.stopped_early,
        "spent": float(dollars(end.spent)),
        "budget": None if end.most is None else float(dollars(end.most)),
        "continue": end.goes_on,
    }


def body(end: End) -> bytes:
    """What is posted: Slack and Mattermost show `text`, Discord `content`; the rest is for one's own receiver."""
    said = text(end)
    # To Discord it says besides that nobody is to be called by it.
    return orjson.dumps({"text": said, "content": said, "allowed_mentions": {"parse": []}, "night": message(end)})


def environment(end: End) -> dict[str, str]:
    """What a command finds in its environment, beside the whole message on its standard input."""
    counts = end.conversations or {}
    return {
        "TERTULIA_JOB": end.job,
        "TERTULIA_RUN": end.run,
        "TERTULIA_EXIT": str(end.exit),
        "TERTULIA_REASONS": ",".join(end.reasons),
        "TERTULIA_TEXT": text(end),
        "TERTULIA_COMPLETE": str(counts.get("complete", 0)),
        "TERTULIA_CONVERSATIONS": str(sum(counts.values())),
        "TERTULIA_SPENT": dollars(end.spent),
    }


async def send(
    notify: Notify,
    end: End,
    *,
    wire: Wire,
    programs: Programs,
    environ: Mapping[str, str],
    folder: Path,
    tell: Callable[[str], None],
) -> None:
    """Tell whoever wants to be told of this end; what cannot be told to them is told here, and never raised.

    `environ` has the variables that the job names, `folder` is where its command is run.
    """
    if not is_wanted(notify, end):
        return

    async def try_command() -> None:
        if notify.command and (trouble := await _run(notify.command, end, programs, folder)):
            tell(f"nobody was notified by the command {one_line(notify.command[0], 100)}: {trouble}")

    async def try_webhook() -> None:
        if notify.webhook is not None and (trouble := await _post(notify.webhook, end, wire, environ)):
            tell(f"nobody was notified by the webhook: {trouble}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(try_command)
        tasks.start_soon(try_webhook)


async def _run(command: tuple[str, ...], end: End, programs: Programs, folder: Path) -> str | None:
    """Why the command did not do its work; None when it did."""
    try:
        ran = await programs.run(command, orjson.dumps(message(end)) + b"\n", environment(end), folder, _SECONDS)
    except TimeoutError:
        return f"it took longer than {_SECONDS:.0f} s"
    except OSError as error:
        return f"it cannot be run ({error.strerror})"
    if ran.code == 0:
        return None
    # What it prints may hold the very address that it was to keep to itself.
    return f"it ended with code {ran.code}"


def unreachable(webhook: str, environ: Mapping[str, str]) -> str | None:
    """What can be known beforehand to keep a webhook from being told; None when nothing does."""
    try:
        url = resolve(webhook, environ)
    except MissingVariable as missing:
        return str(missing)
    # Unlike a server of models it may have its key in a query.
    if unsafe(url.partition("?")[0], keyed=True) is not None:
        return "its address must begin with https:// (or http:// on this machine)"
    return None


async def _post(webhook: str, end: End, wire: Wire, environ: Mapping[str, str]) -> str | None:
    """Why the webhook was not told, in words that hold nothing of its address; None when it was."""
    if (trouble := unreachable(webhook, environ)) is not None:
        return trouble
    request = HttpRequest("POST", resolve(webhook, environ), {"Content-Type": "application/json"}, body(end))
    try:
        with anyio.fail_after(_SECONDS):
            async with wire.exchange(request) as response:
                status = response.status
    except TimeoutError:
        return f"no answer within {_SECONDS:.0f} s"
    except WireError as error:
        return error.what
    return None if 200 <= status < 300 else f"it answered {status}"
