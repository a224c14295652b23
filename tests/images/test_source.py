from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from pyarrow import parquet

from aiflow_cli.errors import AiflowError, ImageError, PrerequisiteError, UsageError
from aiflow_cli.images.imageset import LARGEST_BYTES
from aiflow_cli.images.source import FIRST_STREAM, open_images
from aiflow_cli.images.vehicles import manifest
from aiflow_cli.training.evaluate import HELD_OUT_SEED
from aiflow_cli.training.recipe import TRAIN_SEED
from aiflow_cli.wire.messages import MAX_IMAGE_BYTES
from tests.images.bucket_server import make_image, real_photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, (name, form) in enumerate(
        [("b.jpg", "JPEG"), ("a.PNG", "PNG"), ("c.webp", "WEBP"), ("d.bmp", "BMP"), ("e.jpeg", "JPEG")]
    ):
        (tmp_path / name).write_bytes(make_image(index, form=form))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.jpg").write_bytes(b"no image")
    return tmp_path


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
        ("x" * 300, "cannot be opened"),
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_that_cannot_be_listed(folder: Path) -> None:
    folder.chmod(0)
    try:
        with pytest.raises(UsageError, match="cannot be listed"):
            open_images(str(folder), None, 0)
    finally:
        folder.chmod(0o700)


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
    """Seeds are not negative (RunSettings), so all streams of runs lie above those of training and of its judgement."""
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


def test_dataset_saved_to_disk(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["bus", "car"])})
    rows = [{"image": {"bytes": make_image(i), "path": None}, "label": i % 2} for i in range(3)]
    dataset = Dataset.from_list(rows, features=features)
    dataset.save_to_disk(str(tmp_path / "saved"))
    images = open_images(str(tmp_path / "saved"), None, 0)
    assert [(image.image_id, image.label) for image in images] == [("0", "bus"), ("1", "car"), ("2", "bus")]
    assert next(iter(images)).data == make_image(0)

    DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "dict"))
    with pytest.raises(UsageError, match=r"name one of them .*train"):
        open_images(str(tmp_path / "dict"), None, 0)
    assert len(open_images(str(tmp_path / "dict" / "train"), 2, 0)) == 2

    shutil.rmtree(tmp_path / "saved" / "data", ignore_errors=True)
    for file in (tmp_path / "saved").glob("*.arrow"):
        file.write_bytes(b"torn")
    with pytest.raises(UsageError, match="cannot be read as a data set"):
        open_images(str(tmp_path / "saved"), None, 0)


def test_rows_without_ids_are_named_by_their_place(tmp_path: Path) -> None:
    """Whichever sample a row is drawn in, its name is the same."""
    parquet.write_table(pa.table({"bytes": [make_image(i) for i in range(12)]}), tmp_path / "rows.parquet")
    images = open_images(str(tmp_path / "rows.parquet"), 5, 1)
    assert [image.data for image in images] == [make_image(int(image.image_id)) for image in images]
    assert [image.image_id for image in images] != ["00", "01", "02", "03", "04"]


def test_columns_as_others_have_them(tmp_path: Path) -> None:
    """A size in `bytes`, a class label of -1 for "not known", a numbered split."""
    features = Features(
        {"image": Image(), "bytes": Value("int64"), "label": ClassLabel(names=["bus"]), "split": Value("int8")}
    )
    rows = [{"image": {"bytes": make_image(i), "path": None}, "bytes": 9, "label": -i, "split": i} for i in range(2)]
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    images = list(open_images(str(tmp_path / "rows.parquet"), None, 0))
    assert [(image.label, image.split) for image in images] == [("bus", "0"), (None, "1")]
    assert images[0].data == make_image(0)


def test_images_named_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(make_image(4))
    features = Features({"image": Image()})
    for name, wanted in (("good", "a.jpg"), ("bad", "b.jpg")):
        table = pa.table({"image": pa.array([{"bytes": None, "path": str(tmp_path / wanted)}])})
        parquet.write_table(table.cast(features.arrow_schema), tmp_path / f"{name}.parquet")
    assert next(iter(open_images(str(tmp_path / "good.parquet"), None, 0))).data == make_image(4)
    with pytest.raises(ImageError, match=r"b\.jpg cannot be read"):
        open_images(str(tmp_path / "bad.parquet"), None, 0)


def test_folder_of_several_parquet_files(tmp_path: Path) -> None:
    for index in range(3):
        table = pa.table({"image_id": [f"x{index}"], "bytes": [make_image(index)]})
        parquet.write_table(table, tmp_path / f"train-{index}.parquet")
    assert [image.image_id for image in open_images(str(tmp_path), None, 0)] == ["x0", "x1", "x2"]
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match=r"train-0\.parquet to train-2\.parquet cannot be read"):
        open_images(str(tmp_path), None, 0)


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"image_id": ["x", "y"], "bytes": [make_image(1), make_image(2)], "class": ["Car", None]})
    parquet.write_table(table, tmp_path / "part.parquet")
    Dataset.from_list(
        [{"image": {"bytes": make_image(3), "path": None}}], features=Features({"image": Image()})
    ).to_parquet(str(tmp_path / "other.parquet"))
    assert [image.label for image in open_images(str(tmp_path / "part.parquet"), None, 0)] == ["Car", None]
    assert len(open_images(str(tmp_path / "other.parquet"), None, 0)) == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["a"]}, "no column `image`"),
        ({"bytes": pa.array([], pa.binary())}, "no rows"),
        ({"bytes": [make_image(1)] * 2, "image_id": ["same", "same"]}, "more than once"),
        ({"image": ["a path"]}, "not the bytes"),
    ],
)
def test_parquet_that_is_no_image_set(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(AiflowError, match=words):
        open_images(str(tmp_path / "bad.parquet"), None, 0)


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="cannot be read as parquet"):
        open_images(str(tmp_path / "bad.parquet"), None, 0)


def test_manifest() -> None:
    rows = manifest().values()
    assert len(rows) == 627
    assert sum(row.n_bytes for row in rows) == 19_750_990
    assert (Path(__file__).parents[2] / "data" / "vehicles_openimage.csv").is_file()
