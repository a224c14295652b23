"""`aiflow sweep`: an experiment from experiments/, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.experiments import conduct
from aiflow_cli.cli.options import Json, path_option
from aiflow_cli.cli.output import present, say

if TYPE_CHECKING:
    from aiflow_cli.trials.plan import Plan
    from aiflow_cli.trials.spec import ExperimentSpec

EXAMPLES = """\
aiflow sweep figure6                              the paper's figure; the same command goes on after an interruption
aiflow sweep figure6 --dry-run                    trials, time, what is done already
aiflow sweep quick --set link.rate=500KB/s --set images=8
aiflow sweep my-experiment.toml --set pairs=internvl2-2b-26b --set device=cuda --set data=vehicles-openimage
aiflow sweep figure6 --ray auto                   blocks shared out to the nodes of a Ray cluster
"""
_SPEC = "A TOML file, or the name of one in experiments/."
_SET = "Another value for a key: link.rate=2MB/s; may be repeated."
_OUTPUT = "Folder of the result. (default: results/NAME-HASH)"
_RESTART = "Begin anew in a new folder; what is there stays."
_ALLOW_MIXED = "Go on although pair, data, code or machine have changed; the result notes it."
_RAY = "Share blocks out to a Ray cluster: auto or HOST:PORT."


def sweep(
    spec: Annotated[str, typer.Argument(help=_SPEC, metavar="SPEC")],
    set_: Annotated[list[str] | None, typer.Option("--set", help=_SET, metavar="KEY=VALUE")] = None,
    output: Annotated[Path | None, path_option(_OUTPUT)] = None,
    restart: Annotated[bool, typer.Option("--restart", help=_RESTART)] = False,
    allow_mixed: Annotated[bool, typer.Option("--allow-mixed", help=_ALLOW_MIXED)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    ray: Annotated[str | None, typer.Option("--ray", help=_RAY, metavar="ADDRESS")] = None,
    json_: Json = False,
) -> None:
    """Run an experiment: every image with every setting, in blocks, live.

    Each finished trial is on the disk before the next starts. After an interruption the same command goes on where it
    stopped. Outputs are checked against server-only, token for token; a difference that rounding cannot explain fails
    it.
    """
    from aiflow_cli.trials import experiment, plan, specfile

    loaded = specfile.load_spec(spec, set_ or ())
    if not dry_run:
        opened = experiment.open_experiment(loaded, output, restart=restart, allow_mixed=allow_mixed, ray=ray)
        conduct(opened, "the same command without --restart" if restart else "the same command", json_)
        return
    planned = plan.plan_experiment(loaded, output, restart=restart, allow_mixed=allow_mixed)
    document = {"schema_version": 1, "spec": loaded.model_dump(mode="json"), "plan": planned.as_json()}
    present(json_, document, lambda: print_plan(loaded, planned))


def print_plan(spec: ExperimentSpec, plan: Plan) -> None:
    """The plan of a dry run, for people."""
    images = "all" if plan.images is None else str(plan.images)
    sessions = f", in each of {spec.sessions} sessions" if spec.sessions > 1 else ""
    often = spec.server_only_per_block
    again = f", server-only {often} times a block" if often > 1 else ""
    if plan.trials is None:
        trials = [("trials", "as many as there are images, times settings")]
    else:
        done = f"{plan.trials}, of which {plan.done} are done; {plan.warmups} warm-ups before the others"
        trials = [("trials", done), ("time", _time(plan))]
    lines = [
        ("pairs", ", ".join(spec.pairs)),
        *(("link", link.describe()) for link in spec.link.links()),
        ("data", f"{images} images of {spec.data}, {spec.repeats} x{sessions}"),
        ("settings", f"{plan.settings}{again}; order by seed {spec.seed}"),
        *trials,
        ("result", str(plan.folder)),
        *(("missing", line) for line in plan.missing),
    ]
    say(f"{spec.name}: {spec.about}")
    for name, value in lines:
        say(f"  {name:<9} {value}")


def _time(plan: Plan) -> str:
    if not plan.seconds:
        return "nothing left to do"
    minutes, seconds = divmod(round(plan.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    about = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    measured = [f"{plan.measured} trials by earlier results here"] if plan.measured else []
    assumed = [f"{plan.assumed} by a formula with assumed speeds"] if plan.assumed else []
    return f"about {about} ({', '.join(measured + assumed)})"
