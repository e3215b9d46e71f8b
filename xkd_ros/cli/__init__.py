"""The `xkd` command. Each sub-command imports its room when it runs, so that `--help` and light machines stay fast."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, NoReturn

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

_INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit code 1."""
    try:
        app()
    except XkdError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        # A robot's installation has neither torch nor rosbags; a missing module of our own is a bug and keeps its traceback.
        if (error.name or __name__).startswith("xkd_ros"):
            raise
        _fail(f"this command needs the package '{error.name}', which is not installed here; `pip install 'xkd_ros[all]'` brings everything")
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # typer's own answer to Ctrl-C
            _interrupted()
        raise


def _interrupted() -> NoReturn:
    Console(stderr=True).print("interrupted; what can go on goes on where it stopped when the same command is given again")
    sys.exit(_INTERRUPTED)


def _fail(sentence: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    sys.exit(1)
