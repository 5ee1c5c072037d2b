"""Code on its way: bundles and layers come from owners in chunks, and go to the hosts that may read them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from motes.controller.deployment import Deployment
from motes.controller.fetches import Fetches
from motes.errors import BadInput, NotFound, Refused, TooLarge, Untrusted
from motes.model.keeper import CHUNK_BYTES, MOST_CHUNKS, Arrived, AskChunks, GetChunk, PutChunk
from motes.model.names import HOST_PREFIX, is_name
from motes.model.release import Signed, is_hash

if TYPE_CHECKING:
    from motes.controller.service import Controller


class Archives:
    """Verbs of owners and hosts, see motes.controller.requests."""

    def __init__(self, controller: Controller, deployment: Deployment, fetches: Fetches) -> None:
        self._controller = controller
        self._deployment = deployment
        self._fetches = fetches

    async def has(self, sender: str, question: AskChunks) -> Arrived:
        """What of an archive has arrived."""
        if not is_hash(question.bundle):
            raise BadInput(f"{question.bundle[:80]!r} is no bundle's hash")
        self._deployment.touch(question.bundle)
        store = self._controller.store
        if await store.has_bundle(question.bundle):
            return Arrived(True)
        return Arrived(False, await store.chunks(question.bundle))

    async def put(self, sender: str, chunk: PutChunk) -> bool:
        """Whether with this chunk, which must be the last one sent, all of it is there. Raises TooLarge, Untrusted."""
        if not (0 <= chunk.index < chunk.count <= MOST_CHUNKS) or not is_hash(chunk.bundle):
            raise TooLarge(f"a bundle has at most {MOST_CHUNKS} chunks", limit_bytes=MOST_CHUNKS * CHUNK_BYTES)
        if len(chunk.data) > CHUNK_BYTES:
            raise TooLarge(f"a chunk has at most {CHUNK_BYTES} bytes", limit_bytes=CHUNK_BYTES)
        self._deployment.touch(chunk.bundle)
        store = self._controller.store
        if await store.has_bundle(chunk.bundle):
            return True
        await store.put_chunk(chunk.bundle, chunk.index, chunk.data)
        if chunk.index < chunk.count - 1:
            return False
        digest = hashlib.sha256()
        for index in range(chunk.count):
            digest.update(await store.get_chunk(chunk.bundle, index))
        if digest.hexdigest() != chunk.bundle:
            await store.delete_bundle(chunk.bundle)
            raise Untrusted(f"bundle {chunk.bundle[:12]}: what arrived has another hash; send it again")
        await store.finish_bundle(chunk.bundle, chunk.count)
        return True

    async def get(self, sender: str, question: GetChunk) -> tuple[int, bytes]:
        """One chunk for a host, and how many there are. Raises Refused and NotFound."""
        store, host = self._controller.store, sender.removeprefix(HOST_PREFIX)
        if not self._controller.readers.may_read(host, question.bundle):
            raise Refused(f"host {host!r} was given nothing that needs bundle {question.bundle[:12]!r}")
        count = await store.bundle_size(question.bundle) if is_hash(question.bundle) else 0
        if count == 0:
            raise NotFound(f"no bundle {question.bundle[:12]!r}")
        self._fetches.note(host, question.bundle, question.index, count, self._controller.now())
        return count, await store.get_chunk(question.bundle, question.index)

    async def release(self, sender: str, release: str) -> Signed:
        """A release for a host, which may then read what is in it. Raises Refused and NotFound."""
        if not is_name(release):
            raise NotFound(f"no release {release!r}")
        signed = msgspec.msgpack.decode(await self._controller.store.release(release), type=Signed)
        host, found = sender.removeprefix(HOST_PREFIX), self._controller.check(signed)
        if not self._controller.readers.may_read_release(host, found):
            raise Refused(f"host {host!r} was given nothing of app {found.app!r}")
        self._controller.readers.show(host, found.archives)
        return signed
