"""Deploy a file or folder: pack it, upload it, have a host look at it in a space, sign the release, and ask for it.

And remove an app: sign that, and ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from motes.bundle.pack import app_name, pack
from motes.client.cluster import Cluster
from motes.client.placing import EVERYWHERE, Placing
from motes.client.requirements import requirements_of
from motes.client.targets import Notice, hosts_there, targets_of
from motes.errors import MotesError, Refused, TimedOut, TooLarge, Untrusted
from motes.grants.keys import Key, Tag, load_or_create, sign
from motes.home import Home
from motes.model.keeper import (
    CHUNK_BYTES,
    MOST_CHUNKS,
    Arrived,
    AskChunks,
    Deploy,
    Deployed,
    Fetching,
    Inspect,
    PutChunk,
    Remove,
)
from motes.model.naming import as_name
from motes.model.release import Daemon, Manifest, Packages, Release, Removal
from motes.model.units import format_bytes

CHUNKS_AT_ONCE = 4
CHUNK_TIMEOUT_S = 10.0
WHOLE_TIMEOUT_S = 60.0
"""For the last chunk: the controller reads all of them again and compares the hash."""
INSPECT_TIMEOUT_S = 90.0
"""Over the controller's own limits, so that its reason is heard first; from when the host has fetched what it needs."""
INSPECT_MOST_S = 3600.0
LOOK_S = 0.3
DEPLOY_TIMEOUT_S = 40.0
"""The same; the controller waits for daemons to serve."""

LATER_S = 0.001
T = TypeVar("T")


class Progress(Protocol):
    """Told what is being done, and where that is counted, how far it is."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None: ...


def _say_nothing(step: str, done: int = 0, total: int = 0) -> None: ...


def _heed_nothing(what: str) -> None: ...


async def deploy(
    cluster: Cluster,
    path: Path,
    *,
    name: str | None = None,
    entries: Sequence[str] = (),
    command: Sequence[str] = (),
    port: int | None = None,
    lock: bool = False,
    placing: Placing = EVERYWHERE,
    on_progress: Progress | None = None,
    on_notice: Notice = _heed_nothing,
) -> Deployed:
    """Deploy `path` as app `name`; returns when the release is stored and its daemons serve.

    Raises LoadFailed when the code cannot be loaded or the daemon does not serve: then nothing has changed.
    """
    release = await prepare(
        cluster,
        path,
        name=name,
        entries=entries,
        command=command,
        port=port,
        lock=lock,
        placing=placing,
        on_progress=on_progress,
        on_notice=on_notice,
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
    lock: bool = False,
    placing: Placing = EVERYWHERE,
    on_progress: Progress | None = None,
    on_notice: Notice = _heed_nothing,
) -> Release:
    """The release of `path`, uploaded and looked at, not yet deployed; `lock` first writes the pins of its packages.

    Only a host at the `placing`'s own place sees the app; what its functions declare is known when one has loaded it.
    """
    owner_key(cluster.home)
    say = on_progress or _say_nothing
    app = as_name(name, "an app's name") if name is not None else app_name(path)
    packages = await _packages(cluster, path, say, on_notice, lock)
    say("packing")
    bundle = await asyncio.to_thread(pack, path)
    await upload(cluster, bundle.hash, bundle.data, say, "the app")
    say("loading it in a space")
    question = Inspect(app, bundle.hash, tuple(entries), tuple(command), port, packages=packages, place=placing.place)
    manifest = await _inspect(cluster, question, say)
    _check_is_what_was_asked(manifest, question)
    return Release(placing.apply(manifest), bundle.hash, time.time(), packages)


async def _inspect(cluster: Cluster, question: Inspect, say: Progress) -> Manifest:
    """What the app holds, by a host that loads it; what the host has to fetch first is shown as it comes."""
    owner = owner_key(cluster.home)
    signed = sign(owner, Tag.INSPECTION, msgspec.msgpack.encode(question))
    asked = asyncio.ensure_future(cluster.ask("inspect", signed, Manifest, INSPECT_MOST_S))
    last: list[Fetching] = []
    waited_s = 0.0
    try:
        while not (await asyncio.wait((asked,), timeout=LOOK_S))[0]:
            fetching = await _fetching(cluster, {question.bundle, *question.packages.layers.values()})
            last, waited_s = fetching, waited_s + LOOK_S if fetching == last else 0.0
            for each in fetching:
                say(f"host {each.host} fetches it", each.done_bytes, each.total_bytes)
            if waited_s > INSPECT_TIMEOUT_S:
                limit = INSPECT_TIMEOUT_S
                raise TimedOut(f"no host has loaded the app within {limit:g} s (see `motes host ls`)", timeout_s=limit)
        return await asked
    finally:
        asked.cancel()


async def _fetching(cluster: Cluster, archives: set[str]) -> list[Fetching]:
    """Which hosts are getting these; nothing when that cannot be asked just now."""
    try:
        return [each for each in await cluster.ask("fetching", None, list[Fetching]) if each.archive in archives]
    except MotesError:
        return []


async def submit(cluster: Cluster, release: Release, on_progress: Progress | None = None) -> Deployed:
    """Sign a release with the owner's key and have it run."""
    (on_progress or _say_nothing)("deploying")
    owner = owner_key(cluster.home)

    async def ask(at: float) -> Deployed:
        signed = sign(owner, Tag.RELEASE, msgspec.msgpack.encode(replace(release, created_at=at)))
        return await cluster.ask("deploy", Deploy(signed), Deployed, DEPLOY_TIMEOUT_S)

    return await _as_the_newest(ask, release.created_at)


