"""`aiflow serve`: the edge server."""

from __future__ import annotations

import json
import os
import signal
from typing import Annotated

import typer

EXAMPLES = "aiflow serve --pair small --listen 0.0.0.0:7411      then, on the device:  aiflow run --server HOST:7411"


def serve(
    pair: Annotated[str, typer.Option("--pair", "-p", help="A pair of the registry (`aiflow pairs list`).")] = "small",
    target: Annotated[
        str | None, typer.Option("--target", help="Another target: a checkpoint's folder or a hub id.")
    ] = None,
    draft: Annotated[
        str | None, typer.Option("--draft", help="Another draft, for co-located: a checkpoint's folder or a hub id.")
    ] = None,
    with_draft: Annotated[
        bool, typer.Option("--with-draft", help="Load the draft model too, for co-located speculation.")
    ] = False,
    listen: Annotated[
        str, typer.Option("--listen", help="Where to listen: HOST:PORT; port 0 is any free one.")
    ] = "127.0.0.1:7411",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto (several GPUs).")] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="float32, bfloat16 or float16. [default: float32 on a CPU, the pair's own on a GPU]"
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", help="int8 or int4 weights (needs `pip install 'aiflow-cli[quantize]'`)."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Torch threads.")] = 1,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Serve the target model to devices, until interrupted. Prints one JSON line when it listens."""
    import torch

    from aiflow_cli.cli.output import say
    from aiflow_cli.link.address import bound_address, parse_address
    from aiflow_cli.link.address import listen as open_listener
    from aiflow_cli.models.pair import check_pair, find_pair
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.node.process import die_with_parent, parent_is_gone
    from aiflow_cli.node.server import Server
    from aiflow_cli.trials.served import describe_here

    die_with_parent(parent)
    torch.set_num_threads(threads)
    listener = open_listener(parse_address(listen))
    spec = find_pair(pair, draft, target)
    kind = dtype or spec.dtype_on(device)
    target_folder, draft_folder = spec.folder("target"), spec.folder("draft") if with_draft else None
    target_model = VisionLanguageModel.from_folder(target_folder, device, kind, quantize)
    draft_model = VisionLanguageModel.from_folder(draft_folder, device, kind, quantize) if draft_folder else None
    if draft_model is not None:
        check_pair(draft_model, target_model)
    served = describe_here(target_folder, draft_folder, device, kind, quantize, threads)
    server = Server(listener, target_model, served, draft_model)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: stopped.append(got))
    ready = {"listening": str(bound_address(listener)), "target": target_model.name, "pid": os.getpid()}
    say(json.dumps(ready))
    try:
        server.serve(lambda: bool(stopped) or parent_is_gone(parent))
    finally:
        server.close()
