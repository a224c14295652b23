"""Made-up results that several tests read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiflow_cli.analysis.report import Written, write_report
from aiflow_cli.analysis.result import Result, load
from tests.analysis.records import FakePair, FakeSweep, write_result

FEW_GAMMAS = (1, 2, 4, 8, 16, 28)
PAPER = FakePair("small-weak")


@pytest.fixture(scope="session")
def figure6(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Two pairs over one link, all four methods."""
    sweep = FakeSweep(images=12, gammas=FEW_GAMMAS)
    return load(write_result(tmp_path_factory.mktemp("fake") / "figure6-1a2b", sweep))


@pytest.fixture(scope="session")
def reported(figure6: Result, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Its report, with all its figures."""
    return write_report(figure6, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def delays(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One pair over three delays."""
    sweep = FakeSweep(pairs=(PAPER,), images=10, gammas=FEW_GAMMAS, delays=(0.0, 0.005, 0.02), co_located=(4,))
    return load(write_result(tmp_path_factory.mktemp("fake") / "delay", sweep))


@pytest.fixture(scope="session")
def one_gamma(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What `aiflow run` makes by default."""
    sweep = FakeSweep(pairs=(PAPER,), images=12, gammas=(4,), co_located=(), on_device=False)
    return load(write_result(tmp_path_factory.mktemp("fake") / "run", sweep))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Result]:
    """Write a sweep, with other values for some fields, and load it. `gpu` goes into its provenance."""

    def result(sweep: FakeSweep, gpu: dict[str, str] | None = None, **changes: Any) -> Result:
        written = load(write_result(tmp_path / "result", replace(sweep, **changes)))
        written.document["provenance"]["gpu"] = gpu
        return written

    return result
