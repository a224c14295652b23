"""`aiflow compare`: two results side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.options import RESULT, Json
from aiflow_cli.cli.output import note, present, print_items, say
from aiflow_cli.cli.results import read_result

if TYPE_CHECKING:
    from aiflow_cli.analysis.compare import Compared, Comparison
    from aiflow_cli.analysis.intervals import Interval
    from aiflow_cli.analysis.result import Result

EXAMPLES = """\
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
    from aiflow_cli.analysis import compare as analysis

    first, second = read_result(a), read_result(b)
    comparison = analysis.compare(first, second)
    document = {
        "a": str(first.folder),
        "b": str(second.folder),
        "set_up": [asdict(difference) for difference in comparison.differences],
        "settings": [_setting(compared) for compared in comparison.settings],
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
    }
    present(json_, document, lambda: print_comparison(first, second, comparison))


def _setting(compared: Compared) -> dict[str, Any]:
    told: dict[str, Any] = {"verdict": compared.verdict, "no_verdict": compared.too_few}
    for name, value in vars(compared).items():
        told |= value.as_json(name) if name in _INTERVALS else {name: value}
    return told


def print_comparison(a: Result, b: Result, comparison: Comparison) -> None:
    """What differs in set-up, then a line for each setting that both have."""
    say(f"A: {a.folder}\nB: {b.folder}\n")
    if comparison.differences:
        columns = {"set-up": lambda d: d.what, "A": lambda d: _shown(d.a), "B": lambda d: _shown(d.b)}
        print_items(columns, comparison.differences, left=3)
    else:
        say("The set-ups are the same.\n")
    print_items(_COLUMNS, comparison.settings, first_out=_FIRST_OUT)
    paired = all(compared.paired for compared in comparison.settings)
    how = "paired: both captioned the same ones" if paired else "each result by itself: their data differ"
    reasons = dict.fromkeys(compared.too_few for compared in comparison.settings)
    if None in reasons:
        say(f"[low, high]: 95 % bootstrap interval over {comparison.resampled}, {how}.")
    for reason in filter(None, reasons):
        say(f"No verdict: {reason}.")
    say("Speed-ups are of decode TPOT, over the own server-only of each.")
    for name, only in (("A", comparison.only_a), ("B", comparison.only_b)):
        if only:
            rest = f" and {len(only) - MOST_NAMED} more (--json names them)" if len(only) > MOST_NAMED else ""
            note(f"only in {name}: {'; '.join(only[:MOST_NAMED])}{rest}")


def _shown(value: object) -> str:
    return "-" if value is None else "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _interval(name: str, compared: Compared) -> str:
    interval: Interval = getattr(compared, name)
    return f"{interval:z.2f}"


_INTERVALS = {
    "decode_tpot_a_ms": "decode TPOT\nA, ms",
    "decode_tpot_b_ms": "decode TPOT\nB, ms",
    "decode_tpot_ratio": "decode TPOT\nB / A",
    "latency_ratio": "latency per token\nB / A",
    "speedup_a": "speed-up\nA",
    "speedup_b": "speed-up\nB",
}
"""The figures of a setting, in the order of their columns."""
_COLUMNS: dict[str, Callable[[Compared], str]] = {
    "setting": lambda compared: compared.setting,
    "trials\nA, B": lambda compared: f"{compared.trials_a}, {compared.trials_b}",
    **{heading: partial(_interval, name) for name, heading in _INTERVALS.items()},
    "verdict": lambda compared: compared.verdict,
}
_FIRST_OUT = [list(_COLUMNS)[i] for i in (1, 6, 7, 5, 2, 3)]
"""What goes first on a narrow terminal: the ratios and their verdict are what a comparison is for."""
