from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiflow_cli.errors import UsageError
from aiflow_cli.paths import LONGEST_NAME_BYTES, user_path


def test_a_tilde_is_the_home_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~") == tmp_path
    assert user_path("~/photos/a b") == tmp_path / "photos" / "a b"
    assert user_path("~root/x").is_absolute()


@pytest.mark.parametrize(
    "text", ["photos", "./~nouser", "a/~nouser", "[/old]", "/", ".", "..", "x" * LONGEST_NAME_BYTES, "é" * 127]
)
def test_other_paths_stay_as_they_are(text: str) -> None:
    assert user_path(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~nouser/x", "'~nouser/x': no user of that name is known here"),
        ("x" * 256, "has 256 bytes"),
        ("a/" + "é" * 128 + "/b", "has 256 bytes"),
        ("a/" * 2100, "the path 'a/a/"),
        ("a\0b", "is no path"),
        ("", "is no path"),
        ("\ud800", "is no path"),
    ],
)
def test_what_can_be_no_path_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        user_path(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(st.characters(), max_size=300))
@example("~" + "x" * 300)
def test_any_text_is_a_path_that_the_system_takes_or_wrong_use(text: str) -> None:
    with contextlib.suppress(UsageError):
        user_path(text).exists()
