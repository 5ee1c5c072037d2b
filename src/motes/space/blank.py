"""One blank space kept ready on a host: bubblewrap and interpreter up, everything imported, no app in it yet.

Its /app is a read-only view of an empty folder of its own. The host fills that folder from outside with links to the
files of the first release that wants a space; so a blank needs no authority that another space lacks. It is used once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import msgspec

from motes.errors import MotesError
from motes.space.function_space import FunctionSpace, Unheard
from motes.space.view import View

REFILL_S = 0.5
"""After a space was taken the next is made only then: the first calls need the processors."""


class Blank:
    """At most one blank space, and the folders of those that were used. `folder` is on the same disk as the code."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._space: FunctionSpace | None = None
        self._code = folder
        self._count = 0
        self._closed = False
        self.is_wanted = True
        """Whether `refill_soon` makes any."""
        self._refill: asyncio.TimerHandle | None = None
        # An agent that was killed left them.
        remove_folder(folder)

    def refill_soon(self) -> None:
        """Make a blank space in REFILL_S when there is none."""
        if self._refill is None and not self._closed:
            self._refill = asyncio.get_running_loop().call_later(REFILL_S, self._make)

    def _make(self) -> None:
        self._refill = None
        if self._space is not None or self._closed or not self.is_wanted:
            return
        self._count += 1
        code = self._code = self._folder / str(self._count)
        try:
            code.mkdir(mode=0o755, parents=True)
            space = self._space = FunctionSpace(View(code=code), Unheard())
        except (OSError, MotesError):
            # Whoever wants a space makes one then, and is told why that fails.
            remove_folder(code)
            return
        space.gone.add_done_callback(lambda _: self._gone(space, code))

    def _gone(self, space: FunctionSpace, code: Path) -> None:
        if self._space is space:
            self._space = None
        asyncio.get_running_loop().run_in_executor(None, remove_folder, code)

    async def take(self, view: View) -> FunctionSpace | None:
        """The blank space with the files of `view.code` in its /app, to be loaded; None when there is none for it."""
        plain = msgspec.structs.replace(view, code=None, memory_bytes=View().memory_bytes)
        if self._space is None or view.code is None or plain != View():
            return None
        # First of all, so that nobody else gets it.
        space, self._space = self._space, None
        try:
            await asyncio.to_thread(link_files, view.code, self._code)
        except BaseException as error:
            await space.close()
            if isinstance(error, OSError):
                return None
            raise
        return space

    def memory_bytes(self) -> int:
        """What the blank space takes."""
        return self._space.unloaded_bytes() if self._space is not None else 0

    async def drop(self) -> None:
        """End it; `refill_soon` makes another."""
        space, self._space = self._space, None
        if space is not None:
            await space.close()

    async def close(self) -> None:
        """End it, and make no more."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
        await self.drop()
        remove_folder(self._folder)


def link_files(source: Path, target: Path) -> None:
    """Fill `target` with the folders of `source` and links to its files, none copied. Raises OSError."""
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                (target / entry.name).mkdir(mode=0o755)
                link_files(Path(entry.path), target / entry.name)
            else:
                os.link(entry.path, target / entry.name, follow_symlinks=False)


def remove_folder(folder: Path) -> None:
    """Its folders are ours to write; the files' other names stay."""
    shutil.rmtree(folder, ignore_errors=True)
