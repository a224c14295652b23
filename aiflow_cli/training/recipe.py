"""The recipe of the small pair, from nothing but this repository: stages, their order, and what each leaves behind.

    scenes      40,000 rendered scenes and 1,000 held out           views and labels on disk
    tokenizer   from 6,000 captions
    vision-*    a tower learns what the renderer knows of a patch   target, draft, weak draft
    shallow     the target's language model at 8 layers             from rendered captions
    target      the same at 32 layers, each layer followed by three  from rendered captions
    said        the target's own captions of 4,000 scenes
    draft       a language model of 4 layers                        from rendered captions, then the target's
    weak        a language model of 4 layers                        from rendered captions only

Each stage keeps its result in the work folder and is skipped when that is there; language stages also go on from the last judging. Stages
that do not need each other run side by side, one thread each. All randomness comes from fixed seeds.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_cli.node.process import environment

TRAIN_SEED, HELD_OUT_SEED = 1, 2
TRAIN_SCENES, HELD_OUT_SCENES, TOKENIZER_SCENES, SAID_SCENES = 40_000, 1_000, 6_000, 4_000
SHALLOW_LAYERS = 8


@dataclass(frozen=True)
class Recipe:
    """Where the work is kept, on what it runs, and how many optimiser steps each stage takes."""

    work: Path
    device: str = "cpu"
    vision_target_steps: int = 2200
    vision_draft_steps: int = 2400
    vision_weak_steps: int = 600
    shallow_steps: int = 700
    target_steps: int = 600
    untaught_steps: int = 900
    draft_steps: int = 500
    weak_steps: int = 300


STAGES: dict[str, tuple[str, ...]] = {
    "scenes": (),
    "tokenizer": (),
    "vision-target": ("scenes",),
    "vision-draft": ("scenes",),
    "vision-weak": ("scenes",),
    "shallow": ("vision-target", "tokenizer"),
    "untaught": ("vision-draft", "tokenizer"),
    "weak": ("vision-weak", "tokenizer"),
    "target": ("shallow",),
    "said": ("target",),
    "draft": ("said", "untaught"),
}
"""Stage -> the stages it needs, in the order in which they start where there is a choice."""


class Progress(NamedTuple):
    """How far a stage is."""

    stage: str
    done: int
    total: int
    note: str


def done_file(recipe: Recipe, stage: str) -> Path:
    """Written when a stage is complete."""
    return recipe.work / f"{stage}.done"


def run_recipe(recipe: Recipe, workers: int, show: Callable[[Progress], None]) -> None:
    """Run all stages that are not done, up to `workers` side by side, calling `show` with their progress."""
    recipe.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment())  # which the workers inherit
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        messages = manager.Queue()
        running: dict[Future[None], str] = {}
        waiting = [stage for stage in STAGES if not done_file(recipe, stage).exists()]
        while waiting or running:
            for stage in [stage for stage in waiting if _ready(recipe, stage)][: workers - len(running)]:
                waiting.remove(stage)
                running[pool.submit(run_stage, recipe, stage, messages)] = stage
            finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(messages, show)
            for future in finished:
                future.result()
                done_file(recipe, running.pop(future)).write_text(f"{time.time():.0f}\n")


def _ready(recipe: Recipe, stage: str) -> bool:
    return all(done_file(recipe, needed).exists() for needed in STAGES[stage])


def _drain(messages: Any, show: Callable[[Progress], None]) -> None:
    while True:
        try:
            show(Progress(*messages.get_nowait()))
        except queue.Empty:
            return


def run_stage(recipe: Recipe, stage: str, messages: Any) -> None:
    """Run one stage in this process, with one thread; `messages` takes its Progress."""
    import torch

    from aiflow_cli.node.process import die_with_parent
    from aiflow_cli.training.stages import STAGE_FUNCTIONS

    die_with_parent(os.getppid())
    torch.set_num_threads(1)
    STAGE_FUNCTIONS[stage](recipe, lambda done, total, note: messages.put((stage, done, total, note)))


def forget(recipe: Recipe, stages: Iterable[str]) -> None:
    """Have these stages, and all that build on them, run again."""
    gone = set(stages)
    for stage, needed in STAGES.items():
        if stage in gone or gone & set(needed):
            gone.add(stage)
            for path in (done_file(recipe, stage), recipe.work / f"{stage}.checkpoint.pt"):
                path.unlink(missing_ok=True)
