"""What is tried again, and how long is waited."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.fetching import RetryPolicy, alone, passes, retry_after_s, retrying

QUICK = RetryPolicy(attempts=3, first_pause_s=0.001, longest_pause_s=0.05)


@given(st.text())
def test_a_pause_that_cannot_be_understood_is_none(value: str) -> None:
    assert retry_after_s({"Retry-After": value}) >= 0


def test_pauses_in_seconds_and_until_a_date() -> None:
    assert retry_after_s({}) == 0
    assert retry_after_s({"Retry-After": "7"}) == 7
    assert retry_after_s({"RateLimit": '"api";r=0;t=55'}) == 55
    assert retry_after_s({"RateLimit": '"api";r=499;t=55'}) == 0
    assert 50 < retry_after_s({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) <= 60
    assert retry_after_s({"Retry-After": formatdate(0, usegmt=True)}) == 0


def test_statuses_that_pass() -> None:
    assert all(map(passes, (408, 425, 429, 500, 502, 503, 504)))
    assert not any(map(passes, (200, 301, 400, 401, 403, 404, 410, 416)))


def test_the_last_error_is_raised_after_as_many_attempts() -> None:
    tries: list[int] = []

    def fail(error: type[Exception]) -> None:
        tries.append(len(tries))
        raise error(str(len(tries)))

    retry = retrying(QUICK, threading.Event(), lambda error: isinstance(error, OSError))
    with pytest.raises(OSError, match="3"):
        retry(fail, OSError)
    with pytest.raises(KeyError):
        retry(fail, KeyError)
    assert len(tries) == 4


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "lock", lambda: order.append("waits")):
            order.append("goes on")

    with alone(tmp_path / "lock", lambda: order.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        while "waits" not in order:
            time.sleep(0.01)
        order.append("ends")
    thread.join(10)
    assert order == ["waits", "ends", "goes on"]
    with alone(
        Path("/proc/lock"), lambda: order.append("never")
    ):  # nothing can be written there, so nobody is in the way
        pass
