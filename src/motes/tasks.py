"""Coroutines that an object runs beside its own work: kept while they run, and none fails unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """The tasks of one owner; `part` names its log, as in `motes.agent`."""

    def __init__(self, part: str) -> None:
        self._log = logging.getLogger(f"motes.{part}")
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside; its failure is logged."""
        # The event loop itself keeps only weak references.
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task failed: %s", error, exc_info=error)

    def cancel(self) -> None:
        """End them all, without waiting for it."""
        for task in self._running:
            task.cancel()

    async def wait(self) -> None:
        """Until those that run now have ended. Whoever waits no longer ends none of them by that."""
        if self._running:
            await asyncio.wait(tuple(self._running))
