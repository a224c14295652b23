"""Which files a checkpoint is made of: what is checked, what is loaded and what the fingerprint covers, and no others.

A folder may hold more (cards, code, locks, what a file manager leaves): that neither loads nor counts. A folder that
could be read in two ways is refused, and so is a file that lies elsewhere: it could change without the folder changing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_cli.errors import CheckpointError

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SENTENCEPIECE_FILES = ("tokenizer.model", "added_tokens.json", TOKENIZER_CONFIG)
_TRANSFORMERS_FILES = (
    *(CONFIG, "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"),
    *("added_tokens.json", "special_tokens_map.json", TOKENIZER_CONFIG),
)
_SENTENCEPIECE_CLASSES = (None, "InternLM2Tokenizer", "InternLMTokenizer")
"""Values of `tokenizer_class` that mean InternLM2's tokenizer."""
_NAMED = 3


class Weights(NamedTuple):
    """The files that hold the weights; `places` says which file has which tensor, None where a single file has all."""

    files: list[Path]
    places: dict[str, str] | None


def checkpoint_files(folder: Path) -> list[Path]:
    """All files of a checkpoint, by name; CheckpointError if one is missing or elsewhere, or names are ambiguous."""
    index = [folder / INDEX] if (folder / INDEX).exists() else []
    return sorted({config_file(folder), *tokenizer_files(folder), *index, *find_weights(folder).files})


def config_file(folder: Path) -> Path:
    """The config.json of a checkpoint folder; raises CheckpointError if there is none."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}: it is not a checkpoint folder")
    return _own(folder, CONFIG)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that a tokenizer is read from, as far as they are there. (transformers reads config.json too.)"""
    names = _SENTENCEPIECE_FILES if is_sentencepiece(folder) else _TRANSFORMERS_FILES
    return [_own(folder, name) for name in names if (folder / name).exists()]


def is_sentencepiece(folder: Path) -> bool:
    """Whether a checkpoint's tokenizer is InternLM2's, read from the sentencepiece model itself."""
    path = folder / TOKENIZER_CONFIG
    if path.exists() and read_json(_own(folder, TOKENIZER_CONFIG)).get("tokenizer_class") not in _SENTENCEPIECE_CLASSES:
        return False
    return (folder / "tokenizer.model").exists() or not (folder / "tokenizer.json").exists()


def find_weights(folder: Path) -> Weights:
    """The files of a checkpoint's weights: model.safetensors, or what the index names; raises CheckpointError."""
    places = _index(folder) if (folder / INDEX).exists() else None
    names = [WHOLE] if places is None else sorted(set(places.values()))
    others = sorted({path.name for path in folder.glob("[!.]*.safetensors")} - set(names))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        lacking = f"lacks {some(missing)} of {len(names)} weight files"
        none = f"holds {some(others)}, but no {INDEX}" if others else "holds no *.safetensors weights"
        raise CheckpointError(f"{folder} {none if places is None else lacking}: fetch the checkpoint again")
    if others:
        both = f"{some(others)} beside {WHOLE if places is None else f'what {INDEX} names'}"
        raise CheckpointError(f"{folder} holds {both}: which are the weights? Move the others elsewhere")
    return Weights([_own(folder, name) for name in names], places)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint, with or without a byte order mark; raises CheckpointError if it holds no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(found, dict):
            return found
        reason = "holds no JSON object"
    except (ValueError, RecursionError) as error:
        reason = f"is not valid JSON ({error})"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    raise CheckpointError(f"{path} {reason}: fetch the checkpoint again")


def some(names: list[str]) -> str:
    """A few of `names`, and how many there are beside them."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def hub_blob(path: Path) -> Path | None:
    """The blob that a file in a snapshot of the hub's cache is a link to; None for any other file."""
    snapshot = path.parent.resolve()
    if snapshot.parent.name != "snapshots" or not path.is_symlink():
        return None
    # One step: the blob may be a link itself, into a store of all blobs.
    target = Path(os.path.normpath(snapshot / path.readlink()))
    return target if target.parent == snapshot.parent.parent / "blobs" else None


def _index(folder: Path) -> dict[str, str]:
    path = _own(folder, INDEX)
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{path} cannot be read (it has no weight_map of names): fetch the checkpoint again")
    for name in places.values():
        if name != Path(name).name or not name.endswith(".safetensors") or name.startswith(".") or "\\" in name:
            remedy = "only *.safetensors in the folder itself are read; fetch the checkpoint again"
            raise CheckpointError(f"{path} names the weight file {name!r}: {remedy}")
    return places


def _own(folder: Path, name: str) -> Path:
    """A file of `folder`; raises CheckpointError for a link elsewhere, but those of the hub's cache."""
    path, real = folder / name, (folder / name).resolve()
    if not real.is_relative_to(folder.resolve()) and hub_blob(path) is None:
        raise CheckpointError(f"{path} is a link to {real}, outside the checkpoint: put the file itself there")
    return path
