"""Streams between two ends of a pipe, with real sockets and a line in memory that a test may hold, cut and falsify."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from motes.errors import Refused
from motes.router import stream as streams
from motes.router import tunnel
from motes.router.pacing import LEAST_BYTES
from motes.router.pipe import MOST_UNSENT_BYTES, SILENT_TICKS, Pipe, tick
from motes.router.stream import Stream
from sockets import hear, send
from waiting import until

MIB = 2**20


class Line:
    """Two ends of a pipe that hear each other, in order and later."""

    def __init__(self) -> None:
        self.is_up = True
        self.carried: list[tuple[str, tunnel.Heard]] = []
        self.drop: Callable[[tunnel.Heard], bool] = lambda heard: False
        self.counted: Counter[str] = Counter()
        self.unsent_bytes = 0
        self.gateway = Pipe(lambda data: self._carry("agent", data), lambda: self.unsent_bytes)
        self.agent = Pipe(lambda data: self._carry("gateway", data))
        self._numbers = iter(range(10_000))
        self.ends: list[socket.socket] = []

    def _carry(self, to: str, data: bytes) -> bool:
        if not self.is_up:
            return False
        heard = tunnel.unpack(data)
        self.carried.append((to, heard))
        if not self.drop(heard):
            asyncio.get_running_loop().call_soon(lambda: getattr(self, to).hear(data))
        return True

    def connect(self, kind: socket.AddressFamily = socket.AF_INET) -> Connected:
        name = next(self._numbers).to_bytes(16, "big")
        client, ours = socket.socketpair()
        theirs, daemon = loopback() if kind == socket.AF_INET else socket.socketpair()
        near, far = self.gateway.add(name, ours), self.agent.add(name, theirs, self._count)
        far.begin()
        near.begin()
        for end in (client, daemon):
            end.setblocking(False)
        self.ends += client, daemon
        return Connected(client, daemon, near, far)

    def _count(self, in_bytes: int, out_bytes: int) -> None:
        self.counted.update(in_bytes=in_bytes, out_bytes=out_bytes)

    def kinds(self, to: str) -> list[int]:
        return [heard.kind for there, heard in self.carried if there == to]


class Connected:
    """A client and a daemon with a stream between them."""

    def __init__(self, client: socket.socket, daemon: socket.socket, near: Stream, far: Stream) -> None:
        self.client, self.daemon, self.near, self.far = client, daemon, near, far

    async def is_over(self) -> None:
        await until(lambda: self.near.is_closed and self.far.is_closed)


def loopback() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


def run(test: Callable[[Line], Awaitable[None]]) -> None:
    async def bounded() -> None:
        line = Line()
        async with asyncio.timeout(30):
            await test(line)
        for end in (line.gateway, line.agent):
            end.break_off()
            assert len(end) == 0
            assert end._pacing.on_the_way == 0, "what is over is not on the way any more"
        for outer in line.ends:
            outer.close()

    uvloop.run(bounded())


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_what_goes_in_on_one_side_comes_out_on_the_other_both_ways_at_once(kind: socket.AddressFamily) -> None:
    async def test(line: Line) -> None:
        there = line.connect(kind)
        up, down = os.urandom(8 * MIB + 1), os.urandom(5 * MIB + 3)
        _, _, came, back = await asyncio.gather(
            send(there.client, up),
            send(there.daemon, down),
            hear(there.daemon, len(up)),
            hear(there.client, len(down)),
        )
        assert (came, back) == (up, down)
        assert line.counted == {"in_bytes": len(up), "out_bytes": len(down)}
        assert max(len(heard.body) for _, heard in line.carried) <= tunnel.MESSAGE_BYTES
        there.client.close()
        there.daemon.close()
        await there.is_over()

    run(test)


def test_each_direction_ends_by_itself() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        await send(there.client, b"question")
        there.client.shutdown(socket.SHUT_WR)
        assert await hear(there.daemon, 100) == b"question"
        assert not there.near.is_closed and not there.far.is_closed
        await send(there.daemon, b"answer")
        there.daemon.close()
        assert await hear(there.client, 100) == b"answer"
        await there.is_over()
        assert tunnel.RESET not in [*line.kinds("agent"), *line.kinds("gateway")]

    run(test)


def test_a_client_that_goes_away_is_gone_for_the_daemon_after_all_that_it_sent() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        data = os.urandom(400_000)
        await send(there.client, data[:200_000])
        sending = asyncio.ensure_future(send(there.client, data[200_000:]))
        await asyncio.sleep(0.01)
        heard = await hear(there.daemon, 300_000)
        await sending
        there.client.close()
        assert heard + await hear(there.daemon, MIB) == data
        await there.is_over()
        with pytest.raises(ConnectionError):
            for _ in range(100):
                await send(there.daemon, b"is anybody there")
                await asyncio.sleep(0.01)

    run(test)


def test_a_client_that_goes_away_later_is_noticed_though_nobody_says_anything() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        there.client.shutdown(socket.SHUT_WR)
        assert await hear(there.daemon, 100) == b""
        there.client.close()
        line.gateway.tick()
        await there.is_over()

    run(test)


def test_a_daemon_that_breaks_off_breaks_off_the_client() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        await send(there.client, b"x")
        await hear(there.daemon, 1)
        there.daemon.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, streams._AT_ONCE)
        there.daemon.close()
        await there.is_over()
        assert await hear(there.client, 1) == b""

    run(test)


def test_half_an_upload_is_never_taken_for_all_of_it() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        await send(there.client, b"half")
        assert await hear(there.daemon, 4) == b"half"
        line.agent.break_off()
        with pytest.raises(ConnectionResetError):
            await hear(there.daemon, 1)

    run(test)


def test_who_reads_slowly_holds_up_its_sender_and_nobody_else() -> None:
    async def test(line: Line) -> None:
        slow, quick = line.connect(), line.connect()
        sending = asyncio.ensure_future(send(slow.daemon, bytes(16 * MIB)))
        await until(lambda: slow.far.flow.room == 0)
        for _ in range(20):
            data = os.urandom(MIB)
            _, heard = await asyncio.gather(send(quick.daemon, data), hear(quick.client, MIB))
            assert heard == data
        assert not sending.done() and slow.near.flow.arrived <= 2 * tunnel.MOST_WINDOW_BYTES
        assert await hear(slow.client, 16 * MIB) == bytes(16 * MIB)
        await sending

    run(test)


def test_what_waits_takes_as_much_memory_as_was_granted_however_small_its_pieces() -> None:
    async def test(line: Line) -> None:
        pipe = Pipe(lambda data: True)
        ours, daemon = socket.socketpair()
        stream = pipe.add(b"n" * 16, ours)
        tracemalloc.start()
        try:
            for number in range(tunnel.FIRST_WINDOW_BYTES):
                pipe.hear(tunnel.pack(tunnel.DATA, stream.name, number, b"x"))
            waiting_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        daemon.setblocking(False)
        assert stream.flow.arrived == tunnel.FIRST_WINDOW_BYTES and stream._unwritten
        assert waiting_bytes < 4 * tunnel.FIRST_WINDOW_BYTES
        assert await hear(daemon, tunnel.FIRST_WINDOW_BYTES) == b"x" * tunnel.FIRST_WINDOW_BYTES
        pipe.break_off()
        daemon.close()

    run(test)


def test_a_name_that_there_is_already_is_refused_and_leaves_the_other_as_it_was() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        one, other = socket.socketpair()
        with pytest.raises(Refused, match="name is open"):
            line.agent.add(there.far.name, one)
        assert one.fileno() == -1 and len(line.agent) == 1
        await send(there.client, b"hello")
        assert await hear(there.daemon, 5) == b"hello"
        other.close()

    run(test)


def test_whoever_waits_waits_once() -> None:
    async def test(line: Line) -> None:
        busy, there = line.connect(), line.connect()
        line.drop = lambda heard: heard.kind == tunnel.ARRIVED
        await send(busy.client, bytes(LEAST_BYTES))
        await until(lambda: line.gateway.room == 0)
        await send(there.client, b"waits")
        await until(lambda: line.gateway._waiting)
        for _ in range(20):
            line.gateway.hear(tunnel.pack(tunnel.GRANT, there.near.name, 2**40))
            await asyncio.sleep(0.002)
        assert len(line.gateway._waiting) == 1
        there.near.abort()
        assert not line.gateway._waiting, "what is over does not wait either"

    run(test)


def test_while_the_own_connection_takes_nothing_nothing_is_sent_and_then_it_goes_on() -> None:
    """A host that says at once of all that it has it could else fill the connection that is everybody's."""

    async def test(line: Line) -> None:
        there = line.connect()
        line.unsent_bytes = MOST_UNSENT_BYTES + 1
        await send(there.client, b"hello")
        await until(lambda: line.gateway._waiting)
        line.gateway.hear(tunnel.pack(tunnel.ARRIVED))
        await asyncio.sleep(0.1)
        assert tunnel.DATA not in line.kinds("agent")
        line.unsent_bytes = 0
        assert await hear(there.daemon, 5) == b"hello"

    run(test)


