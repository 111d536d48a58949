"""`run` and `stop`: hold what is missing, and let it come to rest."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from runner.cli.door import answered, garbage_of_late, json_option, outputs_option

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from runner.gate import Gate
    from runner.money import Nanos
    from runner.night import Source
    from runner.run import Session, Watcher
    from runner.selection import Options
    from runner.transports.record import Recorder
    from runner.transports.replay import Replay
    from runner.world import Wire

_SELDOM = 1.0
_OFTEN = 0.05
"""How often garbage is looked for where very many calls come back together."""

JOBS = click.argument("jobs", nargs=-1, required=True, type=click.Path(path_type=Path))
SETS = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a value of the job: defaults.max_tokens=500."
)


@click.command()
@JOBS
@outputs_option
@SETS
@click.option("--run", "key", help="The run's key, in place of the job's run_key.")
@click.option("--new", is_flag=True, help="Begin a new run beside those that are there.")
@click.option("--continue", "newest_unfinished", is_flag=True, help="Go on with the newest run that is not complete.")
@click.option("--budget", type=str, metavar="DOLLARS", help="The ceiling of the run, in place of the job's.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Only conversations with such a name: 'prism/*'.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Hold at most N conversations.")
@click.option("--max-time", type=str, metavar="DURATION", help="Begin no call after this long: 4h.")
@click.option(
    "--grace", metavar="DURATION", default="80s", show_default=True, help="What calls in flight get after SIGTERM."
)
@click.option(
    "--share",
    type=float,
    metavar="PART",
    help="Take this part of each provider's limits, and leave the rest to others: 0.5.",
)
@click.option("--retry-failed", is_flag=True, help="Take failed conversations up again from their last good turn.")
@click.option("--accept-changes", is_flag=True, help="Hold again complete conversations that the job has changed.")
@click.option("--ok-on", type=str, default="", metavar="CODES", help="Exit codes to forgive: 3,4.")
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep each exchange with a provider there as a file, without keys.",
)
@click.option(
    "--replay",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Play such a folder back: no key, no network, no money. The run is in DIR/outputs.",
)
@json_option
@answered
def run(
    jobs: tuple[Path, ...],
    outputs: Path,
    sets: tuple[str, ...],
    key: str | None,
    new: bool,
    newest_unfinished: bool,
    budget: str | None,
    only: tuple[str, ...],
    limit: int | None,
    max_time: str | None,
    grace: str,
    share: float | None,
    retry_failed: bool,
    accept_changes: bool,
    ok_on: str,
    record: Path | None,
    replay: Path | None,
    as_json: bool,
) -> int:
    """Hold the conversations of these jobs that are missing. The same command goes on with what was broken off."""
    from runner.cli.outlet import JsonLines

    report = JsonLines() if as_json else None
    try:
        if sum((key is not None, new, newest_unfinished)) > 1:
            raise click.UsageError("--run, --new and --continue exclude each other.")
        if replay is not None:
            if record is not None:
                raise click.UsageError("--record and --replay exclude each other.")
            if _is_given("outputs"):
                raise click.UsageError("A replay spends nothing, so its run is in a folder of its own: no --outputs.")
            outputs = replay / "outputs"
        elif (outputs / _PLAYED).exists():
            raise click.UsageError(
                f"{outputs} has what was played back, and paid answers do not belong there: "
                f"--replay {outputs.parent}, or other --outputs."
            )
        if share is not None and not 0.0 < share <= 1.0:
            raise click.BadParameter(f"{share} is not above 0 and at most 1", param_hint="--share")
        forgiven = _codes(ok_on)
        options = _options(
            key=key,
            new=new,
            newest_unfinished=newest_unfinished,
            budget=None if budget is None else dollars_of(budget),
            only=only,
            limit=limit,
            max_time=None if max_time is None else seconds_of("--max-time", max_time),
            grace=seconds_of("--grace", grace),
            share=share,
            retry_failed=retry_failed,
            accept_changes=accept_changes,
            replay=None if replay is None else str(replay),
        )
        tape = Tape(record=record, replay=replay)
        code = hold(load_all(jobs, sets), options, outputs, report=report, forgiven=forgiven, tape=tape)
    except BaseException as error:
        if report is None:
            raise
        report.broke(error)
        if not isinstance(error, click.ClickException):
            raise
        error.show()
        return 2
    return 0 if code in forgiven else code


def _is_given(name: str) -> bool:
    """True when an option stands on the command line."""
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


class Tape(NamedTuple):
    """The folder into which exchanges are recorded, or the one out of which they are played; None for neither."""

    record: Path | None = None
    replay: Path | None = None


def _options(**given: Any) -> Options:
    from runner.selection import Options

    return Options(**given)


def hold(
    sources: Sequence[Source],
    options: Options,
    outputs: Path,
    *,
    report: Callable[[Mapping[str, Any]], None] | None = None,
    forgiven: Container[int] = (),
    tape: Tape = Tape(),  # noqa: B008
) -> int:
    """One night in the real world; the exit code, forgiven or not."""
    import os
    import signal

    import anyio

    from runner.cli.loop import loop_for

    # Where a standard stream was closed, a journal could take its number, and a stray line end up in it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    # A terminal that is closed takes the display with it, not the night.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        loop = {"loop_factory": loop_for(_slots(sources))}
        with garbage_of_late():
            return anyio.run(_hold, sources, options, outputs, report, forgiven, tape, backend_options=loop)
    finally:
        signal.signal(signal.SIGHUP, before)


async def _hold(
    sources: Sequence[Source],
    options: Options,
    outputs: Path,
    report: Callable[[Mapping[str, Any]], None] | None,
    forgiven: Container[int],
    tape: Tape,
) -> int:
    from contextlib import AsyncExitStack, nullcontext
    from functools import partial
    from random import Random

    from runner.cli.door import look_for_garbage, terminal
    from runner.cli.loop import FEW_CALLS
    from runner.cli.models import own_state, price_list
    from runner.cli.outlet import Outlet
    from runner.cli.runs import me
    from runner.night import Place, night
    from runner.progress import Lines, Progress, Screen
    from runner.transports.wire import AiohttpWire
    from runner.world import RealClock, RealDisk, RealPrograms, RealSignals, World

    def tell(line: str) -> None:
        progress.tell(line)

    def watch(sessions: Sequence[Session], gate: Gate) -> Sequence[Watcher]:
        look = partial(look_for_garbage, _SELDOM if _slots(sources) <= FEW_CALLS else _OFTEN)
        return [*progress.watch(sessions, gate), look]

    async with AsyncExitStack() as stack:
        built_in: dict[tuple[str, str], str] = {}
        recorder: Recorder | None = None
        wire: Wire
        if tape.replay is not None:
            wire = _replay(tape.replay, outputs, tell)
            sources = [_played(source) for source in sources]
            built_in = {(s.job.name, name): _stage(s, name) for s in sources for name in s.job.providers}
        else:
            wire = await stack.enter_async_context(AiohttpWire())
            built_in = await _served(stack, sources)
        plain = wire
        if tape.record is not None:
            wire = recorder = _recorder(stack, wire, tape.record, sources, tell)
        world = World(RealClock(), RealDisk(), wire, Random(), RealSignals(), RealPrograms())
        outlet = stack.enter_context(Outlet("stderr"))
        progress = Progress(world, Screen(outlet, outlet.is_free) if terminal() else Lines(outlet), report)
        stack.callback(progress.close)
        here = Path() if outputs.is_absolute() else Path.cwd()
        most_calls = _most_calls(bool(built_in))
        place = Place(outputs, me(), built_in, own_state(), here, most_calls, price_list(), plain)
        async with recorder or nullcontext():
            code = await night(world, sources, options, place, tell=progress.tell, watch=watch, found=progress.found)
        await progress.finish(code, forgiven=code in forgiven)
        return code


def _slots(sources: Sequence[Source]) -> int:
    """How many calls there may be at a time, by the slots of all providers."""
    from runner.preflight import DEFAULT_CONCURRENCY

    providers = (provider for source in sources for provider in source.job.providers.values())
    return sum(one.limits.concurrency or DEFAULT_CONCURRENCY for one in providers)


async def _served(stack: AsyncExitStack, sources: Sequence[Source]) -> dict[tuple[str, str], str]:
    """Where the built-in providers are served that these jobs use, by job and provider."""
    from runner.preflight import BUILT_IN, sim_config

    configs = {
        (source.job.name, name): sim_config(provider)
        for source in sources
        for name, provider in source.job.providers.items()
        if provider.base_url == BUILT_IN
    }
    if not configs:
        return {}
    # A tenth of the start of a night that has no use for it.
    from runner.sim.engine import Engine
    from runner.sim.server import serve

    return {used: await stack.enter_async_context(serve(Engine(config))) for used, config in configs.items()}


def _recorder(
    stack: AsyncExitStack, wire: Wire, folder: Path, sources: Sequence[Source], tell: Callable[[str], None]
) -> Recorder:
    """A wire that keeps what goes over this one. CannotBegin when the folder cannot be made, or is somebody else's."""
    from runner.cli.runs import me
    from runner.foreign import in_words
    from runner.night import EXIT_HELD
    from runner.preflight import CannotBegin
    from runner.run import EXIT_STORAGE
    from runner.transports.record import Recorder
    from runner.world import LockHeld, RealClock, RealDisk

    try:
        RealDisk().make_dirs(folder)
        # Two that number their files in one folder would write over each other's.
        stack.callback(RealDisk().lock(folder / _RECORDING, me()).release)
    except LockHeld as held:
        raise CannotBegin(
            EXIT_HELD, f"{folder} is recorded into by {in_words(held.holder)}; --record another folder"
        ) from None
    except OSError as error:
        raise CannotBegin(EXIT_STORAGE, f"{folder} cannot be made, to record into: {error.strerror}") from None
    secrets = [secret for source in sources for secret in source.job.secrets(source.environ)]
    return Recorder(wire, RealDisk(), RealClock(), folder, secrets, tell)


