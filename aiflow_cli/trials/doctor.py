"""What this machine has, what is missing, and the command that mends it.

Nothing but the standard library is imported before it has been looked at: a doctor who falls ill of a missing package
helps nobody.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aiflow_cli.errors import AiflowError, CheckpointError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from aiflow_cli.models.pair import PairSpec

MIN_FREE_BYTES = 500_000_000
MIN_MEMORY_BYTES = 2_000_000_000
DEFAULT_PAIR = "small"
_SHOWN = ("torch", "transformers", "datasets")
_VECTORS = ("avx2", "avx512f", "asimd", "sve")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing`: a default run cannot do without; `note`: it can, and says what is lost."""

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """Every finding, cheap ones first."""
    yield _python()
    yield from _guarded("packages", _packages)
    yield from _guarded("cores", _cores)
    yield from _guarded("memory", _memory)
    yield from _guarded("cpu", _instructions)
    yield from _guarded("gpu", _gpus)
    yield from _guarded("pairs", _packaged_pairs)
    yield from _guarded("photographs", _photographs)
    yield from _guarded("disk", _disk)
    yield from _guarded("hub cache", _hub_cache)


def _guarded(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except AiflowError as error:  # a setting in the environment, say, with its remedy in the line
        yield Finding(name, "missing", str(error))
    except (ImportError, OSError) as error:  # OSError: a library of a package that does not load
        yield Finding(name, "missing", f"could not be looked at: {error}", "install what is missing above, or again")


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    wanted = _requirements()
    if wanted is None:
        yield Finding("packages", "note", "aiflow-cli is not installed: what it needs is not known", "pip install .")
        return
    good = 0
    for requirement in sorted(wanted, key=lambda r: (r.name not in _SHOWN, r.name)):
        version = _version(requirement.name)
        remedy = f"pip install '{requirement}'"
        if version is None:
            yield Finding(requirement.name, "missing", "not installed", remedy)
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Finding(requirement.name, "missing", f"{version}; needed is {requirement.specifier}", remedy)
        elif requirement.name in _SHOWN:
            yield Finding(requirement.name, "ok", version)
        else:
            good += 1
    yield Finding("packages", "ok", f"{good} others as needed")


def _requirements() -> list[Requirement] | None:
    """What the installed aiflow-cli asks for, extras aside."""
    from packaging.requirements import Requirement

    try:
        found = [Requirement(line) for line in metadata.requires("aiflow-cli") or ()]
    except metadata.PackageNotFoundError:
        return None
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> Iterator[Finding]:
    from aiflow_cli.trials.provenance import usable_cores

    cores = usable_cores()
    if cores < 2:
        yield Finding("cores", "note", f"{cores}: device and server take turns, so timings are too long", "use 2")
    else:
        yield Finding("cores", "ok", f"{cores}: device and server each on their own")


def _memory() -> Iterator[Finding]:
    import psutil

    found = psutil.virtual_memory()
    detail = f"{found.available / 1e9:.1f} of {found.total / 1e9:.1f} GB free"
    if found.available < MIN_MEMORY_BYTES:
        yield Finding("memory", "note", f"{detail}: little for two processes with torch", "end other programs")
    else:
        yield Finding("memory", "ok", detail)


def _instructions() -> Iterator[Finding]:
    from aiflow_cli.trials.provenance import cpu

    found = cpu()
    flags = ", ".join(found["flags"]) or "no vector instructions known"
    bfloat16 = "" if any("bf16" in flag for flag in found["flags"]) else "; no bfloat16, and float32 is the default"
    known = any(flag in _VECTORS for flag in found["flags"])
    yield Finding("cpu", "ok" if known else "note", f"{found['model']} ({flags}{bfloat16})")


def _gpus() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            detail = f"there may be one, but torch {torch.__version__} cannot use it"
            yield Finding("gpu", "note", detail, "install a CUDA build of torch that fits the driver: pytorch.org")
        else:
            yield Finding("gpu", "note", "none: the small pair needs none, InternVL2-2B/26B do", "a machine with CUDA")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(f"gpu {index}", "ok", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")


def _packaged_pairs() -> Iterator[Finding]:
    from aiflow_cli.models.pair import registry

    for name, pair in registry().items():
        if _in_package(pair):
            yield _packaged_pair(name, pair)


def _in_package(pair: PairSpec) -> bool:
    return not pair.target.startswith("hub:")


def _packaged_pair(name: str, pair: PairSpec) -> Finding:
    troubles = [trouble for place in (pair.target, pair.draft) if (trouble := _trouble_with(Path(place)))]
    if not troubles:
        return Finding(f"pair {name}", "ok", "in the package")
    state: Literal["note", "missing"] = "missing" if name == DEFAULT_PAIR else "note"
    return Finding(f"pair {name}", state, "; ".join(troubles), "make pair, or install aiflow again")


def _trouble_with(checkpoint: Path) -> str | None:
    """Why a checkpoint of the package cannot be loaded, as far as its files' heads tell."""
    from safetensors import SafetensorError, safe_open

    from aiflow_cli.models.files import find_weights

    if not checkpoint.is_dir():
        return f"no checkpoint in {checkpoint}"
    lacking = [name for name in ("config.json", "tokenizer.model") if not (checkpoint / name).is_file()]
    if lacking:
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
        detail = f"none in {folder}; rendered scenes are used"
        yield Finding(
            "photographs", "note", detail, "aiflow download, or set AIFLOW_DATA to the folder that holds them"
        )


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
    offline = ", offline mode" if constants.HF_HUB_OFFLINE else ""
    where = f"{cache} ({free / 1e9:.0f} GB free{offline})"
    pairs = {name: pair for name, pair in registry().items() if not _in_package(pair)}
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
