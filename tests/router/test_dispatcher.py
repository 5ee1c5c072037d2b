"""The router's shell with streams, over a connection that only notes what is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from motes.bus.connection import Connection, Message
from motes.errors import HostLost, TimedOut, TooLarge, Untrusted
from motes.model.call import (
    ITEM_LIMIT_BYTES,
    STATUS_HELD,
    STATUS_ITEM,
    STATUS_OK,
    WINDOW_ITEMS,
    Heard,
    Outcome,
    failed,
    held,
    unpack_asked,
    unpack_more,
)
from motes.model.host import Beat
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Route, Routes
from motes.router import dispatcher, room
from motes.router.dispatcher import Dispatcher
from motes.router.room import ROOM_BYTES, ROOM_OF_A_HOST_BYTES


class Wires:
    """One host that holds a lease for app.f, and a test that plays it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, str]] = []
        self.handlers: dict[str, Callable[[Message], None]] = {}
        self.has_said = asyncio.Event()
        self.epoch = 0
        self.is_caught_up = asyncio.Event()
        """Whether the server has sent all that it had for this connection."""
        self.is_caught_up.set()
        self.connection = SimpleNamespace(
            inbox="_INBOX.me.x", user="me", publish=self.publish, subscribe=self.subscribe, flush=self.flush
        )
        self.dispatcher = Dispatcher()

    async def start(self) -> None:
        await self.dispatcher.start(cast(Connection, self.connection))
        self.lead_to("h", streams=True)

    def lead_to(self, host: str, *, streams: bool = False, idempotent: bool = False) -> None:
        """From now on this host has the lease for app.f."""
        self.epoch += 1
        routes = Routes("app", self.epoch, {"f": Route("function", (host,), streams=streams, idempotent=idempotent)})
        self.deliver("route.app", msgspec.msgpack.encode(routes))

    def publish(self, subject: str, data: bytes, reply: str = "") -> bool:
        self.published.append((subject, data, reply))
        self.has_said.set()
        return True

    async def until(self, has_happened: Callable[[], bool]) -> None:
        """Looks after each word that is said."""
        while not has_happened():
            self.has_said.clear()
            await self.has_said.wait()

    async def flush(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.is_caught_up.wait()
        except TimeoutError:
            raise TimedOut("the server does not answer yet") from None

    async def subscribe(self, subject: str, handler: Callable[[Message], None]) -> None:
        self.handlers[subject.partition("*")[0]] = handler

    def deliver(self, subject: str, data: bytes, no_responders: bool = False) -> None:
        (handler,) = [each for start, each in self.handlers.items() if subject.startswith(start)]
        handler(cast(Message, SimpleNamespace(subject=subject, data=data, reply="", no_responders=no_responders)))

    def answer(self, outcome: Outcome) -> None:
        (reply,) = [reply for subject, _, reply in self.published if subject == "host.h.call.app.f.me"]
        self.deliver(reply, outcome.pack())

    async def begin(self) -> tuple[AsyncGenerator[bytes, None], asyncio.Future[bytes]]:
        """A stream that is under way, and its first item."""
        stream = self.dispatcher.stream("app", "f", b"", None)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        return stream, first

    def item(self, data: bytes) -> None:
        self.answer(Outcome(STATUS_ITEM, data))

    def taken(self) -> int:
        """Items that the caller said it has taken."""
        return sum(unpack_more(data)[1] for subject, data, _ in self.published if subject == "host.h.more")

    def cancels(self) -> int:
        return sum(1 for subject, _, _ in self.published if subject == "host.h.cancel")


def play(test: Callable[[Wires], Awaitable[None]]) -> None:
    async def run() -> None:
        wires = Wires()
        await wires.start()
        async with asyncio.timeout(30):
            await test(wires)
        wires.dispatcher.close()

    asyncio.run(run())


def test_items_come_in_order_and_more_is_asked_for_only_as_they_are_taken() -> None:
    async def test(wires: Wires) -> None:
        stream, first = await wires.begin()
        for number in range(WINDOW_ITEMS):
            wires.item(b"%d" % number)
        assert await first == b"0" and wires.taken() == 0
        for number in range(1, WINDOW_ITEMS):
            assert await anext(stream) == b"%d" % number
        assert WINDOW_ITEMS // 2 <= wires.taken() < WINDOW_ITEMS
        wires.answer(Outcome(STATUS_OK, b""))
        assert [item async for item in stream] == [] and wires.cancels() == 0

    play(test)


def test_one_that_is_closed_is_cancelled() -> None:
    async def test(wires: Wires) -> None:
        stream, first = await wires.begin()
        wires.item(b"0")
        await first
        await stream.aclose()
        assert wires.cancels() == 1

    play(test)


def test_a_mistake_in_one_turn_does_not_end_the_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "TICK_S", 0.01)

    async def test(wires: Wires) -> None:
        calling = asyncio.ensure_future(wires.dispatcher.call("app", "f", b"", 0.05))
        router: Any = wires.dispatcher._router
        turn, router.tick = router.tick, lambda now: 1 / 0
        await asyncio.sleep(0.05)
        router.tick = turn
        with pytest.raises(TimedOut):
            await calling

    play(test)


