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

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
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


def machine() -> str:
    """What computes, and how many cores there are to use. Not its name: a container has a new one each time."""
    found, card = cpu(), gpu()
    return f"{found['model']}, {found['usable_cores']} cores, {card['name'] if card else 'no GPU'}"
