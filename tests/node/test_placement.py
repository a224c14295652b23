"""A process is bound to its cores whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiflow_cli.node.placement import available, pin

pytestmark = pytest.mark.skipif(len(available()) < 2, reason="one core alone: there is nothing to choose from")
THREADED = """
import threading
for _ in range(8): threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
input()
"""


def cores_of_threads(pid: int) -> list[set[int]]:
    return [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has said that it is ready, and ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        started.communicate("\n")


def test_all_threads_of_another_process_move() -> None:
    core = min(available())
    with process(THREADED) as other:
        assert len(cores_of_threads(other.pid)) == 9
        pin(frozenset({core}), other.pid)
        assert cores_of_threads(other.pid) == [{core}] * 9


def test_all_threads_of_this_process_move_and_come_back() -> None:
    before, over = available(), threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        pin(frozenset({max(before)}))
        mine = [os.sched_getaffinity(thread.native_id or 0) for thread in threads]
        assert mine == [{max(before)}] * 4
    finally:
        pin(before)
        over.set()
    assert os.sched_getaffinity(0) == before


def test_threads_that_come_and_go_meanwhile_are_harmless() -> None:
    code = """
import threading
def spawn(): threading.Thread(target=lambda: None).start()
def busy():
    while True: spawn()
threading.Thread(target=busy, daemon=True).start()
print("ready", flush=True)
input()
"""
    core = min(available())
    with process(code) as other:
        for _ in range(20):
            pin(frozenset({core}), other.pid)
        assert os.sched_getaffinity(other.pid) == {core}


def test_a_process_that_is_gone_is_harmless() -> None:
    with process("print('ready', flush=True); input()") as other:
        pass
    pin(frozenset({min(available())}), other.pid)
