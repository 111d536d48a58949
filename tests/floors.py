"""Whose turn it is, worked out anew from all that was said: what a talk has grown line by line is held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.conversation import Conversation, Floor, Line, Perspective


def floor(
    conversation: Conversation,
    line: Line,
    history: Sequence[str],
    left_out: int = 0,
    thoughts: Mapping[int, str] | None = None,
) -> Floor:
    """Who speaks at a line and what is shown; `thoughts` by the lines before which somebody had them."""
    speaker = conversation.participant(line.role)
    shown = Perspective(conversation, line.role, left_out)
    known = thoughts if thoughts is not None and speaker.keeps_reasoning else {}
    for before, text in list(zip(conversation.lines, history, strict=False))[left_out:]:
        shown.take(before, text, known.get(before.number))
    return Floor(conversation.id, line.number, speaker, shown.view(line.instruct), left_out)
