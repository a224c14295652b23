"""What an experiment is: a frozen, checked model of a file in experiments/. Quantities stay as people write them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    model_validator,
)

from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import DEFAULT_BURST_BYTES, LinkSpec
from aiflow_cli.models.pair import PairSpec, find_pair
from aiflow_cli.trials.live import LiveOptions, link_document
from aiflow_cli.trials.settings import DEFAULT_GAMMA, DRAFTING, Setting
from aiflow_cli.units import parse_duration, parse_rate, parse_size

HASH_DIGITS = 8


def _checked(parse: Callable[[str], Any]) -> BeforeValidator:
    """A text that `parse` takes; a bare number is the text of that number."""

    def check(value: object) -> object:
        text = str(value) if type(value) in (int, float) else value
        if not isinstance(text, str):
            raise ValueError("write it in quotes, with its unit")
        try:
            parse(text)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return text

    return BeforeValidator(check)


def _listed(value: object) -> object:
    """A single value stands for a list of one; nothing may be named twice."""
    values = value if isinstance(value, list | tuple) else [value]
    twice = [v for i, v in enumerate(values) if v in values[:i]]
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice: leave one out")
    return values


def _by_method(value: object) -> object:
    """Draft lengths for every method that drafts, unless they are given by method."""
    return value if isinstance(value, dict) else {method.value: value for method in DRAFTING}


def _path_text(value: object) -> str:
    """A path as text. What is no UTF-8 is a path too, so it is not checked as a text is."""
    if not isinstance(value, str):
        raise ValueError("give a text in quotes")
    if not value:
        raise ValueError("leave the key out, or give a text")
    return value


Listed = BeforeValidator(_listed)
PathText = Annotated[str, PlainValidator(_path_text)]
Rate = Annotated[str, _checked(parse_rate)]
Duration = Annotated[str, _checked(parse_duration)]
Size = Annotated[str, _checked(parse_size)]
PairName = Annotated[str, _checked(find_pair)]
Gamma = Annotated[StrictInt, Field(ge=1, le=MAX_GAMMA)]
Drafting = Literal["speculative", "co-located"]
Gammas = Annotated[tuple[Gamma, ...], Listed, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_min_length=1)


class LinkGrid(_Part):
    """The links of an experiment: every rate with every delay. `uplink` and `downlink` stand in for the rate of their direction."""

    rate: Annotated[tuple[Rate, ...], Listed, Field(min_length=1)] = ("1MB/s",)
    uplink: Rate | None = None
    downlink: Rate | None = None
    burst: Size = f"{DEFAULT_BURST_BYTES}B"
    delay: Annotated[tuple[Duration, ...], Listed, Field(min_length=1)] = ("0",)

    @model_validator(mode="after")
    def _check(self) -> LinkGrid:
        if self.uplink and self.downlink and "rate" in self.model_fields_set:
            raise ValueError("`rate` has no effect beside `uplink` and `downlink`: leave one of the three out")
        try:
            self.links()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def links(self) -> list[LinkSpec]:
        """Every link once."""
        return [
            LinkSpec(
                uplink_bytes_per_s=parse_rate(self.uplink or rate),
                downlink_bytes_per_s=parse_rate(self.downlink or rate),
                burst_bytes=parse_size(self.burst),
                delay_s=parse_duration(delay),
            )
            for rate, delay in itertools.product(self.rate, self.delay)
        ]


class Checkpoints(_Part):
    """Other checkpoints than the registry's for a pair: folders, or `hub:OWNER/NAME`."""

    draft: PathText | None = None
    target: PathText | None = None


