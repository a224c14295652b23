"""What a folder of trials holds, who may write into it, and what is said of what is torn or damaged there."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.disk import make_folder
from aiflow_cli.errors import StoreError
from aiflow_cli.trials import tables
from aiflow_cli.trials.store import (
    TrialWriter,
    holds_trials,
    new_folder,
    owned,
    read_run,
    read_trials,
    replace_file,
    rewrite_trials,
    torn_note,
    write_run,
    write_tables,
)
from aiflow_cli.trials.store import make_folder as make_store_folder
from tests.e2e.tools import files_limited_to
from tests.world.trials import trial

TRIALS = [trial("speculative", 5, 6, gamma=4, trial=f"0000-{n:03d}", caption="a bus, γ ×") for n in range(3)]
LINES = [msgspec.json.encode(one).decode() for one in TRIALS]


def written(folder: Path, *lines: str, end: str = "\n") -> Path:
    (folder / "trials.jsonl").write_text("\n".join(lines) + end, encoding="utf-8")
    return folder


def damage(folder: Path) -> str:
    with pytest.raises(StoreError) as raised:
        read_trials(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "wrong", ['{"trial": ', '{"setting": 7}', "nonsense", "", "[1]", "7", "[" * 100_000, "\x00\x00"], ids=range(8)
)
def test_a_damaged_line_is_named_with_its_number(wrong: str, number: int, tmp_path: Path) -> None:
    lines = list(LINES)
    lines[number - 1] = wrong
    said = damage(written(tmp_path, *lines))
    assert f"trials.jsonl:{number} is damaged" in said
    assert "take that line out" in said
    assert "line 1" not in said


def test_a_last_trial_that_only_lacks_its_newline_counts(tmp_path: Path) -> None:
    written(tmp_path, *LINES, end="")
    assert read_trials(tmp_path) == TRIALS
    assert torn_note(tmp_path) is None
    with TrialWriter(tmp_path) as writer:
        writer.append(trial(trial="next"))
    assert read_trials(tmp_path) == [*TRIALS, trial(trial="next")]


@given(st.integers(1, len(LINES[2]) - 1))
def test_a_torn_last_trial_is_told_and_cut_off(kept: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = written(Path(name), *LINES[:2], LINES[2][:kept], end="")
        assert read_trials(folder) == TRIALS[:2]
        assert torn_note(folder) == f"{folder}/trials.jsonl:3 is torn and passed over: it was not written to its end"
        with TrialWriter(folder) as writer:
            writer.append(TRIALS[2])
        assert read_trials(folder) == TRIALS
        assert torn_note(folder) is None


def test_other_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_bytes("\r\n".join([*LINES, ""]).encode())
    assert read_trials(tmp_path) == TRIALS


def test_a_refused_append_leaves_nothing_of_its_line(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: part of the line was written before it was refused."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom aiflow_cli.errors import StoreError\n"
        "from aiflow_cli.trials.store import TrialWriter, read_trials\n"
        "folder = Path(sys.argv[1])\n(one, *_) = read_trials(folder)\nwriter = TrialWriter(folder)\n"
        "size = writer.path.stat().st_size + 50\nresource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "try:\n    writer.append(one)\nexcept StoreError as error:\n    print(error)\n"
    )
    before = written(tmp_path, *LINES) / "trials.jsonl"
    data = before.read_bytes()
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no space left to write")
    assert before.read_bytes() == data


def test_lines_of_an_older_schema_are_refused_as_such(tmp_path: Path) -> None:
    said = damage(written(tmp_path, '{"trial": "0000-000-server-only", "method": "server-only"}'))
    assert said.endswith("trials.jsonl:1: it is of an older aiflow (schema 1): run the experiment anew")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000])
def test_a_damaged_document(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json"):
        read_run(tmp_path)


def test_a_document_is_text_for_every_reader(tmp_path: Path) -> None:
    write_run(tmp_path, {"command": ["run", "-o", os.fsdecode(b"caf\xe9")]})
    json.dumps(read_run(tmp_path), ensure_ascii=False).encode()
    assert read_run(tmp_path)["command"][2] == "caf\\xe9"


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = threading.Barrier(8)

    def begin(_: int) -> Path:
        start.wait()
        return new_folder("run")

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(begin, range(8)))
    assert len(set(folders)) == 8
    assert all(re.fullmatch(r"\d{8}-\d{6}-run(-[2-9])?", folder.name) for folder in folders)
    names = {folder.name for folder in folders}
    assert any(name.endswith("-2") for name in names)


def test_a_folder_has_one_owner_and_keeps_no_trace_of_it(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(StoreError, match="another aiflow is writing into"), owned(tmp_path):
        pass
    with owned(tmp_path):  # the first has let go, the second too
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_trials_in_lines_or_in_tables(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    assert not holds_trials(tmp_path)
    write_tables(tmp_path, TRIALS)
    assert holds_trials(tmp_path)
    assert read_trials(tmp_path) == TRIALS


def test_folders_are_made_with_all_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            make_folder(path)


def test_a_refused_trial_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """What had room of it is taken back: what is appended later stands behind whole lines."""
    path, large = tmp_path / "trials.jsonl", trial(caption="x" * 10_000)
    with TrialWriter(tmp_path) as writer:
        writer.append(TRIALS[0])
        before = path.read_bytes()
        with files_limited_to(5_000), pytest.raises(StoreError) as raised:
            writer.append(large)
        assert path.read_bytes() == before
        assert str(raised.value) == (
            f"no space left to write {path}: finished trials are kept; free some space and run again"
        )
        writer.append(TRIALS[1], TRIALS[2])
    assert read_trials(tmp_path) == TRIALS
    assert torn_note(tmp_path) is None


def test_a_line_is_compact_json(tmp_path: Path) -> None:
    with TrialWriter(tmp_path) as writer:
        writer.append(TRIALS[0])
    (line,) = (tmp_path / "trials.jsonl").read_bytes().splitlines(keepends=True)
    assert line == json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    rewrite_trials(tmp_path, TRIALS[:2])
    assert read_trials(tmp_path) == TRIALS[:2]
    assert (tmp_path / "trials.jsonl").read_bytes().count(b"\n") == 2


def test_a_document_is_indented_json_and_no_number_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path, {"a": {"b": 1}})
    before = (tmp_path / "run.json").read_text()
    assert before == '{\n  "a": {\n    "b": 1\n  }\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        write_run(tmp_path, {"a": math.inf})
    assert (tmp_path / "run.json").read_text() == before


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where a file belongs, and a file where a folder does."""
    for name in ("trials.jsonl", "run.json"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    remedy = "give another --output"
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/trials.jsonl \(Is a directory\): {remedy}$"):
        TrialWriter(tmp_path)
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/run.json \(Is a directory\): {remedy}$"):
        replace_file(tmp_path / "run.json", b"")
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/file/x \(File exists\): {remedy}$"):
        make_store_folder(tmp_path / "file" / "x")
    refused = pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/file/x \(Not a directory\): {remedy}$")
    with refused, owned(tmp_path / "file" / "x"):
        pass
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"^cannot write results/.*a/b \(No such file or directory\)"):
        new_folder("a/b")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        read_trials(tmp_path)
    assert (
        str(raised.value)
        == f"{tmp_path} holds no result (No such file or directory): give a folder with a trials.jsonl"
    )
    assert "(JSON is malformed: invalid character (byte 10))" in damage(written(tmp_path, '{"trial": }'))
    assert "(Expected `object`, got `array`)" in damage(written(tmp_path, "[" * 100_000))
    with pytest.raises(StoreError, match=rf"^cannot read {tmp_path}/run.json \(.*No such file"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(StoreError, match=rf"^{tmp_path}/run.json is damaged: it is no JSON object$"):
        read_run(tmp_path)


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name in (tables.TRIALS, tables.ROUNDS):
        pd.DataFrame({"trial": ["0000-000-server-only"]}).to_parquet(tmp_path / name)
    older = "it is of an older aiflow (schema 1): run the experiment anew"
    assert re.fullmatch(rf"{tmp_path}/trials\.parquet has no column '\w+': {re.escape(older)}", damage(tmp_path))
    replace_file(tmp_path / tables.ROUNDS, b"no table")
    said = rf"cannot read the tables in {tmp_path} \(.+\): give a folder with whole ones"
    assert re.fullmatch(said, damage(tmp_path))
