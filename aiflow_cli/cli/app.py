"""`aiflow`: its commands. A command's module imports nothing large at its top, so `aiflow --help` is instant."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import aiflow_cli
from aiflow_cli import environment
from aiflow_cli.cli import pairs
from aiflow_cli.cli.errors import close_streams, exit_code_of, open_streams, spell_out
from aiflow_cli.cli.output import say

COMMANDS = (
    *("run", "sweep", "plot", "report", "results", "compare"),
    *("bench", "serve", "link", "download", "pull", "doctor"),
)
"""Each is a function in a module of the same name, which has examples of it."""


class _Program(TyperGroup):
    """All commands: an error of any of them, also in reading its options, becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> None:
        spell_out()
        if code := exit_code_of(partial(super().invoke, ctx)):
            raise typer.Exit(code)


class _Command(TyperCommand):
    """A command. Variables of the environment that cannot be what they are set to end it before it begins."""

    def invoke(self, ctx: Any) -> None:
        if self.name != "doctor":  # which tells what is wrong with the environment
            environment.check()
        super().invoke(ctx)


app = typer.Typer(
    name="aiflow",
    cls=_Program,
    help="Device-edge speculative decoding of vision-language models over a shaped link, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name in COMMANDS:
    _module = importlib.import_module(f"aiflow_cli.cli.{_name}")
    _examples = "\n\n".join(("Examples:", *_module.EXAMPLES.splitlines()))  # else help shows them as one paragraph
    app.command(_name, cls=_Command, epilog=_examples)(getattr(_module, _name))
for _info in pairs.app.registered_commands:
    _info.cls = _Command
app.add_typer(pairs.app, name="pairs")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"aiflow {aiflow_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback (also AIFLOW_DEBUG=1).")] = False,
) -> None:
    pass  # both options act before this: the version in its callback, --debug in main()


def main() -> None:
    """Entry point of the program. `--debug` counts wherever it stands."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[environment.DEBUG.name] = "1"
    for chatty in ("torchao", "torch.utils._pytree"):  # they warn of kernels that torchao has not for this machine
        logging.getLogger(chatty).setLevel(logging.ERROR)
    open_streams()
    code: int | str | None = 0
    try:
        code = exit_code_of(app)
    except SystemExit as end:  # how a command line ends, also after --help and wrong use
        code = end.code
    sys.exit(exit_code_of(close_streams) or code)
