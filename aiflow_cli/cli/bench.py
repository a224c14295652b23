"""`aiflow bench`: the program's own speed, as ratios beside their bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli import options
from aiflow_cli.cli.errors import unwind_on_sigterm
from aiflow_cli.cli.output import note, present, print_items, print_table, say
from aiflow_cli.cli.progress import progress
from aiflow_cli.errors import ToleranceError

if TYPE_CHECKING:
    from aiflow_cli.analysis.bench import Checked
    from aiflow_cli.trials.bench import BenchResult

EXAMPLES = """\
aiflow bench                                     the small pair, 12 scenes, gamma 4
aiflow bench --pair small-weak --images 24 --check   exit code 4 if a bound is missed
"""


def bench(
    pair: options.Pair = "small",
    draft: options.Draft = None,
    target: options.Target = None,
    data: options.Data = "scenes",
    images: options.Images = 12,
    gamma: Annotated[int, typer.Option("--gamma", "-g", help="Draft length, 1 to 64, of all that draft.")] = 4,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")] = "cpu",
    max_new_tokens: options.MaxNewTokens = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 4 if a bound is missed.")] = False,
    json_: options.Json = False,
) -> None:
    """Hold the program's speed against transformers' generation and against its own floors.

    Both sides of a ratio are measured in this run, on the same images, in turns.
    """
    from aiflow_cli.analysis.bench import check_bounds
    from aiflow_cli.trials import bench as library
    from aiflow_cli.trials.specfile import spec_of_options

    models = {role: place for role, place in (("draft", draft), ("target", target)) if place is not None}
    given = {"pairs": [pair], "checkpoints": {pair: models}, "gammas": [gamma], "data": data, "images": images}
    more = {"seed": seed, "device": device, "max_new_tokens": max_new_tokens}
    spec = spec_of_options(library.BASE | given | more)
    unwind_on_sigterm()
    with progress("responses") as show:
        result = library.bench(spec, show)
    verdicts = check_bounds(result.arms)
    told = document(result, verdicts)
    present(json_, told, lambda: print_verdicts(told, verdicts))
    if differing := told["differing_images"]:
        counted = f"{len(differing)} of {images} images have outputs that differ"
        note(f"{counted}, {differing[0]} first: `aiflow run` says why")
    if check:
        _refuse(verdicts, False, "missed", "is the machine busy?")
        _refuse(verdicts, None, "undecided", "give more --images, or longer answers")


def _refuse(verdicts: list[Checked], holds: bool | None, what: str, remedy: str) -> None:
    """Raise ToleranceError if that is said of any bound."""
    if keys := [verdict.bound.key for verdict in verdicts if verdict.holds is holds]:
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


def print_verdicts(told: dict[str, Any], verdicts: list[Checked]) -> None:
    """A row for each bound, then the times behind the ratios, of the document."""
    print_items(_COLUMNS, verdicts, left=2, first_out=("95 %", "at most"))
    times = [(arm, "-" if ms is None else f"{ms:.2f}") for arm, ms in told["decode_tpot_ms"].items()]
    print_table(("arm", "decode TPOT\nms"), times)
    say(f"{told['data']['images']} images, gamma {told['gamma']}, arms in turns on each image.")
    say("Ratios are of sums; their intervals are by bootstrap over images.")
    if told["no_verdicts"]:
        say(f"No bound is judged: {told['no_verdicts']}.")


_COLUMNS: dict[str, Callable[[Checked], str]] = {
    "measured": lambda v: v.bound.over,
    "over": lambda v: v.bound.under,
    "ratio": lambda v: f"{v.ratio.value:.3f}" if v.ratio.defined else "-",
    "95 %": lambda v: f"{v.ratio.low:.3f} - {v.ratio.high:.3f}" if v.ratio.known else "-",
    "at most": lambda v: f"{v.bound.most:.2f}",
    "verdict": lambda v: v.verdict,
}
