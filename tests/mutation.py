"""For `make mutants`: which tests reach the code that runs in a process of its own.

mutmut tries on a mutant only the tests in which it has seen the function called, and it sees this process alone. The
relay runs in another one, which takes the mutant's name from its environment as this one does.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

import pytest

ELSEWHERE = {"test_relay.py": ("aiflow_cli.link.relay", ("Relay", "_End"))}
"""Files of tests, and the module and its classes that run in a process for them."""


def mutated(module: str, classes: tuple[str, ...]) -> set[str]:
    """mutmut's names of the functions of a module."""
    found = importlib.import_module(module)
    spaces = [vars(found), *(vars(getattr(found, name)) for name in classes)]
    return {f"{module}.{name.partition('__mutmut_')[0]}" for space in spaces for name in space if "__mutmut_" in name}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield
    if os.environ.get("MUTANT_UNDER_TEST") == "stats" and item.path.name in ELSEWHERE:
        from mutmut.state import state

        state()._stats |= mutated(*ELSEWHERE[item.path.name])
