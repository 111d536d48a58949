"""What a provider is told to be: models with prices and habits, limits, and faults; and the loader that reads it.

The loader takes a plain tree (parsed JSON or YAML) and collects every mistake, each with the path of keys that leads
to it. Times are seconds, or strings such as `250ms`, `3s`, `10m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

from runner.money import FREE, MoneyError, Nanos, Price, Tier, parse_dollars, parse_price
from runner.sim.meter import NO_LIMITS, Count, Limits, Shape

Path: TypeAlias = tuple[str | int, ...]
Problem: TypeAlias = tuple[Path, str]

RetryForm: TypeAlias = Literal["seconds", "date", "ms"]
UsageForm: TypeAlias = Literal["missing", "null", "strings", "floats", "negative", "huge", "zero"]
ThoughtField: TypeAlias = Literal["reasoning_content", "reasoning"]
Cancelled: TypeAlias = Literal["full", "produced"]
Overflow: TypeAlias = Literal["refuse", "cut"]
Speaks: TypeAlias = Literal[
    "plain",
    "openrouter",
    "deepseek",
    "zai",
    "mistral",
    "groq",
    "together",
    "xai",
    "vllm",
    "llamacpp",
    "lmstudio",
    "anthropic",
    "gemini",
]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds to the first piece and for each token after it, both varied by up to `spread` (a share) per request."""

    first: float = 0.0
    per_token: float = 0.0
    spread: float = 0.0
    keep_alive: float = 10.0
    """Seconds between comments in a stream that has not begun."""
    load: float = 0.0
    """Seconds until a model is in memory that was not there."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a model answers: `texts` in turn, or the last message back, or sentences of about `mean` tokens.

    In turn is by what was said before: so many lines of its own, or where it is shown a conversation whose lines are
    numbered, as those are who only listen, so many of all.
    """

    mean: int = 90
    spread: float = 0.4
    """The share by which a length may differ from the mean."""
    texts: tuple[str, ...] = ()
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and when; what is not said about the time matches every request.

    `request` counts the requests to one model from 1, `attempt` the times that the same messages came to it;
    `rate` is drawn from the messages and the attempt, so it does not depend on the order of arrival.
    """

    kind: str
    model: str | None = None
    request: tuple[int, ...] = ()
    attempt: tuple[int, ...] = ()
    contains: str | None = None
    since: float = 0.0
    until: float | None = None
    """Seconds after the first request of all."""
    rate: float | None = None
    billed: bool = False
    retry_after: str | float | None = None
    retry_form: RetryForm = "seconds"
    status: int = 0
    after: int = 0
    seconds: float = 0.0
    finish: Literal["stop", "length"] = "length"
    form: UsageForm = "missing"
    times: float = 2.0
    served: str = ""
    param: str = ""
    location: str = ""
    text: bool = True
    word: str = ""
    afford: int = 0
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: what it costs, how it talks, how fast it is, and what goes wrong with it."""

    price: Price = FREE
    reply: Style = Style()
    reasoning: int = 0
    """Mean of the thinking tokens before a reply."""
    reasoning_field: ThoughtField | None = None
    """None is the field of the server that is spoken like."""
    latency: Latency = Latency()
    cached: float = 0.0
    """The share of the tokens before the last message that is reported, and billed, as read from a cache."""
    cache_written: float = 0.0
    """The share of the other tokens that is put into the cache."""
    reports_cost: bool = False
    byok: bool = False
    """Whether a router bills the vendor's cost to a key of the user's own."""
    context: int | None = None
    overflow: Overflow = "refuse"
    """What becomes of a conversation that outgrows the window: refused, or cut without a word."""
    max_output: int | None = None
    ends: str | None = None
    """The day on which it is taken away, as in `2026-12-31`."""
    gpu: float = 1.0
    """The share of it that a local server has on its graphics card."""
    limits: Limits = NO_LIMITS
    faults: tuple[Fault, ...] = ()


def _cast(
    input: str, output: str, reply: Style, latency: Latency, reasoning: int = 0, faults: tuple[Fault, ...] = ()
) -> ModelConfig:
    return ModelConfig(Price(Decimal(input), Decimal(output)), reply, reasoning, latency=latency, faults=faults)


