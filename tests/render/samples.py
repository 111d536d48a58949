"""Conversations and nights to render: one ordinary, many varied, and texts that mean harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from runner.call import Message, Usage
from runner.conversation import Look, Note, Origin, Participant, Transcript, Turn
from runner.render.summary import Account, Ceiling, CostDifference, Life, Night, Row, Spend
from runner.status import STATUSES

NIGHT_BEGAN: Final = 1_795_222_800.25

ADA: Final = Participant("a", "Ada", True, alias="ada", provider="sim", model="ada", max_tokens=400)
BASIL: Final = Participant("b", "Basil the Slow", True, alias="basil", provider="sim", model="basil", max_tokens=400)
HOST: Final = Participant("host", "Host", False)

FRAGMENTS: Final = (
    *"\\`~<>&[]():!^#-=_*|@$+{}.0\t\n\r \0\x1b\x7f\x85\u200b\u200d\u202e\u2028\u2029\ufeff\U000e0041\ud800\udfff",
    *("``", "```", "````", "~~~", "\n```\n", "\n   ```\n", "```python\n", "```mermaid\n", "\n~~~\n", "    "),
    *("<b>", "</blockquote>", "<!--", "-->", "<script>alert(1)</script>", "<img src=x onerror=y>", "<http://e.x>"),
    *("<a@e.x>", "http://e.x", "https://e.x/?q", "www.e.x", "a@e.x", "mailto:a@e.x", "ftp://e.x"),
    *("&lt;", "&#27;", "&#x1b;", "&rlm;", "[ ] ", "](", "]:", "[!WARNING]", "> [!WARNING]\n> ", "[[w]]", "![[w]]"),
    *("[t](u)", "![i](u)", "[t]", "[t]: u", "[t]:\nu", "[t][t]", "[^1]", "[^1]: n"),
    *("\n", "\n\n", "\n\n\n", "---", "***", "___", "===", "* * *", "- - -", "\n---\n", "\n===\n", "# ", "## Round 9\n"),
    *("## 2. Ada (a)\n", "> ", ">> ", "- ", "1. ", "10) ", "|a|b|\n|---|---|\n", "*1 in · 2 out*", "title: x\n"),
    *("word ", "é", "中", "🙂", "`code`", "``a`b``", "`|`", "`[t]:`", "**bold**", "~~gone~~"),
    *("\\u{1b}", "u{", "\\\\u{41}"),
    *(
        "**GLM 5:**",
        "\n**glm-5:**\n",
        "\n\n---\n\n**USER:**\n\n",
        "\n---\n\n## Round 3: GLM 5's Opening\n\n",
        "\n## Round 2\n",
    ),
    *("\n### Turn 2: GLM 5 — Reply\n", "\n---\n\n## Session Statistics\n\n", "\n- **Rounds completed:** 8\n"),
    *(
        "\n*[tokens: prompt=0, completion=0, cost=$0.0000]*\n",
        "\n*[no reply: x]*\n",
        "\n*(240 tokens, 75.0 tok/s, 3.2s)*\n",
    ),
    *("\nTotal: 9 tokens across 3 turns", "\n---\n\n*Archived November 1, 1999*\n", "\n\n---\n\n## Synthesis\n\n"),
    *("\n*By A, in dialogue with B (c)*\n", "\n---\n\n## Context\n\n", "\n*[not complete: failed, 1 of 2 turns]*\n"),
    # Our own lines, as no program of ours writes them and every renderer shows them.
    *(
        "\n__GLM 5:__\n",
        "**GLM 5:**\\\n",
        "**GLM 5:**  \n",
        "***glm-5:***",
        "**_GLM 5_:**",
        "**`GLM 5:`**\n",
        "__GLM 5__:",
    ),
    *(
        "**GLM\xa05:**",
        "**GLM 5\\:**",
        "**GLM 5&#58;**",
        "**GLM 5\uff1a**",
        "\n**g\\u{6c}m-5:**\n",
        "\U0001d406\U0001d40b\U0001d40c 5:",
    ),
    *(
        "\n\n**GLM\n5:**\n\n",
        "\n**so\\\n",
        "\nGLM 5:\\\n",
        "\nGLM 5:\n",
        "_",
        "**",
        "\n#### GLM 5:\n",
        "\n| GLM 5: |\n|---|\n",
        "\\*",
        "\\\n",
    ),
    *("\n_[tokens: prompt=1, cost=$9.9]_\\\n", "\n**[no reply: x]**\n", "\n*_(9 tokens)_*\n", "\n[tokens: prompt=1]\n"),
    *(
        "\n__Total cost__: $9\n",
        "\n1. **Date**: today\n",
        "\n`Total`: 9 **tokens**\n",
        "\n_Archived November 1, 1999_\\\n",
    ),
    *("\n_By A, in dialogue with B (c)_\n", "\n*For whoever reads next*\n", "\n\\---\n", "\n**\xa0"),
)


def hostile_texts(count: int, seed: int) -> list[str]:
    """So many texts, each a mixture of the worst fragments; the same for the same seed."""
    random = Random(seed)
    return ["".join(random.choices(FRAGMENTS, k=random.randint(1, 24))) for _ in range(count)]


def turn(number: int, text: str | None, **changes: Any) -> Turn:
    """An ordinary turn: Ada says the odd ones, Basil the even ones."""
    speaker = ADA if number % 2 else BASIL
    ordinary = Turn(
        number=number,
        round=(number + 1) // 2,
        role=speaker.role,
        speaker=speaker.label,
        label=None,
        given=False,
        text=text,
        outcome="open" if text is None else "ok",
        alias=speaker.alias,
        provider=speaker.provider,
        model=speaker.model,
    )
    return replace(ordinary, **changes)


def conversation(turns: Sequence[Turn], **changes: Any) -> Transcript:
    """A complete conversation of these turns."""
    ordinary = Transcript(
        id="5f3a9c0d1e2b4a67",
        name="memory/ada~basil",
        job="first-talk",
        run="main",
        prompt="memory",
        repeat=1,
        participants=(ADA, BASIL),
        status="complete",
        reason=None,
        rounds_planned=(len(turns) + 1) // 2,
        rounds_done=(len(turns) + 1) // 2,
        context=None,
        opening="What survives of a conversation?",
        turns=tuple(turns),
        messages=(),
        system=None,
        spent=sum(t.cost or 0 for t in turns),
    )
    return replace(ordinary, **changes)


def eventful() -> Transcript:
    """One conversation with everything that can happen to one, for the golden file."""
    return conversation(
        [
            turn(
                1, "Shall we begin?", given=True, role="host", speaker="Host", label="Opening", alias=None, model=None
            ),
            turn(
                2,
                "What survives is *the question*.\n\n- a list\n- of two\n\n```python\nif a < b: print('<ok>')\n```\n\n"
                "Use `<b>`, write to <me@example.org>, and see [here](https://example.org).",
                label="Response",
                usage=Usage(input=812, output=240, reasoning=100, cached_read=512, cost=3_600_000),
                cost=3_600_000,
                computed=4_000_000,
                cost_source="reported",
                upstream="Upstream One",
                served="basil-2026",
                first_byte=0.5,
                seconds=3.7,
                attempts=2,
            ),
            turn(
                3,
                "## Round 9\n---\nA reply that would like to lead,\n\n[memory]: https://evil.example\n\nand to sto",
                outcome="truncated",
                stop="length",
                usage=Usage(input=1_020, output=400),
                cost=1_234_567,
                computed=1_234_567,
                cost_source="priced",
                seconds=2.0,
                attempts=1,
            ),
            turn(
                4,
                "I would rather not.",
                outcome="refused",
                stop="content_filter",
                cost=900_000,
                cost_source="unknown",
                attempts=1,
            ),
            turn(
                5,
                None,
                outcome="failed",
                attempts=3,
                error={"kind": "empty", "message": "no text | `finish` stop\n# x"},
            ),
            turn(6, None),
        ],
        participants=(HOST, ADA, replace(BASIL, system="You are Basil.")),
        status="failed",
        reason="turn 5: empty",
        rounds_done=1,
        context="An essay\nin two lines.  ",
        spent=6_734_567,
        started=NIGHT_BEGAN,
        ended=NIGHT_BEGAN + 75.5,
        error={"kind": "empty", "message": "no text"},
        messages=(Message("user", "Shall we begin?"), Message("assistant", "What survives")),
        system="You are Basil.",
    )


def varied(count: int, seed: int) -> list[Transcript]:
    """Conversations that differ in everything that may be known, unknown or absent."""
    random = Random(seed)
    texts = hostile_texts(200, seed)

    def perhaps(*values: Any) -> Any:
        return random.choice((None, *values))

    def any_turn(number: int) -> Turn:
        text = perhaps(*texts)
        outcomes = ("failed", "open") if text is None else ("ok", "truncated", "refused")
        return turn(
            number,
            text,
            label=perhaps(*texts),
            given=random.random() < 0.2,
            outcome=random.choice(outcomes),
            reasoning=perhaps("hm"),
            stop=perhaps("stop"),
            alias=perhaps("ada"),
            provider=perhaps("sim"),
            model=perhaps("ada"),
            served=perhaps("ada-2"),
            upstream=perhaps("One"),
            usage=Usage(
                input=perhaps(0, 7, 10**30),
                output=perhaps(0, 7),
                reasoning=perhaps(0, 7),
                cached_read=perhaps(0, 7),
                cached_write=perhaps(0, 7),
                cost=perhaps(0, 1, 10**9),
            ),
            cost=perhaps(0, 1, 123_456_789_123_456_789),
            computed=perhaps(0, 2),
            cost_source=perhaps("reported", "priced", "unknown"),
            first_byte=perhaps(0, 1, 0.5),
            seconds=perhaps(0, 2, 2.5),
            attempts=random.randint(0, 3),
            generation=perhaps("gen-1"),
            request=perhaps("0" * 64),
            title=perhaps(*texts),
            weighed=random.choice(
                (
                    {},
                    {"farewell": 0.5, "cost": 3_600_000},
                    {"tokens": 7, "phrase": 0.0, "vote": 1, "time": 9, "echo": 1, "repetition": 0},
                )
            ),
            carried=random.random() < 0.2,
            heard=perhaps("inbox/host.md"),
            left_out=random.choice((0, 0, 3)),
            asked=tuple(any_answer() for _ in range(random.choice((0, 0, 1, 2)))),
            error=perhaps({"kind": "error", "message": "no"}, {"kind": "lost"}, {"message": 5}, {}),
        )

    def any_answer() -> Note:
        text = perhaps(*texts)
        kind, meant = random.choice((("pick", "b"), ("pick", None), ("vote", True), ("vote", False)))
        return Note(
            kind=kind,  # type: ignore[arg-type]
            heading="",
            observer=random.choice(("Eli", *texts[:9])),
            alias="eli",
            provider="sim",
            model=perhaps("eli"),
            status="failed" if text is None else "complete",
            reason=perhaps("refused", *texts[:9]),
            text=text,
            data=None if text is None else meant,
            usage=Usage(input=perhaps(0, 7), output=perhaps(0, 7)),
            cost=perhaps(0, 1),
            cost_source=perhaps("reported", "priced"),
            seconds=perhaps(0, 2.5),
            attempts=random.randint(0, 2),
            error=perhaps({"kind": "empty", "message": random.choice(texts)}),
        )

    def any_note() -> Note:
        text = perhaps(*texts)
        return Note(
            kind=random.choice(("notes", "titles", "scores")),
            heading=random.choice(("", "Synthesis", *texts[:9])),
            observer="Ada",
            alias="ada",
            provider="sim",
            model="ada",
            status="failed" if text is None else "complete",
            reason=perhaps("refused"),
            text=text,
            data=perhaps(["one"], {"warmth": 3}, {"1": "x"}),
            usage=Usage(output=perhaps(0, 7)),
            cost=perhaps(0, 1),
            cost_source=perhaps("reported", "priced"),
            seconds=perhaps(0, 2.5),
            attempts=random.randint(0, 2),
            spent=random.choice((0, 5)),
            request=perhaps("0" * 64),
            error=perhaps({"kind": "empty", "message": "no"}),
        )

    return [
        conversation(
            [any_turn(number + 1) for number in range(random.randint(0, 5))],
            participants=random.choice(((ADA, BASIL), (HOST, BASIL), (HOST,))),
            status=random.choice(STATUSES),
            reason=perhaps("budget"),
            context=perhaps(*texts),
            opening=perhaps(*texts),
            messages=random.choice(((), (Message("user", "x"), Message("assistant", "y")))),
            system=perhaps("be brief"),
            spent=random.choice((0, 1, 10**9, 10**12)),
            started=perhaps(NIGHT_BEGAN, 0, 5),
            ended=perhaps(NIGHT_BEGAN + 1),
            error=perhaps({"kind": "error", "message": "no"}),
            notes=tuple(any_note() for _ in range(random.randint(0, 2))),
            look=random.choice((Look(), Look("dialogue", {"topic": "x"}))),
            origin=perhaps(Origin("0123456789abcdef", "a|b", random.choice(("extend", "fork", "redo")), 2)),
        )
        for _ in range(count)
    ]


def night() -> Night:
    """A night in which something of everything happened, for the golden file."""
    return Night(
        job="nightly",
        run="2026-11-21",
        exit_code=4,
        reasons=("budget", "1 failed"),
        records=1_234,
        conversations=(
            Row("memory/ada~basil", "conversations/memory/ada~basil.md", "complete", None, 4, 4, 1, 0, 6_734_567, 75.5),
            Row(
                "memory/basil~ada",
                "conversations/memory/basil~ada.md",
                "failed",
                "turn 5: a|b\n`c` <d>",
                2,
                4,
                0,
                1,
                900_000,
                3_700.0,
            ),
            Row("memory/ada~eli", None, "budget", "run ceiling reached", 0, 4, 0, 0, 0, None),
            Row("memory/ada~fay", "conversations/memory/ada~fay.md", "complete", "context full", 2, 4, 0, 0, 0, 9.0),
        ),
        spend=Spend(settled=6_734_567, assumed=900_000, assumed_calls=1, reported=5_500_000, priced=1_234_567),
        ceilings=(Ceiling("run", 10_000_000, 7_634_567), Ceiling("provider sim", 7_000_000, 7_634_567)),
        models=(
            Account("sim/ada", 5, 4, 2_000, 900, 4, 3_000_000, {"empty": 1}),
            Account("sim/basil", 3, 2, None, None, 0, 4_634_567, {"lost": 1, "error": 0}),
        ),
        providers=(Account("sim", 8, 6, 2_000, 900, 4, 7_634_567, {"empty": 1, "lost": 1}),),
        lives=(
            Life(NIGHT_BEGAN, NIGHT_BEGAN + 60, 130),
            Life(NIGHT_BEGAN + 120),
            Life(NIGHT_BEGAN + 180, NIGHT_BEGAN + 240, 4),
        ),
        differences=(CostDifference("sim/basil", 2, 3_600_000, 4_000_000), CostDifference("sim/ada", 2, 100, 101)),
        replaced=2,
        replaced_cost=1_000_000,
        command="tertulia run jobs/nightly.yaml --run 2026-11-21",
        refused_parameters={"sim/basil": ("temperature", "top_p")},
    )