def test_a_break_in_the_middle_is_an_error_and_never_an_end() -> None:
    async def test(wires: Wires) -> None:
        stream, first = await wires.begin()
        wires.item(b"0")
        await first
        wires.deliver("gone.h", b"")
        with pytest.raises(HostLost):
            await anext(stream)

    play(test)


def test_a_host_that_floods_is_cut_off() -> None:
    async def test(wires: Wires) -> None:
        stream, first = await wires.begin()
        for _ in range(WINDOW_ITEMS * 100):
            wires.item(b"0")
        assert await first == b"0"
        with pytest.raises(Untrusted):
            while True:
                await anext(stream)
        assert wires.cancels() == 1

    play(test)


def test_a_host_that_sends_an_item_larger_than_any_may_be_is_cut_off() -> None:
    """Items wait here for who takes them slowly."""

    async def test(wires: Wires) -> None:
        stream, first = await wires.begin()
        wires.item(b"x" * ITEM_LIMIT_BYTES)
        assert len(await first) == ITEM_LIMIT_BYTES
        wires.item(b"x" * (ITEM_LIMIT_BYTES + 1))
        with pytest.raises(Untrusted):
            await anext(stream)
        assert wires.cancels() == 1

    play(test)


def test_who_asks_for_a_result_gets_all_items_as_a_list_up_to_the_limit() -> None:
    async def test(wires: Wires) -> None:
        call = asyncio.ensure_future(wires.dispatcher.call("app", "f", b"", None))
        await asyncio.sleep(0)
        wires.item(b"1"), wires.item(b'"b"')
        assert wires.taken() == 2
        wires.answer(Outcome(STATUS_OK, b""))
        assert await call == b'[1,"b"]'

    async def empty(wires: Wires) -> None:
        call = asyncio.ensure_future(wires.dispatcher.call("app", "f", b"", None))
        await asyncio.sleep(0)
        wires.answer(Outcome(STATUS_OK, b""))
        assert await call == b"[]"

    async def large(wires: Wires) -> None:
        call = asyncio.ensure_future(wires.dispatcher.call("app", "f", b"", None))
        await asyncio.sleep(0)
        for _ in range(9):
            wires.item(b"x" * (PAYLOAD_LIMIT_BYTES // 8))
        with pytest.raises(TooLarge, match="stream"):
            await call
        assert wires.cancels() == 1

    for test_ in (test, empty, large):
        play(test_)


def test_an_error_is_raised_where_the_items_end() -> None:
    async def test(wires: Wires) -> None:
        items: list[Any] = []
        stream, first = await wires.begin()
        wires.item(b"0"), wires.item(b"1"), wires.answer(failed(TooLarge("an item")))
        items.append(await first)
        with pytest.raises(TooLarge):
            async for item in stream:
                items.append(item)
        assert items == [b"0", b"1"]

    play(test)


# ---------------------------------------------------------------------- large results


LARGE_AT_ONCE = ROOM_OF_A_HOST_BYTES // PAYLOAD_LIMIT_BYTES
"""Of one host."""


async def ask_for_large(wires: Wires, count: int) -> tuple[list[asyncio.Task[bytes]], list[str]]:
    """Calls whose host has said that it holds a result of the largest size; and where their answers go."""
    calls = [asyncio.create_task(wires.dispatcher.call("app", "f", b"", None)) for _ in range(count)]
    await asyncio.sleep(0)
    replies = [reply for subject, _, reply in wires.published if subject == "host.h.call.app.f.me"]
    for reply in replies:
        wires.deliver(reply, held(PAYLOAD_LIMIT_BYTES).pack())
    await asyncio.sleep(0)
    return calls, replies


def test_large_results_are_asked_for_as_there_is_room_and_each_once() -> None:
    async def test(wires: Wires) -> None:
        calls, replies = await ask_for_large(wires, LARGE_AT_ONCE + 2)
        assert wires.taken() == LARGE_AT_ONCE
        # A host that says it again gets no second word, and takes no second room.
        wires.deliver(replies[0], held(PAYLOAD_LIMIT_BYTES).pack())
        await asyncio.sleep(0)
        assert wires.taken() == LARGE_AT_ONCE
        for number, reply in enumerate(replies[:2], 1):
            wires.deliver(reply, Outcome(STATUS_OK, b"1").pack())
            await asyncio.sleep(0.01)
            assert wires.taken() == LARGE_AT_ONCE + number
        for reply in replies[2:]:
            wires.deliver(reply, Outcome(STATUS_OK, b"1").pack())
        assert await asyncio.gather(*calls) == [b"1"] * len(calls)

    play(test)


def test_a_large_result_that_never_comes_keeps_room_only_as_long_as_its_call() -> None:
    async def test(wires: Wires) -> None:
        calls, replies = await ask_for_large(wires, LARGE_AT_ONCE + 1)
        for call in calls[:LARGE_AT_ONCE]:
            call.cancel()
        await asyncio.sleep(0.01)
        assert wires.taken() == LARGE_AT_ONCE + 1
        wires.deliver(replies[-1], Outcome(STATUS_OK, b"1").pack())
        assert await calls[-1] == b"1"
        await asyncio.gather(*calls[:-1], return_exceptions=True)

    play(test)


async def ask_for_large_at(wires: Wires, hosts: Sequence[str], count: int) -> list[tuple[asyncio.Task[bytes], str]]:
    """At each of these in turn, `count` calls that have a large result there; and where their answers go."""
    found = []
    for host in hosts:
        wires.lead_to(host)
        calls = [asyncio.create_task(wires.dispatcher.call("app", "f", b"", None)) for _ in range(count)]
        await asyncio.sleep(0)
        replies = [reply for subject, _, reply in wires.published if subject == f"host.{host}.call.app.f.me"]
        for reply in replies:
            wires.deliver(reply, held(PAYLOAD_LIMIT_BYTES).pack())
        await asyncio.sleep(0.01)
        found += zip(calls, replies, strict=True)
    return found


def asked(wires: Wires, host: str) -> int:
    """Of how many results this host was told that there is room for them."""
    return [subject for subject, _, _ in wires.published].count(f"host.{host}.more")


async def end(wires: Wires, calls: Sequence[tuple[asyncio.Task[bytes], str]]) -> None:
    for _, reply in calls:
        wires.deliver(reply, Outcome(STATUS_OK, b"1").pack())
    assert await asyncio.gather(*(call for call, _ in calls)) == [b"1"] * len(calls)
    await asyncio.sleep(0.01)
    assert not wires.dispatcher._rooms


def test_two_hosts_that_never_send_what_they_have_leave_room_to_others() -> None:
    async def test(wires: Wires) -> None:
        calls = await ask_for_large_at(wires, ("bad", "worse"), 2 * LARGE_AT_ONCE)
        calls += await ask_for_large_at(wires, ("good",), 1)
        assert asked(wires, "good") == 1
        assert asked(wires, "bad") == asked(wires, "worse") == LARGE_AT_ONCE
        await end(wires, calls)

    play(test)


MANY = [f"bad{number}" for number in range(8)]
"""Enough to fill all the room, and to wait for more."""


def test_what_many_hosts_do_not_send_takes_the_room_of_others_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE_S", 0.02)

    async def test(wires: Wires) -> None:
        calls = await ask_for_large_at(wires, MANY, 2 * LARGE_AT_ONCE)
        calls += await ask_for_large_at(wires, ("good",), 1)
        await wires.until(lambda: asked(wires, "good") == 1)
        assert [asked(wires, host) for host in MANY] == [LARGE_AT_ONCE] * len(MANY)
        await end(wires, calls)

    play(test)


def test_what_waits_in_the_server_for_a_slow_connection_keeps_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: to ask for more meanwhile would pile it up there."""
    monkeypatch.setattr(room, "PATIENCE_S", 0.02)

    async def test(wires: Wires) -> None:
        wires.is_caught_up.clear()
        calls = await ask_for_large_at(wires, MANY, LARGE_AT_ONCE)
        await asyncio.sleep(0.2)
        assert sum(asked(wires, host) for host in MANY) == ROOM_BYTES // PAYLOAD_LIMIT_BYTES
        wires.is_caught_up.set()
        await wires.until(lambda: sum(asked(wires, host) for host in MANY) == len(calls))
        await end(wires, calls)

    play(test)


def test_a_call_that_moved_is_asked_for_its_large_result_where_it_is_now() -> None:
    async def test(wires: Wires) -> None:
        wires.lead_to("h", idempotent=True)
        ((call, first),) = zip(*await ask_for_large(wires, 1), strict=True)
        assert asked(wires, "h") == 1
        wires.deliver("gone.h", b"")
        wires.lead_to("other", idempotent=True)
        await asyncio.sleep(0)
        (reply,) = [reply for subject, _, reply in wires.published if subject == "host.other.call.app.f.me"]
        wires.deliver(first, held(PAYLOAD_LIMIT_BYTES).pack())
        await asyncio.sleep(0.01)
        assert asked(wires, "other") == 0, "asked in the name of a host that has the call no more"
        wires.deliver(reply, held(PAYLOAD_LIMIT_BYTES).pack())
        await asyncio.sleep(0.01)
        assert asked(wires, "other") == 1
        await end(wires, [(call, reply)])

    play(test)


def test_a_call_that_is_sent_to_its_host_again_does_not_wait_for_the_room_that_it_has_itself() -> None:
    async def test(wires: Wires) -> None:
        wires.lead_to("h", idempotent=True)
        calls, before = await ask_for_large(wires, LARGE_AT_ONCE)
        wires.dispatcher.on_disconnected()
        wires.dispatcher.on_reconnected()
        await asyncio.sleep(0)
        replies = [reply for subject, _, reply in wires.published if subject == "host.h.call.app.f.me"]
        again = [reply for reply in replies if reply not in before]
        assert len(again) == LARGE_AT_ONCE == asked(wires, "h")
        for reply in again:
            wires.deliver(reply, held(PAYLOAD_LIMIT_BYTES).pack())
        await wires.until(lambda: asked(wires, "h") == 2 * LARGE_AT_ONCE)
        await end(wires, list(zip(calls, again, strict=True)))

    play(test)


def test_a_size_that_is_none_or_beyond_every_limit_is_no_reason_to_wait() -> None:
    async def test(wires: Wires) -> None:
        call = asyncio.create_task(wires.dispatcher.call("app", "f", b"", None))
        await asyncio.sleep(0)
        (reply,) = [reply for subject, _, reply in wires.published if subject == "host.h.call.app.f.me"]
        for body in (b"", b"123", b"12345"):
            wires.deliver(reply, Outcome(STATUS_HELD, body).pack())
        wires.deliver(reply, held(2**32 - 1).pack())
        await asyncio.sleep(0)
        assert wires.taken() == 1
        wires.deliver(reply, Outcome(STATUS_OK, b"1").pack())
        assert await call == b"1"

    play(test)


def test_nobody_there_to_be_asked_after_a_call_says_nothing_about_the_call() -> None:
    async def test(wires: Wires) -> None:
        calling = asyncio.ensure_future(wires.dispatcher.call("app", "f", b"", None))
        await asyncio.sleep(0)

        def beat(number: int, connection: int) -> None:
            wires.deliver("beat.h", msgspec.msgpack.encode(Beat("h", "boot", number, {}, connection)))

        beat(1, connection=3)
        beat(2, connection=8)
        (asked,) = [(data, reply) for subject, data, reply in wires.published if subject == "host.h.more"]
        assert unpack_more(asked[0])[1] == 0 and unpack_asked(asked[0]) == Heard()
        wires.deliver(asked[1], b"", no_responders=True)
        beat(3, connection=8)
        assert len([subject for subject, _, _ in wires.published if subject == "host.h.call.app.f.me"]) == 1
        wires.answer(Outcome(STATUS_OK, b"1"))
        assert await calling == b"1"

    play(test)
