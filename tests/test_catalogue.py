"""Where prices come from: the job, what a run has reckoned with, a provider's list, a package, or a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import genai_prices
import orjson
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from runner.catalogue import (
    FOLDER,
    NOWHERE,
    THEIR_NAMES,
    At,
    Catalogue,
    GenaiPrices,
    Sources,
    Unreadable,
    changes,
    file_of,
    kept,
    package,
)
from runner.events import Opened
from runner.money import NANOS_PER_DOLLAR, Price, Tier, ceiling, cost
from runner.night import Place, Source, night
from runner.outputs import read
from runner.plan import Plan, make_plan
from runner.preflight import CannotBegin, frozen, price_for, prices
from runner.providers.base import Listed
from runner.selection import Options
from runner.state import State
from runner.verify import verify
from runner.world import HttpRequest, HttpResponse, World
from tests.memory import MemoryDisk
from tests.nights import ROOT, START, job_of, text_of
from tests.virtual import ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

HOME: Final[At] = ("openrouter", "https://openrouter.ai/api/v1")
DAY: Final = "2026-11-20T18:03:11Z"
STATE: Final = Path("/state/tertulia")
TODAY: Final = date(2026, 11, 21)
GLM: Final = {"prompt": "0.000001", "completion": "0.0000032", "input_cache_read": "0.0000002", "request": "0"}


def row(name: str, pricing: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A model as OpenRouter lists it."""
    top = {"context_length": 200_000, "max_completion_tokens": 65_536, "is_moderated": False}
    return {"id": name, "context_length": 200_000, "top_provider": top, "pricing": pricing, **more}


def listing(*rows: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"data": rows})


LIST: Final = listing(
    row("z-ai/glm-5", GLM, expiration_date="2027-01-31"),
    row(
        "acme/long",
        {**GLM, "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000002", "completion": "0.0000064"}]},
    ),
    row("acme/gift:free", {"prompt": "0", "completion": "0"}),
    row("openrouter/auto", {"prompt": "-1", "completion": "-1"}),
)


def taken(body: bytes = LIST, fetched: str = DAY, at: At = HOME) -> Catalogue:
    return Catalogue.taken("openrouter", at, fetched, body)


# --- a list ----------------------------------------------------------------------------------------------------------


def test_a_list_tells_prices_windows_and_ends_and_says_that_it_does() -> None:
    """Each price carries the list's day and the beginning of its hash; what has no fixed price has none."""
    found = taken()
    assert found.source == f"openrouter's list of 2026-11-20 (sha256 {found.sha256[:8]})"
    price = Price(Decimal(1), Decimal("3.2"), Decimal("0.2"))
    assert found.models["z-ai/glm-5"] == Listed("z-ai/glm-5", 200_000, 65_536, price, "2027-01-31")
    assert {row.price.source for row in found.models.values() if row.price} == {found.source}
    long = found.models["acme/long"].price
    assert long is not None
    assert long.tiers == (Tier(200_000, Decimal(2), Decimal("6.4"), Decimal("0.2")),)
    assert found.models["acme/gift:free"].price == Price(Decimal(0), Decimal(0))
    assert found.models["openrouter/auto"].price is None


