"""What of a folder is used, and what is said of the rest."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import ImageError, UsageError
from aiflow_cli.images.exports import import_photos
from aiflow_cli.images.imageset import valid_text
from aiflow_cli.images.source import open_images
from aiflow_cli.images.vehicles import manifest
from tests.images.bucket_server import make_image
from tests.models.pictures import encoded, noise, with_orientation


def test_all_readable_kinds_are_used_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Whatever their suffix; of a folder of five kinds one was used, and nothing said that four were not."""
    for index, name in enumerate(("a.jpg", "b.JPE", "c.jfif", "d.Gif", "e.png", "f.webp", "g.bmp")):
        form = {"Gif": "GIF", "png": "PNG", "webp": "WEBP", "bmp": "BMP"}.get(name[2:], "JPEG")
        (tmp_path / name).write_bytes(make_image(index, form=form))
    for name in ("h.tiff", "i.TIFF", "j.heic", "notes.txt", "Thumbs.db", ".DS_Store", "._a.jpg", "._k.tiff"):
        (tmp_path / name).write_bytes(b"not read")
    images = open_images(str(tmp_path), None, 0)
    assert "".join(image.image_id[0] for image in images) == "abcdefg"
    assert images.note == "left out: 2 .tiff, 1 .heic: convert them to JPEG or PNG"
    assert open_images(str(tmp_path), 9, 0).note == f"9 images were asked for, there are 7; {images.note}"


def test_a_folder_of_unreadable_kinds_alone(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no image .*left out: 1 \.heic: convert them"):
        open_images(str(tmp_path), None, 0)


def test_pictures_with_an_orientation_are_counted(folder: Path) -> None:
    (folder / "a.PNG").write_bytes(encoded(noise("RGB"), "PNG", exif=with_orientation(3)))
    assert open_images(str(folder), None, 0).note == "EXIF orientation of 1 image: not applied, as in the original code"


NAMES = [
    b"\xff.jpg",
    b"\\xff.jpg",
    b"a\nb.jpg",
    b"a\\u000ab.jpg",
    "käse 🧀.jpg".encode(),
    b"[old].jpg",
    b"\xc2\x85.jpg",
]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Each has an id that is valid, on one line and its own, and survives JSON and back."""
    folder = tmp_path / os.fsdecode(b"f\xe9")
    folder.mkdir()
    for index, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_bytes(make_image(index))
    images = open_images(str(folder), None, 0)
    ids = {image.data: image.image_id for image in images}
    shown = ["\\xff.jpg", "\\\\xff.jpg", "a\\u000ab.jpg", "a\\\\u000ab.jpg", "käse 🧀.jpg", "[old].jpg", "\\u0085.jpg"]
    assert [ids[make_image(index)] for index in range(len(NAMES))] == shown
    assert images.name == str(tmp_path / "f\\xe9")
    said = json.dumps([images.name, *shown], ensure_ascii=False).encode()
    assert json.loads(said) == [images.name, *shown]


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_no_two_names_become_the_same(names: list[bytes]) -> None:
    texts = [valid_text(os.fsdecode(name)) for name in names]
    assert texts[0] != texts[1]
    assert all(text.encode() and text.splitlines() == [text] for text in texts)


def test_links_that_lead_nowhere(folder: Path) -> None:
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "up").symlink_to(folder)
    (folder / "z.jpg").symlink_to("b.jpg")
    images = open_images(str(folder), None, 0)
    assert len(images) == 6
    assert images.note == "links that lead nowhere: 2"
    with pytest.raises(UsageError, match="no images at"):
        open_images(str(folder / "loop.jpg"), None, 0)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything, if the tests run with it."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A folder of one image, in a place that everybody may enter."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "vehicles-openimage"
        folder.mkdir()
        Path(place).chmod(0o755)
        (folder / f"{next(iter(manifest()))}.jpg").write_bytes(make_image(0))
        open_images(str(folder), None, 0)  # imports what nobody may not
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_folders_that_may_not_be_read(guarded: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """Neither listed nor entered, or listed alone."""
    monkeypatch.setenv("AIFLOW_DATA", str(guarded.parent))
    guarded.chmod(mode)
    with as_nobody():
        for source in (str(guarded), "vehicles-openimage"):
            with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\): check its permissions"):
                open_images(source, None, 0)
        with pytest.raises(UsageError, match="cannot be opened"):
            open_images(str(guarded / "inner"), None, 0)
        missing = import_source(guarded)
    assert "Permission denied" in missing


def import_source(folder: Path) -> str:
    """Why nothing comes of a download from `folder`."""
    try:
        wanted = list(manifest())[:1]
        return str(import_photos(folder, wanted, folder.parent, lambda: None))
    except UsageError as error:
        return str(error)


def test_an_image_that_may_not_be_read(guarded: Path) -> None:
    file = next(guarded.iterdir())
    file.chmod(0)
    with as_nobody(), pytest.raises(ImageError, match=r"cannot be read \(Permission denied\)"):
        open_images(str(guarded), None, 0)
