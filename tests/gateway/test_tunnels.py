"""Connections to daemons on another machine, over a real nats-server: what they carry, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import uvloop

from conftest import NatsServer
from gateway.conftest import tunnelled
from motes.agent.tunnels import MOST_GATEWAYS
from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import HostLost, LoadFailed, MotesError, Overloaded, Refused, Unavailable
from motes.gateway.problems import problem_of
from motes.gateway.tunnels import Tunnels
from motes.grants import jwt, roles
from motes.grants.keys import load_or_create
from motes.router import tunnel
from sockets import hear, send
from waiting import until

MIB = 2**20
HOST = "far"


class Scene:
    """A gateway, a host, and the daemon's ends of what was opened there."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.here: Tunnels
        self.agent: Any
        self.there: Any
        self.daemons: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.failure: BaseException | None = None
        self.hold: asyncio.Event | None = None

    async def connect(self, app: str, workload: str) -> socket.socket:
        """What the agent does for a new connection to a daemon."""
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.daemons.append(theirs)
        return ours

    async def open(self) -> tuple[socket.socket, socket.socket]:
        """A client's end and the daemon's."""
        self.clients.append(await self.here.connect(HOST, "shop", "web"))
        return self.clients[-1], self.daemons[-1]

    async def user(self, role: roles.Role) -> Connection:
        account = load_or_create(self.running.home.key("account"))
        return await Connection.open(self.running.url, jwt.credentials(account, role))

    @property
    def streams(self) -> int:
        """On both sides."""
        return sum(len(pipe) for side in (self.here, self.there) for pipe in side._pipes.values())


def run(running: Any, test: Callable[[Scene], Awaitable[None]]) -> None:
    async def bounded() -> None:
        scene = Scene(running)
        async with asyncio.timeout(60), tunnelled(running, HOST, scene.connect) as sides:
            scene.here, scene.there, scene.agent = sides
            await test(scene)
        await until(lambda: scene.streams == 0)
        for end in (*scene.daemons, *scene.clients):
            end.close()

    uvloop.run(bounded())


async def is_open(client: socket.socket, daemon: socket.socket) -> bool:
    await asyncio.gather(send(client, b"to"), send(daemon, b"fro"))
    return await asyncio.gather(hear(daemon, 2), hear(client, 3)) == [b"to", b"fro"]


