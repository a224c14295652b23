"""What this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiflow_cli.errors import AiflowError
from aiflow_cli.trials import provenance

MIN_FREE_BYTES = 500_000_000


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
    yield from _packages()
    yield _cores()
    yield _instructions()
    yield _gpu()
    yield _small_pair()
    yield _photographs()
    yield _disk()


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _packages() -> Iterator[Finding]:
    for name in ("torch", "transformers", "datasets"):
        version = provenance.package_version(name)
        if version is None:
            yield Finding(name, "missing", "not installed", "pip install aiflow-cli")
        else:
            yield Finding(name, "ok", version)


def _cores() -> Finding:
    cores = provenance.usable_cores()
    if cores < 2:
        return Finding(
            "cores", "note", f"{cores}: device and server take turns, so timings are too long", "use 2 or more"
        )
    return Finding("cores", "ok", f"{cores}: device and server each on their own")


def _instructions() -> Finding:
    found = provenance.cpu()
    flags = ", ".join(found["flags"]) or "none of note"
    if any("bf16" in flag for flag in found["flags"]):
        return Finding("cpu", "ok", f"{found['model']} ({flags})")
    return Finding("cpu", "note", f"{found['model']} ({flags}): no bfloat16 arithmetic; float32 is the default anyway")


def _gpu() -> Finding:
    found = provenance.gpu()
    if found is None:
        return Finding("gpu", "note", "none: the small pair needs none, InternVL2-2B/26B do", "use a machine with CUDA")
    return Finding("gpu", "ok", f"{found['name']}, {found['memory_bytes'] / 1e9:.0f} GB")


def _small_pair() -> Finding:
    from aiflow_cli.models.pair import find_pair

    try:
        pair = find_pair("small")
    except AiflowError as error:
        return Finding("small pair", "missing", str(error), "make pair")
    absent = [str(path) for path in (pair.target, pair.draft) if not (Path(path) / "model.safetensors").exists()]
    if absent:
        return Finding("small pair", "missing", f"no weights in {', '.join(absent)}", "make pair")
    return Finding("small pair", "ok", "in the package")


def _photographs() -> Finding:
    from aiflow_cli.images.vehicles import data_folder

    folder = data_folder()
    count = sum(1 for _ in folder.glob("**/*.jpg")) if folder.exists() else 0
    if count:
        return Finding("photographs", "ok", f"{count} in {folder}")
    return Finding("photographs", "note", "Vehicles-OpenImage is not here; rendered scenes are used", "aiflow download")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free here"
    if free < MIN_FREE_BYTES:
        return Finding("disk", "missing", detail, "free some space: results go to results/")
    return Finding("disk", "ok", detail)
