"""An answer that many ask for at about the same time: whoever they are, it costs what one costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

KEEP_S = 1.0

T = TypeVar("T")


class Recent(Generic[T]):
    """What `ask` gave, or raised, at most KEEP_S ago; asked anew when that is longer ago, and once at a time."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._asked_at = 0.0
        self._found: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Raises what asking raises."""
        now = time.monotonic()
        if self._found is None or (self._found.done() and now - self._asked_at >= KEEP_S):
            self._found, self._asked_at = asyncio.get_running_loop().create_task(self._ask()), now
        # Who gives up must not take the answer from the others.
        return await asyncio.shield(self._found)
