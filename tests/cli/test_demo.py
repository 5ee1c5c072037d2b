"""The parts of the demo that say no."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from motes.cli.demo import _compare
from motes.demo.index import Definition, Index, parse
from motes.demo.web import install
from motes.errors import MotesError

SOURCE = """
import os, sys
from .near import thing

class Box:
    def open(self):
        return 1

async def long():
    x = 1
    return x
"""


def test_the_index_of_a_source() -> None:
    found = parse(SOURCE)
    assert found == Index(
        tokens=found.tokens,
        functions=2,
        classes=1,
        imports=[".near", "os", "sys"],
        longest=[Definition("long", 9, 3), Definition("open", 6, 2)],
    )
    assert found.tokens > 20


@pytest.mark.parametrize("found", [{"a.py": 1, "b.py": 3}, {"a.py": 1}, {"a.py": 1, "b.py": 2, "c.py": 1}])
def test_a_difference_fails_the_demo(found: dict[str, int]) -> None:
    with pytest.raises(MotesError, match=r"1 files have another index .* first [bc].py"):
        _compare({"a.py": 1, "b.py": 2}, found)


def test_no_difference_passes() -> None:
    _compare({"a.py": [1]}, {"a.py": [1]})


def test_without_pypi_the_demo_says_so_and_how_to_go_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(MotesError, match=r"could not be installed from PyPI: .*motes demo --no-daemon"):
        asyncio.run(install(tmp_path))
