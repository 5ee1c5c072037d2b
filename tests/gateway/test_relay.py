"""What a host may have called through the gateway, and how much of it at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from gateway.messages import Asked
from motes.bus.connection import Message
from motes.gateway.relay import MOST_BYTES_OF_A_HOST, MOST_OF_A_HOST, MOST_QUESTIONS_OF_A_HOST, Relay
from motes.model.call import (
    STATUS_ERROR,
    STATUS_ITEM,
    WINDOW_ITEMS,
    Context,
    Outcome,
    pack_more,
    pack_request,
    unpack_reply,
)
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Route, Routes


class Relaying:
    """A relay and hosts that ask it; each call's reply subject has a number of its own."""

    def __init__(self) -> None:
        self.cluster = Asked()
        self.relay = Relay(self.cluster, self.cluster.connection, b"secret")
        self._count = 0

    def ask(
        self,
        host: str = "one",
        caller: str = "shop.bill",
        body: bytes = b"1",
        reply: str = "",
        call_id: bytes = b"",
        budget_s: float = 5.0,
        callee: str = "price",
    ) -> str:
        self._count += 1
        reply = reply or f"_INBOX.host-{host}.x.call.{self._count}"
        request = pack_request(call_id or os.urandom(16), budget_s, body, Context((caller,)))
        self.relay._on_message(Message(f"relay.{host}.call.shop.{callee}", reply, request, False))
        return reply

    async def stream(self, items: int, call_id: bytes = b"", budget_s: float = 5.0) -> str:
        """A stream of so many items, or the first of them, is on its way."""
        self.cluster.items = items
        reply = self.ask(callee="each", call_id=call_id, budget_s=budget_s)
        while len(self.told(reply)) < min(items, WINDOW_ITEMS):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return reply

    def told(self, reply: str) -> list[Outcome]:
        return [unpack_reply(data) for subject, data in self.cluster.connection.sent if subject == reply]

    def refusal(self, reply: str) -> str:
        (outcome,) = self.told(reply)
        return outcome.error().code

    async def settle(self) -> None:
        self.cluster.go.set()
        await self.relay._tasks.wait()
        await asyncio.sleep(0)


