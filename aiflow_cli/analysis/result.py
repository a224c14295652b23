"""A result as it is analysed: its document (run.json) and its measured trials by pair, link, method and draft length.

Read leniently: what an older version did not write is unknown, not an error; only what every figure rests on must be there.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_cli.analysis.metrics import Record
from aiflow_cli.analysis.summary import BASELINE, link_of
from aiflow_cli.errors import AiflowError, StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.paths import user_path
from aiflow_cli.text import printable
from aiflow_cli.trials import store
from aiflow_cli.units import format_duration, format_rate

SPECULATIVE, CO_LOCATED, ON_DEVICE = "speculative", "co-located", "on-device"
REFERENCE_RATE_BYTES_PER_S = 1e6
_REQUIRED = ("image_id", "pair", "method", "gamma", "link", "n_tokens", "deliveries", "ttft_s", "latency_s", "rounds")
_REQUIRED_BYTES = ("bytes_up", "bytes_down", "bytes_by_message")


class Series(NamedTuple):
    """What one curve is of: a pair over a link."""

    pair: str
    link: LinkSpec


Key = tuple[str, LinkSpec, str, int | None]
"""Pair, link, method, draft length."""


@dataclass(frozen=True)
class Result:
    """A result. `records` are its measured trials (warm-ups left out), in the order in which they were made."""

    folder: Path
    document: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return printable(self.folder.resolve().name)

    @property
    def provenance(self) -> dict[str, Any]:
        """What run.json tells of command, code and machine."""
        return dict(self.document.get("provenance") or {})

    @property
    def commit(self) -> str:
        """The revision of the code that measured, shortened, with `+` for a changed tree; `unknown` outside a checkout."""
        git = self.provenance.get("git") or {}
        return f"{git['revision'][:10]}{'+' if git.get('dirty') else ''}" if git.get("revision") else "unknown"

    @property
    def data_name(self) -> str:
        """The images' name."""
        return str((self.document.get("data") or {}).get("name", "unknown data"))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a run, or the spec of a sweep."""
        return dict(self.document.get("settings") or self.document.get("spec") or {})

    @property
    def planned(self) -> int | None:
        """How many trials it was to have, warm-ups aside; None where run.json does not say."""
        trials = self.document.get("trials")
        return trials if isinstance(trials, int) else None

    @property
    def unfinished(self) -> bool:
        """Whether trials are lacking, or the run did not come to its end."""
        short = self.planned is not None and len(self.records) < self.planned
        return short or ("finished_at" in self.provenance and self.provenance["finished_at"] is None)

    @cached_property
    def _by_key(self) -> dict[Key, list[Record]]:
        groups: dict[Key, list[Record]] = {}
        for record in self.records:
            groups.setdefault((record["pair"], link_of(record), record["method"], record["gamma"]), []).append(record)
        return groups

    @cached_property
    def pairs(self) -> list[str]:
        """Its pairs, in the order of run.json, then of the trials."""
        told = [str(entry["name"]) for entry in self._pair_entries() if "name" in entry]
        measured = dict.fromkeys(pair for pair, *_ in self._by_key)
        return [name for name in dict.fromkeys([*told, *measured]) if name in measured]

    @cached_property
    def links(self) -> list[LinkSpec]:
        """Its links, slowest uplink first, then by delay."""
        found = {link for _, link, _, _ in self._by_key}
        return sorted(found, key=lambda link: (link.uplink_bytes_per_s, link.downlink_bytes_per_s, link.delay_s))

    @property
    def reference_link(self) -> LinkSpec:
        """The link nearest to 1 MB/s without delay, which figures of one link show."""
        return min(self.links, key=lambda link: (link.delay_s, abs(math.log(_finite(link.uplink_bytes_per_s) / 1e6))))

    @property
    def nodes(self) -> list[str]:
        """The machines that took part; empty where trials do not say."""
        return sorted({str(record["node"]) for record in self.records if record.get("node") is not None})

    def series(self, method: str = SPECULATIVE) -> list[Series]:
        """Every pair and link that `method` was measured on."""
        found = {(pair, link) for pair, link, m, _ in self._by_key if m == method}
        return [Series(pair, link) for pair in self.pairs for link in self.links if (pair, link) in found]

    def gammas(self, series: Series, method: str = SPECULATIVE) -> list[int]:
        """The draft lengths measured."""
        return sorted(g for pair, link, m, g in self._by_key if (pair, link, m) == (*series, method) and g is not None)

    def trials(self, series: Series, method: str, gamma: int | None = None) -> list[Record]:
        """The trials of a method. Server-only is that of the same target over the same link; on-device knows no link."""
        if method == BASELINE:
            mine = self.target(series.pair)
            groups = [
                g
                for (p, link, m, _), g in self._by_key.items()
                if (link, m) == (series.link, BASELINE) and self.target(p) == mine
            ]
        elif method == ON_DEVICE:
            groups = [g for (p, _, m, _), g in self._by_key.items() if (p, m) == (series.pair, ON_DEVICE)]
        else:
            groups = [self._by_key.get((*series, method, gamma), [])]
        return [record for group in groups for record in group]

    def target(self, pair: str) -> str:
        """The name of a pair's target model: pairs of one target share its server-only trials."""
        for entry in self._pair_entries():
            if entry.get("name") == pair and entry.get("target"):
                return str(entry["target"])
        return f"target of {pair}"

    def label(self, series: Series) -> str:
        """A series as a legend names it: by what differs within this result."""
        parts = [series.pair] if len(self.pairs) > 1 or len(self.links) == 1 else []
        return " ".join([*parts, link_label(series.link)] if len(self.links) > 1 else parts)

    def _pair_entries(self) -> list[dict[str, Any]]:
        entries = self.document.get("pairs") or self.document.get("pair") or []
        return [entry for entry in ([entries] if isinstance(entries, dict) else entries) if isinstance(entry, dict)]


