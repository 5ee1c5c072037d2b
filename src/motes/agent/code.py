"""Code on a host: releases and bundles, got from the keeper, checked, and unpacked where spaces can read them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from motes.agent.trust import Trust
from motes.bundle.unpack import unpack
from motes.bus import subjects
from motes.bus.connection import Connection
from motes.errors import SpaceFailed, Untrusted
from motes.model.keeper import GetChunk, decode_answer
from motes.model.release import Release, Signed, is_hash

REQUEST_TIMEOUT_S = 10.0
CHUNKS_AT_ONCE = 8
MAX_CHUNKS = 1024
MAX_BUNDLES = 1_200
"""Unpacked bundles kept on disk; beyond it the ones longest unused go."""

T = TypeVar("T")


class Code:
    """The folder `bundles/` of one host, by bundle hash."""

    def __init__(self, folder: Path, connection: Connection, trust: Trust) -> None:
        self._bundles = folder / "bundles"
        self._bundles.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._connection = connection
        self._trust = trust
        self._fetching: dict[str, asyncio.Task[Path]] = {}

    async def release(self, release: str) -> tuple[Release, Path]:
        """The release and the folder of its code. Raises NotFound, Untrusted, Unavailable."""
        found = self._trust.release(await self._ask("release-get", release, Signed), release)
        return found, await self.bundle(found.bundle)

    async def bundle(self, bundle: str) -> Path:
        """The folder with the bundle's files, fetched once. Raises NotFound, Untrusted, Unavailable."""
        if not is_hash(bundle):
            # It becomes a path: any other text could name any folder of this host.
            raise Untrusted(f"{bundle[:80]!r} is no bundle's hash")
        folder = self._bundles / bundle
        if folder.is_dir():
            await asyncio.to_thread(folder.touch)
            return folder
        task = self._fetching.get(bundle)
        if task is None:
            task = self._fetching[bundle] = asyncio.create_task(self._fetch(bundle, folder))
            task.add_done_callback(lambda _: self._fetching.pop(bundle, None))
        return await asyncio.shield(task)

    async def _fetch(self, bundle: str, folder: Path) -> Path:
        count, first = await self._chunk(bundle, 0)
        if not 0 < count <= MAX_CHUNKS:
            raise Untrusted(f"bundle {bundle[:12]} claims {count} chunks; at most {MAX_CHUNKS} are allowed")
        gate = asyncio.Semaphore(CHUNKS_AT_ONCE)

        async def chunk(index: int) -> bytes:
            async with gate:
                return (await self._chunk(bundle, index))[1]

        rest = await asyncio.gather(*(chunk(index) for index in range(1, count)))
        try:
            await asyncio.to_thread(self._unpack, b"".join((first, *rest)), bundle, folder)
        except OSError as error:
            why = error.strerror or str(error)
            raise SpaceFailed(
                f"the host cannot keep the app's code in {self._bundles}: {why}; free some space"
            ) from error
        return folder

    def _unpack(self, data: bytes, bundle: str, folder: Path) -> None:
        kept = sorted(self._bundles.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in kept[: max(len(kept) + 1 - MAX_BUNDLES, 0)]:
            remove_tree(old)
        unpack(data, bundle, folder)

    async def _chunk(self, bundle: str, index: int) -> tuple[int, bytes]:
        return await self._ask("bundle-get", GetChunk(bundle, index), tuple[int, bytes])

    async def _ask(self, verb: str, question: object, kind: type[T]) -> T:
        subject = subjects.keeper(self._connection.user, verb)
        data = await self._connection.request(subject, msgspec.msgpack.encode(question), REQUEST_TIMEOUT_S)
        return decode_answer(data, kind)


def remove_tree(folder: Path) -> None:
    """Delete a folder whose files and folders are read-only."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
