"""The server that the benchmarks call: chat completions, streamed, with a latency and limits as asked for.

Written for speed: one class of protocol, answers put together from prepared pieces, and nothing checked but what the
figures need. A process of its own, on a processor of its own. `GET /stats` tells what it has seen and how busy it was,
`GET /entries` what its limits counted, and `GET /drawn` the latency of each call.

A token is a word, in questions as in answers, and a message takes four more: so what was written counts the same when
it comes back as a part of the next question.

    python -m scripts.benchmarks.server --latency 0 --tokens 40 --rpm 0 --tpm 0
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import resource
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from zlib import crc32

_MINUTE: Final = 60.0
_PIECES: Final = 8
_NAME: Final = b"gen-##########"
"""Stands where the id of an answer goes, which is as long: so the chunks have their sizes beforehand."""
_MARK: Final = b"#"
"""Begins the number of a conversation, where one has to be known again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the server is to be like."""

    latency: float = 0.0
    spread: float = 0.0
    """The shape of a log-normal latency; 0 for one that is always the same."""
    lanes: Mapping[str, float] = field(default_factory=dict)
    """The mean latency of each model that has one of its own. Conversations are then told apart, by their first
    requests, and each draws its latencies by itself: how long a call takes does not depend on when it comes."""
    tokens: int = 40
    rpm: int = 0
    tpm: int = 0
    count: str = "reserved"
    shape: str = "window"
    headers: bool = False
    seed: int = 7


class Limit(Protocol):
    """So much of something for each minute."""

    limit: int

    def left(self, now: float) -> float: ...
    def take(self, amount: int, now: float) -> None: ...
    def reset(self, now: float) -> float:
        """In how many seconds all of it is there again."""
        ...


@dataclass(slots=True)
class Window:
    """No more than this in any stretch of a minute."""

    limit: int
    used: int = 0
    entries: deque[tuple[float, int]] = field(default_factory=deque)

    def left(self, now: float) -> float:
        while self.entries and self.entries[0][0] <= now - _MINUTE:
            self.used -= self.entries.popleft()[1]
        return self.limit - self.used

    def take(self, amount: int, now: float) -> None:
        self.entries.append((now, amount))
        self.used += amount

    def reset(self, now: float) -> float:
        return max(0.0, self.entries[-1][0] + _MINUTE - now) if self.entries else 0.0


@dataclass(slots=True)
class Bucket:
    """Holds a minute's worth and refills evenly."""

    limit: int
    held: float = 0.0
    at: float = 0.0

    def left(self, now: float) -> float:
        self.held = max(0.0, self.held - (now - self.at) * self.limit / _MINUTE)
        self.at = now
        return self.limit - self.held

    def take(self, amount: int, now: float) -> None:
        self.left(now)
        self.held += amount

    def reset(self, now: float) -> float:
        return (self.limit - self.left(now)) * _MINUTE / self.limit


@dataclass(slots=True)
class Seen:
    """What the server has seen."""

    calls: int = 0
    answered: int = 0
    refused: int = 0
    flying: int = 0
    most_flying: int = 0
    first: float = 0.0
    last: float = 0.0
    cpu_at_first: float = 0.0
    cpu_at_last: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    entries: list[tuple[float, int, int]] = field(default_factory=list)
    """What the limits counted: when, after the first request; requests; tokens."""
    drawn: list[tuple[str, int, float]] = field(default_factory=list)
    """Of each call its model, its conversation, and the latency that was drawn for it."""


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": _NAME.decode(), **data}, separators=(",", ":")).encode() + b"\n\n"


def delta(text: str) -> bytes:
    return event({"model": "bench", "choices": [{"index": 0, "delta": {"content": text}}]})