def _replay(folder: Path, outputs: Path, tell: Callable[[str], None]) -> Replay:
    """A wire to a recording, and the mark on the outputs that nothing of them was paid. CannotBegin without either."""
    from runner.preflight import CannotBegin
    from runner.run import EXIT_STORAGE
    from runner.transports.replay import Replay, Unplayable
    from runner.world import RealDisk

    try:
        wire = Replay(RealDisk(), folder, tell)
        RealDisk().make_dirs(outputs)
        (outputs / _PLAYED).touch()
    except Unplayable as error:
        raise CannotBegin(2, str(error)) from None
    except OSError as error:
        raise CannotBegin(EXIT_STORAGE, f"{outputs} cannot be made, to replay into: {error.strerror}") from None
    return wire


def _played(source: Source) -> Source:
    """The same job for a replay: without limits of providers that are not asked, without keys, and without notices."""
    from dataclasses import replace

    from runner.foreign import MASK
    from runner.job.environment import VARIABLE
    from runner.limits import Limits

    providers = {
        name: replace(provider, limits=Limits(concurrency=provider.limits.concurrency))
        for name, provider in source.job.providers.items()
    }
    environ = dict.fromkeys(source.job.variables(), _NO_KEY)
    # An address is told as it was recorded: with its variables, and masked where they hide something.
    written = (one for provider in providers.values() for one in VARIABLE.finditer(provider.base_url))
    environ |= {one[1]: source.environ.get(one[1]) or one[2] or MASK for one in written}
    return replace(source, job=replace(source.job, providers=providers, notify=None), environ=environ)


