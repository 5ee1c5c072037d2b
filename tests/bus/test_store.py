from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from motes.bus.connection import Connection
from motes.bus.store import CHUNK_LIMIT_BYTES, LOG_LINE_LIMIT_BYTES, LOG_LINES_LIMIT, Store
from motes.errors import NotFound, Unavailable

DEADLINE_S = 30.0


def run(running: Any, test: Callable[[Store, Connection], Awaitable[None]]) -> None:
    """With a store, and a host's connection that reports."""

    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            keeper, host = [
                await Connection.open(running.url, running.home.credentials(user)) for user in ("keeper", "host-local")
            ]
            store = await Store.open(keeper)
            try:
                await test(store, host)
            finally:
                for each in (store, host, keeper):
                    await each.close()

    asyncio.run(within_deadline())


async def until_equal(read: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    while (found := await read()) != wanted:
        print(found)
        await asyncio.sleep(0.01)


def test_apps_and_releases_are_kept_by_name(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        assert await store.apps() == {}
        await store.put_app("a", b"1")
        await store.put_app("a", b"2")
        await store.put_app("b-c_d", b"3")
        await store.put_release("0123abcd", b"signed")
        assert await store.apps() == {"a": b"2", "b-c_d": b"3"}
        await store.delete_app("a")
        await store.delete_app("a")
        assert await store.apps() == {"b-c_d": b"3"}
        assert await store.release("0123abcd") == b"signed"
        assert await store.releases() == {"0123abcd": b"signed"}
        await store.delete_release("0123abcd")
        with pytest.raises(NotFound, match="0123abcd"):
            await store.release("0123abcd")

    run(own_nats_server, test)


def test_two_controllers_never_get_the_same_generation(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        numbers = await asyncio.gather(*(store.next_generation() for _ in range(20)))
        assert sorted(numbers) == list(range(1, 21))

    run(own_nats_server, test)


def test_what_is_acknowledged_is_there_after_the_server_was_killed(own_nats_server: Any) -> None:
    async def put(store: Store, host: Connection) -> None:
        await store.next_generation()
        await store.put_app("a", b"1")
        await store.put_chunk("hash", 0, b"code")
        await store.finish_bundle("hash", 1)

    async def look(store: Store, host: Connection) -> None:
        assert await store.next_generation() == 2
        assert await store.apps() == {"a": b"1"}
        assert await store.get_chunk("hash", 0) == b"code"
        assert await store.has_bundle("hash")

    run(own_nats_server, put)
    own_nats_server.stop(signal.SIGKILL)
    own_nats_server.start()
    run(own_nats_server, look)


def test_the_store_works_on_after_the_server_came_back(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        await store.put_app("a", b"1")
        own_nats_server.stop(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await store.put_app("a", b"lost")
        own_nats_server.start()
        while True:
            try:
                await store.put_app("b", b"2")
                break
            except Unavailable:
                await asyncio.sleep(0.05)
        assert set(await store.apps()) == {"a", "b"}

    run(own_nats_server, test)


def test_a_bundle_comes_back_in_the_chunks_it_was_put_in(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        chunks = [os.urandom(CHUNK_LIMIT_BYTES), os.urandom(CHUNK_LIMIT_BYTES), b"end"]
        for index, chunk in enumerate(chunks):
            assert not await store.has_bundle("hash")
            await store.put_chunk("hash", index, chunk)
        await store.put_chunk("hash", 1, chunks[1])
        await store.finish_bundle("hash", 3)
        assert await store.bundle_size("hash") == 3
        assert await asyncio.gather(*(store.get_chunk("hash", index) for index in range(3))) == chunks
        with pytest.raises(NotFound):
            await store.get_chunk("hash", 3)
        await store.delete_bundle("hash")
        assert await store.bundle_size("hash") == 0
        with pytest.raises(NotFound):
            await store.get_chunk("hash", 0)

    run(own_nats_server, test)


def test_events_are_read_from_the_end(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        assert await store.events(10) == []
        for number in range(1200):
            host.publish("report.local.event", b"%d" % number)
        told = [("report.local.event", b"%d" % number) for number in range(1200)]
        await until_equal(lambda: store.events(1), told[-1:])
        assert await store.events(3) == told[-3:]
        assert await store.events(5000) == told

    run(own_nats_server, test)


def test_logs_are_read_by_app_and_by_workload(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        for number in range(20):
            host.publish(f"report.local.log.app.{'even' if number % 2 == 0 else 'odd'}", b"%d" % number)
            host.publish("report.local.log.another.even", b"another's")
        odd = "report.local.log.app.odd"
        await until_equal(lambda: store.logs("app", "odd", 2), [(odd, b"17"), (odd, b"19")])
        assert [data for _, data in await store.logs("app", None, 3)] == [b"17", b"18", b"19"]
        assert await store.logs("nothing", None, 3) == []
        await store.delete_logs("app")
        assert await store.logs("app", None, 3) == []
        assert await store.logs("another", None, 1) == [("report.local.log.another.even", b"another's")]

    run(own_nats_server, test)


def test_logs_are_bounded_and_the_oldest_goes(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        host.publish("report.local.log.quiet.f", b"kept")
        for number in range(LOG_LINES_LIMIT + 500):
            host.publish("report.local.log.loud.f", b"%d" % number)
        host.publish("report.local.log.loud.f", b"x" * (LOG_LINE_LIMIT_BYTES + 1))
        host.publish("report.local.log.loud.f", b"last")
        await until_equal(lambda: store.logs("loud", None, 1), [("report.local.log.loud.f", b"last")])
        everything = await store.logs("loud", None, 10 * LOG_LINES_LIMIT)
        assert len(everything) == LOG_LINES_LIMIT
        assert everything[0][1] == b"501"
        assert [data for _, data in await store.logs("quiet", None, 5)] == [b"kept"]

    run(own_nats_server, test)


def test_a_report_has_no_acknowledgement_sent_anywhere(own_nats_server: Any) -> None:
    """Else a host could name another host's subject as the reply, and the server would publish there for it."""

    async def test(store: Store, host: Connection) -> None:
        victim = await Connection.open(own_nats_server.url, own_nats_server.home.credentials("host-other"))
        heard: list[object] = []
        await victim.subscribe("host.other.>", heard.append)
        for subject in ("report.local.event", "report.local.log.a.f"):
            host.publish(subject, b"x", "host.other.lease")
        await until_equal(lambda: store.events(1), [("report.local.event", b"x")])
        await until_equal(lambda: store.logs("a", None, 1), [("report.local.log.a.f", b"x")])
        await victim.flush()
        assert heard == []
        await victim.close()

    run(own_nats_server, test)


def test_nobody_but_the_keeper_opens_the_store(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        with pytest.raises((Unavailable, TimeoutError)):
            async with asyncio.timeout(1):
                await Store.open(host)
        assert "Publish Violation" in own_nats_server.home.log("nats-server").read_text()

    run(own_nats_server, test)
