"""`aiflow serve`: the edge server."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from aiflow_cli.cli import options
from aiflow_cli.cli.errors import stopped_by_signals
from aiflow_cli.cli.output import say

EXAMPLES = "aiflow serve --pair small --listen 0.0.0.0:7411      then, on the device:  aiflow run --server HOST:7411"
_WITH_DRAFT = "Load the draft model too, for co-located speculation."


def serve(
    pair: options.Pair = "small",
    target: options.Target = None,
    draft: options.Draft = None,
    with_draft: Annotated[bool, typer.Option("--with-draft", help=_WITH_DRAFT)] = False,
    listen: options.Listen = "127.0.0.1:7411",
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    quantize: options.Quantize = None,
    threads: options.Threads = 1,
    parent: options.Parent = None,
) -> None:
    """Serve the target model to devices, until interrupted. Prints one JSON line when it listens."""
    import torch

    from aiflow_cli.link import address
    from aiflow_cli.models.pair import check_pair, find_pair
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.node.process import die_with_parent
    from aiflow_cli.node.server import Server
    from aiflow_cli.trials.served import describe_here

    die_with_parent(parent)
    torch.set_num_threads(threads)
    listener = address.listen(address.parse_address(listen))
    spec = find_pair(pair, draft, target)
    kind = dtype or spec.dtype_on(device)
    target_folder, draft_folder = spec.folder("target"), spec.folder("draft") if with_draft else None
    target_model = VisionLanguageModel.from_folder(target_folder, device, kind, quantize)
    draft_model = VisionLanguageModel.from_folder(draft_folder, device, kind, quantize) if draft_folder else None
    if draft_model is not None:
        check_pair(draft_model, target_model)
    served = describe_here(target_folder, draft_folder, device, kind, quantize, threads)
    serving = Server(listener, target_model, served, draft_model)
    stopped = stopped_by_signals()
    bound = str(address.bound_address(listener))
    say(json.dumps({"listening": bound, "target": target_model.name, "pid": os.getpid()}))
    try:
        serving.serve(stopped)
    finally:
        serving.close()
