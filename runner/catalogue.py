"""Prices that no job gives: the list of models that a provider publishes, and a package of prices.

A list is fetched when somebody asks for it, and kept as it came, with the moment and its hash; here it is only read.
The package is an extra: it is imported when nothing nearer knows a price, is always told the provider, because the
same name costs another amount elsewhere, and has no chance to fetch anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import orjson

from runner.money import MoneyError, Price, Tier, parse_price
from runner.providers import DIALECTS
from runner.providers.base import Inquiry, Listed
from runner.world import Disk, HttpRequest

FOLDER: Final = "catalogues"
"""Where the lists are, in the folder of this user's state."""
EXTRA: Final = "tertulia[prices]"
"""What brings the package."""
_PACKAGE: Final = "genai_prices"
_FORMAT: Final = 1

At: TypeAlias = tuple[str, str]
"""The type of a provider and its address, as a job writes it: whoever has both in common has one list."""


class Unreadable(ValueError):
    """What cannot be used as a list of models; the text says why."""


# --- lists of providers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The list of models that a provider gave on a day."""

    provider: str
    type: str
    address: str
    fetched: str
    """When, in UTC: `2026-11-20T18:03:11Z`."""
    body: str
    """What came, letter for letter."""
    models: Mapping[str, Listed] = field(compare=False, repr=False)

    @classmethod
    def taken(cls, provider: str, at: At, fetched: str, body: bytes) -> Catalogue:
        """What a provider answered when it was asked for its models. Raises Unreadable when that is no list."""
        type_, address = at
        question = Inquiry("models", HttpRequest("GET", address, {}, b""))
        rows = [fact for fact in DIALECTS[type_].learned(question, body) if isinstance(fact, Listed)]
        if not rows:
            raise Unreadable("there is no model in it")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Unreadable("it is not UTF-8") from None
        found = cls(provider, type_, address, fetched, text, MappingProxyType({}))
        source = found.source  # once: it has the hash of the whole list in it
        priced = (row if row.price is None else row._replace(price=replace(row.price, source=source)) for row in rows)
        return replace(found, models={row.id: row for row in priced})

    @classmethod
    def of(cls, data: bytes) -> Catalogue:
        """The list that is kept in a file. Raises Unreadable."""
        try:
            kept = orjson.loads(data)
            number = kept["format"]
            names = ("provider", "type", "address", "fetched", "sha256", "list")
            provider, type_, address, fetched, digest, body = (_string(kept[name]) for name in names)
            date.fromisoformat(fetched[:10])
        except (ValueError, KeyError, TypeError):
            raise Unreadable("it is damaged") from None
        if number != _FORMAT:
            raise Unreadable("another version of Tertulia wrote it")
        if type_ not in DIALECTS or sha256(body.encode()).hexdigest() != digest:
            raise Unreadable("it is damaged")
        return cls.taken(provider, (type_, address), fetched, body.encode())

    def record(self) -> bytes:
        """The file; `Catalogue.of` gives the list back."""
        told = {"provider": self.provider, "type": self.type, "address": self.address, "fetched": self.fetched}
        whole = {"format": _FORMAT, **told, "sha256": self.sha256, "list": self.body}
        return orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @property
    def sha256(self) -> str:
        return sha256(self.body.encode()).hexdigest()

    @property
    def day(self) -> str:
        return self.fetched[:10]

    @property
    def source(self) -> str:
        """What stands beside a price that it tells."""
        return f"{self.provider}'s list of {self.day} (sha256 {self.sha256[:8]})"


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def file_of(at: At) -> str:
    """The name of the file with the list of a provider; the type alone where it is at its usual address."""
    type_, address = at
    away = "" if address == DIALECTS[type_].home.base_url else "-" + sha256(address.encode()).hexdigest()[:8]
    return f"{type_}{away}.json"


def kept(disk: Disk, state: Path | None, wanted: Iterable[At], tell: Callable[[str], None]) -> dict[At, Catalogue]:
    """The lists of these providers, as far as there are any; `tell` is told of each that cannot be used."""
    found: dict[At, Catalogue] = {}
    if state is None:
        return found
    for at in dict.fromkeys(wanted):
        path = state / FOLDER / file_of(at)
        if not disk.exists(path):
            continue
        try:
            one = Catalogue.of(disk.read(path))
        except Unreadable as why:
            tell(f"{path} is not used: {why}; to replace it: tertulia models {at[0]} --fetch")
            continue
        except OSError as error:
            tell(f"{path} cannot be read: {error.strerror}")
            continue
        if (one.type, one.address) == at:
            found[at] = one
    return found


def changes(before: Catalogue, after: Catalogue) -> Iterator[tuple[str, Price | None, Price | None]]:
    """The models whose price is another in the later list, each with both; None where it has none."""
    for name in sorted({*before.models, *after.models}):
        old, new = (one.models[name].price if name in one.models else None for one in (before, after))
        if old != new:
            yield name, old, new


# --- the package -----------------------------------------------------------------------------------------------------


class PriceList(Protocol):
    """Prices of well-known providers."""

    def price(self, type_: str, model: str) -> Price | None:
        """What a model of a provider of this type charges at its usual address; None when that is not known."""
        ...

    def models(self, type_: str) -> Sequence[Listed]:
        """The models whose prices it knows."""
        ...


