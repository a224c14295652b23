"""What an experiment is: a file in experiments/, or the options of `aiflow run`, checked. Quantities are texts."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, StrictInt, model_validator

from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import DEFAULT_BURST_BYTES, LinkSpec
from aiflow_cli.models.pair import PairSpec, find_pair
from aiflow_cli.units import parse_duration, parse_rate, parse_size
from aiflow_cli.world.conditions import STRICT, Conditions
from aiflow_cli.world.record import DRAFTING, SCHEMA_VERSION, Link, Setting


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
    if not isinstance(value, str) or not value:
        raise ValueError("leave the key out, or give a text")
    return value


Listed = BeforeValidator(_listed)
PathText = Annotated[str, PlainValidator(_path_text)]
Rate = Annotated[str, _checked(parse_rate)]
Delay = Annotated[str, _checked(lambda text: LinkSpec(1, 1, delay_s=parse_duration(text)))]
Burst = Annotated[str, _checked(lambda text: LinkSpec(1, 1, burst_bytes=parse_size(text)))]
PairName = Annotated[str, _checked(find_pair)]
Gamma = Annotated[StrictInt, Field(ge=1, le=MAX_GAMMA)]
Drafting = Literal["speculative", "co-located"]
Gammas = Annotated[tuple[Gamma, ...], Listed, Field(min_length=1)]


class LinkGrid(BaseModel):
    """The links of an experiment: every rate with every delay. `uplink`, `downlink`: another rate in that direction."""

    model_config = STRICT

    rate: Annotated[tuple[Rate, ...], Listed, Field(min_length=1)] = ("1MB/s",)
    uplink: Rate | None = None
    downlink: Rate | None = None
    burst: Burst = f"{DEFAULT_BURST_BYTES}B"
    delay: Annotated[tuple[Delay, ...], Listed, Field(min_length=1)] = ("0",)

    @model_validator(mode="after")
    def _check(self) -> LinkGrid:
        if self.uplink and self.downlink and "rate" in self.model_fields_set:
            raise ValueError("`rate` has no effect beside `uplink` and `downlink`: leave one of the three out")
        return self

    def links(self) -> list[LinkSpec]:
        """Every link once."""
        links = []
        for rate, delay in itertools.product(self.rate, self.delay):
            uplink, downlink = parse_rate(self.uplink or rate), parse_rate(self.downlink or rate)
            links.append(LinkSpec(uplink, downlink, parse_size(self.burst), parse_duration(delay)))
        return links


class ExperimentSpec(Conditions):
    """An experiment. Its blocks are images; a block is every pair, link, method and draft length once, server-only
    `server_only_per_block` times, in seeded random order; `repeats` times over in each of its `sessions`, for which all
    processes are started anew.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)
    about: str
    pairs: Annotated[tuple[PairName, ...], Listed, Field(min_length=1)]
    checkpoints: dict[str, dict[Literal["draft", "target"], PathText]] = Field(default_factory=dict)
    """Others than the registry's for a pair: folders, or `hub:OWNER/NAME`."""
    methods: Annotated[tuple[Method, ...], Listed] = (Method.SERVER_ONLY, Method.SPECULATIVE)
    gammas: Annotated[dict[Drafting, Gammas], BeforeValidator(_by_method)] = Field(4, validate_default=True)
    server_only_per_block: StrictInt = Field(1, ge=1, le=20)
    link: LinkGrid = LinkGrid()
    data: PathText = "scenes"
    images: StrictInt | None = Field(None, ge=1)
    seed: StrictInt = Field(0, ge=0)
    sessions: StrictInt = Field(1, ge=1, le=100)
    repeats: StrictInt = Field(1, ge=1)
    warmups: StrictInt = Field(1, ge=0)

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
        return {name: find_pair(name, **self.checkpoints.get(name, {})) for name in self.pairs}

    def grid(self) -> list[Setting]:
        """Every setting once. Server-only is the reference of `identical`: it is measured asked for or not."""
        return [
            Setting(pair=pair, method=method, gamma=gamma, link=Link.of(link))
            for pair in self.pairs
            for link in self.link.links()
            for method in dict.fromkeys([Method.SERVER_ONLY, *self.methods])
            for gamma in (self.gammas[method.value] if method in DRAFTING else (None,))  # type: ignore[index]
        ]

    def block(self) -> list[Setting]:
        """The settings of a block, before they are shuffled."""
        often = {Method.SERVER_ONLY: self.server_only_per_block}
        return [setting for setting in self.grid() for _ in range(often.get(setting.method, 1))]

    @property
    def fingerprint(self) -> str:
        """A hash of what decides the trials, in one form however it is written: name and description aside, and what is
        not asked for, so that a key that is added later changes nothing.
        """
        told = {"name", "about", "pairs", "methods", "gammas", "server_only_per_block", "link"}
        shared = self.model_dump(mode="json", exclude=told)
        # Of a pair both checkpoints are told, also one that is not given: by that hash results have been named.
        both = {name: {"draft": None, "target": None} | given for name, given in self.checkpoints.items()}
        shared["checkpoints"] = both
        asked = {key: value for key, value in shared.items() if not (value is None or value is False or value == {})}
        meaning = asked | {"schema": SCHEMA_VERSION, "block": msgspec.to_builtins(self.block())}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
