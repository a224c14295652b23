"""Polite HTTP: whole bodies with retry and backoff, and large ones in pieces.

What is worth another try is tried again after a pause that doubles, with jitter (or after `Retry-After`): timeouts,
broken connections, 408, 425, 429, 5xx, and bodies that fail the caller's check. 403, 404 and 410 are answers, not
failures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Self

import httpx

from aiflow_cli.errors import AiflowError, ImageError, UsageError
from aiflow_cli.fetching import RetryPolicy, passes, retrying
from aiflow_cli.images.imageset import LARGEST_BYTES

Progress = Callable[[str, int, int], None]
"""`progress(what, done, total)`; total 0 where it is not known."""
ABSENT = (403, 404, 410)
"""A public bucket without the right to list answers 403 for a key that is not there."""
_CONNECT_S = 10.0
"""The longest wait for a connection: a network that swallows packets should be found out soon."""


class FetchError(AiflowError):
    """A request that failed; `response` is the server's refusal, if it was one, and `passing` what may pass by itself.

    What leaves this module has failed for good, after its retries.
    """

    def __init__(self, reason: str, response: httpx.Response | None = None, passing: bool = False) -> None:
        super().__init__(reason)
        self.response, self.passing = response, passing

    @property
    def absent(self) -> int | None:
        """The status that says that there is no such thing."""
        status = None if self.response is None else self.response.status_code
        return status if status in ABSENT else None


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

    def get(self, url: str | httpx.URL, check: Callable[[bytes], object] = len) -> bytes:
        """The body at `url`, once `check` (which raises ImageError) is content with it.

        Raises FetchError after the last attempt, or at once on a status that no retry would mend.
        """
        try:
            return retrying(self.policy, self.stop, _is_passing)(self._once, url, check)
        except (FetchError, httpx.RequestError) as error:
            if not _is_passing(error):
                raise
            raise FetchError(f"{_reason(error)} (after {self.policy.attempts} attempts)") from error

    def _once(self, url: str | httpx.URL, check: Callable[[bytes], object]) -> bytes:
        ends, body = time.monotonic() + self.policy.deadline_s, bytearray()
        with closing(self._pieces(url, 0)) as pieces:
            for piece in pieces:
                body += piece
                if len(body) > LARGEST_BYTES:  # no photograph that a run takes: it would be as large the next time
                    raise FetchError(f"the answer is larger than {LARGEST_BYTES} bytes")
                if time.monotonic() > ends or self.stop.is_set():
                    raise FetchError(f"not complete after {self.policy.deadline_s:g} s", passing=True)
        try:
            check(bytes(body))
        except ImageError as error:
            raise FetchError(f"wrong bytes: {error}", passing=True) from error
        return bytes(body)

    def stream(self, url: str | httpx.URL, what: str, progress: Progress) -> Generator[bytes, None, None]:
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
        except (FetchError, httpx.RequestError) as error:
            if not _is_passing(error):
                raise
            raise FetchError(f"it broke off after {offset} bytes ({_reason(error)})") from error

    def _pieces(self, url: str | httpx.URL, offset: int) -> Generator[bytes, None, None]:
        """The body from `offset` on, in one attempt."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._client.stream("GET", url, headers=headers) as reply:
            status = reply.status_code
            if not reply.is_success:
                raise FetchError(f"HTTP {status}", reply, passes(status))
            if status == 206 and not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise FetchError("HTTP 206, of another part than was asked for")
            skip = 0 if status == 206 else offset  # a server that does not know ranges begins anew
            for chunk in reply.iter_bytes():
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))


def _is_passing(error: BaseException) -> bool:
    return error.passing if isinstance(error, FetchError) else isinstance(error, httpx.RequestError)


def _reason(error: Exception) -> str:
    """A short reason, without the address (which may hold a key)."""
    text, name = str(error), type(error).__name__
    if isinstance(error, FetchError):
        return text
    return f"{name}: {text}" if text and "://" not in text else name
