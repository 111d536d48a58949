"""What those who listen are asked where the job leaves it open, and the form that their answers must have."""

from __future__ import annotations

import json
from typing import Final

from runner.job.job import Listener

NEXT: Final = (
    "You lead this conversation and take no part in it. Say which of its speakers should speak next, so that it goes "
    "on well. Answer with the bare name and nothing else."
)
OVER: Final = "Has this conversation come to its end, so that nothing would be gained by going on?"
TITLES: Final = "Give each of the numbered turns above a short title that says what is new in it."

_YES_OR_NO: Final = "Answer with one word: yes or no."
_AS_TITLES: Final = (
    "Answer with JSON and nothing else: a mapping from the number of each turn to its title, "
    'such as {"1": "...", "2": "..."}.'
)
_AS_SCHEMA: Final = "Answer with JSON and nothing else, in the form of this JSON Schema:"


def question(listener: Listener, prompt: str) -> str:
    """All that a listener is asked: what the job says, and the form without which the answer is of no use."""
    if listener.kind == "vote":
        return f"{prompt}\n\n{_YES_OR_NO}"
    if listener.kind == "titles":
        return f"{prompt}\n\n{_AS_TITLES}"
    if listener.kind == "scores":
        schema = json.dumps(listener.schema, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return f"{prompt}\n\n{_AS_SCHEMA}\n{schema}"
    return prompt
