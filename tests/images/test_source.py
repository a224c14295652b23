from __future__ import annotations

import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from aiflow_cli.errors import ImageError, PrerequisiteError, UsageError
from aiflow_cli.images.imageset import LARGEST_BYTES
from aiflow_cli.images.source import FIRST_STREAM, open_images
from aiflow_cli.images.vehicles import data_folder, manifest
from aiflow_cli.training.recipe import HELD_OUT_SEED, TRAIN_SEED
from aiflow_cli.wire.messages import MAX_IMAGE_BYTES
from tests.images.bucket_server import make_image, real_photos


def test_folder_gives_raw_bytes_sorted(folder: Path) -> None:
    images = open_images(str(folder), None, 0)
    assert [image.image_id for image in images] == ["a.PNG", "b.jpg", "c.webp", "d.bmp", "e.jpeg"]
    assert all(image.data == (folder / image.image_id).read_bytes() for image in images)
    assert images.dataset[0]["image"].size == (48, 32)
    assert images.note is None


def test_samples_are_seeded_and_nested(folder: Path) -> None:
    ids = [[image.image_id for image in open_images(str(folder), count, 3)] for count in (2, 4, 4)]
    assert ids[1] == ids[2]
    assert ids[0] == ids[1][:2]
    orders = {tuple(image.image_id for image in open_images(str(folder), 4, seed)) for seed in range(5)}
    assert len(orders) > 1


def test_fingerprint_covers_ids_contents_and_order(folder: Path) -> None:
    first = open_images(str(folder), None, 0).fingerprint
    assert open_images(str(folder), None, 9).fingerprint == first
    assert open_images(str(folder), 5, 1).fingerprint != first
    (folder / "b.jpg").write_bytes(make_image(99))
    changed = open_images(str(folder), None, 0).fingerprint
    (folder / "b.jpg").rename(folder / "b2.jpg")
    assert len({first, changed, open_images(str(folder), None, 0).fingerprint}) == 3


