from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from conftest import NatsServer
from motes.bus import tls
from motes.bus.connection import Connection
from motes.errors import Unavailable, Untrusted
from motes.home import Home
from motes.supervisor import forward, founding, succession
from motes.supervisor.forward import Moved, Relay
from ports import free_port

DEADLINE_S = 20.0


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[NatsServer]:
    """The new keeper, which listens for other machines."""
    home = Home(tmp_path)
    founding.found(home)
    founding.listen(home, "127.0.0.1", free_port())
    running = NatsServer(home)
    running.start()
    yield running
    running.stop(signal.SIGKILL)


def with_relay(keeper: NatsServer, test: Callable[[int], Awaitable[None]]) -> None:
    """With the port at which the keeper was before."""
    old = free_port()
    certificate = tls.fingerprint_of(keeper.home.tls_certificate)
    moved = Moved("127.0.0.1", old, f"127.0.0.1:{keeper.port}", certificate, b"", "", 0.0, True)

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S):
            relaying = asyncio.create_task(Relay(moved).listen())
            try:
                while True:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", old)
                        writer.close()
                        break
                    await asyncio.sleep(0.01)
                await test(old)
            finally:
                relaying.cancel()
                await asyncio.wait((relaying,))

    asyncio.run(run())


def test_who_comes_to_the_old_place_is_led_to_the_new_one(keeper: NatsServer) -> None:
    async def test(old: int) -> None:
        certificate = tls.fingerprint_of(keeper.home.tls_certificate)
        user = keeper.home.credentials("keeper")
        connection = await Connection.open(f"tls://127.0.0.1:{old}", user, certificate=certificate)
        heard: list[bytes] = []
        await connection.subscribe("big", lambda message: heard.append(message.data))
        big = bytes(range(256)) * 16384
        connection.publish("big", big)
        await connection.flush(DEADLINE_S)
        assert heard == [big]
        await connection.close()

    with_relay(keeper, test)


def test_nothing_that_is_not_encrypted_is_passed_on(keeper: NatsServer) -> None:
    """A program that found the keeper on this machine, without TLS, must not speak across the network so."""

    async def test(old: int) -> None:
        with pytest.raises(Unavailable):
            await Connection.open(f"nats://127.0.0.1:{old}", keeper.home.credentials("keeper"))
        reader, writer = await asyncio.open_connection("127.0.0.1", old)
        assert (await reader.readline()).startswith(b"INFO ")
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
        assert await reader.read() == b""
        writer.close()

    with_relay(keeper, test)


def test_the_word_is_done_only_where_the_keepers_own_certificate_is_shown(keeper: NatsServer) -> None:
    true = tls.fingerprint_of(keeper.home.tls_certificate)
    moved = Moved("", 0, f"127.0.0.1:{keeper.port}", true, b"", "", 0.0, False)

    async def run() -> None:
        assert await forward.commit(moved) == "done"
        with pytest.raises(Untrusted, match="another cluster answers there"):
            await forward.commit(moved._replace(certificate=bytes(32)))
        # TLS says goodbye.
        await asyncio.sleep(0.1)

    asyncio.run(run())


def test_the_word_is_given_only_once_the_disk_holds_that_the_keeper_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the power went between the two, this machine could come back as the keeper that it was."""
    home = Home(tmp_path)
    moved = {"host": "", "port": 0, "address": "", "certificate": "", "accept": "", "order": "", "until": 0.0}
    succession.hand_over(home, {"moved": moved, "keeper": {"addresses": [], "certificate": ""}})
    failures = [OSError(5, "Input/output error")] * 3
    asked: list[int] = []

    def fail(path: Path) -> None:
        assert path == home.keeper_file.parent
        if failures:
            raise failures.pop()

    async def commit(moved: Moved) -> str:
        asked.append(len(failures))
        return "done" if len(asked) == 2 else "told"

    monkeypatch.setattr(forward, "sync", fail)
    monkeypatch.setattr(forward, "commit", commit)
    monkeypatch.setattr(forward, "RETRY_S", 0.01)
    assert asyncio.run(forward.settle(home, forward.read(home)))
    assert asked == [0, 0] and forward.read(home).is_done
    assert "does not hold yet" in caplog.text and "Input/output error" in caplog.text


def test_what_is_no_keeper_is_told_nothing() -> None:
    said = bytearray()

    async def run() -> None:
        ended = asyncio.Event()

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail\r\n")
            said.extend(await reader.read())
            writer.close()
            ended.set()

        server = await asyncio.start_server(other, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="no machine that waits"):
            await forward.commit(Moved("", 0, f"127.0.0.1:{port}", b"", b"", "00", 0.0, False))
        server.close()
        await asyncio.wait_for(ended.wait(), DEADLINE_S)
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert bytes(said) == b""
