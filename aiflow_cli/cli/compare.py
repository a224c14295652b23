"""`aiflow compare`: two results side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.options import RESULT, Json
from aiflow_cli.cli.output import note, print_json, print_table, say

if TYPE_CHECKING:
    from aiflow_cli.analysis.compare import Compared, Comparison
    from aiflow_cli.analysis.intervals import Interval

EXAMPLES = """Examples:

  aiflow compare results/figure6-1a2b3c4d results/figure6-1a2b3c4d-2

  aiflow compare rates-0f3c2b1a delay-9e8d7c6b --json
"""
MOST_NAMED = 6


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=RESULT)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json_: Json = False,
) -> None:
    """Say what differs between two results: in set-up, and, with intervals, in figures."""
    from aiflow_cli.analysis.compare import compare as compare_results
    from aiflow_cli.analysis.result import find
    from aiflow_cli.cli.reading import read_result

    first, second = find(a), find(b)
    comparison = compare_results(read_result(first), read_result(second))
    if json_:
        print_json(document(str(first), str(second), comparison))
    else:
        print_comparison(str(first), str(second), comparison)


def document(a: str, b: str, comparison: Comparison) -> dict[str, Any]:
    """The document of `--json`."""
    return {
        "a": a,
        "b": b,
        "set_up": [asdict(difference) for difference in comparison.differences],
        "settings": [_setting(compared) for compared in comparison.settings],
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
    }


def _setting(compared: Compared) -> dict[str, Any]:
    names = ("setting", "images", "trials_a", "trials_b", "paired", "verdict")
    told: dict[str, Any] = {name: getattr(compared, name) for name in names}
    told["no_verdict"] = compared.too_few
    for name in _INTERVALS:
        interval: Interval = getattr(compared, name)
        told |= interval.as_json(name)
    return told


_INTERVALS = {
    "decode_tpot_a_ms": "decode TPOT\nA, ms",
    "decode_tpot_b_ms": "decode TPOT\nB, ms",
    "decode_tpot_ratio": "decode TPOT\nB / A",
    "latency_ratio": "latency per token\nB / A",
    "speedup_a": "speed-up\nA",
    "speedup_b": "speed-up\nB",
}
"""The figures of a setting, in the order of their columns."""
_TRIALS = "trials\nA, B"
_DROPPED = ("speedup_a", "speedup_b", "latency_ratio", "decode_tpot_a_ms", "decode_tpot_b_ms")
_FIRST_OUT = (_TRIALS, *(_INTERVALS[name] for name in _DROPPED))
"""What goes first on a narrow terminal: the ratios and their verdict are what a comparison is for."""


def print_comparison(a: str, b: str, comparison: Comparison) -> None:
    """What differs in set-up, then a line for each setting that both have."""
    say(f"A: {a}\nB: {b}\n")
    if comparison.differences:
        rows = [[d.what, _shown(d.a), _shown(d.b)] for d in comparison.differences]
        print_table(("set-up", "A", "B"), rows, left=3)
    else:
        say("The set-ups are the same.\n")
    columns = ("setting", _TRIALS, *_INTERVALS.values(), "verdict")
    print_table(columns, [_row(compared) for compared in comparison.settings], first_out=_FIRST_OUT)
    _print_legend(comparison)
    for name, only in (("A", comparison.only_a), ("B", comparison.only_b)):
        if only:
            rest = f" and {len(only) - MOST_NAMED} more (--json names them)" if len(only) > MOST_NAMED else ""
            note(f"only in {name}: {'; '.join(only[:MOST_NAMED])}{rest}")


def _row(c: Compared) -> list[str]:
    from aiflow_cli.analysis.report import interval_text

    return [c.setting, f"{c.trials_a}, {c.trials_b}", *(interval_text(getattr(c, i)) for i in _INTERVALS), c.verdict]


def _print_legend(comparison: Comparison) -> None:
    """What the intervals are over, why some setting has none, and what speed-ups are."""
    paired = all(compared.paired for compared in comparison.settings)
    how = "paired: both captioned the same ones" if paired else "each result by itself: their data differ"
    reasons = dict.fromkeys(compared.too_few for compared in comparison.settings)
    if None in reasons:
        say(f"[low, high]: 95 % bootstrap interval over {comparison.resampled}, {how}.")
    for reason in filter(None, reasons):
        say(f"No verdict: {reason}.")
    say("Speed-ups are of decode TPOT, over the own server-only of each.")


def _shown(value: object) -> str:
    return "-" if value is None else "; ".join(map(str, value)) if isinstance(value, list) else str(value)
