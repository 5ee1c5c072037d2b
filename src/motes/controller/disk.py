"""The keeper's disk: what would not fit is refused before it is begun, and once there is room again all is as it was.

A stream of nats-server that could not be written to for want of space takes nothing any more, also when there is space,
until the server is started anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from motes.errors import Unavailable
from motes.model.units import format_bytes

ROOM_BYTES = 2**20
"""With less than this nothing is stored that was asked for; the rest is for what happens by itself."""
FULL_BYTES = 64 * 2**10
"""With less than this left, something could not be written."""

_log = logging.getLogger("motes.controller")


class Disk:
    """Of one folder. `free` says how many bytes are left there; `restart` starts nats-server anew, if it needs that."""

    def __init__(self, folder: Path, restart: Callable[[], None], free: Callable[[Path], int] | None = None) -> None:
        self._folder = folder
        self._restart = restart
        self._free = free or free_bytes
        self._was_full = False

    @classmethod
    def elsewhere(cls) -> Disk:
        """Somebody else's, who sees to it; what does not fit there, NATS refuses."""
        return cls(Path(), lambda: None, lambda _: ROOM_BYTES)

    def check(self) -> None:
        """Raises Unavailable when there is no room for what somebody wants to be stored."""
        left = self._free(self._folder)
        if left < ROOM_BYTES:
            raise Unavailable(
                f"the keeper's disk is full: No space left on device ({format_bytes(left)} of {self._folder}, which"
                f" needs {format_bytes(ROOM_BYTES)}; what runs goes on): free some space and try again"
            )

    def tick(self) -> None:
        """Notice that it is full, and that it is no more; call it often."""
        left = self._free(self._folder)
        if left < FULL_BYTES and not self._was_full:
            self._was_full = True
            _log.error("the disk of %s is full: nothing can be deployed, and no event or log is kept", self._folder)
        elif left >= ROOM_BYTES and self._was_full:
            self._was_full = False
            _log.warning("there is space again in %s", self._folder)
            self._restart()


def free_bytes(folder: Path) -> int:
    """How much may still be written."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
