"""`aiflow pairs`: list pairs, judge one on held-out scenes, show what it says, and train the small pair."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli import options
from aiflow_cli.cli.output import note, present, print_table, say
from aiflow_cli.cli.progress import display, progress
from aiflow_cli.errors import StoreError
from aiflow_cli.text import SPELT_OUT

if TYPE_CHECKING:
    from aiflow_cli.models.dry_run import PairPlan
    from aiflow_cli.training.evaluate import Evaluation

_HELP = "Pairs of a draft and a target model: list, evaluate, show, train."
app = typer.Typer(name="pairs", help=_HELP, no_args_is_help=True)
SHOWN = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28)  # draft lengths that the table of a quality names
_GPU = "Plan for GPUs of this much memory instead of this machine's; may be repeated."
_WORK = "Where stages keep their results; a second run goes on from there."
_WORKERS = "Stages that run side by side, a thread each."


@app.command("list")
def list_pairs(json_: options.Json = False) -> None:
    """List the pairs that --pair knows."""
    from aiflow_cli.models.pair import registry

    document = {"schema_version": 1, "pairs": [asdict(pair) for pair in registry().values()]}
    rows = [(pair.name, pair.about) for pair in registry().values()]
    present(json_, document, lambda: print_table(("pair", "what it is"), rows, left=2))


@app.command("show", epilog="aiflow pairs show internvl2-2b-26b --gpu 24GB --gpu 24GB")
def show(
    pair: options.PairArgument,
    draft: options.Draft = None,
    target: options.Target = None,
    gpu: Annotated[list[str] | None, typer.Option("--gpu", help=_GPU)] = None,
    json_: options.Json = False,
) -> None:
    """Show what a pair takes (parameters, bytes, cache) and what of it fits where. Fetches and loads nothing."""
    from aiflow_cli.models import dry_run
    from aiflow_cli.models.pair import find_pair
    from aiflow_cli.units import parse_size

    sizes = [parse_size(text) for text in gpu or ()]
    places = [dry_run.Place(f"cuda:{i}", "as asked for with --gpu", size, size) for i, size in enumerate(sizes)]
    plan = dry_run.plan_pair(find_pair(pair, draft, target), places or None)
    present(json_, plan.as_json(), lambda: _print_plan(plan))


def _print_plan(plan: PairPlan) -> None:
    """Two tables: what the models take, and what fits where."""
    from aiflow_cli.models.dry_run import FORMS

    models = (plan.draft, plan.target)
    rows = [
        ("parameters", *(f"{m.parameters:,}" for m in models)),
        ("  of the vision tower", *(f"{m.vision_parameters:,}" for m in models)),
        *((f"weights in {form}, GB", *(f"{m.weight_bytes[form] / 1e9:.2f}" for m in models)) for form in FORMS),
        ("cache per token in bfloat16, bytes", *(f"{m.kv_bytes_per_token['bfloat16']:,}" for m in models)),
        ("longest response, positions", *(f"{m.longest:,}" for m in models)),
        ("  its cache in bfloat16, GB", *(f"{m.kv_bytes('bfloat16') / 1e9:.2f}" for m in models)),
    ]
    print_table((f"pair {plan.pair}", *(f"{m.role}: {m.name}" for m in models)), rows)
    fits: dict[tuple[str, str], dict[str, str]] = {}
    spread = [fit for fit in plan.fits if len(fit.devices) > 1]
    for fit in plan.fits:
        if fit not in spread:
            cell = f"{fit.needed_bytes / 1e9:.1f} {'yes' if fit.fits else 'no'}"
            fits.setdefault((fit.where, fit.what), {})[fit.form] = cell
    rows = [(*place_and_thing, *(cells.get(form, "-") for form in FORMS)) for place_and_thing, cells in fits.items()]
    print_table(("fits?", "what", *(f"{form}\nGB with cache" for form in FORMS)), rows, left=2)
    for fit in spread:
        held = ", ".join(f"{name} {count / 1e9:.1f} GB" for name, count in fit.devices.items())
        say(f"{fit.what} in {fit.form} over {fit.where}: {held}" + ("" if fit.fits else "; the rest fits nowhere"))
    for place in plan.places:
        free, all_ = place.free_bytes / 1e9, place.memory_bytes / 1e9
        say(f"{place.name}: {place.about}, {free:.1f} of {all_:.1f} GB free")
    for model in models:
        say(f"configuration of the {model.role}: {model.source}")


@app.command("evaluate", epilog="aiflow pairs evaluate small --scenes 500")
def evaluate(
    pair: options.PairArgument,
    scenes: options.Scenes = 500,
    draft: options.Draft = None,
    target: options.Target = None,
    threads: options.Threads = 1,
    json_: options.Json = False,
) -> None:
    """Caption held-out scenes with both models: slots right, exact captions, and how often drafts are accepted."""
    import torch

    from aiflow_cli.models.pair import check_pair, find_pair
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.training.evaluate import evaluate_pair

    torch.set_num_threads(threads)
    spec = find_pair(pair, draft, target)
    target_model, draft_model = (VisionLanguageModel.from_folder(spec.folder(role)) for role in ("target", "draft"))
    check_pair(draft_model, target_model)
    with progress(f"evaluating {pair}", scenes) as advance:
        evaluation = evaluate_pair(target_model, draft_model, spec.question, scenes, advance)
    present(json_, {"pair": pair} | evaluation.as_json(), lambda: _print_evaluation(evaluation))


def _print_evaluation(evaluation: Evaluation) -> None:
    target, draft = evaluation.target, evaluation.draft
    shares = {name: (target.slot[name], draft.slot[name]) for name in target.slot}
    shares |= {"all slots": (target.slots, draft.slots), "exact captions": (target.exact, draft.exact)}
    rows = [(name, *(f"{share:.3f}" for share in both)) for name, both in shares.items()]
    print_table((f"slot ({evaluation.scenes} held-out scenes)", "target", "draft"), rows)
    per_round, conditional = evaluation.tokens_per_round, evaluation.conditional_acceptance
    rows = [(str(g), f"{per_round[g]:.2f}", "-" if (a := conditional[g - 1]) is None else f"{a:.3f}") for g in SHOWN]
    print_table(("draft length", "tokens per round", "accepted at this position"), rows)
    say(f"alpha {evaluation.alpha:.3f} (share of the target's tokens that the draft predicts, given the target's text)")


@app.command("gallery", epilog="aiflow pairs gallery small --output gallery.html")
def gallery(
    pair: options.PairArgument,
    output: Annotated[Path, options.path_option("The page to write.")] = Path("gallery.html"),
    scenes: options.Scenes = 24,
    draft: options.Draft = None,
    target: options.Target = None,
    json_: options.Json = False,
) -> None:
    """Write one HTML page of held-out scenes with what target and drafts say of them, wrong slots marked."""
    from aiflow_cli.models.pair import find_pair, same_target
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.training.evaluate import gallery_page

    spec = find_pair(pair, draft, target)
    if not output.parent.is_dir() or output.is_dir():  # said before the captioning, which takes a while
        raise StoreError(f"cannot write {output}: give the name of a file in a folder that is there as --output")
    folders = {"target": spec.folder("target")}
    folders |= {f"draft of {one.name}": one.folder("draft") for one in ([spec] if draft else same_target(spec))}
    models = {name: VisionLanguageModel.from_folder(folder) for name, folder in folders.items()}
    with progress("captioning", scenes) as advance:
        page = gallery_page(f"What pair {pair} says of scenes it has not seen", models, spec.question, scenes, advance)
    try:
        output.write_text(page, encoding="utf-8", errors=SPELT_OUT)
    except OSError as error:
        raise StoreError(f"cannot write {output} ({error.strerror}): give another --output") from None
    document = {"schema_version": 1, "pair": pair, "scenes": scenes, "page": str(output)}
    present(json_, document, lambda: say(output))


@app.command("train", epilog="aiflow pairs train --work training-runs/small")
def train(
    work: Annotated[Path, options.path_option(_WORK, "--work")] = Path("training-runs/small"),
    output: Annotated[Path | None, options.path_option("Where checkpoints are written. (default: WORK/pairs)")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help=_WORKERS)] = 2,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda if there is one.")] = None,
    scenes: options.Scenes = 500,
    json_: options.Json = False,
) -> None:
    """Train the small pair from nothing but this program: fixed seeds, resumable; ends with its quality table."""
    import torch

    from aiflow_cli.training import checkpoints, recipe
    from aiflow_cli.training.stages import run_recipe
    from aiflow_cli.trials import store

    stages = recipe.Recipe(work, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = output or work / "pairs"
    with store.owned(store.make_folder(work)):
        with display() as show:
            run_recipe(stages, workers, lambda stage: show(*stage))
        evaluations = checkpoints.finish_pair(stages, folder, scenes, note if json_ else say)

    def in_words() -> None:
        for name, evaluation in evaluations.items():
            say(f"\npair {name}")
            _print_evaluation(evaluation)
        say(f"\ncheckpoints with their cards: {folder}")

    pairs = {name: evaluation.as_json() for name, evaluation in evaluations.items()}
    present(json_, {"schema_version": 1, "folder": str(folder), "pairs": pairs}, in_words)
