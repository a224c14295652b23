"""What this machine has, what is missing, and the command that mends it.

Nothing but the standard library is imported before it has been looked at: a doctor who falls ill of a missing package
helps nobody.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aiflow_cli.environment import VARIABLES, mistakes
from aiflow_cli.errors import AiflowError, CheckpointError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from aiflow_cli.models.pair import PairSpec

MIN_FREE_BYTES = 500_000_000
MIN_MEMORY_BYTES = 2_000_000_000
DEFAULT_PAIR = "small"
_SHOWN = ("torch", "transformers", "datasets")
_VECTORS = ("avx2", "avx512f", "asimd", "sve")


State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing`: a default run cannot do without; `note`: it can, and says what is lost."""

    name: str
    state: State
    detail: str
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """Every finding, cheap ones first."""
    for look in _LOOKS:
        name = look.__name__.replace("_", " ").strip()
        try:
            yield from look()
        except AiflowError as error:  # a setting in the environment, say, with its remedy in the line
            yield Finding(name, "missing", str(error))
        except (ImportError, OSError, ValueError) as error:  # OSError: a library of a package that does not load
            yield Finding(name, "missing", f"could not be looked at: {error}", "mend what is missing above, then again")


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _environment() -> Iterator[Finding]:
    found = mistakes()
    for name, mistake in found.items():
        yield Finding(name, "missing", mistake, f"unset {name}, or set it to what it may be")
    if not found:
        names = ", ".join(variable.name for variable in VARIABLES if variable.text)
        yield Finding("environment", "ok", f"set: {names}" if names else "none of its variables is set")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in metadata.requires("aiflow-cli") or ()]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "note", "aiflow-cli is not installed: what it needs is not known", "pip install .")
        return
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]  # no extras
    found = [_package(one) for one in sorted(needed, key=lambda one: (one.name not in _SHOWN, one.name))]
    told = [one for one in found if one.state == "missing" or one.name in _SHOWN]
    yield from told
    yield Finding("packages", "ok", f"{len(found) - len(told)} others as needed")


def _package(wanted: Requirement) -> Finding:
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Finding(wanted.name, "missing", "not installed", f"pip install '{wanted}'")
    if wanted.specifier.contains(version, prereleases=True):
        return Finding(wanted.name, "ok", version)
    return Finding(wanted.name, "missing", f"{version}; needed is {wanted.specifier}", f"pip install '{wanted}'")


def _memory() -> Iterator[Finding]:
    import psutil

    found = psutil.virtual_memory()
    detail = f"{found.available / 1e9:.1f} of {found.total / 1e9:.1f} GB free"
    if found.available < MIN_MEMORY_BYTES:
        yield Finding("memory", "note", f"{detail}: little for two processes with torch", "end other programs")
    else:
        yield Finding("memory", "ok", detail)


def _cpu() -> Iterator[Finding]:
    from aiflow_cli.trials.provenance import cpu

    found = cpu()
    if (cores := found["usable_cores"]) < 2:
        yield Finding("cores", "note", f"{cores}: device and server take turns, so timings are too long", "use 2")
    else:
        yield Finding("cores", "ok", f"{cores}: device and server each on their own")
    flags = ", ".join(found["flags"]) or "no vector instructions known"
    bfloat16 = "" if any("bf16" in flag for flag in found["flags"]) else "; no bfloat16, and float32 is the default"
    known = any(flag in _VECTORS for flag in found["flags"])
    yield Finding("cpu", "ok" if known else "note", f"{found['model']} ({flags}{bfloat16})")


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield Finding(f"gpu {index}", "ok", f"{found.name}, {found.total_memory / 1e9:.0f} GB")
    elif shutil.which("nvidia-smi"):
        detail = f"there may be one, but torch {torch.__version__} cannot use it"
        yield Finding("gpu", "note", detail, "install a CUDA build of torch that fits the driver: pytorch.org")
    else:
        yield Finding("gpu", "note", "none: the small pair needs none, InternVL2-2B/26B do", "a machine with CUDA")


def _pairs() -> Iterator[Finding]:
    from aiflow_cli.models.pair import registry

    for name, pair in registry().items():
        if pair.target.startswith("hub:"):
            continue
        if troubles := [found for place in (pair.target, pair.draft) if (found := _trouble_with(Path(place)))]:
            state: State = "missing" if name == DEFAULT_PAIR else "note"
            yield Finding(f"pair {name}", state, "; ".join(troubles), "make pair, or install aiflow again")
        else:
            yield Finding(f"pair {name}", "ok", "in the package")


def _trouble_with(checkpoint: Path) -> str | None:
    """Why a checkpoint of the package cannot be loaded, as far as its files' heads tell."""
    from safetensors import SafetensorError, safe_open

    from aiflow_cli.models.files import find_weights

    if lacking := [name for name in ("config.json", "tokenizer.model") if not (checkpoint / name).is_file()]:
        return f"no {' and '.join(lacking)} in {checkpoint}"
    try:
        for file in find_weights(checkpoint).files:
            with safe_open(file, "np"):
                pass
    except (CheckpointError, SafetensorError, OSError) as error:
        return f"the weights in {checkpoint} cannot be read ({error})"
    return None


def _photographs() -> Iterator[Finding]:
    from aiflow_cli.images.vehicles import data_folder, manifest

    folder, wanted = data_folder(), manifest()
    count = sum((folder / f"{image_id}.jpg").is_file() for image_id in wanted)
    if count == len(wanted):
        yield Finding("photographs", "ok", f"{count} in {folder}")
    elif count:
        yield Finding("photographs", "note", f"{count} of {len(wanted)} in {folder}", "aiflow download")
    else:
        remedy = "aiflow download, or set AIFLOW_DATA to the folder that holds them"
        yield Finding("photographs", "note", f"none in {folder}; rendered scenes are used", remedy)


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    detail = f"{free / 1e9:.1f} GB free in {here}"
    if not os.access(here, os.W_OK):
        yield Finding("disk", "missing", f"{here} cannot be written, where results/ goes", "change to another folder")
    elif free < MIN_FREE_BYTES:
        yield Finding("disk", "missing", detail, "free some space: results go to results/")
    else:
        yield Finding("disk", "ok", detail)


def _hub_cache() -> Iterator[Finding]:
    from huggingface_hub import constants

    from aiflow_cli.models.pair import registry

    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free
    where = f"{cache} ({free / 1e9:.0f} GB free{', offline mode' if constants.HF_HUB_OFFLINE else ''})"
    pairs = {name: pair for name, pair in registry().items() if pair.target.startswith("hub:")}
    here = [name for name, pair in pairs.items() if _has_weights(pair)]
    away = [name for name in pairs if name not in here]
    if here or not away:
        yield Finding("hub cache", "ok", f"{', '.join(here) or 'nothing needed'} in {where}")
    if away:
        yield Finding("hub cache", "note", f"not in {where}: {', '.join(away)}", f"aiflow pull {away[0]}")


def _has_weights(pair: PairSpec) -> bool:
    try:
        return all(any(pair.folder(role).glob("*.safetensors")) for role in ("target", "draft"))
    except AiflowError:
        return False


_LOOKS = (_python, _environment, _packages, _cpu, _memory, _gpu, _pairs, _photographs, _disk, _hub_cache)
