from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from motes.bus import backup
from motes.bus.backup import Snapshot
from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.errors import Unavailable

DEADLINE_S = 30.0


def run(running: Any, other: Any, test: Callable[[Connection, Connection], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            ends = [await Connection.open(each.url, each.home.credentials("keeper")) for each in (running, other)]
            try:
                await test(*ends)
            finally:
                for each in ends:
                    await each.close()

    asyncio.run(within_deadline())


async def copy_all(source: Connection, target: Connection) -> None:
    for name in await backup.stream_names(source):
        async with backup.snapshot(source, name) as read:
            state = await backup.restore(target, read)
            assert backup.difference(read.state, state, may_expire=False) == ""


def test_a_store_is_the_same_after_it_was_copied(own_nats_server: Any, other_nats_server: Any) -> None:
    chunks = [bytes((index % 251,)) * 200_000 for index in range(60)]

    async def test(source: Connection, target: Connection) -> None:
        store = await Store.open(source)
        await store.put_app("a", b"1")
        await store.put_app("b", b"2")
        await store.remove_app("b", b"the owner's word")
        await store.put_release("0123", b"signed")
        for index, chunk in enumerate(chunks):
            await store.put_chunk("f" * 64, index, chunk)
        await store.finish_bundle("f" * 64, len(chunks))
        store.add_log("a", b"hello")
        await source.flush()
        generation = await store.next_generation()
        await store.close()
        await copy_all(source, target)
        copied = await Store.open(target)
        assert (await copied.apps(), await copied.removals()) == ({"a": b"1"}, {"b": b"the owner's word"})
        assert await copied.release("0123") == b"signed"
        assert await copied.bundle_size("f" * 64) == len(chunks)
        assert [await copied.get_chunk("f" * 64, index) for index in range(len(chunks))] == chunks
        assert await copied.logs("a") == [b"hello"]
        assert await copied.next_generation() == generation + 1
        await copied.close()

    run(own_nats_server, other_nats_server, test)


def test_a_copy_that_was_cut_short_or_altered_is_not_taken(own_nats_server: Any, other_nats_server: Any) -> None:
    async def test(source: Connection, target: Connection) -> None:
        store = await Store.open(source)
        for index in range(8):
            await store.put_chunk("e" * 64, index, bytes((index,)) * 250_000)
        await store.close()

        async def half(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            got = [chunk async for chunk in chunks]
            for chunk in got[: len(got) // 2]:
                yield chunk

        async with backup.snapshot(source, "BUNDLES") as read:
            with pytest.raises(Unavailable, match="the store refuses"):
                await backup.restore(target, Snapshot(read.name, read.config, read.state, half(read.chunks)))
        assert await backup.stream_names(target) == []
        # And it may be done again.
        await copy_all(source, target)

    run(own_nats_server, other_nats_server, test)


def test_what_a_copy_lacks_is_said() -> None:
    before, after = {"messages": 3, "last_seq": 5}, {"messages": 2, "last_seq": 4}
    assert backup.difference(before, after, may_expire=False) == "messages 2 for 3, last_seq 4 for 5"
    assert backup.difference(before, {**after, "last_seq": 5}, may_expire=True) == ""
