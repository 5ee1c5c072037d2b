"""Streams over HTTP: items as they come, an end that can be told from a break, nothing held for who does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from motes.errors import FunctionError

EVENTS, LINES = b"text/event-stream", b"application/x-ndjson"
REQUEST = (
    b"POST /hello/count HTTP/1.1\r\nHost: localhost:PORT\r\nAccept: KIND\r\nConnection: close\r\n"
    b"Content-Length: 1\r\n\r\n3"
)


async def count(body: bytes) -> AsyncIterator[bytes]:
    for number in range(int(body)):
        yield b"%d" % number


async def break_off(body: bytes) -> AsyncIterator[bytes]:
    yield b"0"
    raise FunctionError("ValueError: no more", type="ValueError", traceback="")


async def ask(gateway: Any, kind: bytes, stream: Any = count) -> tuple[bytes, bytes]:
    """The head and the body, still in chunks."""
    gateway.cluster.streams["hello.count"] = stream
    head, _, body = (await gateway.raw(REQUEST.replace(b"KIND", kind))).partition(b"\r\n\r\n")
    return head, body


def chunks(body: bytes) -> list[bytes]:
    found = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    return found


@pytest.mark.parametrize(
    ("accept", "kind", "items"),
    [
        (EVENTS, EVENTS, [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]),
        (LINES, LINES, [b"0\n", b"1\n", b"2\n"]),
        (b"application/jsonl", LINES, [b"0\n", b"1\n", b"2\n"]),
        (b"text/html, text/event-stream;q=0.5", EVENTS, [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]),
    ],
)
def test_each_item_is_a_piece_of_its_own_in_the_form_asked_for(
    trial: Any, accept: bytes, kind: bytes, items: list[bytes]
) -> None:
    async def test(gateway: Any) -> None:
        head, body = await ask(gateway, accept)
        assert b" 200 " in head and b"content-type: " + kind in head and b"cache-control: no-store" in head
        assert chunks(body) == [*items, b""]
        assert gateway.cluster.closed == ["hello.count"]

    trial(test)


def test_an_error_before_the_first_item_is_a_problem_like_any_other(trial: Any) -> None:
    async def fail(body: bytes) -> AsyncIterator[bytes]:
        raise FunctionError("ValueError: no", type="ValueError", traceback="")
        yield b""

    async def test(gateway: Any) -> None:
        head, body = await ask(gateway, EVENTS, fail)
        assert b" 500 " in head and b"application/problem+json" in head and b"ValueError: no" in body
        response = await gateway.request("POST", "/hello/nothing", b"1", accept="text/event-stream")
        assert response.status == 404
        response = await gateway.request("POST", "/hello", b"1", accept="text/event-stream")
        assert response.status == 404

    trial(test)


@pytest.mark.parametrize(("kind", "before"), [(EVENTS, b"event: error\ndata: {"), (LINES, b"{")])
def test_an_error_after_it_is_the_last_item_and_the_response_is_cut_off(trial: Any, kind: bytes, before: bytes) -> None:
    async def test(gateway: Any) -> None:
        _, body = await ask(gateway, kind, break_off)
        *_, last = chunks(body)
        assert last.startswith(before) and b"ValueError: no more" in last
        assert not body.endswith(b"0\r\n\r\n"), "nobody may take it for whole"

    trial(test)


@pytest.mark.parametrize(
    "header", [b"Origin: http://evil.example", b"Sec-Fetch-Site: cross-site", b"Host: evil.example:PORT"]
)
def test_the_loopback_rules_hold_for_streams(trial: Any, header: bytes) -> None:
    async def test(gateway: Any) -> None:
        gateway.cluster.streams["hello.count"] = count
        data = REQUEST.replace(b"KIND", EVENTS)
        if header.startswith(b"Host"):
            data = data.replace(b"Host: localhost:PORT", header)
        else:
            data = data.replace(b"Accept", header + b"\r\nAccept")
        assert (await gateway.raw(data)).split()[1] in (b"403", b"421")
        assert gateway.cluster.calls == []

    trial(test)


def test_who_goes_away_ends_the_stream(trial: Any) -> None:
    async def for_ever(body: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(3600)

    async def test(gateway: Any) -> None:
        gateway.cluster.streams["hello.count"] = for_ever
        async with gateway.connection() as (reader, writer):
            writer.write(REQUEST.replace(b"KIND", EVENTS).replace(b"PORT", b"%d" % gateway.port))
            await reader.readuntil(b"data: 1\n\n")
            assert gateway.cluster.closed == []
        async with asyncio.timeout(10):
            while not gateway.cluster.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    trial(test)


def test_who_does_not_read_holds_the_function_up_and_nothing_else(trial: Any) -> None:
    given = 0

    async def flood(body: bytes) -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b'"%b"' % (b"x" * 2**20)

    async def test(gateway: Any) -> None:
        gateway.cluster.streams["hello.count"] = flood
        async with gateway.connection() as (_, writer):
            writer.transport.pause_reading()
            writer.write(REQUEST.replace(b"KIND", LINES).replace(b"PORT", b"%d" % gateway.port))
            before = -1
            while given != before:
                before = given
                await asyncio.sleep(0.3)
            assert 0 < given < 50
            response = await gateway.request("POST", "/hello/greet", b'"Ada"')
            assert response.json() == "Hello, Ada"
            writer.transport.abort()

    trial(test)
