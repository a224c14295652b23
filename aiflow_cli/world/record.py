"""The record: one trial, typed. What is written, read, exported and documented of a trial is derived from these
classes.

Seconds are of the device's clock from t0 (the image's bytes are in memory) unless a field says that the server measured
them; None: there was nothing to measure. Only the device's clock times a response, so nothing needs synchronised
clocks.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import msgspec

from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.spec import LinkSpec

SCHEMA_VERSION = 2
DRAFTING = (Method.SPECULATIVE, Method.CO_LOCATED)
"""Methods that have a draft length."""


def now() -> str:
    """This moment as ISO 8601 in UTC. For the record only: nothing is timed by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def about(text: str) -> msgspec.Meta:
    """What a field is, as its column's description says it."""
    return msgspec.Meta(description=text)


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of a record: immutable, written in the order of its fields."""

    def replace(self, **changes: Any) -> Self:
        """The same with other values in some fields."""
        return msgspec.structs.replace(self, **changes)


class Link(_Part, frozen=True, kw_only=True):
    """A shaped link; a rate of None is unlimited."""

    uplink_bytes_per_s: Annotated[float | None, about("Device to server; null: unlimited.")]
    downlink_bytes_per_s: Annotated[float | None, about("Server to device; null: unlimited.")]
    burst_bytes: Annotated[int, about("What the token bucket holds, full at the start.")]
    delay_s: Annotated[float, about("One way.")]

    @classmethod
    def of(cls, spec: LinkSpec) -> Link:
        """The link as it is recorded."""
        up, down = (None if math.isinf(r) else r for r in (spec.uplink_bytes_per_s, spec.downlink_bytes_per_s))
        return cls(uplink_bytes_per_s=up, downlink_bytes_per_s=down, burst_bytes=spec.burst_bytes, delay_s=spec.delay_s)

    @property
    def spec(self) -> LinkSpec:
        """The link as it is computed with. Raises UsageError for what no link can be."""
        up, down = (math.inf if r is None else r for r in (self.uplink_bytes_per_s, self.downlink_bytes_per_s))
        return LinkSpec(up, down, self.burst_bytes, self.delay_s)


class Setting(_Part, frozen=True, kw_only=True):
    """What is varied between the trials of one image."""

    pair: Annotated[str, about("The pair's name in the registry.")]
    method: Annotated[Method, about("server-only, speculative, co-located or on-device.")]
    gamma: Annotated[int | None, about("Draft length; null for methods without drafts.")]
    link: Link

    @property
    def label(self) -> str:
        """Method and draft length, as people name it: `speculative-4`."""
        return self.method.value if self.gamma is None else f"{self.method.value}-{self.gamma}"

    @property
    def words(self) -> str:
        """Method and draft length in a sentence: `speculative gamma 4`."""
        return self.method.value if self.gamma is None else f"{self.method.value} gamma {self.gamma}"

    @property
    def on_server(self) -> bool:
        """Whether the target makes the tokens, so that they must equal those of server-only."""
        return self.method is not Method.ON_DEVICE


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """Tokens that came together: seconds since t0, and how many."""

    at_s: Annotated[float, about("When each delivery came, since t0.")]
    n_tokens: Annotated[int, about("Tokens of each delivery.")]


class Prefill(_Part, frozen=True, kw_only=True):
    """What went before the first token."""

    draft_s: Annotated[
        float | None, about("The draft model's prefill: on the device, beside the upload, or co-located on the server.")
    ] = None
    network_s: Annotated[float | None, about("TTFT without the server's queue and prefills.")] = None
    server_s: Annotated[float | None, about("The target's prefill, by the server.")] = None
    queue_s: Annotated[float | None, about("From the request's last byte to its work, by the server.")] = None


class Round(_Part, frozen=True, kw_only=True):
    """One draft and one verification; its six parts follow one another and sum to `wall_s`, what no clock saw aside."""

    drafted: Annotated[int, about("Drafted tokens.")]
    judged: Annotated[int, about("Drafts that were accepted or rejected: those behind a rejection were not.")]
    accepted: Annotated[int, about("Drafts that became output.")]
    delivered: Annotated[int, about("Tokens that the round added to the output.")]
    draft_s: Annotated[float, about("From the last delivery until all was drafted.")]
    encode_s: Annotated[float, about("Until the draft was handed to the kernel.")]
    network_s: Annotated[float, about("From there to the answer, without queue and verification: both ways.")]
    queue_s: Annotated[float, about("From the draft's last byte to its work, by the server.")]
    verify_s: Annotated[float, about("The verification, by the server.")]
    apply_s: Annotated[float, about("From the answer to its tokens' delivery.")]
    wall_s: Annotated[float, about("From delivery to delivery.")]
    bytes_up: Annotated[int, about("The draft's frame; 0 where the server drafts.")]
    bytes_down: Annotated[int, about("The answer's frame.")]
    redecide_steps: Annotated[int, about("Single steps that decided a position again (`--exact`).")] = 0
    redecide_s: Annotated[float, about("Their time, a part of `verify_s`.")] = 0.0


class Mismatch(_Part, frozen=True, kw_only=True):
    """The first token in which an output differs from server-only's. A token is None where that output had ended."""

    position: Annotated[int, about("In the output, from 0.")]
    expected: Annotated[int | None, about("Server-only's token.")]
    got: Annotated[int | None, about("This output's token.")]
    margin: Annotated[float | None, about("Between the target's logits of both tokens.")]
    kind: Annotated[
        Literal["tie", "defect", "unexplained"],
        about("Rounding explains it; it does not; the target is not here to tell."),
    ]


