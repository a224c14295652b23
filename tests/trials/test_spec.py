"""Experiments: what their files may say, and how wrong ones are named."""

from __future__ import annotations

import json
import math
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.images.imageset import ImageRecord
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.text import printable_json
from aiflow_cli.trials.schedule import schedule
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.trials.specfile import line_of, load_spec, parse_override, shipped, spec_of_options

ROOT = Path(__file__).parents[2]
MINIMAL = 'name = "mine"\nabout = "a test"\npairs = "small"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["figure6", "rates", "delay", "quick", "internvl2"])
def test_shipped_experiments_are_valid(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert load_spec(str(ROOT / "experiments" / f"{name}.toml")) == spec


def test_every_experiment_goes_into_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "experiments/*.toml" in project["tool"]["setuptools"]["package-data"]["aiflow_cli"]
    assert set(shipped()) == {path.stem for path in (ROOT / "experiments").glob("*.toml")}


def test_figure6_covers_the_paper() -> None:
    spec = load_spec("figure6")
    assert set(spec.pairs) == {"small", "small-weak"}
    assert {1, 4, 22, 28} <= set(spec.gammas["speculative"])
    assert spec.link.links() == [LinkSpec(1e6, 1e6, 10_000, 0.0)]
    server_only = [s for s in spec.block() if s.method is Method.SERVER_ONLY]
    assert len(server_only) == 2 * 2


def test_internvl2_is_the_papers_set_up() -> None:
    spec = load_spec("internvl2")
    assert (spec.pairs, spec.data, spec.images, spec.device) == (
        ("internvl2-2b-26b",),
        "vehicles-openimage",
        627,
        "cuda",
    )
    assert [link.uplink_bytes_per_s for link in spec.link.links()] == [5e5, 1e6, 2e6]


def test_every_link_meets_every_method(tmp_path: Path) -> None:
    text = MINIMAL + 'methods = ["speculative", "on-device"]\ngammas = [1, 4]\n[link]\nrate = ["1MB/s", "unlimited"]\n'
    grid = load_spec(write(tmp_path, text + 'delay = ["0", "5ms"]\nuplink = "500KB/s"\n')).grid()
    assert len(grid) == len(set(grid)) == 4 * (1 + 2 + 1)  # server-only comes unasked
    assert {s.link.uplink_bytes_per_s for s in grid} == {5e5}
    assert {s.link.downlink_bytes_per_s for s in grid} == {1e6, None}
    assert {s.link.spec.downlink_bytes_per_s for s in grid} == {1e6, math.inf}
    assert {s.link.delay_s for s in grid} == {0.0, 0.005}


def test_gammas_may_differ_by_method(tmp_path: Path) -> None:
    text = MINIMAL + 'methods = ["speculative", "co-located"]\n[gammas]\nspeculative = [1, 2]\nco-located = 8\n'
    labels = [s.label for s in load_spec(write(tmp_path, text)).grid()]
    assert labels == ["server-only", "speculative-1", "speculative-2", "co-located-8"]


@pytest.mark.parametrize(
    ("line", "number", "words"),
    [
        ("gamas = [1]", 4, "`gamas` is not known: did you mean `gammas`?"),
        ("gammas = [1, 0]", 4, "gammas.speculative = 0: give 1 or more"),
        ("gammas = [65]", 4, "give 64 or less"),
        ("gammas = [4, 4]", 4, "named twice"),
        ("gammas = 2.5", 4, "give a whole number"),
        ("gammas = {speculative = [4]}\nmethods = ['co-located']", None, "names no draft length for co-located"),
        ("images = 0", 4, "images = 0: give 1 or more"),
        ("images = '5'", 4, "give a whole number"),
        ("seed = true", 4, "give a whole number"),
        ("device = ''", 4, "leave the key out"),
        ("exact = 1", 4, "give true or false"),
        ("quantize = 'int2'", 4, "'int8' or 'int4'"),
        ("dtype = 'int8'", 4, "'float32', 'bfloat16' or 'float16'"),
        ("methods = ['speculation']", 4, "'speculative'"),
        ("server_only_per_block = 0", 4, "give 1 or more"),
        ("server = 'h:1'\nrepeats = 0", 5, "repeats = 0"),
        ("checkpoints.other.draft = 'x'", None, "is of no pair"),
        ("checkpoints.small.drft = 'x'", 4, "`checkpoints.small.drft` is not known: give one of 'draft' or 'target'"),
        ("[link]\nrate = '1MBps'", 5, "link.rate: '1MBps' is not a rate: write it as 1MB/s"),
        ("[link]\nrate = '0MB/s'", 5, "more than 0"),
        ("[link]\nrate = [\n  '1MB/s',\n  '2 apples',\n]", 5, "'2 apples' is not a rate"),
        ("[link]\ndelay = 20", 5, "'20' is not a duration: write it as 20ms"),
        ("[link]\nburst = '10 m'", 5, "is not a size"),
        ("[link]\nburst = 0", 5, "link.burst: the burst must be at least 1 byte"),
        ("[link]\ndelays = '0'", 5, "`link.delays` is not known: did you mean `delay`?"),
        ("[link]\nrate = '1MB/s'\nuplink = '1MB/s'\ndownlink = '1MB/s'", 4, "no effect"),
        ("images = ", 4, "this is no TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_remedy(tmp_path: Path, line: str, number: int | None, words: str) -> None:
    path = write(tmp_path, MINIMAL + line + "\n")
    with pytest.raises(UsageError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"{path}: " if number is None else f"{path}:{number}: ")


def test_a_missing_key_and_an_unknown_pair_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`pairs` is missing"):
        load_spec(write(tmp_path, 'name = "mine"\nabout = "x"\n'))
    with pytest.raises(UsageError, match=r"mine\.toml:3: pairs: pair 'smal' is not known: did you mean 'small'"):
        load_spec(write(tmp_path, MINIMAL.replace('"small"', '"smal"')))


def test_an_unknown_experiment_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean `figure6`"):
        load_spec("figure_6")
    with pytest.raises(UsageError, match="one of delay, figure6"):
        load_spec(str(tmp_path / "nothing.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read"):
        load_spec(str(tmp_path / "bytes.toml"))


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("link.rate=2MB/s", ("link", "rate"), "2MB/s"),
        ("link.rate=['1MB/s', '2MB/s']", ("link", "rate"), ["1MB/s", "2MB/s"]),
        ("images=8", ("images",), 8),
        ("prompt=What is = there?", ("prompt",), "What is = there?"),
    ],
)
def test_overrides_are_toml_or_plain_text(text: str, path: tuple[str, ...], value: Any) -> None:
    assert parse_override(text)[:2] == (path, value)


def test_an_override_replaces_a_value_and_changes_the_folder() -> None:
    plain, other = load_spec("quick"), load_spec("quick", ["link.rate=2MB/s", "images=3", "pairs=small"])
    assert other.link.links()[0].uplink_bytes_per_s == 2e6
    assert (other.images, other.pairs) == (3, ("small",))
    assert plain.fingerprint != other.fingerprint
    assert plain.fingerprint == load_spec("quick", ["link.rate=1000KB/s", "about=in other words"]).fingerprint


@pytest.mark.parametrize(
    ("more", "known"),
    [
        ("", "ec05be8d"),
        ("[checkpoints.small]\ndraft = '/x'", "9b463c6d"),
        ("[checkpoints.small]\ndraft = '/x'\ntarget = '/y'", "051991da"),
    ],
)
def test_results_of_before_are_found_under_their_name(tmp_path: Path, more: str, known: str) -> None:
    """A folder is named by the hash of its spec: a change of it would begin anew what is half done."""
    assert load_spec(write(tmp_path, MINIMAL + more)).fingerprint[:8] == known


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("images", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("link.rate=2", "--set link.rate=2: link.rate: '2' is not a rate"),
        ("name.first=x", "`name` is no table"),
        ("imges=3", "--set imges=3: `imges` is not known: did you mean `images`?"),
    ],
)
def test_a_wrong_override_is_named(override: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec("quick", [override])
    assert words in str(caught.value)


def test_lines_are_found_under_headers_and_dots() -> None:
    text = 'a = 1\nb.c = 2\n[d]\ne = [\n  "x",\n  "y",\n]\n["f"]\n"g" = 3\n'
    assert line_of(text, ["b", "c"]) == 2
    assert line_of(text, ["d", "e", "1"]) == 4
    assert line_of(text, ["d", "missing"]) == 3
    assert line_of(text, ["f", "g"]) == 9
    assert line_of(text, ["z"]) is None


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_files_of_other_editors(start: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes((start + MINIMAL.replace("\n", end)).encode())
    assert load_spec(str(path)).name == "mine"
    path.write_bytes((start + (MINIMAL + "gamas = 4\n").replace("\n", end)).encode())
    with pytest.raises(UsageError, match=r"mine\.toml:4: `gamas` is not known"):
        load_spec(str(path))


def test_a_table_that_an_override_breaks_is_named_by_the_override(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--set link\.burst=0B: link\.burst: the burst must be at least 1 byte"):
        load_spec(write(tmp_path, MINIMAL + '[link]\nrate = "1MB/s"\n'), ["link.burst=0B"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--burst 0", "--burst 0: the burst must be at least 1 byte, not 0"),
        ("--delay 61s", "--delay 61s: the delay must be 60 s or less, not 61.0 s"),
        ("--images 0", "--images 0: give 1 or more"),
        ("--threads 300", "--threads 300: give 256 or less"),
        ("--max-new-tokens 0", "--max-new-tokens 0: give 1 or more"),
        ("--dtype float8", "--dtype float8: give one of 'float32', 'bfloat16' or 'float16'"),
        ("--prompt=", "--prompt '': leave the key out, or give a text"),
        ("--target=", "--target '': leave the key out, or give a text"),
        ("--uplink 0B/s", "--uplink 0B/s: the rate '0B/s' must be more than 0: write it as 1MB/s, or unlimited"),
        ("--gamma 99", "--gamma 99: give 64 or less"),
        ("--pair smal", "--pair smal: pair 'smal' is not known: did you mean 'small'?"),
        ("--method x", "--method x: give one of 'server-only', 'speculative', 'co-located' or 'on-device'"),
        ("--server h:1 --server-device cuda", "a `server` has a device of its own: leave `server_device` out"),
    ],
)
def test_a_wrong_option_of_run_is_named(options: str, said: str) -> None:
    finished = CliRunner().invoke(app, ["run", *options.split()])
    assert finished.exit_code == 2
    assert finished.stderr == f"error: {said}\n"


def test_a_run_says_each_thing_once_whatever_is_given_twice() -> None:
    """Of both rates in both directions the common one has no effect, which is no mistake here: it has a default."""
    rates, methods = ("--uplink", "1MB/s", "--downlink", "2MB/s"), ("-m", "speculative") * 2
    options = ["run", *methods, "-g", "4", "-g", "4", *rates, "--data", "/nowhere"]
    finished = CliRunner().invoke(app, options)
    assert "/nowhere" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_every_key_that_run_gives_has_its_option() -> None:
    """What a message would name is there to be given."""
    options = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).stdout
    keys = ExperimentSpec.model_fields.keys() - {"name", "about", "warmups", "sessions", "server_only_per_block"}
    for key in keys - {"link", "checkpoints"}:
        with pytest.raises(UsageError) as raised:
            spec_of_options({"name": "run", "about": "a test", "pairs": ["small"], key: object()})
        assert f"{str(raised.value).split(maxsplit=1)[0]} " in options


def test_each_session_has_its_own_order_and_names() -> None:
    """Images are repeated in each; without sessions, names do not carry them."""
    images = [ImageRecord(name, b"x") for name in "abc"]
    one = list(schedule(images, load_spec("quick", ["repeats=2", "seed=6"])))
    two = [planned.trial for planned in schedule(images, load_spec("quick", ["repeats=2", "seed=6", "sessions=2"]))]
    assert len(two) == 2 * len(one) == len({trial.trial for trial in two})
    assert [trial.trial for trial in two[: len(one)]] == [f"s0-{planned.trial.trial}" for planned in one]
    assert [t.image_id for t in two[: len(one)]] == [t.image_id for t in two[len(one) :]]
    assert [t.setting for t in two[: len(one)]] != [t.setting for t in two[len(one) :]]
    assert {t.session for t in two[: len(one)]} == {0}
    assert two[-1].trial.startswith("s1-0005-")


def test_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    """Its name is a path like any other; the hash and the documents of the experiment take it."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    spec = load_spec(write(tmp_path, MINIMAL), [f"data={folder}", f"checkpoints.small.draft={folder}"])
    assert Path(spec.data) == Path(spec.pair_specs()["small"].draft) == folder
    assert len(spec.fingerprint) == 64
    json.dumps(printable_json(spec.model_dump(mode="json")), ensure_ascii=False).encode()
    with pytest.raises(UsageError, match=r"prompt = .*: give a text that is UTF-8"):
        load_spec(write(tmp_path, MINIMAL), [f"prompt={os.fsdecode(bytes([233]))}"])
