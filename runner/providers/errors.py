"""What an error means: how far it reaches, what became of the money, and when another try makes sense.

Every dialect reads its own errors into `Told`; what they come to is decided here, once for all. The provider's own
words win over its status, and the status decides where the words are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from re import DOTALL, IGNORECASE, Pattern
from re import compile as pattern
from typing import Any, Final, Literal

import orjson

from runner.call import Failure, Kind, Money, Scope
from runner.providers.loose import fields, loads, retry_after, seconds, text, unlisted, wait_said, whole

A_PAGE: Final = "a web page, not a completion: is base_url right, is a proxy or a login page in between?"

_RETRYABLE: Final = frozenset({408, 409, 425, 498, 499})
"""Statuses below 500 that say nothing against the request; what was called off (499) may have been worked on."""
_TOO_LONG_WORDS: Final = (
    "context length",
    "context window",
    "context size",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "too many tokens",
    "reduce the length",
    "exceed context limit",
    "input token count",
)
_NEVER_FITS: Final = "request too large"
_FIELD: Final = r"(?:parameter|argument|option|field|property|setting|key|input|name)s?"
_BEGUN: Final = r"(?:^|[^\w\s]\s*|\d\s+)"
"""Where a sentence may begin: nobody says of a field in the middle of one that it is not known."""
_REFUSED: Final = pattern(
    rf"(?:not supported on this model: |not support parameter |{_BEGUN}(?:unsupported|unknown) parameter: )\W?(\w+)",
    IGNORECASE,
)
_IN_QUOTES: Final = pattern(r"(?<!\w)([\"'`])((?:(?!\1(?!\w)).)*)\1(?!\w)", DOTALL)
_FIRST: Final = 300
"""So many characters of a message say what it is about; what it goes on to show may be a text of ours."""
_LOOKED_AT: Final = 1000
"""The same with what is quoted in between."""
_CAPITAL: Final = pattern(r"[A-Z]")
"""Some write in a message `topP` for what stands in the request as `top_p`."""
_PER_DAY: Final = pattern(r"\bper[- ]day\b|\b[rt]pd\b")
"""How the message of a 429 says that it was the limit of the day, where its code word is the same for all limits."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the code words of errors stand for; a dialect adds its own to those that many share."""

    no_money: frozenset[str] = frozenset()
    """The account is empty, or may spend no more: nothing goes until somebody pays."""
    not_let_in: frozenset[str] = frozenset()
    too_long: frozenset[str] = frozenset()
    policy: frozenset[str] = frozenset()
    no_model: frozenset[str] = frozenset()
    of_the_day: frozenset[str] = frozenset()
    """A limit that a new day lifts."""
    busy: frozenset[str] = frozenset()
    """A limit that a pause lifts, whatever the status."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    """What words stand for, where an error inside an answer of status 200 names no status."""
    full: frozenset[int] = frozenset()
    """Statuses that say there is no room just now, which a pause lifts; 429 says it everywhere."""
    phrases: Mapping[str, str] = field(default_factory=dict)
    """Parts of messages, in lower case, and the code word for each, where a server says it in a sentence alone."""

    def __or__(self, other: Words) -> Words:
        return Words(
            no_money=self.no_money | other.no_money,
            not_let_in=self.not_let_in | other.not_let_in,
            too_long=self.too_long | other.too_long,
            policy=self.policy | other.policy,
            no_model=self.no_model | other.no_model,
            of_the_day=self.of_the_day | other.of_the_day,
            busy=self.busy | other.busy,
            statuses={**self.statuses, **other.statuses},
            full=self.full | other.full,
            phrases={**self.phrases, **other.phrases},
        )


@dataclass(frozen=True, slots=True)
class Told:
    """An error, as far as its words are understood."""

    status: int
    """200 for an error inside an answer."""
    words: frozenset[str] = frozenset()
    message: str = ""
    status_inside: int | None = None
    """The status that an error inside an answer names."""
    parameter: str | None = None
    again: bool | None = None
    """Whether the provider itself says that another try makes sense; None when it does not say."""
    wait: float | None = None
    """How long it asks us to wait, in seconds."""
    moderated: bool = False
    """It says what of the text it minds."""
    quota: Literal["day", "credit"] | None = None
    """Where it is not its words that tell, but their place."""
    location: str | None = None
    """Where a redirect leads."""


def failure_of(told: Told, known: Words, optional: frozenset[str], fallback: str) -> Failure:
    """What an error comes to; `optional` are the parameters that the request can do without."""
    status, inside = told.status, told.status == 200
    known_status: int | None = status
    message = told.message.lower()
    words = told.words | {word for phrase, word in known.phrases.items() if phrase in message}
    if inside:
        by_words = next((known.statuses[word] for word in sorted(words) if word in known.statuses), None)
        known_status = told.status_inside or by_words
        status = known_status or 500
    detail = ": ".join(part for part in (fallback, told.message) if part)

    def failed(scope: Scope, kind: Kind = "error", **more: Any) -> Failure:
        # Nothing was done by who turned us away: a plain refusal, or no room. All else may have been worked on.
        turned_away = 300 <= status < 500 and status not in _RETRYABLE
        money: Money = "free" if not inside and (turned_away or status == 503) else "assumed"
        shown = more.pop("detail", detail)
        return Failure(kind, scope, money, shown, status=known_status, retry_after=told.wait, **more)

    plain_request = status in (400, 422)
    if told.quota == "credit" or words & known.no_money or status == 402:
        return failed("provider", quota="credit")
    if told.quota == "day" or words & known.of_the_day:
        # Without a word of when it is lifted, nobody can wait for it.
        return failed("provider", quota="day") if told.wait is None else failed("call", busy=True, quota="day")
    if words & known.not_let_in or status == 401:
        return failed("provider")
    too_long = plain_request and any(said in message for said in _TOO_LONG_WORDS)
    if words & known.too_long or status == 413 or too_long or (status == 429 and _NEVER_FITS in message):
        return failed("conversation", overflow=True)
    if words & known.policy or status == 451 or (status == 403 and told.moderated):
        return failed("conversation", "refused")
    if words & known.no_model:
        return failed("model")
    if status == 429 or status in known.full or words & known.busy:
        return failed("provider") if told.again is False else failed("call", busy=True)
    if status in (403, 404):
        return failed("model")
    if plain_request and told.parameter in optional:
        return failed("call", parameter=told.parameter)
    if 300 <= status < 400:
        where = f" to {told.location}" if told.location else ""
        return failed("provider", detail=f"{detail}: a redirect{where}, and none is followed; is base_url right?")
    may_pass = status in _RETRYABLE or not 400 <= status < 500
    return failed("call" if (may_pass if told.again is None else told.again) else "conversation")


def error_in(body: bytes) -> Any:
    """The error that the body of an answer with an error status carries: an object, or words."""
    try:
        parsed = unlisted(loads(body))
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        return parsed.get("error") or parsed
    words = body.decode("utf-8", "replace").strip()
    return A_PAGE if words.startswith("<") else words


def message_of(error: Any) -> str:
    """What an error says to people; all of it where the words cannot be told from the rest."""
    if isinstance(error, dict):
        for name in ("message", "msg", "detail"):
            if isinstance(error.get(name), str) and error[name]:
                return str(error[name])
    if isinstance(error, str):
        return error
    if not isinstance(error, (dict, list)):
        return ""
    try:
        return orjson.dumps(error).decode()
    except orjson.JSONEncodeError:
        return ""


def parameter_of(error: Any, optional: frozenset[str]) -> str | None:
    """The parameter that an error is about: by name, as servers that check against a schema tell it, or in words."""
    inside = error if isinstance(error, dict) else {}
    named = text(inside.get("param"))
    if named is not None:
        return named.partition(".")[0]
    message = inside.get("message")
    details = (message if isinstance(message, dict) else inside).get("detail")
    first = details[0] if isinstance(details, list) and details else None
    place = first.get("loc") if isinstance(first, dict) else None
    if isinstance(place, list):
        return next((name for name in sorted(optional) if name in place), None)
    # Several words in quotes are somebody's text, and not the name of a field.
    about = _IN_QUOTES.sub(lambda said: " " if " " in said[2] else said[0], message_of(error)[:_LOOKED_AT])[:_FIRST]
    told = _refusals(optional).search(about)
    if told is not None:
        spelled = {_folded(name): name for name in optional}
        return next(spelled[_folded(name)] for name in told.groups() if name)
    said = _REFUSED.search(about)
    return None if said is None else _CAPITAL.sub(lambda found: f"_{found[0].lower()}", said[1])


@cache
def _refusals(optional: frozenset[str]) -> Pattern[str]:
    """How a message says in words alone that it does not take one of these fields."""
    spellings = {*optional, *(_CAPITAL.sub(lambda found: f"_{found[0].lower()}", name) for name in optional)}
    spellings |= {name.split("_")[0] + "".join(map(str.capitalize, name.split("_")[1:])) for name in optional}
    name = rf"[^\w\s]{{0,3}}\b({'|'.join(sorted(spellings, key=len, reverse=True)) or '(?!)'})\b"
    new = r"(?:unrecogni[sz]ed|unknown|unsupported|invalid|unexpected)"
    no = r"(?:(?:is|are) )?(?:not (?:supported|recogni[sz]ed|allowed|permitted|accepted)|unsupported|unrecogni[sz]ed)"
    return pattern(
        # `Unrecognized request argument supplied: top_k`, `invalid option provided: temperature`
        rf"{_BEGUN}(?:got an )?{new} (?:\w+ )?{_FIELD}(?: \w+){{0,2}}\s*[:=]?\s*{name}"
        # `Invalid 'stop': at most 4 are supported`, `Invalid value for temperature`
        rf"|{_BEGUN}invalid (?:value (?:for|of) )?{name}(?=[^\w\s]|\s*$)"
        # `temperature is not supported with this model`
        rf"|{_BEGUN}(?:the )?(?:{_FIELD} )?{name}[^\w\s]{{0,2}}(?: {_FIELD})?(?:: extra inputs)? {no}\b"
        # `this model does not support the parameter temperature`
        rf"|(?:not|n't) support (?:the )?(?:{_FIELD}:? )?{name}(?! (?!with|for|on|at|in|by|and|or)\w)",
        IGNORECASE,
    )


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def read_error(status: int, error: Any, headers: Mapping[str, str], wall: float, optional: frozenset[str]) -> Told:
    """An error in the shape that most providers share: `message`, `type`, `code`, `param`, some of them or none."""
    inside = error if isinstance(error, dict) else {}
    metadata, availability = fields(inside, "metadata"), fields(inside, "availability")
    named = (
        *(inside.get("code"), inside.get("type"), fields(inside, "details").get("error_code")),
        *(metadata.get("error_type"), availability.get("code")),
    )
    message, status_inside = message_of(error), _status_in(inside)
    of_the_day = 429 in (status, status_inside) and _PER_DAY.search(message.lower()) is not None
    return Told(
        status=status,
        words=frozenset(word for word in map(text, named) if word),
        message=message,
        status_inside=status_inside,
        parameter=parameter_of(error, optional),
        again=_asked_again(headers, availability),
        wait=retry_after(headers, wall) or _wait_in(availability) or wait_said(message),
        moderated="reasons" in metadata or "flagged_input" in metadata,
        quota="day" if of_the_day else None,
        location=headers.get("location"),
    )


def _status_in(error: Mapping[str, Any]) -> int | None:
    for name in ("code", "status"):
        value = error.get(name)
        number = value if isinstance(value, int) else whole(value) if isinstance(value, str) else None
        if number is not None and 300 <= number < 600:
            return number
    return None


def _asked_again(headers: Mapping[str, str], availability: Mapping[str, Any]) -> bool | None:
    told = availability.get("retryable")
    if isinstance(told, bool):
        return told
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _wait_in(availability: Mapping[str, Any]) -> float | None:
    told = availability.get("retry_after")
    return seconds(str(told)) or None if isinstance(told, (int, float, str)) else None
