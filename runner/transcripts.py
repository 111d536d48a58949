"""A conversation in full: its lines, who was asked meanwhile, and what observers made of it, with all their figures.

The state knows where each record stands and what it cost; the texts are read from there when somebody wants them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from runner.call import Message, Usage
from runner.conversation import DURING, Aside, Conversation, Line, Note, Participant, Turn, view
from runner.events import Failed, Heard, Noted, Replied, Sent, Stopped, from_data, usage_of
from runner.journal import Record, said_in
from runner.observers import understood
from runner.state import Place, Progress, State
from runner.talk import Talk, talk_of


class _Call(NamedTuple):
    """What of the call is shown that a reply answers."""

    request: str | None = None
    left_out: int = 0


_NO_CALL: Final = _Call()
_UNUSED: Final = Usage()
_UNWEIGHED: Final[Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes conversations out, from the records of their run."""

    state: State
    record: Callable[[Place], Record]
    """What stands at a place of the journal."""
    at_hand: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """What was read there already, as it is written, by its offset."""

    def talk(self, conversation: Conversation) -> Talk:
        """A conversation as far as it has come."""
        return talk_of(conversation, self.state, self._said)

    # -- those who comment on the whole ------------------------------------------------------------------------------

    def notes(self, conversation: Conversation) -> tuple[Note, ...]:
        """What observers made of a conversation, or should have made, and what was read in with it."""
        asked = (aside for aside in conversation.after if self._is_asked(conversation, aside))
        heard = self.state.of(conversation.id).noted
        return (*map(self._note, asked), *map(self._heard_note, heard))

    def _is_asked(self, conversation: Conversation, aside: Aside) -> bool:
        """True when an observer was asked, or should have been."""
        return self.state.of(conversation.id).status == "complete" or aside.id in self.state.cells

    def _note(self, aside: Aside) -> Note:
        """What an observer made of a conversation."""
        progress = self.state.of(aside.id)
        turn, place = next(iter(progress.replies.items()), (0, None))
        reply = None if place is None else self._replied(place)
        return replace(
            self._observed(aside, turn, reply),
            status="pending" if progress.status is None else progress.status,
            reason=progress.reason if progress.status is not None else "not asked yet",
            data=None if reply is None else understood(aside, reply.text, turn).data,
            spent=progress.account.held,
        )

    def _heard_note(self, place: Place) -> Note:
        """What came with a conversation that was read in."""
        event = self.record(place).event
        assert isinstance(event, Noted)
        return Note(
            kind="notes",
            heading=event.heading,
            observer=event.observer,
            alias=None,
            provider=None,
            model=None,
            status="complete",
            text=event.text,
            heard=event.source,
        )

    # -- those who were asked while it went on -----------------------------------------------------------------------

    def _asked(self, talk: Talk) -> Mapping[int, list[Note]]:
        """What was made of a conversation while it went on, by the line at which somebody was asked."""
        conversation = talk.conversation
        found: defaultdict[int, list[Note]] = defaultdict(list)
        for aside in (one for one in conversation.asides if one.kind in DURING):
            progress, answered, passed_over = self.state.of(aside.id), 0, list[int]()
            for turn, place in sorted(progress.replies.items()):
                event, _ = self._said(place)
                if isinstance(event, Heard):
                    note = replace(self._observed(aside, turn), status="failed", reason=event.source)
                    passed_over.append(turn)
                elif aside.kind == "pick":
                    note = replace(self._observed(aside, turn, event), data=talk.choice(turn))
                else:
                    note = replace(self._observed(aside, turn, event), data=understood(aside, event.text, turn).data)
                found[turn].append(note)
                answered += note.cost or 0
            if progress.status is not None and progress.tried.last is not None:
                turn = self._failed(progress.tried.last).turn
                found[turn].append(replace(self._observed(aside, turn), status=progress.status, reason=progress.reason))
                passed_over.insert(0, turn)
            if passed_over:
                # What nobody can say of a single answer is told where the first is missing.
                notes, in_vain = found[passed_over[0]], progress.account.held - answered
                notes[-1] = replace(notes[-1], spent=in_vain)
        return found

    def _observed(self, aside: Aside, turn: int, reply: Replied | None = None) -> Note:
        """What somebody who listens has said, or how the last attempt to hear him failed, with its figures."""
        progress = self.state.of(aside.id)
        failed = None if turn in progress.replies or progress.tried.last is None else self._failed(progress.tried.last)
        asked = self._call(progress.sents.get(turn, None if turn in progress.replies else progress.tried.sent))
        return Note(
            kind=aside.kind,
            heading=aside.heading,
            observer=aside.by.label,
            alias=aside.by.alias,
            provider=aside.by.provider,
            model=aside.by.model,
            status="complete",
            text=None if reply is None else reply.text,
            usage=_UNUSED if reply is None else _usage(reply.usage),
            cost=None if reply is None else progress.corrected.get((turn, reply.attempt), reply.cost),
            cost_source=None if reply is None else reply.cost_source,
            seconds=None if reply is None else reply.seconds,
            attempts=reply.attempt if reply is not None else 0 if turn in progress.replies else progress.tried.attempts,
            request=asked.request,
            error=None if failed is None else {"kind": failed.failure, "message": failed.detail},
        )

    # -- those who speak ---------------------------------------------------------------------------------------------

    def turns(self, talk: Talk, notes: Sequence[Note]) -> tuple[Turn, ...]:
        """Every planned line of a conversation, as far as anything is known of it."""
        progress, asked = self.state.of(talk.conversation.id), self._asked(talk)
        titles: Mapping[str, str] = next((note.data for note in notes if note.kind == "titles" and note.data), {})
        said, spoken = talk.said, len(talk.history)
        sents, corrected = dict(progress.sents.in_order()), progress.corrected
        sides = {one.role: one for one in talk.conversation.participants}
        carried = 0 if talk.conversation.origin is None else talk.conversation.origin.through
        turns: list[Turn] = []
        for line in talk.conversation.lines:
            number, speaker = line.number, sides[line.role]
            answer = said.get(number) if number <= spoken else None
            title = titles.get(str(number)) if titles else None
            by = tuple(asked.get(number, ()))
            if answer is None or isinstance(answer.event, Heard):
                turns.append(self._turn(talk, line, progress, _planned(talk, line, speaker, title, by)))
                continue
            reply, call = answer.event, self._call(sents.get(number))
            cost, source = reply.cost, reply.cost_source
            if corrected and (settled := corrected.get((number, reply.attempt))) is not None:
                cost, source = settled, "reported"
            alias, provider, model = _carrier(speaker)
            # In the order of its fields. There are so many turns that naming them would take a tenth of a report.
            turns.append(Turn(
                number, line.round, line.role, speaker.label, line.label, line.given is not None,
                reply.text, reply.finish, reply.reasoning, reply.stop,
                alias, provider, model, reply.model, reply.upstream,
                _usage(reply.usage), cost, reply.computed, source, reply.first_byte, reply.seconds,
                reply.attempt, reply.generation, call.request, None,
                title, _weighed(talk, number), number <= carried, call.left_out, None, None, by,
            ))  # fmt: skip
        return tuple(turns)

    def _turn(self, talk: Talk, line: Line, progress: Progress, planned: dict[str, Any]) -> Turn:
        """A line that no model said here."""
        if line.number > len(talk.history):
            upcoming = line.number == len(talk.history) + 1 and talk.conversation.participant(line.role).live
            tried = self._tried(progress) if upcoming and line.given is None else {}
            return Turn(**planned, text=None, **tried)
        said = talk.said.get(line.number)
        if said is None:
            return Turn(**planned, text=line.given, outcome="ok")
        reply = said.event
        assert isinstance(reply, Heard)
        known = {
            "given": False,
            "label": reply.label or planned["label"],
            "title": reply.title or planned["title"],
        }
        return Turn(
            **(planned | known),
            text=reply.text,
            outcome=reply.finish,
            reasoning=reply.reasoning,
            heard=reply.source,
            usage=_usage(reply.usage),
            cost=reply.cost,
            computed=reply.computed,
            cost_source=None if reply.cost is None else "reported",
            seconds=reply.seconds,
            first_byte=reply.first_byte,
            pace=reply.pace,
            upstream=reply.upstream,
            stop=reply.stop,
            attempts=reply.attempts or 0,
        )

    def _tried(self, progress: Progress) -> dict[str, Any]:
        """Of the first turn that has no reply: what was tried, and how the last attempt failed."""
        tried = progress.tried
        failed = None if tried.last is None else self._failed(tried.last)
        if failed is None and progress.told and progress.status == "failed":
            stopped = None if progress.failing is None else self._stopped(progress.failing)
            return {
                "outcome": "failed",
                "attempts": 0 if stopped is None else stopped.attempts or 0,
                "error": (stopped and stopped.error) or {"kind": "empty", "message": progress.reason},
            }
        return {
            "outcome": "open" if failed is None else "failed",
            "attempts": tried.attempts,
            "request": self._call(tried.sent).request,
            "error": None if failed is None else {"kind": failed.failure, "message": failed.detail},
        }

    # -- records -----------------------------------------------------------------------------------------------------

    def _said(self, place: Place) -> tuple[Replied | Heard, float]:
        said = self.at_hand.get(place.offset)
        if said is None:
            return said_in(self.record(place))
        event = from_data(said["kind"], said)
        assert isinstance(event, Replied | Heard)
        return event, said["at"]

    def _replied(self, place: Place) -> Replied:
        event = self.record(place).event
        assert isinstance(event, Replied)
        return event

    def _failed(self, place: Place) -> Failed:
        event = self.record(place).event
        assert isinstance(event, Failed)
        return event

    def _stopped(self, place: Place) -> Stopped:
        event = self.record(place).event
        assert isinstance(event, Stopped)
        return event

    def _call(self, place: Place | None) -> _Call:
        if place is None:
            return _NO_CALL
        said = self.at_hand.get(place.offset)
        if said is not None:
            return _Call(said["request"], said.get("left_out", 0))
        event = self.record(place).event
        assert isinstance(event, Sent)
        return _Call(event.request, event.left_out)


