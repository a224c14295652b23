"""What ran: told for people (`provenance`), and as fingerprints, by which trials made now may stand beside trials made
before. What differs is named, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil

import aiflow_cli
from aiflow_cli.models.files import checkpoint_files, hub_blob
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.world.record import now

PACKAGE = Path(str(files("aiflow_cli")))
SOURCES = (
    *("*.py", "world/*.py", "node/*.py", "decoding/*.py", "wire/*.py", "link/*.py", "models/*.py", "pairs/*.py"),
    # The commands that a world starts as processes, and what every command passes through.
    *("cli/app.py", "cli/errors.py", "cli/serve.py", "cli/link.py"),
    # What orders trials, and what a server tells of itself.
    *("trials/schedule.py", "trials/served.py", "trials/fingerprint.py"),
)
"""What a trial runs through: the world that makes it and all that lies below, and a few more."""
COMPUTING = (
    *("torch", "transformers", "tokenizers", "sentencepiece", "safetensors", "accelerate", "torchao"),
    *("numpy", "pillow", "msgspec"),
)
"""Packages whose versions change outputs or times."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instructions that decide what a matrix product costs; the result records which of them the machine has."""
_SHA256 = re.compile("[0-9a-f]{64}")
SHOWN_DIGITS = 8

Fingerprints = dict[str, str]
"""What must not change within a result -> its hash, or a short description."""


def provenance() -> dict[str, Any]:
    """Everything known before the first trial, as run.json has it."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started_at": now(),
        "finished_at": None,
        "aiflow": aiflow_cli.__version__,
        "git": _git_state(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in (*COMPUTING, "datasets", "scipy")},
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpu(),
        "gpu": gpu(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_at_start": list(os.getloadavg()),
    }


def _git_state() -> dict[str, Any] | None:
    """Revision and dirtiness of the checkout that the package is in; None outside one, or without a commit yet."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a wheel's venv may lie in another checkout
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def package_version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu() -> dict[str, Any]:
    """Model, cores that this process may use, and the flags that matter."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    told: dict[str, str] = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.+)$", text, re.MULTILINE))
    present = (told.get("flags") or told.get("Features") or "").split()
    return {
        "model": told.get("model name", platform.processor() or platform.machine()).strip(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in CPU_FLAGS if flag in present],
    }


def gpu() -> dict[str, Any] | None:
    """The first CUDA device, or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}


def code(root: Path = PACKAGE) -> str:
    """Of the sources that a trial runs of the package in `root`."""
    return _of((str(path.relative_to(root)), _of_file(path)) for path in sources(root))


def sources(root: Path) -> list[Path]:
    """The modules of the package in `root` that a trial runs."""
    return sorted(path for pattern in SOURCES for path in root.glob(pattern))


def packages() -> str:
    """Python and the packages that compute, with their versions."""
    versions = [f"{name} {package_version(name)}" for name in COMPUTING]
    return ", ".join([f"python {platform.python_version()}", *versions])


def of_trials(pairs: Mapping[str, PairSpec], target: str | None = None) -> Fingerprints:
    """All that decides trials beside their settings and images; `target` as for `pair`, and what is raised."""
    by_pair = {f"pair {name}": pair(spec, target) for name, spec in pairs.items()}
    found, card = cpu(), gpu()  # without the machine's name: a container has a new one each time
    machine = f"{found['model']}, {found['usable_cores']} cores, {card['name'] if card else 'no GPU'}"
    return {"code": code(), **by_pair, "packages": packages(), "machine": machine}


def pair(spec: PairSpec, target: str | None = None) -> str:
    """Of both checkpoints and of what the registry says of the pair; `target` is what a server says of its own, which
    need not be here. Raises what a missing checkpoint raises.
    """
    told = {name: value for name, value in asdict(spec).items() if name not in ("about", "draft", "target")}
    draft, target = checkpoint(spec.folder("draft")), target or checkpoint(spec.folder("target"))
    return _of([("pair", json.dumps(told, sort_keys=True)), ("draft", draft), ("target", target)])


def checkpoint(folder: Path) -> str:
    """Of the files that a checkpoint is made of: what is loaded. Raises CheckpointError if they are not all there."""
    return _of((path.name, _of_file(path)) for path in checkpoint_files(folder))


def shown(value: str | None) -> str:
    """As people are shown it: the first digits of a hash, all of a description."""
    if value is None:
        return "none"
    return value[:SHOWN_DIGITS] if _SHA256.fullmatch(value) else value


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs, each as `pair small: 1a2b3c4d before, 5e6f7a8b now`."""
    return [
        f"{name}: {shown(before.get(name))} before, {shown(now.get(name))} now"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def _of_file(path: Path) -> str:
    """SHA-256 of a file; what the hub's cache names by its own SHA-256 is not read again."""
    blob = hub_blob(path)
    if blob is not None and _SHA256.fullmatch(blob.name):
        return blob.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of(parts: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name}\0{value}\0" for name, value in parts).encode()).hexdigest()
