"""What functions write to the host's disk is held to what is lent, beside all else that goes on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from motes.agent.disk import Disk
from motes.agent.spaces import Spaces
from motes.agent.written import Written


def test_which_spaces_are_open_is_asked_where_they_open_and_close(tmp_path: Path) -> None:
    asked_in: list[threading.Thread] = []

    def used() -> set[Path]:
        asked_in.append(threading.current_thread())
        return set()

    async def story() -> None:
        written = Written(Disk(10**6, used), cast(Spaces, SimpleNamespace(on_disk_bytes=0)))
        written.keep()
        await written._tasks.wait()

    asyncio.run(story())
    assert asked_in == [threading.main_thread()]
