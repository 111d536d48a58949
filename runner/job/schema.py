"""The shape of a job file. The JSON Schema for editors is made from these models, so the two cannot differ.

A model says what one entry may hold; what entries mean together (names, scripts, matrices) is checked in `reading`.
Settings are partial: what an entry does not set is taken from the next outer one, key by key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

from runner.call import Effort
from runner.conversation import Overflow
from runner.job.job import Order, When
from runner.job.problem import did_you_mean, listed
from runner.job.source import Path
from runner.money import MoneyError, Nanos, parse_dollars, parse_price
from runner.providers import DIALECTS
from runner.render import DEFAULT, STYLES
from runner.stops import FAREWELL

# --- values ------------------------------------------------------------------------------------------------------

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_LONGEST: Final = 7 * 86_400
_MOST_DOLLARS: Final = 1_000_000
_LEAST_PRICE: Final = Decimal("0.0001")
_TIMES: Final = re.compile(r"x(\d+(?:\.\d+)?)")
_CLOCK: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")


def _mistake(text: str, hint: str | None = None) -> PydanticCustomError:
    return PydanticCustomError("tertulia", "{text}", {"text": text, "hint": hint})


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise _mistake("a duration needs its unit", f"write `{value:g}s` or `{value:g}m`")
    if not isinstance(value, str) or not value or not (found := _DURATION.fullmatch(value)):
        raise _mistake("this is not a duration", "write it like `300s`, `10m`, `4h` or `1h30m`")
    days, hours, minutes, seconds, thousandths = (Decimal(part or 0) for part in found.groups())
    length = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds + thousandths / 1000)
    if length > _LONGEST:
        raise _mistake("this is longer than 7 days")
    return length


def _some_duration(value: Any) -> float:
    if (length := _duration(value)) == 0:
        raise _mistake("this is no time at all")
    return length


def _deadline(value: Any) -> float | str:
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        return value
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        raise _mistake("this is neither a time of day nor a duration", 'write it like `"06:30"`, `4h` or `1h30m`')
    return _some_duration(value)


def _number(value: Any, example: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mistake("a number is expected here", f"write it plain, without quotes, sign or comma, like `{example}`")
    return value


def _dialect(value: Any) -> str:
    if not isinstance(value, str) or value not in DIALECTS:
        close = did_you_mean(value, [*DIALECTS]) if isinstance(value, str) else None
        raise _mistake(f"this is no type of provider: {listed([*DIALECTS])}", close)
    return value


def _dollars(value: Any) -> Nanos:
    try:
        amount = parse_dollars(_number(value, "0.50"))
    except MoneyError as error:
        raise _mistake(f"not an amount in dollars: {error}") from None
    if amount > parse_dollars(_MOST_DOLLARS):
        raise _mistake(f"{value} dollars is more than a run can mean; at most {_MOST_DOLLARS:,} are taken")
    return amount


def _price(value: Any) -> Decimal:
    try:
        price = parse_price(_number(value, "3.20"))
    except MoneyError as error:
        raise _mistake(f"not a price: {error}") from None
    if 0 < price < _LEAST_PRICE:
        raise _mistake(
            f"{price:f} dollars per million tokens is too little",
            f"prices are per million tokens: {price:f} for each token is `{(price * 1_000_000).normalize():f}`",
        )
    return price


def _fee(value: Any) -> Decimal:
    nanos = _dollars(value)
    if nanos > parse_dollars(100):
        raise _mistake(f"{value} dollars for each request is not a fee anyone charges")
    return Decimal(nanos) / 1_000_000_000


def _times(value: Any) -> float:
    found = _TIMES.fullmatch(value) if isinstance(value, str) else None
    if not found or not 1 <= float(found[1]) <= 16:
        raise _mistake("write how many times the limit grows with each attempt, from `x1` to `x16`", "such as `x2`")
    return float(found[1])


@dataclass(frozen=True, slots=True)
class FileText:
    """A text that stands in a file of its own."""

    file: str


Inline: TypeAlias = str | FileText


def _text(value: Any) -> Inline:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and set(value) == {"file"} and isinstance(value["file"], str):
        return FileText(value["file"])
    hint = "a text that looks like a number needs quotes" if isinstance(value, int | float) else None
    raise _mistake("a text is expected here: a string, or {file: path}", hint)


def _script(value: Any) -> tuple[Inline, ...] | FileText | str:
    if isinstance(value, list):
        return tuple(_text(part) for part in value)
    if isinstance(value, str | Mapping):
        return _text(value)
    raise _mistake("a script is a list of texts, or {file: path} with its turns parted by `<!-- turn -->`")


def _variable(value: Any) -> Inline:
    if isinstance(value, bool) or value is None:
        raise _mistake("a value is a text or a number", "put it in quotes")
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise _mistake("a value is a text or a finite number")
        return str(value)
    return _text(value)


def unstorable(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every number in a tree for which a request and a journal have no form."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, "a finite number is expected here"
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        yield path, "a whole number of at most 64 bits is expected here"
    elif isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from unstorable(inner, (*path, step))


def _storable(value: Any) -> Any:
    for path, text in unstorable(value):
        where = f": `{'.'.join(map(str, path))}`" if path else ""
        raise _mistake(text + where, "put it in quotes, where it is a text")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _stop(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value != "farewell":
        raise _mistake("a rule is a mapping, such as `{phrase: ...}`; of the words only `farewell` stands alone")
    return {value: FAREWELL}


def _style(value: Any) -> str:
    if not isinstance(value, str) or (value not in STYLES and not value.endswith(".py")):
        close = did_you_mean(value, STYLES) if isinstance(value, str) else None
        raise _mistake(f"this is no style: {listed([*STYLES])}, or a Python file of your own", close)
    return value


def _schema(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _mistake("a JSON Schema is expected here: a mapping, or {file: path} to a file of JSON")
    if set(value) == {"file"} and isinstance(value["file"], str):
        return FileText(value["file"])
    return dict(value)


def _whole(key: str, *kinds: type) -> Callable[[Any], Any]:
    """An entry that may be written as one value of these kinds, which is that of its key."""

    def spread(value: Any) -> Any:
        return {key: value} if isinstance(value, kinds) and not isinstance(value, bool) else value

    return spread


_TEXT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"file": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}
_DURATION_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?$",
    "minLength": 2,
}
_DEADLINE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [_DURATION_SCHEMA, {"type": "string", "pattern": f"^{_CLOCK.pattern}$"}]
}
_STYLE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "string", "enum": list(STYLES)}, {"type": "string", "pattern": r"\.py$"}]
}
_MONEY_SCHEMA: Final[dict[str, Any]] = {"type": "number", "minimum": 0, "maximum": _MOST_DOLLARS}

Duration = Annotated[float, BeforeValidator(_some_duration), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrNone = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
Dollars = Annotated[Nanos, BeforeValidator(_dollars), WithJsonSchema(_MONEY_SCHEMA)]
PerMillion = Annotated[
    Decimal, BeforeValidator(_price), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 10_000})
]
Fee = Annotated[Decimal, BeforeValidator(_fee), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100})]
Text = Annotated[Any, BeforeValidator(_text), WithJsonSchema(_TEXT_SCHEMA)]
Script = Annotated[
    Any,
    BeforeValidator(_script),
    WithJsonSchema({"anyOf": [{"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}, *_TEXT_SCHEMA["anyOf"]]}),
]
Variable = Annotated[
    Any,
    BeforeValidator(_variable),
    WithJsonSchema({"anyOf": [*_TEXT_SCHEMA["anyOf"], {"type": "number"}]}),
]
Storable = Annotated[Any, BeforeValidator(_storable)]
Times = Annotated[float, BeforeValidator(_times), WithJsonSchema({"type": "string", "pattern": r"^x\d+(\.\d+)?$"})]
Names = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
DialectName = Annotated[str, BeforeValidator(_dialect), WithJsonSchema({"type": "string", "enum": list(DIALECTS)})]
StyleName = Annotated[str, BeforeValidator(_style), WithJsonSchema(_STYLE_SCHEMA)]
Deadline = Annotated[float | str, BeforeValidator(_deadline), WithJsonSchema(_DEADLINE_SCHEMA)]
ScoresSchema = Annotated[
    Any,
    BeforeValidator(_schema),
    WithJsonSchema({"type": "object", "description": "a JSON Schema, or the `file` that holds it"}),
]
Share = Annotated[float, Field(gt=0, le=1)]
PerWindow = Annotated[int, Field(ge=1, le=1_000_000_000_000)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


# --- settings ----------------------------------------------------------------------------------------------------


class TimeoutEntry(_Entry):
    """How long one call may take."""

    connect: Duration = Field(default="30s", validate_default=True, description="to reach the server")
    first: Duration = Field(default="10m", validate_default=True, description="until the first data")
    idle: Duration = Field(default="120s", validate_default=True, description="between two pieces of data")
    total: Duration = Field(default="30m", validate_default=True, description="in all")


class HistoryEntry(_Entry):
    """What of the past goes into a request."""

    reasoning: Literal["strip", "keep"] = Field(default="strip", description="whether a model is shown its thoughts")
    overflow: Overflow = Field(default="stop", description="what a full window means")
    window: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="how many of the last turns a speaker is shown"
    )


class RuleEntry(_Entry):
    """What becomes of a turn with this outcome."""

    retry: int = Field(default=0, ge=0, le=100, description="further attempts")
    max_tokens: Times = Field(default="x1", validate_default=True, description="growth with each attempt")
    then: Literal["fail"] = "fail"


class AcceptableRuleEntry(RuleEntry):
    """What becomes of a turn that has visible text, but not a whole answer."""

    then: Literal["fail", "accept"] = "accept"  # type: ignore[assignment]


class OutcomesEntry(_Entry):
    """The rule for each outcome that is not ok."""

    empty: RuleEntry = RuleEntry(retry=2, max_tokens="x2")  # type: ignore[arg-type]
    truncated: AcceptableRuleEntry = AcceptableRuleEntry()
    refused: AcceptableRuleEntry = AcceptableRuleEntry()
    error: RuleEntry = RuleEntry(retry=5)
    lost: RuleEntry = RuleEntry(retry=1)


class ReasoningEntry(_Entry):
    """How much a model may think before it speaks; a bare word is `effort`."""

    effort: Effort | None = Field(default=None, description="in the provider's own words, where it has fewer")
    tokens: int | None = Field(default=None, ge=0, le=10_000_000, description="where a model takes a number")


class SettingsEntry(_Entry):
    """How calls are made. Precedence: set, pairing, prompt, model, provider, defaults."""

    max_tokens: Tokens = Field(default=4096, description="the output limit, always sent")
    min_tokens: Tokens | None = Field(
        default=None, description="how far the output limit may be lowered when the money does not reach for all of it"
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = None
    stop_strings: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=16), BeforeValidator(_listed)
    ] = Field(default=[], description="texts at which the model stops writing")
    reasoning: Annotated[ReasoningEntry, BeforeValidator(_whole("effort", str))] = ReasoningEntry()
    extra: dict[str, Storable] = Field(default={}, description="fields put into each request as they are")
    timeout: TimeoutEntry = TimeoutEntry()
    history: HistoryEntry = HistoryEntry()
    outcomes: OutcomesEntry = OutcomesEntry()


SETTINGS: Final = frozenset(SettingsEntry.model_fields)


def every_setting() -> dict[str, Any]:
    """All settings at their built-in values."""
    return SettingsEntry().model_dump()


def given_settings(entry: SettingsEntry) -> dict[str, Any]:
    """The settings that this entry itself sets, however deep."""
    return entry.model_dump(include=set(SETTINGS), exclude_unset=True)


# --- entries -----------------------------------------------------------------------------------------------------


class BudgetEntry(_Entry):
    """Ceilings in dollars; a bare number is `run`."""

    run: Dollars | None = None
    conversation: Dollars | None = None
    day: Dollars | None = Field(default=None, description="for all runs of a day that write into one outputs folder")
    month: Dollars | None = Field(default=None, description="for all runs of a month that write there")
    providers: dict[str, Dollars] = {}
    models: dict[str, Dollars] = {}


class PairingBudgetEntry(_Entry):
    """Ceilings of one pairing in dollars; a bare number is the total of its conversations."""

    pairing: Dollars | None = None
    conversation: Dollars | None = None


class LimitsEntry(_Entry):
    """What the provider allows."""

    concurrency: int | None = Field(default=None, ge=1, le=100_000, description="calls at the same time")
    rpm: PerWindow | None = Field(default=None, description="requests per minute")
    rpd: PerWindow | None = Field(default=None, description="requests per day")
    tpm: PerWindow | None = Field(default=None, description="tokens per minute, input and output")
    input_tpm: PerWindow | None = Field(default=None, description="input tokens per minute")
    output_tpm: PerWindow | None = Field(default=None, description="output tokens per minute")
    burst: PerWindow | None = Field(default=None, description="requests that may start together")
    count: Literal["reserved", "used"] | None = Field(default=None, description="whether max_tokens counts up front")
    per: Literal["provider", "model"] | None = Field(
        default=None, description="whether each model has these of its own"
    )


class ProviderEntry(SettingsEntry):
    """One account at one server."""

    type: DialectName | None = Field(default=None, description="the dialect")
    base_url: str | None = Field(default=None, description="the URL of the API, or the word `sim`")
    api_key: str | None = Field(default=None, description="a variable of the environment: ${NAME}")
    headers: dict[str, str] = {}
    limits: LimitsEntry = LimitsEntry()
    limit_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="the name under which the server takes the output limit"
    )
    sim: dict[str, Any] | None = Field(default=None, description="the configuration of the built-in server")
    free: bool = Field(default=False, description="calls cost nothing")
    resident: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="how many models a local server has loaded at once"
    )
    min_gpu: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="the part of a loaded model that must lie on the graphics card"
    )


class TierEntry(_Entry):
    """Dollars per million tokens for a request with more input tokens than `above`."""

    above: Tokens
    input: PerMillion
    output: PerMillion
    cache_read: PerMillion | None = None
    cache_write: PerMillion | None = None


class PriceEntry(_Entry):
    """Dollars per million tokens; `request` is in dollars for each call."""

    input: PerMillion
    output: PerMillion
    cache_read: PerMillion | None = None
    cache_write: PerMillion | None = None
    request: Fee = Decimal(0)
    tiers: list[TierEntry] = Field(default=[], description="what requests with much input cost, all of their tokens")


class ModelEntry(SettingsEntry):
    """One model, under a name of your own."""

    use: str = Field(description="provider/model-id")
    label: Label | None = Field(default=None, description="the name that readers see")
    price: PriceEntry | None = None
    free: bool = Field(default=False, description="calls cost nothing")
    context: int | None = Field(default=None, ge=256, le=1_000_000_000, description="the model's window in tokens")


class InboxEntry(_Entry):
    """Where the lines of a side come from that somebody else writes: one of these."""

    file: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="a file, from the job file on")
    command: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="a command and its arguments, which prints a line"
    )
    every: Duration = Field(
        default="1m", validate_default=True, description="how often it is looked for while others still talk"
    )


class RoleEntry(_Entry):
    """One side of the conversation."""

    label: Label | None = None
    system: Text | None = None
    script: Script | None = Field(
        default=None, description="what this side says, turn by turn; in a prompt file `body` means the text below"
    )
    opening: Text | None = Field(default=None, description="what this side says in round 1, given and not generated")
    inbox: InboxEntry | None = Field(default=None, description="where this side's lines come from, while they come")


class TurnEntry(_Entry):
    """One turn of the cycle."""

    by: str
    label: Label | None = None
    instruct: Text | None = None


class RenderEntry(_Entry):
    """How a transcript looks; a bare word is `style`. Besides this key, the texts that the style asks for."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Variable]
    style: StyleName = DEFAULT