def owner_key(home: Home) -> Key:
    """What signs what runs. Raises Refused where that is on another machine."""
    path = home.key("owner")
    if home.client_file.exists() and not path.exists():
        raise Refused(
            f"the context {home.path.name!r} holds a caller's key, which may only call; for more it takes the owner's"
            " (on the keeper: motes creds --owner)"
        )
    if not path.exists() and home.public_key("owner").exists():
        raise Refused("the owner's key is not on this machine: deploy and remove from the one that has it")
    return load_or_create(path)


async def remove(cluster: Cluster, app: str) -> None:
    """Sign with the owner's key that an app shall be gone, and have it removed. Raises NotFound."""
    owner = owner_key(cluster.home)

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


async def _packages(cluster: Cluster, path: Path, say: Progress, notice: Notice, lock: bool) -> Packages:
    """What the app needs beside its files, uploaded, for every kind of host that there is.

    Raises NoPackages and Unavailable.
    """
    wanted = await asyncio.to_thread(requirements_of, path)
    if not wanted.lines:
        if lock:
            notice(f"{path} names no packages, so there is nothing to pin: {wanted.lock.name} is not written")
        return Packages(wanted.python)
    from motes.client.packages import Layers

    targets = targets_of(await hosts_there(cluster), wanted, notice)
    layers = await Layers(cluster.home.layers, say, notice).make(wanted, targets, path.name if lock else "")
    hashes = {}
    for kind, layer in layers.items():
        hashes[kind] = await asyncio.to_thread(_hash_of, layer)
        with _mapped(layer) as data:
            await upload(cluster, hashes[kind], data, say, "packages")
    return Packages(wanted.python, hashes)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _hash_of(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


async def upload(cluster: Cluster, archive: str, data: bytes | mmap.mmap, say: Progress, what: str) -> None:
    """Send the chunks of an archive that the cluster does not have yet, the last one last.

    Raises Untrusted when it did not arrive whole, and TooLarge.
    """
    arrived = await cluster.ask("bundle-has", AskChunks(archive), Arrived)
    if arrived.whole:
        return
    count = -(-len(data) // CHUNK_BYTES)
    if count > MOST_CHUNKS:
        size, most = format_bytes(len(data)), format_bytes(MOST_CHUNKS * CHUNK_BYTES)
        raise TooLarge(f"{what} of {size}, compressed; the limit is {most}", limit_bytes=MOST_CHUNKS * CHUNK_BYTES)
    gate = asyncio.Semaphore(CHUNKS_AT_ONCE)
    missing = sorted(set(range(count - 1)) - set(arrived.chunks))
    sent = count - 1 - len(missing)

    async def send(index: int, timeout_s: float = CHUNK_TIMEOUT_S) -> bool:
        nonlocal sent
        async with gate:
            part = bytes(data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
            whole = await cluster.ask("bundle-put", PutChunk(archive, index, count, part), bool, timeout_s)
        sent += 1
        say(f"uploading {what}", sent * CHUNK_BYTES, count * CHUNK_BYTES)
        return whole

    await asyncio.gather(*map(send, missing))
    if not await send(count - 1, WHOLE_TIMEOUT_S):
        raise Untrusted(f"bundle {archive[:12]} did not arrive whole; deploy again")


def _check_is_what_was_asked(manifest: Manifest, question: Inspect) -> None:
    """A host answered, and what it says is about to be signed: it may describe functions, but choose no command."""
    daemons = [each for each in manifest.workloads if isinstance(each, Daemon)]
    told = (manifest.app, manifest.entries, [(each.command, each.port) for each in daemons])
    asked = (question.app, question.entries, [(question.command, question.port)] if question.command else [])
    if told != asked or (daemons and len(manifest.workloads) > 1):
        raise Untrusted(f"a host describes app {question.app!r} as what it is not; see `motes host ls`")
