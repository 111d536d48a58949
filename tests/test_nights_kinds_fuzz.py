"""Nights of all kinds at once that are killed at random steps, added to between their lives, and taken up again."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from runner.branches import Wish
from runner.journal import FILE
from runner.money import parse_dollars
from runner.outputs import Reading
from runner.selection import Options
from runner.verify import verify
from tests.kinds import PRICE, Says, drop, engaged, lines_shown, night, sim
from tests.memory import planned
from tests.nights import Ledger, Life, Night

SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}

EVERYTHING: dict[str, Any] = {
    "name": "kinds",
    "budget": {"run": 0.08, "conversation": 0.012},
    "defaults": {"max_tokens": 150, "outcomes": {"error": {"retry": 1}, "lost": {"retry": 4}}},
    "providers": {"sim": {}},
    "models": {
        **{name: {"use": f"sim/{name}", "price": PRICE} for name in ("ada", "basil", "cleo", "mod", "judge", "notes")},
        "small": {"use": "sim/small", "price": PRICE, "context": 400},
    },
    "prompts": {
        "duo": {
            "opening": "What survives?",
            "rounds": 3,
            "stop": [{"vote": {"observer": "judge"}}, {"phrase": "The end."}],
            "after": [
                {"observer": "notes", "prompt": "What was said?", "heading": "Notes", "budget": 0.004},
                {"observer": "judge", "kind": "scores", "prompt": "Score it.", "schema": SCHEMA},
            ],
        },
        "table": {
            "roles": {"one": {}, "two": {}, "three": {}},
            "opening": "Talk.",
            "rounds": 2,
            "order": "moderator",
            "moderator": {"model": "mod"},
            "history": {"window": 4},
            "after": [{"observer": "notes", "kind": "titles"}],
        },
        "letters": {
            "roles": {"me": {"inbox": {"file": "inbox/{{conversation}}.md"}}, "it": {}},
            "context": "Two friends write.",
            "rounds": 2,
            "order": "random",
        },
        "long": {"opening": "Go on for long.", "rounds": 4, "history": {"overflow": "trim"}},
    },
    "pairings": [
        {"prompt": "duo", "a": "ada", "b": ["basil", "cleo"]},
        {"prompt": "table", "one": "ada", "two": "basil", "three": "cleo"},
        {"prompt": "letters", "it": "ada", "repeat": 2},
        {"prompt": "long", "a": "small", "b": "small"},
    ],
}


def answers(seed: int) -> Says:
    """Models of moods: a judge, a moderator and an observer who do not always give what they were asked for."""

    def says(model: str, texts: Any) -> str | None:
        random = Random(f"{seed} {model} {texts}")
        shown = texts[-1][1]
        if model == "mod":
            return random.choice(["one", "two", "Three, please.", "nobody", "one or two", "me"])
        if "yes or no" in shown:
            return random.choice(["no", "No.", "no", "yes", "perhaps"])
        if "JSON" in shown and "title" in shown:
            number = lines_shown(texts)
            good = "{" + ", ".join(f'"{n}": "title {n}"' for n in range(1, number + 1)) + "}"
            return random.choice([good, good, "titles?"])
        if "JSON" in shown:
            return random.choice(['{"depth": 3}', '```json\n{"depth": 4}\n```', '{"depth": "deep"}'])
        if random.random() < 0.04:
            return "So be it. The end."
        return None

    return says


def provider(random: Random) -> dict[str, Any]:
    kinds = ["busy", "server_error", "reset", "cut", "blank", "refusal", "malformed", "silent"]
    faults = [
        {"kind": kind, "rate": random.choice([0.0, 0.02, 0.05]), **({"retry_after": 1.0} if kind == "busy" else {})}
        for kind in random.sample(kinds, 4)
    ]
    # Of those who only listen some are gone for good.
    faults += [{"kind": "not_found", "model": name} for name in ("mod", "judge") if random.random() < 0.15]
    return sim(
        *EVERYTHING["models"],
        faults=faults,
        small={"reply": {"mean": 40}, "context": 400},
        notes={"reply": {"mean": random.choice([10, 60])}},
    )


def check(one: Night, life: Life) -> Reading | None:
    """What must hold after any life."""
    try:
        reading = one.reading()
    except (ValueError, FileNotFoundError):
        return None  # it died before it had said what its job is
    state = reading.state
    assert Ledger.of(one.records()).asked_again == []
    flying = {call.sent.cell for call in state.open_calls()}
    assert one.billed <= state.run.held
    plan = reading.plan
    assert state.run.held <= parse_dollars("0.08")
    for cell in (*plan.cells, *plan.superseded):
        assert reading.spent(cell) <= parse_dollars("0.012"), cell.name
    notes = [a for c in (*plan.cells, *plan.superseded) for a in plan.after(c) if a.budget is not None]
    assert sum(state.of(a.id).account.held for a in notes) <= parse_dollars("0.004")
    found = verify(one.folder, one.left())
    # A life that is killed leaves views that its journal is ahead of, and perhaps half a line; the next one mends that.
    problems = [text for text in found.problems if life.exit is not None or text.startswith(FILE)]
    assert [text for text in problems if "torn off" not in text] == []
    assert not (life.exit is not None and flying)
    return reading


def wishes(one: Night, reading: Reading, random: Random) -> Options:
    """What somebody may want of the run between two of its lives."""
    cells = list(reading.plan.cells)
    cell = random.choice(cells)
    turns = len(reading.talk(cell).history)
    match random.randrange(7):
        case 0:
            return Options(wish=Wish("extend", (cell.name,), more_rounds=1))
        case 1:
            return Options(
                wish=Wish("fork", (cell.name,), turn=random.randint(0, turns), more_rounds=random.randint(0, 1))
            )
        case 2:
            return Options(wish=Wish("redo", (cell.name,), turn=random.choice([None, 1, max(1, turns)])))
        case 3:
            return Options(observers_only=True, engaged=engaged(one, "notes", random.choice(["And?", "So?"])))
        case 4:
            return Options(retry_failed=True)
        case 5:
            return Options(observers_only=True)
        case _:
            return Options()


def write(one: Night, parts: dict[str, list[str]], random: Random, rate: float) -> None:
    """Perhaps a line more for those who wait for one."""
    for name in ("letters/ada", "letters/ada.r2"):
        if random.random() < rate:
            parts[name] = [*parts.get(name, []), f"Letter {len(parts.get(name, ()))} to {name}."]
            drop(one, f"inbox/{name}.md", "\n\n<!-- turn -->\n\n".join(parts[name]))


def hold(seed: int) -> None:
    """Some lives of a night, most of them killed, and then as many as it takes."""
    random = Random(seed)
    one = night(EVERYTHING, provider(random), answers(seed), seed=seed, rtt=(0.001, 0.05))
    options = Options()
    parts: dict[str, list[str]] = {}
    reading: Reading | None = None
    for life in range(random.randint(3, 7)):
        fault = planned({random.randint(1, 400): "kill"}, own=True) if random.random() < 0.7 else planned({})
        write(one, parts, random, 0.4)
        postman = Random(f"{seed} {life}")
        # Whoever died has left the disk to the next one; what that one finds is what it must not change.
        one.disk = one.disk.survivor()
        before = one.left().files.get(one.folder / FILE)
        lived = one.live(options, fault=fault, before=lambda request: write(one, parts, postman, 0.02))  # noqa: B023
        assert lived.exit in (None, 0, 2, 3, 4), lived.told
        if lived.exit == 2:
            after = one.left().files.get(one.folder / FILE)
            # A line that the death of the life before had torn is set aside by whoever looks.
            assert after == (before and before[: before.rfind(b"\n") + 1]), "what was refused changes nothing"
        else:
            reading = check(one, lived)
        options = Options() if reading is None else wishes(one, reading, random)
    for _ in range(3):
        lived = one.live()
        assert lived.exit in (0, 3, 4), lived.told
        check(one, lived)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_paid_is_bought_twice_whatever_is_killed_or_added(seed: int) -> None:
    """Bill <= counted <= ceilings, and a sound run, after every life."""
    hold(seed)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(1000, 1030))
def test_nothing_paid_is_bought_twice_in_many_more_nights(seed: int) -> None:
    """The same with other seeds."""
    hold(seed)