CAST: Final[Mapping[str, ModelConfig]] = MappingProxyType(
    {
        "ada": _cast("1.00", "3.20", Style(80), Latency(0.2, 0.003, 0.3)),
        "basil": _cast("3.00", "15.00", Style(120), Latency(2.6, 0.004, 0.2, keep_alive=1.0)),
        "cleo": _cast(
            "0.50", "1.50", Style(60), Latency(0.4, 0.003, 0.3), faults=(Fault("busy", request=(1,), retry_after=1.0),)
        ),
        "dora": _cast("0.15", "0.60", Style(70), Latency(0.3, 0.003, 0.3), faults=(Fault("blank", request=(1,)),)),
        "eli": _cast("2.00", "8.00", Style(90), Latency(0.5, 0.003, 0.3), reasoning=150),
    }
)
"""The models that are there without any configuration: a quick one, a slow one, one that is busy at first, one whose
first answer is blank, and one that thinks."""


@dataclass(frozen=True, slots=True)
class SimConfig:
    """A whole provider."""

    seed: int = 0
    models: Mapping[str, ModelConfig] = field(default_factory=lambda: CAST)
    other: ModelConfig | None = None
    """How a model that is not listed behaves; None refuses it."""
    keys: tuple[str, ...] = ()
    """The keys that are let in; none listed lets in everybody."""
    epoch: float = 0.0
    """The wall clock, in seconds since 1970, at the engine's moment 0."""
    limits: Limits = NO_LIMITS
    """For each key, over all models."""
    fault_rate: float = 0.0
    """The share of requests that meet one of the ordinary passing faults."""
    faults: tuple[Fault, ...] = ()
    cancelled: Cancelled = "full"
    """What a client that leaves is billed: all that would have been produced, or what had been."""
    keep_bodies: bool = False
    speaks: Speaks = "plain"
    """Whose ways a chat server has, and whose lists; the path of a request says its format."""
    credit: Nanos | None = None
    """What the account holds: when it is billed, there is no money; None is no end of it."""
    record_after: float = 0.0
    """Seconds after its end in which a call cannot be looked up yet."""
    resident: int | None = None
    """How many models are in memory at once; None is room for all."""

    def model(self, name: str) -> ModelConfig | None:
        return self.models.get(name, self.other)


def price_of(config: SimConfig, model_id: str) -> Price | None:
    """The provider's own price list: what a model costs, or None for one that it does not serve."""
    model = config.model(model_id)
    return None if model is None else model.price


# --- the kinds of faults -----------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What one kind of fault may be told, beside when it happens, and how it behaves when told nothing."""

    options: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = MappingProxyType({})


def _kind(*options: str, **defaults: Any) -> Kind:
    return Kind(options, MappingProxyType(defaults))


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        # refused before any work; never billed
        "refused": _kind(),
        "busy": _kind("retry_after", "retry_form", "should_retry"),
        "quota": _kind("retry_after", "retry_form", "should_retry"),
        "day": _kind("retry_after", "retry_form", "should_retry"),
        "spend": _kind("status", status=429),
        "unauthorized": _kind(),
        "no_money": _kind(),
        "afford": _kind("afford", afford=100),
        "forbidden": _kind(),
        "not_found": _kind(),
        "context_length": _kind(),
        "unsupported_parameter": _kind("param", param="temperature"),
        "too_large": _kind(),
        "unprocessable": _kind(),
        "moderated": _kind(),
        "loading": _kind("retry_after", "retry_form"),
        "redirect": _kind("location", location="http://127.0.0.1:9/elsewhere"),
        # something else than an answer
        "server_error": _kind("status", "retry_after", "retry_form", "should_retry", "billed", status=503),
        "html": _kind("billed"),
        "malformed": _kind("billed", billed=True),
        "error_in_200": _kind("after", "status", "billed", status=502),
        "finish_error": _kind("billed"),
        # the connection
        "reset": _kind("billed", billed=True),
        "cut": _kind("after", "billed", after=1, billed=True),
        "short": _kind("after", "billed", after=1, billed=True),
        "silent": _kind("billed", billed=True),
        "stall": _kind("after", "billed", after=1, billed=True),
        "slow": _kind("seconds", seconds=0.3, billed=True),
        "comments": _kind(billed=True),
        "late": _kind("seconds", seconds=30.0, billed=True),
        # an answer that is no reply, or not the one that was asked for
        "blank": _kind("billed"),
        "whitespace": _kind(billed=True),
        "thinking_only": _kind("finish", billed=True),
        "filtered": _kind("text", billed=True),
        "refusal": _kind(billed=True),
        "unknown_finish": _kind("word", word="eldritch", billed=True),
        "replayed": _kind(),
        "usage": _kind("form", billed=True),
        "overrun": _kind("times", billed=True),
        "other_model": _kind("served", served="another-model", billed=True),
        "twice_done": _kind(billed=True),
        "no_done": _kind(billed=True),
    }
)
"""Every kind of fault. `billed` says whether an answer that failed is charged for all the same."""


