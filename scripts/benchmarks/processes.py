"""The processes of a measurement: the server on one processor, the client on another, and what each of them took."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import urlopen

ROOT: Final = Path(__file__).resolve().parents[2]
TERTULIA: Final = (sys.executable, "-P", "-m", "runner")
MIB: Final = 1024 * 1024

_ALLOWED: Final = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
_CLIENT: Final = 0
_SERVER: Final = 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SECONDS: Final = (1.0, 60.0, 3_600.0, 86_400.0)
"""What the parts of a time mean as `ps` writes it, the last one first."""
_FILES: Final = 65_536
_PATIENCE: Final = 3600.0
"""A client that takes so long hangs."""
_LOOK_SECONDS: Final = 0.02
_LAST_WORDS: Final = 12
"""So many lines are shown of what a client said that ended otherwise than planned."""


class Broke(Exception):
    """Something ended otherwise than planned, so that there is nothing to measure."""


class Seen(NamedTuple):
    """What the server says that it saw; times are those of the monotonic clock, which all processes share."""

    calls: int
    answered: int
    refused: int
    most_flying: int
    first: float
    last: float
    busy: float
    input_tokens: int
    output_tokens: int

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return max(1e-9, self.last - self.first)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    url: str

    def seen(self) -> Seen:
        return Seen(**self._told("stats"))

    def entries(self) -> list[tuple[float, int, int]]:
        """What its limits counted: when, after the first request; requests; tokens."""
        return [(at, requests, tokens) for at, requests, tokens in self._told("entries")]

    def drawn(self) -> list[tuple[str, int, float]]:
        """Of each call its model, its conversation, and its latency."""
        return [(model, conversation, latency) for model, conversation, latency in self._told("drawn")]

    def _told(self, what: str) -> Any:
        with urlopen(f"{self.url}/{what}", timeout=60) as answer:
            return json.load(answer)


class Took(NamedTuple):
    """What a process took, from its start to its end."""

    seconds: float
    cpu: float
    peak: int
    """The most memory it had, in bytes."""
    started: float
    """By the monotonic clock."""


class Sample(NamedTuple):
    """How far a run had come at a moment: the client's own time, and the calls that were answered."""

    cpu: float
    answered: int


