"""`aiflow run`: trials of some methods over one pair and one link, live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.analysis.intervals import Interval
    from aiflow_cli.analysis.summary import MethodSummary
    from aiflow_cli.trials.run import RunResult
    from aiflow_cli.trials.settings import RunSettings

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
            help="A running `aiflow serve`: HOST:PORT; its own options say how the target runs. [default: one is started here]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the result. [default: results/STAMP-run]")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what the pair takes and whether it fits here; nothing is loaded."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Caption images by every method, live over a shaped link, and compare with server-only.

    Rates and delay are of the application's bytes. Outputs are checked against server-only, token for token; a
    difference that rounding cannot explain fails the run.
    """
    from aiflow_cli.analysis.summary import summarise
    from aiflow_cli.cli.errors import unwind_on_sigterm
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.cli.progress import trials_progress
    from aiflow_cli.trials.exactness import exactness
    from aiflow_cli.trials.run import run_trials
    from aiflow_cli.trials.settings import make_settings, parse_methods
    from aiflow_cli.units import parse_duration, parse_rate, parse_size

    chosen: dict[str, Any] = {"methods": parse_methods(method)} if method else {}
    if gamma:
        chosen["gammas"] = tuple(gamma)
    settings = make_settings(
        **chosen,
        pair=pair,
        draft=draft,
        target=target,
        data=data,
        images=images,
        prompt=prompt,
        uplink_bytes_per_s=_finite(parse_rate(uplink or rate)),
        downlink_bytes_per_s=_finite(parse_rate(downlink or rate)),
        burst_bytes=parse_size(burst),
        delay_s=parse_duration(delay),
        seed=seed,
        repeats=repeats,
        device=device,
        dtype=dtype,
        quantize=quantize,
        exact=exact,
        max_new_tokens=max_new_tokens,
        threads=threads,
        server=server,
    )
    if dry_run:
        _show_plan(settings, json_)
        return
    unwind_on_sigterm()
    with trials_progress() as show:
        result = run_trials(settings, output, show)
    summaries = summarise(result.records)
    if json_:
        print_json(document(result, summaries))
    else:
        print_summaries(result, summaries)
    exact_lines = [one.line() for one in exactness(result.records)] if exact else []
    for line in [result.document["data"]["note"], *exact_lines, *mismatch_lines(result)]:
        if line:
            note(line)
    if result.defects:
        raise typer.Exit(1)


def _show_plan(settings: RunSettings, json_: bool) -> None:
    """What `aiflow pairs show` says of the pair of a run."""
    from aiflow_cli.cli.output import print_json
    from aiflow_cli.cli.pairs import print_plan
    from aiflow_cli.models.dry_run import plan_pair
    from aiflow_cli.models.pair import find_pair

    plan = plan_pair(find_pair(settings.pair, settings.draft, settings.target))
    if json_:
        print_json(plan.as_json())
    else:
        print_plan(plan)


def _finite(rate: float) -> float | None:
    return None if math.isinf(rate) else rate


def document(result: RunResult, summaries: list[MethodSummary]) -> dict[str, Any]:
    """The document of `--json`."""
    from aiflow_cli.trials.exactness import exactness

    images: dict[str, dict[str, str]] = {}
    for record in result.measured:
        label = record["method"] if record["gamma"] is None else f"{record['method']}-{record['gamma']}"
        images.setdefault(record["image_id"], {}).setdefault(label, record["caption"])
    exact = (
        {"exact": [one.as_json() for one in exactness(result.records)]} if result.document["settings"]["exact"] else {}
    )
    return {
        **{key: result.document[key] for key in ("schema_version", "provenance", "pair", "link", "data", "settings")},
        "result": str(result.folder),
        "methods": [summary.as_json() for summary in summaries],
        **exact,
        "images": [{"image_id": image_id, "captions": captions} for image_id, captions in images.items()],
    }


_COLUMNS = (
    "method",
    "gamma",
    "TTFT\nms",
    "latency\nper token\nms",
    "TPOT\nms",
    "decode\nTPOT\nms",
    "tokens\nper\nround",
    "bytes\nper token\nup / down",
    "speed-up\nin decode\nTPOT",
    "speed-up\nin latency\nper token",
    "identical",
)


_FIRST_OUT = (
    "bytes\nper token\nup / down",
    "TPOT\nms",
    "TTFT\nms",
    "tokens\nper\nround",
    "speed-up\nin latency\nper token",
    "latency\nper token\nms",
)
"""What goes first on a narrow terminal: decode TPOT, its speed-up and `identical` are what a run is for."""


def print_summaries(result: RunResult, summaries: list[MethodSummary]) -> None:
    """The table of a run, what its columns mean, and where the trials are."""
    print_method_table(summaries)
    print_legend(result.folder, summaries)


def print_method_table(summaries: Sequence[MethodSummary]) -> None:
    """A row for each method and draft length."""
    from aiflow_cli.cli.output import print_table

    print_table(_COLUMNS, [_row(summary) for summary in summaries], first_out=_FIRST_OUT)


def print_legend(folder: Path, summaries: Sequence[MethodSummary]) -> None:
    """What the columns of the table mean, why values have no interval if they have none, and where the trials are."""
    from aiflow_cli.analysis.metrics import FORMULAS

    reasons = dict.fromkeys(summary.too_few for summary in summaries)
    if None in reasons:
        say("Below a value: its 95 % bootstrap interval over images.")
    for reason in filter(None, reasons):
        say(f"No intervals: {reason}.")
    say("Speed-ups are ratios of sums against server-only.")
    for name, formula in FORMULAS.items():
        say(f"{name} = {formula}")
    say(f"trials: {folder / 'trials.jsonl'}")


def _row(s: MethodSummary) -> list[str]:
    return [
        s.method,
        "" if s.gamma is None else str(s.gamma),
        f"{s.ttft_ms:.1f}",
        _interval(s.latency_per_token_ms, 2),
        _number(s.tpot_ms),
        _interval(s.decode_tpot_ms, 2),
        _number(s.tokens_per_round),
        f"{s.bytes_up / s.tokens:.1f} / {s.bytes_down / s.tokens:.1f}",
        "1" if s.method == "server-only" else _interval(s.speedup, 2),
        "1" if s.method == "server-only" else _interval(s.speedup_latency, 2),
        "-" if s.identical is None else f"{s.identical}/{s.trials}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return "-"
    value, low, high = (f"{x:.{digits}f}" for x in interval)
    return f"{value}\n{low} - {high}" if interval.known else value


def mismatch_lines(result: RunResult) -> list[str]:
    """A line for every output that is not server-only's."""
    from aiflow_cli.trials.identity import describe

    return [describe(record) for record in result.mismatches]
