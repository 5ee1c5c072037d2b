"""What functions write to the host's disk, where no namespace gives them a sized folder: it counts as lent disk."""

from __future__ import annotations

import asyncio

from motes.agent.disk import Disk
from motes.agent.spaces import Spaces
from motes.errors import SpaceFailed
from motes.tasks import Tasks

STEP_BYTES = 4 * 2**20
"""So much more has to be written before room is made for it: that looks at all that lies there."""


class Written:
    """Call `look` when the spaces have been measured."""

    def __init__(self, disk: Disk, spaces: Spaces) -> None:
        self._disk = disk
        self._spaces = spaces
        self._tasks = Tasks("agent")
        self._kept_for_bytes = 0

    def look(self) -> None:
        """Where more was written, delete code that nobody uses, or end the space that wrote the most."""
        now_bytes = self._spaces.on_disk_bytes
        if now_bytes > self._kept_for_bytes + STEP_BYTES and not self._tasks:
            self._kept_for_bytes = now_bytes
            self.keep()
        self._kept_for_bytes = min(self._kept_for_bytes, now_bytes)

    def keep(self) -> None:
        """Delete, or end, what is beyond the lent disk."""
        self._tasks.spawn(self._keep())

    async def _keep(self) -> None:
        try:
            await asyncio.to_thread(self._disk.keep, self._disk.used())
        except SpaceFailed as error:
            self._spaces.functions.close_largest(error.message)
            self._kept_for_bytes = 0
