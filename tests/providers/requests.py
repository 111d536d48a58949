"""The requests of the golden files: one history each, from a job file to the bytes that a dialect sends for it.

The golden files stand in `tests/providers/golden/`, one for each dialect. To write them anew after a change that was
meant, and read the difference before committing it:

    GOLDEN=write pytest tests/providers/test_golden.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, get_args

import orjson

from runner.conversation import arranged, call_for
from runner.events import Sent
from runner.plan import make_plan
from runner.preflight import endpoint
from runner.prices import input_bound, view_bound
from runner.providers import DIALECTS
from runner.sim.config import Speaks
from runner.verify import Verified, verify
from runner.world import HttpRequest, Secret
from tests.floors import floor
from tests.nights import START, Night, job_of, text_of
from tests.test_nights_lost import death_after

FOLDER: Final = Path(__file__).with_name("golden")
KEYS: Final = {f"{name.upper()}_API_KEY": "KEY" for name in DIALECTS}
FIRST, SECOND, THIRD = "What survives of a conversation?", "Its silences.", "“And then?”"


@dataclass(frozen=True, slots=True)
class History:
    """A prompt, what has been said in it, and with which settings its next line is asked for."""

    prompt: Mapping[str, Any]
    said: Mapping[int, str] = field(default_factory=dict)
    """By the numbers of the lines."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    picks: Mapping[int, str] = field(default_factory=dict)
    """Whom a moderator has named, by the lines that he decided."""
    whole: bool = False
    """With a seed and a window, too."""


TWO: Final = {"opening": FIRST, "rounds": 2}
REPLIES: Final = {1: SECOND, 2: THIRD}
BRIEF: Final = {**TWO, "system": "You are brief."}
SAMPLING: Final = {
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": 40,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "stop_strings": ["[[END]]"],
}

LED: Final = {
    "opening": FIRST,
    "rounds": 5,
    "roles": {"one": {"system": "You are one."}, "two": {}, "three": {"system": "You are three."}},
    "order": "moderator",
    "moderator": {"model": "m-one"},
}
ORDER: Final = {
    1: "three",
    2: "one",
    4: "two",
    5: "three",
    7: "one",
    8: "two",
    10: "two",
    11: "nobody",
    13: "one",
    14: "three",
}
EARLIER: Final = {number: f"Line {number}." for number in range(1, 15)}

HISTORIES: Final[Mapping[str, History]] = {
    "two speakers": History(TWO, REPLIES),
    "three speakers": History({**TWO, "roles": {"one": {}, "two": {}, "three": {}}}, {**REPLIES, 3: "Nothing."}),
    "a system text": History(BRIEF, REPLIES),
    "a context, and an instruction": History(
        {
            "context": "# An essay\n\nIt begins.",
            "turns": [
                {"by": "a", "instruct": "Open the discussion."},
                {"by": "b"},
                {"by": "a", "instruct": "Close it."},
            ],
        },
        REPLIES,
    ),
    "opened by the speaker": History(
        {"roles": {"a": {"opening": "Shall we talk?"}, "b": {}}, "rounds": 2}, {2: "Yes."}
    ),
    "opened by the other side": History(
        {"roles": {"b": {"opening": "Shall we talk?"}, "a": {}}, "rounds": 3}, {2: "Of what?", 3: "Of you."}
    ),
    "reasoning left alone": History(TWO),
    "reasoning off": History(TWO, settings={"reasoning": {"effort": "none"}}),
    "reasoning on": History(TWO, settings={"reasoning": {"effort": "high"}}),
    "reasoning at its most": History(TWO, settings={"reasoning": {"effort": "max"}}),
    "reasoning by a number": History(TWO, settings={"reasoning": {"tokens": 1024}}),
    "every setting, a seed and a window": History(TWO, settings=SAMPLING, whole=True),
    **{
        f"the {which} of round five, as a moderator has it": History(
            LED, dict(list(EARLIER.items())[:number]), picks=ORDER
        )
        for number, which in enumerate(("first", "second", "third"), start=12)
    },
}
RESUMED: Final = History(
    {**BRIEF, "context": "# An essay"}, REPLIES, {"temperature": 0.7, "reasoning": {"effort": "high"}}
)
LINES: Final = {"a": [SECOND, "Ask me."], "b": [THIRD, "No."]}
PRICED: Final = {"price": {"input": 1, "output": 4}}
FIFTH_LINE: Final = 5
"""Of the journal: the second reply is the last that is written before the end of the first life."""


