"""Unpacked archives on a host's disk, by hash: one folder for each, read-only, the longest unused deleted first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from motes.agent.disk import PARTS, Disk
from motes.bundle.sources import Limits
from motes.bundle.unpack import unpack
from motes.errors import SpaceFailed, Untrusted
from motes.model.keeper import CHUNK_BYTES, MOST_CHUNKS
from motes.model.release import is_hash

CHUNKS_AT_ONCE = 8
PARTIAL_KEPT_S = 24 * 3600.0
"""How long the beginning of an archive waits for its rest."""

_log = logging.getLogger("motes.agent")

Fetch = Callable[[str, int], Awaitable[tuple[int, bytes]]]
"""Gets one chunk of an archive: how many there are, and its bytes."""


class Shelf:
    """The archives of one kind, on a disk of which so much is lent. Those in use are never deleted."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        most: int,
        fetch: Fetch,
        disk: Disk,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._most = most
        self._fetch_chunk = fetch
        self._disk = disk
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self.missing: dict[str, int] = {}
        """Bytes that have still to come, by archive that is being fetched."""
        self._given_up: set[str] = set()
        self._sole = asyncio.Lock()
        """One at a time decides what is deleted for it."""
        self._parts = folder / PARTS
        disk.add_shelf(folder)

    async def get(self, archive: str) -> Path:
        """The folder with the archive's files, fetched once. Raises NotFound, Untrusted, Unavailable, SpaceFailed."""
        if not is_hash(archive):
            # It becomes a path: any other text could name any folder of this host.
            raise Untrusted(f"{archive[:80]!r} is no bundle's hash")
        folder = self._folder / archive
        try:
            if _use(folder):
                return folder
        except OSError as error:
            raise self._cannot(error) from error
        task = self._fetching.get(archive)
        if task is None:
            task = self._fetching[archive] = asyncio.create_task(self._fetch(archive, folder))
            task.add_done_callback(lambda _: self._fetched(archive))
        return await asyncio.shield(task)

    def give_up(self, archives: Collection[str] | None = None) -> None:
        """Fetch these no further for now, or none; what has come is kept."""
        self._given_up.update(self._fetching if archives is None else self._fetching.keys() & archives)

    def _fetched(self, archive: str) -> None:
        self._fetching.pop(archive, None)
        self._given_up.discard(archive)

    async def _fetch(self, archive: str, folder: Path) -> Path:
        part = self._parts / archive
        try:
            await asyncio.to_thread(self._delete_old_parts)
            try:
                await self._fill(archive, part)
            finally:
                self.missing.pop(archive, None)
            async with self._sole:
                await asyncio.to_thread(self._unpack, part, archive, folder, self._disk.used())
        except OSError as error:
            raise self._cannot(error) from error
        finally:
            self._disk.written(part, folder)
        return folder

    def _cannot(self, error: OSError) -> SpaceFailed:
        _log.warning("%s cannot be kept", self._limits.what, exc_info=error)
        why = error.strerror or str(error)
        return SpaceFailed(f"the host cannot keep {self._limits.what} in {self._folder}: {why}; free some space")

    async def _fill(self, archive: str, part: Path) -> None:
        """Get what is missing of it; what arrived before a break is kept."""
        count, first_chunk = await self._fetch_chunk(archive, 0)
        if not 0 < count <= MOST_CHUNKS:
            raise Untrusted(f"bundle {archive[:12]} claims {count} chunks; at most {MOST_CHUNKS} are allowed")
        size = count * CHUNK_BYTES if count > 1 else len(first_chunk)
        what = f"{self._limits.what}, compressed,"
        await asyncio.to_thread(self._disk.make_room, part, size, what, self._disk.used())
        with await asyncio.to_thread(open, part, "ab") as file:
            # Whole chunks only: the last one may have been cut short.
            have = file.tell() // CHUNK_BYTES
            have = have if have < count else 0
            file.truncate(have * CHUNK_BYTES)
            for first in range(have, count, CHUNKS_AT_ONCE):
                if archive in self._given_up:
                    raise SpaceFailed(
                        f"{self._limits.what} {archive[:12]} is fetched no further: its owner lends for it no more"
                    )
                self.missing[archive] = (count - first) * CHUNK_BYTES
                some = range(first, min(first + CHUNKS_AT_ONCE, count))
                for index, (_, data) in zip(
                    some, await asyncio.gather(*(self._fetch_chunk(archive, each) for each in some)), strict=True
                ):
                    if len(data) > CHUNK_BYTES or (len(data) < CHUNK_BYTES and index < count - 1):
                        raise Untrusted(f"bundle {archive[:12]}: chunk {index} has {len(data)} bytes")
                    file.write(data)

    def _unpack(self, part: Path, archive: str, folder: Path, used: set[Path]) -> None:
        try:
            if part.stat().st_size == 0:
                raise Untrusted(f"bundle {archive[:12]} is empty")
            with open(part, "rb") as file:
                # Closed with the last view of it: an error on its way holds some.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                unpack(data, archive, folder, self._limits, lambda size: self._make_room(folder, size, used))
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, folder: Path, size: int, used: set[Path]) -> None:
        self._disk.make_room(folder, size, self._limits.what, used, self._most)

    def _delete_old_parts(self) -> None:
        for part in self._parts.iterdir():
            # Others are fetched meanwhile, in other threads.
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - PARTIAL_KEPT_S:
                    part.unlink()


def _use(folder: Path) -> bool:
    """Whether it is there; from now on it counts as used last."""
    try:
        # At once, and not as `touch` does it: that would make a file where the folder has just been deleted.
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True
