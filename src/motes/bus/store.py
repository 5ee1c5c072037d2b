"""What the keeper remembers, in JetStream. Only the controller holds the permissions for this.

    KV apps, removals       desired state: by app, its signed release, or the owner's word that it was removed
    KV releases, cluster    release by id; the generation counter, and whose cluster this is
    KV invites, members     by guest, what an invite allows; by host, who has joined
    KV sets                 by host, in which sets the cluster's owner has put it
    KV callers              by name, the keys that were made for it
    KV drained              by host that shall take no new work, nothing more
    stream BUNDLES          bundle.<hash>.<index>: chunks of code; bundle.<hash>.done: how many there are
    stream EVENTS           event.<sender>: what the controller told, or heard of a host; bounded for each sender
    stream RECEIPTS         receipt.<host>: what hosts spent, checked and signed; bounded for each host
    stream LOGS             log.<app>: what instances wrote; bounded for each app, the oldest is dropped

What is acknowledged is on disk. EVENTS and LOGS acknowledge nothing: they are written as fast as hosts tell.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import nats
import nats.errors
import nats.js.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from motes.bus import subjects, tls
from motes.bus.connection import CONNECT_TIMEOUT_S, PING_INTERVAL_S, PINGS_UNANSWERED, RECONNECT_WAIT_S, Connection
from motes.bus.foreign import CLAIM
from motes.bus.streams import BUCKETS, LOGS_OF_ONE_LIMIT, Page, Settings, bucket, page, streams, tail
from motes.errors import NotFound, Refused, Unavailable

_TIMEOUT_S = 5.0
_READS_AT_ONCE = 32
_WRONG_LAST_SEQUENCE = 10071
"""nats-server's own number for it."""
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

    def __init__(self, connection: Connection, client: Any, replicas: int) -> None:
        self._connection = connection
        """For what is not acknowledged, and for what is read in pages."""
        self._client = client
        self._replicas = replicas
        self._direct = replicas == 1
        """Whether whoever has a copy may answer: of several, one may not have heard the newest yet."""
        self._js: Any = client.jetstream(timeout=_TIMEOUT_S)
        self._buckets: dict[str, Any] = {}

    @classmethod
    async def open(cls, connection: Connection, replicas: int = 1) -> Store:
        """Connect as `connection` did, to the same server, and make the streams that are missing.

        What is kept is on `replicas` servers, if it was not made with another number.
        """
        async with _translated("be opened"), contextlib.AsyncExitStack() as undo:
            store = cls(connection, await _connect(connection), replicas)
            undo.push_async_callback(store.close)
            for name in BUCKETS:
                store._buckets[name] = await store._make_bucket(name)
            version = store._client.connected_server_version
            for stream in streams((version.major, version.minor), replicas):
                await store._make(stream)
            undo.pop_all()
            return store

    async def _make_bucket(self, name: str) -> Any:
        try:
            return await self._js.create_key_value(**bucket(name, self._replicas))
        except nats.js.errors.BadRequestError:
            # It was made where other servers were named.
            return await self._js.key_value(name)

    async def _make(self, stream: Settings) -> None:
        try:
            await self._js.add_stream(**stream)
        except nats.js.errors.BadRequestError:
            # An earlier Motes made it with other limits.
            await self._js.update_stream(**stream)

    async def close(self) -> None:
        """End the store's connection."""
        await self._client.close()

    # From here on: desired state.

    async def put_app(self, app: str, value: bytes) -> None:
        await self._put("apps", app, value)

    async def remove_app(self, app: str, removal: bytes) -> None:
        """Put the owner's word in the place of the app: first the word, so that the app never comes back without."""
        await self._put("removals", app, removal)
        await self._delete("apps", app)

    async def apps(self) -> dict[str, bytes]:
        """Every app's value, by name."""
        return await self._all("apps")

    async def removals(self) -> dict[str, bytes]:
        """The last removal of every app that was ever removed, by name."""
        return await self._all("removals")

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

    async def claim(self, owner: str) -> None:
        """Say that this store is the cluster's of `owner`. Raises Refused when another one has."""
        counter = self._buckets["cluster"]
        async with _translated("be claimed"):
            with contextlib.suppress(nats.js.errors.KeyWrongLastSequenceError):
                await counter.update(CLAIM, owner.encode(), last=0)
            found = (await counter.get(CLAIM)).value or b""
        if found.decode(errors="replace") != owner:
            raise Refused("another Motes cluster lives in this account of NATS; give each one of its own")

    async def next_generation(self) -> int:
        """Count up, by compare-and-set: no two callers ever get the same number, and none a lower one."""
        counter = self._buckets["cluster"]
        async with _translated("count the generation"):
            while True:
                try:
                    entry = await counter.get("generation")
                    last, generation = entry.revision, int(entry.value) + 1
                except nats.js.errors.KeyNotFoundError:
                    last, generation = 0, 1
                with contextlib.suppress(nats.js.errors.KeyWrongLastSequenceError):
                    await counter.update("generation", b"%d" % generation, last=last)
                    return generation

    # From here on: who may join, and who has.

    async def put_invite(self, guest: str, value: bytes) -> None:
        await self._put("invites", guest, value)

    async def invite(self, guest: str) -> bytes | None:
        """What is remembered of a guest's invite; None for one that is not known."""
        return await self._get("invites", guest)

    async def put_member(self, host: str, value: bytes) -> None:
        await self._put("members", host, value)

    async def member(self, host: str) -> bytes | None:
        """A host that has joined."""
        return await self._get("members", host)

    async def members(self) -> dict[str, bytes]:
        """Every host that has joined, by name; also those that have left since."""
        return await self._all("members")

    async def put_sets(self, host: str, value: bytes) -> None:
        await self._put("sets", host, value)

    async def delete_sets(self, host: str) -> None:
        await self._delete("sets", host)

    async def sets(self) -> dict[str, bytes]:
        """In which sets hosts are, by name."""
        return await self._all("sets")

    async def put_caller(self, name: str, value: bytes) -> None:
        await self._put("callers", name, value)

    async def caller(self, name: str) -> bytes | None:
        """The keys of a caller."""
        return await self._get("callers", name)

    async def callers(self) -> dict[str, bytes]:
        """Everybody for whom a key was ever made, by name."""
        return await self._all("callers")

    async def put_drained(self, host: str, drained: bool) -> None:
        """Whether the host shall take no new work."""
        await (self._put("drained", host, b"") if drained else self._delete("drained", host))

    async def drained(self) -> set[str]:
        """The hosts that shall take no new work."""
        return set(await self._all("drained"))

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
                found = await self._js.get_msg("BUNDLES", subject=f"bundle.{bundle}.done", direct=self._direct)
            except nats.js.errors.NotFoundError:
                return 0
        return int(found.data)

    async def has_bundle(self, bundle: str) -> bool:
        return await self.bundle_size(bundle) > 0

    async def chunks(self, bundle: str) -> list[int]:
        """The indexes of the chunks that are stored, in order."""
        prefix = f"bundle.{bundle}."
        async with _translated("look for a bundle"):
            info = await self._js.stream_info("BUNDLES", subjects_filter=prefix + "*")
        return sorted(
            int(name) for name in (each.removeprefix(prefix) for each in info.state.subjects or {}) if name.isdigit()
        )

    async def bundles(self) -> list[str]:
        """Every bundle of which something is stored, whole or not."""
        async with _translated("look for bundles"):
            info = await self._js.stream_info("BUNDLES", subjects_filter="bundle.*.*")
        return sorted({subject.split(".")[1] for subject in info.state.subjects or {}})

    async def get_chunk(self, bundle: str, index: int) -> bytes:
        """Raises NotFound."""
        async with _translated("read a bundle"):
            try:
                found = await self._js.get_msg("BUNDLES", subject=f"bundle.{bundle}.{index}", direct=self._direct)
            except nats.js.errors.NotFoundError:
                raise NotFound(f"no chunk {index} of bundle {bundle}") from None
        return found.data or b""

    async def delete_bundle(self, bundle: str) -> None:
        async with _translated("delete a bundle"):
            await self._js.purge_stream("BUNDLES", subject=f"bundle.{bundle}.*")

    # From here on: events and logs.

    def add_event(self, sender: str, data: bytes) -> None:
        """Keep an event; without a connection it is lost, as one over its limit is."""
        self._connection.publish(subjects.kept_event(sender), data)

    def add_log(self, app: str, data: bytes) -> None:
        """Keep what an instance wrote; the same."""
        self._connection.publish(subjects.kept_log(app), data)

    async def events(self, limit: int) -> list[bytes]:
        """The last `limit` events, the oldest first."""
        async with _translated("read events"):
            state = (await self._js.stream_info("EVENTS")).state
            # Among the last numbers are those of events that were dropped.
            first = max(state.first_seq, state.last_seq - limit + 1 - (state.num_deleted or 0), 1)
            return await tail(self._connection, "EVENTS", subjects.kept_event("*"), first, limit)

    async def logs(self, app: str) -> list[bytes]:
        """The log messages of an app, the oldest first."""
        return await tail(self._connection, "LOGS", subjects.kept_log(app), 1, LOGS_OF_ONE_LIMIT)

    async def delete_logs(self, app: str) -> None:
        async with _translated("delete logs"):
            await self._connection.flush(_TIMEOUT_S)
            await self._js.purge_stream("LOGS", subject=subjects.kept_log(app))

    # From here on: receipts.

    async def add_receipt(self, host: str, data: bytes, after: int) -> int:
        """Keep a receipt as the next one of this host, whose last is number `after`: returns the new one's number.

        Raises Refused when the last is another one.
        """
        expected = {"Nats-Expected-Last-Subject-Sequence": str(after)}
        async with _translated("keep a receipt"):
            try:
                told = await self._js.publish(subjects.kept_receipt(host), data, stream="RECEIPTS", headers=expected)
            except nats.js.errors.APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise
                raise Refused(f"another receipt of host {host} was kept meanwhile") from None
        return int(told.seq)

    async def last_receipt(self, host: str) -> tuple[int, bytes]:
        """The last one of this host, with its number; 0 and nothing: there is none."""
        async with _translated("read receipts"):
            try:
                subject = subjects.kept_receipt(host)
                found = await self._js.get_msg("RECEIPTS", subject=subject, direct=self._direct)
            except nats.js.errors.NotFoundError:
                return 0, b""
        return int(found.seq), found.data or b""

    async def receipts(self, host: str, since: float, first: int, count: int) -> Page:
        """The next `count` of a host, or of all (`*`), from the number `first` on, or if that is 0 from a Unix time."""
        start = first or f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return await page(self._connection, "RECEIPTS", subjects.kept_receipt(host), start, count)

    # From here on: buckets.

    async def _put(self, name: str, key: str, value: bytes) -> None:
        async with _translated(f"write {name}"):
            await self._buckets[name].put(key, value)

    async def _get(self, name: str, key: str) -> bytes | None:
        async with _translated(f"read {name}"):
            try:
                return (await self._buckets[name].get(key)).value or b""
            except nats.js.errors.KeyNotFoundError:
                return None

    async def _all(self, name: str) -> dict[str, bytes]:
        prefix = f"$KV.{name}."
        async with _translated(f"read {name}"):
            info = await self._js.stream_info(f"KV_{name}", subjects_filter=prefix + ">")
        keys = [subject.removeprefix(prefix) for subject in info.state.subjects or {}]
        gate = asyncio.Semaphore(_READS_AT_ONCE)

        async def read(key: str) -> bytes | None:
            async with gate:
                return await self._get(name, key)

        values = await asyncio.gather(*map(read, keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def _delete(self, name: str, key: str) -> None:
        # A purge leaves no marker behind; markers are for watchers, and there are none.
        async with _translated(f"write {name}"):
            await self._js.purge_stream(f"KV_{name}", subject=f"$KV.{name}.{key}")


async def _connect(connection: Connection) -> Any:
    """A connection of nats-py, to where that one leads, that buffers nothing while it has no server."""
    credentials = connection.credentials
    key = Ed25519PrivateKey.from_private_bytes(credentials.secret)

    async def note(error: Exception) -> None:
        _log.info("the store's connection: %s", error or type(error).__name__)

    return await nats.connect(
        connection.server.split(","),
        tls=tls.context(connection.certificate) if connection.certificate else None,
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