class VoteEntry(SettingsEntry):
    """Somebody who listens and may end the conversation."""

    observer: str = Field(description="the model that is asked")
    prompt: Text | None = Field(default=None, description="default: whether the conversation is over")
    system: Text | None = None
    every: int = Field(default=1, ge=1, le=10_000, description="after how many rounds it is asked, and again")


class StopEntry(_Entry):
    """What ends a conversation before its last turn: one of these."""

    phrase: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    repetition: Share | None = Field(default=None, description="how much of a turn its speaker had said before")
    echo: Share | None = Field(default=None, description="how much of a turn the others had said before")
    farewell: Share | None = Field(default=None, description="how sure it is that the sides only say goodbye")
    tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(default=None, description="of output, in all")
    cost: Dollars | None = Field(default=None, description="of all turns together")
    time: Duration | None = Field(default=None, description="since the first turn began")
    vote: VoteEntry | None = None


class ModeratorEntry(SettingsEntry):
    """Who says in which order the sides speak, where `order` is `moderator`."""

    model: str = Field(description="the model that is asked")
    prompt: Text | None = Field(default=None, description="default: who should speak next")
    system: Text | None = None


class AfterEntry(SettingsEntry):
    """Somebody who reads the finished conversation, and is heard by nobody."""

    observer: str = Field(description="the model that is asked")
    kind: Literal["notes", "titles", "scores"] = "notes"
    prompt: Text | None = Field(default=None, description="what it is asked; titles need none")
    system: Text | None = None
    heading: Label | None = Field(default=None, description="above what it writes, in a transcript")
    form: ScoresSchema | None = Field(default=None, alias="schema", description="the form of scores")
    budget: Dollars | None = Field(default=None, description="for all that it costs in a run")