def test_who_leaves_again_loses_the_stream_at_once() -> None:
    async def test(line: Line) -> None:
        there = line.connect(socket.AF_UNIX)
        sending = asyncio.ensure_future(send(there.client, bytes(MIB)))
        await until(lambda: there.far._unwritten)
        leave = tunnel.pack(tunnel.LEFT, there.far.name, there.far.flow.arrived)
        line.agent.hear(leave)
        assert there.far.is_left and not there.far.is_closed
        line.agent.hear(leave)
        assert there.far.is_closed
        await asyncio.gather(sending, return_exceptions=True)

    run(test)


def test_many_at_a_time_all_go_on() -> None:
    async def test(line: Line) -> None:
        all_of_them = [line.connect() for _ in range(100)]
        data = [os.urandom(100_000 + number) for number in range(100)]
        heard = await asyncio.gather(
            *(hear(each.client, len(said)) for each, said in zip(all_of_them, data, strict=True)),
            *(send(each.daemon, said) for each, said in zip(all_of_them, data, strict=True)),
        )
        assert heard[:100] == data

    run(test)


def test_some_that_end_or_stop_keep_no_other_waiting() -> None:
    """Whoever got its turn and had nothing to send must pass it on."""

    async def test(line: Line) -> None:
        all_of_them = [line.connect() for _ in range(60)]
        line.drop = lambda heard: heard.kind == tunnel.ARRIVED
        sending = [asyncio.ensure_future(send(each.daemon, bytes(40_000))) for each in all_of_them]
        await until(lambda: line.agent.room == 0 and len(line.agent._waiting) > 50)
        for each in all_of_them[:30]:
            each.client.close()
        line.drop = lambda heard: False
        line.gateway._say_what_came()
        for each in all_of_them[30:]:
            assert await hear(each.client, 40_000) == bytes(40_000)
        await asyncio.gather(*sending, return_exceptions=True)

    run(test)