def test_bytes_go_both_ways_and_are_counted_for_the_app(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        client, daemon = await scene.open()
        data = os.urandom(20 * MIB)
        _, heard = await asyncio.gather(send(client, data), hear(daemon, len(data)))
        assert heard == data
        _, heard = await asyncio.gather(send(daemon, data[:MIB]), hear(client, MIB))
        assert heard == data[:MIB]
        tally = scene.agent.machine.tallies["shop.web"]
        assert (tally.in_bytes, tally.out_bytes) == (20 * MIB, MIB)
        client.close()
        assert await hear(daemon, 1) == b""

    run(nats_server, test)


def test_many_are_opened_at_a_time_and_each_leads_to_its_own(nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.gateway.tunnels.PATIENCE_S", 30.0)

    async def test(scene: Scene) -> None:
        clients = await asyncio.gather(*(scene.here.connect(HOST, "shop", "web") for _ in range(200)))
        scene.clients += clients
        for number, daemon in enumerate(scene.daemons):
            await send(daemon, b"%03d" % number)
        assert sorted([await hear(client, 3) for client in clients]) == [b"%03d" % number for number in range(200)]

    run(nats_server, test)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (LoadFailed("shop exited at once", log="no module x"), LoadFailed, "shop exited at once"),
        (LoadFailed("x" * 100_000, log="y" * 100_000), LoadFailed, "^x{1024}$"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            Unavailable,
            "shop.web takes no connection: Connection ref",
        ),
        (RuntimeError("a mistake of ours"), Unavailable, "gave no connection within"),
    ],
    ids=["its own", "long", "refused", "unforeseen"],
)
def test_why_there_is_no_connection_is_said(
    nats_server: Any, failure: Exception, kind: type[MotesError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motes.gateway.tunnels.PATIENCE_S", 0.5)

    async def test(scene: Scene) -> None:
        scene.failure = failure
        with pytest.raises(kind, match=words):
            await scene.open()
        assert scene.streams == 0

    run(nats_server, test)


def test_a_host_that_is_not_there_is_noticed_at_once(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        with pytest.raises(Unavailable, match="host 'nowhere' is not there"):
            await scene.here.connect("nowhere", "shop", "web")

    run(nats_server, test)


def test_a_daemon_that_does_not_accept_is_given_up(nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.agent.tunnels.CONNECT_TIMEOUT_S", 0.1)

    async def test(scene: Scene) -> None:
        scene.hold = asyncio.Event()
        with pytest.raises(Unavailable, match=r"shop\.web takes no connection: nothing within"):
            await scene.open()

    run(nats_server, test)


def test_one_that_nobody_waits_for_any_more_ends_on_the_host_as_well(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motes.agent.tunnels.TICK_S", 0.05)

    async def test(scene: Scene) -> None:
        scene.hold = asyncio.Event()
        opening = asyncio.create_task(scene.open())
        await until(lambda: scene.there._opening)
        opening.cancel()
        scene.hold.set()
        await until(lambda: scene.daemons)
        assert await hear(scene.daemons[0], 1) == b""

    run(nats_server, test)


def test_there_is_a_limit_on_both_sides(nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MOST_STREAMS", 3)

    async def test(scene: Scene) -> None:
        for _ in range(3):
            await scene.open()
        with pytest.raises(Overloaded, match="over 3 connections lead to daemons on host 'far'"):
            await scene.open()
        async with second_gateway(scene) as other:
            with pytest.raises(Overloaded, match="host 'far' has 3 connections"):
                await other.connect(HOST, "shop", "web")
        scene.clients.pop().close()
        await until(lambda: scene.streams == 4)
        await scene.open()

    run(nats_server, test)


@asynccontextmanager
async def second_gateway(scene: Scene) -> AsyncIterator[Tunnels]:
    other = await Tunnels.open(scene.running.home)
    try:
        yield other
    finally:
        await other.close()


def test_two_gateways_do_not_hear_each_other(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        first = await scene.open()
        async with second_gateway(scene) as other:
            client = await other.connect(HOST, "shop", "web")
            second = client, scene.daemons[-1]
            for pipe in (*scene.here._pipes.values(), *other._pipes.values(), *scene.there._pipes.values()):
                pipe.tick()
            assert await is_open(*first) and await is_open(*second)
        # It has ended, as it does when it is stopped.
        assert await hear(second[1], 1) == b""
        client.close()
        assert await is_open(*first)

    run(nats_server, test)


# ---------------------------------------------------------------------- what breaks


@pytest.mark.parametrize("whose", ["the gateway's", "the host's"])
def test_a_connection_that_breaks_ends_all_that_went_through_it(nats_server: Any, whose: str) -> None:
    async def test(scene: Scene) -> None:
        scene.agent.connection.on_reconnected = scene.there.on_reconnected
        client, daemon = await scene.open()
        assert await is_open(client, daemon)
        broken = scene.here._connection if whose == "the gateway's" else scene.agent.connection
        broken._wire.abort()
        for pipe in (*scene.here._pipes.values(), *scene.there._pipes.values()):
            await until(lambda: broken.connected)
            pipe.tick()
        assert await hear(client, 1) == b"" == await hear(daemon, 1)
        await until(lambda: scene.here._connection.connected and scene.agent.connection.connected)
        assert await is_open(*await scene.open())

    run(nats_server, test)


def test_a_host_that_is_gone_as_the_controller_says_ends_what_led_there(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        client, _ = await scene.open()
        keeper = await Connection.open(scene.running.url, scene.running.home.credentials("keeper"))
        keeper.publish(subjects.gone("other"), b"")
        keeper.publish(subjects.gone(HOST), b"")
        assert await hear(client, 1) == b""
        await keeper.close()

    run(nats_server, test)


def test_one_that_breaks_as_it_is_opened_is_an_error_that_is_tried_again(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        scene.hold = asyncio.Event()
        opening = asyncio.create_task(scene.open())
        await until(lambda: scene.there._opening)
        scene.here._break_off()
        scene.hold.set()
        with pytest.raises(HostLost):
            await opening

    run(nats_server, test)


def test_whoever_is_silent_is_gone_for_the_other(nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.agent.tunnels.TICK_S", 0.05)

    async def test(scene: Scene) -> None:
        _, daemon = await scene.open()
        # Its own ticks are two seconds apart, so for the host it says nothing.
        assert await hear(daemon, 1) == b""

    run(nats_server, test)


def test_a_server_that_starts_anew_leaves_nothing_behind(own_nats_server: NatsServer) -> None:
    async def test(scene: Scene) -> None:
        scene.agent.connection.on_reconnected = scene.there.on_reconnected
        client, daemon = await scene.open()
        own_nats_server.stop(signal.SIGKILL)
        assert await hear(client, 1) == b""
        own_nats_server.start()
        assert await hear(daemon, 1) == b""
        await until(lambda: scene.here._connection.connected and scene.agent.connection.connected)
        assert await is_open(*await scene.open())

    run(own_nats_server, test)


def test_a_host_that_reads_nothing_is_not_sent_more_than_it_may_have_on_the_way(nats_server: Any) -> None:
    """nats-server would keep it, and drop the connection in the end."""

    async def test(scene: Scene) -> None:
        opened = [await scene.open() for _ in range(8)]
        number, wire = scene.agent.connection.number, scene.agent.connection._wire
        wire.transport.pause_reading()
        sending = [asyncio.create_task(send(client, bytes(4 * MIB))) for client, _ in opened]
        (pipe,) = scene.here._pipes.values()
        await until(lambda: pipe.room == 0 and len(pipe._waiting) == 8)
        await asyncio.sleep(1.0)
        assert pipe._pacing.on_the_way <= pipe._pacing.window < MIB
        wire.transport.resume_reading()
        heard = await asyncio.gather(*(hear(daemon, 4 * MIB) for _, daemon in opened))
        assert heard == [bytes(4 * MIB)] * 8 and scene.agent.connection.number == number
        await asyncio.gather(*sending)

    run(nats_server, test)


# ---------------------------------------------------------------------- attacks


FORGERIES = {
    "a piece": (tunnel.DATA, 0, b"forged"),
    "an end": (tunnel.END, 0, b""),
    "a leave": (tunnel.LEFT, 0, b""),
    "a break": (tunnel.RESET, 0, b""),
    "nothing lives": (tunnel.ALIVE, 0, b""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_host_that_knows_all_of_anothers_stream_cannot_speak_in_it(nats_server: Any, forgery: str) -> None:
    async def test(scene: Scene) -> None:
        client, daemon = await scene.open()
        # It has a stream of its own at this gateway, of which it may say what it likes.
        evil = await scene.user(roles.host("evil"))
        await evil.subscribe(
            subjects.open_stream("evil"), lambda message: evil.publish(message.reply, b"\x80") and None
        )
        own = await scene.here.connect("evil", "shop", "web")
        (stream,), word = scene.here._pipes[HOST], scene.here._word
        kind, number, body = FORGERIES[forgery]
        forged = tunnel.pack(kind, stream.name if kind != tunnel.ALIVE else tunnel.NOBODY, number, body)
        for subject in (subjects.stream_back(HOST, word), subjects.stream_back("evil", word)):
            evil.publish(subject, forged)
        for subject in (subjects.stream(HOST, word), subjects.stream("evil", word)):
            evil.publish(subject, forged)
        await evil.flush()
        await scene.here._connection.flush()
        assert "Permissions Violation" in evil.refused
        assert await is_open(client, daemon)
        await evil.close()
        own.close()

    run(nats_server, test)


def test_a_gateway_that_opens_the_same_again_is_refused(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        client, daemon = await scene.open()
        (pipe,) = scene.here._pipes.values()
        (stream,) = pipe
        with pytest.raises(Refused, match="name is open"):
            await scene.here._ask(HOST, tunnel.Open(stream.name, scene.here._word, "shop", "web"))
        assert await hear(scene.daemons[1], 1) == b"", "it was connected to, and let go"
        assert scene.streams == 2 and await is_open(client, daemon)

    run(nats_server, test)


def test_a_gateway_of_many_words_gets_no_more_than_one_of_one(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("gateway", "agent"):
        monkeypatch.setattr(f"motes.{side}.tunnels.TICK_S", 60.0)

    async def test(scene: Scene) -> None:
        client, daemon = await scene.open()
        for pipe in scene.there._pipes.values():
            pipe.silent_ticks = -1  # It speaks, and the others do not.
        for number in range(20):
            wanted = tunnel.Open(number.to_bytes(16, "big"), f"word-{number}", "shop", "web")
            await scene.here._ask(HOST, wanted)
            assert len(scene.there._pipes) <= MOST_GATEWAYS
        assert len({id(pipe.pool) for pipe in scene.there._pipes.values()}) == 1
        assert scene.there._pool.streams == MOST_GATEWAYS
        assert await hear(scene.daemons[1], 1) == b"", "the first of them was dropped"
        assert await is_open(client, daemon)

    run(nats_server, test)


@pytest.mark.parametrize(
    "detail",
    [
        {1: "no name"},
        {"message": "twice", "self": "twice"},
        {"retry_after_s": float("nan"), "limit_bytes": float("inf"), "path": {"a": b"b"}},
        {"retry_after_s": "soon", "timeout_s": [1], "traceback": 7},
        {"retry_after_s": -(2**63), "reason": 5},
    ],
    ids=["no name", "twice", "no number", "no words", "below all"],
)
def test_a_host_that_answers_nonsense_is_still_an_error_that_can_be_told(nats_server: Any, detail: Any) -> None:
    async def test(scene: Scene) -> None:
        evil = await scene.user(roles.host("evil"))
        answer = msgspec.msgpack.encode({"error": {"code": "overloaded", "message": "go away", "detail": detail}})
        await evil.subscribe(subjects.open_stream("evil"), lambda message: evil.publish(message.reply, answer) and None)
        with pytest.raises(Overloaded, match="go away") as caught:
            await scene.here.connect("evil", "shop", "web")
        problem = problem_of(caught.value)
        assert problem.headers == ((b"retry-after", b"1"),)
        assert set(json.loads(problem.response().partition(b"\r\n\r\n")[2])) >= {"status", "detail"}
        await evil.close()

    run(nats_server, test)


def test_a_host_that_answers_in_endless_depth_cannot_be_read(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        evil = await scene.user(roles.host("evil"))
        answer = b"\x81\xa5error\x81\xa6detail" + b"\x91" * 100_000 + b"\x01"
        await evil.subscribe(subjects.open_stream("evil"), lambda message: evil.publish(message.reply, answer) and None)
        with pytest.raises(Unavailable, match="cannot be read"):
            await scene.here.connect("evil", "shop", "web")
        await evil.close()

    run(nats_server, test)


def test_what_goes_through_is_heard_by_nobody_else(nats_server: Any) -> None:
    async def test(scene: Scene) -> None:
        heard: list[Message] = []
        ears = [await scene.user(role) for role in (roles.host("evil"), roles.caller("eve"), roles.ANSWERING)]
        for ear in ears:
            for subject in ("relay.*.stream.*", "relay.*.>", f"host.{HOST}.stream.*", f"host.{HOST}.open", ">"):
                await ear.subscribe(subject, heard.append)
        assert await is_open(*await scene.open())
        for ear in ears:
            await ear.flush()
            await ear.close()
        assert heard == []

    run(nats_server, test)


@pytest.mark.parametrize("role", [roles.caller("eve"), roles.host("evil"), roles.GATEWAY, roles.ANSWERING])
def test_nobody_but_the_gateway_opens_a_connection(nats_server: Any, role: roles.Role) -> None:
    async def test(scene: Scene) -> None:
        other = await scene.user(role)
        wanted = tunnel.Open(bytes(16), "word", "shop", "web")
        other.publish(subjects.open_stream(HOST), msgspec.msgpack.encode(wanted), f"{other.inbox}.request.x")
        await other.flush()
        await scene.agent.connection.flush()
        assert "Permissions Violation" in other.refused and scene.streams == 0 and not scene.daemons
        await other.close()

    run(nats_server, test)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("host.other.lease", tunnel.Open(bytes(16), "word", "shop", "web")),
        ("_INBOX.x.y.request.z", tunnel.Open(bytes(15), "word", "shop", "web")),
        ("_INBOX.x.y.request.z", tunnel.Open(bytes(16), "w.>", "shop", "web")),
        ("_INBOX.x.y.request.z", tunnel.Open(bytes(16), "", "shop", "web")),
    ],
    ids=["no inbox", "a short name", "a pattern", "no word"],
)
def test_a_gateway_that_asks_for_what_is_none_gets_none(nats_server: Any, reply: str, wanted: tunnel.Open) -> None:
    async def test(scene: Scene) -> None:
        connection = scene.here._connection
        connection.publish(subjects.open_stream(HOST), msgspec.msgpack.encode(wanted), reply)
        connection.publish(subjects.open_stream(HOST), b"nonsense", reply)
        await scene.open()
        assert len(scene.daemons) == 1

    run(nats_server, test)
