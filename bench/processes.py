"""Helper programs that take commands as JSON lines, and what the kernel counts of any process."""

from __future__ import annotations

import asyncio
import json
import sys
from types import TracebackType
from typing import Any

from motes.space.measure import cpu_s

ANSWER_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0
LINE_LIMIT_BYTES = 2**24


class Program:
    """One of bench.programs, or a module by its whole name, in a process of its own; it ends when its input does.

    `python` None is this interpreter.
    """

    def __init__(self, name: str, python: str | None = None) -> None:
        self.name = name
        self._python = python or sys.executable

    async def __aenter__(self) -> Program:
        self._process = await asyncio.create_subprocess_exec(
            self._python,
            "-m",
            self.name if "." in self.name else f"bench.programs.{self.name}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Have it do something and wait for the answer. Raises RuntimeError when it fails or ends."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_TIMEOUT_S)
        if not line:
            raise RuntimeError(f"bench.programs.{self.name} ended while it did {do!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"bench.programs.{self.name} could not do {do!r}: {answer['error']}")
        return answer["value"]


class Clock:
    """CPU time that groups of processes spend between `start` and `spent_us`."""

    def __init__(self, groups: dict[str, list[int]]) -> None:
        self._groups = groups
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: sum(map(cpu_s, pids)) for name, pids in self._groups.items()}

    def spent_us(self, calls: int) -> dict[str, float]:
        """Microseconds for each of `calls` calls since this clock was made, by group."""
        return {name: (now - self._before[name]) * 1e6 / calls for name, now in self._read().items()}


def private_mib(pid: int) -> float:
    """Memory that only this process has, in MiB. Raises PermissionError where that cannot be read."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        sizes = [int(text.split()[1]) for text in file if text.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(sizes) / 1024


def mean_cpu_us(samples: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each group over several clocks."""
    return {name: sum(sample[name] for sample in samples) / len(samples) for name in samples[0]}
