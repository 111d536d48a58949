"""The commands: the only room that sees arguments, environment, terminal and wall clock.

One file for each group of commands. What a command needs is imported when it runs, because `tertulia --help` must not
wait for it. `main` is the one door through which every ending becomes an exit code.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from runner import __version__

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("runner.cli.begin", "init"),
    "demo": ("runner.cli.begin", "demo"),
    "check": ("runner.cli.ahead", "check"),
    "plan": ("runner.cli.ahead", "plan"),
    "models": ("runner.cli.models", "models"),
    "run": ("runner.cli.hold", "run"),
    "status": ("runner.cli.look", "status"),
    "show": ("runner.cli.look", "show"),
    "report": ("runner.cli.keep", "report"),
    "verify": ("runner.cli.keep", "verify"),
    "repair": ("runner.cli.keep", "repair"),
    "import": ("runner.cli.bring", "import_"),
    "compare": ("runner.cli.compare", "compare"),
    "export": ("runner.cli.export", "export"),
    "extend": ("runner.cli.branch", "extend"),
    "fork": ("runner.cli.branch", "fork"),
    "redo": ("runner.cli.branch", "redo"),
    "observe": ("runner.cli.branch", "observe"),
    "stop": ("runner.cli.hold", "stop"),
    "spend": ("runner.cli.spend", "spend"),
    "settle": ("runner.cli.settle", "settle"),
    "prune": ("runner.cli.prune", "prune"),
    "doctor": ("runner.cli.doctor", "doctor"),
    "schema": ("runner.cli.ahead", "schema"),
    "completion": ("runner.cli.begin", "completion"),
    "sim": ("runner.cli.begin", "sim"),
}
"""Each command, in the order of the help, with the module and the name where it is."""


class Commands(click.Group):
    """A group whose commands are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command = getattr(import_module(found[0]), found[1])
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else " See: tertulia --help"
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tertulia %(version)s")
def tertulia() -> None:
    """Hold conversations between language models, many at once, under rate limits and a hard budget."""


def main() -> int:
    """Run the command line; the exit code, whatever happens."""
    try:
        code = tertulia.main(prog_name="tertulia", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        if "--json" in sys.argv[1:]:  # a command line that could not be parsed, so that no command has answered
            from runner.cli.door import emit_end

            emit_end(2, [error.format_message()])
        return 2
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0
