"""The `xkd` command. Each sub-command imports its room when it runs, so that `--help` and light machines stay fast."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from xkd_ros import __version__
from xkd_ros.cli import bench, learning, robot
from xkd_ros.core.errors import XkdError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Name every lidar point: simulate, inspect and label recordings, learn from them, measure.",
    epilog="Start with `xkd demo`, or `xkd inspect BAG` for a recording of your own; `xkd learn BAG -o models/site` learns from it.",
)
app.add_typer(robot.app)
app.add_typer(learning.app)
app.add_typer(bench.bench, name="bench")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit code 1."""
    try:
        app()
    except XkdError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
