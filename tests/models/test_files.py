"""What is loaded is what is checked and what the fingerprint covers: a checkpoint's files, whatever lies beside."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.files import checkpoint_files
from aiflow_cli.models.internvl2 import check_folder
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.trials.fingerprint import checkpoint
from tests.conftest import TinyPair
from tests.models import makers

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MARK = "\ufeff"


@pytest.fixture
def whole(tiny_pair: TinyPair, tmp_path: Path) -> Path:
    """A checkpoint with its weights in one file."""
    return Path(shutil.copytree(tiny_pair.draft, tmp_path / "whole"))


@pytest.fixture
def sharded(tiny_pair: TinyPair, tmp_path: Path) -> Path:
    """The same in two files with an index."""
    folder = Path(shutil.copytree(tiny_pair.draft, tmp_path / "sharded"))
    makers.split(folder, 2)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = VisionLanguageModel.from_folder(folder).model.state_dict()
    return state


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refused(folder: Path, reason: str) -> None:
    """Every way to a checkpoint refuses it, in one line that names the folder."""
    for use in (check_folder, VisionLanguageModel.from_folder):
        with pytest.raises(CheckpointError, match=reason) as caught:
            use(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def rename_second(folder: Path, name: str) -> None:
    """Have the index call its second file `name`."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {t: name if file == SECOND else file for t, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))


def test_shards_load_as_the_whole_does(whole: Path, sharded: Path) -> None:
    check_folder(sharded)
    assert same(weights(whole), weights(sharded))


@pytest.mark.parametrize(
    "name", ["../{}", "/tmp/{}", "deeper/{}", "./{}", "deeper/../{}", ".{}", "{}.bin", "..", "..\\{}"]
)
def test_an_index_names_files_of_its_folder_only(name: str, sharded: Path) -> None:
    name = name.format(SECOND)
    (sharded / "deeper").mkdir()
    for place in {sharded.parent, sharded / "deeper", sharded}:
        if not (place / SECOND).exists():
            shutil.copy(sharded / SECOND, place / SECOND)
    shutil.copy(sharded / SECOND, sharded / f".{SECOND}")
    rename_second(sharded, name)
    refused(sharded, "names the weight file .*only .* in the folder itself")
    with pytest.raises(CheckpointError):
        checkpoint(sharded)


@pytest.mark.parametrize("name", [SECOND, INDEX, "config.json", "tokenizer.model", "added_tokens.json"])
def test_a_file_that_lies_elsewhere_is_refused(name: str, sharded: Path, tmp_path: Path) -> None:
    """Also under a name that looks like one of the hub's cache: its content could change unnoticed."""
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    shutil.move(sharded / name, blob)
    (sharded / name).symlink_to(blob)
    refused(sharded, f"{name} is a link to .*outside the checkpoint: put the file itself there")
    with pytest.raises(CheckpointError):
        checkpoint(sharded)


def test_links_within_the_folder_and_to_it_are_no_matter(sharded: Path, tmp_path: Path) -> None:
    before = checkpoint(sharded)
    (sharded / "data").mkdir()
    shutil.move(sharded / FIRST, sharded / "data" / "first")
    (sharded / FIRST).symlink_to(Path("data") / "first")
    (tmp_path / "link").symlink_to(sharded)
    check_folder(tmp_path / "link")
    assert checkpoint(tmp_path / "link") == before


def in_cache(folder: Path, cache: Path, shared: bool) -> Path:
    """`folder` as the hub's cache has it: links to blobs named by SHA-256, maybe links into a store of all."""
    snapshot = cache / "models--Tiny--Model" / "snapshots" / "abc"
    blobs = cache / "models--Tiny--Model" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if shared:
            (cache / "blobs" / "0a").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, cache / "blobs" / "0a" / f"xet-{digest}")
            (blobs / digest).symlink_to(Path("..") / ".." / "blobs" / "0a" / f"xet-{digest}")
        else:
            shutil.copy(path, blobs / digest)
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / digest)
    return snapshot


@pytest.mark.parametrize("shared", [False, True])
def test_the_hubs_cache_loads_and_counts_as_a_copy_does(shared: bool, sharded: Path, tmp_path: Path) -> None:
    snapshot = in_cache(sharded, tmp_path / "hub", shared)
    check_folder(snapshot)
    assert same(weights(snapshot), weights(sharded))
    assert checkpoint(snapshot) == checkpoint(sharded)


def test_a_folder_with_two_sets_of_weights_is_refused(whole: Path, sharded: Path) -> None:
    shutil.copy(whole / WHOLE, sharded / WHOLE)
    refused(sharded, f"holds {WHOLE} beside what {INDEX} names: which are the weights")


