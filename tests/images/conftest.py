"""A folder of images of several kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.bucket_server import make_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, (name, form) in enumerate(
        [("b.jpg", "JPEG"), ("a.PNG", "PNG"), ("c.webp", "WEBP"), ("d.bmp", "BMP"), ("e.jpeg", "JPEG")]
    ):
        (tmp_path / name).write_bytes(make_image(index, form=form))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.jpg").write_bytes(b"no image")
    return tmp_path
