"""Tables of a finished result, for whoever analyses it elsewhere: `pandas.read_parquet("results/.../trials.parquet")`.

`trials.parquet` has a row a trial, `rounds.parquet` a row a round, both without warm-ups. They are derived from trials.jsonl and can be made
again at any time. Columns are named as in trials.jsonl; what is nested there is flat here (`prefill_upload_s`, `uplink_bytes_per_s`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiflow_cli.trials.store import Record, replace_file

_SETTING = {
    "trial": "string",
    "node": "string",
    "image_id": "string",
    "pair": "string",
    "method": "string",
    "gamma": "int64",
    "uplink_bytes_per_s": "double",
    "downlink_bytes_per_s": "double",
    "burst_bytes": "int64",
    "delay_s": "double",
}
TRIAL_COLUMNS = _SETTING | {
    "block": "int64",
    "order": "int64",
    "repeat": "int64",
    "image_bytes": "int64",
    "started_at": "string",
    "caption": "string",
    "tokens": "list",
    "n_tokens": "int64",
    "stopped": "bool",
    "ttft_s": "double",
    "latency_s": "double",
    "first_tokens": "int64",
    "deliveries": "int64",
    "prefill_draft_s": "double",
    "prefill_upload_s": "double",
    "prefill_server_s": "double",
    "prefill_server_queue_s": "double",
    "rounds": "int64",
    "drafted": "int64",
    "accepted": "int64",
    "delivered": "int64",
    "bytes_up": "int64",
    "bytes_down": "int64",
    "identical": "bool",
    "mismatch": "string",
}
"""`first_tokens` is the n1 of decode TPOT; drafted, accepted and delivered are sums over the rounds."""
ROUND_COLUMNS = _SETTING | {
    "round": "int64",
    "drafted": "int64",
    "judged": "int64",
    "accepted": "int64",
    "delivered": "int64",
    "draft_s": "double",
    "encode_s": "double",
    "uplink_s": "double",
    "queue_s": "double",
    "verify_s": "double",
    "downlink_s": "double",
    "apply_s": "double",
    "wall_s": "double",
    "redecide_steps": "int64",
    "redecide_s": "double",
    "bytes_up": "int64",
    "bytes_down": "int64",
}
"""`round` counts from 0."""


def export(folder: Path, records: Sequence[Record]) -> None:
    """Write both tables beside the trials. Raises StoreError."""
    measured = [record for record in records if not record["warmup"]]
    _write(folder / "trials.parquet", TRIAL_COLUMNS, [trial_row(record) for record in measured])
    _write(folder / "rounds.parquet", ROUND_COLUMNS, [row for record in measured for row in round_rows(record)])


def trial_row(record: Record) -> dict[str, Any]:
    """A trial, flat."""
    rounds, mismatch = record["rounds"], record["mismatch"]
    derived = {
        "first_tokens": record["deliveries"][0][1],
        "deliveries": len(record["deliveries"]),
        "rounds": len(rounds),
        "mismatch": mismatch and mismatch["kind"],
    }
    sums = {name: sum(r[name] for r in rounds) for name in ("drafted", "accepted", "delivered")}
    return {**record, **record["link"], **{f"prefill_{k}": v for k, v in record["prefill"].items()}, **derived, **sums}


def round_rows(record: Record) -> list[dict[str, Any]]:
    """The rounds of a trial, each with the trial's setting."""
    setting = {name: value for name, value in {**record, **record["link"]}.items() if name in _SETTING}
    return [{**setting, "round": number, **r} for number, r in enumerate(record["rounds"])]


def _write(path: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = {"list": pa.list_(pa.int64())}
    schema = pa.schema([(name, lists.get(kind) or pa.type_for_alias(kind)) for name, kind in columns.items()])
    arrays = [pa.array([row.get(name) for row in rows], schema.field(name).type) for name in columns]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), buffer)
    replace_file(path, buffer.getvalue().to_pybytes())
