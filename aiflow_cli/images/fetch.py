"""Polite HTTP: whole bodies with retry and backoff, and large ones in pieces.

What is worth another try is tried again after a pause that doubles, with jitter (or after `Retry-After`): timeouts,
broken connections, 408, 425, 429, 5xx, and bodies that fail the caller's check. 403, 404 and 410 are answers, not
failures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import httpx

from aiflow_cli.errors import AiflowError, ImageError, UsageError
from aiflow_cli.fetching import RetryPolicy, passes, retrying

Progress = Callable[[str, int, int], None]
"""`progress(what, done, total)`; total 0 where it is not known."""
ABSENT = (403, 404, 410)
"""A public bucket without the right to list answers 403 for a key that is not there."""
_CONNECT_S = 10.0
"""The longest wait for a connection: a network that swallows packets should be found out soon."""
_LARGEST_BYTES = 64_000_000


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


class Fetcher:
    """Requests over one pool of connections; may be used from several threads. Close it after use.

    Raises UsageError if the environment names a proxy that cannot be used.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy, self.stop = policy, threading.Event()
        timeout = httpx.Timeout(policy.timeout_s, connect=min(policy.timeout_s, _CONNECT_S))
        headers = {"User-Agent": "aiflow download", "Accept-Encoding": "identity"}
        try:
            self._client = httpx.Client(timeout=timeout, follow_redirects=True, headers=headers)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            proxy = "the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
            raise UsageError(f"{proxy} cannot be used: {error}; set another, or unset it") from error

    def __enter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.stop.set()
        self._client.close()

    def get(self, url: str | httpx.URL, check: Callable[[bytes], object] = len) -> Reply:
        """The body at `url`, once `check` (which raises ImageError) is content with it, or the status of an absent one.

        Raises FetchError after the last attempt, or at once on a status that no retry would mend.
        """
        try:
            return retrying(self.policy, self.stop, _is_passing)(self._once, url, check)
        except _PASSING as error:
            raise FetchError(f"{_reason(error)} (after {self.policy.attempts} attempts)") from error

    def _once(self, url: str | httpx.URL, check: Callable[[bytes], object]) -> Reply:
        ends, body = time.monotonic() + self.policy.deadline_s, bytearray()
        with self._reply(url) as reply:
            if reply.status_code in ABSENT:
                return Reply(reply.status_code, b"")
            for chunk in reply.iter_bytes():
                body += chunk
                if len(body) > _LARGEST_BYTES:
                    raise FetchError(f"the answer is larger than {_LARGEST_BYTES} bytes")
                if time.monotonic() > ends or self.stop.is_set():
                    raise _PassingError(f"not complete after {self.policy.deadline_s:g} s")
        try:
            check(bytes(body))
        except ImageError as error:
            raise _PassingError(f"wrong bytes: {error}") from error
        return Reply(reply.status_code, bytes(body))

    @contextmanager
    def _reply(self, url: str | httpx.URL, offset: int = 0) -> Iterator[httpx.Response]:
        """A success, or what an absent thing gives: its body, from `offset` on if the server can, is still to come."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._client.stream("GET", url, headers=headers) as reply:
            if passes(reply.status_code):
                raise _PassingError(f"HTTP {reply.status_code}", reply)
            if not (reply.is_success or reply.status_code in ABSENT):
                raise FetchError(f"HTTP {reply.status_code}")
            yield reply

    def stream(self, url: str, what: str, progress: Progress) -> Generator[bytes, None, None]:
        """The body at `url` in pieces, however long it is and takes; a broken connection goes on from the last byte.

        `progress` is told of `what`, in MB. Raises FetchError on a refusal, or when `attempts` tries in a row bring no
        new byte.
        """
        offset = 0
        try:
            for attempt in retrying(self.policy, self.stop, _is_passing):
                with attempt:
                    for piece in self._pieces(url, offset):
                        attempt.retry_state.attempt_number = 1  # something comes: patience begins anew
                        offset += len(piece)
                        progress(f"{what}, MB", offset // 1_000_000, 0)
                        yield piece
                    return
        except _PASSING as error:
            raise FetchError(f"it broke off after {offset} bytes ({_reason(error)})") from error

    def _pieces(self, url: str, offset: int) -> Iterator[bytes]:
        with self._reply(url, offset) as reply:
            if reply.status_code not in (200, 206):
                raise FetchError(f"HTTP {reply.status_code}")
            if reply.status_code == 206 and not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
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
    text, name = str(error), type(error).__name__
    if isinstance(error, _PassingError):
        return text
    return f"{name}: {text}" if text and "://" not in text else name