def test_a_long_list_is_hashed_as_often_as_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time for a list would grow with the square of its length."""
    hashed: list[int] = []

    def counting(data: bytes) -> Any:
        hashed.append(len(data))
        return sha256(data)

    monkeypatch.setattr("runner.catalogue.sha256", counting)
    for rows in (1, 50):
        list_ = Catalogue.taken("openrouter", HOME, DAY, listing(*(row(f"m{number}", GLM) for number in range(rows))))
        assert Catalogue.of(list_.record()) == list_
    assert len(hashed) == 2 * len([size for size in hashed if size > 2_000])


def test_a_list_that_was_kept_comes_back_as_it_was() -> None:
    """With its moment, its hash, its letters and all that they mean."""
    found = taken()
    again = Catalogue.of(found.record())
    assert (again, again.models, again.sha256) == (found, found.models, found.sha256)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":[]}', b"<html>", b'{"data":[{"id":"m\xff"}]}', b"[" * 99_999])
def test_what_is_no_list_is_not_taken_for_one(body: bytes) -> None:
    """A page of a proxy, or an empty answer, does not take the place of the list that is there."""
    with pytest.raises(Unreadable):
        taken(body)


def without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in orjson.loads(taken().record()).items() if key != name})


def changed(**to: Any) -> bytes:
    return orjson.dumps({**orjson.loads(taken().record()), **to})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged"),
        (b"[]", "damaged"),
        (b"7", "damaged"),
        *[(without(name), "damaged") for name in ("provider", "type", "address", "fetched", "sha256", "list")],
        (taken().record().replace(b"0.0000032", b"0.0000031"), "damaged"),
        (changed(type="nobody"), "damaged"),
        (changed(fetched="yesterday"), "damaged"),
        *[(changed(**{name: []}), "damaged") for name in ("provider", "type", "address", "fetched", "sha256", "list")],
        (changed(format=2), "another version"),
    ],
)
def test_a_damaged_file_is_told_and_ignored(data: bytes, why: str) -> None:
    """No price of it is used, and the line says how to replace it."""
    disk, told = MemoryDisk(), list[str]()
    disk.put(STATE / FOLDER / "openrouter.json", data)
    assert kept(disk, STATE, [HOME], told.append) == {}
    [line] = told
    assert why in line and line.endswith("tertulia models openrouter --fetch")


@given(st.binary(max_size=200) | st.integers(0, 2_000).map(lambda end: taken().record()[:end]))
def test_no_bytes_in_the_place_of_a_list_raise_anything_else(data: bytes) -> None:
    """Torn or made up, a file is a list or it is unreadable."""
    if data == taken().record():
        return
    with pytest.raises(Unreadable):
        Catalogue.of(data)


def test_a_list_holds_for_the_address_that_it_came_from_and_no_other() -> None:
    """Whoever else answers in the same format has other prices, and a list of his own."""
    elsewhere = ("openrouter", "https://router.example/api/v1")
    assert file_of(HOME) == "openrouter.json"
    assert file_of(elsewhere) not in ("openrouter.json", file_of(("openrouter", "https://router.example/api/v2")))
    disk = MemoryDisk()
    disk.put(STATE / FOLDER / file_of(HOME), taken().record())
    assert kept(disk, STATE, [HOME, elsewhere], pytest.fail) == {HOME: taken()}
    # A file that somebody has renamed is still that of the other address.
    disk.put(STATE / FOLDER / file_of(elsewhere), taken().record())
    assert kept(disk, STATE, [HOME, elsewhere], pytest.fail) == {HOME: taken()}
    assert kept(disk, None, [HOME], pytest.fail) == {}


def test_a_list_names_the_prices_that_are_others_than_before() -> None:
    """Also those of models that came, went, or lost their price; what stayed is not named."""
    dearer = row("z-ai/glm-5", {**GLM, "completion": "0.000004"})
    later = taken(listing(dearer, row("acme/long", None), row("acme/new", GLM), row("acme/gift:free", None)))
    glm, new = Price(Decimal(1), Decimal("3.2"), Decimal("0.2")), Price(Decimal(1), Decimal(4), Decimal("0.2"))
    found = {name: (old, now) for name, old, now in changes(taken(), later)}
    assert sorted(found) == ["acme/gift:free", "acme/long", "acme/new", "z-ai/glm-5"]
    assert (found["z-ai/glm-5"], found["acme/new"]) == ((glm, new), (None, glm))
    assert found["acme/long"][1] is None
    assert list(changes(later, later)) == []


# --- the order -------------------------------------------------------------------------------------------------------


class Known:
    """A package that knows one price."""

    def price(self, type_: str, model: str) -> Price | None:
        return Price(Decimal(5), Decimal(6), source="package") if model != "acme/unheard-of" else None

    def models(self, type_: str) -> Sequence[Listed]:
        return ()


GIVEN: Final = {"input": 7, "output": 8}


def plan_of(model: str, provider: Mapping[str, Any] | None = None, *, price: Mapping[str, Any] | None = None) -> Plan:
    """A job with one model."""
    entry: dict[str, Any] = {"use": model, **({} if price is None else {"price": price})}
    name = model.partition("/")[0]
    job = {
        "name": "job",
        "budget": 5,
        "providers": {name: dict(provider or {})},
        "models": {"m": entry},
        "prompts": {"p": {"opening": "Hello?", "rounds": 1}},
        "pairings": [{"a": "m", "b": "m"}],
    }
    return make_plan(job_of(text_of(job)), "2026-11-21")


FAR: Final = {"type": "openai", "base_url": "https://far.example/v1"}
FROZEN: Final = {"m": Price(Decimal(3), Decimal(4), source="frozen")}
LISTS: Final = {HOME: taken()}


@pytest.mark.parametrize(
    ("plan", "sources", "price", "source"),
    [
        (plan_of("openrouter/z-ai/glm-5", price=GIVEN), Sources(FROZEN, LISTS, Known()), 7, "the job file"),
        (plan_of("openrouter/z-ai/glm-5"), Sources(FROZEN, LISTS, Known()), 3, "frozen"),
        (plan_of("openrouter/z-ai/glm-5"), Sources({}, LISTS, Known()), 1, taken().source),
        (plan_of("openrouter/z-ai/glm-6"), Sources({}, LISTS, Known()), 5, "package"),
        (plan_of("openrouter/openrouter/auto"), Sources({}, LISTS, None), None, ""),
        (plan_of("openrouter/z-ai/glm-5"), Sources({}, {}, Known()), 5, "package"),
        (plan_of("openrouter/acme/unheard-of"), Sources({}, LISTS, Known()), None, ""),
        (plan_of("openrouter/z-ai/glm-5"), NOWHERE, None, ""),
        (plan_of("anthropic/claude-opus-4-6"), Sources({}, LISTS, Known()), 5, "package"),
        (plan_of("ollama/qwen3:32b"), Sources({}, LISTS, Known()), 0, "free of charge"),
        (plan_of("ollama/qwen3:32b", price=GIVEN), Sources({}, LISTS, Known()), 7, "the job file"),
        (
            plan_of("far/z-ai/glm-5", FAR | {"type": "openrouter", "base_url": HOME[1]}),
            Sources({}, LISTS, Known()),
            1,
            taken().source,
        ),
        (plan_of("far/m", FAR), Sources({}, LISTS, Known()), None, ""),
        (plan_of("far/m", FAR | {"base_url": "https://api.openai.com/v1"}), Sources({}, {}, Known()), 5, "package"),
        (
            plan_of("sim/m", {"sim": {"models": {"m": {"price": {"input": 9, "output": 9}}}}}),
            Sources(FROZEN, LISTS, Known()),
            9,
            "the built-in provider",
        ),
    ],
)
def test_the_nearest_source_that_has_a_price_gives_it_and_is_named(
    plan: Plan, sources: Sources, price: int | None, source: str
) -> None:
    """The job, then what the run has reckoned with, then the provider's list, then the package; and then nobody."""
    model = plan.models["m"]
    found = price_for(model, plan.providers[model.provider], sources)
    assert (None if found is None else found.input) == price
    assert ("" if found is None else found.source) == source
    if found is None:
        with pytest.raises(CannotBegin):
            prices(plan, sources)
    else:
        assert prices(plan, sources)["m"].source == Price.of(found.record()).source == source


