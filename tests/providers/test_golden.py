"""The golden requests: every dialect by every history, as readable files that were read against what vendors say."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final

import orjson
import pytest

from runner.call import Call, Message, View
from runner.providers import DIALECTS
from tests.providers.requests import FOLDER, HISTORIES, RESUMED, body_of, golden, head_of, resumed, write_golden

AFTER: Final = "after a resume"
each_dialect = pytest.mark.parametrize("name", DIALECTS)


@pytest.fixture(scope="module", autouse=True)
def written() -> None:
    """With GOLDEN=write the files are made anew, and then read like any others."""
    if os.environ.get("GOLDEN") == "write":
        for name in DIALECTS:
            bodies = {title: body_of(name, history) for title, history in HISTORIES.items()}
            write_golden(name, head_of(name), {**bodies, AFTER: body_of(name, RESUMED)})


def test_every_dialect_has_a_request_for_every_history() -> None:
    """None is missing, and no file is left of what is no more."""
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(f"{name}.txt" for name in DIALECTS)
    for name in DIALECTS:
        assert list(golden(name)[1]) == [*HISTORIES, AFTER], name


@each_dialect
def test_a_request_goes_where_it_belongs(name: str) -> None:
    """By the name of the provider alone: its address, its headers, and its key in one of them."""
    assert golden(name)[0] == head_of(name)


@pytest.mark.parametrize("title", HISTORIES)
@each_dialect
def test_a_request_has_exactly_these_bytes(name: str, title: str) -> None:
    """The journal keeps a hash of these bytes: a change here is a new revision of the dialect."""
    number = 2 if name in ("anthropic", "openrouter") else 1
    assert DIALECTS[name].revision == ("openai/1" if name == "sim" else f"{name}/{number}")
    assert body_of(name, HISTORIES[title]) == golden(name)[1][title]


THOUGHT: Final = {
    "ollama": "thinking",
    "openrouter": "reasoning",
    **dict.fromkeys(("llamacpp", "lmstudio", "sim", "vllm", "zai"), "reasoning_content"),
}


@each_dialect
def test_what_a_model_thought_is_told_to_it_where_it_takes_that_and_nowhere_else(name: str) -> None:
    """Beside its own line, under the name that the server has for it; the others never see it."""
    dialect = DIALECTS[name]
    assert dialect.takes_reasoning == (name in THOUGHT)
    view = View(None, (Message("user", "Q"), Message("assistant", "A", "I weigh it."), Message("user", "And?")))
    body = orjson.loads(dialect.body(Call("c", 3, 1, name, "m", view, 100)))
    if name in THOUGHT:
        assert body["messages"][-2] == {"role": "assistant", "content": "A", THOUGHT[name]: "I weigh it."}
        assert all(THOUGHT[name] not in message for message in (body["messages"][-3], body["messages"][-1]))
    else:
        assert b"I weigh it." not in orjson.dumps(body)


@each_dialect
def test_a_request_after_a_resume_has_exactly_these_bytes(name: str) -> None:
    """What a second life sends, and what `verify` rebuilds, from a journal alone, is what one life would have sent."""
    found, expected = resumed(name), golden(name)[1][AFTER]
    assert found.sent == expected
    assert (found.on_record.turn, found.on_record.request) == (3, sha256(expected).hexdigest())
    assert (found.verified.problems, found.verified.rebuilt, found.verified.not_rebuilt) == ((), 4, {})