def _stage(source: Source, name: str) -> str:
    """Where a provider is while it is played: nowhere, under the path that it has."""
    from urllib.parse import urlsplit

    from runner.job import resolve
    from runner.preflight import BUILT_IN
    from runner.transports.record import Mask

    base_url = source.job.providers[name].base_url
    if base_url == BUILT_IN:
        return "http://replay/v1"
    address = Mask(source.job.secrets(source.environ)).text(resolve(base_url, source.environ))
    return f"http://replay{urlsplit(address if '://' in address else f'//{address}').path}"


_NO_KEY = "replay"
_RECORDING = "record.lock"
_PLAYED = ".replay"
"""A file in outputs that were made of a recording."""


def _most_calls(built_in: bool) -> int | None:
    """How many calls there are open files for; a call to a built-in server has both ends of its connection here."""
    from runner.cli.probes import open_files

    files = open_files()
    if files is None:
        return None
    left = files - _FILES_BESIDE_CALLS
    # Beside its connection, a call has a file at most: while its conversation is written down, by one of few threads.
    return max(left // 2, left - _MOST_WRITING) // (2 if built_in else 1)


_FILES_BESIDE_CALLS = 24
"""Descriptors that a run needs beside its calls: journals, logs, locks, the event loop, the standard streams."""
_MOST_WRITING = 40
"""Threads that write at the same time."""


def load_all(jobs: Sequence[Path], sets: Sequence[str] = ()) -> list[Source]:
    """Every job with its variables; JobError with the mistakes of all of them."""
    import os

    from runner.cli.door import say
    from runner.job import JobError, Problem, environment, load
    from runner.night import Source

    found: list[Source] = []
    problems: list[Problem] = []
    for path in jobs:
        try:
            job = load(path, sets=sets)
        except JobError as error:
            problems += error.problems
            continue
        known = environment(job.variables(), [path.parent, Path.cwd()], os.environ)
        for warning in known.warnings:
            say(f"warning: {warning}")
        found.append(Source(job, str(path), known.values, tuple(sets)))
    if problems:
        raise JobError(problems)
    return found


def dollars_of(text: str) -> Nanos:
    from runner.money import MoneyError, parse_dollars

    try:
        return parse_dollars(text)
    except MoneyError as error:
        raise click.BadParameter(f"{error}", param_hint="--budget") from None


def seconds_of(option: str, text: str) -> float:
    from runner.providers.loose import seconds

    found = seconds(text)
    if found is None or found <= 0:
        raise click.BadParameter(f"{text!r} is not a duration; write 300s, 10m or 4h", param_hint=option)
    return found


def _codes(text: str) -> frozenset[int]:
    try:
        return frozenset(int(code) for code in text.split(",") if code.strip())
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of exit codes like 3,4", param_hint="--ok-on") from None


# --- who holds a run -------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """A run that a process is holding, and what that process says about itself."""

    folder: Path
    pid: int
    host: str
    began: float

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"


def held(folder: Path) -> Held | None:
    """Who holds the run in this folder; None when nobody does. Raises CannotBegin when that cannot be told."""
    import fcntl
    import json
    import os

    from runner.journal import LOCK_FILE
    from runner.preflight import CannotBegin

    try:
        lock = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, and given back at once: only the kernel knows whether the holder is alive.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        try:
            said = json.loads(os.read(lock, 4096))
            return Held(folder, int(said["pid"]), str(said["host"]), float(said["began"]))
        except (ValueError, KeyError, TypeError):
            raise CannotBegin(
                2, f"{folder}: a process holds it and does not say which; try again in a moment"
            ) from None
    finally:
        os.close(lock)


def running(outputs: Path, job: str = "*") -> list[Held]:
    """The runs that are being held, the newest last."""
    from contextlib import suppress

    from runner.journal import LOCK_FILE

    found: list[Held] = []
    for lock in sorted(outputs.glob(f"{job}/*/{LOCK_FILE}")):
        with suppress(PermissionError):  # somebody else's, who has to stop it
            one = held(lock.parent)
            found += [] if one is None else [one]
    return sorted(found, key=lambda one: one.began)


# --- stop ------------------------------------------------------------------------------------------------------------

_LOOK_SECONDS = 0.05
_HEARD_SECONDS = 3.0
_LEFT_SECONDS = 15.0
_LOG_TAIL = 256 * 1024


@click.command()
@click.argument("run", required=False)
@outputs_option
@click.option("--now", is_flag=True, help="Leave the calls in flight, too; they count as spent.")
@answered
def stop(run: str | None, outputs: Path, now: bool) -> int:
    """Ask the process that holds a run to come to rest: no new calls, those in flight may land.

    RUN is a folder, JOB/KEY, or JOB for its newest; without it, the one that is running.
    """
    import socket

    from runner.cli.door import say
    from runner.preflight import CannotBegin

    one = _only(outputs) if run is None else _named(run, outputs)
    if one.host != socket.gethostname():
        raise CannotBegin(
            2, f"{one.name} is held on {one.host}, by process {one.pid}; stop it there: kill -INT {one.pid}"
        )
    others = [other.name for other in running(outputs) if (other.pid, other.folder) != (one.pid, one.folder)]
    together = [other.name for other in running(outputs) if other.pid == one.pid and other.name in others]
    if together:
        say(f"process {one.pid} also holds {', '.join(together)}: they stop together")
    return _stop(one, now)


def _stop(one: Held, now: bool) -> int:
    from runner.cli.door import say
    from runner.cli.runs import Run

    draining = _stopping(one)
    if draining is None:
        if not _ask(one):
            return 0
        say(f"{one.name}: asked process {one.pid} to stop")
        draining = _wait(one, _HEARD_SECONDS)
    elif not now:
        say(f"{one.name}: process {one.pid} is stopping already")
    if held(one.folder) is None:
        say(f"{one.name} has stopped")
        return 0
    if not now:
        say(f"  {draining or 'no answer yet'}; to leave them: {Run(one.folder).command('stop')} --now")
        return 0
    if not _ask(one):
        return 0
    say(f"{one.name}: asked process {one.pid} to leave the calls in flight")
    _wait(one, _LEFT_SECONDS, until_gone=True)
    if held(one.folder) is None:
        say(f"{one.name} has stopped")
        return 0
    say(f"{one.name} has not stopped yet; one more request ends it at once: kill -INT {one.pid}")
    return 3


def _only(outputs: Path) -> Held:
    from runner.cli.runs import Run
    from runner.preflight import CannotBegin

    found = running(outputs)
    if not found:
        raise CannotBegin(2, f"no run in {outputs} is going on, so there is nothing to stop")
    if len({(one.host, one.pid) for one in found}) > 1:
        names = (f"  {Run(one.folder).command('stop')}    (process {one.pid} on {one.host})" for one in found)
        raise CannotBegin(2, "several runs are going on; say which:", *names)
    return found[-1]


def _named(run: str, outputs: Path) -> Held:
    """The run that is meant; by the name of a job, the newest of it that is going on."""
    from runner.cli.runs import find
    from runner.plan import slug
    from runner.preflight import CannotBegin

    going_on = [] if "/" in run or Path(run).exists() else running(outputs, slug(run))
    if going_on:
        return going_on[-1]
    found = find(outputs, run)
    one = held(found.folder.resolve())
    if one is None:
        raise CannotBegin(2, f"{found.name}: no process holds it, so there is nothing to stop")
    return one


def _ask(one: Held) -> bool:
    """Send one request to stop; False when there is nobody any more. Raises CannotBegin when it is not ours to stop."""
    import os
    import signal

    from runner.cli.door import say
    from runner.preflight import CannotBegin

    try:
        os.kill(one.pid, signal.SIGINT)
    except ProcessLookupError:
        say(f"{one.name} has stopped by itself")
        return False
    except PermissionError:
        raise CannotBegin(2, f"{one.name}: process {one.pid} belongs to somebody else, who has to stop it") from None
    return True


def _wait(one: Held, seconds: float, *, until_gone: bool = False) -> str | None:
    """Wait until the holder is gone, or has said that it is stopping; what it said."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end and held(one.folder) is not None:
        said = _stopping(one)
        if said is not None and not until_gone:
            return said
        time.sleep(_LOOK_SECONDS)
    return None


def _stopping(one: Held) -> str | None:
    """What the holder said in its log when it was asked to stop; None when it was not, or has not heard it yet."""
    from runner.progress import LOG
    from runner.render.figures import stamp

    try:
        with open(one.folder / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, 2) - _LOG_TAIL))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        at, _, text = line.partition(" ")
        if text.startswith("stopping: ") and at >= stamp(one.began):
            return text.partition(";")[0]
    return None
