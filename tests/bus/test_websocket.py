"""What is of WebSockets only; what a connection does is tested over them in test_connection.py."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from conftest import WebNatsServer, running_in
from motes.bus.connection import Connection
from motes.bus.websocket import proxy_for
from motes.errors import Unavailable
from proxies import ConnectProxy

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from running_in(tmp_path_factory.mktemp("cluster"), WebNatsServer)


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test()
        # TLS says goodbye.
        await asyncio.sleep(0.1)

    asyncio.run(within_deadline())


async def echo(web: Any) -> None:
    """A message goes there and comes back."""
    connection = await Connection.open(web.url, web.home.credentials("keeper"), certificate=web.certificate)
    heard: list[bytes] = []
    await connection.subscribe("echo", lambda message: heard.append(message.data))
    connection.publish("echo", b"hello" * 1000)
    await connection.flush()
    assert heard == [b"hello" * 1000]
    await connection.close()


def test_what_the_server_has_not_taken_yet_can_be_told(web: Any) -> None:
    async def test() -> None:
        connection = await Connection.open(web.url, web.home.credentials("keeper"), certificate=web.certificate)
        for _ in range(2):  # TLS passes on what comes first, and keeps the rest until that is sent.
            for _ in range(16):
                assert connection.publish("nobody", bytes(500_000))
            await asyncio.sleep(0)
        assert connection.unsent_bytes > 2**20
        await connection.flush(DEADLINE_S)
        assert connection.unsent_bytes == 0
        await connection.close()

    run(test)


@contextlib.asynccontextmanager
async def listening(answer: Callable[[bytes], bytes]) -> Any:
    """A server that is none: its port, and all that was said to it."""
    said = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                said.extend(data)
                writer.write(answer(data))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], said
    server.close()
    await asyncio.sleep(0.05)


def test_a_server_with_another_certificate_is_told_nothing(web: Any) -> None:
    async def test() -> None:
        user = web.home.credentials("keeper")
        for certificate in (bytes(32), b""):
            with pytest.raises(Exception, match="another cluster answers there"):
                await Connection.open(web.url, user, certificate=certificate)

    run(test)


def test_what_speaks_no_tls_is_told_nothing(web: Any) -> None:
    async def test() -> None:
        async with listening(lambda data: b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as (port, said):
            with pytest.raises(Unavailable):
                await Connection.open(
                    f"wss://127.0.0.1:{port}", web.home.credentials("keeper"), certificate=web.certificate
                )
            assert said[:1] == b"\x16" and b"eyJ" not in said and b"GET" not in said

    run(test)


def test_through_a_proxy_that_asks_who_it_is(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with ConnectProxy("ada", "pass word") as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://ada:pass%20word@127.0.0.1:{proxy.port}")
            await echo(web)
            assert proxy.asked == [web.url.removeprefix("wss://")]
            assert b"hellohello" not in proxy.seen and b"eyJ" not in proxy.seen and len(proxy.seen) > 5000
            monkeypatch.setenv("HTTPS_PROXY", f"http://eve:x@127.0.0.1:{proxy.port}")
            with pytest.raises(Unavailable, match=r"the proxy does not pass it on: .* 407"):
                await echo(web)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            await echo(web)

    run(test)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\nmore than was asked", b"\0" * 20_000, b"220 mail\r\n\r\n", b"HTTP/1.1\r\n\r\n"]
)
def test_a_proxy_that_is_none_is_told_no_more(web: Any, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with listening(lambda data: answer) as (port, said):
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            with pytest.raises(Unavailable, match="the proxy does not pass it on"):
                await echo(web)
            assert said.startswith(b"CONNECT 127.0.0.1:") and b"\x16\x03" not in said

    run(test)


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "http://", "http://proxy:port"])
def test_a_proxy_that_cannot_be_used_is_said(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(Unavailable, match="HTTPS_PROXY names no proxy that Motes can use"):
        proxy_for("keeper.example")


def test_how_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("keeper.example") is None
    monkeypatch.setenv("https_proxy", "proxy:3128")
    found = proxy_for("keeper.example")
    assert found is not None and (found.host, found.port, found.authorization) == ("proxy", 3128, "")
    monkeypatch.setenv("HTTPS_PROXY", "http://a%40b:c@proxy")
    monkeypatch.delenv("https_proxy")
    found = proxy_for("keeper.example")
    assert found is not None and (found.port, base64.b64decode(found.authorization)) == (80, b"a@b:c")
