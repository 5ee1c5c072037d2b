"""A stream is copied while it is written to, and what of it has changed meanwhile is copied behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from motes.bus import piecewise
from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.errors import Unavailable

DEADLINE_S = 30.0
STREAM = "BUNDLES"
KEPT, CHANGED, REMOVED, LATE = (letter * 64 for letter in "abcd")


def run(running: Any, other: Any, test: Callable[[Store, Connection, Connection], Awaitable[None]]) -> None:
    """With the store of one server, and connections to both."""

    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            ends = [await Connection.open(each.url, each.home.credentials("keeper")) for each in (running, other)]
            store = await Store.open(ends[0])
            try:
                await test(store, *ends)
            finally:
                for each in (store, *ends):
                    await each.close()

    asyncio.run(within_deadline())


async def store_bundle(store: Store, name: str, chunks: list[bytes]) -> None:
    for index, chunk in enumerate(chunks):
        await store.put_chunk(name, index, chunk)
    await store.finish_bundle(name, len(chunks))


async def copy_new(code: piecewise.Source, target: Connection) -> int:
    """What came since the last time; how many messages went over."""
    copied = 0
    async for page in code.fresh():
        for each in page:
            await piecewise.put(target, each.subject, each.data)
        copied += len(page)
    return copied


def test_what_changes_while_it_is_copied_is_copied_behind_it(own_nats_server: Any, other_nats_server: Any) -> None:
    chunks = [bytes((index,)) * 250_000 for index in range(40)]

    async def test(store: Store, source: Connection, target: Connection) -> None:
        for name in (KEPT, CHANGED, REMOVED):
            await store_bundle(store, name, chunks)
        code = piecewise.Source(source, STREAM)
        await piecewise.make(target, await code.config())
        assert await copy_new(code, target) == 3 * 41
        assert await copy_new(code, target) == 0
        await store.delete_bundle(REMOVED)
        # What came was another than was said: it is deleted, and sent again.
        await store.delete_bundle(CHANGED)
        await store_bundle(store, CHANGED, [b"the true one"])
        await store_bundle(store, LATE, [b"late"])
        gone = await code.gone()
        assert {subject.split(".")[1] for subject in gone} == {REMOVED, CHANGED}
        for subject in gone:
            await piecewise.drop(target, STREAM, subject)
        assert await copy_new(code, target) == 4
        assert await piecewise.count(target, STREAM) == await code.count() == 41 + 2 + 2
        copied = await Store.open(target)
        assert await copied.bundles() == sorted((KEPT, CHANGED, LATE))
        assert [await copied.get_chunk(KEPT, index) for index in range(40)] == chunks
        assert await copied.bundle_size(CHANGED) == 1 and await copied.get_chunk(CHANGED, 0) == b"the true one"
        assert await copied.chunks(CHANGED) == [0]
        await copied.close()

    run(own_nats_server, other_nats_server, test)


def test_who_uploads_without_end_does_not_keep_it_from_an_end(own_nats_server: Any, other_nats_server: Any) -> None:
    async def test(store: Store, source: Connection, target: Connection) -> None:
        await store_bundle(store, KEPT, [b"a"] * 100)

        is_over = False

        async def upload() -> None:
            number = 0
            while not is_over:
                number += 1
                await store.put_chunk(LATE, number, b"more")

        code = piecewise.Source(source, STREAM)
        await piecewise.make(target, await code.config())
        uploading = asyncio.create_task(upload())
        try:
            for _ in range(3):
                await copy_new(code, target)
        finally:
            # Not cancelled: one that ends at that very moment may pass it over.
            is_over = True
            await uploading
        await copy_new(code, target)
        assert await code.gone() == [] and await piecewise.count(target, STREAM) == await code.count()

    run(own_nats_server, other_nats_server, test)


def test_an_empty_stream_and_one_whose_messages_are_all_gone_are_copied(
    own_nats_server: Any, other_nats_server: Any
) -> None:
    async def test(store: Store, source: Connection, target: Connection) -> None:
        code = piecewise.Source(source, STREAM)
        await piecewise.make(target, await code.config())
        assert await copy_new(code, target) == 0 and await code.gone() == []
        await store_bundle(store, REMOVED, [b"a"])
        assert await copy_new(code, target) == 2
        await store_bundle(store, LATE, [b"a"])
        for name in (REMOVED, LATE):
            await store.delete_bundle(name)
        assert await copy_new(code, target) == 0
        assert sorted(await code.gone()) == [f"bundle.{REMOVED}.0", f"bundle.{REMOVED}.done"]

    run(own_nats_server, other_nats_server, test)


def test_a_message_that_is_not_taken_is_an_error(own_nats_server: Any, other_nats_server: Any) -> None:
    async def test(store: Store, source: Connection, target: Connection) -> None:
        await piecewise.make(target, await piecewise.Source(source, STREAM).config())
        with pytest.raises(Unavailable, match="the store refuses"):
            await piecewise.put(target, f"bundle.{KEPT}.0", b"x" * 2**20)
        with pytest.raises(Unavailable, match="nobody hears"):
            await piecewise.put(target, "elsewhere", b"x")

    run(own_nats_server, other_nats_server, test)
