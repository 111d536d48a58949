"""`models`: what models cost and who says so; with `--fetch` a provider's own list is asked for and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.catalogue import Catalogue, PriceList, Sources
    from runner.job import Provider
    from runner.money import Price, Tier
    from runner.plan import Plan
    from runner.preflight import CannotBegin
    from runner.providers.base import Listed
    from runner.state import State

_MOST_CHANGES: Final = 20
_LONGEST_NAME: Final = 100
"""What is longer is cut in a table; --json has all of it."""
_HEADS: Final = ("model", "window", "output", "in", "out", "cached", "caching", "until", "price from")


@click.command()
@click.argument("provider", required=False)
@click.argument("pattern", required=False)
@click.option("--job", type=click.Path(path_type=Path), metavar="JOB", help="Its models, or one of its providers.")
@click.option("--fetch", is_flag=True, help="Ask the provider for its list, keep it, and say which prices changed.")
@outputs_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
@answered
def models(
    provider: str | None, pattern: str | None, job: Path | None, fetch: bool, outputs: Path, as_json: bool
) -> int:
    """Show what models cost, in dollars per million tokens, and who says so.

    PROVIDER is one that is known without an entry, such as openrouter, or one of JOB. PATTERN picks models: 'z-ai/*'.
    With JOB alone, its models, each at the price that it would run at; with neither, the lists that are kept.
    Nothing is sent without --fetch, which asks for the list alone and costs nothing.
    """
    from runner.job import JobError
    from runner.preflight import EXIT_JOB, CannotBegin

    show = _Json() if as_json else _Text()
    try:
        code = _models(provider, pattern, job, fetch, outputs, show)
    except (CannotBegin, JobError) as error:
        show.end(error.code if isinstance(error, CannotBegin) else EXIT_JOB)
        raise
    show.end(code)
    return code


def _models(name: str | None, pattern: str | None, job: Path | None, fetch: bool, outputs: Path, show: _Text) -> int:

    environ: dict[str, str] = {}
    standing = None
    if job is not None:
        from runner.cli.ahead import stand
        from runner.cli.hold import load_all
        from runner.selection import Options

        (source,) = load_all([job])
        standing = stand(source, Options(), outputs)
        environ.update(source.environ)
        there: dict[str, Provider] = dict(standing.plan.providers)
    else:
        there = _well_known()
    if name is not None:
        there = {name: _one_of(there, name, job)}
    elif fetch and job is None:
        raise click.UsageError("--fetch needs a PROVIDER or --job JOB, whose lists it fetches.")
    if fetch:
        _fetch(there, environ if job is not None else _environment(there.values()), show, alone=name is not None)
        if name is not None and pattern is None:
            return 0
    if standing is not None and name is None:
        return _show_job(standing.plan, standing.state, standing.source.file, show)
    if name is None:
        return _show_kept(show)
    _show_provider(there[name], pattern, show)
    return 0


# --- which provider --------------------------------------------------------------------------------------------------


def _well_known() -> dict[str, Provider]:
    from runner.job import Provider
    from runner.job.endpoint import WELL_KNOWN

    return {
        name: Provider(name, name, home.base_url, home.api_key, free=home.free)
        for name, home in WELL_KNOWN.items()
        if home.base_url is not None
    }


def _one_of(there: dict[str, Provider], name: str, job: Path | None) -> Provider:
    from runner.preflight import BUILT_IN, EXIT_JOB, CannotBegin

    names = [known for known, one in there.items() if one.base_url != BUILT_IN]
    if name in names:
        return there[name]
    if name in there:
        raise CannotBegin(EXIT_JOB, f"{name} is the built-in provider; its models stand in the job, or: tertulia sim")
    where = "no provider without an entry" if job is None else f"no provider of {job}"
    more = "; for one with an entry: --job JOB" if job is None else ""
    raise CannotBegin(EXIT_JOB, f"{name} is {where}: {', '.join(names)}{more}")


def _environment(providers: Iterable[Provider]) -> dict[str, str]:
    """The keys of these providers, as far as they are set here."""
    import os

    from runner.job import environment
    from runner.job.environment import variables

    known = environment([name for one in providers for name in variables(one.api_key or "")], [Path.cwd()], os.environ)
    for warning in known.warnings:
        say(f"warning: {warning}")
    return dict(known.values)


# --- where prices come from ------------------------------------------------------------------------------------------


def own_state() -> Path | None:
    """Where this user's processes share limits and lists of prices; None for a user who has no home."""
    from runner.cli.probes import state_folder

    try:
        return state_folder()
    except RuntimeError:
        return None


