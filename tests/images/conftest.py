"""A folder of images of several kinds, and a bucket of twelve photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_cli.images.openimages import SPLITS
from tests.images.bucket_server import TWELVE, BucketServer, make_image, serve_bucket


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, (name, form) in enumerate(
        [("b.jpg", "JPEG"), ("a.PNG", "PNG"), ("c.webp", "WEBP"), ("d.bmp", "BMP"), ("e.jpeg", "JPEG")]
    ):
        (tmp_path / name).write_bytes(make_image(index, form=form))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.jpg").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    """The first twelve photographs, four in each split."""
    with serve_bucket() as server:
        server.objects = {f"/{SPLITS[i % 3]}/{image_id}.jpg": make_image(i) for i, image_id in enumerate(TWELVE)}
        yield server