def refusal(plan: Plan, sources: Sources = NOWHERE) -> list[str]:
    with pytest.raises(CannotBegin) as trouble:
        prices(plan, sources)
    assert trouble.value.code == 6
    return list(trouble.value.lines)


def test_a_refusal_names_the_line_to_add_and_what_else_would_help() -> None:
    """The provider's own list, where it tells prices; the package, where it is missing and knows the provider."""
    assert refusal(plan_of("openrouter/z-ai/glm-6")) == [
        "the price of these models is not known; give it in the job file, in dollars per million tokens:",
        "  models: {m: {use: openrouter/z-ai/glm-6, price: {input: ..., output: ...}}}",
        "or have it looked up:",
        "  tertulia models openrouter --fetch   # its own list, kept from then on",
        "  pip install 'tertulia[prices]'   # the prices of the package genai-prices",
    ]
    listed = refusal(plan_of("openrouter/z-ai/glm-6"), Sources({}, LISTS))
    assert listed[1].endswith(f"output: ...}}}}}}  # does not stand in {taken().source}")
    unfixed = refusal(plan_of("openrouter/openrouter/auto"), Sources({}, LISTS))
    assert unfixed[1].endswith(f"  # has no fixed price in {taken().source}")
    with_it = refusal(plan_of("openrouter/acme/unheard-of"), Sources({}, {}, Known()))
    assert with_it[2:] == [
        "or have it looked up:",
        "  tertulia models openrouter --fetch   # its own list, kept from then on",
    ]
    assert "pip" in refusal(plan_of("groq/acme/unheard-of"))[-1]
    assert len(refusal(plan_of("groq/acme/unheard-of"), Sources({}, {}, Known()))) == 2
    far = {"type": "openrouter", "base_url": "https://router.example/v1"}
    assert refusal(plan_of("far/m", far))[2:] == [
        "or have it looked up:",
        "  tertulia models far --fetch --job JOB   # its own list, kept from then on",
    ]


