"""Wheels that tests make, so that an index holds just what a test is about."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(
    index: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] = {},
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    scripts: Mapping[str, str] = {},
) -> Path:
    """A wheel with these files in the folder `index`, and commands by name as `module:callable`."""
    index.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {each}" for each in requires),
    ]
    content = {
        **(files or {f"{name}.py": f"VERSION = {version!r}\n"}),
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        lines = [f"{command} = {target}" for command, target in scripts.items()]
        content[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *lines]) + "\n"
    content[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in content)
    path = index / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in content.items():
            wheel.writestr(each, text)
    return path