def _finite(rate: float) -> float:
    return rate if math.isfinite(rate) else 1e12


def link_label(link: LinkSpec) -> str:
    """`1 MB/s`, `500 KB/s up, 2 MB/s down, 5 ms`."""
    up, down = format_rate(link.uplink_bytes_per_s), format_rate(link.downlink_bytes_per_s)
    rate = up if up == down else f"{up} up, {down} down"
    return f"{rate}, {format_duration(link.delay_s)}" if link.delay_s else rate


def load(folder: Path) -> Result:
    """The result in a folder. Raises StoreError if there is none, it is damaged, or no trial was measured."""
    records = store.read_trials(folder)
    for number, record in enumerate(records, 1):
        _check(record, f"{folder / 'trials.jsonl'}:{number}")
    document = store.read_run(folder) if (folder / "run.json").exists() else {}
    if document.get("schema_version", 1) not in range(store.SCHEMA_VERSION + 1):
        raise StoreError(f"{folder} is of schema {document['schema_version']}: read it with a newer aiflow")
    measured = tuple(record for record in records if not record.get("warmup"))
    if not measured:
        raise StoreError(f"{folder} holds no finished trial yet: run it further")
    return Result(folder, document, measured)


def _check(record: Record, where: str) -> None:
    missing = [name for name in (*_REQUIRED, *_REQUIRED_BYTES) if name not in record]
    if missing or not record["deliveries"]:
        raise StoreError(f"{where} is damaged: this trial has no {', '.join(missing) or 'delivery'}")
    try:
        link_of(record)
    except (AiflowError, TypeError, AttributeError) as error:
        raise StoreError(f"{where} is damaged: {error}") from None


def find(place: str) -> Path:
    """The folder that a user names: a path, or the name of one in results/. Raises UsageError."""
    path = user_path(place)
    if path.name in ("trials.jsonl", "run.json"):
        path = path.parent
    if path.exists():
        return path
    if (named := store.RESULTS / place).exists():
        return named
    known = [found.name for found in folders(store.RESULTS)]
    close = difflib.get_close_matches(place, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "`aiflow results` lists what there is, `aiflow run` makes one"
    raise UsageError(f"no result {place!r}: {hint}")


def folders(root: Path) -> list[Path]:
    """The results in a folder, newest first."""
    found = [path.parent for name in ("trials.jsonl", "run.json") for path in root.glob(f"*/{name}")]
    return sorted(dict.fromkeys(found), key=_changed, reverse=True)


def _changed(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir() if path.name in ("trials.jsonl", "run.json"))


def read_document(folder: Path) -> dict[str, Any] | None:
    """run.json, or None where it cannot be read."""
    try:
        document = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def mismatched(records: Iterable[Record]) -> list[Record]:
    """The trials whose output is not server-only's."""
    return [record for record in records if record.get("identical") is False]


def compared(records: Sequence[Record]) -> list[Record]:
    """The trials whose output was compared with server-only's."""
    return [record for record in records if record.get("identical") is not None and record["method"] != BASELINE]
