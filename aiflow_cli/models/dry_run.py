"""What a pair would take, without its weights: parameters, bytes, cache, and whether it fits. On meta tensors.

Configurations of known models ship with the registry (`pairs/configs/`), so nothing is fetched. Those of the 2B, 8B and
26B give the parameter counts of the released models exactly; those of the 1B, 4B, 40B and 76B are from memory, for
planning alone.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import PrerequisiteError
from aiflow_cli.models.config import build_config, read_config
from aiflow_cli.models.conversion import head_width, model_class
from aiflow_cli.models.hub import Repository, cached_folder
from aiflow_cli.models.internvl2 import DTYPES, meta_model
from aiflow_cli.models.pair import PAIRS_FOLDER, PairSpec
from aiflow_cli.models.preprocessing import Tiling
from aiflow_cli.models.quantize import KINDS, quantised_bytes
from aiflow_cli.models.quiet import quiet_transformers

CONFIGS_FOLDER = PAIRS_FOLDER / "configs"
QUESTION_TOKENS = 128
"""Assumption: positions that system message and question take at most."""
WORKING_BYTES = 1_000_000_000
"""Assumption: what a GPU needs beside weights and cache: activations of 13 tiles, workspaces, the driver's context."""
FORMS = ("float32", "bfloat16", *KINDS)
"""Forms of weights that are told: dtypes, then quantised with the rest in bfloat16."""


@dataclass(frozen=True)
class ModelPlan:
    """One model: where its configuration is from, sizes in weights and bytes, and its cache."""

    role: str
    name: str
    source: str
    parameters: int
    vision_parameters: int
    weight_bytes: dict[str, int]
    kv_bytes_per_token: dict[str, int]
    """By dtype of the cache."""
    longest: int
    """Positions of the longest prompt with its answer."""

    def kv_bytes(self, form: str) -> int:
        """Cache of the longest response."""
        return self.longest * self.kv_bytes_per_token["float32" if form == "float32" else "bfloat16"]

    def needed_bytes(self, form: str) -> int:
        """Weights and the longest response's cache."""
        return self.weight_bytes[form] + self.kv_bytes(form)


@dataclass(frozen=True)
class Place:
    """A memory that could hold models: "cpu", "cuda:0" and so on."""

    name: str
    about: str
    memory_bytes: int
    free_bytes: int

    @property
    def room_bytes(self) -> int:
        """What models can have of it."""
        return self.free_bytes - (WORKING_BYTES if self.name != "cpu" else 0)


@dataclass(frozen=True)
class Fit:
    """Whether something fits somewhere; `devices` says what each would hold."""

    what: str
    form: str
    where: str
    needed_bytes: int
    fits: bool
    devices: dict[str, int]


@dataclass(frozen=True)
class PairPlan:
    """A pair: its models, this machine's memories, and what fits where."""

    pair: str
    draft: ModelPlan
    target: ModelPlan
    places: tuple[Place, ...]
    fits: tuple[Fit, ...]

    def as_json(self) -> dict[str, Any]:
        """One JSON document."""
        return {"schema_version": 1} | asdict(self)


def plan_pair(spec: PairSpec, places: Sequence[Place] | None = None) -> PairPlan:
    """What `spec` takes and whether it fits into `places` (this machine's, unless given). Nothing is fetched or read.

    Raises PrerequisiteError for a model whose configuration is not here, CheckpointError for one that cannot be built.
    """
    here = tuple(places if places is not None else _this_machine())
    (draft, _), (target, target_model) = _planned(spec, "draft"), _planned(spec, "target")
    fits = []
    for place in here:
        for form in FORMS if place.name != "cpu" else FORMS[:2]:
            for what, models in {"draft": (draft,), "target": (target,), "both": (draft, target)}.items():
                needed = sum(model.needed_bytes(form) for model in models)
                fits.append(Fit(what, form, place.name, needed, needed <= place.room_bytes, {place.name: needed}))
    gpus = [place for place in here if place.name != "cpu"]
    if len(gpus) > 1:
        fits.append(_spread(target, target_model, gpus))
    return PairPlan(spec.name, draft, target, here, tuple(fits))