# --- the package -----------------------------------------------------------------------------------------------------


def test_every_provider_that_we_ask_it_for_is_there() -> None:
    """Our table names its providers as it does, and each has models with prices."""
    found = package(TODAY)
    assert found is not None
    assert {name for name in THEIR_NAMES if not found.models(name)} == set()
    assert found.price("anthropic", "claude-haiku-4-5") == Price(
        Decimal(1), Decimal(5), Decimal("0.1"), Decimal(2), source=""
    )
    source = f"genai-prices {genai_prices.__version__}"
    for name, said in (("claude-haiku-4-5", source), ("claude-haiku-4-5-20251001", f"{source}, as claude-haiku-4-5")):
        price = found.price("anthropic", name)
        assert price is not None and price.source == said


@pytest.mark.parametrize(
    ("type_", "model"),
    [
        ("anthropic", "claude-unheard-of"),
        ("vllm", "gpt-4.1"),
        ("ollama", "qwen3:32b"),
        ("openrouter", "z-ai/glm-5:nitro"),
        ("openrouter", "openai/gpt-oss-20b:free"),
        ("openai", "claude-haiku-4-5"),
        ("openai", "text-embedding-3-small"),
        ("groq", "whisper-large-v3"),
    ],
)
def test_what_it_does_not_know_costs_not_nothing_but_an_unknown_price(type_: str, model: str) -> None:
    """Also what it has as free, by the hour or by the letter, and what another provider has under that name."""
    assert GenaiPrices(TODAY).price(type_, model) is None


ALL: Final = [
    (type_, theirs, listed.id) for type_, theirs in THEIR_NAMES.items() for listed in GenaiPrices(TODAY).models(type_)
]


@given(
    st.sampled_from(ALL),
    st.integers(1, 1_500_000),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 47),
)
def test_no_call_costs_more_than_by_the_prices_that_were_taken(
    model: tuple[str, str, str], input_: int, output: int, read: float, write: float, hour: int
) -> None:
    """Against the package's own arithmetic, on the day and the next, at every hour and for every length of a prompt."""
    type_, theirs, name = model
    price = GenaiPrices(TODAY).price(type_, name)
    assert price is not None
    cached = int(input_ * read)
    fresh = int((input_ - cached) * write) if price.cache_write is not None else 0
    cached = cached if price.cache_read is not None else 0
    usage = genai_prices.Usage(
        input_tokens=input_, output_tokens=output, cache_read_tokens=cached, cache_write_tokens=fresh
    )
    at = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) + timedelta(hours=hour)
    theirs_say = genai_prices.calc_price(usage, name, provider_id=theirs, genai_request_timestamp=at).total_price
    assert cost(price, input_, output, cached, fresh) >= theirs_say * NANOS_PER_DOLLAR
    assert ceiling(price, input_, output) >= theirs_say * NANOS_PER_DOLLAR


def mtok(**figures: Any) -> SimpleNamespace:
    return SimpleNamespace(**{f"{name}_mtok": figure for name, figure in figures.items()})


def tiered(base: str, *tiers: tuple[int, str]) -> SimpleNamespace:
    return SimpleNamespace(
        base=Decimal(base), tiers=[SimpleNamespace(start=start, price=Decimal(price)) for start, price in tiers]
    )