class PromptEntry(SettingsEntry):
    """What is talked about, and who speaks when."""

    roles: Annotated[dict[str, RoleEntry | None], Field(min_length=1)] = Field(default={"a": None, "b": None})
    system: Text | None = None
    context: Text | None = None
    opening: Text | None = Field(default=None, description="a facilitator's line to all; no turn, not counted")
    rounds: int | None = Field(default=None, ge=1, le=10_000)
    turns: Annotated[list[TurnEntry], Field(min_length=1, max_length=10_000)] | None = None
    order: Order = Field(default="round-robin", description="who speaks when, within a round")
    moderator: ModeratorEntry | None = None
    stop: list[Annotated[StopEntry, BeforeValidator(_stop)]] = Field(
        default=[], description="what ends it before its last turn"
    )
    after: list[AfterEntry] = Field(default=[], description="who reads it when it is complete")
    render: Annotated[RenderEntry, BeforeValidator(_whole("style", str))] | None = None
    vars: dict[str, Variable] = {}


class ExcludeEntry(BaseModel):
    """Conversations to leave out: a prompt, and a model for each role that is named."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Names]
    prompt: Names | None = None


class PairingEntry(SettingsEntry):
    """Who talks with whom about what: besides these keys, one for each live role, with one or more models."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Names]
    prompt: Names | None = Field(default=None, description="default: every prompt whose live roles are exactly these")
    match: Literal["cross", "distinct", "unordered", "zip"] = "cross"
    exclude: list[ExcludeEntry] = []
    repeat: int = Field(default=1, ge=1, le=1_000_000)
    budget: Annotated[PairingBudgetEntry, BeforeValidator(_whole("pairing", int, float))] = PairingBudgetEntry()
    vars: dict[str, Variable] = {}