def test_shards_without_their_index_are_refused(whole: Path, sharded: Path) -> None:
    (sharded / INDEX).unlink()
    refused(sharded, f"holds {FIRST}, {SECOND}, but no {INDEX}")
    shutil.copy(sharded / FIRST, whole / FIRST)
    refused(whole, f"holds {FIRST} beside {WHOLE}: which are the weights")


def test_shards_of_another_cut_are_refused(sharded: Path) -> None:
    shutil.copy(sharded / FIRST, sharded / "model-00001-of-00003.safetensors")
    refused(sharded, "holds model-00001-of-00003.safetensors beside")


def shards(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return load_file(folder / FIRST), load_file(folder / SECOND)


def test_a_tensor_in_two_files_is_refused(sharded: Path) -> None:
    first, second = shards(sharded)
    name = min(first)
    save_file(second | {name: first[name] + 1}, sharded / SECOND, {"format": "pt"})
    refused(sharded, f"has in two files tensors: {name}")


def test_a_tensor_in_another_file_than_the_index_says_is_refused(sharded: Path) -> None:
    first, second = shards(sharded)
    name = min(first)
    save_file(second | {name: first.pop(name)}, sharded / SECOND, {"format": "pt"})
    save_file(first, sharded / FIRST, {"format": "pt"})
    refused(sharded, f"in another file than its index says, tensors: {name}")


def test_a_tensor_that_the_index_does_not_know_is_refused(sharded: Path) -> None:
    first, _ = shards(sharded)
    save_file(first | {"extra": torch.ones(1)}, sharded / FIRST, {"format": "pt"})
    refused(sharded, "has outside its index tensors: extra")


STRAYS: dict[str, bytes] = {
    ".DS_Store": b"\0\0\0\1Bud1",
    f"._{WHOLE}": b"\0\5\26\7",
    "._config.json": b"\0\5\26\7",
    ".git/config": b"[core]",
    "README.md": b"# card",
    f"{WHOLE}.lock": b"",
    "pytorch_model.bin": b"pickle",
    "modeling_internvl_chat.py": b"raise SystemExit('remote code')",
    "adapter_config.json": b'{"base_model_name_or_path": "elsewhere/base"}',
    "generation_config.json": b'{"eos_token_id": 5, "temperature": "hot"}',
    "tokenizer.4.0.0.json": b"{}",
    f"backup/{WHOLE}": b"not safetensors",
    "backup/config.json": b"{}",
}


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_what_lies_beside_a_checkpoint_neither_loads_nor_counts(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    before = checkpoint(folder), weights(folder)
    for name, content in STRAYS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    check_folder(folder)
    assert checkpoint(folder) == before[0]
    assert same(weights(folder), before[1])


def test_all_that_is_read_counts_and_suffices(sharded: Path, tmp_path: Path) -> None:
    files = checkpoint_files(sharded)
    assert {path.name for path in files} == {
        *("config.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json"),
        *(INDEX, FIRST, SECOND),
    }
    (tmp_path / "alone").mkdir()
    for path in files:
        shutil.copy(path, tmp_path / "alone")
    assert same(weights(tmp_path / "alone"), weights(sharded))
    before = checkpoint(sharded)
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"}", b"} ", 1) if path.suffix == ".json" else content + b"\0")
        assert checkpoint(sharded) != before, path.name
        path.write_bytes(content)
    assert checkpoint(sharded) == before


def mark(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.write_text(MARK + path.read_text())


def test_a_byte_order_mark_is_read_over(sharded: Path) -> None:
    before = VisionLanguageModel.from_folder(sharded)
    mark(sharded)
    check_folder(sharded)
    marked = VisionLanguageModel.from_folder(sharded)
    assert marked.fingerprint == before.fingerprint
    assert same(marked.model.state_dict(), before.model.state_dict())


Make = Callable[[Path], object]


@pytest.mark.parametrize("make", [makers.converted, lambda folder: makers.member("1B", folder)], ids=["hf", "1B"])
def test_tokenizers_of_transformers_are_read_from_the_files_that_count(make: Make, tmp_path: Path) -> None:
    make(tmp_path)
    before = VisionLanguageModel.from_folder(tmp_path).tokenizer
    assert {"vocab.json", "merges.txt", "added_tokens.json"} < {path.name for path in checkpoint_files(tmp_path)}
    mark(tmp_path)
    (tmp_path / "tokenizer.4.0.0.json").write_text("{}")
    after = VisionLanguageModel.from_folder(tmp_path).tokenizer
    assert after.sha256 == before.sha256
    assert after.encode("a red bus<|im_end|>") == before.encode("a red bus<|im_end|>")
