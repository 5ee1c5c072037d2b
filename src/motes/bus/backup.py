"""Copy a stream from one nats-server to another, byte for byte, by JetStream's own snapshot and restore.

A snapshot is what the stream held when it was asked for; whoever needs several that belong together sees to it that
nothing is written meanwhile. https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from motes.bus.connection import Connection, Message
from motes.errors import Unavailable

CHUNK_BYTES = 128 * 2**10
TIMEOUT_S = 30.0
"""For one answer, and between two chunks."""

_numbers = itertools.count(1)


class Snapshot(NamedTuple):
    """A stream as it was: its settings and state, as the server says them, and its bytes."""

    name: str
    config: dict[str, Any]
    state: dict[str, Any]
    chunks: AsyncIterator[bytes]


async def stream_names(connection: Connection) -> list[str]:
    """Every stream there. Raises Unavailable and TimedOut."""
    found = await api(connection, "STREAM.NAMES", {})
    names = sorted(map(str, found.get("streams") or ()))
    if len(names) != found.get("total", 0):
        raise Unavailable(f"the store has {found.get('total')} streams and names {len(names)} of them")
    return names


@contextlib.asynccontextmanager
async def snapshot(connection: Connection, name: str) -> AsyncIterator[Snapshot]:
    """Read a stream; its chunks come as fast as they are taken. Raises Unavailable and TimedOut."""
    inbox = f"{connection.inbox}.snapshot.{next(_numbers)}"
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    heard = await connection.subscribe(inbox, arrived.put_nowait)
    try:
        wanted = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES, "jsck": True}
        found = await api(connection, f"STREAM.SNAPSHOT.{name}", wanted)
        yield Snapshot(name, found["config"], found["state"], _chunks(connection, name, arrived))
    finally:
        heard.unsubscribe()


async def _chunks(connection: Connection, name: str, arrived: asyncio.Queue[Message]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                message = await arrived.get()
        except TimeoutError:
            raise Unavailable(f"the store said no more of {name} for {TIMEOUT_S:g} s") from None
        if not message.data:
            # The end, said well or badly.
            if message.headers and not message.headers.startswith(b"NATS/1.0 204"):
                raise Unavailable(f"the store did not finish its copy of {name}: {message.headers[:100]!r}")
            return
        yield message.data
        if message.reply:
            connection.publish(message.reply, b"")


async def restore(connection: Connection, read: Snapshot) -> dict[str, Any]:
    """Write a stream that is not there yet; returns its state. Raises Unavailable and TimedOut."""
    found = await api(connection, f"STREAM.RESTORE.{read.name}", {"config": read.config, "state": read.state})
    subject = str(found["deliver_subject"])
    async for chunk in read.chunks:
        answer = await connection.request(subject, chunk, TIMEOUT_S)
        if answer:
            checked(answer, f"the copy of {read.name}")
    made = checked(await connection.request(subject, b"", TIMEOUT_S), f"the copy of {read.name}")
    return dict(made["state"])


async def api(connection: Connection, call: str, question: dict[str, Any]) -> dict[str, Any]:
    """The store's answer to a call of JetStream's API. Raises Unavailable and TimedOut."""
    answer = await connection.request(f"$JS.API.{call}", msgspec.json.encode(question), TIMEOUT_S)
    return checked(answer, call)


def checked(answer: bytes, what: str) -> dict[str, Any]:
    """The store's answer, which is none that refuses. Raises Unavailable."""
    try:
        found = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unavailable(f"the store's answer to {what} cannot be read: {error}") from error
    if "error" in found:
        raise Unavailable(f"the store refuses {what}: {found['error'].get('description', found['error'])}")
    return found


def difference(before: dict[str, Any], after: dict[str, Any], *, may_expire: bool) -> str:
    """What a copy has not as the original, or empty. Where messages grow old, some may have gone meanwhile."""
    fields = ("last_seq",) if may_expire else ("messages", "last_seq")
    differ = [each for each in fields if before.get(each) != after.get(each)]
    return ", ".join(f"{each} {after.get(each)} for {before.get(each)}" for each in differ)
