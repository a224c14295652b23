"""aiflow from Python: run experiments, and have their results as data frames.

from aiflow_cli import api

spec = api.Experiment(name="mine", about="gamma 4 and 8", pairs="small", gammas=[4, 8], images=12)
result = api.run(spec, "results/mine")
result.rounds.groupby("gamma")["accepted"].mean()
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_cli.errors import AiflowError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.models.pair import registry as pairs
from aiflow_cli.trials.spec import ExperimentSpec as Experiment
from aiflow_cli.trials.specfile import load_spec
from aiflow_cli.trials.specfile import shipped as experiments
from aiflow_cli.world.record import Round, Trial

if TYPE_CHECKING:
    from pandas import DataFrame

    from aiflow_cli.analysis.study import Study

__all__ = [
    "AiflowError",
    "Experiment",
    "PairSpec",
    "Result",
    "Round",
    "Trial",
    "experiment",
    "experiments",
    "load",
    "pairs",
    "run",
]


@dataclass(frozen=True)
class Result:
    """A result: what its run.json tells, and its measured trials (warm-ups left out). Results/README.md has the
    columns.
    """

    folder: Path
    document: Mapping[str, Any]
    records: tuple[Trial, ...]

    @cached_property
    def trials(self) -> DataFrame:
        """A row a trial."""
        return self._tables["trials.parquet"]

    @cached_property
    def rounds(self) -> DataFrame:
        """A row a round, with its trial's setting."""
        return self._tables["rounds.parquet"]

    @cached_property
    def points(self) -> DataFrame:
        """A row for each pair, link, method and draft length: metrics, speed-ups against server-only, and their
        intervals.
        """
        import pandas as pd

        from aiflow_cli.analysis.summary import summarise_groups

        groups = summarise_groups(self.records)
        rows = [
            {"pair": group.pair, **asdict(group.link), **method.as_json()}
            for group in groups
            for method in group.methods
        ]
        return pd.json_normalize(rows, sep="_")

    @cached_property
    def claims(self) -> DataFrame:
        """The paper's claims beside what was measured. Raises UsageError, StoreError where the trials cannot tell."""
        import pandas as pd

        from aiflow_cli.analysis.claims import claims_table

        return pd.DataFrame([finding.as_json() for finding in claims_table(self._study)])

    def plot(self, folder: Path | str | None = None, only: Sequence[str] = ()) -> list[Path]:
        """Draw the figures into `folder` (by default the result's own `figures`); the files."""
        from aiflow_cli.analysis.figures.plotting import plot

        return plot(self._study.result, Path(folder) if folder else None, only).paths

    @cached_property
    def _study(self) -> Study:
        from aiflow_cli.analysis.result import load as loaded
        from aiflow_cli.analysis.study import Study

        return Study(loaded(self.folder))

    @cached_property
    def _tables(self) -> dict[str, DataFrame]:
        import pandas as pd

        from aiflow_cli.trials.tables import of_trials

        return {name: pd.read_parquet(io.BytesIO(data)) for name, data in of_trials(self.records).items()}


def load(place: Path | str) -> Result:
    """The result in a folder, or the one of that name in results/. Raises UsageError, StoreError."""
    from aiflow_cli.analysis.result import find
    from aiflow_cli.analysis.result import load as loaded

    result = loaded(find(str(place)))
    return Result(result.folder, result.document, tuple(result.trials))


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
    from aiflow_cli.trials.run import Step, run_experiment

    def tell(step: Step) -> None:
        if show is not None:
            show(step.done, step.total)

    opened = open_experiment(spec, Path(output) if output is not None else None)
    result = run_experiment(opened, tell)
    return Result(result.folder, result.document, tuple(result.measured))
