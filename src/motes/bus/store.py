"""What the keeper remembers, in JetStream. Only the controller holds the permissions for this.

    KV apps, releases, cluster      desired state, release by id, the generation counter
    stream BUNDLES                  bundle.<hash>.<index>: chunks of code; bundle.<hash>.done: how many there are
    stream EVENTS, LOGS             what agents and the controller report; bounded, the oldest is dropped

What is acknowledged is on disk. EVENTS and LOGS acknowledge nothing, and must not: JetStream sends an acknowledgement
to whatever reply subject the publisher named, so a host could have one sent to another host's subject.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import nats
import nats.errors
import nats.js.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    PersistMode,
    StorageType,
    StreamConfig,
)

from motes.bus.connection import CONNECT_TIMEOUT_S, PING_INTERVAL_S, PINGS_UNANSWERED, RECONNECT_WAIT_S, Connection
from motes.errors import NotFound, Unavailable
from motes.model.credentials import Credentials

CHUNK_LIMIT_BYTES = 256 * 2**10
_HEADERS_BYTES = 4096
"""What nats-py adds to a message; the server counts it."""
BUNDLES_LIMIT_BYTES = 4 * 2**30
VALUE_LIMIT_BYTES = 4 * 2**20
BUCKET_LIMIT_BYTES = 512 * 2**20
EVENTS_LIMIT = 20_000
EVENTS_LIMIT_BYTES = 32 * 2**20
LOGS_LIMIT_BYTES = 512 * 2**20
LOG_LINES_LIMIT = 500
"""For one workload on one host."""
LOG_LINE_LIMIT_BYTES = 64 * 2**10
KEPT_S = 14 * 24 * 3600.0
"""How long events and logs are kept at most."""
_TIMEOUT_S = 5.0
_PAGE = 500
_READS_AT_ONCE = 32
_ASYNC_PERSISTENCE_SINCE = (2, 12)

_log = logging.getLogger("motes.bus")


@contextlib.asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    """Turn every failure of NATS into Unavailable."""
    try:
        yield
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Unavailable(f"the store cannot {what}: {error or type(error).__name__}") from error


class Store:
    """The keeper's storage; every method raises Unavailable when NATS or its disk does not do it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._js: Any = client.jetstream(timeout=_TIMEOUT_S)
        self._buckets: dict[str, Any] = {}

    @classmethod
    async def open(cls, connection: Connection) -> Store:
        """Connect as `connection` did, to the same server, and make the streams that are missing."""
        async with _translated("be opened"), contextlib.AsyncExitStack() as undo:
            store = cls(await _connect(connection.server, connection.credentials))
            undo.push_async_callback(store.close)
            for bucket in ("apps", "releases", "cluster"):
                store._buckets[bucket] = await store._js.create_key_value(_bucket(bucket))
            for stream in store._streams():
                await store._js.add_stream(stream)
            undo.pop_all()
            return store

    async def close(self) -> None:
        """End the store's connection."""
        await self._client.close()

    # From here on: desired state.

    async def put_app(self, app: str, value: bytes) -> None:
        await self._put("apps", app, value)

    async def delete_app(self, app: str) -> None:
        await self._delete("apps", app)

    async def apps(self) -> dict[str, bytes]:
        """Every app's value, by name."""
        return await self._all("apps")

    async def put_release(self, release: str, value: bytes) -> None:
        await self._put("releases", release, value)

    async def delete_release(self, release: str) -> None:
        await self._delete("releases", release)

    async def releases(self) -> dict[str, bytes]:
        """Every release's value, by id."""
        return await self._all("releases")

    async def release(self, release: str) -> bytes:
        """One release's value. Raises NotFound."""
        value = await self._get("releases", release)
        if value is None:
            raise NotFound(f"no release {release!r}")
        return value

    async def next_generation(self) -> int:
        """Count up, by compare-and-set: no two callers ever get the same number, and none a lower one."""
        bucket = self._buckets["cluster"]
        async with _translated("count the generation"):
            while True:
                try:
                    entry = await bucket.get("generation")
                    last, generation = entry.revision, int(entry.value) + 1
                except nats.js.errors.KeyNotFoundError:
                    last, generation = 0, 1
                with contextlib.suppress(nats.js.errors.KeyWrongLastSequenceError):
                    await bucket.update("generation", b"%d" % generation, last=last)
                    return generation

    # From here on: bundles.

    async def put_chunk(self, bundle: str, index: int, data: bytes) -> None:
        """Store one chunk of at most CHUNK_LIMIT_BYTES; putting it again changes nothing."""
        async with _translated("take a chunk of a bundle"):
            await self._js.publish(f"bundle.{bundle}.{index}", data, stream="BUNDLES")

    async def finish_bundle(self, bundle: str, chunks: int) -> None:
        """Say that a bundle is whole: all of its `chunks` are stored."""
        async with _translated("finish a bundle"):
            await self._js.publish(f"bundle.{bundle}.done", b"%d" % chunks, stream="BUNDLES")

    async def bundle_size(self, bundle: str) -> int:
        """How many chunks a finished bundle has; 0: there is none."""
        async with _translated("look for a bundle"):
            try:
                found = await self._js.get_msg("BUNDLES", subject=f"bundle.{bundle}.done", direct=True)
            except nats.js.errors.NotFoundError:
                return 0
        return int(found.data)

    async def has_bundle(self, bundle: str) -> bool:
        return await self.bundle_size(bundle) > 0

    async def get_chunk(self, bundle: str, index: int) -> bytes:
        """Raises NotFound."""
        async with _translated("read a bundle"):
            try:
                found = await self._js.get_msg("BUNDLES", subject=f"bundle.{bundle}.{index}", direct=True)
            except nats.js.errors.NotFoundError:
                raise NotFound(f"no chunk {index} of bundle {bundle}") from None
        return found.data or b""

    async def delete_bundle(self, bundle: str) -> None:
        async with _translated("delete a bundle"):
            await self._js.purge_stream("BUNDLES", subject=f"bundle.{bundle}.*")

    # From here on: what was reported.

    async def events(self, limit: int) -> list[tuple[str, bytes]]:
        """The last `limit` events, as (subject, data), the oldest first."""
        async with _translated("read events"):
            state = (await self._js.stream_info("EVENTS")).state
            first = max(state.first_seq, state.last_seq - limit + 1, 1)
            return await self._tail("EVENTS", "report.*.event", first, limit)

    async def logs(self, app: str, workload: str | None, limit: int) -> list[tuple[str, bytes]]:
        """The last `limit` log messages of an app or of one of its workloads, as (subject, data), the oldest first."""
        async with _translated("read logs"):
            return await self._tail("LOGS", f"report.*.log.{app}.{workload or '*'}", 1, limit)

    async def delete_logs(self, app: str) -> None:
        async with _translated("delete logs"):
            await self._js.purge_stream("LOGS", subject=f"report.*.log.{app}.*")

    async def _tail(self, stream: str, subject: str, first: int, limit: int) -> list[tuple[str, bytes]]:
        """The last `limit` messages on `subject` from sequence number `first` on, by batched direct gets."""
        kept: deque[tuple[str, bytes]] = deque(maxlen=limit)
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        try:
            while True:
                ask = b'{"seq":%d,"next_by_subj":"%b","batch":%d}' % (first, subject.encode(), _PAGE)
                await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", ask, reply=inbox)
                while True:
                    message = await answers.next_msg(timeout=_TIMEOUT_S)
                    headers = message.headers or {}
                    if "Status" in headers:
                        break
                    first = int(headers["Nats-Sequence"]) + 1
                    kept.append((headers["Nats-Subject"], message.data))
                # 404: nothing at all; 204: the page ends, and says how many more there are.
                if headers["Status"] != "204" or headers.get("Nats-Num-Pending", "0") == "0":
                    return list(kept)
        finally:
            await answers.unsubscribe()

    # From here on: buckets and streams.

    async def _put(self, bucket: str, key: str, value: bytes) -> None:
        async with _translated(f"write {bucket}"):
            await self._buckets[bucket].put(key, value)

    async def _get(self, bucket: str, key: str) -> bytes | None:
        async with _translated(f"read {bucket}"):
            try:
                return (await self._buckets[bucket].get(key)).value or b""
            except nats.js.errors.KeyNotFoundError:
                return None

    async def _all(self, bucket: str) -> dict[str, bytes]:
        prefix = f"$KV.{bucket}."
        async with _translated(f"read {bucket}"):
            info = await self._js.stream_info(f"KV_{bucket}", subjects_filter=prefix + ">")
        keys = [subject.removeprefix(prefix) for subject in info.state.subjects or {}]
        gate = asyncio.Semaphore(_READS_AT_ONCE)

        async def read(key: str) -> bytes | None:
            async with gate:
                return await self._get(bucket, key)

        values = await asyncio.gather(*map(read, keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def _delete(self, bucket: str, key: str) -> None:
        # A purge leaves no marker behind; markers are for watchers, and there are none.
        async with _translated(f"write {bucket}"):
            await self._js.purge_stream(f"KV_{bucket}", subject=f"$KV.{bucket}.{key}")

    def _streams(self) -> list[StreamConfig]:
        server = self._client.connected_server_version
        lazily = PersistMode.ASYNC if (server.major, server.minor) >= _ASYNC_PERSISTENCE_SINCE else None
        reported: dict[str, Any] = {
            "storage": StorageType.FILE,
            "discard": DiscardPolicy.OLD,
            "max_age": KEPT_S,
            "max_msg_size": LOG_LINE_LIMIT_BYTES,
            "no_ack": True,
            "allow_direct": True,
            "persist_mode": lazily,
        }
        return [
            StreamConfig(
                name="BUNDLES",
                subjects=["bundle.*.*"],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_bytes=BUNDLES_LIMIT_BYTES,
                max_msgs_per_subject=1,
                max_msg_size=CHUNK_LIMIT_BYTES + _HEADERS_BYTES,
                allow_direct=True,
            ),
            StreamConfig(
                name="EVENTS",
                subjects=["report.*.event"],
                max_msgs=EVENTS_LIMIT,
                max_bytes=EVENTS_LIMIT_BYTES,
                **reported,
            ),
            StreamConfig(
                name="LOGS",
                subjects=["report.*.log.>"],
                max_msgs_per_subject=LOG_LINES_LIMIT,
                max_bytes=LOGS_LIMIT_BYTES,
                **reported,
            ),
        ]


def _bucket(name: str) -> KeyValueConfig:
    # Without `direct`, nats-py reads through the API, which is slower.
    return KeyValueConfig(
        bucket=name,
        history=1,
        direct=True,
        storage=StorageType.FILE,
        max_value_size=VALUE_LIMIT_BYTES,
        max_bytes=BUCKET_LIMIT_BYTES,
    )


async def _connect(server: str, credentials: Credentials) -> Any:
    key = Ed25519PrivateKey.from_private_bytes(credentials.secret)

    async def note(error: Exception) -> None:
        _log.info("the store's connection: %s", error or type(error).__name__)

    return await nats.connect(
        server,
        name=credentials.user,
        user_jwt_cb=lambda: bytearray(credentials.jwt, "ascii"),
        signature_cb=lambda nonce: base64.b64encode(key.sign(nonce.encode())),
        inbox_prefix=f"_INBOX.{credentials.user}",
        error_cb=note,
        connect_timeout=CONNECT_TIMEOUT_S,
        reconnect_time_wait=RECONNECT_WAIT_S,
        max_reconnect_attempts=-1,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=PINGS_UNANSWERED,
        # Buffer nothing while disconnected: whoever writes shall hear at once that it was not stored.
        pending_size=0,
    )
