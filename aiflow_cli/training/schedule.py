"""The stages of the recipe in the order of their needs, side by side in processes of one thread each.

A stage that is done is skipped; language stages also go on from the last judging.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import torch

from aiflow_cli.node.process import die_with_parent, environment
from aiflow_cli.training.recipe import Progress, Recipe
from aiflow_cli.training.stages import STAGES


def run_recipe(recipe: Recipe, workers: int, show: Callable[[Progress], None]) -> None:
    """Run all stages that are not done, up to `workers` side by side, calling `show` with their progress."""
    recipe.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment())  # which the workers inherit
    context = multiprocessing.get_context("spawn")
    silent = (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the workers too: they end without a word
    pools = ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=silent)
    with context.Manager() as manager, pools as pool:
        messages = manager.Queue()
        running: dict[Future[None], str] = {}
        waiting = [stage for stage in STAGES if not recipe.done_file(stage).exists()]
        while waiting or running:
            for stage in [stage for stage in waiting if _ready(recipe, stage)][: workers - len(running)]:
                waiting.remove(stage)
                running[pool.submit(_run_stage, recipe, stage, messages)] = stage
            finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(messages, show)
            for future in finished:
                future.result()
                recipe.done_file(running.pop(future)).write_text(f"{time.time():.0f}\n")


def _ready(recipe: Recipe, stage: str) -> bool:
    return all(recipe.done_file(needed).exists() for needed in STAGES[stage].needs)


def _drain(messages: Any, show: Callable[[Progress], None]) -> None:
    while True:
        try:
            show(messages.get_nowait())
        except queue.Empty:
            return


def _run_stage(recipe: Recipe, stage: str, messages: Any) -> None:
    die_with_parent(os.getppid())
    torch.set_num_threads(1)
    STAGES[stage].run(recipe, lambda done, total, note: messages.put(Progress(stage, done, total, note)))