class WhenEntry(BaseModel):
    """Which calls are meant: `prompt` and roles choose conversations, `model` chooses speakers in them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, Names]
    prompt: Names | None = None
    model: Names | None = None


class SetEntry(SettingsEntry):
    """Settings for some calls, stronger than all others."""

    when: WhenEntry


class NotifyEntry(_Entry):
    """Who is told how a run ended."""

    when: Annotated[list[When], Field(min_length=1), BeforeValidator(_listed)] = Field(
        default=["always"], description="the ends that are told"
    )
    command: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="a command and its arguments"
    )
    webhook: str | None = Field(default=None, description="a URL, best as a variable of the environment: ${NAME}")


class Header(_Entry):
    """What stands in a job file beside its entries."""

    name: str | None = Field(default=None, description="default: the name of the file")
    run_key: str = Field(default="main", description="one folder per key; {date} is the date of the start")
    timezone: str = Field(default="UTC", description="the zone of {date}, and of the day and month of a budget")
    budget: Annotated[BudgetEntry, BeforeValidator(_whole("run", int, float))] | None = None
    seed: int = Field(default=0, ge=0, lt=2**53)
    send_seed: bool = Field(default=False, description="send a seed derived per conversation, turn and attempt")
    max_wait: DurationOrNone = Field(default="15m", validate_default=True, description="the wait for parked providers")
    deadline: Deadline | None = Field(
        default=None, description="no call starts after it: a time of day in `timezone`, or a duration"
    )
    notify: NotifyEntry | None = None
    vars: dict[str, Variable] = {}
    defaults: SettingsEntry = SettingsEntry()


class JobFile(Header):
    """A Tertulia job file."""

    providers: dict[str, ProviderEntry | None] = {}
    models: dict[str, ModelEntry] = {}
    prompts: dict[str, PromptEntry] | list[str]
    pairings: Annotated[list[PairingEntry], Field(min_length=1)]
    exclude: list[ExcludeEntry] = []
    set: list[SetEntry] = []


HEADER: Final = frozenset(Header.model_fields)
KEYS: Final = tuple(JobFile.model_fields)
PAIRING_KEYS: Final = frozenset(PairingEntry.model_fields)
RESERVED_ROLES: Final = PAIRING_KEYS | {"model", "when", "label", "set"}
"""Words that mean something else where a role's name may stand."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors."""
    schema = JobFile.model_json_schema(by_alias=True)
    number: dict[str, Any] = {"type": "number", "minimum": 0}
    word: dict[str, Any] = {"enum": list(get_args(Effort))}
    for entry in (schema, *schema["$defs"].values()):
        known = entry.get("properties", {})
        for name, short in (("budget", number), ("reasoning", word), ("render", _STYLE_SCHEMA)):
            found = known.get(name, {})
            options = found.get("anyOf") or [{"$ref": found.get("$ref")}]
            if any("$ref" in option and option["$ref"] for option in options):
                described = {k: found[k] for k in ("default", "description", "title") if k in found}
                found.clear()
                found.update(described, anyOf=[short, *options])
        if "items" in known.get("stop", {}):
            known["stop"]["items"] = {"anyOf": [{"const": "farewell"}, known["stop"]["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


# --- mistakes ----------------------------------------------------------------------------------------------------

_SAID: Final[Mapping[str, str]] = {
    "string_type": "a text is expected here",
    "int_type": "a whole number is expected here",
    "int_from_float": "a whole number is expected here",
    "float_type": "a number is expected here",
    "bool_type": "true or false is expected here",
    "dict_type": "a mapping is expected here",
    "model_type": "a mapping is expected here",
    "list_type": "a list is expected here",
    "finite_number": "a finite number is expected here",
    "greater_than_equal": "this must be at least {ge}",
    "greater_than": "this must be more than {gt}",
    "less_than_equal": "this must be at most {le}",
    "less_than": "this must be less than {lt}",
    "too_short": "this is empty",
    "too_long": "this is too long: at most {max_length} are taken",
    "string_too_short": "this is empty",
    "string_too_long": "this is too long: at most {max_length} characters are taken",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with an entry, and the path to it within the entry."""

    path: Path
    message: str
    hint: str | None
    at_key: bool
    fatal: bool
    """True when the entry cannot be used without what is wrong or missing."""


def check(model: type[BaseModel], tree: Any) -> tuple[Any, list[Mistake]]:
    """The entry, as far as it is sound, and everything that is wrong with it.

    What is wrong is taken out and the rest read again, so that later checks see as much as they can.
    None when nothing is left.
    """
    first: list[Mistake] | None = None
    while True:
        try:
            return model.model_validate(tree), first or []
        except ValidationError as error:
            found = [
                _mistake_of(model, tree, detail) for detail in error.errors(include_url=False, include_input=False)
            ]
        first = found if first is None else first
        if any(mistake.fatal for mistake in found):
            return None, first
        for mistake in found:
            tree = _without(tree, mistake.path)


def _mistake_of(model: type[BaseModel], tree: Any, detail: ErrorDetails) -> Mistake:
    path = tuple(detail["loc"])
    context: Mapping[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _names_beside(model.model_json_schema(), path)
        hint = did_you_mean(str(path[-1]), known) or (f"known here: {listed(known, 20)}" if known else None)
        return Mistake(path, f"unknown key `{path[-1]}`", hint, True, False)
    if kind == "missing":
        return Mistake(path, f"`{path[-1]}` is missing", None, False, len(path) == 1)
    if kind == "tertulia":
        return Mistake(path, str(context["text"]), context["hint"], False, not path)
    if kind == "literal_error":
        value = _at(tree, path)
        words = re.findall(r"'([^']*)'", str(context["expected"]))
        message = f"this must be {' or '.join(f'`{word}`' for word in words)}"
        if "accept" not in words and value == "accept":
            return Mistake(
                path, message, "only truncated and refused turns have a text that could be accepted", False, False
            )
        return Mistake(path, message, did_you_mean(value, words) if isinstance(value, str) else None, False, False)
    message = _SAID[kind].format(**context) if kind in _SAID else detail["msg"]
    value = _at(tree, path)
    hint = None
    if kind == "string_type" and isinstance(value, int | float | bool):
        hint = "put it in quotes"
    elif kind == "bool_type" and isinstance(value, str):
        hint = "yes, no, on and off are texts in YAML 1.2"
    elif kind in ("int_type", "float_type") and isinstance(value, str):
        hint = "write the number without quotes"
    return Mistake(path, message, hint, False, not path)


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return tree
    return tree


def _without(tree: Any, path: Path) -> Any:
    """The tree without the deepest mapping key on the path, so that no list element changes its place."""
    if not path or not isinstance(tree, dict) or path[0] not in tree:
        return {k: v for k, v in tree.items() if k != path[0]} if isinstance(tree, dict) and path else tree
    inner = tree[path[0]]
    if len(path) > 1 and isinstance(path[1], str) and isinstance(inner, dict) and path[1] in inner:
        return {**tree, path[0]: _without(inner, path[1:])}
    return {key: value for key, value in tree.items() if key != path[0]}


def _names_beside(schema: Mapping[str, Any], path: Path) -> list[str]:
    """The keys that the schema knows where the last step of the path stands."""
    here = [schema]
    for step in path[:-1]:
        here = [inner for one in here for inner in _inside(schema, one, step)]
    return [name for one in here for option in _options(schema, one) for name in option.get("properties", {})]


def _options(root: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in node:
        return _options(root, root["$defs"][str(node["$ref"]).rpartition("/")[2]])
    if "anyOf" in node:
        return [option for one in node["anyOf"] for option in _options(root, one)]
    return [node]


def _inside(root: Mapping[str, Any], node: Mapping[str, Any], step: str | int) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for option in _options(root, node):
        inner = option.get("items") if isinstance(step, int) else option.get("properties", {}).get(step)
        if inner is None and isinstance(step, str):
            inner = option.get("additionalProperties")
        if isinstance(inner, Mapping):
            found.append(inner)
    return found
