"""An interpreter of another Python than this one, with this checkout installed for it, by hashes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
LEAST = (3, 11)
_PIN = re.compile(r"^([a-z0-9-]+)==.*(?:\n[ #].*)*", re.MULTILINE)
Version = tuple[int, int]


def find_other() -> tuple[Version, Path] | None:
    """The newest Python of 3.11 or later whose minor version is another than this one's, with its interpreter."""
    found: dict[Version, Path] = {}
    for program in _programs():
        if version := _version(program):
            found.setdefault(version, program)
    return max(((version, path) for version, path in found.items() if version != sys.version_info[:2]), default=None)


def _programs() -> Iterator[Path]:
    names = [f"python3.{minor}" for minor in range(LEAST[1], 30)]
    folders = [
        Path(each) for each in (*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/local/bin") if each
    ]
    managed = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"]
    folders += [each / "bin" for folder in managed if folder.is_dir() for each in sorted(folder.iterdir())]
    return (folder / name for folder in folders for name in names if (folder / name).is_file())


def _version(program: Path) -> Version | None:
    """As the interpreter itself says; None for one that does not run, as a shim of one that is not there."""
    told = subprocess.run(
        [program, "-c", "import sys, venv; print(*sys.version_info[:2])"], capture_output=True, text=True, timeout=60
    )
    numbers = told.stdout.split()
    version = (int(numbers[0]), int(numbers[1])) if told.returncode == 0 and len(numbers) == 2 else (0, 0)
    return version if version >= LEAST else None


def environment_of(version: Version, python: Path) -> Path:
    """The interpreter of an environment of this Python in which motes is installed; kept between runs."""
    folder = Path(sys.prefix) / f"other-python-{version[0]}.{version[1]}"
    wanted = pins(ROOT / "requirements" / "dev.txt", _closure({"motes"}))
    ready, interpreter = folder / "ready", folder / "bin" / "python"
    if not ready.exists() or ready.read_text() != wanted:
        _uv("venv", "--clear", "--python", str(python), str(folder))
        (folder / "pins.txt").write_text(wanted)
        options = ("--require-hashes", "--only-binary", ":all:")
        _uv("pip", "install", "--python", str(interpreter), *options, "-r", str(folder / "pins.txt"))
        # As an editable install does it; it would need the tools that build packages.
        packages = folder / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"
        (packages / "motes.pth").write_text(f"{ROOT / 'src'}\n")
        ready.write_text(wanted)
    return interpreter


def pins(file: Path, names: Collection[str]) -> str:
    """The lines of a requirements file, with their hashes, for these packages."""
    found = {match[1]: match[0] for match in _PIN.finditer(file.read_text())}
    return "".join(f"{found[name]}\n" for name in sorted(found) if name in names)


def _closure(names: Collection[str]) -> set[str]:
    """These packages and all that they require, as they are installed here."""
    waiting, seen = [(name, "") for name in names], set[tuple[str, str]]()
    while waiting:
        name, extra = wanted = waiting.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        with contextlib.suppress(PackageNotFoundError):
            for each in map(Requirement, requires(name) or ()):
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    waiting += [(canonicalize_name(each.name), more) for more in ("", *each.extras)]
    return {name for name, _ in seen}


def _uv(*words: str) -> None:
    subprocess.run(
        [find_uv_bin(), *words, "--quiet"], check=True, timeout=600, env={**os.environ, "UV_SYSTEM_CERTS": "1"}
    )
