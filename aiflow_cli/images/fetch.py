"""Polite HTTP: whole bodies with retry and backoff, and work spread over a few threads.

What is worth another try is tried again after a pause that doubles, with jitter (or after `Retry-After`): timeouts,
broken connections, 429, 5xx, and bodies that fail the caller's check. 403, 404 and 410 are answers, not failures.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aiflow_cli.errors import AiflowError, ImageError

if TYPE_CHECKING:
    import httpx

Item = TypeVar("Item")
Result = TypeVar("Result")

ABSENT = (403, 404, 410)
"""A public bucket without the right to list answers 403 for a key that is not there."""


class FetchError(AiflowError):
    """A request that failed for good, after its retries."""


class Reply(NamedTuple):
    """The answer to a request; `data` is empty for an absent one."""

    status: int
    data: bytes


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often to try. `timeout_s` bounds each wait for bytes, `deadline_s` one whole attempt."""

    attempts: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    timeout_s: float = 20.0
    deadline_s: float = 120.0


@dataclass
class Fetcher:
    """Requests over one pool of connections; may be used from several threads. Close it after use."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    stop: threading.Event = field(default_factory=threading.Event)
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        """Open the pool of connections."""
        import httpx

        self._client = httpx.Client(
            timeout=self.policy.timeout_s,
            follow_redirects=True,
            headers={"User-Agent": "aiflow download", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Fetcher:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.stop.set()
        self._client.close()

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        check: Callable[[bytes], object] | None = None,
        limit_bytes: int = 64_000_000,
    ) -> Reply:
        """The body at `url`, once `check` (which raises ImageError) is content with it, or the status of an absent one.

        Raises FetchError after the last attempt, or at once on a status that no retry would mend.
        """
        import httpx

        reason = ""
        for attempt in range(self.policy.attempts):
            if attempt and self.stop.wait(self._pause_s(attempt)):
                break
            try:
                status, headers, data = self._once(url, params, limit_bytes)
            except (httpx.RequestError, TimeoutError) as error:
                reason = describe(error)
                continue
            if status < 300:
                try:
                    if check:
                        check(data)
                    return Reply(status, data)
                except ImageError as error:
                    reason = f"wrong bytes: {error}"
            elif status in ABSENT:
                return Reply(status, b"")
            elif status == 429 or status >= 500:
                reason = f"HTTP {status}"
                self.stop.wait(min(_retry_after_s(headers), self.policy.longest_pause_s))
            else:
                raise FetchError(f"HTTP {status}")
        raise FetchError(f"{reason or 'interrupted'} (after {self.policy.attempts} attempts)")

    def open(self, url: str, offset: int = 0) -> AbstractContextManager[httpx.Response]:
        """A streamed reply from byte `offset` on; the caller reads and closes it."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._client.stream("GET", url, headers=headers)

    def _once(self, url: str, params: Mapping[str, str] | None, limit_bytes: int) -> tuple[int, httpx.Headers, bytes]:
        ends = time.monotonic() + self.policy.deadline_s
        body = bytearray()
        with self._client.stream("GET", url, params=params) as reply:
            if reply.status_code < 300:
                for chunk in reply.iter_bytes():
                    body += chunk
                    if len(body) > limit_bytes:
                        raise FetchError(f"the answer is larger than {limit_bytes} bytes")
                    if time.monotonic() > ends or self.stop.is_set():
                        raise TimeoutError(f"not complete after {self.policy.deadline_s:g} s")
            return reply.status_code, reply.headers, bytes(body)

    def _pause_s(self, attempt: int) -> float:
        longest = min(self.policy.first_pause_s * 2.0 ** (attempt - 1), self.policy.longest_pause_s)
        return longest * self.rng.uniform(0.5, 1.0)


def describe(error: Exception) -> str:
    """A short reason, without the address (which may hold a key)."""
    text = str(error)
    name = type(error).__name__
    return f"{name}: {text}" if text and "://" not in text else name


def _retry_after_s(headers: httpx.Headers) -> float:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, stop: threading.Event
) -> Iterator[tuple[Item, Result | Exception]]:
    """`work` on every item in `jobs` threads; pairs of item and result (or what was raised) as they finish.

    No new item begins once `stop` is set. The threads are daemons: Ctrl-C need not wait for a server that is silent.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[Item, Result | Exception] | None] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def loop() -> None:
        while not stop.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                finished.put((item, work(item)))
            except Exception as error:  # handed to the caller, who raises what it does not expect
                finished.put((item, error))
        finished.put(None)

    running = min(jobs, len(items))
    for _ in range(running):
        threading.Thread(target=loop, daemon=True).start()
    try:
        while running:
            outcome = finished.get()
            if outcome is None:
                running -= 1
            else:
                yield outcome
    finally:
        stop.set()
