"""An agent that is asked after calls, by who says what he had heard of it: the attack is to make a call run twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import HostLost
from motes.model.call import (
    NEVER_ARRIVED,
    STATUS_LOST,
    STATUS_OK,
    STATUS_TRY_ELSEWHERE,
    Heard,
    Outcome,
    pack_asked,
    pack_more,
    pack_request,
    unpack_reply,
)
from motes.model.host import Beat
from system.running import DEADLINE_S, RunningCluster, wait_until
from system.single_runs import app, runs

HOST = "local"
CALL = subjects.call(HOST, "asked", "once", "local")


class Caller:
    """A program that speaks to one agent without a router."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard = Heard()
        self._beats = asyncio.Event()

    async def listen(self) -> None:
        await self._connection.subscribe(subjects.beat(HOST), self._on_beat)
        await asyncio.wait_for(self._beats.wait(), DEADLINE_S)

    def _on_beat(self, message: Message) -> None:
        beat = msgspec.msgpack.decode(message.data, type=Beat)
        self.heard = Heard(beat.boot, beat.number)
        self._beats.set()

    async def call(self, call_id: bytes, name: str) -> Outcome:
        request = pack_request(call_id, DEADLINE_S, msgspec.json.encode(name))
        return unpack_reply(await self._connection.request(CALL, request, DEADLINE_S))

    async def ask(self, question: bytes) -> Outcome:
        return unpack_reply(await self._connection.request(subjects.more(HOST), question, DEADLINE_S))


def play(cluster: RunningCluster, test: Callable[[Caller], Awaitable[None]]) -> None:
    async def run() -> None:
        connection = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("local"))
        try:
            caller = Caller(connection)
            await caller.listen()
            await test(caller)
        finally:
            await connection.close()

    asyncio.run(run())


def test_who_heard_this_start_is_told_that_a_call_never_came_and_nobody_else_is(cluster: RunningCluster) -> None:
    async def test(caller: Caller) -> None:
        unknown, heard = os.urandom(16), caller.heard
        told = await caller.ask(pack_asked(unknown, heard))
        assert told.status == STATUS_TRY_ELSEWHERE and told.error().detail[NEVER_ARRIVED] is True
        an_earlier_start = Heard("0" * len(heard.boot), heard.number)
        for question in (pack_asked(unknown, an_earlier_start), pack_asked(unknown, Heard()), pack_more(unknown, 0)):
            told = await caller.ask(question)
            assert told.status == STATUS_LOST and isinstance(told.error(), HostLost)

    play(cluster, test)


def test_a_call_that_was_answered_does_not_run_again_however_often_it_is_asked_after_and_sent(
    cluster: RunningCluster,
) -> None:
    cluster.deploy("asked", app(pause_s=0.0))
    # Who calls the host itself needs it to hold a lease.
    assert cluster.json("call", "asked.once", "before") == "before"

    async def test(caller: Caller) -> None:
        call_id = os.urandom(16)
        assert await caller.call(call_id, "first") == Outcome(STATUS_OK, b'"first"')
        for _ in range(2):
            for told in (await caller.ask(pack_asked(call_id, caller.heard)), await caller.call(call_id, "first")):
                assert told.status == STATUS_LOST and "answered this call before" in told.error().message
        assert (await caller.call(os.urandom(16), "last")).status == STATUS_OK

    play(cluster, test)

    def written() -> Counter[str]:
        return runs("".join(line["text"] for line in cluster.json("logs", "asked", "--limit", "1000")))

    wait_until(lambda: "last" in written(), "what they wrote has arrived")
    assert written() == {"before": 1, "first": 1, "last": 1}
