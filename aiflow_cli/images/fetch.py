"""Polite HTTP: whole bodies with retry and backoff, large ones in pieces, and work spread over a few threads.

What is worth another try is tried again after a pause that doubles, with jitter (or after `Retry-After`): timeouts,
broken connections, 408, 425, 429, 5xx, and bodies that fail the caller's check. 403, 404 and 410 are answers, not
failures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple, TypeVar

import httpx

from aiflow_cli.errors import AiflowError, ImageError, UsageError
from aiflow_cli.fetching import RetryPolicy, passes, retrying

Item = TypeVar("Item")
Result = TypeVar("Result")

ABSENT = (403, 404, 410)
"""A public bucket without the right to list answers 403 for a key that is not there."""
_CONNECT_S = 10.0
"""The longest wait for a connection: a network that swallows packets should be found out soon."""


class FetchError(AiflowError):
    """A request that failed for good, after its retries."""


class Reply(NamedTuple):
    """The answer to a request; `data` is empty for an absent one."""

    status: int
    data: bytes


class _PassingError(Exception):
    """A failure that is likely to pass by itself; `response` is the server's refusal, if it was one."""

    def __init__(self, reason: str, response: httpx.Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


@dataclass
class Fetcher(AbstractContextManager["Fetcher"]):
    """Requests over one pool of connections; may be used from several threads. Close it after use."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Open the pool of connections; UsageError if the environment names a proxy that cannot be used."""
        timeout = httpx.Timeout(self.policy.timeout_s, connect=min(self.policy.timeout_s, _CONNECT_S))
        headers = {"User-Agent": "aiflow download", "Accept-Encoding": "identity"}
        try:
            self._client = httpx.Client(timeout=timeout, follow_redirects=True, headers=headers)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            proxy = "the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
            raise UsageError(f"{proxy} cannot be used: {error}; set another, or unset it") from error

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
        try:
            return retrying(self.policy, self.stop, _is_passing)(self._once, url, params, check, limit_bytes)
        except _PASSING as error:
            raise FetchError(f"{_reason(error)} (after {self.policy.attempts} attempts)") from error

    def _once(
        self, url: str, params: Mapping[str, str] | None, check: Callable[[bytes], object] | None, limit_bytes: int
    ) -> Reply:
        with self._reply(url, (*range(200, 300), *ABSENT), params=params) as reply:
            if reply.status_code in ABSENT:
                return Reply(reply.status_code, b"")
            data = self._body(reply, limit_bytes)
        try:
            if check:
                check(data)
        except ImageError as error:
            raise _PassingError(f"wrong bytes: {error}") from error
        return Reply(reply.status_code, data)

    @contextmanager
    def _reply(self, url: str, wanted: Sequence[int], **options: Any) -> Iterator[httpx.Response]:
        """A reply of a `wanted` status, its body still to come."""
        with self._client.stream("GET", url, **options) as reply:
            if passes(reply.status_code):
                raise _PassingError(f"HTTP {reply.status_code}", reply)
            if reply.status_code not in wanted:
                raise FetchError(f"HTTP {reply.status_code}")
            yield reply

    def _body(self, reply: httpx.Response, limit_bytes: int) -> bytes:
        ends = time.monotonic() + self.policy.deadline_s
        body = bytearray()
        for chunk in reply.iter_bytes():
            body += chunk
            if len(body) > limit_bytes:
                raise FetchError(f"the answer is larger than {limit_bytes} bytes")
            if time.monotonic() > ends or self.stop.is_set():
                raise _PassingError(f"not complete after {self.policy.deadline_s:g} s")
        return bytes(body)

    def stream(self, url: str) -> Generator[bytes, None, None]:
        """The body at `url` in pieces, however long it is and takes; a broken connection goes on from the last byte.

        Raises FetchError on a refusal, or when `attempts` tries in a row bring no new byte.
        """
        offset = 0
        try:
            for attempt in retrying(self.policy, self.stop, _is_passing):
                with attempt:
                    for piece in self._pieces(url, offset):
                        attempt.retry_state.attempt_number = 1  # something comes: patience begins anew
                        offset += len(piece)
                        yield piece
                    return
        except _PASSING as error:
            raise FetchError(f"it broke off after {offset} bytes ({_reason(error)})") from error

    def _pieces(self, url: str, offset: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._reply(url, (200, 206), headers=headers) as reply:
            resumed = reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
            if reply.status_code == 206 and not resumed:
                raise FetchError("HTTP 206, of another part than was asked for")
            skip = offset if reply.status_code == 200 else 0  # a server that does not know ranges begins anew
            for chunk in reply.iter_bytes():
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))


_PASSING = (_PassingError, httpx.RequestError)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, _PASSING)


def _reason(error: Exception) -> str:
    """A short reason, without the address (which may hold a key)."""
    text = str(error)
    if isinstance(error, _PassingError):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text and "://" not in text else name


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, stop: threading.Event
) -> Iterator[tuple[Item, Result | Exception]]:
    """`work` on every item in `jobs` threads; pairs of item and result (or what was raised) as they finish.

    No new item begins once `stop` is set. The threads are daemons: Ctrl-C need not wait for a server that is silent.
    """

    def one(item: Item) -> tuple[Item, Result | Exception] | None:
        try:
            return None if stop.is_set() else (item, work(item))
        except Exception as error:  # handed to the caller, who raises what it does not expect
            return item, error

    with ThreadPool(min(jobs, len(items))) as pool:
        try:
            yield from filter(None, pool.imap_unordered(one, items))
        finally:
            stop.set()
