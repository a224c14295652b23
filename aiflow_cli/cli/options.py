"""Options and arguments that several commands have, and those of `aiflow run`: each is declared once, with its help.

They are types for the parameters of a command, which gives the default. Paths are read as users write them (`~`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiflow_cli.paths import user_path

_ANOTHER = "Another {}: a folder or a hub id OWNER/NAME."
_PAIR = "A pair of the registry (`aiflow pairs list`)."
RESULT = "The folder of a result, or its name in results/."


def read_path(value: object) -> Any:
    """The path of an option or its default; raises UsageError for what can be none."""
    return user_path(str(value))


def path_option(help_: str, *names: str) -> Any:
    """`--output`, or an option of those names, whose help says what lands there and where that is by default."""
    return typer.Option(*(names or ("--output", "-o")), help=help_, parser=read_path, metavar="<path>")


Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Draft = Annotated[str | None, typer.Option("--draft", help=_ANOTHER.format("draft"))]
Target = Annotated[str | None, typer.Option("--target", help=_ANOTHER.format("target"))]
Pair = Annotated[str, typer.Option("--pair", "-p", help=_PAIR)]
PairArgument = Annotated[str, typer.Argument(metavar="PAIR", help=_PAIR)]
Result = Annotated[str, typer.Argument(metavar="RESULT", help=RESULT)]
Results = Annotated[list[str], typer.Argument(metavar="RESULT...", help=RESULT)]

Data = Annotated[str, typer.Option("--data", help="scenes, vehicles-openimage, a folder, or a local data set.")]
Images = Annotated[int, typer.Option("--images", "-n", help="A seeded sample of N.")]
_OR_ALL = "A seeded sample of N. (default: 16 scenes, all of other data)"
ImagesOrAll = Annotated[int | None, typer.Option("--images", "-n", help=_OR_ALL)]
Seed = Annotated[int, typer.Option("--seed", help="Of the sample of images and the order of trials.")]
MaxNewTokens = Annotated[int | None, typer.Option("--max-new-tokens", help="Longest answer. (default: the pair's own)")]

Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto (several GPUs).")]
_DTYPE = "float32, bfloat16 or float16. (default: float32 on a CPU, the pair's own on a GPU)"
Dtype = Annotated[str | None, typer.Option("--dtype", help=_DTYPE)]
_QUANTIZE = r"int8 or int4 weights (needs `pip install 'aiflow-cli\[quantize]'`)."
Quantize = Annotated[str | None, typer.Option("--quantize", help=_QUANTIZE)]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Torch threads.")]
Scenes = Annotated[int, typer.Option("--scenes", min=1, help="Held-out scenes to caption.")]

Rate = Annotated[str, typer.Option("--rate", help="Both directions: 1MB/s, 500KB/s, 8Mbit/s or unlimited.")]
Uplink = Annotated[str | None, typer.Option("--uplink", help="From device or client to server. (default: --rate)")]
Downlink = Annotated[str | None, typer.Option("--downlink", help="From server to device or client. (default: --rate)")]
Burst = Annotated[str, typer.Option("--burst", help="What the token bucket holds, full at the start.")]
Delay = Annotated[str, typer.Option("--delay", help="One way.")]
Listen = Annotated[str, typer.Option("--listen", help="Where to listen: HOST:PORT; port 0 is any free one.")]
Parent = Annotated[int | None, typer.Option("--parent", hidden=True)]
"""The process that started this one and whose end is this one's, too."""

_METHODS = "server-only (always run), speculative, co-located, on-device; may be repeated."
Methods = Annotated[list[str] | None, typer.Option("--method", "-m", help=_METHODS)]
_GAMMAS = "Draft length, 1 to 64; may be repeated. (default: 4)"
Gammas = Annotated[list[int] | None, typer.Option("--gamma", "-g", help=_GAMMAS)]
Prompt = Annotated[str | None, typer.Option("--prompt", help="The question. (default: the pair's own)")]
Repeats = Annotated[int, typer.Option("--repeats", help="Times that every image is run.")]
_EXACT = "Decide near-ties again as server-only does: outputs are identical, at a cost."
Exact = Annotated[bool, typer.Option("--exact", help=_EXACT)]
ThreadsOfBoth = Annotated[int, typer.Option("--threads", help="Torch threads of device and of server.")]
_SERVER_DEVICE = "Where the target runs, if not where the draft does."
ServerDevice = Annotated[str | None, typer.Option("--server-device", help=_SERVER_DEVICE)]
_SERVER = "A running `aiflow serve`: HOST:PORT; its own options say how the target runs. (default: one is started here)"
Server = Annotated[str | None, typer.Option("--server", help=_SERVER)]
