"""Text that a stream has no sign for is spelt out: nothing fails over a letter, and two names stay two."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.text import one_line, printable, printable_json

ANY_TEXT = st.text(st.characters())  # lone surrogates too
ENCODINGS = ["utf-8", "ascii", "latin-1", "cp1252"]


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("γ × α …", "utf-8", "γ × α …"),
        ("γ × α …", "ascii", "gamma x alpha ..."),
        ("γ × α …", "latin-1", "gamma × alpha ..."),
        ("γ × α …", "cp1252", "gamma × alpha …"),
        (os.fsdecode(b"caf\xe9"), "utf-8", "caf\\xe9"),
        ("caf\u00e9 中", "ascii", "caf\\xe9 \\u4e2d"),
        ("[/old] :bus:", "ascii", "[/old] :bus:"),
    ],
)
def test_spelling(text: str, encoding: str, shown: str) -> None:
    assert printable(text, encoding) == shown


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=ANY_TEXT)
def test_any_text_can_be_printed(encoding: str, text: str) -> None:
    printable(text, encoding).encode(encoding)


@given(st.recursive(st.none() | st.integers() | ANY_TEXT, lambda of: st.lists(of) | st.dictionaries(ANY_TEXT, of)))
def test_any_document_is_json_for_every_reader(document: object) -> None:
    json.dumps(printable_json(document), ensure_ascii=False).encode()


def test_a_document_that_can_be_printed_stays_as_it_is() -> None:
    document = {"γ": [1, 2.5, None, True, {"a": "×"}]}
    assert printable_json(document) == document


def test_what_an_error_says_becomes_part_of_a_line() -> None:
    assert one_line(ValueError("first\n  second\tthird")) == "first second third"
    assert one_line(ValueError("x" * 300), 50) == "x" * 50
    assert one_line(TimeoutError()) == "TimeoutError"
