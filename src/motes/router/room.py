"""Room for large results: how much may be on its way to one connection, lest the server drop it as too slow.

A host keeps a large result until it is asked for it (motes.agent.large). It is asked when there is room here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

ROOM_BYTES = 48 * 2**20
"""Below what nats-server holds back for one connection (motes.bus.server), with the small results beside."""

ROOM_OF_A_HOST_BYTES = 16 * 2**20
"""So much of it may be for one host: two that never send what they say they have leave a third to the others."""

PATIENCE_S = 5.0
"""After this what a host was asked for and has not sent takes the room of no other host any more."""


class Room:
    """Of one connection: `take` before a large result comes, `leave` after."""

    def __init__(self, most_bytes: int = ROOM_BYTES) -> None:
        self._most_bytes = most_bytes
        self._taken_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Have room as long as this lasts; wait for it as `take` does."""
        await self.take(size)
        try:
            yield
        finally:
            self.leave(size)

    async def take(self, size: int) -> None:
        """Wait until there is room, in turn. One result alone always has room."""
        if not self._waiting and self._fits(size):
            self._taken_bytes += size
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, ready))
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                self.leave(size)  # It had been given room at this very moment.
            raise

    def leave(self, size: int) -> None:
        """Give back what was taken."""
        self._taken_bytes -= size
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, ready = self._waiting.popleft()
            if not ready.done():
                self._taken_bytes += size
                ready.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._taken_bytes == 0 or self._taken_bytes + size <= self._most_bytes
