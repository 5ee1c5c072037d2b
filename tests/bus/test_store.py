from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from motes.bus import streams
from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.bus.streams import CHUNK_LIMIT_BYTES, EVENTS_OF_ONE_LIMIT, LOG_LIMIT_BYTES, LOGS_OF_ONE_LIMIT
from motes.errors import NotFound, Refused, Unavailable

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
        await store.remove_app("a", b"the owner's word")
        await store.remove_app("a", b"the owner's last word")
        assert await store.apps() == {"b-c_d": b"3"}
        assert await store.removals() == {"a": b"the owner's last word"}
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
            store.add_event("local", b"%d" % number)
        told = [b"%d" % number for number in range(1200)]
        await until_equal(lambda: store.events(1), told[-1:])
        assert await store.events(3) == told[-3:]
        assert await store.events(5000) == told

    run(own_nats_server, test)


def test_one_that_tells_without_end_pushes_out_its_own_events(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        store.add_event("quiet", b"first")
        for number in range(EVENTS_OF_ONE_LIMIT + 500):
            store.add_event("loud", b"%d" % number)
        store.add_event("quiet", b"last")
        await until_equal(lambda: store.events(1), [b"last"])
        kept = await store.events(10 * EVENTS_OF_ONE_LIMIT)
        assert kept == [b"first", *(b"%d" % number for number in range(500, EVENTS_OF_ONE_LIMIT + 500)), b"last"]
        assert await store.events(2) == [b"%d" % (EVENTS_OF_ONE_LIMIT + 499), b"last"]

    run(own_nats_server, test)


def test_logs_are_read_by_app_and_go_with_it(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        for number in range(20):
            store.add_log("app", b"%d" % number)
            store.add_log("another", b"another's")
        await until_equal(lambda: store.logs("app"), [b"%d" % number for number in range(20)])
        assert await store.logs("nothing") == []
        await store.delete_logs("app")
        assert await store.logs("app") == []
        await until_equal(lambda: store.logs("another"), [b"another's"] * 20)

    run(own_nats_server, test)


def test_a_loud_app_pushes_out_its_own_lines_and_nobody_elses(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        store.add_log("quiet", b"kept")
        for number in range(LOGS_OF_ONE_LIMIT + 500):
            store.add_log("loud", b"%d" % number)
        store.add_log("loud", b"x" * (LOG_LIMIT_BYTES + 1))
        store.add_log("loud", b"last")
        everything: list[bytes] = []
        while everything[-1:] != [b"last"]:
            everything = await store.logs("loud")
        assert len(everything) == LOGS_OF_ONE_LIMIT
        assert (everything[0], everything[-1]) == (b"501", b"last")
        assert await store.logs("quiet") == [b"kept"]
        assert (await store._js.stream_info("LOGS")).state.messages == LOGS_OF_ONE_LIMIT + 1

    run(own_nats_server, test)


@pytest.mark.parametrize("subject", ["event.local", "event.keeper", "log.app"])
@pytest.mark.parametrize("user", ["host-local", "local", "gateway"])
def test_nobody_but_the_keeper_writes_what_is_kept(own_nats_server: Any, user: str, subject: str) -> None:
    async def test(store: Store, host: Connection) -> None:
        liar = await Connection.open(own_nats_server.url, own_nats_server.home.credentials(user))
        liar.publish(subject, b"forged")
        await liar.flush()
        assert f'Publish to "{subject}"' in liar.refused
        assert await store.events(1) == await store.logs("app") == []
        await liar.close()

    run(own_nats_server, test)


def test_a_store_of_other_limits_is_opened_with_these(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        await store._js.delete_stream("LOGS")
        await store._js.add_stream(name="LOGS", subjects=["report.*.log.>"], no_ack=True, persist_mode="async")
        store.add_log("app", b"unheard")
        again = await Store.open(store._connection)
        again.add_log("app", b"kept")
        await until_equal(lambda: again.logs("app"), [b"kept"])
        await again.close()

    run(own_nats_server, test)


def test_nobody_but_the_keeper_opens_the_store(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        with pytest.raises((Unavailable, TimeoutError)):
            async with asyncio.timeout(1):
                await Store.open(host)
        assert "Publish Violation" in own_nats_server.home.log("nats-server").read_text()

    run(own_nats_server, test)


def test_receipts_are_read_page_by_page_of_one_host_or_of_all_from_a_number_or_a_time(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        assert (await store.last_receipt("a"), await store.receipts("*", 0.0, 0, 10)) == ((0, b""), ([], False))
        last = 0
        for number in range(5):
            last = await store.add_receipt("a", b"a%d" % number, last)
        await store.add_receipt("b", b"b", 0)
        assert await store.last_receipt("a") == (last, b"a4")
        page = await store.receipts("a", 0.0, 0, 3)
        assert ([each.data for each in page.messages], page.more) == ([b"a0", b"a1", b"a2"], True)
        rest = await store.receipts("a", 0.0, page.messages[-1].sequence + 1, 3)
        assert ([each.data for each in rest.messages], rest.more) == ([b"a3", b"a4"], False)
        assert [each.subject for each in (await store.receipts("*", 0.0, 0, 10)).messages][-1] == "receipt.b"
        assert (await store.receipts("*", time.time() + 60, 0, 10)).messages == []
        assert len((await store.receipts("*", time.time() - 60, 0, 10)).messages) == 6

    run(own_nats_server, test)


def test_a_receipt_is_kept_only_behind_the_last_that_its_keeper_knows(own_nats_server: Any) -> None:
    async def test(store: Store, host: Connection) -> None:
        first = await store.add_receipt("a", b"1", 0)
        with pytest.raises(Refused, match="another receipt of host a"):
            await store.add_receipt("a", b"2", 0)
        await store.add_receipt("b", b"1", 0)
        second = await store.add_receipt("a", b"2", first)
        assert await store.last_receipt("a") == (second, b"2")

    run(own_nats_server, test)


def test_a_receipt_is_there_after_the_server_was_killed(own_nats_server: Any) -> None:
    async def put(store: Store, host: Connection) -> None:
        await store.add_receipt("a", b"1", 0)

    async def look(store: Store, host: Connection) -> None:
        assert (await store.last_receipt("a"))[1] == b"1"

    run(own_nats_server, put)
    own_nats_server.stop(signal.SIGKILL)
    own_nats_server.start()
    run(own_nats_server, look)


def test_a_host_that_sends_without_end_pushes_out_its_own_receipts_only(
    own_nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RECEIPTS_OF_ONE_LIMIT", 10)

    async def test(store: Store, host: Connection) -> None:
        await store.add_receipt("quiet", b"1", 0)
        last = 0
        for number in range(50):
            last = await store.add_receipt("loud", b"%d" % number, last)
        kept = [each.data for each in (await store.receipts("*", 0.0, 0, 100)).messages]
        assert kept == [b"1", *(b"%d" % number for number in range(40, 50))]

    run(own_nats_server, test)
