"""How `aiflow run` and `aiflow sweep` run an experiment, and how they show what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aiflow_cli.cli.errors import unwind_on_sigterm
from aiflow_cli.cli.output import note, present, print_items, say
from aiflow_cli.cli.progress import display
from aiflow_cli.cli.results import note_torn
from aiflow_cli.errors import AiflowError, StoreError

if TYPE_CHECKING:
    from aiflow_cli.analysis.intervals import Interval
    from aiflow_cli.analysis.summary import Group, MethodSummary
    from aiflow_cli.trials.experiment import Experiment
    from aiflow_cli.trials.run import RunResult, Step


def conduct(opened: Experiment, again: str, json_: bool, captions: bool = False) -> None:
    """Run an experiment and show its result; `again` is the command that goes on with it. Raises what starting raises,
    AiflowError if trials have failed, and ends with exit code 1 if an output is wrong.
    """
    from aiflow_cli.analysis.summary import summarise_groups
    from aiflow_cli.trials.exactness import exactness
    from aiflow_cli.trials.identity import describe

    unwind_on_sigterm()
    if opened.images.note:
        note(opened.images.note)
    note_torn(opened.folder)
    result = _run(opened, again)
    groups = summarise_groups(result.trials)
    document = {**result.document, "result": str(result.folder), "groups": [group.as_json() for group in groups]}
    exact = exactness(result.trials) if opened.spec.exact else []
    if opened.spec.exact:
        document["exact"] = [one.as_json() for one in exact]
    if captions:
        document["images"] = _captions(result)
    present(json_, document, lambda: print_groups(result.folder, groups))
    for line in (
        *(one.line() for one in exact),
        *map(describe, result.mismatches),
        *(failure.line for failure in result.failures),
    ):
        note(line)
    if failed := len(result.failures):
        told = f"{failed} of {len(opened.planned)} trials failed, the others are in {result.folder}"
        raise AiflowError(f"{told}: {again} tries them again")
    if result.defects:
        raise typer.Exit(1)


def _run(opened: Experiment, again: str) -> RunResult:
    """The result. A run that has begun (shown how far it is) and ends early says what failed and how it goes on."""
    from aiflow_cli.trials import run, store

    begun = False
    try:
        with display() as show:

            def shown(step: Step) -> None:
                nonlocal begun
                begun = True
                show("trials", step.done, step.total, words_of(step))

            return run.run_experiment(opened, shown)
    except BaseException:
        with suppress(StoreError):
            if begun:
                for failure in run.failures(store.read_run(opened.folder)):
                    note(failure.line)
                planned = {one.trial.trial for one in opened.planned}  # there may be trials of an earlier spec too
                if kept := sum(trial.trial in planned for trial in store.read_trials(opened.folder)):
                    note(f"{kept} of {len(planned)} trials are in {opened.folder}: {again} goes on there")
        raise


def words_of(step: Step) -> str:
    """The last trial's setting and caption."""
    if (trial := step.trial) is None:
        return ""
    return f"{trial.setting.pair} {trial.setting.words}{' (warm-up)' if trial.warmup else ''}: {trial.caption}"


def _captions(result: RunResult) -> list[dict[str, Any]]:
    """What every setting said of each image."""
    images: dict[str, dict[str, str]] = {}
    for trial in result.measured:
        images.setdefault(trial.image_id, {}).setdefault(trial.setting.label, trial.caption)
    return [{"image_id": image_id, "captions": captions} for image_id, captions in images.items()]


def print_groups(folder: Path, groups: Sequence[Group]) -> None:
    """A table for each pair and link, what its columns mean, why values have no interval, and where the trials are."""
    from aiflow_cli.analysis.metrics import FORMULAS
    from aiflow_cli.trials.store import LINES, TABLE

    for group in groups:
        say(f"pair {group.pair}, {group.link.describe()}")
        print_items(_COLUMNS, group.methods, first_out=_FIRST_OUT)
    summaries = [summary for group in groups for summary in group.methods]
    for what in dict.fromkeys(summary.resampled for summary in summaries if not summary.too_few):
        say(f"Below a value: its 95 % bootstrap interval over {what}.")
    for reason in dict.fromkeys(summary.too_few for summary in summaries if summary.too_few):
        say(f"No intervals: {reason}.")
    say("Speed-ups are ratios of sums against server-only.")
    for name, formula in FORMULAS.items():
        say(f"{name} = {formula}")
    files = [folder / name for name in (LINES, TABLE) if (folder / name).is_file()]
    say(f"trials: {files[0] if files else folder}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: Interval) -> str:
    if not interval.defined:
        return "-"
    value, low, high = map(_number, interval)
    return f"{value}\n{low} - {high}" if interval.known else value


_COLUMNS: dict[str, Callable[[MethodSummary], str]] = {
    "method": lambda s: s.method,
    "gamma": lambda s: "" if s.gamma is None else str(s.gamma),
    "TTFT\nms": lambda s: f"{s.ttft_ms:.1f}",
    "latency\nper token\nms": lambda s: _interval(s.latency_per_token_ms),
    "TPOT\nms": lambda s: _number(s.tpot_ms),
    "decode\nTPOT\nms": lambda s: _interval(s.decode_tpot_ms),
    "tokens\nper\nround": lambda s: _number(s.tokens_per_round),
    "bytes\nper token\nup / down": lambda s: f"{s.bytes_up / s.tokens:.1f} / {s.bytes_down / s.tokens:.1f}",
    "speed-up\nin decode\nTPOT": lambda s: "1" if s.method == "server-only" else _interval(s.speedup),
    "speed-up\nin latency\nper token": lambda s: "1" if s.method == "server-only" else _interval(s.speedup_latency),
    "identical": lambda s: s.identity,
}
_FIRST_OUT = [list(_COLUMNS)[i] for i in (7, 4, 2, 6, 9, 3)]
"""What goes first on a narrow terminal: decode TPOT, its speed-up and `identical` are what a run is for."""