def with_a_relay(work: Callable[[Relaying], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(30):
            await work(Relaying())

    asyncio.run(run())


def test_a_host_has_so_many_calls_and_bytes_under_way_and_another_host_its_own() -> None:
    async def work(relaying: Relaying) -> None:
        large = b"1" * PAYLOAD_LIMIT_BYTES
        taken = [relaying.ask(body=large) for _ in range(MOST_BYTES_OF_A_HOST // len(large))]
        over = relaying.ask(body=large)
        assert relaying.refusal(over) == "overloaded"
        many = [relaying.ask(host="two") for _ in range(MOST_OF_A_HOST + 1)]
        assert relaying.refusal(many[-1]) == "overloaded" and not relaying.told(many[-2])
        await relaying.settle()
        assert all(relaying.told(reply) == [Outcome(0, b"1")] for reply in taken)
        assert not relaying.relay._hosts and not relaying.relay._under_way
        assert not relaying.told(relaying.ask(body=large))

    with_a_relay(work)


def test_a_host_cannot_have_the_controller_flooded_in_the_gateways_name() -> None:
    async def work(relaying: Relaying) -> None:
        asked = [relaying.ask(caller=f"app{number}.f") for number in range(100)]
        asked += [relaying.ask(caller=caller) for caller in ("", ".", "shop", "a.b.c", "*.bill", "shop.>", "a b.c")]
        await relaying.settle()
        assert {relaying.refusal(reply) for reply in asked} == {"refused"}
        assert relaying.cluster.most_at_once == MOST_QUESTIONS_OF_A_HOST and not relaying.cluster.bodies

    with_a_relay(work)


def test_the_id_of_the_gateways_own_call_is_known_to_nobody_and_the_same_when_it_is_sent_again() -> None:
    """A host that knew it could answer in the name of the host that has the call, and have that one passed over."""

    async def work(relaying: Relaying) -> None:
        known = os.urandom(16)
        relaying.cluster.known["shop"].workloads["bill"] = Route("function", ("one", "two"), calls=("shop.price",))
        relaying.cluster.go.set()
        for host in ("one", "one", "two"):
            relaying.ask(host=host, call_id=known)
            await relaying.settle()
        first, again, others = relaying.cluster.ids
        assert first == again and len({known, first, others}) == 3
        assert relaying.relay._own_id("one", known) != Relay(
            relaying.cluster, relaying.cluster.connection, b"other"
        )._own_id("one", known)

    with_a_relay(work)


def test_what_was_declared_while_nothing_was_heard_is_asked_for() -> None:
    async def work(relaying: Relaying) -> None:
        routes = {"bill": Route("function", ("two",), calls=("shop.price",)), "price": Route("function", ("one",))}
        relaying.cluster.fresh = {"shop": Routes("shop", 2, routes)}
        late = relaying.ask(host="two")
        await relaying.settle()
        assert relaying.told(late) == [Outcome(0, b"1")]
        # The one whose lease has ended was never seen to call; it is refused.
        gone = relaying.ask(host="one")
        await relaying.settle()
        assert relaying.refusal(gone) == "refused"

    with_a_relay(work)


def test_a_host_that_knows_anothers_call_neither_ends_it_nor_hears_its_answer() -> None:
    async def work(relaying: Relaying) -> None:
        call_id = os.urandom(16)
        mine = relaying.ask(call_id=call_id)
        await asyncio.sleep(0)
        copied = relaying.ask(host="two", call_id=call_id)
        for verb, data in (
            ("cancel", call_id),
            ("more", pack_more(call_id, 2**32 - 1)),
            ("more", b""),
            ("cancel", b""),
        ):
            relaying.relay._on_message(Message(f"relay.two.{verb}", "", data, False))
        await relaying.settle()
        assert relaying.told(mine) == [Outcome(0, b"1")] and not relaying.told(copied)
        assert len(relaying.cluster.bodies) == 1

    with_a_relay(work)


def test_a_stream_of_which_a_host_takes_nothing_more_is_over_with_the_calls_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host may be gone for good: it must not count as under way for ever."""
    monkeypatch.setattr("motes.gateway.relay.LATE_S", 0.0)

    async def work(relaying: Relaying) -> None:
        reply = await relaying.stream(WINDOW_ITEMS + 1, budget_s=0.05)
        async with asyncio.timeout(10):
            await relaying.relay._tasks.wait()
        await asyncio.sleep(0)
        assert [each.status for each in relaying.told(reply)] == [STATUS_ITEM] * WINDOW_ITEMS + [STATUS_ERROR]
        assert relaying.told(reply)[-1].error().code == "timed_out"
        assert not relaying.relay._under_way and not relaying.relay._hosts and relaying.cluster.streams_closed == 1

    with_a_relay(work)


def test_a_stream_of_which_an_item_could_not_be_sent_does_not_go_on_behind_the_hole() -> None:
    async def work(relaying: Relaying) -> None:
        call_id = os.urandom(16)
        reply = await relaying.stream(WINDOW_ITEMS + 1, call_id)
        relaying.cluster.connection.is_up = False
        relaying.relay._on_message(Message("relay.one.more", "", pack_more(call_id, 8), False))
        await relaying.relay._tasks.wait()
        relaying.cluster.connection.is_up = True
        assert [each.status for each in relaying.told(reply)] == [STATUS_ITEM] * WINDOW_ITEMS
        # What it came to could not be said either: the host asks, and hears it.
        inbox = reply.rpartition(".")[0]
        relaying.relay._on_message(Message("relay.one.await", inbox, call_id, False))
        assert relaying.told(f"{inbox}.{call_id.hex()}")[-1].error().code == "host_lost"

    with_a_relay(work)


@pytest.mark.parametrize("whose", ["gateway", "host"])
def test_a_stream_over_a_connection_that_broke_ends_with_an_error_and_other_calls_go_on(whose: str) -> None:
    async def work(relaying: Relaying) -> None:
        await relaying.relay.start()
        streaming, quiet, plain = (os.urandom(16) for _ in range(3))
        reply = await relaying.stream(1, streaming)
        others = [await relaying.stream(0, quiet), relaying.ask(call_id=plain)]
        await asyncio.sleep(0)
        if whose == "gateway":
            assert relaying.cluster.connection.on_reconnected is not None
            relaying.cluster.connection.on_reconnected()
        else:
            for host in ("two", "one"):
                assert len(relaying.told(reply)) == 1
                for call_id in (streaming, quiet, plain):
                    relaying.relay._on_message(Message(f"relay.{host}.more", "", pack_more(call_id, 0), False))
        await relaying.settle()
        assert [each.status for each in relaying.told(reply)] == [STATUS_ITEM, STATUS_ERROR]
        assert relaying.told(reply)[-1].error().code == "host_lost"
        assert [relaying.told(other) for other in others] == [[Outcome(0, b"")], [Outcome(0, b"1")]]
        assert relaying.cluster.streams_closed == 2

    with_a_relay(work)


def test_a_host_hears_which_of_its_calls_are_lost() -> None:
    async def work(relaying: Relaying) -> None:
        known, unknown, others = (os.urandom(16) for _ in range(3))
        relaying.ask(call_id=known)
        relaying.ask(host="two", call_id=others)
        inbox = "_INBOX.host-one.x.call"
        for reply in (inbox, "_INBOX.host-two.x.call", "host.two.cancel"):
            message = Message("relay.one.await", reply, known + unknown + others + b"rest", False)
            relaying.relay._on_message(message)
        told = {subject: unpack_reply(data).error().code for subject, data in relaying.cluster.connection.sent}
        lost = (unknown.hex(), others.hex(), b"rest".hex())
        assert told == {f"{inbox}.{call_id}": "host_lost" for call_id in lost}
        await relaying.settle()

    with_a_relay(work)


def test_a_call_whose_answer_was_not_heard_is_not_said_to_have_lost_its_gateway() -> None:
    async def work(relaying: Relaying) -> None:
        call_id, inbox = os.urandom(16), "_INBOX.host-one.x.call"
        relaying.cluster.connection.is_up = False
        relaying.ask(call_id=call_id)
        await relaying.settle()
        relaying.cluster.connection.is_up = True
        relaying.relay._on_message(Message("relay.one.await", inbox, call_id, False))
        (outcome,) = relaying.told(f"{inbox}.{call_id.hex()}")
        error = outcome.error()
        assert error.code == "host_lost" and "unknown" in error.message and "connection broke" in error.message

    with_a_relay(work)


def test_an_answer_goes_only_into_the_inbox_of_the_host_that_asks() -> None:
    async def work(relaying: Relaying) -> None:
        for reply in (
            "_INBOX.host-two.x.call.1",
            "_INBOX.host-one",
            "_INBOX.host-onex.y",
            "_INBOX.>",
            "host.two.cancel",
        ):
            relaying.ask(reply=reply)
        await relaying.settle()
        assert not relaying.cluster.connection.sent and not relaying.cluster.bodies

    with_a_relay(work)
