"""What a user waits for at the prompt: a cluster that takes calls, help, and the import in a program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.result import Limits, Result, Series

MOTES = Path(sys.executable).with_name("motes")
MS = 1000.0


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    return time.perf_counter() - began


async def up(rounds: int = 5) -> list[Result]:
    """`motes up` in a new home and in one that has run before, to the prompt coming back: it takes calls then."""
    new, again = Series("Motes", []), Series("Motes, home made before", [])
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="motes-bench-"))
        environment = {"MOTES_HOME": str(folder / "home")}
        try:
            for series in (new, again):
                series.values.append(_seconds([str(MOTES), "up", "--http", "127.0.0.1:0"], environment))
                _seconds([str(MOTES), "down"], environment)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    what = "`motes up` to ready"
    limits = Limits(1, 0.4, of="value")
    return [
        Result("up", f"{what}, new home", "s", new, [], limits),
        Result("up", f"{what}, home made before", "s", again, [], limits),
    ]


async def prompt(rounds: int = 9) -> list[Result]:
    """`motes --help`, and the import of the decorator, each a whole process."""
    helped, imported, bare = Series("Motes", []), Series("Motes", []), Series("`python -c pass`", [])
    for _ in range(rounds):
        helped.values.append(_seconds([str(MOTES), "--help"]) * MS)
        imported.values.append(_seconds([sys.executable, "-c", "from motes import function"]) * MS)
        bare.values.append(_seconds([sys.executable, "-c", "pass"]) * MS)
    return [
        Result("prompt", "`motes --help`", "ms", helped, [bare], Limits(120, 80, of="value")),
        Result(
            "prompt", "`python -c 'from motes import function'`", "ms", imported, [bare], Limits(30, 20, of="value")
        ),
    ]