class ExperimentSpec(_Part):
    """An experiment. Its blocks are images; a block is every pair, link, method and draft length once, server-only
    `server_only_per_block` times, in seeded random order; `repeats` times over.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)
    about: str
    pairs: Annotated[tuple[PairName, ...], Listed, Field(min_length=1)]
    checkpoints: dict[str, Checkpoints] = {}
    methods: Annotated[tuple[Method, ...], Listed] = (Method.SERVER_ONLY, Method.SPECULATIVE)
    gammas: Annotated[dict[Drafting, Gammas], BeforeValidator(_by_method)] = {
        "speculative": (DEFAULT_GAMMA,),
        "co-located": (DEFAULT_GAMMA,),
    }
    server_only_per_block: StrictInt = Field(1, ge=1, le=20)
    link: LinkGrid = LinkGrid()
    data: PathText = "scenes"
    images: StrictInt | None = Field(None, ge=1)
    seed: StrictInt = Field(0, ge=0)
    repeats: StrictInt = Field(1, ge=1)
    warmups: StrictInt = Field(1, ge=0)
    prompt: str | None = None
    max_new_tokens: StrictInt | None = Field(None, ge=1, le=4096)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """None: float32 on a CPU, the pair's own on a GPU."""
    quantize: Literal["int8", "int4"] | None = None
    exact: StrictBool = False
    """Near-ties of a verification are decided again by single steps (`decoding/exact.py`)."""
    threads: StrictInt = Field(1, ge=1, le=256)
    server: str | None = None
    """A running `aiflow serve` instead of one that is started here: HOST:PORT."""

    @model_validator(mode="after")
    def _check(self) -> ExperimentSpec:
        for method in DRAFTING:
            if method in self.methods and method.value not in self.gammas:
                raise ValueError(f"`gammas` names no draft length for {method.value}: add `gammas.{method.value}`")
        for name in self.checkpoints:
            if name not in self.pairs:
                raise ValueError(f"`checkpoints.{name}` is of no pair in `pairs`: add {name!r} there, or leave it out")
        if self.server and len(self.pairs) > 1:
            raise ValueError(f"a `server` has one target, `pairs` names {len(self.pairs)} pairs: give one")
        return self

    def pair_specs(self) -> dict[str, PairSpec]:
        """The pairs by name."""
        chosen = {name: self.checkpoints.get(name, Checkpoints()) for name in self.pairs}
        return {name: find_pair(name, other.draft, other.target) for name, other in chosen.items()}

    def grid(self) -> list[Setting]:
        """Every setting once. Server-only is the reference of `identical`: it is measured asked for or not."""
        methods = [Method.SERVER_ONLY, *(method for method in self.methods if method is not Method.SERVER_ONLY)]
        return [
            Setting(method, gamma, pair, link)
            for pair in self.pairs
            for link in self.link.links()
            for method in methods
            for gamma in self._gammas(method)
        ]

    def _gammas(self, method: Method) -> tuple[int | None, ...]:
        return self.gammas[method.value] if method in DRAFTING else (None,)  # type: ignore[index]

    def block(self) -> list[Setting]:
        """The settings of a block, before they are shuffled."""
        return [
            setting
            for setting in self.grid()
            for _ in range(self.server_only_per_block if setting.method is Method.SERVER_ONLY else 1)
        ]

    def live_options(self) -> LiveOptions:
        """What all trials share."""
        return LiveOptions(
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            exact=self.exact,
            threads=self.threads,
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            server=self.server,
        )

    def meaning(self) -> dict[str, Any]:
        """What decides the trials, in one form however it is written: name and description aside, and what is not asked for,
        so that a key that is added later changes nothing.
        """
        shared = self.model_dump(
            mode="json", exclude={"name", "about", "pairs", "methods", "gammas", "server_only_per_block", "link"}
        )
        block = [[s.pair, s.label, *link_document(s.link).values()] for s in self.block()]
        asked = {
            name: value for name, value in shared.items() if value is not None and value is not False and value != {}
        }
        return asked | {"block": block}

    @property
    def fingerprint(self) -> str:
        """A hash of `meaning`."""
        return hashlib.sha256(json.dumps(self.meaning(), sort_keys=True).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Where its results go, under results/."""
        return f"{self.name}-{self.fingerprint[:HASH_DIGITS]}"
