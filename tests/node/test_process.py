"""What is told of a child that does not start, or that has failed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError, LinkError
from aiflow_cli.node.process import Child

NOBODY = "127.0.0.1:9"


def test_an_error_line_and_its_exit_code_are_the_parents() -> None:
    with Child("link", ["link", "--to", "nonsense"]) as child, pytest.raises(AiflowError) as caught:
        child.ready()
    assert str(caught.value).startswith("the link did not start: `nonsense` is no address")
    assert caught.value.exit_code == 2


def test_wrong_use_is_told_without_its_frame() -> None:
    with Child("link", ["link", "--nonsense"]) as child, pytest.raises(AiflowError, match="No such option") as caught:
        child.ready()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("more", ["", "sys.stdout.flush(); os.kill(os.getpid(), 9)"])
def test_a_ready_line_that_is_none(more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that prints while it is imported, say."""
    (tmp_path / "sitecustomize.py").write_text(f"import os, sys\nprint('[1] hello')\n{more}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("link", ["link", "--to", NOBODY]) as child, pytest.raises(AiflowError) as caught:
        child.ready()
    assert "did not start: it printed b'[1] hello" in str(caught.value)


def test_a_child_that_prints_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("while True: print('x' * 1000, end='')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("link", ["link", "--to", NOBODY]) as child, pytest.raises(AiflowError, match="it printed b'xxxx"):
        child.ready()


def test_a_child_that_is_not_ready_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(100)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("link", ["link", "--to", NOBODY]) as child, pytest.raises(LinkError, match="not ready within"):
        child.ready(0.1)


def test_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["one", "two", "three", "dropped a device: for a reason", "four"]
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nprint({chr(10).join(said)!r}, file=sys.stderr)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("link", ["link", "--to", NOBODY]) as child:
        child.ready()
        assert child.last_words() == "the link said last: three / dropped a device: for a reason / four"
        assert child.last_words("dropped for a reason") == "the link said last: two / three / four"
        os.kill(child.pid, signal.SIGKILL)
        words = child.last_words()
    assert words.startswith("the link was ended by SIGKILL and said last: three")