def when(prices: Any, start: str | None = None, hours: tuple[int, int] | None = None) -> SimpleNamespace:
    constraint = None
    if start is not None:
        constraint = SimpleNamespace(start_date=date.fromisoformat(start))
    if hours is not None:
        constraint = SimpleNamespace(start_time=time(hours[0]), end_time=time(hours[1]))
    return SimpleNamespace(prices=prices, constraint=constraint)


ONE, TWO, THREE = Decimal(1), Decimal(2), Decimal(3)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (mtok(input=ONE, output=TWO), Price(ONE, TWO)),
        (mtok(input=ONE, output=TWO, output_reasoning=THREE), Price(ONE, THREE)),
        (
            mtok(input=ONE, output=TWO, cache_read=ONE, cache_write=TWO, cache_write_1h=THREE),
            Price(ONE, TWO, ONE, THREE),
        ),
        (
            SimpleNamespace(input_mtok=ONE, output_mtok=TWO, requests_kcount=Decimal(5)),
            Price(ONE, TWO, request=Decimal("0.005")),
        ),
        (
            mtok(input=tiered("1", (1000, "2")), output=tiered("2", (1000, "1"), (5000, "3")), cache_read=ONE),
            Price(ONE, TWO, ONE, tiers=(Tier(1000, TWO, ONE, ONE), Tier(5000, TWO, THREE, ONE))),
        ),
        # A price for some hours holds or does not, so the dearer figure of the two counts, each for itself.
        ([when(mtok(input=ONE, output=THREE)), when(mtok(input=TWO, output=TWO), hours=(1, 5))], Price(TWO, THREE)),
        (
            [when(mtok(input=TWO, output=TWO)), when(mtok(input=ONE, output=ONE, cache_read=ONE), hours=(1, 5))],
            Price(TWO, TWO, TWO),
        ),
        # One that begins tomorrow may be met by a night that begins today.
        ([when(mtok(input=ONE, output=ONE)), when(mtok(input=TWO, output=TWO), "2026-11-22")], Price(TWO, TWO)),
        ([when(mtok(input=TWO, output=TWO)), when(mtok(input=ONE, output=ONE), "2026-11-22")], Price(TWO, TWO)),
        ([when(mtok(input=ONE, output=ONE)), when(mtok(input=TWO, output=TWO), "2026-11-23")], Price(ONE, ONE)),
        ([when(mtok(input=TWO, output=TWO)), when(mtok(input=ONE, output=ONE), "2026-11-21")], Price(ONE, ONE)),
        ([when(mtok(input=ONE, output=ONE), "2027-01-01")], Price(ONE, ONE)),
        (mtok(input=ONE), None),
        (mtok(output=ONE), None),
        (mtok(input=Decimal(0), output=Decimal(0)), None),
        (mtok(input=Decimal(-1), output=ONE), None),
        (mtok(input=ONE, output=Decimal(10**6)), None),
        (mtok(), None),
        ([], None),
    ],
)
def test_its_prices_become_ours_at_their_dearest(
    monkeypatch: pytest.MonkeyPatch, theirs: Any, ours: Price | None
) -> None:
    """Tiers begin where theirs do and hold for the whole request; nothing that is free there is free here."""
    model = SimpleNamespace(id="m", prices=theirs, context_window=4096)
    provider = SimpleNamespace(id="groq", models=[model], find_model=lambda name: model if name == "m" else None)
    module = ModuleType("genai_prices.data_snapshot")
    monkeypatch.setattr(module, "get_snapshot", lambda: SimpleNamespace(providers=[provider]), raising=False)
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", module)
    found = GenaiPrices(TODAY)
    assert found.price("groq", "m") == ours
    assert [row.price for row in found.models("groq")] == ([] if ours is None else [ours])
    assert found.price("groq", "n") is None and found.price("mistral", "m") is None


def test_the_package_is_imported_when_a_price_is_missing_elsewhere_and_not_before() -> None:
    """A job with prices does not wait for it; and what came with it is used, nothing newer."""
    code = """
import sys
from datetime import date
from runner.catalogue import package
found = package(date(2026, 11, 21))
print("genai_prices" in sys.modules)
print(found.price("vllm", "m"), "genai_prices" in sys.modules)
"""
    command = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\nNone False\n", "")
    assert not get_snapshot().from_auto_update


