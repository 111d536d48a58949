"""`init`, `demo`, `completion` and `sim`: to begin with, without a key and without spending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.door import answered, say

if TYPE_CHECKING:
    from runner.money import Price
    from runner.sim.config import SimConfig

_SHELLS: Final = ("bash", "zsh", "fish")
_FIRST_JOB: Final = "first-talk.yaml"
_DEMO_JOB: Final = "demo.yaml"
_DEMO_KEY: Final = "main"
_SCHEMA: Final = "tertulia.schema.json"
_PORT: Final = 8484


def _starter(name: str) -> str:
    """A file that comes with the package."""
    from importlib.resources import files

    return (files("runner.cli") / "starter" / name).read_text(encoding="utf-8")


def _put(path: Path, text: str) -> bool:
    """Write a file that is not there yet; False when it is, and stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


# --- init --------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@answered
def init(folder: Path) -> int:
    """Write a first job that runs as it is, prompts, and what an editor and git want to know. Overwrites nothing."""
    from runner.cli.ahead import schema_text

    texts = {
        _FIRST_JOB: _starter(_FIRST_JOB),
        "prompts/memory.md": _starter("prompts/memory.md"),
        ".env.example": _starter("env.example"),
        ".gitignore": _starter("gitignore"),
        _SCHEMA: schema_text(),
    }
    kept: list[str] = []
    for name, text in texts.items():
        try:
            is_new = _put(folder / name, text)
        except OSError as error:
            say(f"{folder / name} cannot be written: {error.strerror}")
            return 8
        click.echo(f"{'wrote' if is_new else 'kept '}  {_shown(folder / name)}")
        if not is_new:
            kept.append(name)
    if ".gitignore" in kept and (open_ := _unguarded(folder / ".gitignore")):
        say(f"warning: {folder / '.gitignore'} does not name {' and '.join(open_)}: add it, or they may be committed")
    click.echo("\nnext:")
    if folder != Path("."):
        import shlex

        click.echo(f"  cd {_shown(shlex.quote(str(folder)))}")
    click.echo(f"  tertulia check {_FIRST_JOB}    # every mistake, before anything is sent")
    click.echo(f"  tertulia plan {_FIRST_JOB}     # conversations, calls, money, minutes")
    click.echo(f"  tertulia run {_FIRST_JOB}      # on the built-in provider: no key, made-up money")
    return 0


def _unguarded(path: Path) -> list[str]:
    """What a .gitignore that was there before should name and does not."""
    try:
        named = {line.strip().strip("/") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()}
    except OSError:
        return []
    return [name for name in (".env", "outputs/") if not named & {name.strip("/"), f"{name.strip('/')}/*"}]


def _shown(name: object) -> str:
    from runner.foreign import visible

    return visible(str(name), keep_newlines=False)


# --- demo --------------------------------------------------------------------------------------------------------


@click.command()
@click.option(
    "--outputs",
    "outputs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tertulia-demo"),
    show_default=True,
    help="The folder for the demo's job and its run.",
)
@answered
def demo(outputs: Path) -> int:
    """Hold a dozen conversations on the built-in provider: no key, no network, made-up money."""
    from runner.cli.hold import hold, load_all
    from runner.outputs import INDEX
    from runner.plan import slug
    from runner.selection import Options

    path = outputs / _DEMO_JOB
    try:
        is_new = _put(path, _starter(_DEMO_JOB))
    except OSError as error:
        say(f"{path} cannot be written: {error.strerror}")
        return 8
    if is_new:
        say(f"wrote {path}: five made-up models, one slow, one busy at first, one whose first answer is blank")
    (source,) = load_all([path])
    code = hold([source], Options(key=_DEMO_KEY), outputs)
    folder = outputs / slug(source.job.name) / _DEMO_KEY
    if (folder / INDEX).exists():
        for line in _where_to_look(folder, path):
            click.echo(_shown(line))
    if code == 0 and not is_new:
        say(f"to see it happen again, delete {folder}")
    return code


def _where_to_look(folder: Path, job: Path) -> Iterator[str]:
    """What the demo came to, and the files that show it."""
    from runner.money import shown
    from runner.outputs import INDEX, read
    from runner.render.figures import counted, of_them_early
    from runner.world import RealDisk

    reading = read(folder, RealDisk())
    done, early = reading.counts()["complete"], of_them_early(reading.stopped_early())
    tallies = reading.state.tallies.values()
    calls = sum(tally.calls for tally in tallies)
    failures: dict[str, int] = {}
    for kind, number in (item for tally in tallies for item in tally.failures.items()):
        failures[kind] = failures.get(kind, 0) + number
    cells, spent = counted(len(reading.plan.cells), "conversation"), shown(reading.state.run.held)
    yield f"{done} of {cells} complete{early}, {counted(calls, 'call')} in all, {spent} of made-up money"
    if failures:
        troubles = ", ".join(f"{number:,} {kind}" for kind, number in sorted(failures.items()))
        yield f"answers that were none, and were asked for again: {troubles}"
    yield f"  the run on one page  {folder / INDEX}"
    written = next(reading.written(), None)
    if written is not None:
        yield f"  a conversation       {folder / reading.file(written)}"
    yield f"  the job, to copy     {job}"


