"""`aiflow run`: an experiment whose specification is given as options: some methods over one pair and one link, live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

WARMUPS = 2
EXAMPLES = """Examples:

  aiflow run                                       the small pair, 16 scenes, server-only and gamma 4, 1 MB/s

  aiflow run -m speculative -g 4 -g 8 --rate 500KB/s --delay 10ms --images 32 --data ../photos

  aiflow run -m co-located -m on-device            the other two baselines

  aiflow run --server 192.0.2.7:7411 --rate unlimited   over a real network, to `aiflow serve` there
"""


def run(
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help="server-only (always run), speculative, co-located, on-device; may be repeated."
        ),
    ] = None,
    gamma: Annotated[
        list[int] | None, typer.Option("--gamma", "-g", help="Draft length, 1 to 64; may be repeated. [default: 4]")
    ] = None,
    pair: Annotated[str, typer.Option("--pair", "-p", help="A pair of the registry (`aiflow pairs list`).")] = "small",
    draft: Annotated[str | None, typer.Option("--draft", help="Another draft: a folder or a hub id.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Another target: a folder or a hub id.")] = None,
    data: Annotated[
        str, typer.Option("--data", help="scenes, vehicles-openimage, a folder, or a local data set.")
    ] = "scenes",
    images: Annotated[
        int | None, typer.Option("--images", "-n", help="A seeded sample of N. [default: 16 scenes, all of other data]")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The question. [default: the pair's own]")] = None,
    rate: Annotated[
        str, typer.Option("--rate", help="Both directions: 1MB/s, 500KB/s, 8Mbit/s or unlimited.")
    ] = "1MB/s",
    uplink: Annotated[str | None, typer.Option("--uplink", help="Device to server. [default: --rate]")] = None,
    downlink: Annotated[str | None, typer.Option("--downlink", help="Server to device. [default: --rate]")] = None,
    burst: Annotated[str, typer.Option("--burst", help="What the token bucket holds, full at the start.")] = "10KB",
    delay: Annotated[str, typer.Option("--delay", help="One way.")] = "0",
    seed: Annotated[int, typer.Option("--seed", help="Of the sample of images and the order of trials.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", help="Times that every image is run.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto (several GPUs).")] = "cpu",
    server_device: Annotated[
        str | None, typer.Option("--server-device", help="Where the target runs. [default: where the draft does]")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="float32, bfloat16 or float16. [default: float32 on a CPU, the pair's own on a GPU]"
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", help="int8 or int4 weights, draft and target (pip install 'aiflow-cli[quantize]')."),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Decide near-ties again as server-only does: outputs are identical, at a cost."),
    ] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="Longest answer. [default: the pair's own]")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="Torch threads of device and of server.")] = 1,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            help="A running `aiflow serve`: HOST:PORT; its options say how the target runs. [default: one is started here]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the result; what it has of this run is kept. [default: results/STAMP-run]"
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what the pair takes and whether it fits here; nothing is loaded."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Caption images by every method, live over a shaped link, and compare with server-only.

    Rates and delay are of the application's bytes. Outputs are checked against server-only, token for token; a
    difference that rounding cannot explain fails the run. After an interruption the same command with -o goes on.
    """
    from aiflow_cli.trials.specfile import spec_of_options

    spec = spec_of_options(
        {
            "name": "run",
            "about": "methods over one pair and one link",
            "pairs": [pair],
            "checkpoints": {pair: _given(draft=draft, target=target)}
            if draft is not None or target is not None
            else {},
            **_given(methods=_once(method), gammas=_once(gamma)),
            "link": _given(rate=None if uplink and downlink else rate, uplink=uplink, downlink=downlink)
            | {"burst": burst, "delay": delay},
            **{"data": data, "images": images, "seed": seed, "repeats": repeats, "warmups": WARMUPS, "prompt": prompt},
            **{"device": device, "server_device": server_device, "dtype": dtype, "quantize": quantize, "exact": exact},
            **{"max_new_tokens": max_new_tokens, "threads": threads, "server": server},
        }
    )
    if dry_run:
        _show_plan(pair, draft, target, json_)
        return
    from aiflow_cli.cli.experiments import conduct
    from aiflow_cli.trials.experiment import open_experiment

    opened = open_experiment(spec, output, stamped=True)
    again = "the same command" if output else f"the same command with -o {opened.folder}"
    conduct(opened, again, json_, captions=True)


def _once(values: list[Any] | None) -> list[Any] | None:
    return list(dict.fromkeys(values)) if values else None


def _given(**values: Any) -> dict[str, Any]:
    """Those options that were given: the others are for the specification to fill in."""
    return {name: value for name, value in values.items() if value is not None}


def _show_plan(pair: str, draft: str | None, target: str | None, json_: bool) -> None:
    """What `aiflow pairs show` says of the pair of a run."""
    from aiflow_cli.cli.output import print_json
    from aiflow_cli.cli.pairs import print_plan
    from aiflow_cli.models.dry_run import plan_pair
    from aiflow_cli.models.pair import find_pair

    plan = plan_pair(find_pair(pair, draft, target))
    if json_:
        print_json(plan.as_json())
    else:
        print_plan(plan)
