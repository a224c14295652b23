"""What one run is: a frozen, checked model, saved whole with its result."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LONGEST_DELAY_S, LinkSpec
from aiflow_cli.trials.remedies import remedy
from aiflow_cli.units import format_duration, format_rate, format_size

DEFAULT_GAMMA = 4
DEFAULT_RATE_BYTES_PER_S = 1_000_000.0
DRAFTING = (Method.SPECULATIVE, Method.CO_LOCATED)
"""Methods that have a draft length."""


@dataclass(frozen=True)
class Setting:
    """What is varied between the trials of one image: method, draft length (None without drafts), pair, link."""

    method: Method
    gamma: int | None
    pair: str
    link: LinkSpec

    @property
    def label(self) -> str:
        """Method and draft length, as people name it: `speculative-4`."""
        return self.method.value if self.gamma is None else f"{self.method.value}-{self.gamma}"

    @property
    def on_server(self) -> bool:
        """Whether the target makes the tokens, so that they must equal those of server-only."""
        return self.method is not Method.ON_DEVICE


class RunSettings(BaseModel):
    """One run: some methods and draft lengths over one pair, one link, the same images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[Method, ...] = (Method.SERVER_ONLY, Method.SPECULATIVE)
    gammas: tuple[int, ...] = (DEFAULT_GAMMA,)
    pair: str = "small"
    draft: str | None = None
    target: str | None = None
    data: str = "scenes"
    images: int | None = Field(None, ge=1)
    prompt: str | None = Field(None, min_length=1)
    uplink_bytes_per_s: float | None = Field(DEFAULT_RATE_BYTES_PER_S, gt=0)
    downlink_bytes_per_s: float | None = Field(DEFAULT_RATE_BYTES_PER_S, gt=0)
    burst_bytes: int = Field(10_000, ge=1)
    delay_s: float = Field(0.0, ge=0, le=LONGEST_DELAY_S)
    seed: int = Field(0, ge=0)
    repeats: int = Field(1, ge=1)
    warmups: int = Field(2, ge=0)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """None: float32 on a CPU, the pair's own on a GPU."""
    quantize: Literal["int8", "int4"] | None = None
    exact: bool = False
    """Near-ties of a verification are decided again by single steps (`decoding/exact.py`)."""
    max_new_tokens: int | None = Field(None, ge=1, le=4096)
    threads: int = Field(1, ge=1, le=256)
    server: str | None = None

    @model_validator(mode="after")
    def _check_gammas(self) -> RunSettings:
        for gamma in self.gammas:
            if not 1 <= gamma <= MAX_GAMMA:
                raise ValueError(f"gamma {gamma} is out of range: give a draft length from 1 to {MAX_GAMMA}")
        return self

    @property
    def link(self) -> LinkSpec:
        """The link of every trial; a rate of None is unlimited."""
        return LinkSpec(
            uplink_bytes_per_s=math.inf if self.uplink_bytes_per_s is None else self.uplink_bytes_per_s,
            downlink_bytes_per_s=math.inf if self.downlink_bytes_per_s is None else self.downlink_bytes_per_s,
            burst_bytes=self.burst_bytes,
            delay_s=self.delay_s,
        )

    def grid(self) -> list[Setting]:
        """Every setting once, server-only first: it is the reference of `identical`, so it is measured asked for or not."""
        methods = [Method.SERVER_ONLY, *(m for m in dict.fromkeys(self.methods) if m is not Method.SERVER_ONLY)]
        return [
            Setting(method, gamma, self.pair, self.link)
            for method in methods
            for gamma in (tuple(dict.fromkeys(self.gammas)) if method in DRAFTING else (None,))
        ]


_OPTIONS = {
    "methods": "--method",
    "gammas": "--gamma",
    "uplink_bytes_per_s": "--uplink",
    "downlink_bytes_per_s": "--downlink",
    "burst_bytes": "--burst",
    "delay_s": "--delay",
}
"""The option of a field, where it is not the field's own name."""
_WRITTEN: dict[str, Callable[[Any], str]] = {
    "uplink_bytes_per_s": format_rate,
    "downlink_bytes_per_s": format_rate,
    "burst_bytes": format_size,
    "delay_s": format_duration,
}


def make_settings(**values: Any) -> RunSettings:
    """RunSettings of `values`; a value out of bounds raises UsageError that names it in one line."""
    try:
        return RunSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        written = _WRITTEN.get(name, str) if isinstance(first["input"], int | float) else str
        option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
        value, message = written(first["input"]) or "''", remedy(first, written)
        raise UsageError(f"{option} {value}: {message}" if name else message) from None


def parse_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Methods by name; UsageError names the known ones."""
    known = [method.value for method in Method]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"give one of {', '.join(known)}"
            raise UsageError(f"no method `{name}`: {hint}")
    return tuple(Method(name) for name in names)
