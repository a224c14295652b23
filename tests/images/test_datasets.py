"""Data sets on this disk as sources: saved by `datasets`, or parquet files."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from pyarrow import parquet

from aiflow_cli.errors import AiflowError, ImageError, UsageError
from aiflow_cli.images.source import open_images
from tests.images.bucket_server import make_image


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
    with pytest.raises(UsageError, match=r"train-1\.parquet cannot be read"):
        open_images(str(tmp_path), None, 0)


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [make_image(1)]},
        {"bytes": [make_image(1)]},
        {"bytes": [make_image(1)], "image_id": [7]},
        {"bytes": [make_image(1)], "image_id": pa.array([None], pa.null())},
        {"bytes": [make_image(1)], "image_id": ["b"], "label": ["bus"]},
    ],
    ids=["another name", "no ids", "numbers as ids", "empty ids", "labels"],
)
def test_parquet_files_with_different_columns(tmp_path: Path, columns: dict[str, object]) -> None:
    """Together they would be a set with gaps: images without bytes, or ids of two kinds."""
    parquet.write_table(pa.table({"bytes": [make_image(0)], "image_id": ["a"]}), tmp_path / "a.parquet")
    for file in (tmp_path / "b.parquet", tmp_path / "_b.parquet"):  # after the other file, and before it
        parquet.write_table(pa.table(columns), file)
        with pytest.raises(UsageError, match="parquet have different columns: name one of them"):
            open_images(str(tmp_path), None, 0)
        file.unlink()


def test_classes_in_another_order_are_other_classes(tmp_path: Path) -> None:
    for file, names in (("a", ["bus", "car"]), ("b", ["car", "bus"])):
        features = Features({"image": Image(), "label": ClassLabel(names=names)})
        row = {"image": {"bytes": make_image(ord(file)), "path": None}, "label": 0}
        Dataset.from_list([row], features=features).to_parquet(str(tmp_path / f"{file}.parquet"))
    with pytest.raises(UsageError, match="different columns"):
        open_images(str(tmp_path), None, 0)


def test_a_header_of_datasets_that_is_none(tmp_path: Path) -> None:
    table = pa.table({"bytes": [make_image(0)]}).replace_schema_metadata({"huggingface": "no document"})
    parquet.write_table(table, tmp_path / "strange.parquet")
    for source in (tmp_path, tmp_path / "strange.parquet"):
        with pytest.raises(UsageError, match=r"strange\.parquet cannot be read as parquet"):
            open_images(str(source), None, 0)


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
        ({"image": ["a path"]}, "that holds image files"),
        ({"image": pa.array([None], pa.binary())}, "not the bytes"),
    ],
)
def test_parquet_that_is_no_image_set(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(AiflowError, match=words):
        open_images(str(tmp_path / "bad.parquet"), None, 0)


def text(data: bytes) -> pa.Array:
    """A column of text with one row, whatever its bytes are."""
    return pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, len(data))), pa.py_buffer(data)]
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"bytes": [make_image(0)], "image_id": text(b"\xff")},
        {"bytes": [make_image(0)], "class": text(b"\xff")},
        {"image": [{"bytes": None, "path": "a\0b"}]},
        {"image": [{"bytes": None, "path": 7}]},
    ],
    ids=["id", "class", "path", "number"],
)
def test_strange_columns(tmp_path: Path, columns: dict[str, object]) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "strange.parquet")
    with pytest.raises(UsageError, match=r"strange\.parquet cannot be read as a data set") as caught:
        open_images(str(tmp_path / "strange.parquet"), None, 0)
    assert "\n" not in str(caught.value)


def test_columns_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    table = pa.table({"bytes": [make_image(0)], "image_id": ["a\nb"], "other": text(b"\xff")})
    parquet.write_table(table, tmp_path / "other.parquet")
    assert open_images(str(tmp_path / "other.parquet"), None, 0).dataset["image_id"] == ["a\\u000ab"]


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="cannot be read as parquet"):
        open_images(str(tmp_path / "bad.parquet"), None, 0)


def test_labels_beside_images(folder: Path) -> None:
    """A table without image files is no data set of images, also if it has a column `image` with their names."""
    parquet.write_table(pa.table({"image": ["b.jpg"], "label": [1]}), folder / "labels.parquet")
    assert len(open_images(str(folder), None, 0)) == 5
    parquet.write_table(pa.table({"bytes": [make_image(7)]}), folder / "TRAIN.PARQUET")
    with pytest.raises(UsageError, match=r"holds 5 images and TRAIN\.PARQUET"):
        open_images(str(folder), None, 0)
    assert len(open_images(str(folder / "TRAIN.PARQUET"), None, 0)) == 1


def test_parquet_files_among_others(tmp_path: Path) -> None:
    for index, name in enumerate(("a.parquet", "B.PARQUET")):
        parquet.write_table(pa.table({"image_id": [name], "bytes": [make_image(index)]}), tmp_path / name)
    (tmp_path / "._a.parquet").write_bytes(b"\0\5\x16\7")
    parquet.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    assert [image.image_id for image in open_images(str(tmp_path), None, 0)] == ["B.PARQUET", "a.parquet"]