def test_who_sends_little_gets_its_turn_though_the_other_side_has_nothing_to_say() -> None:
    async def test(line: Line) -> None:
        large = line.connect()
        line.drop = lambda heard: heard.kind == tunnel.ARRIVED
        await send(large.daemon, bytes(LEAST_BYTES))
        assert len(await hear(large.client, LEAST_BYTES)) == LEAST_BYTES
        small = [line.connect() for _ in range(20)]
        for each in small:
            await send(each.daemon, b"little")
        await until(lambda: len(line.agent._waiting) == 20)
        line.drop = lambda heard: False
        line.gateway.note_came(large.near, 0)
        line.gateway._say_what_came()
        for each in small:
            assert await hear(each.client, 6) == b"little"

    run(test)


def test_never_more_is_on_the_way_than_may_be() -> None:
    async def test(line: Line) -> None:
        line.drop = lambda heard: heard.kind == tunnel.ARRIVED
        all_of_them = [line.connect() for _ in range(10)]
        sending = [asyncio.ensure_future(send(each.client, bytes(MIB))) for each in all_of_them]
        await until(lambda: line.gateway.room == 0)
        await asyncio.sleep(0.05)
        assert sum(len(heard.body) for to, heard in line.carried if to == "agent") <= LEAST_BYTES
        for each in sending:
            each.cancel()

    run(test)


@pytest.mark.parametrize("lost", [tunnel.DATA, tunnel.END])
def test_what_is_lost_on_the_way_is_never_passed_over(lost: int) -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        await send(there.client, b"one")
        assert await hear(there.daemon, 3) == b"one"
        line.drop = lambda heard: heard.kind == lost
        await send(there.client, b"two")
        await until(lambda: line.kinds("agent").count(tunnel.DATA) == 2)
        line.drop = lambda heard: False
        await send(there.client, b"three")
        if lost == tunnel.DATA:
            with pytest.raises(ConnectionResetError):
                await hear(there.daemon, 1)
            await there.is_over()
        else:
            assert await hear(there.daemon, 8) == b"twothree"

    run(test)


@pytest.mark.parametrize(
    "message",
    [
        (tunnel.DATA, 7, b"forged"),
        (tunnel.END, 99, b""),
        (tunnel.LEFT, 99, b""),
    ],
    ids=["a hole", "a wrong end", "a wrong leave"],
)
def test_who_breaks_the_rules_loses_that_stream_and_no_other(message: tuple[int, int, bytes]) -> None:
    async def test(line: Line) -> None:
        broken, other = line.connect(), line.connect()
        kind, number, body = message
        line.gateway.hear(tunnel.pack(kind, broken.near.name, number, body))
        await broken.is_over()
        await send(other.client, b"hello")
        assert await hear(other.daemon, 5) == b"hello"

    run(test)


@pytest.mark.parametrize("kind", [0, *range(1, 9), 255])
@pytest.mark.parametrize("body", [b"", b"x", bytes(24), bytes(100)])
def test_nonsense_and_messages_about_streams_that_there_are_not_change_nothing(kind: int, body: bytes) -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        there.near.is_open = kind != tunnel.ALIVE  # That one says which there are.
        line.gateway.hear(tunnel.pack(kind, b"?" * 16, 2**64 - 1, body))
        line.gateway.hear(body[:20])
        there.near.is_open = True
        await send(there.client, b"hello")
        assert await hear(there.daemon, 5) == b"hello"

    run(test)


