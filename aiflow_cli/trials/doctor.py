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
from typing import Literal

from aiflow_cli.environment import VARIABLES, mistakes
from aiflow_cli.errors import AiflowError, CheckpointError

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
    for look in (_environment, _packages, _machine, _gpu, _pairs, _photographs, _disk, _hub_cache):
        name = look.__name__.replace("_", " ").strip()
        try:
            yield from look()
        except AiflowError as error:  # a setting in the environment, say, with its remedy in the line
            yield Finding(name, "missing", str(error))
        except (ImportError, OSError, ValueError) as error:  # OSError: a library of a package that does not load
            yield Finding(name, "missing", f"could not be looked at: {error}", "mend what is missing above, then again")


def _judged(name: str, good: bool, detail: str, otherwise: State, remedy: str) -> Finding:
    return Finding(name, "ok", detail) if good else Finding(name, otherwise, detail, remedy)


def _environment() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
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
    others = 0
    for one in sorted(needed, key=lambda one: (one.name not in _SHOWN, one.name)):
        try:
            version = metadata.version(one.name)
            good = one.specifier.contains(version, prereleases=True)
            detail = version if good else f"{version}; needed is {one.specifier}"
        except metadata.PackageNotFoundError:
            good, detail = False, "not installed"
        if good and one.name not in _SHOWN:
            others += 1
        else:
            yield _judged(one.name, good, detail, "missing", f"pip install '{one}'")
    yield Finding("packages", "ok", f"{others} others as needed")


def _machine() -> Iterator[Finding]:
    import psutil

    from aiflow_cli.trials.fingerprint import cpu

    found, memory = cpu(), psutil.virtual_memory()
    cores, flags = found["usable_cores"], found["flags"]
    each = "device and server each on their own" if cores > 1 else "device and server take turns: timings are too long"
    yield _judged("cores", cores > 1, f"{cores}: {each}", "note", "use 2")
    bfloat16 = "" if any("bf16" in flag for flag in flags) else "; no bfloat16, and float32 is the default"
    known = any(flag in _VECTORS for flag in flags)
    detail = f"{found['model']} ({', '.join(flags) or 'no vector instructions known'}{bfloat16})"
    yield Finding("cpu", "ok" if known else "note", detail)
    detail = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    remedy = f"two processes with torch need {MIN_MEMORY_BYTES / 1e9:.0f} GB: end other programs"
    yield _judged("memory", memory.available >= MIN_MEMORY_BYTES, detail, "note", remedy)


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield Finding(f"gpu {index}", "ok", f"{found.name}, {found.total_memory / 1e9:.0f} GB")
    else:
        detail, remedy = "none: the small pair needs none, InternVL2-2B/26B do", "a machine with CUDA"
        if shutil.which("nvidia-smi"):
            detail = f"there may be one, but torch {torch.__version__} cannot use it"
            remedy = "install a CUDA build of torch that fits the driver: pytorch.org"
        yield Finding("gpu", "note", detail, remedy)


def _pairs() -> Iterator[Finding]:
    from aiflow_cli.models.pair import registry

    for name, pair in registry().items():
        if not pair.target.startswith("hub:"):
            troubles = [found for place in (pair.target, pair.draft) if (found := _trouble_with(Path(place)))]
            state: State = "missing" if name == DEFAULT_PAIR else "note"
            detail = "; ".join(troubles) or "in the package"
            yield _judged(f"pair {name}", not troubles, detail, state, "make pair, or install aiflow again")


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
    whole, remedy = count == len(wanted), "aiflow download, or set AIFLOW_DATA to the folder that holds them"
    detail = f"{count if whole else f'{count} of {len(wanted)}'} in {folder}"
    detail = detail if count else f"none in {folder}; rendered scenes are used"
    yield _judged("photographs", whole, detail, "note", remedy)


def _disk() -> Iterator[Finding]:
    here, remedy = Path.cwd(), "free some space, or change to another folder: results go to results/"
    free, writable = shutil.disk_usage(here).free, os.access(here, os.W_OK)
    detail = f"{free / 1e9:.1f} GB free in {here}" if writable else f"{here} cannot be written"
    yield _judged("disk", writable and free >= MIN_FREE_BYTES, detail, "missing", remedy)


def _hub_cache() -> Iterator[Finding]:
    from huggingface_hub import constants

    from aiflow_cli.models.pair import registry
    from aiflow_cli.trials.served import folder_here

    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free
    where = f"{cache} ({free / 1e9:.0f} GB free{', offline mode' if constants.HF_HUB_OFFLINE else ''})"
    pairs = {name: pair for name, pair in registry().items() if pair.target.startswith("hub:")}
    folders = {name: [folder_here(pair, role) for role in ("target", "draft")] for name, pair in pairs.items()}
    here = [name for name, found in folders.items() if all(f and any(f.glob("*.safetensors")) for f in found)]
    away = [name for name in pairs if name not in here]
    if here or not away:
        yield Finding("hub cache", "ok", f"{', '.join(here) or 'nothing needed'} in {where}")
    if away:
        yield Finding("hub cache", "note", f"not in {where}: {', '.join(away)}", f"aiflow pull {away[0]}")
