"""The decoding methods, named as on the command line."""

from __future__ import annotations

from enum import Enum

from aiflow_cli.wire.messages import MAX_GAMMA

__all__ = ["MAX_GAMMA", "Method"]


class Method(Enum):
    """Who makes the tokens. All but ON_DEVICE give the target's own greedy output."""

    SERVER_ONLY = "server-only"
    """The target, token by token; the paper's baseline."""
    SPECULATIVE = "speculative"
    """The device drafts gamma tokens, the server verifies them in one pass, stop and wait: the paper's method."""
    CO_LOCATED = "co-located"
    """Both models on the server; the link carries the image and the output."""
    ON_DEVICE = "on-device"
    """The draft model alone, without a server: another output."""