def fault(kind: str, **told: Any) -> Fault:
    """A fault with what its kind means where nothing is told."""
    return Fault(kind, **{**KINDS[kind].defaults, **told})


PASSING: Final[tuple[Fault, ...]] = (
    fault("busy", retry_after=1.0),
    fault("busy"),
    fault("server_error", status=500),
    fault("server_error", status=502),
    fault("server_error", status=503, retry_after=2.0),
    fault("server_error", status=529),
    fault("refused"),
    fault("reset"),
    fault("cut", after=2),
    fault("short", after=2),
    fault("blank"),
    fault("blank", billed=True),
    fault("whitespace"),
    fault("thinking_only", finish="stop"),
    fault("malformed"),
    fault("html"),
    fault("error_in_200"),
    fault("error_in_200", after=2),
    fault("finish_error"),
)
"""What `faults: {rate: ...}` draws from, evenly: troubles that end by themselves and that another attempt gets over."""


# --- reading it --------------------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    config: SimConfig
    """The built-in default wherever there is a problem."""
    problems: tuple[Problem, ...]


def load_config(data: object) -> Loaded:
    """The provider that a plain tree describes, and every mistake in it."""
    problems: list[Problem] = []
    config = SimConfig()
    table = _table(data, (), problems)
    if table is not None:
        config = _config(table)
    return Loaded(SimConfig() if problems else config, tuple(problems))


def check_config(data: object) -> list[Problem]:
    """Every mistake in a provider's configuration: the path of keys to it, and what to do."""
    return list(load_config(data).problems)


_T = TypeVar("_T")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS_PER: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Wrong(ValueError):
    """What is wrong with one value."""


@dataclass(slots=True)
class _Table:
    """A mapping being read: what nobody asked for by the end is a mistake."""

    data: Mapping[Any, Any]
    path: Path
    problems: list[Problem]
    asked: list[str] = field(default_factory=list)

    def read(self, key: str, parse: Callable[[object], _T], default: _T) -> _T:
        self.asked.append(key)
        if key not in self.data:
            return default
        try:
            return parse(self.data[key])
        except _Wrong as wrong:
            self.problems.append(((*self.path, key), str(wrong)))
            return default

    def table(self, key: str) -> _Table | None:
        self.asked.append(key)
        return _table(self.data[key], (*self.path, key), self.problems) if key in self.data else None

    def tables(self, key: str) -> list[_Table]:
        """A list of mappings, as far as it is one."""
        nothing: tuple[object, ...] = ()
        rows = self.read(key, _list, nothing)
        read = (_table(row, (*self.path, key, n), self.problems) for n, row in enumerate(rows))
        return [row for row in read if row is not None]

    def done(self, what: str) -> None:
        for key in self.data:
            if key not in self.asked:
                near = get_close_matches(str(key), self.asked, n=1)
                hint = f"did you mean `{near[0]}`?" if near else "it may have: " + ", ".join(self.asked)
                self.problems.append(((*self.path, key), f"{what} has no `{key}`; {hint}"))


def _table(data: object, path: Path, problems: list[Problem]) -> _Table | None:
    if isinstance(data, Mapping):
        return _Table(data, path, problems)
    problems.append((path, f"expected keys with values, found {_shown(data)}"))
    return None


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str | bool | int | float):
        return repr(value)[:60]
    return (
        "a list"
        if isinstance(value, list | tuple)
        else "keys with values"
        if isinstance(value, Mapping)
        else "something else"
    )


