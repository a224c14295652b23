"""Where a result comes from: the command, the code, the machine, the data. Plain JSON, gathered in a fraction of a
second.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import aiflow_cli
from aiflow_cli.world.record import now

PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "msgspec"),
    *("numpy", "pillow", "safetensors", "scipy", "sentencepiece"),
)
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instructions that decide what a matrix product costs; the result records which of them the machine has."""


def gather() -> dict[str, Any]:
    """Everything known before the first trial."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started_at": now(),
        "finished_at": None,
        "aiflow": aiflow_cli.__version__,
        "git": git_state(Path(aiflow_cli.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpu(),
        "gpu": gpu(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_at_start": list(os.getloadavg()),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Revision and dirtiness of the checkout that `folder` is in; None outside one, or when git has no commit yet."""
    revision = _git(folder, "rev-parse", "HEAD")
    inside = _git(folder, "ls-files", "--error-unmatch", "__init__.py")  # a wheel's venv may lie in another checkout
    if revision is None or inside is None:
        return None
    return {"revision": revision, "dirty": bool(_git(folder, "status", "--porcelain"))}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu() -> dict[str, Any]:
    """Model, cores that this process may use, and the flags that matter."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "model": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "flags": [flag for flag in CPU_FLAGS if flag in present],
    }


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> dict[str, Any] | None:
    """The first CUDA device, or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