def _this_machine() -> list[Place]:
    """The host's memory, then every GPU's."""
    memory = psutil.virtual_memory()
    places = [Place("cpu", "memory of this machine", memory.total, memory.available)]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        places.append(Place(f"cuda:{index}", torch.cuda.get_device_name(index), total, free))
    return places


def shipped_config(repository: Repository) -> Path | None:
    """The configuration that ships for a repository of OpenGVLab."""
    owner, name = repository.id.split("/")
    path = CONFIGS_FOLDER / f"{name}.json"
    return path if owner == "OpenGVLab" and path.is_file() else None


def _config(spec: PairSpec, role: str) -> tuple[dict[str, Any], str]:
    """The config.json of a model, and where it is from."""
    repository = spec.repository(role)
    if folder := cached_folder(repository) if repository else spec.folder(role):
        return read_config(folder), str(folder)
    if repository and (shipped := shipped_config(repository)):
        return json.loads(shipped.read_text(encoding="utf-8")), f"ships with aiflow ({shipped.name})"
    said = f"the configuration of {repository} is not on this machine"
    raise PrerequisiteError(f"{said}: fetch it with `aiflow pull {repository}`")


def _planned(spec: PairSpec, role: str) -> tuple[ModelPlan, InternVLForConditionalGeneration]:
    config, source = _config(spec, role)
    with quiet_transformers():
        model = meta_model(model_class(config), build_config(config))
    text = model.config.get_text_config()
    kv_values = 2 * text.num_hidden_layers * text.num_key_value_heads * head_width(text)
    parameters = model.num_parameters()
    plain = {form: DTYPES[form].itemsize for form in FORMS if form in DTYPES}
    quantised = {kind: quantised_bytes(model, kind, torch.bfloat16.itemsize) for kind in KINDS}
    image_tokens = model.config.image_seq_length * Tiling.from_config(config).most
    plan = ModelPlan(
        role=role,
        name=spec.place(role).rpartition("/")[2],
        source=source,
        parameters=parameters,
        vision_parameters=model.model.vision_tower.num_parameters(),
        weight_bytes={form: parameters * size for form, size in plain.items()} | quantised,
        kv_bytes_per_token={form: kv_values * size for form, size in plain.items()},
        longest=image_tokens + QUESTION_TOKENS + spec.max_new_tokens,
    )
    return plan, model


def _spread(target: ModelPlan, model: InternVLForConditionalGeneration, gpus: Sequence[Place]) -> Fit:
    """The target in bfloat16, cut over several GPUs as `--device auto` does it; the cache follows its layers."""
    needed = target.needed_bytes("bfloat16")
    share = 1 - target.kv_bytes("bfloat16") / needed
    held = spread_bytes(model, {i: int(max(0, gpu.room_bytes) * share) for i, gpu in enumerate(gpus)})
    devices = {gpu.name: held[i] for i, gpu in enumerate(gpus)}
    return Fit("target", "bfloat16", "+".join(devices), needed, not held["rest"], devices)


def spread_bytes(model: InternVLForConditionalGeneration, limits: Mapping[int | str, int]) -> Counter[int | str]:
    """Bytes of bfloat16 weights that accelerate's map puts on each device; what fits on none is "rest"."""
    from accelerate import infer_auto_device_map

    logger = logging.getLogger("accelerate.utils.modeling")
    level, logger.level = logger.level, logging.ERROR  # it warns of GPUs that are only planned
    try:
        memory, whole = {**limits, "cpu": 1 << 60}, list(model._no_split_modules)
        places = infer_auto_device_map(model, memory, no_split_module_classes=whole, dtype=torch.bfloat16)
    finally:
        logger.level = level
    held = Counter[int | str]()
    for name, device in places.items():
        weights = sum(parameter.numel() for parameter in model.get_submodule(name).parameters())
        held[device if device in limits else "rest"] += weights * torch.bfloat16.itemsize
    return held