def price_list() -> PriceList | None:
    """The package of prices as of today, where it is installed."""
    import time
    from datetime import UTC, datetime

    from runner.catalogue import package

    return package(datetime.fromtimestamp(time.time(), UTC).date())


def sources_of(plan: Plan, state: State | None = None) -> Sources:
    """Where the prices of a plan can come from here, for the run that has come to this state."""
    from runner.catalogue import Sources, kept
    from runner.preflight import at, frozen
    from runner.world import RealDisk

    lists = kept(RealDisk(), own_state(), map(at, plan.providers.values()), lambda line: say(f"warning: {line}"))
    return Sources({} if state is None else frozen(plan, state), lists, price_list())


def origins(known: Iterable[Price]) -> list[str]:
    """Who says what these cost, each once."""
    return list(dict.fromkeys(price.source for price in known))


# --- asking ----------------------------------------------------------------------------------------------------------


class _Fetched(NamedTuple):
    """A list that came, where it is kept, and the one it took the place of."""

    now: Catalogue
    path: Path
    before: Catalogue | None


def _fetch(providers: dict[str, Provider], environ: dict[str, str], show: _Text, alone: bool) -> None:
    """Ask these providers for their lists. CannotBegin with what failed, when those that came are kept."""
    import anyio

    from runner.preflight import BUILT_IN, EXIT_PREFLIGHT, CannotBegin

    troubles: list[str] = []
    for one in providers.values():
        if one.base_url == BUILT_IN:
            continue
        try:
            show.fetched(anyio.run(_ask, one, environ))
        except CannotBegin as cannot:
            troubles += cannot.lines
    if troubles:
        raise CannotBegin(EXIT_PREFLIGHT, *troubles, *([] if alone else ["  the other lists are kept"]))


async def _ask(provider: Provider, environ: dict[str, str]) -> _Fetched:
    """One provider's list, kept in the place of the one before."""
    import time
    from dataclasses import replace
    from datetime import UTC, datetime

    from runner.catalogue import FOLDER, Catalogue, Unreadable, file_of, kept
    from runner.foreign import masker
    from runner.job import MissingVariable, unsafe
    from runner.job.environment import variables
    from runner.preflight import EXIT_PREFLIGHT, CannotBegin, at, endpoint
    from runner.providers import DIALECTS
    from runner.transports.http import answer_to
    from runner.transports.wire import AiohttpWire
    from runner.world import RealDisk, WireError

    def cannot(why: str, *more: str) -> CannotBegin:
        return CannotBegin(EXIT_PREFLIGHT, f"{provider.name}: {why}", *more)

    state = own_state()
    if state is None:
        raise cannot("this user has no home in which its list could be kept; see XDG_STATE_HOME")
    if variables(provider.base_url):
        raise cannot("a list is kept for an address, and this one is only known from a variable; write it out")
    missing = None
    try:
        end = endpoint(provider, environ, None)
    except MissingVariable as error:
        # Some give their list to everybody.
        missing = error
        try:
            end = endpoint(replace(provider, api_key=None), environ, None)
        except MissingVariable:
            raise cannot(str(error)) from None
    danger = unsafe(end.base_url, keyed=bool(end.keys))
    if danger is not None:
        raise cannot(danger)
    dialect = DIALECTS[provider.type]
    questions = [one for one in dialect.inquiries(end, ()) if one.about == "models"]
    if not questions:
        raise cannot("it has no list of models that could be asked for")
    try:
        async with AiohttpWire() as wire:
            status, headers, body = await answer_to(wire, questions[0].request)
    except WireError as broke:
        raise cannot(f"no list from {end.base_url}: {broke.what}; nothing was changed") from None
    if status != 200:
        why = _refusal(end.secrets, status, headers.get("location"), body)
        raise cannot(why, *([f"  {missing}"] if missing else ()))
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = body.decode("utf-8", "replace")
    if masker(end.secrets)(text) != text:
        raise cannot("what came repeats the key, and was not kept")
    try:
        found = Catalogue.taken(provider.name, at(provider), now, body)
    except Unreadable as why:
        raise cannot(f"what came is no list of models: {why}; nothing was changed") from None
    disk = RealDisk()
    before = kept(disk, state, [at(provider)], lambda line: None).get(at(provider))
    path = state / FOLDER / file_of(at(provider))
    try:
        await disk.replace(path, found.record(), durable=True)
    except OSError as error:
        raise cannot(f"{path} cannot be written: {error.strerror}") from None
    return _Fetched(found, path, before)