# --- completion --------------------------------------------------------------------------------------------------


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@answered
def completion(shell: str) -> int:
    """Print the script that completes commands and options in a shell.

    \b
    bash:  eval "$(tertulia completion bash)"       in ~/.bashrc
    zsh:   eval "$(tertulia completion zsh)"        in ~/.zshrc
    fish:  tertulia completion fish | source        in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from runner.cli import tertulia

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(tertulia, {}, "tertulia", "_TERTULIA_COMPLETE").source())
    return 0


# --- sim ---------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="0 takes a free one.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Models, limits and faults, as under `sim:` in a job; YAML or JSON.",
)
@click.option("--seed", type=click.IntRange(min=0), help="In place of the configuration's.")
@click.option("--open-to-network", is_flag=True, help="Allow an address that other machines reach.")
@answered
def sim(host: str, port: int, config: Path | None, seed: int | None, open_to_network: bool) -> int:
    """Serve the built-in provider on this machine until Ctrl-C, for trying things out."""
    from dataclasses import replace

    import anyio

    from runner.sim.config import SimConfig

    if not open_to_network and not _is_loopback(host):
        raise click.BadParameter(
            f"{host} can be reached from other machines, and anybody may use this server; "
            "take 127.0.0.1, or add --open-to-network",
            param_hint="--host",
        )
    chosen = SimConfig() if config is None else _sim_config(config)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    try:
        return anyio.run(_serve, chosen, host, port)
    except OSError as error:
        raise click.UsageError(f"cannot listen at {host}:{port}: {error.strerror}; --port 0 takes a free one") from None


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sim_config(path: Path) -> SimConfig:
    """The configuration in a file; JobError with every mistake and its place."""
    from runner.job import Files, JobError, Problem
    from runner.job.files import Misread
    from runner.job.source import MOST_BYTES, Unreadable, parse
    from runner.sim.config import load_config

    try:
        source, problems = parse(str(path), Files().read(path, MOST_BYTES))
    except Misread as error:
        raise JobError([Problem(str(path), 0, 0, f"the configuration cannot be read: {error}")]) from None
    except Unreadable as error:
        raise JobError([error.problem]) from None
    loaded = load_config({} if source.tree is None else source.tree)
    problems += [source.problem(where, message) for where, message in loaded.problems]
    if problems:
        raise JobError(problems)
    return loaded.config


async def _serve(config: SimConfig, host: str, port: int) -> int:
    import signal

    import anyio

    from runner.render.figures import counted, usd
    from runner.sim.engine import Engine
    from runner.sim.server import serve

    engine = Engine(config)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serve(engine, host, port) as base_url:
            for line in _served(config, base_url):
                click.echo(_shown(line))
            async for _ in signals:
                break
    answered = sum(account.requests for account in engine.bill.models.values())
    refused = sum(engine.bill.refused.values())
    billed = usd(engine.bill.cost)
    say(f"closed: {counted(answered, 'request')} answered, {refused:,} refused, {billed} of made-up money billed")
    return 0


def _served(config: SimConfig, base_url: str) -> Iterator[str]:
    """What a user of the server needs to know."""
    yield f"listening at {base_url}"
    yield f"keys: {'any, or none' if not config.keys else 'only those of the configuration'}"
    yield "models, with made-up dollars per million tokens:"
    width = max(map(len, config.models))
    for name, model in config.models.items():
        yield f"  {name:<{width}}  {_priced(model.price)}"
    if config.other is not None:
        yield f"  {'(any)':<{width}}  {_priced(config.other.price)}"
    yield "in a job:"
    type_ = "openai" if config.speaks == "plain" else config.speaks
    yield f'  providers: {{local: {{type: {type_}, base_url: "{base_url}"}}}}'
    name, model = next(iter(config.models.items()))
    yield f"  models: {{{name}: {{use: local/{name}, price: {_priced(model.price)}}}}}"
    root = base_url.removesuffix("/v1")
    yield "what it was asked, and what it has billed:"
    yield f"  GET {root}/sim/requests   GET {root}/sim/bill   POST {root}/sim/reset forgets it"
    yield "Ctrl-C ends it"


def _priced(price: Price) -> str:
    figures: dict[str, Any] = {"input": price.input, "output": price.output, "cache_read": price.cache_read}
    figures |= {"cache_write": price.cache_write, "request": price.request or None}
    return f"{{{', '.join(f'{name}: {figure}' for name, figure in figures.items() if figure is not None)}}}"