def _list(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise _Wrong(f"expected a list, found {_shown(value)}")
    return tuple(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"expected a text, found {_shown(value)}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"expected true or false, found {_shown(value)}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not isfinite(value):
        raise _Wrong(f"expected a number, found {_shown(value)}")
    return float(value)


def _whole(least: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _Wrong(f"expected a whole number of at least {least}, found {_shown(value)}")
        return int(value)

    return parse


def _optional(parse: Callable[[object], _T]) -> Callable[[object], _T | None]:
    return lambda value: None if value is None else parse(value)


def _between(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        number = _number(value)
        if not low <= number <= high:
            raise _Wrong(f"expected a number from {low:g} to {high:g}, found {_shown(value)}")
        return number

    return parse


def _seconds(value: object) -> float:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise _Wrong(f"expected a time such as `250ms`, `3s` or `10m`, found {_shown(value)}")
        return float(match[1]) * _SECONDS_PER[match[2]]
    number = _number(value)
    if number < 0:
        raise _Wrong(f"a time cannot be negative, found {_shown(value)}")
    return number


def _choice(choices: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise _Wrong(f"expected one of {', '.join(choices)}, found {_shown(value)}{hint}")
        return str(value)

    return parse


def _count(value: object) -> tuple[int, ...]:
    """One number from 1, or several."""
    one = _whole(1)
    return tuple(one(item) for item in value) if isinstance(value, list | tuple) else (one(value),)


def _retry_after(value: object) -> str | float:
    """Seconds, or any text, to be sent as it is; what is no sensible wait is allowed on purpose."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Wrong(f"expected seconds, or a text to be sent as it is, found {_shown(value)}")
    return value if isinstance(value, str) else float(value)


def _status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 400 <= value <= 599:
        raise _Wrong(f"expected an HTTP status from 400 to 599, found {_shown(value)}")
    return int(value)


def _price_of(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _Wrong(f"expected dollars per million tokens, found {_shown(value)}")
    try:
        return parse_price(value)
    except MoneyError as error:
        raise _Wrong(str(error)) from None


def _dollars(value: object) -> Nanos:
    """An amount of money, in nano-dollars."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _Wrong(f"expected dollars, found {_shown(value)}")
    try:
        return parse_dollars(value)
    except MoneyError as error:
        raise _Wrong(str(error)) from None


def _config(table: _Table) -> SimConfig:
    models = dict(CAST)
    given = table.table("models")
    if given is not None:
        for name in given.data:
            given.asked.append(name)
            row = _table(given.data[name], (*given.path, name), table.problems)
            if row is not None:
                models[str(name)] = _model(row)
    other = table.table("other")
    faults = table.table("faults")
    config = SimConfig(
        seed=table.read("seed", _whole(0), 0),
        models=MappingProxyType(models),
        other=None if other is None else _model(other),
        keys=table.read("keys", _texts, ()),
        epoch=table.read("epoch", _number, 0.0),
        limits=_limits(table.table("limits")),
        cancelled=cast(Cancelled, table.read("cancelled", _choice(get_args(Cancelled)), "full")),
        keep_bodies=table.read("keep_bodies", _flag, False),
        speaks=cast(Speaks, table.read("speaks", _choice(get_args(Speaks)), "plain")),
        credit=table.read("credit", _optional(_dollars), None),
        record_after=table.read("record_after", _seconds, 0.0),
        resident=table.read("resident", _optional(_whole(1)), None),
    )
    if faults is not None:
        config = replace(
            config,
            fault_rate=faults.read("rate", _between(0, 1), 0.0),
            faults=tuple(f for row in faults.tables("script") if (f := _fault(row, models, other is None)) is not None),
        )
        faults.done("`faults`")
    table.done("the built-in provider")
    return config


def _model(table: _Table) -> ModelConfig:
    model = ModelConfig(
        price=_price(table.table("price")),
        reply=_style(table.table("reply")),
        reasoning=table.read("reasoning", _whole(0), 0),
        reasoning_field=cast(
            ThoughtField | None, table.read("reasoning_field", _optional(_choice(get_args(ThoughtField))), None)
        ),
        latency=_latency(table.table("latency")),
        cached=table.read("cached", _between(0, 1), 0.0),
        cache_written=table.read("cache_written", _between(0, 1), 0.0),
        reports_cost=table.read("reports_cost", _flag, False),
        byok=table.read("byok", _flag, False),
        context=table.read("context", _optional(_whole(1)), None),
        overflow=cast(Overflow, table.read("overflow", _choice(get_args(Overflow)), "refuse")),
        max_output=table.read("max_output", _optional(_whole(1)), None),
        ends=table.read("ends", _optional(_text), None),
        gpu=table.read("gpu", _between(0, 1), 1.0),
        limits=_limits(table.table("limits")),
        faults=tuple(f for row in table.tables("faults") if (f := _fault(row, None, True)) is not None),
    )
    table.done("a model")
    return model


def _price(table: _Table | None) -> Price:
    if table is None:
        return FREE
    price = Price(
        input=table.read("input", _price_of, Decimal(0)),
        output=table.read("output", _price_of, Decimal(0)),
        cache_read=table.read("cache_read", _optional(_price_of), None),
        cache_write=table.read("cache_write", _optional(_price_of), None),
        request=table.read("request", _price_of, Decimal(0)),
        tiers=tuple(sorted(map(_tier, table.tables("tiers")), key=lambda tier: tier.above)),
    )
    _needs(table, "a price")
    table.done("a price")
    return price


def _tier(table: _Table) -> Tier:
    tier = Tier(
        above=table.read("above", _whole(0), 0),
        input=table.read("input", _price_of, Decimal(0)),
        output=table.read("output", _price_of, Decimal(0)),
        cache_read=table.read("cache_read", _optional(_price_of), None),
        cache_write=table.read("cache_write", _optional(_price_of), None),
    )
    _needs(table, "a tier")
    table.done("a tier")
    return tier


def _needs(table: _Table, what: str) -> None:
    table.problems.extend(
        ((*table.path, key), f"{what} needs `{key}`, in dollars per million tokens")
        for key in ("input", "output")
        if key not in table.data
    )


def _style(table: _Table | None) -> Style:
    if table is None:
        return Style()
    style = Style(
        mean=table.read("mean", _whole(1), Style().mean),
        spread=table.read("spread", _between(0, 1), Style().spread),
        texts=table.read("texts", _texts, ()),
        echo=table.read("echo", _flag, False),
    )
    if style.echo and style.texts:
        table.problems.append(((*table.path, "echo"), "a model either echoes or has `texts`; leave one of them out"))
    table.done("`reply`")
    return style


def _latency(table: _Table | None) -> Latency:
    if table is None:
        return Latency()
    latency = Latency(
        first=table.read("first", _seconds, 0.0),
        per_token=table.read("per_token", _seconds, 0.0),
        spread=table.read("spread", _between(0, 1), 0.0),
        keep_alive=table.read("keep_alive", _seconds, Latency().keep_alive),
        load=table.read("load", _seconds, 0.0),
    )
    table.done("`latency`")
    return latency


def _limits(table: _Table | None) -> Limits:
    if table is None:
        return NO_LIMITS
    least_one = _optional(_whole(1))
    limits = Limits(
        concurrency=table.read("concurrency", least_one, None),
        rpm=table.read("rpm", least_one, None),
        rpd=table.read("rpd", least_one, None),
        tpm=table.read("tpm", least_one, None),
        input_tpm=table.read("input_tpm", least_one, None),
        output_tpm=table.read("output_tpm", least_one, None),
        window=cast(Shape, table.read("window", _choice(get_args(Shape)), "sliding")),
        burst=table.read("burst", least_one, None),
        count=cast(Count, table.read("count", _choice(get_args(Count)), "reserved")),
        headers=table.read("headers", _flag, True),
        tpd=table.read("tpd", least_one, None),
    )
    if limits.burst is not None and (limits.window != "bucket" or limits.rpm is None):
        table.problems.append(
            ((*table.path, "burst"), "`burst` is the size of a bucket: add `window: bucket` and `rpm`")
        )
    table.done("`limits`")
    return limits


def _fault(table: _Table, models: Mapping[str, ModelConfig] | None, closed: bool) -> Fault | None:
    """One fault; `models` are the names that it may be for, or None where it already stands under a model."""
    if "kind" not in table.data:
        table.problems.append((table.path, f"a fault needs a `kind`: {', '.join(KINDS)}"))
        return None
    name = table.read("kind", _choice(tuple(KINDS)), "")
    if not name:
        return None
    kind = KINDS[name]
    told: dict[str, Any] = {}
    readers: dict[str, Callable[[object], Any]] = {
        **({} if models is None else {"model": _text}),
        "request": _count,
        "attempt": _count,
        "contains": _text,
        "since": _seconds,
        "until": _seconds,
        "rate": _between(0, 1),
        **{option: _OPTIONS[option] for option in kind.options},
    }
    for key, reader in readers.items():
        value = table.read(key, reader, None)
        if key in table.data and value is not None:
            told[key] = value
    if models is not None and closed and told.get("model", next(iter(models))) not in models:
        near = get_close_matches(told["model"], list(models), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "there are: " + ", ".join(models)
        table.problems.append(((*table.path, "model"), f"there is no model `{told['model']}`; {hint}"))
    if told.get("retry_form", "seconds") != "seconds" and not isinstance(told.get("retry_after"), float):
        table.problems.append(((*table.path, "retry_form"), "`retry_form` needs `retry_after` as a number of seconds"))
        return None
    table.done(f"a fault of the kind `{name}`")
    return fault(name, **told)


_OPTIONS: Final[Mapping[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "retry_after": _retry_after,
        "retry_form": _choice(get_args(RetryForm)),
        "status": _status,
        "billed": _flag,
        "after": _whole(0),
        "seconds": _seconds,
        "finish": _choice(("stop", "length")),
        "form": _choice(get_args(UsageForm)),
        "times": _between(1, 100),
        "served": _text,
        "param": _text,
        "location": _text,
        "text": _flag,
        "word": _text,
        "afford": _whole(0),
        "should_retry": _flag,
    }
)
