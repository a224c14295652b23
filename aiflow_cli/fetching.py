"""What all that fetches shares: which failures are tried again and when, and one process at a time in a place."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import tenacity
from filelock import FileLock, Timeout

_POLL_S = 0.2


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often to try. `timeout_s` bounds each wait for bytes, `deadline_s` one whole attempt."""

    attempts: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    timeout_s: float = 20.0
    deadline_s: float = 120.0


def passes(status: int) -> bool:
    """Whether a failure of that HTTP status is likely to pass by itself."""
    return status in (408, 425, 429) or status >= 500


def retrying(policy: RetryPolicy, stop: threading.Event, passing: Callable[[BaseException], bool]) -> tenacity.Retrying:
    """Tries again after an error for which `passing` holds; the last one is raised in the end, or once `stop` is set.

    The pause doubles, with jitter; if the error carries the `response` of a server that asks for a longer one, it is
    kept, up to the policy's longest.
    """
    half = {"multiplier": policy.first_pause_s / 2, "max": policy.longest_pause_s / 2}
    doubling = tenacity.wait_exponential(**half) + tenacity.wait_random_exponential(**half)

    def pause_s(state: tenacity.RetryCallState) -> float:
        response = getattr(state.outcome and state.outcome.exception(), "response", None)
        asked_s = 0.0 if response is None else retry_after_s(response.headers)
        return max(doubling(state), min(asked_s, policy.longest_pause_s))

    retry = tenacity.retry_if_exception(passing)
    end = tenacity.stop_after_attempt(policy.attempts) | tenacity.stop_when_event_set(stop)
    return tenacity.Retrying(retry=retry, stop=end, wait=pause_s, sleep=tenacity.sleep_using_event(stop), reraise=True)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The pause that a server asks for, in seconds or until a date; 0 if it asks for none that can be understood.

    The hub names it in `RateLimit` instead: `"api";r=0;t=55`, requests and seconds that are left.
    """
    limit = re.search(r"\br=0;t=(\d{1,6})\b", headers.get("RateLimit", ""))
    value = limit[1] if limit else headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,6}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


@contextlib.contextmanager
def alone(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock on a file meanwhile. If another process holds it, `on_wait` is called once, and its end is awaited.

    A place that cannot be written needs no lock: whoever writes there will be told why not, which is said better then.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except OSError as error:
        if isinstance(error, Timeout) and lock.exists():  # in some places that cannot be written it never is
            on_wait()
            held.acquire(poll_interval=_POLL_S)
    try:
        yield
    finally:
        held.release()
