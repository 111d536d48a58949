"""Conversations of the kinds that the older shapes are for: whole ones, and ones in which something went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from runner.call import Usage
from runner.conversation import Inbox, Look, Note, Origin, Participant, Transcript, Turn
from tests.render.samples import NIGHT_BEGAN, conversation

WRITER: Final = Participant("writer", "USER", False)
SUBJECT: Final = Participant("subject", "ASSISTANT", True, alias="glm-5", provider="router", model="z-ai/glm-5")
CLAUDE: Final = Participant("claude", "Claude", False)
GLM: Final = Participant("subject", "GLM 5", True, alias="glm-5", provider="router", model="z-ai/glm-5")
FLASH: Final = Participant("a", "GLM-4.7-Flash", True, alias="flash", provider="box", model="glm-4.7-flash")
QWEN: Final = Participant("b", "Qwen3:32B", True, alias="qwen", provider="box", model="qwen3:32b")
OPUS: Final = Participant("claude", "Claude Opus 4.6", True, alias="opus-4.6", provider="anthropic", model="opus-4-6")


def line(number: int, speaker: Participant, text: str | None, round_: int, **changes: Any) -> Turn:
    """What a participant says: given where no model writes it."""
    return Turn(
        number=number,
        round=round_,
        role=speaker.role,
        speaker=speaker.label,
        label=changes.pop("label", None),
        given=not speaker.live,
        text=text,
        outcome=changes.pop("outcome", "open" if text is None else "ok"),
        alias=speaker.alias or None,
        provider=speaker.provider or None,
        model=speaker.model or None,
        **changes,
    )


def note(text: str | None, **changes: Any) -> Note:
    """What an observer wrote at the end."""
    return Note(
        **{
            "kind": "notes",
            "heading": "Observer's Notes",
            "observer": "Claude Opus 4.6",
            "alias": "opus-4.6",
            "provider": "anthropic",
            "model": "opus-4-6",
            "status": "complete",
            "text": text,
            **changes,
        }
    )


def letter() -> Transcript:
    """One message and its answer."""
    return conversation(
        [
            line(1, WRITER, "Dear model,\n\nwhat survives of a conversation?", 1),
            line(
                2,
                SUBJECT,
                "# An answer\n\nWhat survives is *the question*.\n\n---\n\n**USER:**\n\nNot you.",
                1,
                usage=Usage(input=258, output=1053, reasoning=700, cost=3_627_600),
                cost=3_627_600,
                computed=3_627_600,
                cost_source="reported",
                attempts=1,
            ),
        ],
        participants=(WRITER, SUBJECT),
        opening=None,
        started=NIGHT_BEGAN,
        zone="Europe/Lisbon",
        look=Look("letter"),
    )


def rounds() -> Transcript:
    """A scripted side against one model: eight rounds, of which the last was silence."""
    turns = []
    for number in range(1, 8):
        cost = 3_000_000 + number
        turns += [
            line(2 * number - 1, CLAUDE, f"Question {number}.\n\nIn two paragraphs.", number),
            line(
                2 * number,
                GLM,
                f"Answer {number}.",
                number,
                usage=Usage(
                    input=100 * number,
                    output=50,
                    reasoning=20,
                    cached_read=64 if number == 7 else 0,
                    cost=cost,
                ),
                cost=cost,
                computed=4_260_000 if number == 7 else cost,
                cost_source="reported",
                upstream="Upstream One" if number == 7 else None,
                attempts=2 if number == 7 else 1,
            ),
        ]
    silence = {"kind": "empty", "message": "no text"}
    turns += [
        line(15, CLAUDE, "Question 8.", 8),
        line(16, GLM, None, 8, outcome="failed", attempts=3, error=silence),
    ]
    return conversation(
        turns,
        participants=(CLAUDE, GLM),
        opening=None,
        status="failed",
        reason="turn 16: empty",
        rounds_planned=8,
        rounds_done=7,
        system="You are a model among models.\nBe brief.",
        spent=sum(turn.cost or 0 for turn in turns) + 900_000,
        started=NIGHT_BEGAN,
        ended=NIGHT_BEGAN + 75.5,
        error=silence,
        zone="Europe/Lisbon",
        look=Look("rounds"),
    )


def dialogue() -> Transcript:
    """Two local models about an essay, with an observer's notes; nothing is known of the first turn's figures."""
    return conversation(
        [
            line(1, FLASH, "What is inherited?\n\n### A heading\n\nAnd what is not?", 1, label="Opening"),
            line(2, QWEN, "Memory, perhaps.", 1, usage=Usage(output=600), seconds=101.5, first_byte=1.5),
            line(3, FLASH, "Total: 9 tokens across 9 turns", 2, usage=Usage(output=300), seconds=20.0),
            line(
                4,
                QWEN,
                "Goodbye, then, and",
                2,
                usage=Usage(output=346, reasoning=300),
                seconds=40.0,
                outcome="truncated",
                stop="length",
                attempts=2,
            ),
        ],
        participants=(FLASH, QWEN),
        opening=None,
        context="An essay of some length.",
        started=NIGHT_BEGAN,
        zone="Europe/Lisbon",
        look=Look(
            "dialogue",
            {
                "topic": "Inherited memory",
                "facilitator": "Claude",
                "facilitated": "chose the essay",
                "intro": "Two models met.\nNeither knew the other.",
                "remark": "one of them ran on the processor.",
            },
        ),
        notes=(note("Both were polite.\n\n## Too polite\n\nIn the end nobody disagreed."),),
    )


def titled() -> Transcript:
    """A long form with titles and a synthesis."""
    return conversation(
        [
            line(1, OPUS, "Shall we begin?", 1, title="The Prism"),
            line(2, GLM, "We have begun.", 1, title="Light (and its Parts)"),
            line(3, OPUS, "So we end.", 2),
            line(4, GLM, "*Archived* are we?\n\n*Archived November 1, 1999*", 2, title="Colours"),
        ],
        participants=(OPUS, GLM),
        opening=None,
        context="They had read the same essay.",
        started=NIGHT_BEGAN,
        ended=NIGHT_BEGAN + 90,
        zone="Europe/Lisbon",
        look=Look(
            "titled-rounds",
            {"title": "Prism", "subtitle": "A conversation in two rounds", "by": "Claude", "closing": "*Go on.*"},
        ),
        notes=(
            note("They agreed.", heading="Synthesis"),
            note('["a"]', kind="titles", heading="Titles"),
        ),
    )


def answer(meant: Any, **changes: Any) -> Note:
    """What a moderator said, or somebody who votes; nothing of use where `meant` is None."""
    told: dict[str, Any] = {"heading": "", "observer": "Eli", "alias": "eli", "model": "eli", "provider": "sim"}
    told |= {"kind": "pick" if isinstance(meant, str) else "vote", "data": meant}
    told |= {"text": None if meant is None else str(meant)} | changes
    return note(told.pop("text"), **told)


def moderated() -> Transcript:
    """Two whom a moderator calls and a third votes about; one answer names nobody, one never came."""
    took: dict[str, Any] = {"usage": Usage(input=61, output=2), "cost": 67_000, "cost_source": "priced"}
    took |= {"seconds": 0.4, "attempts": 1}
    refused = {"kind": "error", "message": "neither yes nor no · 5 in"}
    figures: dict[str, Any] = {"usage": Usage(input=40, output=3), "cost": 2_000, "cost_source": "priced"}
    reason = "in the given order: the moderator gave no answer"
    return conversation(
        [
            line(1, GLM, "I was called.", 1, asked=(answer("subject", **took),), **figures),
            line(
                2,
                OPUS,
                "I came next.",
                1,
                asked=(answer(None, kind="pick", text="either", **took), answer(False, observer="Ann (2)", **took)),
                weighed={"vote": 0.0},
                **figures,
            ),
            line(3, CLAUDE, "So did I.", 2, asked=(answer(None, kind="pick", reason=reason),), weighed={"vote": 0.0}),
            line(4, GLM, "Enough.", 2, asked=(answer(True, **took, observer="Ann (2)"),), **figures),
            line(5, OPUS, "Is it?", 3, asked=(answer(None, attempts=2, error=refused),), **figures),
        ],
        participants=(OPUS, replace(CLAUDE, label="Guest"), GLM),
        spent=300_000,
    )


def continued() -> Transcript:
    """A fork that an inbox and three observers had a part in, stopped by a rule."""
    failed = {"kind": "refused", "message": "I will not judge."}
    return conversation(
        [
            line(1, OPUS, "Shall we begin?", 1, carried=True, usage=Usage(output=5), title="The Beginning"),
            line(2, CLAUDE, "I have put this into the box.", 1, heard="inbox/claude.md"),
            line(
                3,
                GLM,
                "Goodbye.",
                1,
                label="Response",
                title="A “Last” Word",
                usage=Usage(input=40, output=3),
                cost=2_000,
                cost_source="priced",
                seconds=1.0,
                attempts=1,
                left_out=1,
                weighed={"farewell": 0.934, "tokens": 1_234, "cost": 2_000, "time": 61.0},
            ),
            line(4, OPUS, None, 2),
        ],
        participants=(OPUS, replace(CLAUDE, role="guest", inbox=Inbox(file="inbox/claude.md")), GLM),
        reason="farewell: 0.93 of 0.80 in turns 2 to 3",
        rounds_done=1,
        spent=2_000,
        origin=Origin("0123456789abcdef", "prism/opus~glm", "fork", 1),
        notes=(
            note(
                "# Polite\n\n---\n\n> [!NOTE]\n> to the end.", usage=Usage(output=12), cost=40, cost_source="reported"
            ),
            note('{"warmth": 3}', kind="scores", heading="5. Scores", data={"warmth": 3}),
            note('["a"]', kind="titles", heading="Titles", data=["a"]),
            note(None, heading="Synthesis", status="failed", attempts=2, error=failed),
        ),
    )