def job_for(name: str, history: History) -> dict[str, Any]:
    """A job whose only provider is the one that goes by this name."""
    roles = list(history.prompt.get("roles", ("a", "b")))
    window = {"context": 16384} if history.whole else {}
    seeded = {"seed": 7, "send_seed": True} if history.whole else {}
    return {
        "name": "golden",
        "budget": 5,
        **seeded,
        "defaults": {"max_tokens": 4096, **history.settings},
        "models": {f"m-{role}": {"use": f"{name}/m-{role}", **PRICED, **window} for role in roles},
        "prompts": {"talk": dict(history.prompt)},
        "pairings": [{"prompt": "talk", **{role: f"m-{role}" for role in roles}}],
    }


def body_of(name: str, history: History) -> bytes:
    """The request for the next line of a history, at the server that a dialect is named for."""
    plan = make_plan(job_of(text_of(job_for(name, history))), "2026-11-21")
    conversation = plan.conversation(plan.cells[0])
    conversation = arranged(conversation, history.picks)
    texts = (line.given or history.said.get(line.number) for line in conversation.lines)
    lines = [text for text in takewhile(bool, texts) if text is not None]
    who = floor(conversation, conversation.lines[len(lines)], lines)
    call = call_for(conversation, who, 1, 4096, ())
    price = plan.models[who.speaker.alias].price
    assert price is not None
    call = replace(call, rates=price.dearest(input_bound(view_bound(call.view), extra=call.extra).tokens))
    return DIALECTS[name].body(call, plan.providers[name].limit_field)


@dataclass(frozen=True, slots=True)
class Resumed:
    """What became of a night that died between two turns."""

    sent: bytes
    """The first request of its second life, as it stood on the wire."""
    on_record: Sent
    verified: Verified


def resumed(name: str) -> Resumed:
    """Two of four turns are said in the first life; the second reads the journal, and asks for the third."""
    models = {f"m-{role}": {**PRICED, "reply": {"texts": some}} for role, some in LINES.items()}
    speaks = {"speaks": name} if name in get_args(Speaks) else {}
    night = Night(job_for(name, RESUMED), {"seed": 3, "epoch": START, "models": models, **speaks}, environ=KEYS)
    assert night.live(fault=death_after(FIFTH_LINE)).exit is None
    assert sorted(turn for _, turn in night.replies()) == [1, 2] == [sent.turn for sent in night.sents()]
    requests: list[HttpRequest] = []
    assert night.live(before=requests.append).exit == 0
    return Resumed(requests[0].body, night.sents()[2], verify(night.folder, night.disk))


def shown(body: bytes) -> str:
    """A request as the golden files show it: a line for each field, and for each message."""
    rows: list[str] = []
    for name, value in orjson.loads(body).items():
        lines = value if isinstance(value, list) and value and isinstance(value[0], dict) else None
        text = orjson.dumps(value).decode() if lines is None else "[\n" + ",\n".join(map(_indented, lines)) + "\n  ]"
        rows.append(f'  "{name}": {text}')
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _indented(value: Any) -> str:
    return "    " + orjson.dumps(value).decode()


def golden(name: str) -> tuple[str, dict[str, bytes]]:
    """Where the requests of a dialect go, with which headers; and each body, by its history."""
    path = FOLDER / f"{name}.txt"
    head, *rest = path.read_text(encoding="utf-8").split("\n### ")
    sections = (section.split("\n", 1) for section in rest)
    return head, {title: orjson.dumps(orjson.loads(text)) for title, text in sections}


def write_golden(name: str, head: str, bodies: Mapping[str, bytes]) -> None:
    sections = [f"### {title}\n{shown(body)}" for title, body in bodies.items()]
    (FOLDER / f"{name}.txt").write_text("\n".join([head, *sections]), encoding="utf-8")


def head_of(name: str) -> str:
    """The address and the headers of every request of a dialect."""
    plan = make_plan(job_of(text_of(job_for(name, HISTORIES["two speakers"]))), "2026-11-21")
    home = endpoint(plan.providers[name], KEYS, None)
    headers = DIALECTS[name].headers(home)
    told = {title: value.reveal() if isinstance(value, Secret) else value for title, value in headers.items()}
    return "\n".join(
        [f"POST {DIALECTS[name].url(home, 'm-a')}", *(f"{title}: {value}" for title, value in told.items()), ""]
    )
