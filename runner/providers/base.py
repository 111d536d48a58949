"""What a dialect is: it translates a call into the bytes of a request, and what comes back into an outcome.

It does no I/O and knows nothing of limits or budgets. One file each; `deepseek` is the example of a server that speaks
chat completions in its own way, `anthropic` that of a format of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from runner.call import Call, Failure, Found, Hints, Outcome
from runner.money import Nanos, Price
from runner.world import HttpRequest, Secret

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]

NOTHING_ELSE: Final[Mapping[str, Any]] = MappingProxyType({})
SETTINGS: Final = frozenset(
    {
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "stop_strings"),
        *("reasoning.effort", "reasoning.tokens", "seed", "limit_field"),
    }
)
"""What a job may say of its calls and a provider may have no words for, as the job names it."""
ANOTHER_PRICE: Final = frozenset({"models", "fallbacks", "preset", "best_of"})
"""Fields that have another model answer than the one whose price is known, or more answers paid for than one."""
_SHORTEST_SECRET: Final = 8
"""What is shorter (`none`, `ollama`: a local server wants some key) protects nothing, and stands in ordinary text."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as a run uses it: where it is, and the key that opens it."""

    name: str
    type: str
    """The name of its dialect."""
    base_url: str
    api_key: Secret | None = None
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    limit_field: LimitField | None = None
    """Where the job knows better than the dialect under which name the output limit goes."""
    hidden: tuple[Secret, ...] = ()
    """What of its address nobody is to read."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything about it that must never be shown."""
        return (*self.keys, *(one for one in self.hidden if _protects(one.reveal())))

    @property
    def keys(self) -> tuple[Secret, ...]:
        """What opens it: nothing of that may cross a network unencrypted."""
        found = [self.api_key.reveal()] if self.api_key is not None else []
        for value in self.headers.values():
            if isinstance(value, Secret):
                # A header may be `Bearer KEY`, and the key alone is as secret as the whole.
                found += (value.reveal(), *value.reveal().split())
        return tuple(Secret(text) for text in dict.fromkeys(found) if _protects(text))

    def headed(self, ours: Mapping[str, str | Secret]) -> dict[str, str | Secret]:
        """These headers and the job's: one that the job names, however it writes it, is sent as the job has it."""
        named = {name.lower() for name in self.headers}
        return {**{name: value for name, value in ours.items() if name not in named}, **self.headers}


def _protects(secret: str) -> bool:
    return len(secret.strip()) >= _SHORTEST_SECRET


@dataclass(frozen=True, slots=True)
class Home:
    """What a provider's name alone says, where a job has no entry for it or leaves something out."""

    base_url: str | None
    api_key: str | None = None
    """The variable of the environment that holds the key, as a job would write it: `${NAME}`."""
    free: bool = False
    """True for what runs on a machine of one's own."""
    per: Literal["provider", "model"] = "provider"
    """Whether each model has limits of its own."""
    count: Literal["reserved", "used"] = "reserved"
    """Whether `max_tokens` counts in its limits when a call comes, or what was written when it ends."""
    prices: str | None = None
    """What the package genai-prices calls it, where that has its prices."""
    window: int | None = None
    """What a model's window is taken to be where the job does not say, at a server that must be told."""
    alike: bool = False
    """True when anybody may have a server of this type: then how it counts is known of this address alone."""
    limit_field: LimitField | None = None
    """Under which name this server takes the output limit, where others of its format take another."""


class Most(NamedTuple):
    """How far settings may go in the requests of a dialect; None where nobody says."""

    temperature: float | None = None
    stop_strings: int | None = None
    least_thinking: int | None = None
    """The fewest tokens of thinking that can be asked for; they must be fewer than all of the output, too."""
    sure: bool = True
    """Whether more is refused; False where that is up to who stands behind it, or is not sure."""


class Reader(Protocol):
    """Takes an answer's body in pieces and says what it came to."""

    @property
    def generation(self) -> str | None:
        """The provider's own id of this call, as soon as it is known."""
        ...

    @property
    def size(self) -> int:
        """How much is held: text, reasoning, and what cannot be understood yet."""
        ...

    def begin(self, headers: Mapping[str, str]) -> None:
        """Take the answer's headers, before its first piece."""
        ...

    def feed(self, data: bytes) -> bool:
        """Take a piece; True when it brought something of the answer, and not just a sign of life."""
        ...

    def done(self) -> bool:
        """True when nothing that matters can follow."""
        ...

    def outcome(self, cut: str | None) -> Outcome:
        """What it came to; `cut` says how the body broke off, None when it ended by itself."""
        ...


