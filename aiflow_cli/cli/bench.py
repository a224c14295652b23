"""`aiflow bench`: the program's own speed, as ratios beside their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.options import Data, Draft, Images, Json, MaxNewTokens, Pair, Seed, Target
from aiflow_cli.cli.output import note, print_json, print_table, say

if TYPE_CHECKING:
    from aiflow_cli.analysis.bench import Checked
    from aiflow_cli.trials.bench import BenchResult

EXAMPLES = """Examples:

  aiflow bench                                     the small pair, 12 scenes, gamma 4

  aiflow bench --pair small-weak --images 24 --check   exit code 4 if a bound is missed
"""


def bench(
    pair: Pair = "small",
    draft: Draft = None,
    target: Target = None,
    data: Data = "scenes",
    images: Images = 12,
    gamma: Annotated[int, typer.Option("--gamma", "-g", help="Draft length, 1 to 64, of all that draft.")] = 4,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "cpu",
    max_new_tokens: MaxNewTokens = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 4 if a bound is missed.")] = False,
    json_: Json = False,
) -> None:
    """Hold the program's speed against transformers' generation and against its own floors.

    Both sides of a ratio are measured in this run, on the same images, in turns.
    """
    from aiflow_cli.analysis.bench import check_bounds, differing_images
    from aiflow_cli.cli.errors import unwind_on_sigterm
    from aiflow_cli.cli.progress import progress
    from aiflow_cli.models.pair import find_pair
    from aiflow_cli.trials import bench as library

    found = find_pair(pair, draft, target)
    settings = library.BenchSettings(found, data, images, gamma, seed, device, max_new_tokens)
    unwind_on_sigterm()
    with progress("responses") as show:
        result = library.bench(settings, show)
    verdicts = check_bounds(result.arms)
    if json_:
        print_json(document(result, verdicts))
    else:
        print_verdicts(result, verdicts)
    if differing := differing_images(result.arms):
        told = f"{len(differing)} of {images} images have outputs that differ, {differing[0]} first"
        note(f"{told}: `aiflow run` says why")
    if check:
        _fail_if_any(verdicts, False, "missed", "is the machine busy?")
        _fail_if_any(verdicts, None, "undecided", "give more --images, or longer answers")


def _fail_if_any(verdicts: list[Checked], state: bool | None, what: str, remedy: str) -> None:
    """Raise ToleranceError if any bound is in that state."""
    from aiflow_cli.errors import ToleranceError

    if keys := [verdict.bound.key for verdict in verdicts if verdict.holds is state]:
        raise ToleranceError(f"{len(keys)} of {len(verdicts)} bounds {what}: {', '.join(keys)}; {remedy}")


def document(result: BenchResult, verdicts: list[Checked]) -> dict[str, Any]:
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


def print_verdicts(result: BenchResult, verdicts: list[Checked]) -> None:
    """A row for each bound, then the times behind the ratios."""
    from aiflow_cli.analysis.bench import decode_tpot_ms
    from aiflow_cli.analysis.intervals import too_few

    images = result.document["data"]["images"]
    columns = ("measured", "over", "ratio", "95 %", "at most", "verdict")
    print_table(columns, [_row(v) for v in verdicts], left=2, first_out=("95 %", "at most"))
    times = {arm: "-" if ms is None else f"{ms:.2f}" for arm, ms in decode_tpot_ms(result.arms).items()}
    print_table(("arm", "decode TPOT\nms"), list(times.items()))
    say(f"{images} images, gamma {result.document['gamma']}, arms in turns on each image.")
    say("Ratios are of sums; their intervals are by bootstrap over images.")
    if few := too_few(images):
        say(f"No bound is judged: {few}.")


def _row(verdict: Checked) -> list[str]:
    ratio, bound = verdict.ratio, verdict.bound
    value = f"{ratio.value:.3f}" if ratio.defined else "-"
    interval = f"{ratio.low:.3f} - {ratio.high:.3f}" if ratio.known else "-"
    return [bound.over, bound.under, value, interval, f"{bound.most:.2f}", verdict.verdict]
