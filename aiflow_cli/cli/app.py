"""`aiflow`: its commands. A command's module imports only typer at its top, so `aiflow --help` is instant."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from importlib.util import find_spec
from typing import Annotated, NamedTuple

import typer

import aiflow_cli
from aiflow_cli.cli.errors import DEBUG_VARIABLE, exit_code_of, handled
from aiflow_cli.cli.output import say
from aiflow_cli.cli.streams import close_streams, open_streams

app = typer.Typer(
    name="aiflow",
    help="Device-edge speculative decoding of vision-language models over a shaped link, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Command(NamedTuple):
    """A command, the module of `aiflow_cli.cli` it is in, and its function there."""

    name: str
    module: str
    function: str


COMMANDS = (
    _Command("run", "run", "run"),
    _Command("sweep", "sweep", "sweep"),
    _Command("plot", "plot", "plot"),
    _Command("report", "report", "report"),
    _Command("results", "results", "results"),
    _Command("compare", "compare", "compare"),
    _Command("replay", "replay", "replay"),
    _Command("bench", "bench", "bench"),
    _Command("serve", "serve", "serve"),
    _Command("link", "link", "link"),
    _Command("download", "download", "download"),
    _Command("pull", "pull", "pull"),
    _Command("doctor", "doctor", "doctor"),
)
GROUPS = (_Command("pairs", "pairs", "app"),)
"""Commands with commands of their own: a typer app."""


_CHATTY = ("torchao", "torch.utils._pytree")
"""Loggers that warn, when torchao is installed, of kernels that it has not for this machine."""


def _version(wanted: bool) -> None:
    if wanted:
        say(f"aiflow {aiflow_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (also AIFLOW_DEBUG=1).")
    ] = False,
) -> None:
    pass  # both options act before this: the version in its callback, --debug in main()


def _examples(module: object) -> str | None:
    return getattr(module, "EXAMPLES", None)


def _register() -> None:
    for command in COMMANDS:
        if find_spec(f"aiflow_cli.cli.{command.module}"):
            module = importlib.import_module(f"aiflow_cli.cli.{command.module}")
            function = getattr(module, command.function)
            app.command(command.name, epilog=_examples(module))(handled(function))
    for group in GROUPS:
        if find_spec(f"aiflow_cli.cli.{group.module}"):
            module = importlib.import_module(f"aiflow_cli.cli.{group.module}")
            _handle_all(getattr(module, group.function))
            app.add_typer(getattr(module, group.function), name=group.name)


def _handle_all(group: typer.Typer) -> None:
    for command in group.registered_commands:
        if command.callback is not None:
            command.callback = handled(command.callback)


_register()


def main() -> None:
    """Entry point of the program. `--debug` counts wherever it stands."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[DEBUG_VARIABLE] = "1"
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.ERROR)
    open_streams()
    code: int | str | None = 0
    try:
        code = exit_code_of(app)
    except SystemExit as end:  # how a command line ends, also after --help and wrong use
        code = end.code
    sys.exit(exit_code_of(close_streams) or code)