def _refusal(secrets: Sequence[Any], status: int, location: str | None, body: bytes) -> str:
    from runner.foreign import masker, one_line

    said = body.decode("utf-8", "replace")
    if 300 <= status < 400 and location is not None:
        said = f"a redirect to {location}, and none is followed; is base_url right?"
    # Cut last of all: half a key would not be known for one.
    return f"HTTP {status} in the place of its list: {one_line(masker(secrets)(said), 200)}"


# --- what is known ---------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A model, and what is known of it."""

    name: str
    provider: str
    listed: Listed
    price: Price | None


def _show_job(plan: Plan, state: State, file: str, show: _Text) -> int:
    """The models of a job at the prices that they would run at. CannotBegin where one has none."""
    from runner.preflight import at, price_for, prices
    from runner.providers.base import Listed

    sources = sources_of(plan, state)
    rows: list[_Row] = []
    known: dict[str, dict[str, Listed]] = {}
    for alias, model in plan.models.items():
        provider = plan.providers[model.provider]
        own = sources.lists.get(at(provider))
        listed = None if own is None else own.models.get(model.id)
        if listed is None:
            if provider.name not in known:
                known[provider.name] = _by_id(sources, provider)
            listed = known[provider.name].get(model.id, Listed(model.id))
        listed = listed._replace(window=model.context or listed.window)
        rows.append(_Row(alias, provider.name, listed, price_for(model, provider, sources)))
    show.rows(rows, named=True)
    prices(plan, sources, file)
    return 0


def _by_id(sources: Sources, provider: Provider) -> dict[str, Listed]:
    """The models of a provider that the package knows, where they are those of this address."""
    from runner.preflight import usual

    if sources.package is None or not usual(provider):
        return {}
    return {row.id: row for row in sources.package.models(provider.type)}


def _show_provider(provider: Provider, pattern: str | None, show: _Text) -> None:
    """The models of a provider's list, else those that the package knows. CannotBegin when there are none."""
    from dataclasses import replace
    from fnmatch import fnmatchcase

    from runner.catalogue import EXTRA, THEIR_NAMES, kept
    from runner.money import FREE
    from runner.preflight import EXIT_JOB, EXIT_PREFLIGHT, FREE_OF_CHARGE, CannotBegin, at, usual
    from runner.world import RealDisk

    own = kept(RealDisk(), own_state(), [at(provider)], lambda line: say(f"warning: {line}")).get(at(provider))
    package = price_list() if usual(provider) else None
    if own is not None:
        found: Iterable[Listed] = own.models.values()
    else:
        found = () if package is None else package.models(provider.type)
    rows: list[_Row] = []
    for listed in found:
        price = replace(FREE, source=FREE_OF_CHARGE) if provider.free else listed.price
        if price is None and package is not None:
            price = package.price(provider.type, listed.id)
        rows.append(_Row(listed.id, provider.name, listed, price))
    if not rows:
        hints = [f"  tertulia models {provider.name} --fetch   # asks it"]
        if provider.type in THEIR_NAMES and package is None and usual(provider):
            hints.append(f"  pip install '{EXTRA}'   # the prices of the package genai-prices")
        raise CannotBegin(EXIT_PREFLIGHT, f"nothing is known here of the models of {provider.name}", *hints)
    if pattern is not None:
        rows = [row for row in rows if fnmatchcase(row.name, pattern) or pattern in row.name]
        if not rows:
            raise CannotBegin(EXIT_JOB, f"{provider.name}: no model is called {pattern}")
    show.rows(rows, named=False)


def _show_kept(show: _Text) -> int:
    """The lists that are kept here."""
    from runner.catalogue import FOLDER, Catalogue, Unreadable
    from runner.world import RealDisk

    disk, state = RealDisk(), own_state()
    folder = Path(FOLDER) if state is None else state / FOLDER
    found: list[tuple[Path, Catalogue]] = []
    for name in disk.listdir(folder) if state is not None else ():
        try:
            if name.endswith(".json"):
                found.append((folder / name, Catalogue.of(disk.read(folder / name))))
        except (Unreadable, OSError) as why:
            say(f"warning: {folder / name} is not used: {why}")
    show.kept(found)
    return 0


# --- telling ---------------------------------------------------------------------------------------------------------