def test_a_side_that_is_silent_is_gone() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        for _ in range(3 * SILENT_TICKS):
            line.gateway.tick()
            line.agent.tick()
            await asyncio.sleep(0.01)
        assert not there.near.is_closed and not there.far.is_closed
        line.drop = lambda heard: True
        for _ in range(SILENT_TICKS):
            line.gateway.tick()
            assert not there.near.is_closed
        line.gateway.tick()
        assert there.near.is_closed
        assert await hear(there.client, 1) == b""

    run(test)


def test_streams_that_the_other_side_does_not_have_any_more_end() -> None:
    async def test(line: Line) -> None:
        lost, kept = line.connect(), line.connect()
        line.drop = lambda heard: heard.kind == tunnel.RESET
        lost.far.reset()
        line.agent.tick()
        await lost.is_over()
        assert not kept.near.is_closed

    run(test)


def test_one_that_is_being_opened_is_not_missed() -> None:
    async def test(line: Line) -> None:
        client, ours = socket.socketpair()
        stream = line.gateway.add(b"n" * 16, ours)
        line.gateway.hear(tunnel.pack(tunnel.ALIVE))
        assert not stream.is_closed
        stream.begin()
        line.gateway.hear(tunnel.pack(tunnel.ALIVE))
        assert stream.is_closed
        client.close()

    run(test)


def test_when_nothing_can_be_sent_all_streams_end() -> None:
    async def test(line: Line) -> None:
        there, idle = line.connect(), line.connect()
        line.is_up = False
        await send(there.client, b"x")
        await until(lambda: there.near.is_closed and idle.near.is_closed)
        assert not there.far.is_closed

    run(test)


def test_the_rest_for_a_daemon_that_does_not_read_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINGER_S", 0.1)

    async def test(line: Line) -> None:
        there = line.connect(socket.AF_UNIX)
        await send(there.client, bytes(MIB))
        there.client.close()
        await until(lambda: there.far.is_left)
        assert not there.far.is_closed
        await there.is_over()
        assert len(await hear(there.daemon, MIB)) < MIB

    run(test)


def test_a_stream_of_random_steps_arrives_as_it_was() -> None:
    async def test(line: Line) -> None:
        there = line.connect()
        sent, heard = hashlib.sha256(), hashlib.sha256()

        async def say() -> None:
            for number in range(300):
                data = os.urandom(1 + (number * 7919) % 50_000)
                sent.update(data)
                await send(there.daemon, data)
                if number % 7 == 0:
                    await asyncio.sleep(0)
            there.daemon.shutdown(socket.SHUT_WR)

        async def listen() -> None:
            number = 0
            while data := await hear(there.client, 1 + (number * 104_729) % 80_000):
                number += 1
                heard.update(data)
                if number % 11 == 0:
                    await asyncio.sleep(0.001)

        await asyncio.gather(say(), listen())
        assert sent.digest() == heard.digest()

    run(test)


def test_what_was_sent_to_a_daemon_that_has_left_holds_up_no_other_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is slow to take the rest of the answer: nobody says any more that its upload has arrived."""
    monkeypatch.setattr(streams, "LINGER_S", 1000.0)

    async def test(line: Line) -> None:
        there, other = line.connect(socket.AF_UNIX), line.connect(socket.AF_UNIX)
        while not there.near._unwritten:
            await send(there.daemon, bytes(4096))
            await asyncio.sleep(0.001)
        on_their_way: list[bytes] = []
        monkeypatch.setattr(line.gateway, "_publish", lambda data: on_their_way.append(data) or True)
        while line.gateway.room:
            await send(there.client, bytes(8192))
            await asyncio.sleep(0)
        there.daemon.close()
        await until(lambda: there.near.is_left)
        monkeypatch.undo()
        for data in on_their_way:
            line.agent.hear(data)
        await send(other.client, b"x" * 100_000)
        assert await hear(other.daemon, 100_000) == b"x" * 100_000
        assert there.near._unwritten and not there.near.is_closed

    run(test)


def test_a_mistake_in_the_turn_of_one_pipe_ends_neither_its_later_turns_nor_those_of_others() -> None:
    async def test(line: Line) -> None:
        line.connect()
        said: list[bytes] = []
        bad, good = Pipe(lambda data: bool(1 / 0)), Pipe(lambda data: said.append(data) is None)
        going_on = tick({"bad": bad, "good": good, "other": line.gateway})
        assert len(said) == 1 and bad.silent_ticks == good.silent_ticks == 1
        assert going_on == {"other": line.gateway}, "the others have no streams"

    run(test)