class Server:
    """The one thing that all connections share."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.seen = Seen()
        self.random = random.Random(asked.seed)
        self.of_its_own: dict[int, random.Random] = {}
        """By conversation, where they are told apart."""
        self.loop = asyncio.get_running_loop()
        make: type[Window | Bucket] = Window if asked.shape == "window" else Bucket
        self.requests: Limit | None = make(asked.rpm) if asked.rpm else None
        self.tokens: Limit | None = make(asked.tpm) if asked.tpm else None
        share, rest = divmod(asked.tokens, _PIECES)
        sizes = [share + (n < rest) for n in range(_PIECES)]
        self.text = b"".join(chunk(delta("word " * size)) for size in sizes if size)
        self.end = chunk(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        self.done = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def answer(self, mark: str, input_tokens: int, output_tokens: int) -> bytes:
        told = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
        usage = chunk(event({"choices": [], "usage": {**told, "total_tokens": input_tokens + output_tokens}}))
        body = b"".join((chunk(delta(mark)) if mark else b"", self.text, self.end, usage))
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n%b\r\n%b%b" % (
            self.limit_headers(),
            body.replace(_NAME, b"gen-%010d" % self.seen.answered),
            self.done,
        )

    def limit_headers(self) -> bytes:
        if not self.asked.headers:
            return b""
        now = time.monotonic()
        return b"".join(
            b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %.3fs\r\n"
            % (name, one.limit, name, max(0, int(one.left(now))), name, one.reset(now))
            for name, one in ((b"requests", self.requests), (b"tokens", self.tokens))
            if one is not None
        )

    def lets_in(self, input_tokens: int, max_tokens: int, now: float) -> bool:
        """Count a request, and what of its tokens counts when it comes; False where a limit is reached."""
        up_front = self.asked.count == "reserved"
        amount = input_tokens + (max_tokens if up_front else 0)
        if self.requests is not None and self.requests.left(now) < 1:
            return False
        if self.tokens is not None and self.tokens.left(now) < (amount if up_front else 1):
            return False
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(amount, now)
        if self.requests is not None or self.tokens is not None:
            self.seen.entries.append((now - self.seen.first, 1, amount))
        return True

    def ended(self, output_tokens: int, now: float) -> None:
        """Count what an answer used, where the limits count it at its end."""
        if self.tokens is not None and self.asked.count == "used":
            self.tokens.take(output_tokens, now)
            self.seen.entries.append((now - self.seen.first, 0, output_tokens))

    def latency(self, body: bytes) -> tuple[float, str]:
        """How long the answer to this takes, and what it is to begin with."""
        asked = self.asked
        if not asked.lanes:
            return self.drawn(asked.latency, self.random), ""
        at = body.find(_MARK)
        number = crc32(body) if at < 0 else int(body[at + 1 :].split(b" ", 1)[0])
        model = body[body.index(b'"model":"') + 9 :].split(b'"', 1)[0].decode()
        if number not in self.of_its_own:
            self.of_its_own[number] = random.Random(f"{asked.seed}:{number}")
        drawn = self.drawn(asked.lanes[model], self.of_its_own[number])
        self.seen.drawn.append((model, number, drawn))
        return drawn, f"{_MARK.decode()}{number} "

    def drawn(self, mean: float, chance: random.Random) -> float:
        spread = self.asked.spread
        return mean * chance.lognormvariate(-(spread**2) / 2, spread) if spread else mean

    def stats(self) -> Mapping[str, Any]:
        seen = self.seen
        seconds = seen.last - seen.first
        return {
            "calls": seen.calls,
            "answered": seen.answered,
            "refused": seen.refused,
            "most_flying": seen.most_flying,
            "first": seen.first,
            "last": seen.last,
            "busy": (seen.cpu_at_last - seen.cpu_at_first) / seconds if seconds > 0 else 0.0,
            "input_tokens": seen.input_tokens,
            "output_tokens": seen.output_tokens,
        }

    def told(self, top: bytes) -> bytes:
        """The answer to a question about the server itself."""
        if top.startswith(b"get /entries"):
            found: Any = self.seen.entries
        elif top.startswith(b"get /drawn"):
            found = self.seen.drawn
        else:
            found = self.stats()
        body = json.dumps(found).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Connection(asyncio.Protocol):
    """One connection; requests come one after another, each with the length of its body."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.held += data
        while (head := self.held.find(b"\r\n\r\n")) >= 0:
            top = self.held[:head].lower()
            at = top.find(b"content-length:")
            end = head + 4 + (int(top[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
            if len(self.held) < end:
                return
            body, self.held = self.held[head + 4 : end], self.held[end:]
            if top.startswith(b"get "):
                self.say(self.server.told(top))
            else:
                self.take(body)

    def take(self, body: bytes) -> None:
        server, seen, asked = self.server, self.server.seen, self.server.asked
        now = time.monotonic()
        if not seen.first:
            seen.first, seen.cpu_at_first = now, cpu()
        input_tokens = body.count(b" ") + 4 * body.count(b'"role"') + 3
        limit = body.find(b'_tokens":')
        max_tokens = int(body[limit + 9 :].split(b",", 1)[0].rstrip(b"}")) if limit >= 0 else asked.tokens
        if not server.lets_in(input_tokens, max_tokens, now):
            seen.refused += 1
            said = b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
            self.say(
                b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n%b\r\n%b" % (len(said), server.limit_headers(), said)
            )
            return
        seen.calls += 1
        seen.flying += 1
        seen.most_flying = max(seen.most_flying, seen.flying)
        latency, mark = server.latency(body)
        if latency:
            server.loop.call_later(latency, self.finish, mark, input_tokens)
        else:
            self.finish(mark, input_tokens)

    def finish(self, mark: str, input_tokens: int) -> None:
        server, seen = self.server, self.server.seen
        output_tokens = server.asked.tokens + (1 if mark else 0)
        seen.answered += 1
        seen.flying -= 1
        seen.input_tokens += input_tokens
        seen.output_tokens += output_tokens
        server.ended(output_tokens, time.monotonic())
        self.say(server.answer(mark, input_tokens, output_tokens))
        seen.last, seen.cpu_at_last = time.monotonic(), cpu()

    def say(self, answer: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answer)


async def serve(asked: Asked) -> None:
    server = Server(asked)
    listening = await server.loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


def lane(text: str) -> tuple[str, float]:
    model, _, latency = text.partition("=")
    return model, float(latency)


def main() -> None:
    plain = Asked()
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=plain.latency)
    parser.add_argument("--spread", type=float, default=plain.spread)
    parser.add_argument("--lane", dest="lanes", type=lane, action="append", default=[], metavar="MODEL=LATENCY")
    parser.add_argument("--tokens", type=int, default=plain.tokens)
    parser.add_argument("--rpm", type=int, default=plain.rpm)
    parser.add_argument("--tpm", type=int, default=plain.tpm)
    parser.add_argument("--count", choices=("reserved", "used"), default=plain.count)
    parser.add_argument("--shape", choices=("window", "bucket"), default=plain.shape)
    parser.add_argument("--headers", action="store_true")
    parser.add_argument("--seed", type=int, default=plain.seed)
    given = vars(parser.parse_args())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Asked(**given | {"lanes": dict(given["lanes"])})))


if __name__ == "__main__":
    main()