def _planned(
    talk: Talk, line: Line, speaker: Participant, title: str | None, asked: tuple[Note, ...]
) -> dict[str, Any]:
    """What a turn is before anything is said: who is to speak, and what was made of it by those who listen.

    As the fields of a turn: it is made once, when all of it is known.
    """
    conversation = talk.conversation
    alias, provider, model = _carrier(speaker)
    return {
        "number": line.number,
        "round": line.round,
        "role": line.role,
        "speaker": speaker.label,
        "label": line.label,
        "given": line.given is not None,
        "alias": alias,
        "provider": provider,
        "model": model,
        "title": title,
        "weighed": _weighed(talk, line.number),
        "carried": conversation.origin is not None and line.number <= conversation.origin.through,
        "asked": asked,
    }


def _carrier(speaker: Participant) -> tuple[str | None, str | None, str | None]:
    """The alias, the provider and the model of who is live."""
    return (speaker.alias, speaker.provider, speaker.model) if speaker.live else (None, None, None)


def _weighed(talk: Talk, number: int) -> Mapping[str, float]:
    """What the rules made of a line, and the part of the votes after it."""
    weighed, share = talk.weighed.get(number), talk.share(number)
    if weighed is None and share is None:
        return _UNWEIGHED
    return {**({} if weighed is None else weighed.figures), **({} if share is None else {"vote": share})}


def _usage(said: Mapping[str, Any]) -> Usage:
    """Usage to show: absurd counts are no figures, and a zero beside a text is one of them."""
    usage = usage_of(said)
    return usage if usage.trusted else Usage(trusted=False, raw=usage.raw)


def last_view(conversation: Conversation, history: list[str]) -> tuple[str | None, tuple[Message, ...]]:
    """What the last live speaker was shown, ending with what it said."""
    spoken = conversation.lines[: len(history)]
    sides = {side.role for side in conversation.participants if side.live}
    last = next((line for line in reversed(spoken) if line.given is None and line.role in sides), None)
    if last is None:
        return None, ()
    shown = view(conversation, last.role, history[: last.number - 1], last.instruct)
    return shown.system, (*shown.messages, Message("assistant", history[last.number - 1]))
