"""`aiflow link` as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from types import TracebackType
from typing import Any, Self

from aiflow_cli.link.address import Address, parse_address
from tests.e2e.tools import AIFLOW
from tests.link.connections import PATIENCE_S, Relayed


class Link(Relayed):
    """A relay process before a listening socket of this one, or before another address. Ends with the `with` block."""

    def __init__(self, *options: str, listener: socket.socket | None = None, to: Address | None = None) -> None:
        super().__init__(listener)
        host, port = to or self.listener.getsockname()
        self.process = subprocess.Popen(
            [*AIFLOW, "link", "--to", f"{host}:{port}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = parse_address(json.loads(self.process.stdout.readline())["listening"])

    def end(self, number: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Send a signal and wait: what the relay says at its end."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert (self.process.returncode, errors) == (0, ""), errors
        counts: dict[str, Any] = json.loads(output)
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()
        self.close()
