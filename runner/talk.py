"""A conversation as far as it has come: what was said, what those who listen made of it, and whether it is over.

It is what the journal tells of one conversation, folded once more with its texts. Whoever holds it, shows it or checks
it takes the same records in and sees the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from runner.conversation import (
    Aside,
    Conversation,
    Floor,
    Line,
    Perspective,
    arranged,
    floor_of,
    may_speak,
    picked,
)
from runner.events import Heard, Replied
from runner.observers import understood
from runner.state import Place, State
from runner.stops import Spoken, Watch, Weighed

MAJORITY: Final = 0.5


class Said(NamedTuple):
    """A line that was generated or heard, as its record has it."""

    event: Replied | Heard
    at: float


Read = Callable[[Place], tuple[Replied | Heard, float]]
"""The record at a place, and when it was made."""


@dataclass(slots=True)
class Talk:
    """One conversation; `take` and `answered` bring it on."""

    planned: Conversation
    started: float | None = None
    conversation: Conversation = field(init=False)
    """With its lines in the order that the moderator has given them so far."""
    said: dict[int, Said] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    weighed: dict[int, Weighed] = field(default_factory=dict)
    votes: dict[int, dict[str, bool]] = field(default_factory=dict)
    """By the number of lines after which they were held, and by the id of who voted."""
    picks: dict[int, str] = field(default_factory=dict)
    _watch: Watch = field(init=False)
    _shown: dict[str, Perspective] = field(default_factory=dict)
    """What each role has been shown so far, which grows by what is said."""

    def __post_init__(self) -> None:
        self.conversation = arranged(self.planned, {})
        self._watch = Watch(self.planned.stops)
        self._follow()

    # -- coming on -------------------------------------------------------------------------------------------------

    def take(self, event: Replied | Heard, at: float) -> None:
        """A line was said."""
        if self.started is None and event.turn > self._carried:
            self.started = at
        self.said[event.turn] = Said(event, at)
        self._follow()

    def take_all(self, lines: Iterable[tuple[Replied | Heard, float]]) -> None:
        """Lines were said one after another.

        What stands behind one that was lost answers something else: it is asked for again.
        """
        for event, at in lines:
            if self.started is None and event.turn > self._carried:
                self.started = at
            self.said[event.turn] = Said(event, at)
        self._follow()
        for turn in [turn for turn in self.said if turn > len(self.history)]:
            del self.said[turn]

    def answered(self, aside: Aside, turn: int, text: str) -> None:
        """Somebody who listens has answered."""
        if aside.kind == "pick":
            self.picks[turn] = text
            self.conversation = arranged(self.planned, self.picks)
            self._follow()
        elif aside.kind == "vote":
            self.votes.setdefault(turn, {})[aside.id] = bool(understood(aside, text, turn).data)

    @property
    def _carried(self) -> int:
        return 0 if self.planned.origin is None else self.planned.origin.through

    def _follow(self) -> None:
        """Go on to the first line that nobody has said yet."""
        while len(self.history) < len(self.conversation.lines):
            line = self.conversation.lines[len(self.history)]
            said = self.said.get(line.number)
            if said is None and (line.given is None or self.moderator() is not None):
                return
            text = line.given if said is None else said.event.text
            assert text is not None
            self.history.append(text)
            if self.planned.stops:
                weighed = self._watch.take(self._spoken(line, said, text))
                if weighed.figures or weighed.stop:
                    self.weighed[line.number] = weighed

    def _spoken(self, line: Line, said: Said | None, text: str) -> Spoken:
        if said is None:
            return Spoken(line.role, text, True, None, 0, 0.0)
        event = said.event
        return Spoken(
            role=line.role,
            text=text,
            # What its origin said is compared with, and ends no branch.
            given=isinstance(event, Heard) or line.number <= self._carried,
            output=event.usage.get("output") if event.usage.get("trusted", True) else None,
            cost=event.cost or 0,
            after=0.0 if self.started is None else max(0.0, said.at - self.started),
        )

    # -- what comes next -------------------------------------------------------------------------------------------

    def next(self) -> Line | None:
        """The first line that nobody has said yet."""
        lines = self.conversation.lines
        return lines[len(self.history)] if len(self.history) < len(lines) else None

    def over(self) -> str | None:
        """Why it is over although lines are left; None when it goes on. What its origin said ends no branch."""
        spoken = len(self.history)
        weighed = self.weighed.get(spoken)
        if weighed is not None and weighed.stop is not None:
            return weighed.stop
        share = self.share(spoken)
        if share is None or share <= MAJORITY:
            return None
        votes = self.votes[spoken]
        return f"vote: {sum(votes.values())} of {len(votes)} for the end, after round {self.rounds_done}"

    def share(self, spoken: int) -> float | None:
        """The part of the votes after so many lines that is for the end; None where none was held."""
        votes = self.votes.get(spoken)
        return sum(votes.values()) / len(votes) if votes else None

    def voters(self) -> list[Aside]:
        """Those who are to vote now and have not."""
        spoken, upcoming = len(self.history), self.next()
        if upcoming is None or spoken <= self._carried or self.conversation.lines[spoken - 1].round == upcoming.round:
            return []
        held = self.votes.get(spoken, {})
        return [one for one in self.conversation.voters if self.rounds_done % one.every == 0 and one.id not in held]

    def moderator(self) -> Aside | None:
        """Who has to say whose turn it is now; None when there is nothing to choose."""
        number = len(self.history) + 1
        if self.conversation.moderator is None or number in self.picks or number > len(self.conversation.lines):
            return None
        return self.conversation.moderator if len(may_speak(self.conversation, number)) > 1 else None

    def choice(self, number: int) -> str | None:
        """The role that the moderator named for a line; None where he named nobody who may speak."""
        if number not in self.picks or number > len(self.conversation.lines):
            return None
        return picked(self.picks[number], may_speak(self.conversation, number), self.conversation.participants)

    @property
    def rounds_done(self) -> int:
        """How many rounds are whole."""
        return rounds_done(self.conversation, len(self.history))

    # -- what is shown ---------------------------------------------------------------------------------------------

    def floor(self, line: Line, left_out: int = 0) -> Floor:
        """What the speaker of a line is shown, at the time when it is its turn."""
        before = line.number - 1
        speaker = self.conversation.participant(line.role)
        if speaker.window is not None:
            left_out = max(left_out, before - speaker.window)
        left_out = min(before, left_out)
        shown = self._shown.get(line.role)
        if shown is None or shown.taken > before or shown.left_out != left_out:
            shown = self._shown[line.role] = Perspective(self.conversation, line.role, left_out)
        for number in range(shown.taken + 1, before + 1):
            said = self.said.get(number)
            shown.take(
                self.conversation.lines[number - 1],
                self.history[number - 1],
                said.event.reasoning if said is not None and speaker.keeps_reasoning else None,
            )
        return Floor(self.conversation.id, line.number, speaker, shown.view(line.instruct), left_out)

    def floor_of(self, aside: Aside, turn: int) -> Floor:
        """What somebody who listens is shown: before a line when he says whose it is, else after one."""
        history = self.history[: turn - 1] if aside.kind == "pick" else self.history[:turn]
        return floor_of(self.conversation, aside, history)


def rounds_done(conversation: Conversation, spoken: int) -> int:
    """How many rounds are whole after so many lines."""
    if spoken == len(conversation.lines):
        return conversation.rounds
    return conversation.lines[spoken].round - 1


def talk_of(conversation: Conversation, state: State, read: Read) -> Talk:
    """A conversation as far as the journal tells it."""
    progress = state.of(conversation.id)
    talk = Talk(conversation, progress.started)
    for aside in (() if conversation.moderator is None else (conversation.moderator,)) + conversation.voters:
        for turn, place in sorted(state.of(aside.id).replies.items()):
            talk.answered(aside, turn, read(place)[0].text)
    talk.take_all(read(place) for _, place in progress.replies.in_order())
    return talk