class Inquiry(NamedTuple):
    """A question that costs nothing, asked before a night."""

    about: Literal["models", "model", "account", "resident"]
    request: HttpRequest
    models: tuple[str, ...] = ()
    """The models it is asked for, as the job names them."""


class Listed(NamedTuple):
    """A model that a provider has."""

    id: str
    window: int | None = None
    """Input and output together, in tokens."""
    max_output: int | None = None
    price: Price | None = None
    ends: str | None = None
    """When it is taken away, in the provider's own words."""


class Funds(NamedTuple):
    """What an account has left, in nano-dollars; None where there is no end to it or nobody says."""

    left: Nanos | None
    words: str = ""


class Resident(NamedTuple):
    """A model that a local server has loaded."""

    id: str
    on_gpu: float | None
    """The part of it that lies in the memory of the graphics card; None where the server does not know."""
    window: int | None = None


Fact: TypeAlias = Listed | Funds | Resident


class Dialect(ABC):
    """A wire format, or one server's way of speaking it. What has a default here may be left out."""

    revision: str
    """Name and number; the number rises when the same call would give other bytes."""
    home: Home
    ours: frozenset[str]
    """The fields of a request that follow from the call, and that a job's `extra` may not touch."""
    takes: frozenset[str] = SETTINGS
    """The settings of a job that its requests can tell; all others are left out."""
    takes_reasoning: bool = False
    """True when a model can be told again what it thought."""
    most: Most = Most()
    """What its requests may say at most of the settings that it takes."""
    priced: bool = False
    """True when its list of models says what they cost."""
    sends_rates: bool = False
    """True when its requests tell what their money is reserved at."""

    @abstractmethod
    def url(self, endpoint: Endpoint, model: str) -> str: ...

    @abstractmethod
    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]: ...

    @abstractmethod
    def body(self, call: Call, limit_field: LimitField | None = None) -> bytes:
        """The request, byte for byte the same for the same call."""
        ...

    @abstractmethod
    def reader(self, call: Call) -> Reader: ...

    @abstractmethod
    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        """What an answer with an error status means."""
        ...

    def hints(self, headers: Mapping[str, str], wall: float) -> Hints:
        """What headers say of the limits."""
        return ()

    def look_up(
        self, endpoint: Endpoint, generation: str, extra: Mapping[str, Any] = NOTHING_ELSE
    ) -> HttpRequest | None:
        """How to ask what became of a call with these fields of the job's own; None where nobody can be asked."""
        return None

    def looked_up(self, body: bytes, generation: str) -> Found | None:
        """What the answer to that says of this call; None when it tells nothing that could be relied on."""
        return None

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        """What can be asked for nothing before a night with these models."""
        return ()

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        """What the answer of status 200 to an inquiry says."""
        return ()


def merged(
    request: Mapping[str, Any], extra: Mapping[str, Any], barred: frozenset[str], inside: str = ""
) -> dict[str, Any]:
    """A request and what the job gives besides: objects become one, and what is `barred` stays as it is.

    What stands in an object is barred by its whole path: `generationConfig.maxOutputTokens`.
    """
    whole = dict(request)
    for name, value in extra.items():
        path = f"{inside}{name}"
        if path in barred:
            continue
        if isinstance(value, Mapping) and isinstance(whole.get(name), Mapping):
            whole[name] = merged(whole[name], value, barred, path + ".")
        elif not any(kept.startswith(path + ".") for kept in barred):
            whole[name] = value
    return whole


def touched(extra: Mapping[str, Any], ours: frozenset[str], inside: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths in a job's `extra` that `merged` leaves out, because they follow from the call."""
    for name, value in extra.items():
        path = (*inside, name)
        begun = ".".join((*path, ""))
        if begun[:-1] in ours:
            yield path
        elif any(kept.startswith(begun) for kept in ours):
            yield from touched(value, ours, path) if isinstance(value, Mapping) else (path,)
