"""A function space alone, without a cluster: start of an instance to its first reply."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

import bench
from bench.programs.serving import serve_async
from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.space.descend import descend
from motes.space.function_space import FunctionSpace, Unheard
from motes.space.interpreter import program_paths
from motes.space.limits import Limits
from motes.space.view import View

QUESTION = b'"' + b"x" * 98 + b'"'
LIMITS = Limits(memory_bytes=64 * 2**20)


class Events(Unheard):
    """Hands replies and ends to whoever waits for them."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None:
        self.reply.set_result(outcome)

    def ended(self, number: int, reason: EndReason, detail: str) -> None:
        self.end.set_result(None)


class Space:
    """One space, made by `open`."""

    def __init__(self, code: Path) -> None:
        self._code = code
        self._number = 0

    async def open(self) -> None:
        """Make the space and load the app in it."""
        self._events = Events()
        self._space = await FunctionSpace.open(View(code=self._code), self._events, timeout_s=20)

    async def first_replies(self, count: int, between_s: float) -> list[float]:
        """Seconds from the order for an instance to its first reply, `count` times, with a pause between."""
        return [await self._first_reply(between_s) for _ in range(count)]

    async def _first_reply(self, between_s: float) -> float:
        self._events.__init__()  # type: ignore[misc]
        self._number += 1
        began = time.perf_counter()
        self._space.spawn(self._number, "echo", LIMITS)
        self._space.deliver(self._number, 1, QUESTION)
        await self._events.reply
        taken = time.perf_counter() - began
        self._space.end(self._number, EndReason.IDLE)
        await self._events.end
        await asyncio.sleep(between_s)
        return taken


async def main(code: Path) -> None:
    space = Space(code)
    await serve_async({"open": space.open, "first_replies": space.first_replies})
    await space._space.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "app"
        code.mkdir()
        source = Path(bench.__file__).parent / "apps" / "work.py"
        (code / "work.py").write_text(source.read_text())
        descend(readable=(*program_paths(), Path(bench.__file__).parent), writable=(Path(folder),), name="bench")
        uvloop.run(main(code))
