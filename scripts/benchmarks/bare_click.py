"""A click program with as many commands as ours and nothing behind them, as the baseline of `start`."""

from __future__ import annotations

import click

_COMMANDS = 26


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("1.0")
def program() -> None:
    """Do one of many things."""


def add(number: int) -> None:
    @program.command(f"command-{number}", help=f"Do thing number {number}, and then say so.")
    @click.argument("names", nargs=-1)
    @click.option("--outputs", default="outputs", show_default=True, help="The folder with all things.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def command(names: tuple[str, ...], outputs: str, as_json: bool) -> None:
        click.echo(f"{number} {names} {outputs} {as_json}")


for one in range(_COMMANDS):
    add(one)

if __name__ == "__main__":
    program()