# --- nights ----------------------------------------------------------------------------------------------------------


class Said:
    """An answer that was written beforehand."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


@dataclass
class Script:
    """A wire to an OpenRouter that answers each request with the next of these figures."""

    figures: Iterator[tuple[int, int, float | None]]
    urls: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        self.urls.append(request.url)
        prompt, completion, paid = next(self.figures)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        chunk = {
            "id": f"gen-{len(self.urls)}",
            "choices": [{"index": 0, "delta": {"content": "What survives. " * 160}, "finish_reason": "stop"}],
            "usage": usage if paid is None else {**usage, "cost": paid},
        }
        yield Said(b"data: " + orjson.dumps(chunk) + b"\n\ndata: [DONE]\n\n")


TALK: Final[Mapping[str, Any]] = {
    "name": "talk",
    "budget": 5,
    "models": {"glm": {"use": "openrouter/z-ai/glm-5"}},
    "prompts": {"p": {"roles": {"asker": {"script": ["What survives of a conversation? " * 16] * 7}, "glm": {}}}},
    "pairings": [{"glm": "glm"}],
}


@dataclass
class Evenings:
    """A disk on which one job is held again and again, while the list of prices changes."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    told: list[str] = field(default_factory=list)
    wall: float = START

    def keep(self, body: bytes, fetched: str = DAY) -> Catalogue:
        found = taken(body, fetched)
        self.disk.put(STATE / FOLDER / "openrouter.json", found.record())
        return found

    def hold(
        self,
        job: Mapping[str, Any] = TALK,
        figures: Iterator[tuple[int, int, float | None]] | None = None,
        options: Options = Options(),  # noqa: B008
    ) -> int:
        """One life; its exit code."""
        source = Source(job_of(text_of(job)), "talk.yaml", {"OPENROUTER_API_KEY": "sk-or-v1-0000000000000000"})
        wire = Script(figures or iter([(500, 600, None)] * 99))
        self.disk = self.disk.survivor()

        async def live() -> int:
            world = World(VirtualClock(self.wall), self.disk, wire, Random(1), ScriptedSignals([]), ScriptedPrograms())
            return await night(world, [source], options, Place(ROOT, '{"pid": 1}', {}, STATE), tell=self.told.append)

        self.wall += 3600.0
        try:
            return run_virtual(live)
        except CannotBegin as cannot:
            self.told += cannot.lines
            return cannot.code

    def opened(self, key: str = "main") -> list[Opened]:
        return [event for _, event in read(ROOT / "talk" / key, self.disk).state.opened]

    def prices(self, key: str = "main") -> list[dict[str, tuple[str, str]]]:
        """By life, what each model cost and who said so."""
        return [
            {alias: (price["output"], price.get("source", "")) for alias, price in event.prices.items()}
            for event in self.opened(key)
        ]


DEARER: Final = listing(row("z-ai/glm-5", {**GLM, "completion": "0.000064"}), row("acme/new", GLM))


def with_more(**models: Any) -> dict[str, Any]:
    """The job, with conversations of more models."""
    more = {**TALK["models"], **models}
    return {**TALK, "models": more, "pairings": [{"glm": list(more)}]}


@pytest.mark.fault(62)
def test_a_run_keeps_the_prices_of_its_list_whatever_list_comes_later() -> None:
    """Until it is complete, even without any list; a model that is new to it is priced by the list of today."""
    evenings = Evenings()
    first = evenings.keep(LIST)
    assert evenings.hold() == 0
    before = evenings.prices()
    assert before == [{"glm": ("3.2", first.source)}]
    later = evenings.keep(DEARER, "2026-11-21T09:00:00Z")
    assert evenings.hold(with_more(new={"use": "openrouter/acme/new"})) == 0
    assert evenings.prices() == [*before, {**before[0], "new": ("3.2", later.source)}]
    evenings.disk.put(STATE / FOLDER / "openrouter.json", b"torn")
    again = {"use": "openrouter/z-ai/glm-5", "max_tokens": 1000}
    assert evenings.hold(with_more(new={"use": "openrouter/acme/new"}, again={**again, "price": GIVEN})) == 0
    assert evenings.prices()[2] == {**evenings.prices()[1], "again": ("8", "the job file")}
    assert any("openrouter.json is not used: it is damaged" in line for line in evenings.told)
    assert verify(ROOT / "talk" / "main", evenings.disk).problems == ()


