from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from motes.errors import BadInput, FunctionError, MotesError, Overloaded, SpaceFailed, TimedOut
from motes.gateway import call_request, functions, server
from motes.model.release import PAYLOAD_LIMIT_BYTES

POST = b"POST /hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\n"


def test_a_call_goes_in_and_its_result_comes_out(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("POST", "/hello/greet", b'"Ada"', content_type="application/json")
        assert (response.status, response.json()) == (200, "Hello, Ada")
        assert response.headers["content-type"] == "application/json"
        assert gateway.cluster.calls == [("hello.greet", b'"Ada"', None)]

    trial(test)


def test_many_calls_use_one_connection_and_may_be_pipelined(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        one = b'POST /hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 5\r\n\r\n"Ada"'
        last = one.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
        answers = await gateway.raw(one * 20 + last)
        assert answers.count(b'"Hello, Ada"') == 21

    trial(test)


def test_a_call_in_many_small_pieces_arrives(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        data = POST + b'Connection: close\r\nContent-Length: 5\r\n\r\n"Ada"'
        async with gateway.connection() as (reader, writer):
            for byte in data.replace(b"PORT", b"%d" % gateway.port):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.0005)
            assert (await reader.read()).endswith(b'"Hello, Ada"')

    trial(test)


def test_a_chunked_body_arrives(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await gateway.raw(head + b'2\r\n"A\r\n3\r\nda"\r\n0\r\n\r\n')
        assert answer.endswith(b'"Hello, Ada"')

    trial(test)


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("250ms", 0.25), ("2 min", 120.0)])
def test_the_timeout_header_reaches_the_call(trial: Any, text: str, seconds: float) -> None:
    async def test(gateway: Any) -> None:
        await gateway.request("POST", "/hello/greet", b'"Ada"', motes_timeout=text)
        assert gateway.cluster.calls[0][2] == seconds

    trial(test)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "2 h", "nan"])
def test_a_timeout_out_of_bounds_is_refused(trial: Any, text: str) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("POST", "/hello/greet", b'"Ada"', motes_timeout=text)
        assert (response.status, response.json()["type"]) == (400, "urn:motes:problem:bad_timeout")
        assert not gateway.cluster.calls

    trial(test)


@pytest.mark.parametrize(
    ("error", "status", "members"),
    [
        (BadInput("expected str", path="$.name"), 422, {"path": "$.name", "detail": "expected str"}),
        (TimedOut("no result", timeout_s=2), 504, {"timeout_s": 2}),
        (FunctionError("no such item", type="KeyError", traceback="File x"), 500, {"exception": "KeyError"}),
        (MotesError("odd"), 500, {"type": "urn:motes:problem:error"}),
    ],
)
def test_an_error_is_a_problem_document(trial: Any, error: MotesError, status: int, members: dict[str, Any]) -> None:
    async def fail(body: bytes) -> bytes:
        raise error

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.fail"] = fail
        response = await gateway.request("POST", "/hello/fail", b"1")
        assert response.status == response.json()["status"] == status
        assert response.headers["content-type"] == "application/problem+json"
        assert members.items() <= response.json().items()
        assert "traceback" not in response.json()

    trial(test)


def test_overload_says_when_to_try_again(trial: Any) -> None:
    async def fail(body: bytes) -> bytes:
        raise Overloaded("every queue is full", retry_after_s=3)

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.fail"] = fail
        response = await gateway.request("POST", "/hello/fail", b"1")
        assert (response.status, response.headers["retry-after"]) == (503, "3")

    trial(test)


def test_a_hosts_paths_stay_on_the_host(trial: Any) -> None:
    async def fail(body: bytes) -> bytes:
        raise SpaceFailed("bwrap: cannot bind /home/ada/.local/share/motes/hosts/one: denied")

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.fail"] = fail
        response = await gateway.request("POST", "/hello/fail", b"1")
        assert response.json()["detail"] == "bwrap: cannot bind ...: denied"

    trial(test)


def test_a_body_that_is_no_json_is_told_from_one_of_the_wrong_type(trial: Any) -> None:
    async def fail(body: bytes) -> bytes:
        raise BadInput("expected str", path="$")

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.fail"] = fail
        assert (await gateway.request("POST", "/hello/fail", b"Ada")).status == 400
        assert (await gateway.request("POST", "/hello/fail", b"\xff")).status == 400
        assert (await gateway.request("POST", "/hello/fail", b"1")).status == 422

    trial(test)


