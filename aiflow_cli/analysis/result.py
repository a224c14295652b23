"""A result as it is analysed: its document (run.json), and its measured trials by setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.paths import user_path
from aiflow_cli.text import printable
from aiflow_cli.trials import store
from aiflow_cli.units import format_duration, format_rate
from aiflow_cli.world.record import SCHEMA_VERSION, Trial

FILES = ("trials.jsonl", "trials.parquet", "run.json")
"""Each of them makes a folder a result."""


class Series(NamedTuple):
    """What one curve is of: a pair over a link."""

    pair: str
    link: LinkSpec


class Key(NamedTuple):
    """A setting."""

    pair: str
    link: LinkSpec
    method: Method
    gamma: int | None

    @classmethod
    def of(cls, trial: Trial) -> Key:
        """That of a trial."""
        setting = trial.setting
        return cls(setting.pair, setting.link.spec, setting.method, setting.gamma)

    @property
    def series(self) -> Series:
        """The curve that it is of."""
        return Series(self.pair, self.link)

    @property
    def place(self) -> tuple[bool, str, tuple[float, ...], str, int]:
        """Where it stands in a list: server-only first, then by name; the slowest link first."""
        server_only = self.method is Method.SERVER_ONLY
        return not server_only, self.pair, astuple(self.link), self.method.value, self.gamma or 0


@dataclass(frozen=True)
class Result:
    """A result. `trials` are its measured ones (warm-ups left out), in the order in which they were made."""

    folder: Path
    document: dict[str, Any]
    trials: tuple[Trial, ...]

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return printable(self.folder.resolve().name)

    def told(self, part: str) -> dict[str, Any]:
        """A part of run.json: `provenance`, `data`, `spec`; empty where there is no such thing."""
        told = self.document.get(part)
        return told if isinstance(told, dict) else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """What run.json tells of command, code and machine."""
        return self.told("provenance")

    @property
    def commit(self) -> str:
        """The revision of the code that measured, shortened, `+`: a changed tree; `unknown` outside a checkout."""
        git = self.provenance.get("git") or {}
        return f"{git['revision'][:10]}{'+' if git.get('dirty') else ''}" if git.get("revision") else "unknown"

    @property
    def data_name(self) -> str:
        """The images' name."""
        return str(self.told("data").get("name", "unknown data"))

    @property
    def planned(self) -> int | None:
        """How many trials it was to have, warm-ups aside; None where run.json does not say."""
        trials = self.document.get("trials")
        return trials if isinstance(trials, int) else None

    @cached_property
    def everything(self) -> Arm:
        """All trials, whatever their setting."""
        return Arm(self.trials)

    @property
    def images(self) -> int:
        """How many images it has, on whichever node."""
        return len({unit.image_id for unit in self.everything.units})

    @cached_property
    def by_setting(self) -> dict[Key, list[Trial]]:
        """Its trials by setting."""
        groups: dict[Key, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(Key.of(trial), []).append(trial)
        return groups

    @cached_property
    def _arms(self) -> dict[Key, Arm]:
        groups: dict[Key, list[Trial]] = {}
        for key, trials in self.by_setting.items():
            groups.setdefault(self._shared(key), []).extend(trials)
        return {key: Arm(trials) for key, trials in groups.items()}

    def _shared(self, key: Key) -> Key:
        """One key for all that is the same: pairs of one target share server-only, and on-device knows no link."""
        match key.method:
            case Method.SERVER_ONLY:
                return key._replace(pair=self.target(key.pair))
            case Method.ON_DEVICE:
                return key._replace(link=self.links[0])
        return key

    def arm(self, series: Series, method: Method, gamma: int | None = None) -> Arm:
        """The trials of a setting; none where it was not measured."""
        return self._arms.get(self._shared(Key(*series, method, gamma))) or Arm(())

    def baseline(self, series: Series) -> Arm:
        """Server-only's trials beside a curve."""
        return self.arm(series, Method.SERVER_ONLY)

    @cached_property
    def pairs(self) -> list[str]:
        """Its pairs, in the order of run.json, then of the trials."""
        told = [str(entry["name"]) for entry in self.pair_entries if "name" in entry]
        measured = dict.fromkeys(key.pair for key in self.by_setting)
        return [name for name in dict.fromkeys([*told, *measured]) if name in measured]

    @cached_property
    def links(self) -> list[LinkSpec]:
        """Its links, slowest uplink first, then by delay."""
        found = {key.link for key in self.by_setting}
        return sorted(found, key=lambda link: (link.uplink_bytes_per_s, link.downlink_bytes_per_s, link.delay_s))

    def series(self, method: Method = Method.SPECULATIVE) -> list[Series]:
        """Every pair and link that `method` was measured on."""
        found = {key.series for key in self.by_setting if key.method is method}
        return [series for pair in self.pairs for link in self.links if (series := Series(pair, link)) in found]

    def gammas(self, series: Series, method: Method = Method.SPECULATIVE) -> list[int]:
        """The draft lengths measured."""
        keys = (key for key in self.by_setting if key.series == series and key.method is method)
        return sorted(key.gamma for key in keys if key.gamma is not None)

    def target(self, pair: str) -> str:
        """The name of a pair's target model."""
        told = (entry["target"] for entry in self.pair_entries if entry.get("name") == pair and entry.get("target"))
        return str(next(told, f"target of {pair}"))

    def label(self, series: Series) -> str:
        """A series as a legend names it: by what differs within this result."""
        parts = [series.pair] if len(self.pairs) > 1 or len(self.links) == 1 else []
        return " ".join([*parts, link_label(series.link)] if len(self.links) > 1 else parts)

    @property
    def pair_entries(self) -> list[dict[str, Any]]:
        """What run.json tells of its pairs; whatever is no such thing is left out."""
        entries = self.document.get("pairs")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def link_label(link: LinkSpec) -> str:
    """`1 MB/s`, `500 KB/s up, 2 MB/s down, 5 ms`."""
    up, down = format_rate(link.uplink_bytes_per_s), format_rate(link.downlink_bytes_per_s)
    rate = up if up == down else f"{up} up, {down} down"
    return f"{rate}, {format_duration(link.delay_s)}" if link.delay_s else rate


def load(folder: Path) -> Result:
    """The result in a folder. Raises StoreError if there is none, it is damaged, or no trial was measured."""
    document = store.read_run(folder) if (folder / "run.json").exists() else {}
    schema = document.get("schema_version", SCHEMA_VERSION)
    if not isinstance(schema, int) or schema > SCHEMA_VERSION:
        raise StoreError(f"{folder} is of schema {schema}: read it with a newer aiflow")
    measured = tuple(trial for trial in store.read_trials(folder) if not trial.warmup)
    if not measured:
        raise StoreError(f"{folder} holds no finished trial yet: run it further")
    if empty := next((trial for trial in measured if not trial.deliveries), None):
        raise StoreError(f"{folder} is damaged: trial {empty.trial} has no delivery; take it out")
    return Result(folder, document, measured)


def find(place: str) -> Path:
    """The folder that a user names: a path, or the name of one in results/. Raises UsageError."""
    path = user_path(place)
    if path.name in FILES:
        path = path.parent
    for found in (path, store.RESULTS / place):
        if found.exists():
            return found
    close = difflib.get_close_matches(place, [found.name for found in folders(store.RESULTS)], n=1)
    hint = f"did you mean `{close[0]}`?" if close else "`aiflow results` lists what there is, `aiflow run` makes one"
    raise UsageError(f"no result {place!r}: {hint}")


def folders(root: Path) -> list[Path]:
    """The results in a folder, newest first."""
    changed: dict[Path, float] = {}
    for path in (path for name in FILES for path in root.glob(f"*/{name}")):
        changed[path.parent] = max(changed.get(path.parent, 0.0), path.stat().st_mtime)
    return sorted(changed, key=lambda folder: changed[folder], reverse=True)


def repeats(trials: Iterable[Trial]) -> list[Trial]:
    """Server-only's trials after the first one of an image, which is the reference of all others."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for trial in (trial for trial in trials if trial.setting.method is Method.SERVER_ONLY):
        if (key := (trial.setting.pair, trial.node, trial.image_id)) in seen:
            found.append(trial)
        seen.add(key)
    return found