def test_more_than_there_are_is_noted(folder: Path) -> None:
    images = open_images(str(folder), 32, 0)
    assert (len(images), images.note) == (5, "32 images were asked for, there are 5")


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60,000 x 60,000."""
    data = bytearray(make_image(0, form="PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def no_pixels() -> bytes:
    """A PNG of 0 x 0."""
    data = bytearray(make_image(0, form="PNG"))
    data[16:24] = bytes(8)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"hello", "cannot be read as an image"),
        (make_image(0, 200, 200)[:3000], "cannot be read as an image"),
        (make_image(0, 200, 200)[:-2000], "cannot be read as an image"),
        (make_image(0, form="PNG")[:-30], "cannot be read as an image"),
        (no_pixels(), "cannot be read as an image"),
        (bomb(), "too large"),
    ],
    ids=["empty", "garbage", "torn early", "torn late", "torn PNG", "no pixels", "huge"],
)
def test_unreadable_image_is_named(folder: Path, data: bytes, words: str) -> None:
    (folder / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"x\.png.*" + words) as caught:
        open_images(str(folder), None, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("scene", "did you mean `scenes`"),
        ("vehicles_openimage", "did you mean `vehicles-openimage`"),
        ("no/such/folder", "existing folder"),
        ("", "existing folder"),
        ("x" * 300, "255 is the most"),
        ("~nobody-of-that-name/x", "no user of that name"),
        ("\0", "is no path"),
    ],
)
def test_unknown_source(source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_images(source, 4, 0)


def test_a_file_of_many_bytes_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "x.png").open("wb") as file:
        file.truncate(200_000_000_000)
    with pytest.raises(ImageError, match=r"x\.png is too large .200,000,000,000 bytes"):
        open_images(str(folder), None, 0)


def test_a_large_image_in_a_data_set(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"bytes": [make_image(0) + bytes(LARGEST_BYTES)]}), tmp_path / "large.parquet")
    with pytest.raises(ImageError, match="0 is too large"):
        open_images(str(tmp_path / "large.parquet"), None, 0)


def test_what_is_taken_fits_into_a_request() -> None:
    assert LARGEST_BYTES <= MAX_IMAGE_BYTES


def test_only_drawn_images_are_read(folder: Path) -> None:
    """A damaged image that the sample leaves out does not stop a run."""
    (folder / "torn.jpg").write_bytes(b"")
    for seed in range(20):
        try:
            assert len(open_images(str(folder), 3, seed)) == 3
            return
        except ImageError:
            continue
    pytest.fail("the damaged image was in 20 samples of 3 of 6")


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="put some there"):
        open_images(str(tmp_path), 4, 0)
    (tmp_path / "inner").mkdir()
    with pytest.raises(UsageError, match=r"subfolders \(inner\)"):
        open_images(str(tmp_path), 4, 0)
    (tmp_path / "file.jpg").write_bytes(make_image(0))
    with pytest.raises(UsageError, match="is a file"):
        open_images(str(tmp_path / "file.jpg"), 4, 0)


@pytest.mark.parametrize("source", ["scenes", "folder"])
@pytest.mark.parametrize("count", [0, -1])
def test_count_below_one(folder: Path, source: str, count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} images"):
        open_images(str(folder) if source == "folder" else source, count, 0)


def test_scenes_have_the_common_columns() -> None:
    images = open_images("scenes", 2, 5)
    assert {"image_id", "bytes", "image", "class", "split"} <= set(images.dataset.column_names)
    assert open_images("scenes", 2, 5).fingerprint == images.fingerprint
    assert open_images("scenes", 2, 6).fingerprint != images.fingerprint
    assert open_images("scenes", 3, 5).dataset["image_id"][:2] == images.dataset["image_id"]
    assert images.dataset[0]["image"].size == (416, 416)
    assert {image.label for image in images} <= {"Ambulance", "Bus", "Car", "Motorcycle", "Truck"}


def test_no_seed_shows_scenes_that_were_trained_on() -> None:
    """Seeds are not negative (a spec refuses them), so streams of runs lie above those of training."""
    assert max(TRAIN_SEED, HELD_OUT_SEED) < FIRST_STREAM
    assert open_images("scenes", 1, 0).dataset["image_id"] == [f"scene-{FIRST_STREAM}-00000"]


def test_all_scenes_are_sixteen() -> None:
    assert len(open_images("scenes", None, 0)) == 16


def test_vehicles_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIFLOW_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrerequisiteError, match="run `aiflow download`"):
        open_images("vehicles-openimage", 4, 0)


def test_vehicles_partly_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    (tmp_path / "vehicles-openimage").mkdir()
    image_id = list(manifest())[7]
    (tmp_path / "vehicles-openimage" / f"{image_id}.jpg").write_bytes(make_image(1))
    images = open_images("vehicles-openimage", 4, 0)
    record = next(iter(images))
    row = manifest()[image_id]
    assert (record.image_id, record.label, record.split) == (image_id, row.label, row.split)
    assert images.note == "1 of the 627 photographs are downloaded"


def test_a_damaged_download_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    (tmp_path / "vehicles-openimage").mkdir()
    image_id = list(manifest())[7]
    (tmp_path / "vehicles-openimage" / f"{image_id}.jpg").write_bytes(make_image(1)[:200])
    with pytest.raises(ImageError, match=f"{image_id} cannot be read .*`aiflow download`"):
        open_images("vehicles-openimage", None, 0)


def test_samples_of_the_real_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(real_photos().parent))
    ids = {
        (seed, n): [i.image_id for i in open_images("vehicles-openimage", n, seed)] for seed in (0, 1) for n in (8, 16)
    }
    assert ids[0, 16][:8] == ids[0, 8]
    assert ids[0, 8] != ids[1, 8]
    by_path = open_images(str(real_photos()), 8, 0)  # the folder, named by path, holds the same files
    assert [image.image_id.removesuffix(".jpg") for image in by_path] == ids[0, 8]


def test_the_real_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(real_photos().parent))
    images = open_images("vehicles-openimage", 64, 1)
    assert len(images) == 64
    assert {image.label for image in images} == {"Ambulance", "Bus", "Car", "Motorcycle", "Truck"}
    assert all(len(image.data) == manifest()[image.image_id].n_bytes for image in images)


def test_manifest() -> None:
    rows = manifest().values()
    assert len(rows) == 627
    assert sum(row.n_bytes for row in rows) == 19_750_990
    assert (Path(__file__).parents[2] / "data" / "vehicles_openimage.csv").is_file()


def test_a_billion_scenes_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"1000000000 scenes would take about 3,333\.3 hours .* give at most 20000"):
        open_images("scenes", 1_000_000_000, 0)


def test_data_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIFLOW_DATA", "~/x")
    assert data_folder() == tmp_path / "x" / "vehicles-openimage"
    monkeypatch.setenv("AIFLOW_DATA", "~nobody-of-that-name/x")
    with pytest.raises(UsageError, match="no user of that name"):
        open_images("vehicles-openimage", None, 0)
