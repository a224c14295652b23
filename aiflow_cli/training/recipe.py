"""The recipe of the small pair: its numbers and seeds, and where each stage (`training/stages.py`) keeps what it made.

    scenes      40,000 rendered scenes and 1,000 held out           views and labels on disk
    tokenizer   from 6,000 captions
    vision-*    a tower learns what the renderer knows of a patch   target, draft, weak draft
    shallow     the target's language model at 8 layers             from rendered captions
    target      the same at 32 layers, each layer followed by three  from rendered captions
    said        the target's own captions of 4,000 scenes
    untaught    a language model of 4 layers                        from rendered captions
    draft       the same                                            from the target's captions
    weak        a language model of 4 layers                        from rendered captions only

It is made from nothing but this package; all randomness comes from fixed seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

TRAIN_SEED, HELD_OUT_SEED = 1, 2
"""The streams of scenes that models learn from, and on which they are judged."""
VISION_BATCH = 48
SHALLOW_LAYERS = 8
STEPS = {
    "vision-target": 2200,
    "vision-draft": 2400,
    "vision-weak": 600,
    "shallow": 700,
    "target": 600,
    "untaught": 900,
    "draft": 500,
    "weak": 300,
}
"""Optimiser steps of each stage that trains."""


@dataclass(frozen=True)
class Recipe:
    """Where the work is kept, on what it runs, and how much of everything."""

    work: Path
    device: str = "cpu"
    steps: Mapping[str, int] = field(default_factory=STEPS.copy)
    train_scenes: int = 40_000
    held_out_scenes: int = 1_000
    judged_scenes: int = 100
    tokenizer_scenes: int = 6_000
    said_scenes: int = 4_000

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self.work / "tokenizer"

    def weights(self, stage: str) -> Path:
        """The weights that a stage left."""
        return self.work / f"{stage}.safetensors"

    def done_file(self, stage: str) -> Path:
        """Written when a stage is complete."""
        return self.work / f"{stage}.done"

    def note(self, stage: str, document: object, indent: int | None = 2) -> None:
        """Keep what a stage has to say of itself, as JSON."""
        (self.work / f"{stage}.json").write_text(json.dumps(document, indent=indent) + "\n")

    def noted(self, stage: str) -> Any:
        """What a stage has said of itself."""
        return json.loads((self.work / f"{stage}.json").read_text())


class Progress(NamedTuple):
    """How far a stage is."""

    stage: str
    done: int
    total: int
    note: str
