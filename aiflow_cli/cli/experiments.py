"""How `aiflow run` and `aiflow sweep` run an experiment, and how they show what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aiflow_cli.cli.output import note, print_json, print_table, say

if TYPE_CHECKING:
    from aiflow_cli.analysis.intervals import Interval
    from aiflow_cli.analysis.summary import Group, MethodSummary
    from aiflow_cli.trials.experiment import Experiment
    from aiflow_cli.trials.run import RunResult

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
_FIRST_OUT = [_COLUMNS[i] for i in (7, 4, 2, 6, 9, 3)]
"""What goes first on a narrow terminal: decode TPOT, its speed-up and `identical` are what a run is for."""


def conduct(opened: Experiment, again: str, json_: bool, captions: bool = False) -> None:
    """Run an experiment and show its result; `again` is the command that goes on with it. Ends with exit code 1 if an
    output is wrong. Raises what starting raises, and AiflowError if trials have failed.
    """
    from aiflow_cli.analysis.summary import summarise_groups
    from aiflow_cli.cli.errors import unwind_on_sigterm
    from aiflow_cli.cli.reading import note_torn
    from aiflow_cli.errors import AiflowError

    unwind_on_sigterm()
    if opened.images.note:
        note(opened.images.note)
    note_torn(opened.folder)
    result = _run(opened, again)
    groups = summarise_groups(result.trials)
    if json_:
        print_json(document(result, groups, captions))
    else:
        print_groups(result.folder, groups)
    for line in _notes(result):
        note(line)
    if failed := len(result.failures):
        told = f"{failed} of {len(opened.planned)} trials failed, the others are in {result.folder}"
        raise AiflowError(f"{told}: {again} tries them again")
    if result.defects:
        raise typer.Exit(1)


def _run(opened: Experiment, again: str) -> RunResult:
    """The result. A run that has begun and ends early says what failed, how far it came and how it goes on; it has
    begun when it first shows how far it is.
    """
    from aiflow_cli.cli.progress import trials_progress
    from aiflow_cli.trials.run import Step, run_experiment

    begun: set[bool] = set()
    try:
        with trials_progress() as show:

            def shown(step: Step) -> None:
                begun.add(True)
                show(step)

            return run_experiment(opened, shown)
    except BaseException:
        for line in _left(opened, again) if begun else ():
            note(line)
        raise


def _notes(result: RunResult) -> Iterator[str]:
    """What `--exact` did, a line for every output that is not server-only's, and one for every trial that failed."""
    from aiflow_cli.trials.exactness import exactness
    from aiflow_cli.trials.identity import describe

    if result.document["spec"]["exact"]:
        yield from (one.line() for one in exactness(result.trials))
    yield from map(describe, result.mismatches)
    yield from (failure.line for failure in result.failures)


def _left(opened: Experiment, again: str) -> Iterator[str]:
    """What a run leaves that ends early. A folder may hold trials of an earlier spec too: only planned ones count."""
    from aiflow_cli.errors import StoreError
    from aiflow_cli.trials.run import failures
    from aiflow_cli.trials.store import read_run, read_trials

    with suppress(StoreError):
        yield from (failure.line for failure in failures(read_run(opened.folder)))
        planned = {one.trial.trial for one in opened.planned}
        if kept := sum(trial.trial in planned for trial in read_trials(opened.folder)):
            yield f"{kept} of {len(planned)} trials are in {opened.folder}: {again} goes on there"


def document(result: RunResult, groups: Sequence[Group], captions: bool = False) -> dict[str, Any]:
    """The document of `--json`; `captions`: with what every setting said of each image."""
    from aiflow_cli.trials.exactness import exactness

    told = {**result.document, "result": str(result.folder), "groups": [group.as_json() for group in groups]}
    if result.document["spec"]["exact"]:
        told["exact"] = [one.as_json() for one in exactness(result.trials)]
    return told | ({"images": _captions(result)} if captions else {})


def _captions(result: RunResult) -> list[dict[str, Any]]:
    images: dict[str, dict[str, str]] = {}
    for trial in result.measured:
        images.setdefault(trial.image_id, {}).setdefault(trial.setting.label, trial.caption)
    return [{"image_id": image_id, "captions": captions} for image_id, captions in images.items()]


def print_groups(folder: Path, groups: Sequence[Group]) -> None:
    """A table for each pair and link, what its columns mean, why values have no interval if they have none, and where
    the trials are.
    """
    from aiflow_cli.analysis.metrics import FORMULAS

    for group in groups:
        say(f"pair {group.pair}, {group.link.describe()}")
        print_table(_COLUMNS, [_row(summary) for summary in group.methods], first_out=_FIRST_OUT)
    summaries = [summary for group in groups for summary in group.methods]
    for what in dict.fromkeys(summary.resampled for summary in summaries if not summary.too_few):
        say(f"Below a value: its 95 % bootstrap interval over {what}.")
    for reason in dict.fromkeys(summary.too_few for summary in summaries if summary.too_few):
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
        s.identity,
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: Interval, digits: int) -> str:
    if not interval.defined:
        return "-"
    value, low, high = (f"{x:.{digits}f}" for x in interval)
    return f"{value}\n{low} - {high}" if interval.known else value
