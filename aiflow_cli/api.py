"""aiflow from Python: run experiments, and have their results as data frames. The README has an example."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import pandas as pd

from aiflow_cli.analysis import result as results
from aiflow_cli.analysis.claims import claims_table
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.summary import summarise_groups
from aiflow_cli.errors import AiflowError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.models.pair import registry as pairs
from aiflow_cli.trials import tables
from aiflow_cli.trials.spec import ExperimentSpec as Experiment
from aiflow_cli.trials.specfile import load_spec
from aiflow_cli.trials.specfile import shipped as experiments
from aiflow_cli.world.record import Round, Trial

__all__ = ["AiflowError", "Experiment", "PairSpec", "Result", "Round", "Trial"]
__all__ += ["experiment", "experiments", "load", "pairs", "run"]


class Result:
    """The result in a folder: `document`, what its run.json tells; `records`, its measured trials (warm-ups left out);
    and both as data frames, whose columns results/README.md has. Raises StoreError where no trial was measured.
    """

    def __init__(self, folder: Path) -> None:
        self._study = Study(results.load(folder))
        self.folder, self.document, self.records = folder, self._study.result.document, self._study.result.trials

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial."""
        return self._tables[tables.TRIALS]

    @property
    def rounds(self) -> pd.DataFrame:
        """A row a round, with its trial's setting."""
        return self._tables[tables.ROUNDS]

    @cached_property
    def points(self) -> pd.DataFrame:
        """A row for each pair, link, method and draft length: metrics, speed-ups against server-only, and their
        intervals.
        """
        groups = summarise_groups(self.records)
        told = [{"pair": g.pair, **asdict(g.link), **method.as_json()} for g in groups for method in g.methods]
        return pd.json_normalize(told, sep="_")

    @cached_property
    def claims(self) -> pd.DataFrame:
        """The paper's claims beside what was measured. Raises UsageError, StoreError where the trials cannot tell."""
        return pd.DataFrame([finding.as_json() for finding in claims_table(self._study)])

    def plot(self, folder: Path | str | None = None, only: Sequence[str] = ()) -> list[Path]:
        """Draw the figures into `folder` (by default the result's own `figures`); the files."""
        from aiflow_cli.analysis.figures.plotting import plot

        return plot(self._study.result, Path(folder) if folder else None, only).paths

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {name: pd.read_parquet(io.BytesIO(data)) for name, data in tables.of_trials(self.records).items()}


def load(place: Path | str) -> Result:
    """The result in a folder, or the one of that name in results/. Raises UsageError, StoreError."""
    return Result(results.find(str(place)))


def experiment(place: str, *overrides: str) -> Experiment:
    """The experiment in a TOML file, or the shipped one of that name; `link.rate=2MB/s` overrides a key. Raises
    UsageError.
    """
    return load_spec(place, overrides)


def run(spec: Experiment, output: Path | str | None = None, show: Callable[[int, int], None] | None = None) -> Result:
    """Make what an experiment lacks, live, in `output` (by default results/NAME-HASH), and give the whole result.

    `show` is told of trials done and of all. Finished trials stay, whatever is raised; failed ones are in run.json.
    Raises what the commands tell in one line: AiflowError.
    """
    from aiflow_cli.trials.experiment import open_experiment
    from aiflow_cli.trials.run import run_experiment

    opened = open_experiment(spec, Path(output) if output is not None else None)
    return Result(run_experiment(opened, lambda step: show(step.done, step.total) if show else None).folder)
