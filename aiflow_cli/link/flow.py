"""One direction of the relay: flows that share one bucket, and the line of chunks that are on their way."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from aiflow_cli.link.bucket import TokenBucket

QUANTUM_S = 1e-3
"""A chunk is what the rate carries in a millisecond: the first byte of a long message is late by no more."""
MAX_WAITING_BYTES = 65_536
"""Bytes that a flow may have waiting for the bucket before its source is no longer read."""
MAX_LINE_BYTES = 64_000_000
"""Memory that what is under way in one direction may take, shared by its flows; who has its share there is not read.

A delay without a rate would hold whatever a source can send in that time; 320 MB/s over 200 ms still pass
unhindered."""
CHUNK_BYTES = 500
"""What a chunk takes beside its data, so that many small ones count too."""


@dataclass
class Chunk:
    """Bytes under way: due at `due_s`; `ends_message` if its flow has nothing behind it; an empty one ends the flow."""

    due_s: float
    flow: Flow
    data: memoryview
    ends_message: bool

    @property
    def held_bytes(self) -> int:
        """Memory that it takes while it is on the line."""
        return len(self.data) + CHUNK_BYTES


@dataclass(eq=False)
class Flow:
    """One connection in one direction: bytes waiting for the bucket, and bytes that are not taken yet."""

    key: object
    waiting: deque[memoryview] = field(default_factory=deque)
    waiting_bytes: int = 0
    line_bytes: int = 0
    came_s: float = 0.0
    ended: bool = False
    end_scheduled: bool = False

    def has_room(self, n_flows: int) -> bool:
        """Whether its source may be read, where `n_flows` share the direction."""
        return self.waiting_bytes < MAX_WAITING_BYTES and self.line_bytes < MAX_LINE_BYTES / max(1, n_flows)


class Direction:
    """The bucket, the flows that wait for it in turn (round robin), and the delay line. Pure: time is handed in."""

    def __init__(self, rate_bytes_per_s: float, burst_bytes: int, delay_s: float) -> None:
        self._bucket = None if math.isinf(rate_bytes_per_s) else TokenBucket(rate_bytes_per_s, burst_bytes)
        self._quantum = 65_536 if self._bucket is None else max(1, round(rate_bytes_per_s * QUANTUM_S))
        self._delay_s = delay_s
        self._turn: deque[Flow] = deque()
        self._line: deque[Chunk] = deque()

    def offer(self, flow: Flow, data: bytes, now_s: float) -> None:
        """Bytes of a flow arrived at `now_s`; b"" is the end of its stream."""
        if not self._turn and self._bucket is not None:
            self._bucket.refill(now_s)
        flow.came_s = now_s
        if data:
            flow.waiting.append(memoryview(data))
            flow.waiting_bytes += len(data)
        else:
            flow.ended = True
        if flow not in self._turn:
            self._turn.append(flow)

    def schedule(self, now_s: float) -> list[Flow]:
        """Put on the line what the bucket lets go by `now_s`; returns the flows that were scheduled."""
        scheduled: list[Flow] = []
        while self._turn and (self._bucket is None or self._bucket.free_at_s <= now_s):
            flow = self._turn.popleft()
            data = self._cut(flow)
            if data:
                leaves_s = now_s if self._bucket is None else self._bucket.take(flow.came_s, len(data))
                self._put(Chunk(leaves_s + self._delay_s, flow, data, not flow.waiting))
                scheduled.append(flow)
            if flow.waiting:
                self._turn.append(flow)
            elif flow.ended and not flow.end_scheduled:
                flow.end_scheduled = True
                self._put(Chunk(now_s + self._delay_s, flow, memoryview(b""), True))  # behind all that is on the line
        return scheduled

    def _put(self, chunk: Chunk) -> None:
        self._line.append(chunk)
        chunk.flow.line_bytes += chunk.held_bytes

    def _cut(self, flow: Flow) -> memoryview:
        if not flow.waiting:
            return memoryview(b"")
        head = flow.waiting.popleft()
        if len(head) > self._quantum:
            flow.waiting.appendleft(head[self._quantum :])
            head = head[: self._quantum]
        flow.waiting_bytes -= len(head)
        return head

    def due(self, now_s: float) -> list[Chunk]:
        """Take from the line what is due by `now_s`."""
        chunks: list[Chunk] = []
        while self._line and self._line[0].due_s <= now_s:
            chunk = self._line.popleft()
            chunk.flow.line_bytes -= chunk.held_bytes
            chunks.append(chunk)
        return chunks

    def next_event_s(self) -> tuple[float, bool]:
        """When something is to be done next (math.inf: never), and whether a message ends then, worth spinning for."""
        line_s, exact = (self._line[0].due_s, self._line[0].ends_message) if self._line else (math.inf, False)
        if self._turn:
            free_s = -math.inf if self._bucket is None else self._bucket.free_at_s
            if free_s < line_s:
                return free_s, False
        return line_s, exact

    def drop(self, flow: Flow) -> None:
        """Forget a flow whose connection is gone."""
        if flow in self._turn:
            self._turn.remove(flow)
        self._line = deque(chunk for chunk in self._line if chunk.flow is not flow)
        flow.line_bytes = 0
