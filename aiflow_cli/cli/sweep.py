"""`aiflow sweep`: an experiment from experiments/, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.analysis.summary import Group
    from aiflow_cli.trials.plan import Plan
    from aiflow_cli.trials.run import RunResult, Show, Step
    from aiflow_cli.trials.spec import ExperimentSpec
    from aiflow_cli.trials.sweep import Sweep

EXAMPLES = """Examples:

  aiflow sweep figure6                              the paper's figure; the same command goes on after an interruption

  aiflow sweep figure6 --dry-run                    trials, time, what is done already

  aiflow sweep quick --set link.rate=500KB/s --set images=8

  aiflow sweep my-experiment.toml --set pairs=internvl2-2b-26b --set device=cuda --set data=vehicles-openimage

  aiflow sweep figure6 --ray auto                   blocks shared out to the nodes of a Ray cluster
"""


def sweep(
    spec: Annotated[str, typer.Argument(help="A TOML file, or the name of one in experiments/.", metavar="SPEC")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value for a key: link.rate=2MB/s; may be repeated.", metavar="KEY=VALUE"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the result. [default: results/NAME-HASH]")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew in a new folder; what is there stays.")
    ] = False,
    allow_mixed: Annotated[
        bool,
        typer.Option(
            "--allow-mixed", help="Go on although pair, data, code or machine have changed; the result notes it."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Share blocks out to a Ray cluster: auto or HOST:PORT.", metavar="ADDRESS"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Run an experiment: every image with every setting, in blocks, live.

    Each finished trial is on the disk before the next starts. After an interruption the same command goes on where it
    stopped. Outputs are checked against server-only, token for token; a difference that rounding cannot explain fails it.
    """
    from aiflow_cli.analysis.summary import summarise_groups
    from aiflow_cli.cli.errors import unwind_on_sigterm
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.cli.progress import sweep_progress
    from aiflow_cli.cli.reading import note_torn
    from aiflow_cli.cli.run import mismatch_lines
    from aiflow_cli.trials.exactness import exactness
    from aiflow_cli.trials.plan import plan_sweep
    from aiflow_cli.trials.specfile import load_spec
    from aiflow_cli.trials.sweep import open_sweep, run_sweep

    experiment = load_spec(spec, set_ or ())
    if dry_run:
        plan = plan_sweep(experiment, output, restart=restart, allow_mixed=allow_mixed)
        if json_:
            print_json({"schema_version": 1, "spec": experiment.model_dump(mode="json"), "plan": plan.as_json()})
        else:
            print_plan(experiment, plan)
        return
    unwind_on_sigterm()
    opened = open_sweep(experiment, output, restart=restart, allow_mixed=allow_mixed, ray=ray)
    if opened.images.note:
        note(opened.images.note)
    note_torn(opened.folder)
    with _told_what_stays(opened, restart) as watched, sweep_progress() as show:
        result = run_sweep(opened, watched(show))
    groups = summarise_groups(result.records)
    if json_:
        print_json(document(result, groups))
    else:
        print_groups(result, groups)
    exact_lines = [one.line() for one in exactness(result.records)] if experiment.exact else []
    for line in [*exact_lines, *mismatch_lines(result)]:
        note(line)
    if result.defects:
        raise typer.Exit(1)


@contextmanager
def _told_what_stays(opened: Sweep, restart: bool) -> Iterator[Callable[[Show], Show]]:
    """When a sweep that has begun ends early, say how far it came and how it goes on. It has begun when what this gives is first shown."""
    from aiflow_cli.cli.output import note

    begun = False

    def watched(show: Show) -> Show:
        def shown(step: Step) -> None:
            nonlocal begun
            begun = True
            show(step)

        return shown

    try:
        yield watched
    except BaseException:
        if begun and (kept := _kept(opened)):
            again = "the same command without --restart" if restart else "the same command"
            note(f"{kept} of {len(opened.slots)} trials are in {opened.folder}: {again} goes on there")
        raise


def _kept(opened: Sweep) -> int:
    """How many trials of the plan are on the disk: a folder may hold others too, of an earlier spec."""
    from aiflow_cli.errors import StoreError
    from aiflow_cli.trials.store import read_trials

    planned = {slot.trial for slot in opened.slots}
    with suppress(StoreError):
        return sum(record["trial"] in planned and not record["warmup"] for record in read_trials(opened.folder))
    return 0


def print_plan(spec: ExperimentSpec, plan: Plan) -> None:
    """The plan of a dry run, for people."""
    say(f"{spec.name}: {spec.about}")
    for name, value in _plan_lines(spec, plan):
        say(f"  {name:<9} {value}")


def _plan_lines(spec: ExperimentSpec, plan: Plan) -> Iterator[tuple[str, str]]:
    yield "pairs", ", ".join(spec.pairs)
    for link in spec.link.links():
        yield "link", link.describe()
    images = "all" if plan.images is None else str(plan.images)
    yield "data", f"{images} images of {spec.data}, {spec.repeats} x"
    often = spec.server_only_per_block
    again = f", server-only {often} times a block" if often > 1 else ""
    yield "settings", f"{plan.settings}{again}; order by seed {spec.seed}"
    if plan.trials is None:
        yield "trials", "as many as there are images, times settings"
    else:
        yield "trials", f"{plan.trials}, of which {plan.done} are done; {plan.warmups} warm-ups before the others"
        yield "time", _time(plan)
    yield "result", str(plan.folder)
    for line in plan.missing:
        yield "missing", line


def _time(plan: Plan) -> str:
    if not plan.seconds:
        return "nothing left to do"
    minutes, seconds = divmod(round(plan.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    about = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    sources = [
        f"{plan.measured} trials by earlier results here" if plan.measured else "",
        f"{plan.assumed} by a formula with assumed speeds" if plan.assumed else "",
    ]
    return f"about {about} ({', '.join(filter(None, sources))})"


def document(result: RunResult, groups: Sequence[Group]) -> dict[str, Any]:
    """The document of `--json`."""
    names = ("schema_version", "name", "spec", "provenance", "pairs", "data", "fingerprints", "sessions", "mixed")
    return {
        **{key: result.document[key] for key in names},
        "result": str(result.folder),
        "groups": [group.as_json() for group in groups],
    }


def print_groups(result: RunResult, groups: Sequence[Group]) -> None:
    """A table for each pair and link, what its columns mean, and where the trials are."""
    from aiflow_cli.cli.run import print_legend, print_method_table

    for group in groups:
        say(f"pair {group.pair}, {group.link.describe()}")
        print_method_table(group.methods)
    print_legend(result.folder, [method for group in groups for method in group.methods])
