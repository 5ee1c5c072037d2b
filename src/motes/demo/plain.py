"""The same index made in a plain process, to compare: `python -m motes.demo.plain` prints JSON, name -> index."""

from __future__ import annotations

import sys
import sysconfig
import tokenize
from pathlib import Path

import msgspec

from motes.demo.index import parse

_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "__pycache__"})


def library() -> dict[str, str]:
    """The sources of Python's standard library, by their path in it."""
    root = Path(sysconfig.get_path("stdlib"))
    names = sorted(path.relative_to(root) for path in root.rglob("*.py"))
    return {str(name): read(root / name) for name in names if not _LEFT_OUT & set(name.parts)}


def read(path: Path) -> str:
    """A source as text, in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()


def main() -> None:
    """Print the index of the whole library."""
    found = {name: parse(text) for name, text in library().items()}
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
