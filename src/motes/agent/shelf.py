"""Unpacked archives on a host's disk, by hash: one folder for each, read-only, the longest unused deleted first."""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from motes.bundle.sources import Limits
from motes.bundle.unpack import discard, unpack
from motes.errors import SpaceFailed, Untrusted
from motes.model.keeper import CHUNK_BYTES, MOST_CHUNKS
from motes.model.release import is_hash

CHUNKS_AT_ONCE = 8
PARTIAL_KEPT_S = 24 * 3600.0
"""How long the beginning of an archive waits for its rest."""

Fetch = Callable[[str, int], Awaitable[tuple[int, bytes]]]
"""Gets one chunk of an archive: how many there are, and its bytes."""


class Shelf:
    """The archives of one kind. Those in use are never deleted; `used` names their folders."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        most: int,
        most_bytes: int | None,
        fetch: Fetch,
        used: Callable[[], set[Path]],
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._most = most
        self._most_bytes = most_bytes
        self._fetch_chunk = fetch
        self._used = used
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self.missing: dict[str, int] = {}
        """Bytes that have still to come, by archive that is being fetched."""
        self._sole = asyncio.Lock()
        """One at a time decides what is deleted for it."""
        self._parts = folder / ".parts"
        self._parts.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o755)

    async def get(self, archive: str) -> Path:
        """The folder with the archive's files, fetched once. Raises NotFound, Untrusted, Unavailable, SpaceFailed."""
        if not is_hash(archive):
            # It becomes a path: any other text could name any folder of this host.
            raise Untrusted(f"{archive[:80]!r} is no bundle's hash")
        folder = self._folder / archive
        if _use(folder):
            return folder
        task = self._fetching.get(archive)
        if task is None:
            task = self._fetching[archive] = asyncio.create_task(self._fetch(archive, folder))
            task.add_done_callback(lambda _: self._fetching.pop(archive, None))
        return await asyncio.shield(task)

    async def _fetch(self, archive: str, folder: Path) -> Path:
        part = self._parts / archive
        try:
            await asyncio.to_thread(self._delete_old_parts)
            try:
                await self._fill(archive, part)
            finally:
                self.missing.pop(archive, None)
            async with self._sole:
                await asyncio.to_thread(self._unpack, part, archive, folder, self._used())
        except OSError as error:
            why = error.strerror or str(error)
            raise SpaceFailed(
                f"the host cannot keep {self._limits.what} in {self._folder}: {why}; free some space"
            ) from error
        return folder

    async def _fill(self, archive: str, part: Path) -> None:
        """Get what is missing of it; what arrived before a break is kept."""
        count, _ = await self._fetch_chunk(archive, 0)
        if not 0 < count <= MOST_CHUNKS:
            raise Untrusted(f"bundle {archive[:12]} claims {count} chunks; at most {MOST_CHUNKS} are allowed")
        with await asyncio.to_thread(open, part, "ab") as file:
            # Whole chunks only: the last one may have been cut short.
            have = file.tell() // CHUNK_BYTES
            have = have if have < count else 0
            file.truncate(have * CHUNK_BYTES)
            for first in range(have, count, CHUNKS_AT_ONCE):
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
            with open(part, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                unpack(data, archive, folder, self._limits, lambda size: self._make_room(size, used))
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int, used: set[Path]) -> None:
        """Delete what is too much, with one more of `size` bytes unpacked."""
        since = {each: _used_at(each) for each in self._folder.iterdir() if is_hash(each.name)}
        kept = sorted(since, key=since.__getitem__)
        sizes = {each: _size_bytes(each) for each in kept} if self._most_bytes is not None else {}
        count, total = len(kept) + 1, sum(sizes.values()) + size
        for old in kept:
            if count <= self._most and (self._most_bytes is None or total <= self._most_bytes):
                return
            if old not in used and _used_at(old) == since[old]:
                discard(old)
                count, total = count - 1, total - sizes.get(old, 0)

    def _delete_old_parts(self) -> None:
        for part in self._parts.iterdir():
            if _used_at(part) < time.time() - PARTIAL_KEPT_S:
                part.unlink(missing_ok=True)


def _use(folder: Path) -> bool:
    """Whether it is there; from now on it counts as used last."""
    try:
        # At once, and not as `touch` does it: that would make a file where the folder has just been deleted.
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


# Others are fetched meanwhile, in other threads: what has gone is as old as can be.


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")


def _size_bytes(folder: Path) -> int:
    return sum(os.lstat(f"{where}/{name}").st_size for where, _, names in os.walk(folder) for name in names)
