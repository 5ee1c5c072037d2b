"""Deploy a file or folder: pack it, upload it, have a host look at it in a space, sign the release, and ask for it.

And remove an app: sign that, and ask for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from motes.bundle.pack import Bundle, app_name, pack
from motes.client.cluster import Cluster
from motes.errors import BadInput, Refused, Untrusted
from motes.grants.keys import Tag, load_or_create, sign
from motes.model.keeper import CHUNK_BYTES, Deploy, Deployed, Inspect, PutChunk, Remove
from motes.model.names import is_name
from motes.model.release import Daemon, Manifest, Release, Removal

CHUNKS_AT_ONCE = 4
CHUNK_TIMEOUT_S = 10.0
WHOLE_TIMEOUT_S = 60.0
"""For the last chunk: the controller reads all of them again and compares the hash."""
INSPECT_TIMEOUT_S = 90.0
"""Over the controller's own limit, so that its reason is heard first."""
DEPLOY_TIMEOUT_S = 40.0
"""The same; the controller waits for daemons to serve."""

LATER_S = 0.001
T = TypeVar("T")

Progress = Callable[[str], None]
"""Told what is being done, as `uploading 3.2 MiB`."""


def _say_nothing(step: str) -> None: ...


async def deploy(
    cluster: Cluster,
    path: Path,
    *,
    name: str | None = None,
    entries: Sequence[str] = (),
    command: Sequence[str] = (),
    port: int | None = None,
    on_progress: Progress | None = None,
) -> Deployed:
    """Deploy `path` as app `name`; returns when the release is stored and its daemons serve.

    Raises LoadFailed when the code cannot be loaded or the daemon does not serve: then nothing has changed.
    """
    release = await prepare(
        cluster, path, name=name, entries=entries, command=command, port=port, on_progress=on_progress
    )
    return await submit(cluster, release, on_progress)


async def prepare(
    cluster: Cluster,
    path: Path,
    *,
    name: str | None = None,
    entries: Sequence[str] = (),
    command: Sequence[str] = (),
    port: int | None = None,
    on_progress: Progress | None = None,
) -> Release:
    """The release of `path`, uploaded and looked at, not yet deployed."""
    say = on_progress or _say_nothing
    app = _checked_name(name) if name is not None else app_name(path)
    say("packing")
    bundle = await asyncio.to_thread(pack, path)
    await upload(cluster, bundle, say)
    say("loading it in a space")
    question = Inspect(app, bundle.hash, tuple(entries), tuple(command), port)
    manifest = await cluster.ask("inspect", question, Manifest, INSPECT_TIMEOUT_S)
    _check_is_what_was_asked(manifest, question)
    return Release(manifest, bundle.hash, time.time())


async def submit(cluster: Cluster, release: Release, on_progress: Progress | None = None) -> Deployed:
    """Sign a release with the owner's key and have it run."""
    (on_progress or _say_nothing)("deploying")
    owner = load_or_create(cluster.home.key("owner"))

    async def ask(at: float) -> Deployed:
        signed = sign(owner, Tag.RELEASE, msgspec.msgpack.encode(replace(release, created_at=at)))
        return await cluster.ask("deploy", Deploy(signed), Deployed, DEPLOY_TIMEOUT_S)

    return await _as_the_newest(ask, release.created_at)


async def remove(cluster: Cluster, app: str) -> None:
    """Sign with the owner's key that an app shall be gone, and have it removed. Raises NotFound."""
    owner = load_or_create(cluster.home.key("owner"))

    async def ask(at: float) -> bool:
        signed = sign(owner, Tag.REMOVAL, msgspec.msgpack.encode(Removal(app, at)))
        return await cluster.ask("remove", Remove(signed), bool)

    await _as_the_newest(ask, time.time())


async def _as_the_newest(ask: Callable[[float], Awaitable[T]], at: float) -> T:
    """Ask with a signature made `at` this time; where this machine's clock is behind what was signed before, later."""
    try:
        return await ask(at)
    except Refused as error:
        newest_at = error.detail.get("newest_at")
        if not isinstance(newest_at, float):
            raise
        return await ask(max(newest_at, at) + LATER_S)


async def upload(cluster: Cluster, bundle: Bundle, on_progress: Progress | None = None) -> None:
    """Send the bundle's chunks, the last one last; when the cluster has the bundle, this ends after the first."""
    count = -(-len(bundle.data) // CHUNK_BYTES)
    gate = asyncio.Semaphore(CHUNKS_AT_ONCE)

    async def send(index: int, timeout_s: float = CHUNK_TIMEOUT_S) -> bool:
        data = bundle.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        async with gate:
            return await cluster.ask("bundle-put", PutChunk(bundle.hash, index, count, data), bool, timeout_s)

    if await send(0, WHOLE_TIMEOUT_S):
        return
    (on_progress or _say_nothing)(f"uploading {count} chunks")
    await asyncio.gather(*(send(index) for index in range(1, count - 1)))
    if not await send(count - 1, WHOLE_TIMEOUT_S):
        raise Untrusted(f"bundle {bundle.hash[:12]} did not arrive whole; deploy again")


def _check_is_what_was_asked(manifest: Manifest, question: Inspect) -> None:
    """A host answered, and what it says is about to be signed: it may describe functions, but choose no command."""
    daemons = [each for each in manifest.workloads if isinstance(each, Daemon)]
    told = (manifest.app, manifest.entries, [(each.command, each.port) for each in daemons])
    asked = (question.app, question.entries, [(question.command, question.port)] if question.command else [])
    if told != asked or (daemons and len(manifest.workloads) > 1):
        raise Untrusted(f"a host describes app {question.app!r} as what it is not; see `motes host ls`")


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise BadInput(f"{name!r} cannot be an app's name: use a letter or digit, then up to 62 of A-Z a-z 0-9 _ -")
    return name
