"""`aiflow bench`: the program's own speed, as ratios beside their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.analysis.bench import Verdict
    from aiflow_cli.trials.bench import BenchResult

EXAMPLES = """Examples:

  aiflow bench                                     the small pair, 12 scenes, gamma 4

  aiflow bench --pair small-weak --images 24 --check   exit code 4 if a bound is missed
"""


def bench(
    pair: Annotated[str, typer.Option("--pair", "-p", help="A pair of the registry (`aiflow pairs list`).")] = "small",
    draft: Annotated[str | None, typer.Option("--draft", help="Another draft: a folder or a hub id.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Another target: a folder or a hub id.")] = None,
    data: Annotated[
        str, typer.Option("--data", help="scenes, vehicles-openimage, a folder, or a local data set.")
    ] = "scenes",
    images: Annotated[int, typer.Option("--images", "-n", help="A seeded sample of N.")] = 12,
    gamma: Annotated[int, typer.Option("--gamma", "-g", help="Draft length, 1 to 64, of all that draft.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample of images and the order of the arms.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "cpu",
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="Longest answer. [default: the pair's own]")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 4 if a bound is missed.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Hold the program's speed against transformers' generation and against its own floors.

    Both sides of a ratio are measured in this run, on the same images, in turns.
    """
    from aiflow_cli.analysis.bench import differing_images, judge
    from aiflow_cli.cli.errors import unwind_on_sigterm
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.cli.progress import counted_progress
    from aiflow_cli.errors import ToleranceError
    from aiflow_cli.models.pair import find_pair
    from aiflow_cli.trials import bench as library

    settings = library.BenchSettings(
        pair=find_pair(pair, draft, target),
        data=data,
        images=images,
        gamma=gamma,
        seed=seed,
        device=device,
        max_new_tokens=max_new_tokens,
    )
    unwind_on_sigterm()
    with counted_progress("responses") as show:
        result = library.bench(settings, show)
    verdicts = judge(result.arms)
    if json_:
        print_json(document(result, verdicts))
    else:
        print_verdicts(result, verdicts)
    if differing := differing_images(result.arms):
        note(
            f"{len(differing)} of {images} images have outputs that differ, {differing[0]} first: `aiflow run` says why"
        )
    missed = [verdict.bound.key for verdict in verdicts if verdict.holds is False]
    unjudged = [verdict.bound.key for verdict in verdicts if verdict.holds is None]
    if check and missed:
        raise ToleranceError(
            f"{len(missed)} of {len(verdicts)} bounds missed: {', '.join(missed)}; is the machine busy?"
        )
    if check and unjudged:
        raise ToleranceError(
            f"{len(unjudged)} of {len(verdicts)} bounds not judged: {', '.join(unjudged)}; give more --images, or longer answers"
        )


def document(result: BenchResult, verdicts: list[Verdict]) -> dict[str, Any]:
    """The document of `--json`."""
    from aiflow_cli.analysis.bench import decode_tpot_ms, differing_images
    from aiflow_cli.analysis.intervals import too_few

    return {
        **result.document,
        "no_verdicts": too_few(result.document["data"]["images"]),
        "bounds": [verdict.as_json() for verdict in verdicts],
        "decode_tpot_ms": decode_tpot_ms(result.arms),
        "differing_images": differing_images(result.arms),
    }


def print_verdicts(result: BenchResult, verdicts: list[Verdict]) -> None:
    """A row for each bound, then the times behind the ratios."""
    from aiflow_cli.analysis.bench import decode_tpot_ms
    from aiflow_cli.analysis.intervals import too_few
    from aiflow_cli.cli.output import print_table

    columns = ("measured", "over", "ratio", "95 %", "at most", "holds")
    print_table(columns, [_row(v) for v in verdicts], left=2, first_out=("95 %", "at most"))
    times = {arm: "-" if ms is None else f"{ms:.2f}" for arm, ms in decode_tpot_ms(result.arms).items()}
    print_table(("arm", "decode TPOT\nms"), list(times.items()))
    say(
        f"{result.document['data']['images']} images, gamma {result.document['gamma']}, arms in turns on each image. "
        "Ratios of sums; intervals by bootstrap over images."
    )
    if few := too_few(result.document["data"]["images"]):
        say(f"No bound is judged: {few}.")


def _row(verdict: Verdict) -> list[str]:
    ratio, bound = verdict.ratio, verdict.bound
    value = "-" if ratio is None else f"{ratio.value:.3f}"
    interval = f"{ratio.low:.3f} - {ratio.high:.3f}" if ratio and ratio.known else "-"
    holds = {True: "yes", False: "NO", None: "-"}[verdict.holds]
    return [bound.over, bound.under, value, interval, f"{bound.most:.2f}", holds]
