"""A steady load of calls, one after another in each of several tasks, and what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

FAILURES_SHOWN = 3


class Load:
    """Counts while it runs; `errors` has the first few failures in words."""

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.longest_s = 0.0
        self.ended_at: list[float] = []
        """When a call succeeded, by time.perf_counter."""
        self.errors: list[str] = []

    async def _work(self, call: Callable[[], Awaitable[object]]) -> None:
        while True:
            began = time.perf_counter()
            try:
                await call()
                self.ended_at.append(time.perf_counter())
            except Exception as error:
                self.failed += 1
                self.errors = [*self.errors, f"{type(error).__name__}: {error}"][:FAILURES_SHOWN]
                await asyncio.sleep(0.005)
            self.calls += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - began)

    def first_success_after(self, when: float) -> float:
        """When the first call succeeded that ended after `when`. Raises StopIteration when none did."""
        return next(at for at in self.ended_at if at > when)

    def longest_gap_s(self, since: float) -> float:
        """The longest time without any call that succeeded, from `since` on."""
        times = [since, *(at for at in self.ended_at if at > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))


@contextlib.asynccontextmanager
async def load(call: Callable[[], Awaitable[object]], tasks: int = 16) -> AsyncIterator[Load]:
    """Call without pause in so many tasks while the block runs; calls under way at its end are waited for."""
    running = Load()
    stop = asyncio.Event()
    workers = [asyncio.create_task(running._work(_until(stop, call))) for _ in range(tasks)]
    try:
        yield running
        stop.set()
        await asyncio.wait(workers, timeout=40)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _until(stop: asyncio.Event, call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    async def one() -> None:
        if stop.is_set():
            raise asyncio.CancelledError
        await call()

    return one
