"""The rules of the house: who may import whom, how long a file may be, and that help costs nothing."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiflow_cli"
LAYERS = (
    {"__main__"},
    {"cli", "api"},
    {"trials", "analysis", "training"},
    {"world"},
    {"node"},
    {"decoding", "wire", "link", "models", "images", "pairs"},
    {"fetching", "environment"},
    {"units", "disk", "paths", "text"},
    {"errors"},
)
"""From the top down: a folder imports from the layers below its own."""
SIDEWAYS = {("decoding", "wire"), ("models", "wire"), ("images", "models"), ("analysis", "trials")}
"""Within a layer: sessions and models speak in messages; images are decoded as models do; analysis reads trials."""
NOT_IN_THE_CORE = {"asyncio", "concurrent", "multiprocessing", "random", "secrets", "select", "selectors", "socket"} | {
    "subprocess",
    "threading",
    "time",
    "datetime",
    "torch",
    "numpy",
    "transformers",
}
HEAVY = {"torch", "transformers", "numpy", "pandas", "datasets", "matplotlib", "scipy", "PIL", "httpx", "pyarrow"}
LONGEST_FILE = 300
QUICK_S = 2.0


class Import(NamedTuple):
    """One imported module, and where."""

    path: Path
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.name}"


def imports_of(path: Path) -> Iterator[Import]:
    """Every module that a file imports, at its top or inside a function; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            yield Import(path, node.lineno, module)
            for alias in node.names:
                yield Import(path, node.lineno, f"{module}.{alias.name}")


def sources(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found
    return found


def folder_of(path: Path) -> str:
    """The folder of the package that a file is in, or its own name at the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def layer_of(folder: str) -> int:
    (layer,) = (number for number, folders in enumerate(LAYERS) if folder in folders)
    return layer


def imported_folder(found: Import) -> str | None:
    """The folder of the package that an import is from; None for other packages, and names of the package itself."""
    package, _, rest = found.name.partition(".")
    folder = rest.partition(".")[0]
    known = folder and ((PACKAGE / folder).is_dir() or (PACKAGE / f"{folder}.py").is_file())
    return folder if package == "aiflow_cli" and known else None


def may_import(here: str, there: str) -> bool:
    return here == there or layer_of(here) < layer_of(there) or (here, there) in SIDEWAYS


def test_imports_run_downward_only() -> None:
    found = [found for path in sources(PACKAGE) for found in imports_of(path)]
    pairs = [(one, imported_folder(one)) for one in found]
    assert sum(there is not None for _, there in pairs) > 100
    assert [str(one) for one, there in pairs if there and not may_import(folder_of(one.path), there)] == []


@pytest.mark.parametrize(
    ("here", "there"),
    [("decoding", "node"), ("trials", "training"), ("link", "wire"), ("models", "cli"), ("errors", "units")],
)
def test_what_would_run_upward_or_sideways(here: str, there: str) -> None:
    assert not may_import(here, there)


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources(PACKAGE)}


def for_types_only(path: Path) -> set[int]:
    """The lines under `if TYPE_CHECKING:`, which never run."""
    guarded = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {line for node in guarded for line in range(node.lineno, (node.body[-1].end_lineno or 0) + 1)}


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The package's modules that a file imports when it runs, at its top or inside a function."""
    skipped = for_types_only(path)
    return {found.name for found in imports_of(path) if found.line not in skipped} & known.keys()


def circles(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The modules from which a way of imports leads back to themselves, by folder."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        reached, waiting = set[str](), list(imported)
        while waiting:
            if (name := waiting.pop()) not in reached:
                reached.add(name)
                waiting += graph[name]
        if module in reached:
            folder, _, name = module.removeprefix("aiflow_cli.").rpartition(".")
            found.setdefault(folder, set()).add(name)
    return found


def test_no_module_imports_itself_in_a_circle() -> None:
    """Neither inside a folder nor across folders; an import inside a function counts, one for types alone does not."""
    known = modules()
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > 200
    assert circles(graph) == {}


def test_what_would_be_a_circle() -> None:
    graph = {"aiflow_cli.a.x": {"aiflow_cli.a.y"}, "aiflow_cli.a.y": {"aiflow_cli.a.z"}, "aiflow_cli.a.z": set[str]()}
    assert circles(graph) == {}
    assert circles(graph | {"aiflow_cli.a.z": {"aiflow_cli.a.x"}}) == {"a": {"x", "y", "z"}}


def test_folders_import_sideways_in_one_direction_only() -> None:
    assert not {(there, here) for here, there in SIDEWAYS} & SIDEWAYS


def test_every_folder_has_its_layer() -> None:
    known = set().union(*LAYERS)
    assert {folder_of(path) for path in sources(PACKAGE)} - {"__init__"} == known


def closure(paths: list[Path]) -> list[Path]:
    """Files, and those of the package that they import, directly or not."""
    known: dict[Path, None] = {}
    waiting = list(paths)
    while waiting:
        if (path := waiting.pop()) in known:
            continue
        known[path] = None
        for found in imports_of(path):
            module = ROOT.joinpath(*found.name.split("."))
            waiting += [p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file()]
    return list(known)


def test_the_core_has_no_input_output_no_clock_and_no_chance() -> None:
    core = closure(sources(PACKAGE / "decoding"))
    assert PACKAGE / "wire" / "messages.py" in core
    assert [str(found) for path in core for found in imports_of(path) if root_of(found) in NOT_IN_THE_CORE] == []


def root_of(found: Import) -> str:
    return found.name.partition(".")[0]


def test_nothing_imports_click() -> None:
    """Typer brings a click of its own, which another version beside it would not be."""
    found = [found for folder in (PACKAGE, ROOT / "tests") for path in sources(folder) for found in imports_of(path)]
    assert [str(one) for one in found if root_of(one) == "click"] == []


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (PACKAGE, ROOT / "tests")
        for path in sources(folder)
        if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert long == {}


RUN_AND_LIST_MODULES = """
import json, sys
sys.argv = ["aiflow", *json.loads(sys.argv[1])]
from aiflow_cli.cli.app import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
print("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["link", "--help"], ["--version"]], ids=" ".join)
def test_help_is_quick_and_imports_nothing_heavy(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_MODULES, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert finished.returncode == 0, finished.stderr
    modules = json.loads(finished.stdout.splitlines()[-1])
    assert "typer" in modules
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < QUICK_S


def test_importing_the_core_brings_no_model_and_no_event_loop() -> None:
    names = [f"aiflow_cli.decoding.{path.stem}" for path in sources(PACKAGE / "decoding") if path.stem != "__init__"]
    code = f"import importlib, sys, json\nfor name in {names}: importlib.import_module(name)\n"
    code += "print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in json.loads(output)} & (HEAVY | {"asyncio", "socket"}) == set()


def test_no_warning_is_switched_off_around_a_call() -> None:
    """`warnings.catch_warnings` switches for all threads, and puts back what another has just set."""
    assert [str(path) for path in sources(PACKAGE) if "catch_warnings" in path.read_text()] == []