class _Text:
    """For people: tables on stdout, what was done on stderr."""

    def end(self, code: int) -> None:
        """Nothing more follows."""

    def fetched(self, one: _Fetched) -> None:
        from runner.catalogue import changes
        from runner.foreign import one_line

        say(f"{_summary(one.now)}; kept in {one.path}")
        if one.before is None:
            return
        changed = list(changes(one.before, one.now))
        since = f"since {one.before.day}"
        say(f"  {len(changed):,} prices changed {since}:" if changed else f"  no price has changed {since}")
        for name, old, new in changed[:_MOST_CHANGES]:
            say(f"    {one_line(name, _LONGEST_NAME)}: {_brief(old)} -> {_brief(new)}")
        if len(changed) > _MOST_CHANGES:
            say(f"    ... and {len(changed) - _MOST_CHANGES:,} more; --json lists all")

    def rows(self, rows: Sequence[_Row], *, named: bool) -> None:
        table = [_HEADS, *(cells for row in rows for cells in _cells(row, named))]
        widths = [max(len(cells[n]) for cells in table) for n in range(len(_HEADS))]
        for cells in table:
            first, *numbers = cells[:-2]
            line = [first.ljust(widths[0]), *(x.rjust(width) for x, width in zip(numbers, widths[1:], strict=False))]
            click.echo("  ".join([*line, cells[-2].ljust(widths[-2]), cells[-1]]).rstrip())

    def kept(self, lists: Sequence[tuple[Path, Catalogue]]) -> None:
        from runner.foreign import visible

        for _, one in lists:
            click.echo(visible(f"{_summary(one)}; {one.address}"))
        if not lists:
            say("no list is kept here; to fetch one: tertulia models openrouter --fetch")


class _Json(_Text):
    """For programs: one object a line."""

    def end(self, code: int) -> None:
        _emit({"kind": "end", "exit": code})

    def fetched(self, one: _Fetched) -> None:
        from runner.catalogue import changes

        self.kept([(one.path, one.now)])
        for name, old, new in changes(one.before, one.now) if one.before is not None else ():
            told = {"provider": one.now.provider, "id": name, "before": _record(old), "after": _record(new)}
            _emit({"kind": "change", **told})

    def rows(self, rows: Sequence[_Row], *, named: bool) -> None:
        for row in rows:
            one = row.listed
            known = {"window": one.window, "max_output": one.max_output, "ends": one.ends, "price": _record(row.price)}
            alias = {"alias": row.name} if named else {}
            _emit({"kind": "model", "provider": row.provider, "id": one.id, **alias, **known})

    def kept(self, lists: Sequence[tuple[Path, Catalogue]]) -> None:
        for path, one in lists:
            told = {"provider": one.provider, "type": one.type, "address": one.address, "fetched": one.fetched}
            _emit({"kind": "list", **told, "sha256": one.sha256, "models": len(one.models), "file": str(path)})


def _emit(record: dict[str, Any]) -> None:
    import json

    # ASCII, because nothing in it can then act on a terminal.
    click.echo(json.dumps(record))


def _record(price: Price | None) -> dict[str, Any] | None:
    return None if price is None else price.record()


def _summary(one: Catalogue) -> str:
    from runner.render.figures import counted

    priced = sum(row.price is not None for row in one.models.values())
    when = one.fetched.replace("T", " ").removesuffix("Z")
    what = f"{counted(len(one.models), 'model')}, {priced:,} with prices"
    return f"{one.provider}: {what}, fetched {when} UTC (sha256 {one.sha256[:8]})"


def _cells(row: _Row, named: bool) -> Iterator[tuple[str, ...]]:
    """A line for a model, and one for each of its prices for long requests; strangers have chosen its names."""
    from runner.foreign import one_line

    one, price = row.listed, row.price
    name = one_line(f"{row.name} ({row.provider}/{one.id})" if named else one.id, _LONGEST_NAME)
    ends = one_line(one.ends or "", _LONGEST_NAME)
    sizes = [f"{size:,}" if size else "" for size in (one.window, one.max_output)]
    if price is None:
        yield (name, *sizes, "?", "?", "", "", ends, "not known")
        return
    fee = f"; ${_plain(price.request)} for each request" if price.request else ""
    yield (name, *sizes, *_figures(price), ends, one_line(price.source + fee))
    for tier in price.tiers:
        yield (f"  above {tier.above:,} in", "", "", *_figures(tier), "", "")


def _figures(rate: Price | Tier) -> list[str]:
    figures = (rate.input, rate.output, rate.cache_read, rate.cache_write)
    return ["" if figure is None else _plain(figure) for figure in figures]


def _plain(figure: Decimal) -> str:
    return f"{figure.normalize():f}"


def _brief(price: Price | None) -> str:
    if price is None:
        return "none"
    tiers = " and more for long requests" if price.tiers else ""
    return f"${_plain(price.input)} in, ${_plain(price.output)} out{tiers}"
