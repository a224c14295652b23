"""Pairs of a draft and a target: the registry, where their checkpoints lie, and whether two models are one."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_cli.errors import CheckpointError, PrerequisiteError, UsageError
from aiflow_cli.paths import user_path

if TYPE_CHECKING:
    from aiflow_cli.models.hub import Repository
    from aiflow_cli.models.vlm import VisionLanguageModel

_HUB = "hub:"
PAIRS_FOLDER = Path(str(files("aiflow_cli"))) / "pairs"


@dataclass(frozen=True)
class PairSpec:
    """A pair by name. `draft` and `target` are folders, or `hub:OWNER/NAME[@REVISION]` for what is fetched first."""

    name: str
    about: str
    draft: str
    target: str
    question: str
    max_new_tokens: int
    dtype: str
    like_paper: bool = False
    """Whether it is meant to behave like the paper's pair, so that a report judges it by the paper's figures."""

    def dtype_on(self, device: str) -> str:
        """What its weights are computed in unless another dtype is asked for: float32 on a CPU, its own on a GPU."""
        return "float32" if device == "cpu" else self.dtype

    def place(self, role: str) -> str:
        """Where the "draft" or the "target" is: a folder, or `hub:...`."""
        return self.draft if role == "draft" else self.target

    def repository(self, role: str) -> Repository | None:
        """The hub's repository of "draft" or "target"; None if it is a folder."""
        place = self.place(role)
        if not place.startswith(_HUB):
            return None
        from aiflow_cli.models.hub import Repository

        return Repository.parse(place.removeprefix(_HUB))

    def folder(self, role: str) -> Path:
        """The checkpoint folder of a role; raises PrerequisiteError if it is to be fetched, UsageError if absent."""
        place = self.place(role)
        if repository := self.repository(role):
            from aiflow_cli.models.hub import cached_folder

            if (folder := cached_folder(repository)) is not None:
                return folder
            whose, command = f"{repository} is neither a folder nor on this machine", str(repository)
            if self.name in registry() and registry()[self.name].place(role) == place:
                whose, command = f"the {role} of pair {self.name}, {repository}, is not on this machine", self.name
            raise PrerequisiteError(f"{whose}: fetch it with `aiflow pull {command}`")
        if not Path(place).is_dir():
            said = f"the {role} model's folder {place} does not exist"
            raise UsageError(f"{said}: give the folder of a checkpoint, or a hub id OWNER/NAME")
        return Path(place)


@cache
def registry() -> dict[str, PairSpec]:
    """All pairs by name."""
    entries = tomllib.loads((PAIRS_FOLDER / "registry.toml").read_text(encoding="utf-8"))
    for entry, role in product(entries.values(), ("draft", "target")):
        if not entry[role].startswith(_HUB):
            entry[role] = str(PAIRS_FOLDER / entry[role])
    return {name: PairSpec(name, **entry) for name, entry in entries.items()}


def find_pair(name: str, draft: str | None = None, target: str | None = None) -> PairSpec:
    """The pair of that name, or with other models: folders, or hub ids `OWNER/NAME[@REVISION]`; raises UsageError."""
    if name not in registry():
        near = difflib.get_close_matches(name, registry(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"know {', '.join(registry())}"
        raise UsageError(f"pair {name!r} is not known: {hint}")
    pair = registry()[name]
    return replace(pair, draft=_given(draft) or pair.draft, target=_given(target) or pair.target)


def _given(text: str | None) -> str | None:
    """A model as the user names it: a folder if there is one, else a hub id if it looks like one."""
    if text is None or text.startswith(_HUB):
        return text
    if (path := user_path(text)).exists():
        return str(path)
    from aiflow_cli.models.hub import Repository

    return text if Repository.parse(text) is None else _HUB + text


def check_pair(draft: VisionLanguageModel, target: VisionLanguageModel) -> None:
    """Raise CheckpointError unless token ids mean the same to both."""
    prints = [model.fingerprint for model in (draft, target)]
    if len({(one.tokenizer_sha256, one.vocab_size) for one in prints}) > 1:
        a, b = (f"({one.vocab_size} tokens, tokenizer {one.tokenizer_sha256[:8]})" for one in prints)
        both = f"draft {draft.name} {a} and target {target.name} {b}"
        raise CheckpointError(f"{both} have different tokenizers: they are no pair")


def same_target(pair: PairSpec) -> list[PairSpec]:
    """`pair`, and the other pairs of the registry over the same target."""
    others = [other for other in registry().values() if other.target == pair.target and other.name != pair.name]
    return [pair, *others]
