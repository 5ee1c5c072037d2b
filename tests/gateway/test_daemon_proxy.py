from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from gateway.conftest import Handler, Trial
from motes.gateway import activity, daemon_proxy, daemons


@pytest.fixture(params=["here", "elsewhere"])
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Trial:
    """Every test here is one with the daemon on this machine, and one with it on another."""
    return Trial(tmp_path, request.getfixturevalue("nats_server") if request.param == "elsewhere" else None)


REQUEST = b"GET /path?x=1 HTTP/1.1\r\nHost: web.localhost:PORT\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own head and body; keeps the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            content = head + await reader.readexactly(size)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            await writer.drain()
    writer.close()


def test_a_request_reaches_the_daemon_as_it_is_and_the_answer_comes_back(trial: Any, read: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        async with gateway.connection() as (reader, writer):
            request = REQUEST.replace(b"PORT", b"%d" % gateway.port)
            for _ in range(3):
                writer.write(request)
                assert (await read(reader)).body == request
        assert gateway.ingress_asked == 1

    trial(test)


def test_pipelined_requests_and_single_bytes_get_through(trial: Any, read: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        request = REQUEST.replace(b"PORT", b"%d" % gateway.port)
        async with gateway.connection() as (reader, writer):
            writer.write(request * 50)
            for _ in range(50):
                assert (await read(reader)).body == request
            for byte in request * 2:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.0005)
            for _ in range(2):
                assert (await read(reader)).body == request

    trial(test)


def test_large_bodies_go_both_ways_with_a_slow_reader(trial: Any, read: Any) -> None:
    content = os.urandom(20 * 2**20)

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        head = b"POST / HTTP/1.1\r\nHost: web.localhost:%d\r\nContent-Length: %d\r\n\r\n" % (gateway.port, len(content))
        async with gateway.connection() as (reader, writer):
            writer.write(head + content)
            await writer.drain()
            await asyncio.sleep(0.3)
            body = (await read(reader)).body
            assert hashlib.sha256(body).digest() == hashlib.sha256(head + content).digest()

    trial(test)


def test_a_client_that_does_not_read_stops_the_daemon_instead_of_filling_memory(trial: Any) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < 200:
                writer.write(bytes(2**20))
                await writer.drain()
                sent += 1
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(flood)
        async with gateway.connection() as (_, writer):
            writer.transport.pause_reading()
            writer.write(REQUEST.replace(b"PORT", b"%d" % gateway.port))
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert 0 < sent < 100
            writer.transport.abort()

    trial(test)


def test_a_daemon_that_does_not_read_stops_the_client_instead_of_filling_memory(trial: Any) -> None:
    over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await over.wait()
        writer.transport.abort()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(deaf)
        async with gateway.connection() as (_, writer):
            writer.write(
                b"POST / HTTP/1.1\r\nHost: web.localhost:%d\r\nContent-Length: 1000000000\r\n\r\n" % gateway.port
            )
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 200:
                    writer.write(bytes(2**20))
                    async with asyncio.timeout(1):
                        await writer.drain()
                    sent += 1
            assert sent < 100
            writer.transport.abort()
        over.set()
        await asyncio.sleep(0.01)

    trial(test)


def test_an_answer_that_ends_with_the_connection_arrives_whole(trial: Any) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 3_000_000)
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(old)
        assert len(await gateway.raw(REQUEST)) == 3_000_019

    trial(test)


def test_a_connection_that_both_sides_have_ended_is_gone_at_once(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A daemon that closes after its answer must not leave the connection behind for the whole time of grace.
    monkeypatch.setattr("motes.gateway.daemon_proxy.LINGER_S", 600.0)

    async def answer_and_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(answer_and_end)
        async with gateway.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: web.localhost:%d\r\n\r\n" % gateway.port)
            assert (await reader.read()).endswith(b"all of it")
        while gateway.server._house.proxies:  # noqa: ASYNC110  nobody would set an event
            await asyncio.sleep(0.01)

    trial(test)


def test_a_client_that_has_ended_its_side_still_gets_the_answer(trial: Any) -> None:
    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request), request))
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(patient)
        async with gateway.connection() as (reader, writer):
            request = REQUEST.replace(b"PORT", b"%d" % gateway.port)
            writer.write(request)
            writer.write_eof()
            assert (await reader.read()).endswith(request)

    trial(test)


WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: web.localhost:PORT\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_websocket_passes_both_ways(trial: Any) -> None:
    async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(websocket)
        async with gateway.connection() as (reader, writer):
            writer.write(WEBSOCKET.replace(b"PORT", b"%d" % gateway.port))
            assert (await reader.readuntil(b"\r\n\r\nhello")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"\x81\x02no http")
            assert await reader.readexactly(9) == b"\x81\x02NO HTTP"
            writer.write_eof()
            assert await reader.read() == b""

    trial(test)


def test_a_websocket_that_is_declined_leaves_a_connection_that_is_still_judged(trial: Any, read: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        port = b"%d" % gateway.port
        async with gateway.connection() as (reader, writer):
            writer.write(WEBSOCKET.replace(b"PORT", port) + REQUEST.replace(b"PORT", port))
            assert (await read(reader)).status == 200
            assert (await read(reader)).body.startswith(b"GET /path")
            writer.write(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert (await read(reader)).status == 421

    trial(test)


def test_a_websocket_from_a_foreign_page_is_refused(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        foreign = WEBSOCKET.replace(b"Upgrade\r\n", b"Upgrade\r\nOrigin: https://evil.example\r\n", 1)
        assert (await gateway.raw(foreign)).startswith(b"HTTP/1.1 403 ")
        assert not gateway.ingress_asked

    trial(test)


def test_an_upgrade_to_anything_else_goes_on_as_plain_requests(trial: Any, read: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        port = b"%d" % gateway.port
        upgrade = WEBSOCKET.replace(b"websocket", b"h2c").replace(b"PORT", port)
        async with gateway.connection() as (reader, writer):
            writer.write(upgrade + REQUEST.replace(b"PORT", port))
            assert (await read(reader)).body == upgrade
            assert (await read(reader)).body.startswith(b"GET /path")
            writer.write(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert (await read(reader)).status == 421

    trial(test)


def noting(seen: list[bytes]) -> Handler:
    """A daemon that keeps what it reads, and has nothing to say to it."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**20):
            seen.append(data)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    return listen


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
def test_after_an_upgrade_that_was_not_taken_no_byte_goes_on_unjudged(trial: Any, read: Any, upgrade: bytes) -> None:
    seen: list[bytes] = []

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(noting(seen))
        asked = WEBSOCKET.replace(b"websocket", upgrade).replace(b"PORT", b"%d" % gateway.port)
        async with gateway.connection() as (reader, writer):
            writer.write(asked)
            assert (await read(reader)).status == 204
            for part in (b"GET /2 HTTP/1.1\r\nHost: web.local", b"host.evil.example\r\n\r\n"):
                writer.write(part)
                await asyncio.sleep(0.05)
            assert (await read(reader)).status == 421
        assert b"".join(seen) == asked

    trial(test)


SECOND_REQUESTS = [
    (b"GET /2 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    (b"GET /2 HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 421),
    (b"GET /2 HTTP/1.1\r\nHost: other.localhost:PORT\r\n\r\n", 421),
    (b"GET /2 HTTP/1.1\r\nHost: web.localhost:PORT\r\nOrigin: https://evil.example\r\n\r\n", 403),
    (b"GET /2 HTTP/1.1\r\nHost: web.localhost:PORT\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403),
    (b"GET /2 HTTP/1.1\r\nHost: web.localhost:PORT\r\nX: y\r\n folded\r\n\r\n", 400),
    (b"GET /2 HTTP/1.1\r\nHost: web.localhost:PORT\r\nX: " + b"y" * 600_000, 431),
    (b"POST /2 HTTP/1.1\r\nHost: web.localhost:PORT\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET http://evil.example/2 HTTP/1.1\r\nHost: web.localhost:PORT\r\n\r\n", 400),
]


@pytest.mark.parametrize(("second", "status"), SECOND_REQUESTS)
@pytest.mark.parametrize("is_split", [False, True])
def test_a_later_request_is_judged_before_a_byte_of_its_head_goes_on(
    trial: Any, read: Any, second: bytes, status: int, is_split: bool
) -> None:
    seen: list[bytes] = []

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(noting(seen))
        port = b"%d" % gateway.port
        async with gateway.connection() as (reader, writer):
            writer.write(REQUEST.replace(b"PORT", port))
            assert (await read(reader)).status == 204
            data = second.replace(b"PORT", port)
            for part in (data[:40], data[40:]) if is_split else (data,):
                writer.write(part)
                await asyncio.sleep(0.02)
            assert (await read(reader)).status == status
            assert await reader.read() == b""
        assert b"".join(seen) == REQUEST.replace(b"PORT", port)

    trial(test)


def test_a_second_request_for_another_host_in_the_same_packet_goes_nowhere(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        answer = await gateway.raw(REQUEST + b"GET /2 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert b"HTTP/1.1 421 " in answer
        assert b"GET /2" not in answer

    trial(test)


def test_an_app_that_is_not_there_is_404(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        for host in ("nothing", "a.b", "-x"):
            response = await gateway.request("GET", "/", host=f"{host}.localhost:PORT")
            assert response.status == 404
            assert "motes apps" in response.json()["detail"]

    trial(test)


def test_an_app_without_a_daemon_says_how_its_functions_are_called(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("GET", "/", host="hello.localhost:PORT")
        assert response.status == 404
        assert "POST /hello/FUNCTION" in response.json()["detail"]

    trial(test)


def test_a_daemon_that_is_not_listening_is_503_once_the_bound_is_over(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "RETRY_FOR_S", 0.2)

    async def test(gateway: Any) -> None:
        gateway.daemon_port = 1
        response = await gateway.request("POST", "/", b"x" * 3_000_000, host="web.localhost:PORT")
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert "web.main takes no connection" in response.json()["detail"]
        assert gateway.ingress_asked > 1

    trial(test)


@pytest.mark.parametrize("hosts", [(), ("gone",), ("../one",)])
def test_a_daemon_on_no_host_is_503(trial: Any, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...]) -> None:
    monkeypatch.setattr(daemons, "RETRY_FOR_S", 0.1)

    async def test(gateway: Any) -> None:
        gateway.cluster.daemons["web"] = hosts
        assert (await gateway.request("GET", "/", host="web.localhost:PORT")).status == 503

    trial(test)


def test_a_client_waits_for_a_daemon_that_is_being_replaced(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        gateway.daemon_port = 1
        asking = asyncio.create_task(gateway.request("GET", "/new", host="web.localhost:PORT"))
        await asyncio.sleep(0.2)
        await gateway.serve_daemon(echo)
        assert (await asking).body.startswith(b"GET /new")

    trial(test)


def test_the_next_connection_goes_to_the_daemons_successor(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        assert (await gateway.request("GET", "/", host="web.localhost:PORT")).status == 200
        gateway.handlers.pop().close()

        async def successor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        await gateway.serve_daemon(successor)
        assert (await gateway.request("GET", "/", host="web.localhost:PORT")).status == 201

    trial(test)


class Ending:
    """A daemon that ends the first connections when it has their requests' heads, and then answers as `echo` does."""

    def __init__(self, times: int, *, politely: bool = False, after: bytes = b"") -> None:
        self.times = times
        self.politely = politely
        self.after = after
        """What it still says of its answer."""
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.heads) >= self.times:
            await echo(reader, writer)
            return
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if self.after:
            writer.write(self.after)
            await writer.drain()
            await asyncio.sleep(0.2)
        if self.politely:
            writer.close()
        else:
            writer.transport.abort()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_daemon_that_ends_without_an_answer_is_502(trial: Any, method: str) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1000)
        await gateway.serve_daemon(ending)
        assert (await gateway.request(method, "/", host="web.localhost:PORT")).status == 502
        # What changes nothing is asked once more, and no more: it may be what ends the daemon.
        assert len(ending.heads) == (2 if method == "GET" else 1)
        count = gateway.server._house.counts.by_app["web"]
        assert (count.requests, count.failures) == (1, 1)
        while count.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    trial(test)


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_is_asked_again_when_the_daemon_is_replaced_just_then(
    trial: Any, method: str, politely: bool
) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1, politely=politely)
        await gateway.serve_daemon(ending)
        answer = await gateway.request(method, "/page", b"body", host="web.localhost:PORT")
        assert answer.status == 200
        # The very same bytes, with what follows the head.
        assert answer.body == ending.heads[0] + b"body"
        count = gateway.server._house.counts.by_app["web"]
        assert (count.requests, count.failures) == (1, 0)

    trial(test)


@pytest.mark.parametrize("politely", [True, False])
def test_what_changes_nothing_is_asked_again_when_the_daemon_ended_as_it_was_connected_to(
    trial: Any, politely: bool
) -> None:
    async def test(gateway: Any) -> None:
        ended = gateway.connected = asyncio.Event()

        async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if ended.is_set():
                await echo(reader, writer)
                return
            if not politely:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            asyncio.get_running_loop().call_later(0.1, ended.set)

        await gateway.serve_daemon(ending)
        answer = await gateway.request("GET", "/page", host="web.localhost:PORT")
        assert answer.status == 200 and answer.body.startswith(b"GET /page")
        assert gateway.ingress_asked == 2

    trial(test)


def test_one_that_is_asked_again_waits_for_the_successor(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        async def last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            gateway.daemon_port = 1
            writer.close()

        await gateway.serve_daemon(last)
        asking = asyncio.create_task(gateway.request("GET", "/new", host="web.localhost:PORT"))
        while gateway.daemon_port != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await gateway.serve_daemon(echo)
        assert (await asking).body.startswith(b"GET /new")

    trial(test)


def test_a_websocket_that_nobody_answered_is_asked_for_again(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1)
        await gateway.serve_daemon(ending)
        asked = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        async with gateway.connection() as (reader, writer):
            writer.write(asked.replace(b"PORT", b"%d" % gateway.port))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(
                ending.heads[0]
            )

    trial(test)


def test_nothing_is_asked_again_of_which_the_answer_has_begun(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1, after=b"HTTP/1.1 200 OK\r\n")
        await gateway.serve_daemon(ending)
        assert await gateway.raw(REQUEST) in (b"HTTP/1.1 200 OK\r\n", b"")
        assert len(ending.heads) == 1 and gateway.ingress_asked == 1

    trial(test)


def test_of_two_requests_at_once_none_is_asked_again(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1)
        await gateway.serve_daemon(ending)
        post = REQUEST.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
        assert b" 502 " in await gateway.raw(REQUEST + post)
        assert gateway.ingress_asked == 1

    trial(test)


def test_what_is_too_large_to_be_kept_is_not_asked_again(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        ending = Ending(1)
        await gateway.serve_daemon(ending)
        body = bytes(daemon_proxy.MOST_RESENT_BYTES)
        assert (await gateway.request("GET", "/", body, host="web.localhost:PORT")).status == 502
        assert gateway.ingress_asked == 1

    trial(test)


def test_a_client_that_goes_away_ends_the_daemons_connection(trial: Any) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        ended.set()
        writer.close()

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(wait)
        async with gateway.connection() as (_, writer):
            writer.write(REQUEST.replace(b"PORT", b"%d" % gateway.port))
            await asyncio.sleep(0.1)
        await ended.wait()

    trial(test)


def test_a_connection_on_which_nothing_moves_is_ended(trial: Any, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MAX_IDLE_TICKS", 2)

    async def test(gateway: Any) -> None:
        await gateway.serve_daemon(echo)
        async with gateway.connection() as (reader, writer):
            writer.write(REQUEST.replace(b"PORT", b"%d" % gateway.port))
            await read(reader)
            for _ in range(3):
                gateway.server._house.tick()
            assert reader.at_eof() is False
            gateway.server._house.tick()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""

    trial(test)