class Trial(_Part, frozen=True, kw_only=True):
    """One response. The first fields are known before it is made; the others have values when it is over."""

    trial: Annotated[str, about("A name, unique in its result.")]
    session: Annotated[int, about("Processes were started anew for each session; from 0.")] = 0
    node: Annotated[str, about("The machine's name.")]
    block: Annotated[int, about("Trials of one image, in which every setting has its turn.")]
    order: Annotated[int, about("Place within the block.")]
    repeat: Annotated[int, about("How often the image had been run before, within its session.")]
    warmup: Annotated[bool, about("Made first and thrown away.")] = False
    image_id: Annotated[str, about("The image's name in its set.")]
    image_bytes: Annotated[int, about("Of the encoded picture.")]
    setting: Setting
    started_at: Annotated[str, about("UTC. For the record only: nothing is timed by it.")]
    tokens: Annotated[tuple[int, ...], about("Output ids.")] = ()
    stopped: Annotated[bool, about("Ended by an end token, not by the maximum length.")] = False
    caption: Annotated[str, about("The output as text.")] = ""
    deliveries: Annotated[tuple[Delivery, ...], about("[seconds since t0, tokens], in order.")] = ()
    prefill: Prefill = Prefill()
    steps_s: Annotated[tuple[float, ...], about("Single decode steps, where a method makes such.")] = ()
    rounds: tuple[Round, ...] = ()
    bytes_up_by_message: Annotated[dict[str, int], about("Bytes sent, framing included, by kind.")] = {}
    bytes_down_by_message: Annotated[dict[str, int], about("Bytes received, by kind.")] = {}
    identical: Annotated[bool | None, about("Output equals server-only's; null: not compared.")] = None
    mismatch: Mismatch | None = None

    @property
    def n_tokens(self) -> int:
        """N, the output's tokens."""
        return len(self.tokens)

    @property
    def first_tokens(self) -> int:
        """n1, tokens of the first delivery."""
        return self.deliveries[0].n_tokens

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.deliveries[0].at_s

    @property
    def latency_s(self) -> float:
        """Time to the last token."""
        return self.deliveries[-1].at_s

    @property
    def bytes_up(self) -> int:
        """All bytes from device to server, framing included."""
        return sum(self.bytes_up_by_message.values())

    @property
    def bytes_down(self) -> int:
        """All bytes from server to device."""
        return sum(self.bytes_down_by_message.values())