@pytest.mark.parametrize("path", ["/nothing/here", "/hello/nothing", "/a.b/c", "/hello/%2e%2e", "/x", "/a/b/c", "//"])
def test_what_is_not_there_is_404_and_says_how_to_see_what_is(trial: Any, path: str) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("POST", path, b"1")
        assert response.status == 404
        assert "motes apps" in response.json()["detail"]

    trial(test)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_functions_take_post_only(trial: Any, method: str) -> None:
    async def test(gateway: Any) -> None:
        head = f"{method} /hello/greet HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\n\r\n"
        answer = await gateway.raw(head.encode())
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nallow: POST\r\n" in answer
        assert b"access-control" not in answer.lower()

    trial(test)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/vnd.x+json", 200),
        ("application/octet-stream", 200),
        ("application/x-www-form-urlencoded", 200),
        ("application/msgpack", 400),
        ("image/png", 415),
    ],
)
def test_content_types_that_cannot_be_json_are_415(trial: Any, content_type: str, status: int) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("POST", "/hello/greet", b'"Ada"', content_type=content_type)
        assert response.status == status

    trial(test)


def test_a_compressed_body_is_415(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"', content_encoding="gzip")).status == 415

    trial(test)


def test_a_body_declared_too_large_is_refused_before_it_comes(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        head = b"POST /hello/greet HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: %d\r\n\r\n"
        async with gateway.connection() as (reader, writer):
            writer.write(head % (gateway.port, PAYLOAD_LIMIT_BYTES + 1))
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            assert b'"limit_bytes":8388608' in await reader.readuntil(b"}")
        assert not gateway.cluster.calls

    trial(test)


def test_a_client_that_sends_all_of_a_too_large_body_still_reads_the_answer(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        response = await gateway.request("POST", "/hello/greet", bytes(PAYLOAD_LIMIT_BYTES + 2**20))
        assert response.status == 413

    trial(test)


def test_a_streamed_body_is_refused_once_it_is_too_large(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        head = b"POST /hello/greet HTTP/1.1\r\nHost: localhost:%d\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with gateway.connection() as (reader, writer):
            writer.write(head % gateway.port)
            for _ in range(9):
                writer.write(b"100000\r\n" + bytes(0x100000) + b"\r\n")
                await writer.drain()
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        assert not gateway.cluster.calls

    trial(test)


def test_the_largest_body_that_is_allowed_arrives(trial: Any) -> None:
    async def length(body: bytes) -> bytes:
        return b"%d" % len(body)

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.length"] = length
        response = await gateway.request("POST", "/hello/length", b" " * PAYLOAD_LIMIT_BYTES)
        assert response.json() == PAYLOAD_LIMIT_BYTES

    trial(test)


def test_a_body_announced_with_expect_is_asked_for(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        head = b"POST /hello/greet HTTP/1.1\r\nHost: localhost:%d\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        async with gateway.connection() as (reader, writer):
            writer.write(head % gateway.port)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b'"Ada"')
            assert (await reader.read()).endswith(b'"Hello, Ada"')

    trial(test)


def test_a_caller_that_goes_away_cancels_its_call(trial: Any) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(body: bytes) -> bytes:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return b""

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.slow"] = slow
        async with gateway.connection() as (_, writer):
            writer.write(
                b"POST /hello/slow HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: 1\r\n\r\n1" % gateway.port
            )
            await began.wait()
        await ended.wait()

    trial(test)


def test_calls_beyond_the_bound_are_503_and_served_again_afterwards(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "MAX_CALLS", 2)
    go, all_began = asyncio.Event(), asyncio.Barrier(3)

    async def slow(body: bytes) -> bytes:
        if not go.is_set():
            await all_began.wait()
        await go.wait()
        return body

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.slow"] = slow
        waiting = [asyncio.create_task(gateway.request("POST", "/hello/slow", b"1")) for _ in range(2)]
        await all_began.wait()
        refused = await gateway.request("POST", "/hello/slow", b"1")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        go.set()
        assert [(await each).status for each in waiting] == [200, 200]
        assert (await gateway.request("POST", "/hello/slow", b"1")).status == 200

    trial(test)


def test_bodies_held_are_bounded_together(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_request, "MAX_HELD_BYTES", 1000)

    async def test(gateway: Any) -> None:
        assert (await gateway.request("POST", "/hello/greet", b" " * 1001)).status == 503
        assert (await gateway.request("POST", "/hello/greet", b'"Ada"')).status == 200

    trial(test)


def test_answers_that_nobody_takes_are_bounded_together_and_given_up(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a client that calls and never reads would fill the gateway's memory, and for ever."""
    monkeypatch.setattr(call_request, "MAX_HELD_BYTES", 17 * 2**20)

    async def large(body: bytes) -> bytes:
        return b"1" * 8 * 2**20

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.large"] = large
        clients = [socket.socket() for _ in range(5)]
        for count, client in enumerate(clients, 1):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", gateway.port))
            client.send(
                b"POST /hello/large HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: 1\r\n\r\n1" % gateway.port
            )
            while len(gateway.cluster.calls) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        unsent = [each.transport.get_write_buffer_size() for each in gateway.server._house.functions]
        assert sum(unsent) < 17 * 2**20
        for _ in range(6):
            gateway.server._house.tick()
        await asyncio.sleep(0.1)
        assert (await gateway.request("POST", "/hello/large", b"1")).status == 200
        for client in clients:
            client.close()

    trial(test)


def test_a_body_that_does_not_come_is_given_up(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_request, "BODY_TIMEOUT_S", 0.05)

    async def test(gateway: Any) -> None:
        answer = await gateway.raw(POST + b"Content-Length: 5\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 408 ")

    trial(test)


def test_the_health_pages_say_how_it_is(trial: Any) -> None:
    async def test(gateway: Any) -> None:
        assert (await gateway.request("GET", "/healthz")).status == 200
        assert (await gateway.request("GET", "/readyz")).status == 200
        assert b"POST http://localhost" in (await gateway.request("GET", "/")).body
        gateway.cluster.ready = False
        assert (await gateway.request("GET", "/healthz")).status == 200
        response = await gateway.request("GET", "/readyz")
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert (await gateway.request("POST", "/healthz")).headers["allow"] == "GET, HEAD"

    trial(test)


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /hello/greet HTTP/1.1\r\nHost : localhost:PORT\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost:PORT\n\n",
        b"GET / HTTP/2.0\r\nHost: localhost:PORT\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_plain_http_is_400_and_the_connection_ends(trial: Any, data: bytes) -> None:
    async def test(gateway: Any) -> None:
        assert (await gateway.raw(data)).startswith(b"HTTP/1.1 400 ")
        assert not gateway.cluster.calls

    trial(test)


@pytest.mark.parametrize("size", [70_000, 300_000])
def test_a_head_that_is_too_large_is_431(trial: Any, size: int) -> None:
    async def test(gateway: Any) -> None:
        first = b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\n"
        assert (await gateway.raw(first + b"X: " + b"y" * size)).startswith(b"HTTP/1.1 431 ")
        whole = first + b"X: " + b"y" * 70_000 + b"\r\n\r\n"
        assert (await gateway.raw(whole)).startswith(b"HTTP/1.1 431 ")
        second = first + b"\r\n" + first + b"X: " + b"y" * (size + 500_000)
        answer = await gateway.raw(second)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 431 " in answer

    trial(test)


def test_a_mistake_of_the_gateways_own_is_a_500_that_tells_nothing(
    trial: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(body: bytes) -> bytes:
        raise KeyError("/home/ada/secret")

    async def test(gateway: Any) -> None:
        gateway.cluster.functions["hello.fail"] = fail
        response = await gateway.request("POST", "/hello/fail", b"1")
        assert (response.status, response.json()["type"]) == (500, "urn:motes:problem:internal")
        assert b"secret" not in response.body

    trial(test)
    assert "KeyError" in caplog.text


def test_stopping_lets_calls_end_within_the_grace_and_cancels_the_others(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.5)
    began = asyncio.Barrier(3)
    cancelled = asyncio.Event()

    async def short(body: bytes) -> bytes:
        await began.wait()
        await asyncio.sleep(0.1)
        return body

    async def endless(body: bytes) -> bytes:
        try:
            await began.wait()
            await asyncio.sleep(3600)
        finally:
            cancelled.set()
        return body

    async def test(gateway: Any) -> None:
        gateway.cluster.functions |= {"hello.short": short, "hello.endless": endless}
        asked = [asyncio.create_task(gateway.request("POST", f"/hello/{name}", b"1")) for name in ("short", "endless")]
        await began.wait()
        await gateway.server.stop()
        assert (await asked[0]).status == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asked[1]
        assert cancelled.is_set()
        with pytest.raises(ConnectionRefusedError):
            await gateway.request("GET", "/healthz")

    trial(test)
