"""`aiflow`: its commands. A command's module imports only typer at its top, so `aiflow --help` is instant."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Annotated

import typer

import aiflow_cli
from aiflow_cli.cli.errors import exit_code_of, handled
from aiflow_cli.cli.output import say
from aiflow_cli.cli.streams import close_streams, open_streams
from aiflow_cli.environment import DEBUG

app = typer.Typer(
    name="aiflow",
    help="Device-edge speculative decoding of vision-language models over a shaped link, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    *("run", "sweep", "plot", "report", "results", "compare"),
    *("bench", "serve", "link", "download", "pull", "doctor"),
)
"""Each is a function in a module of the same name."""
GROUPS = ("pairs",)
"""Commands with commands of their own: a typer app in a module of that name."""
_DIAGNOSES = "doctor"
"""The command that tells what is wrong with the environment, where others would refuse it."""
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


def _register() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"aiflow_cli.cli.{name}")
        command = handled(getattr(module, name), checked=name != _DIAGNOSES)
        app.command(name, epilog=getattr(module, "EXAMPLES", None))(command)
    for name in GROUPS:
        group: typer.Typer = importlib.import_module(f"aiflow_cli.cli.{name}").app
        for info in group.registered_commands:
            info.callback = handled(info.callback) if info.callback else None
        app.add_typer(group, name=name)


_register()


def main() -> None:
    """Entry point of the program. `--debug` counts wherever it stands."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[DEBUG.name] = "1"
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.ERROR)
    open_streams()
    code: int | str | None = 0
    try:
        code = exit_code_of(app)
    except SystemExit as end:  # how a command line ends, also after --help and wrong use
        code = end.code
    sys.exit(exit_code_of(close_streams) or code)
