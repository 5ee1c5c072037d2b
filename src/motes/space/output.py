"""What processes in a space print, read in bounded chunks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

CHUNK_BYTES = 64 * 2**10


class Output:
    """The agent's end of an output pipe. `received` is given each chunk; `ended` is called once, at the end of it.

    While paused nothing is read, and who prints waits: that is the bound on what is kept here.
    """

    def __init__(self, descriptor: int, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._open = True
        os.set_blocking(descriptor, False)
        self.resume()

    def pause(self) -> None:
        if self._open:
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._descriptor, self.read)

    def read(self) -> bool:
        """Read one chunk; False when nothing is there."""
        if not self._open:
            return False
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._received(data)
            return True
        self.close()
        self._ended()
        return False

    def drain(self, most: int) -> None:
        """Read what is already there, at most `most` chunks."""
        for _ in range(most):
            if not self.read():
                return

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