@pytest.mark.fault(62)
def test_a_new_run_takes_the_prices_of_today_and_so_does_a_model_that_became_another() -> None:
    """What is frozen is the price of a model at an address, for one run; what the job says is never frozen."""
    evenings = Evenings()
    evenings.keep(LIST)
    assert evenings.hold() == 0
    later = evenings.keep(DEARER, "2026-11-21T09:00:00Z")
    assert evenings.hold(options=Options(new=True)) == 0
    assert evenings.prices("main.2") == [{"glm": ("64", later.source)}]
    other = {**TALK, "models": {"glm": {"use": "openrouter/acme/new"}}}
    assert evenings.hold(other, options=Options(accept_changes=True)) == 0
    assert evenings.prices()[1] == {"glm": ("3.2", later.source)}
    given = {**TALK, "models": {"glm": {"use": "openrouter/acme/new", "price": GIVEN, "max_tokens": 900}}}
    assert evenings.hold(given, options=Options(accept_changes=True)) == 0
    assert evenings.prices()[2] == {"glm": ("8", "the job file")}
    ungiven = {**TALK, "models": {"glm": {"use": "openrouter/acme/new", "max_tokens": 800}}}
    assert evenings.hold(ungiven, options=Options(accept_changes=True)) == 0
    assert evenings.prices()[3] == {"glm": ("3.2", later.source)}


def test_a_night_whose_price_nobody_knows_sends_nothing_and_leaves_nothing() -> None:
    """Exit 6, with the line for the job."""
    evenings = Evenings()
    assert evenings.hold() == 6
    assert "  models: {glm: {use: openrouter/z-ai/glm-5, price: {input: ..., output: ...}}}" in evenings.told
    assert not any(path.name == "journal.jsonl" for path in evenings.disk.files)


def test_nothing_is_frozen_before_a_run_has_begun() -> None:
    """A plan that is held against nothing has no past."""
    assert frozen(plan_of("openrouter/z-ai/glm-5"), State()) == {}


ARCHIVE: Final = (
    (258, 1053, None, "0.0036"),
    (879, 1122, None, "0.0045"),
    (1447, 1217, None, "0.0053"),
    (2065, 1194, None, "0.0059"),
    (2681, 1104, None, "0.0062"),
    (3314, 1000, None, "0.0065"),
    (3815, 859, 0.0053, "0.0066"),
)


@pytest.mark.fault(52)
def test_the_night_of_the_archive_adds_up_and_its_last_round_is_flagged() -> None:
    """At a list's $1.00 and $3.20: six rounds as priced, and one whose provider says another cost, which counts."""
    evenings = Evenings()
    evenings.keep(LIST)
    assert evenings.hold(figures=iter([(row[0], row[1], row[2]) for row in ARCHIVE])) == 0
    disk, folder = evenings.disk, ROOT / "talk" / "main"
    [conversation] = [orjson.loads(line) for line in disk.read(folder / "conversations.jsonl").splitlines()]
    turns = [turn for turn in conversation["turns"] if not turn["given"]]
    assert [f"{turn['cost_computed']:.4f}" for turn in turns] == [row[3] for row in ARCHIVE]
    assert [turn["cost_source"] for turn in turns] == ["priced"] * 6 + ["reported"]
    assert [turn["cost_differs"] for turn in turns] == [None] * 6 + ["-19.3 %"]
    assert [(turn["cost"], turn["cost_reported"]) for turn in turns[-1:]] == [(0.0053, 0.0053)]
    transcripts = [disk.read(path).decode() for path in disk.files if path.suffix == ".md" and path.name != "index.md"]
    assert "**Cost differs:** $0.0053 reported, $0.0065638 by the price list (-19.3 %)." in transcripts[0]
    assert transcripts[0].count("Cost differs") == 1
