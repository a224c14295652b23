"""`aiflow compare`: two results side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.analysis.compare import Compared, Comparison
    from aiflow_cli.analysis.intervals import Interval

EXAMPLES = """Examples:

  aiflow compare results/figure6-1a2b3c4d results/figure6-1a2b3c4d-2

  aiflow compare rates-0f3c2b1a delay-9e8d7c6b --json
"""


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The folder of a result, or its name in results/.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Say what differs between two results: in set-up, and, with intervals, in figures."""
    from aiflow_cli.analysis.compare import compare as compare_results
    from aiflow_cli.analysis.result import find
    from aiflow_cli.cli.output import print_json
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
        "set_up": [{"what": d.what, "a": d.a, "b": d.b} for d in comparison.differences],
        "settings": [_setting(compared) for compared in comparison.settings],
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
    }


MOST_NAMED = 6
_INTERVALS = ("decode_tpot_a_ms", "decode_tpot_b_ms", "decode_tpot_ratio", "latency_ratio", "speedup_a", "speedup_b")


def _setting(compared: Compared) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: getattr(compared, name) for name in ("setting", "images", "trials_a", "trials_b", "paired", "verdict")
    }
    told["no_verdict"] = compared.too_few
    for name in _INTERVALS:
        interval: Interval | None = getattr(compared, name)
        told[name] = None if interval is None else interval.value
        told[f"{name}_ci"] = None if interval is None else interval.ends
    return told


_COLUMNS = (
    "setting",
    "trials\nA, B",
    "decode TPOT\nA, ms",
    "decode TPOT\nB, ms",
    "decode TPOT\nB / A",
    "latency per token\nB / A",
    "speed-up\nA",
    "speed-up\nB",
    "verdict",
)
_FIRST_OUT = (
    "trials\nA, B",
    "speed-up\nA",
    "speed-up\nB",
    "latency per token\nB / A",
    "decode TPOT\nA, ms",
    "decode TPOT\nB, ms",
)
"""What goes first on a narrow terminal: the ratios and their verdict are what a comparison is for."""


def print_comparison(a: str, b: str, comparison: Comparison) -> None:
    """What differs in set-up, then a line for each setting that both have."""
    from aiflow_cli.analysis.report import interval_text
    from aiflow_cli.cli.output import note, print_table

    say(f"A: {a}\nB: {b}\n")
    if comparison.differences:
        rows = [[d.what, _shown(d.a), _shown(d.b)] for d in comparison.differences]
        print_table(("set-up", "A", "B"), rows, left=3)
    else:
        say("The set-ups are the same.\n")
    rows = [
        [c.setting, f"{c.trials_a}, {c.trials_b}", *(interval_text(getattr(c, name)) for name in _INTERVALS), c.verdict]
        for c in comparison.settings
    ]
    print_table(_COLUMNS, rows, first_out=_FIRST_OUT)
    paired = all(compared.paired for compared in comparison.settings)
    how = (
        "images, paired: both captioned the same ones" if paired else "images, each result by itself: their data differ"
    )
    reasons = dict.fromkeys(compared.too_few for compared in comparison.settings)
    if None in reasons:
        say(f"[low, high]: 95 % bootstrap interval over {how}.")
    for reason in filter(None, reasons):
        say(f"No verdict: {reason}.")
    say("Speed-ups are of decode TPOT, over the own server-only of each.")
    for name, only in (("A", comparison.only_a), ("B", comparison.only_b)):
        if only:
            rest = f" and {len(only) - MOST_NAMED} more (--json names them)" if len(only) > MOST_NAMED else ""
            note(f"only in {name}: {'; '.join(only[:MOST_NAMED])}{rest}")


def _shown(value: object) -> str:
    return "-" if value is None else "; ".join(map(str, value)) if isinstance(value, list) else str(value)
