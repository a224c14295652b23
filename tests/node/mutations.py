"""Conversations as a device might hold them, damaged as bytes and minds get damaged. Seeded: a fault comes again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from aiflow_cli.wire.framing import LENGTH_BYTES, encode
from aiflow_cli.wire.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Draft,
    Fingerprint,
    Hello,
    Message,
    Refused,
    Round,
    Tokens,
    Verdict,
    Verification,
    pack_ids,
)
from tests.node.served import request_for_caption, welcome

METHODS = ("server-only", "speculative", "co-located", "on-device", "")
WRONG: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**63,
    1.5,
    float("nan"),
    True,
    "x",
    b"x",
    [],
    {},
    [[]],
    "x" * 5000,
    b"\xff" * 5000,
    [1] * 300,
)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Mutator:
    """Makes damaged conversations: lists of frames, the first mostly a hello."""

    def __init__(self, seed: int, fingerprint: Fingerprint) -> None:
        self.random = random.Random(seed)
        self.fingerprint = fingerprint
        self.hello = Hello(PROTOCOL_VERSION, fingerprint)

    def conversation(self) -> list[bytes]:
        """What a device would say, damaged."""
        return self._damaged([encode(message) for message in self._valid()])

    def answers(self) -> list[bytes]:
        """What a server could say to a device, in any order, sometimes damaged."""
        chance = self.random
        kinds: list[Callable[[], Message]] = [
            lambda: Tokens(self._request(), chance.randint(0, 4), self._ids(3), chance.random() < 0.2, 0, 2**39),
            lambda: Verdict(
                self._request(),
                chance.randint(0, 2),
                chance.randint(0, 4),
                chance.randint(0, 4),
                chance.choice((None, 7)),
                False,
                self._cost(),
            ),
            lambda: Round(
                self._request(),
                chance.randint(0, 4),
                self._ids(5),
                chance.random() < 0.2,
                4,
                chance.randint(0, 4),
                0,
                self._cost(),
            ),
            lambda: chance.choice((Refused("no"), Cancel(1), welcome(self.fingerprint), Draft(1, 0, 1, self._ids(2)))),
        ]
        first = Tokens(1, 0, self._ids(1), False, 0, 2**39)
        later = [chance.choices(kinds, (4, 4, 4, 1))[0]() for _ in range(chance.randint(0, 5))]
        return self._damaged([encode(message) for message in (first, *later)], least=0)

    def _request(self) -> int:
        """That which is made, mostly."""
        return self.random.choices((1, 0, 2), (8, 1, 1))[0]

    def _cost(self) -> Verification:
        return Verification(self.random.randint(0, 5), 0, 2**39)

    def _ids(self, most: int) -> bytes:
        return pack_ids(self.random.choices(range(300), k=self.random.randint(0 if most > 1 else 1, most)))

    def _damaged(self, frames: list[bytes], least: int = 1) -> list[bytes]:
        for _ in range(self.random.randint(least, 3)):
            at = self.random.randrange(len(frames))
            frames[at] = self.random.choice(self._damages())(frames[at])
        if self.random.random() < 0.2:
            self.random.shuffle(frames)
        return frames

    def _valid(self) -> list[Message]:
        chance = self.random
        number = 5
        request = msgspec.structs.replace(
            request_for_caption(chance.choice(METHODS), chance.choice((1, 4, 9, 8192))), request_id=number
        )
        drafts = [
            Draft(number, n, n + 1, pack_ids(chance.choices(range(300), k=chance.randint(0, 5)))) for n in range(3)
        ]
        others: list[Message] = [
            Cancel(number),
            Cancel(number - 1),
            Cancel(number + 1),
            request,
            self.hello,
            Tokens(number, 0, b"", True, 0, 0),
            Verdict(number, 0, 1, 1, 1, False, self._cost()),
            Refused("no"),
            welcome(self.fingerprint),
        ]
        return [self.hello, request, *drafts[: chance.randint(0, 3)], *chance.sample(others, chance.randint(0, 2))]

    def _damages(self) -> list[Callable[[bytes], bytes]]:
        return [self._flip, self._cut, self._splice, self._length, self._field, self._field, self._noise]

    def _flip(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self.random.randint(1, 8)):
            damaged[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(damaged)

    def _cut(self, data: bytes) -> bytes:
        """A frame that ends early, with the length that it should have had or the one that it has."""
        body = data[LENGTH_BYTES : self.random.randint(LENGTH_BYTES, len(data))]
        return self.random.choice((frame(body), data[:LENGTH_BYTES] + body))

    def _splice(self, data: bytes) -> bytes:
        body = data[LENGTH_BYTES:]
        begin, end = sorted(self.random.choices(range(len(body) + 1), k=2))
        at = self.random.randint(0, len(body))
        return frame(body[:at] + body[begin:end] + body[at:])

    def _length(self, data: bytes) -> bytes:
        length = self.random.choice((0, 1, 16_384, 16_385, 32_000_000, 2**31, 2**32 - 1, self.random.randrange(2**32)))
        return length.to_bytes(LENGTH_BYTES, "big") + data[LENGTH_BYTES:]

    def _field(self, data: bytes) -> bytes:
        """A field of another type or out of its bounds, one too few or too many, in a frame that is whole."""
        try:
            fields: Any = msgspec.msgpack.decode(data[LENGTH_BYTES:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._noise(data)
        if not isinstance(fields, list) or not fields:
            return self._noise(data)
        at = self.random.randrange(len(fields))
        fields[at : at + self.random.randint(0, 1)] = [self.random.choice(WRONG)] * self.random.randint(0, 2)
        return frame(msgspec.msgpack.encode(fields))

    def _noise(self, data: bytes) -> bytes:
        body = self.random.randbytes(self.random.randint(0, 300))
        return self.random.choice((body, frame(body), data + body))
