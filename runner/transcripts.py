"""A conversation in full: its lines, who was asked meanwhile, and what observers made of it, with all their figures.

The state knows where each record stands and what it cost; the texts are read from there when somebody wants them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.call import Message, Usage
from runner.conversation import DURING, Aside, Conversation, Line, Note, Turn, view
from runner.events import Failed, Heard, Noted, Replied, Sent, Stopped, usage_of
from runner.journal import Record, said_in
from runner.observers import understood
from runner.state import Place, Progress, State
from runner.talk import Talk, talk_of


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes conversations out, from the records of their run."""

    state: State
    record: Callable[[Place], Record]
    """What stands at a place of the journal."""

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
        sent = self._sent(progress.sents.get(turn, None if turn in progress.replies else progress.tried.sent))
        return Note(
            kind=aside.kind,
            heading=aside.heading,
            observer=aside.by.label,
            alias=aside.by.alias,
            provider=aside.by.provider,
            model=aside.by.model,
            status="complete",
            text=None if reply is None else reply.text,
            usage=Usage() if reply is None else _believed(usage_of(reply.usage)),
            cost=None if reply is None else progress.corrected.get((turn, reply.attempt), reply.cost),
            cost_source=None if reply is None else reply.cost_source,
            seconds=None if reply is None else reply.seconds,
            attempts=reply.attempt if reply is not None else 0 if turn in progress.replies else progress.tried.attempts,
            request=None if sent is None else sent.request,
            error=None if failed is None else {"kind": failed.failure, "message": failed.detail},
        )

    # -- those who speak ---------------------------------------------------------------------------------------------

    def turns(self, talk: Talk, notes: Sequence[Note]) -> tuple[Turn, ...]:
        """Every planned line of a conversation, as far as anything is known of it."""
        progress, asked = self.state.of(talk.conversation.id), self._asked(talk)
        titles: Mapping[str, str] = next((note.data for note in notes if note.kind == "titles" and note.data), {})
        return tuple(
            self._turn(talk, line, progress, _planned(talk, line, titles, tuple(asked.get(line.number, ()))))
            for line in talk.conversation.lines
        )

    def _turn(self, talk: Talk, line: Line, progress: Progress, planned: dict[str, Any]) -> Turn:
        if line.number > len(talk.history):
            upcoming = line.number == len(talk.history) + 1 and talk.conversation.participant(line.role).live
            tried = self._tried(progress) if upcoming and line.given is None else {}
            return Turn(**planned, text=None, **tried)
        said = talk.said.get(line.number)
        if said is None:
            return Turn(**planned, text=line.given, outcome="ok")
        reply = said.event
        if isinstance(reply, Heard):
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
                usage=_believed(usage_of(reply.usage)),
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
        sent = self._sent(progress.sents.get(line.number))
        corrected = progress.corrected.get((line.number, reply.attempt))
        return Turn(
            **planned,
            text=reply.text,
            outcome=reply.finish,
            reasoning=reply.reasoning,
            stop=reply.stop,
            served=reply.model,
            upstream=reply.upstream,
            usage=_believed(usage_of(reply.usage)),
            cost=reply.cost if corrected is None else corrected,
            computed=reply.computed,
            cost_source=reply.cost_source if corrected is None else "reported",
            first_byte=reply.first_byte,
            seconds=reply.seconds,
            attempts=reply.attempt,
            generation=reply.generation,
            request=None if sent is None else sent.request,
            left_out=0 if sent is None else sent.left_out,
        )

    def _tried(self, progress: Progress) -> dict[str, Any]:
        """Of the first turn that has no reply: what was tried, and how the last attempt failed."""
        tried = progress.tried
        failed = None if tried.last is None else self._failed(tried.last)
        sent = self._sent(tried.sent)
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
            "request": None if sent is None else sent.request,
            "error": None if failed is None else {"kind": failed.failure, "message": failed.detail},
        }

    # -- records -----------------------------------------------------------------------------------------------------

    def _said(self, place: Place) -> tuple[Replied | Heard, float]:
        return said_in(self.record(place))

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

    def _sent(self, place: Place | None) -> Sent | None:
        if place is None:
            return None
        event = self.record(place).event
        assert isinstance(event, Sent)
        return event


def _planned(talk: Talk, line: Line, titles: Mapping[str, str], asked: tuple[Note, ...]) -> dict[str, Any]:
    """What a turn is before anything is said: who is to speak, and what was made of it by those who listen.

    As the fields of a turn, of which there are many: it is made once, when all of it is known.
    """
    conversation = talk.conversation
    speaker = conversation.participant(line.role)
    weighed = talk.weighed.get(line.number)
    share = talk.share(line.number)
    return {
        "number": line.number,
        "round": line.round,
        "role": line.role,
        "speaker": speaker.label,
        "label": line.label,
        "given": line.given is not None,
        "alias": speaker.alias if speaker.live else None,
        "provider": speaker.provider if speaker.live else None,
        "model": speaker.model if speaker.live else None,
        "title": titles.get(str(line.number)),
        "weighed": {**(weighed.figures if weighed is not None else {}), **({} if share is None else {"vote": share})},
        "carried": conversation.origin is not None and line.number <= conversation.origin.through,
        "asked": asked,
    }


def _believed(usage: Usage) -> Usage:
    """Usage to show: absurd counts are no figures, and a zero beside a text is one of them."""
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