THEIR_NAMES: Final[Mapping[str, str]] = {
    name: dialect.home.prices for name, dialect in DIALECTS.items() if dialect.home.prices is not None
}
"""What the package calls the providers of our types, where those are at their usual address."""

_TOKENS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input_mtok", "input_text_mtok"),
    "output": ("output_mtok", "output_text_mtok", "output_reasoning_mtok"),
    "cache_read": ("cache_read_mtok", "cache_text_read_mtok"),
    "cache_write": (
        *("cache_write_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok"),
        *("cache_text_write_mtok", "cache_text_write_5m_mtok", "cache_text_write_1h_mtok"),
    ),
}
"""Under which names it has the prices of a million tokens; where there are several, the dearest counts."""
_CACHE: Final = ("cache_read", "cache_write")
_NAMES: Final = tuple(name for names in _TOKENS.values() for name in names)
_THOUSAND_REQUESTS: Final = "requests_kcount"


class GenaiPrices:
    """The package genai-prices, as the prices were or will be on a day and the next, whatever the hour."""

    def __init__(self, today: date) -> None:
        self._days = (today, today + timedelta(days=1))

    def price(self, type_: str, model: str) -> Price | None:
        provider = self._provider(type_)
        # Its own search goes on at other providers, who charge something else.
        found = None if provider is None else provider.find_model(model)
        return None if found is None else self._price(found, model)

    def models(self, type_: str) -> Sequence[Listed]:
        provider = self._provider(type_)
        # By their names, as a job would ask for them: another entry may stand for one of these, too.
        rows = [] if provider is None else [(one, self.price(type_, one.id)) for one in provider.models]
        return [Listed(one.id, one.context_window, price=price) for one, price in rows if price is not None]

    def _provider(self, type_: str) -> Any:
        theirs = THEIR_NAMES.get(type_)
        if theirs is None:
            return None
        # Only what came with the package: nothing here starts what could fetch newer prices.
        snapshot = import_module(f"{_PACKAGE}.data_snapshot").get_snapshot()
        return next((one for one in snapshot.providers if one.id == theirs), None)

    def _price(self, model: Any, asked: str) -> Price | None:
        alias = "" if model.id == asked else f", as {model.id}"
        source = f"genai-prices {version('genai-prices')}{alias}"
        try:
            return _dearest(self._possible(model.prices), source)
        except MoneyError:
            return None

    def _possible(self, prices: Any) -> list[Any]:
        """The prices that can hold on these days; of those for some hours of a day, each."""
        if not isinstance(prices, list):
            return [prices]
        found: list[Any] = []
        for day in self._days:
            for one in reversed(prices):
                start = getattr(one.constraint, "start_date", None)
                if start is None or start <= day:
                    found.append(one.prices)
                if one.constraint is None or (start is not None and start <= day):
                    break  # a later entry wins, and this one holds at every hour
        return found or [one.prices for one in prices[:1]]


def package(today: date) -> PriceList | None:
    """The package, where it is installed. It is not imported before it is asked for a price."""
    return None if find_spec(_PACKAGE) is None else GenaiPrices(today)


def _dearest(possible: Sequence[Any], source: str) -> Price | None:
    """The dearest of some prices, figure by figure and tier by tier; None where input or output have none.

    What is free there is not taken for free here: nobody promises that it stays so.
    """
    told = [vars(prices) for prices in possible]
    starts = sorted({tier.start for one in told for name in _NAMES for tier in getattr(one.get(name), "tiers", ())})

    def rates(above: int) -> dict[str, Any]:
        each = [{ours: _most(one, names, above) for ours, names in _TOKENS.items()} for one in told]
        found: dict[str, Any] = {}
        for ours in _TOKENS:
            known = [figure for one in each if (figure := one[ours]) is not None]
            # Where some have no price for the cache, it costs what other input costs there.
            missing = [one for one in each if one[ours] is None] if ours in _CACHE else []
            known += [figure for one in missing if known and (figure := one["input"]) is not None]
            found[ours] = max(known, default=None)
        return found

    base = rates(-1)
    if not base["input"] or not base["output"]:
        return None
    fee = max((_most(one, (_THOUSAND_REQUESTS,), -1) or Decimal(0) for one in told), default=Decimal(0)) / 1000
    return Price(**base, request=fee, tiers=tuple(Tier(above, **rates(above)) for above in starts), source=source)


def _most(told: Mapping[str, Any], names: Sequence[str], above: int) -> Decimal | None:
    """The highest of the figures under these names in a request with more input tokens than that."""
    figures = (figure for name in names if (figure := told.get(name)) is not None)
    return max((parse_price(_at(figure, above)) for figure in figures), default=None)


def _at(figure: Any, above: int) -> Any:
    """A price, or that of the last tier that begins there or before; a tier holds for the whole of a request."""
    reached = [tier.price for tier in getattr(figure, "tiers", ()) if tier.start <= above]
    return reached[-1] if reached else getattr(figure, "base", figure)


# --- all together ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a price may come from that the job does not give, the nearest first."""

    frozen: Mapping[str, Price] = field(default_factory=dict)
    """By alias, what this run has reckoned with so far: a later list changes nothing for it."""
    lists: Mapping[At, Catalogue] = field(default_factory=dict)
    package: PriceList | None = None


NOWHERE: Final = Sources()
