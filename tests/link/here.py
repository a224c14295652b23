"""The relay in a thread of this process, where a test can look at what it costs and at what it has counted."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from aiflow_cli.link.address import Address, bound_address
from aiflow_cli.link.relay import Counts, Relay
from aiflow_cli.link.spec import LinkSpec
from tests.link.connections import PATIENCE_S, Relayed

UNLIMITED = LinkSpec(math.inf, math.inf)


def both(rate_bytes_per_s: float, burst_bytes: int = 10_000, delay_s: float = 0.0) -> LinkSpec:
    """The same rate both ways."""
    return LinkSpec(rate_bytes_per_s, rate_bytes_per_s, burst_bytes, delay_s)


class Here(Relayed):
    """A relay before a listening socket. Ends with the `with` block, and raises there what it failed of."""

    def __init__(
        self, spec: LinkSpec = UNLIMITED, listener: socket.socket | None = None, to: Address | None = None
    ) -> None:
        super().__init__(listener)
        self._relay = Relay(Address("127.0.0.1", 0), to or bound_address(self.listener), spec)
        self.address = self._relay.address
        self._stopping, self._going, self._standing = threading.Event(), threading.Event(), threading.Event()
        self._going.set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._relay.run(self._asked)
        except BaseException as error:
            self._failure = error
        finally:
            self._relay.close()

    def _asked(self) -> bool:
        if not self._going.is_set():
            self._standing.set()
            self._going.wait()
        return self._stopping.is_set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """It stands still meanwhile, so that it finds together what the test does one after another."""
        self._standing.clear()
        self._going.clear()
        try:
            assert self._standing.wait(PATIENCE_S), "it does not ask whether it should stop"
            yield
        finally:
            self._going.set()

    def timer_slack_ns(self) -> int:
        """By how much the kernel may let its thread sleep longer."""
        return int(Path(f"/proc/{self._thread.native_id}/timerslack_ns").read_text())

    def cpu_s(self) -> float:
        """CPU time of the relay so far."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def end(self) -> Counts:
        """Stop it: what it has counted."""
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "it does not stop"
        if self._failure is not None:
            raise self._failure
        return self._relay.counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._stopping.set()
        self.close()  # which also wakes it
        self.end()
