"""The shaped relay: real TCP through token buckets, one process, one thread, its own loop over epoll.

Any TCP client can be pointed through it. The wait is `select` on the epoll descriptor, which takes microseconds where
`epoll.poll` rounds to milliseconds; timer slack is 1 ns; the last 0.3 ms are spun only before a chunk that ends a
message. Deadlines are absolute, so lateness does not add up. Linux only (epoll).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiflow_cli.link.address import OUT_OF_ROOM, Address, bound_address, family, listen, resolve, tune
from aiflow_cli.link.flow import Chunk, Direction, Flow
from aiflow_cli.link.spec import LinkSpec

_READ_BYTES = 65_536
_SPIN_S = 0.3e-3
_IDLE_S = 0.5
"""The longest wait: how soon the loop notices that it is to stop."""
_MAX_UNTAKEN_BYTES = 1_000_000
MAX_CONNECTIONS = 512
"""Beyond these, newcomers are turned away: more than a server takes, so that it is the server that says why."""
_PR_SET_TIMERSLACK = 29


@dataclass(eq=False)
class _End:
    """One socket of a connection, with what it is to be sent."""

    sock: socket.socket
    direction: Direction
    connecting: bool = False
    peer: _End = field(init=False)
    flow: Flow = field(init=False)
    untaken: deque[memoryview] = field(default_factory=deque)
    untaken_bytes: int = 0
    shut_after: bool = False
    write_closed: bool = False
    read_ended: bool = False
    events: int = 0

    def __post_init__(self) -> None:
        self.flow = Flow(self)

    @property
    def closed(self) -> bool:
        """Whether its socket is closed already, while what came from it may still be under way."""
        return self.sock.fileno() < 0


@dataclass
class Counts:
    """What passed: bytes by direction, connections (and those refused), and how late chunks were at most."""

    uplink_bytes: int = 0
    downlink_bytes: int = 0
    connections: int = 0
    refused: int = 0
    max_lateness_s: float = 0.0


class Relay:
    """Listens, connects each client on to `upstream`, and shapes both directions. `run` ends when `should_stop()`."""

    def __init__(self, address: Address, upstream: Address, spec: LinkSpec) -> None:
        """Bind to `address` at once; raises LinkError if that cannot be, or if the upstream's host is not known."""
        self._upstream = resolve(upstream)
        self._up = Direction(spec.uplink_bytes_per_s, spec.burst_bytes, spec.delay_s)
        self._down = Direction(spec.downlink_bytes_per_s, spec.burst_bytes, spec.delay_s)
        self._ends: dict[int, _End] = {}
        self._epoll = select.epoll()
        self.counts = Counts()
        self._listener = listen(address)
        self._listener.setblocking(False)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._deaf_until_s = math.inf
        self.address = bound_address(self._listener)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Relay until `should_stop()`, asked at least twice a second."""
        _set_timer_slack()
        while not should_stop():
            self._wait()
            events = dict(self._epoll.poll(0))
            for fd, what in events.items():
                self._dispatch(fd, what)
            if self._listener.fileno() in events:  # last: a new socket may get the number of one that was just closed
                self._accept()
            if time.monotonic() > self._deaf_until_s:
                self._deaf_until_s = math.inf
                self._epoll.modify(self._listener, select.EPOLLIN)
            for direction in (self._up, self._down):
                self._advance(direction)

    def close(self) -> None:
        """Close all sockets."""
        for end in list(self._ends.values()):
            self._close_pair(end)
        self._listener.close()
        self._epoll.close()

    def _wait(self) -> None:
        """Sleep until something is to be done; not in the last moments before the end of a message."""
        next_s, exact = min(self._up.next_event_s(), self._down.next_event_s())
        wait_s = min(_IDLE_S, next_s - time.monotonic() - (_SPIN_S if exact else 0.0))
        if wait_s > 0:
            select.select([self._epoll.fileno()], [], [], wait_s)

    def _dispatch(self, fd: int, events: int) -> None:
        end = self._ends.get(fd)
        if end is None:
            return
        try:
            if end.connecting:
                self._connected(end)
            if events & select.EPOLLOUT:
                self._flush(end)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(end)
        except OSError:
            self._broke(end)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            # Gone again before it was accepted; or there is no room: newcomers wait, those that are connected go on.
            if error.errno in OUT_OF_ROOM:
                self._epoll.modify(self._listener, 0)
                self._deaf_until_s = time.monotonic() + _IDLE_S
            return
        if len(self._ends) >= 2 * MAX_CONNECTIONS:
            client.close()
            return
        try:
            server = socket.socket(family(self._upstream), socket.SOCK_STREAM)
        except OSError:
            client.close()
            return
        near, far = _End(client, self._up), _End(server, self._down, connecting=True)
        near.peer, far.peer = far, near
        for end in (near, far):
            end.sock.setblocking(False)
            tune(end.sock)
        if server.connect_ex(self._upstream) not in (0, errno.EINPROGRESS):
            self.counts.refused += 1
            client.close()
            server.close()
            return
        for end in (near, far):
            self._ends[end.sock.fileno()] = end
            self._epoll.register(end.sock, 0)
            self._update(end)

    def _connected(self, end: _End) -> None:
        """The upstream has answered. Never waited for: a silent upstream would hold up all other connections."""
        if end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.counts.refused += 1
            raise ConnectionRefusedError
        end.connecting = False
        self.counts.connections += 1
        self._flush(end)

    def _read(self, end: _End) -> None:
        if end.read_ended:  # it hung up, in order or not: what it said may still be on its way
            self._broke(end)
            return
        try:
            data = end.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        end.direction.offer(end.flow, data, time.monotonic())
        end.read_ended = not data
        self._update(end)

    def _broke(self, end: _End) -> None:
        """This end is no more. What was said here before (why, perhaps) still reaches the peer."""
        peer = end.peer
        if peer.closed or peer.write_closed:
            self._close_pair(end)
            return
        with contextlib.suppress(OSError):
            while data := end.sock.recv(_READ_BYTES):
                end.direction.offer(end.flow, data, time.monotonic())
        end.direction.offer(end.flow, b"", time.monotonic())
        peer.direction.drop(peer.flow)
        self._forget(end)
        self._update(peer)

    def _advance(self, direction: Direction) -> None:
        now_s = time.monotonic()
        for flow in direction.schedule(now_s):
            self._update(_owner(flow))
        for chunk in direction.due(now_s):
            self._deliver(direction, chunk, now_s)

    def _deliver(self, direction: Direction, chunk: Chunk, now_s: float) -> None:
        end = _owner(chunk.flow).peer
        if end.closed:
            return
        if direction is self._up:
            self.counts.uplink_bytes += len(chunk.data)
        else:
            self.counts.downlink_bytes += len(chunk.data)
        if chunk.data:
            self.counts.max_lateness_s = max(self.counts.max_lateness_s, now_s - chunk.due_s)
            end.untaken.append(chunk.data)
            end.untaken_bytes += len(chunk.data)
        else:
            end.shut_after = True
        try:
            self._flush(end)
        except OSError:
            self._broke(end)

    def _flush(self, end: _End) -> None:
        while end.untaken and not end.connecting:
            try:
                taken = end.sock.send(end.untaken[0])
            except BlockingIOError:
                break
            end.untaken_bytes -= taken
            if taken == len(end.untaken[0]):
                end.untaken.popleft()
            else:
                end.untaken[0] = end.untaken[0][taken:]
        if end.shut_after and not (end.untaken or end.connecting or end.write_closed):
            end.write_closed = True
            with contextlib.suppress(OSError):
                end.sock.shutdown(socket.SHUT_WR)
            if end.peer.closed or (end.read_ended and end.peer.write_closed):
                self._close_pair(end)
                return
        self._update(end)
        self._update(end.peer)

    def _update(self, end: _End) -> None:
        """Read only what there is room for, write only what waits to be written."""
        peer = end.peer
        if end.closed:
            return
        has_room = end.flow.has_room(len(self._ends) // 2) and peer.untaken_bytes < _MAX_UNTAKEN_BYTES
        may_read = has_room and not (end.read_ended or peer.closed)
        to_write = end.connecting or bool(end.untaken)
        events = (select.EPOLLIN if may_read else 0) | (select.EPOLLOUT if to_write else 0)
        if events != end.events:
            end.events = events
            self._epoll.modify(end.sock, events)

    def _close_pair(self, end: _End) -> None:
        for one in (end, end.peer):
            one.direction.drop(one.flow)
            self._forget(one)

    def _forget(self, end: _End) -> None:
        if self._ends.pop(end.sock.fileno(), None) is not None:
            self._epoll.unregister(end.sock)
            end.sock.close()


def _owner(flow: Flow) -> _End:
    assert isinstance(flow.key, _End)
    return flow.key


def _set_timer_slack() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
