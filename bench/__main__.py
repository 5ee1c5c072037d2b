"""`python -m bench [ROW ...]`: measure every row of the goals, or the named ones, and write docs/PERFORMANCE.md."""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

import motes
from bench import machine, report
from bench.result import Result

BESIDE = {"beside": "beside.beside", "beside-kill": "beside_kill.killed"}
"""What needs the environment of `make bench-peers`."""
ROWS = {
    "spawn": "starts.spawn",
    "first-call": "starts.first_call",
    "wake": "starts.wake",
    "wake-heavy": "asleep.wake_heavy",
    "asleep": "asleep.thousand",
    "burst": "starts.burst",
    "memory-instance": "memory.instances",
    "memory-cluster": "memory.idle_cluster",
    "call": "calls.alone",
    "calls-per-second": "calls.in_flight",
    "between-functions": "calls.between_functions",
    "balance": "balance.balance",
    "up": "commands.up",
    "prompt": "commands.prompt",
    "host-killed": "trouble.killed",
    "host-frozen": "trouble.frozen",
    "host-cut-off": "trouble.cut_off",
    "keeper-killed": "keeper.killed",
    "machines-lost": "machines.lost",
    "machines-keeper": "machines.keeper",
    "release": "keeper.release",
    "http": "http.http",
    "http-far": "http.far",
}
"""By name, where it is measured: a function in a module of bench.rows."""


def measure(row: str) -> list[Result]:
    """Run one row."""
    module, _, name = (ROWS | BESIDE)[row].partition(".")
    function: Callable[[], Coroutine[Any, Any, list[Result]]] = getattr(
        importlib.import_module(f"bench.rows.{module}"), name
    )
    began = time.monotonic()
    results: list[Result] = uvloop.run(function())
    print(f"{row} ({time.monotonic() - began:.0f} s)", flush=True)
    for result in results:
        print(f"  {report.line(result)}", flush=True)
    return results


def _compile() -> None:
    """An installed Motes has its byte code; a checkout may lack it, and in a space nothing can be written."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(motes.__path__[0], quiet=1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of {', '.join(ROWS)}; all when none is named")
    parser.add_argument("--dry", action="store_true", help="print the figures and leave docs/ as it is")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in ROWS | BESIDE]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    _compile()
    results: list[Result] = []
    failed: dict[str, str] = {}
    for row in options.rows or ROWS:
        try:
            results += measure(row)
        except Exception as error:
            failed[row] = f"{type(error).__name__}: {error}"
            print(f"{row} failed: {failed[row]}", flush=True)
    if not options.dry:
        report.write(machine.describe(), report.merge(report.read(), results))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
