"""What all trials of an experiment share: where and how models run, and what they are asked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from aiflow_cli.models.pair import PairSpec

STRICT = ConfigDict(frozen=True, extra="forbid", str_min_length=1)


class Conditions(BaseModel):
    """`prompt`, `max_new_tokens` and `dtype` of None are the pair's own (on a CPU float32)."""

    model_config = STRICT

    prompt: str | None = None
    max_new_tokens: StrictInt | None = Field(default=None, ge=1, le=4096)
    device: str = "cpu"
    server_device: str | None = None
    """Where the target runs, if not where the draft does."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantize: Literal["int8", "int4"] | None = None
    exact: StrictBool = False
    """Near-ties of a verification are decided again by single steps (`decoding/exact.py`)."""
    threads: StrictInt = Field(default=1, ge=1, le=256)
    server: str | None = None
    """A running `aiflow serve` instead of one that is started here: HOST:PORT."""

    @model_validator(mode="after")
    def _check_server(self) -> Conditions:
        if self.server and self.server_device:
            raise ValueError("a `server` has a device of its own: leave `server_device` out")
        return self

    @property
    def target_device(self) -> str:
        """Where the target runs, if its server is started here."""
        return self.server_device or self.device

    @property
    def on_gpu(self) -> bool:
        """Whether a model runs on anything but the CPU."""
        return {self.device, self.target_device} != {"cpu"}

    def dtype_of(self, pair: PairSpec, device: str) -> str:
        """What a pair's weights are computed in on a device."""
        return self.dtype or pair.dtype_on(device)

    def question(self, pair: PairSpec) -> str:
        """What is asked of every image."""
        return self.prompt or pair.question

    def longest_answer(self, pair: PairSpec) -> int:
        """How many tokens an answer has at most."""
        return self.max_new_tokens or pair.max_new_tokens
