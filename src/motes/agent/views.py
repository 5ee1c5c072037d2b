"""What exists for an app's processes on this host: the view that its functions get, and the one of a daemon."""

from __future__ import annotations

from motes.agent.code import Folders
from motes.model.release import Daemon
from motes.space.view import View

LOAD_MEMORY_BYTES = 512 * 2**20
"""What an app's modules may allocate when they are loaded."""


def function_view(folders: Folders, memory_bytes: int = 0) -> View:
    """For an app's functions; `memory_bytes` is the most that one of them declares."""
    return View(code=folders.code, wheels=folders.packages, memory_bytes=LOAD_MEMORY_BYTES + memory_bytes)


def daemon_view(folders: Folders, daemon: Daemon) -> View:
    """For a daemon: the same, with /usr and processes of its own."""
    return View(
        code=folders.code,
        wheels=folders.packages,
        system=True,
        processes=daemon.processes,
        memory_bytes=daemon.memory_bytes,
    )
