"""`aiflow serve` refuses what it could not serve, before it says that it listens."""

from __future__ import annotations

from tests.conftest import TinyPair
from tests.e2e.tools import aiflow, one_line


def test_draft_of_another_tokenizer(tiny_pair: TinyPair) -> None:
    """Co-located: both models are here, so they are compared here."""
    options = ("--target", tiny_pair.target, "--draft", tiny_pair.stranger, "--with-draft")
    finished = aiflow("serve", *options, "--listen", "127.0.0.1:0")
    assert finished.returncode == 1
    assert "different tokenizers: they are no pair" in one_line(finished)
    assert finished.stdout == ""