@dataclass(slots=True)
class Client:
    """A client that runs."""

    process: subprocess.Popen[bytes]
    said: Path
    started: float
    _took: Took | None = None

    def cpu(self) -> float:
        """The time of its own that it has taken until now, in seconds."""
        try:
            told = Path(f"/proc/{self.process.pid}/stat").read_text()
        except FileNotFoundError:
            asked = ("ps", "-o", "time=", "-p", str(self.process.pid))
            clock = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "0"
            return sum(float(part) * _SECONDS[n] for n, part in enumerate(reversed(clock.replace("-", ":").split(":"))))
        numbers = told.rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / _TICKS

    def peak(self) -> int:
        """The most memory that it has had until now, in bytes; what it has now where nobody knows more."""
        try:
            told = Path(f"/proc/{self.process.pid}/status").read_text()
        except FileNotFoundError:
            asked = ("ps", "-o", "rss=", "-p", str(self.process.pid))
            found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
            return int(found or 0) * 1024
        peaks = (int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM:"))
        most = next(peaks, None)
        if most is None:
            raise Broke(f"a client was over before its memory was looked at:\n{self._last_words()}")
        return most * 1024

    def until(self, holds: Callable[[], bool], every: float = _LOOK_SECONDS) -> None:
        """Wait for something that comes while the client runs. Broke when it ends before."""
        end = time.monotonic() + _PATIENCE
        while not holds():
            if self._is_over() and not holds():
                raise Broke(f"a client ended before what it was to do:\n{self._last_words()}")
            if time.monotonic() > end:
                raise Broke(f"a client did not come to what it was to do in {_PATIENCE:.0f} s:\n{self._last_words()}")
            time.sleep(every)

    def sampled(self, server: Server, every: float) -> list[Sample]:
        """How far it had come from moment to moment, until it ends."""
        found: list[Sample] = []
        while not self._is_over():
            before, answered, after = self.cpu(), server.seen().answered, self.cpu()
            found.append(Sample((before + after) / 2, answered))
            time.sleep(every)
        return found

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()

    def ended(self, planned: Collection[int]) -> Took:
        """What it took, when it has ended. Broke when its exit code is none of those planned."""
        self._is_over(0)
        assert self._took is not None
        if self.process.returncode not in planned:
            wanted = " or ".join(map(str, planned))
            raise Broke(f"a client ended with {self.process.returncode}, planned was {wanted}:\n{self._last_words()}")
        return self._took

    def _is_over(self, how: int = os.WNOHANG) -> bool:
        """True when it has ended; what it took is told by the system only once, and kept."""
        if self._took is None:
            ended, status, usage = os.wait4(self.process.pid, how)
            if ended:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                seconds = time.monotonic() - self.started
                self._took = Took(seconds, usage.ru_utime + usage.ru_stime, peak, self.started)
        return self._took is not None

    def _last_words(self) -> str:
        return "\n".join(self.said.read_text(errors="replace").splitlines()[-_LAST_WORDS:])


def raise_limits() -> None:
    """Let this process and its children open as many files as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    with suppress(OSError, ValueError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stand_aside() -> None:
    """Run beside the server from now on, and out of the client's way."""
    bound = processors()
    if bound is not None:
        os.sched_setaffinity(0, {bound[_SERVER]})


def processors() -> tuple[int, int] | None:
    """The processor of the client, and that of the server; None where processes cannot be bound to two of them."""
    if sys.platform != "linux":
        return None
    # Not those that this process is bound to by now, but those that it was started with.
    return (_ALLOWED[0], _ALLOWED[-1]) if len(_ALLOWED) > 1 else None


@dataclass(slots=True)
class Ground:
    """Where the processes run, and what they had to complain of."""

    folder: Path
    bound: tuple[int, int] | None = field(default_factory=processors)
    busiest: float = 0.0
    """The largest part of its time that a server took, of those that were not to slow anybody down."""
    _folders: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def fresh(self) -> Path:
        """A new folder, on the disk that is measured."""
        made = self.folder / str(next(self._folders))
        made.mkdir(parents=True)
        return made

    @contextmanager
    def server(self, **asked: object) -> Iterator[Server]:
        """A server like this, while the context is open."""
        options: list[str] = []
        for name, value in asked.items():
            if isinstance(value, Mapping):
                options += [word for key, one in value.items() for word in (f"--{name}", f"{key}={one}")]
            elif value is True:
                options.append(f"--{name}")
            elif value is not False:
                options += [f"--{name}", str(value)]
        command = [sys.executable, "-P", "-m", "scripts.benchmarks.server", *options]
        process = self._start(command, _SERVER, self.folder, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise Broke("the server did not start")
            yield Server(f"http://127.0.0.1:{int(port)}")
        finally:
            process.kill()
            process.communicate()

    def client(self, command: Sequence[str], folder: Path) -> Client:
        """A client, started there; what it says goes to a file beside."""
        said = folder / "said.txt"
        with said.open("wb") as file:
            started = time.monotonic()
            process = self._start(command, _CLIENT, folder, stdout=file, stderr=subprocess.STDOUT)
        return Client(process, said, started)

    @contextmanager
    def running(self, command: Sequence[str], folder: Path) -> Iterator[Client]:
        """The same, and it is over when the context is, whatever happens."""
        client = self.client(command, folder)
        try:
            yield client
        finally:
            if client.process.returncode is None:
                client.kill()
                client.process.wait()

    def took(self, command: Sequence[str], folder: Path, planned: Collection[int] = (0,)) -> Took:
        """What a client took, from its start to its end."""
        with self.running(command, folder) as client:
            return client.ended(planned)

    def saw(self, server: Server) -> Seen:
        """What a server saw that was not to be the bottleneck."""
        seen = server.seen()
        self.busiest = max(self.busiest, seen.busy)
        return seen

    def _start(self, command: Sequence[str], role: int, folder: Path, **streams: Any) -> subprocess.Popen[bytes]:
        # No other process of this user is to take a share of the lanes, nor a `runner` of the working directory to be
        # the one that is measured.
        state = self.folder / "state"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), "NO_COLOR": "1"}
        with self._at(role):  # a child begins where its parent is at that moment
            return subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, **streams)

    @contextmanager
    def _at(self, role: int) -> Iterator[None]:
        if self.bound is None:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.bound[role]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
