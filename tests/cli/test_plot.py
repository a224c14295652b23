"""`aiflow plot`: what it writes, what it prints, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.decoding.methods import Method
from aiflow_cli.trials.store import owned
from tests.analysis.records import FakePair, FakeSweep, records, write_records, write_result

SMALL = FakeSweep(pairs=(FakePair("small"),), images=3, gammas=(2, 4), co_located=())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_result(tmp_path_factory.mktemp("results") / "small", SMALL)


def test_paths_on_standard_output_progress_on_standard_error(result: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(result), "--figure", "bytes", "--trace"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    names = ["bytes.png", "bytes.pdf", "bytes.svg", "bytes.csv", "trace.json"]
    assert lines == [str(result / "figures" / name) for name in names]
    assert all(Path(line).is_file() for line in lines)
    assert "figures of small: 1/1" in done.stderr


def test_one_document(result: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(result), "-f", "waterfall", "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["results"][0]
    assert told["result"] == str(result)
    assert [f["name"] for f in told["figures"]] == ["waterfall"]
    assert told["figures"][0]["files"][0] == str(tmp_path / "out" / "waterfall.png")
    assert told["trace"] is None


def test_several_results_go_into_folders_of_their_own(result: Path, tmp_path: Path) -> None:
    other = write_result(tmp_path / "other", SMALL)
    arguments = ["plot", str(result), str(other), "-f", "bytes", "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other", "small"]


def test_the_trace_of_a_chosen_image(result: Path, tmp_path: Path) -> None:
    arguments = ["plot", str(result), "-f", "bytes", "--trace", "--image", "scene-002", "-o", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names[0].endswith("server-only, scene-002")
    assert len(names) == 5  # server-only twice, two draft lengths, on-device


def refused(code: int, *arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["plot", *map(str, arguments)])
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_errors_are_one_line(result: Path, tmp_path: Path) -> None:
    assert "aiflow results" in refused(2, tmp_path / "nothing")
    assert "no figure 'pie': give one of figure6" in refused(2, result, "-f", "pie")
    assert "no image 'x'" in refused(2, result, "-f", "bytes", "--trace", "--image", "x")
    (tmp_path / "trials.jsonl").write_text('{"setting": 1}\n')
    assert "damaged" in refused(1, tmp_path)
    write_records(tmp_path, list(records(FakeSweep(pairs=(FakePair("small"),), images=3, gammas=(4,)))))
    assert "only one draft length (4)" in refused(2, tmp_path, "-f", "figure6")
    write_records(tmp_path, [r for r in records(SMALL) if r.setting.method is not Method.SERVER_ONLY])
    assert "no server-only trials" in refused(2, tmp_path, "-f", "figure6")


def test_a_folder_that_cannot_be_written(result: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--output" in refused(1, result, "-f", "bytes", "-o", tmp_path / "file" / "figures")


def test_what_cannot_be_drawn_is_noted(tmp_path: Path) -> None:
    write_result(tmp_path, FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(4,), co_located=()))
    done = CliRunner().invoke(app, ["plot", str(tmp_path)])
    assert done.exit_code == 0
    assert "no figure6: " in done.stderr
    assert "aiflow sweep quick" in done.stderr
    assert "bytes.png" in done.stdout


def test_two_results_of_one_name_do_not_go_into_one_folder(result: Path, tmp_path: Path) -> None:
    a, b = (write_result(tmp_path / folder / "r", SMALL) for folder in ("m1", "m2"))
    out = tmp_path / "out"
    said = refused(2, a, b, "-f", "bytes", "-o", out)
    assert said == f"error: {a} and {b} would both go into {out / 'r'}: plot them one at a time"
    assert not out.exists()
    done = CliRunner().invoke(app, ["plot", str(a), str(a), "-f", "bytes", "-o", str(out)])  # the same one twice
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["bytes.csv", "bytes.pdf", "bytes.png", "bytes.svg"]


def test_two_at_once_do_not_mix(result: Path, tmp_path: Path) -> None:
    with owned(tmp_path):
        said = refused(1, result, "-f", "bytes", "-o", tmp_path)
    assert "another aiflow is writing into" in said
    assert list(tmp_path.iterdir()) == []


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "[" / "old] :bus:", SMALL)
    done = CliRunner().invoke(app, ["plot", str(folder), "-f", "bytes"], env={"FORCE_COLOR": "1"})
    assert done.exit_code == 0, done.output
    assert "figures of old] :bus:: 1/1" in done.stderr
    assert f"{folder}/figures/bytes.png" in done.stdout


def test_a_torn_last_trial_is_told(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip())
    assert "is torn" not in CliRunner().invoke(app, ["plot", str(tmp_path), "-f", "bytes"]).stderr
    path.write_bytes(whole[:-20])
    done = CliRunner().invoke(app, ["plot", str(tmp_path), "-f", "bytes"])
    assert done.exit_code == 0, done.output
    number = whole.count(b"\n")
    assert f"trials.jsonl:{number} is torn and passed over" in done.stderr
