"""What a style of transcript is: a module that turns a conversation into the text of one file, and takes it out again.

A user's own style is one Python file that the job names. It is the user's own code and runs as such; what goes wrong in
it is told with its line.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature, unwrap
from types import ModuleType
from typing import Final, Protocol

from runner.call import Finish
from runner.conversation import AsideKind, Look, Transcript
from runner.foreign import one_line, storable
from runner.money import Nanos


@dataclass(frozen=True, slots=True)
class Links:
    """The files of the conversations before and after this one, relative to its own."""

    previous: str | None = None
    next: str | None = None


class Style(Protocol):
    """What a conversation's file is made with."""

    @property
    def suffix(self) -> str:
        """How its files end: `.md`."""
        ...

    @property
    def texts(self) -> Mapping[str, str]:
        """The texts that it takes from `render` in the job by their names, each with one line of what it is."""
        ...

    def render(self, t: Transcript, links: Links) -> str:
        """The whole file; the same transcript gives the same text."""
        ...


class ReadableStyle(Style, Protocol):
    """One member of the family; a module that has all four is one."""

    def read(self, markdown: str) -> ReadBack:
        """What a file of this shape holds; ValueError where it has another one."""
        ...


# --- the way back ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What a file tells of a turn, as exact as it is shown there; what it does not tell is None."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    cost: Nanos | None = None
    seconds: float | None = None
    first_byte: float | None = None
    pace: float | None = None
    """Tokens per second."""
    computed: Nanos | None = None
    """The cost by a price list."""
    odd: tuple[str, ...] = ()
    """Those that nobody can have counted, measured or paid, as they are shown; they are none of the others."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody who was asked whose turn it is, or after it whether that was the end."""

    kind: AsideKind
    by: str
    meant: bool | None
    """Whether he named somebody, or how he voted; None where he did not."""
    figures: Figures = Figures()


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a file."""

    number: int
    speaker: str
    """As the style names it: by its label, its alias or both."""
    text: str | None
    """None where there is no reply, whatever stands in its place."""
    role: str | None = None
    label: str | None = None
    title: str | None = None
    figures: Figures = Figures()
    model: str | None = None
    """Which model said it, where that stands beside the turn."""
    upstream: str | None = None
    attempts: int = 0
    """0 where that is not told."""
    outcome: Finish = "ok"
    stop: str | None = None
    """What the provider called that outcome."""
    error: str | None = None
    """What stands in the place of a reply, after the attempts."""
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """What an observer wrote."""

    heading: str
    observer: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """What a file says of how its conversation ended, where that was not with its last turn."""

    status: str
    """`complete` for one that was ended early."""
    turns: int | None
    """How many turns there were to be."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What can be read out of a file: exactly what it was made from, or as much of it as its style shows."""

    said: tuple[Said, ...]
    context: str | None = None
    opening: str | None = None
    system: str | None = None
    """That of the one model."""
    systems: Mapping[str, str] = field(default_factory=dict)
    """Those of the sides by their roles, where the file tells whose they are."""
    notes: tuple[Noted, ...] = ()
    model: str | None = None
    """The model, or the models, as the head of the file names them."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Which of them a speaker is, by his role where the file has one, as far as it tells that for all turns at once."""
    people: frozenset[str] = frozenset()
    """Speakers that are none of them, as the head of the file tells."""
    date: str | None = None
    """As ISO 8601, as exact as it is shown; without a zone where the file names none."""
    ended: str | None = None
    """When it ended, in the same form."""
    ending: Ending | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    """The texts of the style that are found in it."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in the order of their first turns."""
        return tuple(dict.fromkeys(said.speaker for said in self.said))


# --- a style of the user's own ---------------------------------------------------------------------------------------


class StyleError(Exception):
    """A user's own style that cannot be used: where in its file, and why."""


_DEFAULT_SUFFIX: Final = ".md"
_OURS: Final = __file__.rpartition("render")[0]
"""No file below it is the user's, whatever its name."""


@dataclass(frozen=True, slots=True)
class OwnStyle:
    """A style that a user has written; whatever its code does wrong ends in a `StyleError`."""

    path: str
    module: ModuleType
    suffix: str
    texts: Mapping[str, str]

    def render(self, t: Transcript, links: Links) -> str:
        """The whole file as the user's function makes it."""
        with _told(self.path):
            text = self.module.render(t, links)
            if type(text) is str:
                return storable(text)
        raise StyleError(f"{self.path}: `render` gave {type(text).__name__} for {t.name}; it must give a string")


def own_style(look: Look, load: Callable[[str], ModuleType]) -> OwnStyle:
    """The style in the file that `look` names; StyleError where it is none."""
    path = look.style
    with _told(path):
        module = load(path)
    render = getattr(module, "render", None)
    if not callable(render):
        raise StyleError(f"{path}: there is no function `render(transcript, links)` in it")
    try:
        signature(render).bind(None, None)
    except TypeError as error:
        line = getattr(getattr(unwrap(render), "__code__", None), "co_firstlineno", None)
        place = path if line is None else f"{path}:{line}"
        raise StyleError(f"{place}: `render` must take a transcript and its links, and nothing else: {error}") from None
    except ValueError:
        pass  # what is not written in Python does not tell
    suffix, texts = getattr(module, "suffix", _DEFAULT_SUFFIX), getattr(module, "texts", {})
    if not isinstance(suffix, str) or not suffix.startswith(".") or not suffix[1:].isalnum():
        raise StyleError(f"{path}: `suffix` must be a dot and letters or digits, such as `.md`")
    if not isinstance(texts, Mapping) or not all(isinstance(word, str) for item in texts.items() for word in item):
        raise StyleError(f"{path}: `texts` must be a mapping of names to one line each")
    return OwnStyle(path, module, suffix, texts)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """An exception of the user's code as one line with its place; the last place in the user's own file is meant."""
    try:
        yield
    except StyleError:
        raise
    except BaseException as error:
        # Also what would leave the program: a style has no say in how a night ends.
        line = error.lineno if isinstance(error, SyntaxError) else None
        for frame in traceback.extract_tb(error.__traceback__):
            if not frame.filename.startswith(_OURS) and frame.filename.endswith(path.rpartition("/")[2]):
                line = frame.lineno
        place = path if line is None else f"{path}:{line}"
        raise StyleError(f"{place}: {type(error).__name__}: {one_line(str(error)) or 'no particulars'}") from error
