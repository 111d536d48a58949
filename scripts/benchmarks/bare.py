"""The bare loop: the same conversations with aiohttp and orjson and nothing else, as the baseline.

No journal, no money, no limits, no retries, no files: what any script would do that somebody wrote for speed.

    python -m scripts.benchmarks.bare URL CONVERSATIONS TURNS AT_ONCE
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import aiohttp
import orjson

from scripts.benchmarks.jobs import MAX_TOKENS, MODELS, OPENING


def messages(history: list[str], turn: int) -> list[dict[str, str]]:
    """What the speaker of this turn is shown: its own lines as the assistant's, the other's as the user's."""
    found: list[dict[str, str]] = []
    mine = turn % 2
    if mine == 0:
        found.append({"role": "user", "content": OPENING})
    for number, text in enumerate(history):
        if number % 2 == mine:
            found.append({"role": "assistant", "content": text})
        elif number == 0:
            found.append({"role": "user", "content": f"{OPENING}\n\n{text}"})
        else:
            found.append({"role": "user", "content": text})
    return found


def body(history: list[str], turn: int) -> bytes:
    return orjson.dumps(
        {
            "model": MODELS[turn % 2],
            "messages": messages(history, turn),
            "max_tokens": MAX_TOKENS,
            "stream_options": {"include_usage": True},
            "stream": True,
        }
    )


async def converse(session: aiohttp.ClientSession, url: str, turns: int) -> None:
    history: list[str] = []
    for turn in range(turns):
        said: list[str] = []
        request = session.post(url, data=body(history, turn), headers={"content-type": "application/json"})
        async with request as response:
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                    for choice in orjson.loads(line[6:])["choices"]:
                        said.append(choice["delta"].get("content", ""))
        history.append("".join(said))


async def work(session: aiohttp.ClientSession, url: str, turns: int, conversations: Iterator[int]) -> None:
    for _ in conversations:
        await converse(session, url, turns)


async def main(url: str, conversations: int, turns: int, at_once: int) -> None:
    left = iter(range(conversations))
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
        ) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(at_once):
            tasks.create_task(work(session, url, turns, left))


if __name__ == "__main__":
    asyncio.run(main(f"{sys.argv[1]}/v1/chat/completions", *map(int, sys.argv[2:5])))
