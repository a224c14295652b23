"""`aiflow run`: an experiment of some methods over one pair and one link, given as options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiflow_cli.cli import options, pairs
from aiflow_cli.cli.experiments import conduct

WARMUPS = 2
EXAMPLES = """\
aiflow run                                       the small pair, 16 scenes, server-only and gamma 4, 1 MB/s
aiflow run -m speculative -g 4 -g 8 --rate 500KB/s --delay 10ms --images 32 --data ../photos
aiflow run -m co-located -m on-device            the other two baselines
aiflow run --server 192.0.2.7:7411 --rate unlimited   over a real network, to `aiflow serve` there
"""
_OUTPUT = "Folder of the result; a run of the same options goes on there. (default: results/STAMP-run)"
_DRY_RUN = "Only say what the pair takes and whether it fits here; nothing is loaded."


def run(
    method: options.Methods = None,
    gamma: options.Gammas = None,
    pair: options.Pair = "small",
    draft: options.Draft = None,
    target: options.Target = None,
    data: options.Data = "scenes",
    images: options.ImagesOrAll = None,
    prompt: options.Prompt = None,
    rate: options.Rate = "1MB/s",
    uplink: options.Uplink = None,
    downlink: options.Downlink = None,
    burst: options.Burst = "10KB",
    delay: options.Delay = "0",
    seed: options.Seed = 0,
    repeats: options.Repeats = 1,
    device: options.Device = "cpu",
    server_device: options.ServerDevice = None,
    dtype: options.Dtype = None,
    quantize: options.Quantize = None,
    exact: options.Exact = False,
    max_new_tokens: options.MaxNewTokens = None,
    threads: options.ThreadsOfBoth = 1,
    server: options.Server = None,
    output: Annotated[Path | None, options.path_option(_OUTPUT)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_DRY_RUN)] = False,
    json_: options.Json = False,
) -> None:
    """Caption images by every method, live over a shaped link, and compare with server-only.

    Rates and delay are of the application's bytes. Outputs are checked against server-only, token for token; a
    difference that rounding cannot explain fails the run. After an interruption the same command with -o goes on.
    """
    from aiflow_cli.trials import experiment, specfile

    checkpoints = _given(draft=draft, target=target)
    both = None if uplink and downlink else rate
    spec = specfile.spec_of_options(
        {
            "name": "run",
            "about": "methods over one pair and one link",
            "pairs": [pair],
            "checkpoints": {pair: checkpoints} if checkpoints else {},
            **_given(methods=_once(method), gammas=_once(gamma)),
            "link": _given(rate=both, uplink=uplink, downlink=downlink, burst=burst, delay=delay),
            **{"data": data, "images": images, "seed": seed, "repeats": repeats, "warmups": WARMUPS, "prompt": prompt},
            **{"device": device, "server_device": server_device, "dtype": dtype, "quantize": quantize, "exact": exact},
            **{"max_new_tokens": max_new_tokens, "threads": threads, "server": server},
        }
    )
    if dry_run:
        pairs.show(pair, draft, target, json_=json_)
        return
    opened = experiment.open_experiment(spec, output, stamped=True)
    again = "the same command" if output else f"the same command with -o {opened.folder}"
    conduct(opened, again, json_, captions=True)


def _once(values: list[Any] | None) -> list[Any] | None:
    return list(dict.fromkeys(values)) if values else None


def _given(**values: Any) -> dict[str, Any]:
    """Those options that were given: the others are for the specification to fill in."""
    return {name: value for name, value in values.items() if value is not None}
