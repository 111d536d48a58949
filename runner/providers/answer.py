"""What has come of an answer, and what it came to: the rules are the same for every dialect, the bytes are not.

A dialect's reader says how its bytes are parted, and puts what each piece brings into the parts below.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from re import DOTALL, MULTILINE
from re import compile as pattern
from typing import Any, Final

from runner.call import Failure, Finish, Kind, Money, Outcome, Reply, Scope, Usage, fewest_tokens, has_text
from runner.foreign import storable
from runner.providers.errors import A_PAGE
from runner.providers.loose import count, loads, unlisted
from runner.providers.streams import Frames

TRUNCATED: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
REFUSED: Final = frozenset({"content_filter", "refusal", "safety", "sensitive", "recitation", "prohibited_content"})
BROKEN: Final = frozenset({"error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource"})
"""Reasons to end that are no end of an answer. A reason that nobody knows is taken for `stop`, and kept by its name."""
_THINKING: Final = ("thinking", "reasoning")
_SURELY_ENOUGH: Final = 1 / 6
"""With so many tokens for a character no count is too low, whatever the text: it need not be looked at."""
_THOUGHT: Final = pattern(r"\s*<think>(.*?)(?:</think>|\Z)", DOTALL)
_ORPHAN_THOUGHT: Final = pattern(r"(.*?)^</think>", DOTALL | MULTILINE)


class AnswerReader(ABC):
    """One answer, streamed or plain."""

    truncated: frozenset[str] = TRUNCATED
    refused: frozenset[str] = REFUSED
    broken: frozenset[str] = BROKEN
    """The reasons to end, in lower case."""

    def __init__(self, frames: Frames) -> None:
        self._events = frames
        self._plain = bytearray()
        self._streamed: bool | None = None
        self._malformed = False
        self._told_whole = False
        self._size = 0
        self.headers: Mapping[str, str] = {}
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.ended = False
        """The mark of its end has come: nothing that matters can follow. What breaks off before is lost."""
        self.finish: str | None = None
        """Why it ended, in the provider's own word."""
        self.usage: Any = None
        self.error: Any = None
        self.model: str | None = None
        self.upstream: str | None = None
        self.generation: str | None = None

    # -- what a dialect says ---------------------------------------------------------------------------------------

    @abstractmethod
    def take(self, piece: Mapping[str, Any]) -> bool:
        """Take one event, or a whole answer that was not streamed; True when it brought something of the answer."""
        ...

    @abstractmethod
    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        """Its usage in our terms; `received` when any text has come."""
        ...

    @abstractmethod
    def broke_off(self) -> Failure:
        """What the error inside the answer means."""
        ...

    def is_streamed(self, first: bytes) -> bool:
        """Whether an answer that begins so comes in pieces."""
        return first not in (b"{", b"<", b"[")

    def mark(self, data: bytes) -> bool:
        """Take an event that is no JSON but means something; True when it did."""
        return False

    # -- what the transport asks -----------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self._size + self._events.pending

    def begin(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def feed(self, data: bytes) -> bool:
        if self._streamed is None:
            # Blank lines are a sign of life in both forms; the first other byte tells which form it is.
            data = data.lstrip(b"\xef\xbb\xbf \t\r\n")
            if not data:
                return False
            self._streamed = self.is_streamed(data[:1])
        if not self._streamed:
            self._plain += data
            self._size += len(data)
            return True
        brought = False
        for event in self._events.feed(data):
            brought |= self._event(event)
        return brought

    def done(self) -> bool:
        return self.ended

    def _event(self, data: bytes) -> bool:
        """Take an event; True when it brought something of the answer."""
        data = data.strip()
        if self.ended or not data:
            return False
        if self.mark(data):
            return True
        try:
            piece = loads(data)
        except ValueError:
            lines = data.split(b"\n")
            if len(lines) > 1:  # events that some servers do not part by a blank line
                brought = [self._event(line) for line in lines]
                return any(brought)
            # After the finish reason no text can be lost any more.
            self._malformed = self._malformed or self.finish is None
            return False
        return self._take(piece)

    def _take(self, piece: Any) -> bool:
        if not isinstance(piece, dict):
            self._malformed = True
            return False
        return self.take(piece)

    def add(self, texts: list[str], content: Any) -> None:
        """Take text as it comes: a string, or parts, some of which may be thinking or a refusal."""
        if content is None:
            return
        for part in content if isinstance(content, list) else (content,):
            if not isinstance(part, dict):
                self._add_text(texts, part)
                continue
            kind = part.get("type")
            into = self.reasoning if kind in _THINKING else self.refusal if kind == "refusal" else texts
            said = next((part[name] for name in ("text", *_THINKING, "refusal") if part.get(name)), None)
            # Thinking may have parts of its own; nothing that anyone sends lies deeper than that.
            for piece in said if isinstance(said, list) else (said,):
                self._add_text(into, piece.get("text") if isinstance(piece, dict) else piece)

    def _add_text(self, texts: list[str], said: Any) -> None:
        if isinstance(said, str):
            texts.append(said)
            self._size += len(said)

    def whole(self, take: Callable[[], None]) -> None:
        """Take texts that are told whole, at the end of a stream or without one.

        They stand for the pieces that came before, unless these have more; pieces can be lost, and come twice.
        """
        if self._told_whole:
            return
        pieces = self.text, self.reasoning, self.refusal
        self.text, self.reasoning, self.refusal = [], [], []
        take()
        told = self.text, self.reasoning, self.refusal
        better = [_better(old, new) for old, new in zip(pieces, told, strict=True)]
        self.text, self.reasoning, self.refusal = better
        self._told_whole = any(map(any, told))
        if self._told_whole and self._streamed:
            self._size = sum(map(_length, better))

    # -- what it came to -------------------------------------------------------------------------------------------

    def outcome(self, cut: str | None) -> Outcome:
        if self._streamed:
            for event in () if self.ended else self._events.end():
                self._event(event)
        elif self._plain:
            self._take_plain(bytes(self._plain))
        # Made storable as a whole: the halves of a character may have come in two deltas.
        text, reasoning, refusal = (_whole(said) for said in (self.text, self.reasoning, self.refusal))
        text, reasoning = _without_thought(text, reasoning)
        received = bool(text or reasoning or refusal)
        usage = self.counted(self.usage, received=received) if isinstance(self.usage, dict) else Usage()
        if _is_too_low(usage.output, text, reasoning, refusal):
            usage = replace(usage, trusted=False)
        ending = (self.finish or "").lower()
        if self.error is not None or ending in self.broken:
            return self._broken_off(usage, text, reasoning)
        if cut is not None and self._streamed and not self.ended:
            # A reason to end is not the end: some give one in every piece, and text may follow.
            self.finish = None
        if self.finish is None or self._malformed:
            return self._failed("error" if self._is_page() else "lost", self._missing(cut), usage, text, reasoning)
        finish: Finish = "truncated" if ending in self.truncated else "refused" if ending in self.refused else "ok"
        if has_text(refusal):
            finish = "refused"
            text = text if has_text(text) else refusal
        if not has_text(text):
            if finish == "refused":
                return self._failed("refused", "refused without a word", usage, None, reasoning)
            what = "only reasoning, no visible text" if has_text(reasoning) else "no visible text"
            return self._failed("empty", f"{what} (finish reason {self.finish})", usage, None, reasoning)
        return Reply(
            text=text,
            finish=finish,
            usage=usage,
            reasoning=reasoning or None,
            model=self.model,
            upstream=self.upstream,
            generation=self.generation,
            stop=self.finish,
        )

    def _take_plain(self, data: bytes) -> None:
        try:
            whole_answer = loads(data)
        except ValueError:
            self._malformed = True
            return
        self._take(unlisted(whole_answer))

    def _is_page(self) -> bool:
        return self._plain[:1] == b"<"

    def _missing(self, cut: str | None) -> str:
        if self._is_page():
            return f"the answer is {A_PAGE}"
        if cut is not None:
            return cut
        return "the answer is not valid JSON" if self._malformed else "the answer ended without a finish reason"

    def _broken_off(self, usage: Usage, text: str, reasoning: str) -> Failure:
        """An error inside an answer: as the error says, but what has begun to come was not turned away at the door."""
        found = self.broke_off()
        failed = self._failed(found.kind, found.detail, usage, text, reasoning, found.scope)
        failed = replace(failed, overflow=found.overflow, status=found.status, quota=found.quota)
        if text or reasoning:
            return failed
        return replace(failed, busy=found.busy, parameter=found.parameter, retry_after=found.retry_after)

    @property
    def reason(self) -> str:
        """How it broke off, for whoever reads the detail of the failure."""
        how = "with an error" if self.error is not None else f"(finish reason {self.finish})"
        return f"the answer broke off {how}"

    def _failed(
        self, kind: Kind, detail: str, usage: Usage, partial: str | None, reasoning: str | None, scope: Scope = "call"
    ) -> Failure:
        # Without an end, what was told is what it came to so far; the provider may have gone on.
        billed = usage.cost is not None and (self.ended or self.finish is not None)
        counted = usage.output is not None and self.finish is not None
        money: Money = "known" if usage.trusted and (billed or counted) else "assumed"
        return Failure(
            kind=kind,
            scope=scope,
            money=money,
            detail=detail,
            usage=usage,
            partial=partial or None,
            reasoning=reasoning or None,
            generation=self.generation,
            model=self.model,
            upstream=self.upstream,
            stop=self.finish,
        )


def _is_too_low(counted: int | None, *texts: str) -> bool:
    """True for a count that cannot be one of these texts; one of nothing is judged with the cost beside it."""
    if not counted or counted >= sum(map(len, texts)) * _SURELY_ENOUGH:
        return False
    return counted < fewest_tokens(*texts)


def _whole(said: Sequence[str]) -> str:
    return storable("".join(said)) if said else ""


def _length(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _better(pieces: list[str], whole: list[str]) -> list[str]:
    """What says more; the pieces are not even counted where there is no whole, which may come any number of times."""
    return whole if any(whole) and _length(whole) >= _length(pieces) else pieces


def _without_thought(text: str, reasoning: str) -> tuple[str, str]:
    """Some servers leave the thinking in the text, between tags at its beginning, the first of them even unsaid."""
    if "</think>" not in text and not text.lstrip().startswith("<think>"):
        return text, reasoning
    thoughts = [reasoning]
    while (found := _THOUGHT.match(text)) is not None:
        thoughts.append(found[1])
        text = text[found.end() :].lstrip("\n")
    if not any(thoughts) and "<think>" not in text and (found := _ORPHAN_THOUGHT.match(text)) is not None:
        thoughts.append(found[1])
        text = text[found.end() :].lstrip("\n")
    inline = [thought.strip() for thought in thoughts[1:]]
    return text, "\n\n".join(thought for thought in (reasoning, *inline) if thought)


def usage_of(
    raw: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    received: bool,
    cost: int | None = None,
    hearsay: bool = False,
    sound: bool = True,
) -> Usage:
    """Usage in our terms, of `figures` by our names; untrusted where one is absurd, so the reservation stays charged.

    `input` includes what was read from a cache or written to one, `output` includes reasoning.
    """
    counts = {}
    for name, value in figures.items():
        counts[name] = known = None if value is None else count(value)
        sound = sound and (known is None) == (value is None)
    read, written, all_input = counts.get("cached_read") or 0, counts.get("cached_write") or 0, counts.get("input")
    sound = sound and (all_input is None or read + written <= all_input)
    output = counts.get("output")
    sound = sound and (output is None or (counts.get("reasoning") or 0) <= output)
    if all_input == 0 or (output == 0 and received):
        # Zero for what was surely sent or received is no figure, unless they say in so many words that it cost nothing.
        sound = sound and not received and cost == 0
    return Usage(**counts, cost=cost, trusted=sound, raw=raw, hearsay=hearsay)
