from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from motes.errors import LoadFailed, MotesError, Overloaded, Refused, Unavailable, Untrusted
from motes.router import ingress
from motes.router.ingress import serve_ingress
from motes.router.ingress_link import IngressLink, open_ingress


class Daemon:
    """An echo of one line at a time; keeps what it accepted."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.asked: list[tuple[str, str]] = []

    async def connect(self, app: str, workload: str) -> socket.socket:
        self.asked.append((app, workload))
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self.listener.getsockname())
        return connection

    async def greet(self) -> None:
        accepted, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        with accepted:
            await asyncio.get_running_loop().sock_sendall(accepted, b"hello")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.listener.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_a_socket_arrives_connected_and_non_blocking(tmp_path: Path, daemon: Daemon) -> None:
    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", daemon.connect)
        with await open_ingress(tmp_path / "ingress.sock", "shop", "web") as received:
            assert not received.getblocking()
            assert not os.get_inheritable(received.fileno())
            await daemon.greet()
            assert await asyncio.get_running_loop().sock_recv(received, 100) == b"hello"
        assert daemon.asked == [("shop", "web")]
        server.close()
        assert os.listdir(tmp_path) == []

    run(test)


def test_many_requests_share_one_link_and_answers_find_their_askers(tmp_path: Path, daemon: Daemon) -> None:
    async def connect(app: str, workload: str) -> socket.socket:
        await asyncio.sleep(0.001 * (20 - int(workload)))
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(workload.encode())
        return ours

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        link = IngressLink(tmp_path / "ingress.sock")
        received = await asyncio.gather(*(link.open("shop", str(number)) for number in range(20)))
        for number, each in enumerate(received):
            with each:
                assert each.recv(10) == str(number).encode()
        assert len(server._links) == 1
        link.close()
        server.close()

    run(test)


def test_an_agents_error_arrives_as_itself(tmp_path: Path) -> None:
    async def connect(app: str, workload: str) -> socket.socket:
        raise LoadFailed(f"{app} exited at once", log="no module named x")

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        with pytest.raises(LoadFailed, match="shop exited at once") as caught:
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        assert caught.value.detail == {"log": "no module named x"}
        server.close()

    run(test)


def test_an_error_too_large_for_a_message_is_cut(tmp_path: Path) -> None:
    async def connect(app: str, workload: str) -> socket.socket:
        raise LoadFailed("x" * 100_000, log="y" * 100_000)

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        with pytest.raises(LoadFailed, match=r"x{1024}"):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        server.close()

    run(test)


def test_a_refused_connection_is_unavailable(tmp_path: Path) -> None:
    async def connect(app: str, workload: str) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        with pytest.raises(Unavailable, match=r"shop\.web takes no connection: Connection refused"):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        server.close()

    run(test)


def test_without_an_agent_it_is_unavailable(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(Unavailable, match="not there"):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(tmp_path / "ingress.sock"))
        with pytest.raises(Unavailable, match="does not answer"):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")

    run(test)


def test_a_link_outlives_its_agent(tmp_path: Path, daemon: Daemon) -> None:
    async def test() -> None:
        link = IngressLink(tmp_path / "ingress.sock")
        for _ in range(2):
            server = await serve_ingress(tmp_path / "ingress.sock", daemon.connect)
            (await link.open("shop", "web")).close()
            server.close()
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await link.open("shop", "web")
        link.close()

    run(test)


def test_an_agent_that_goes_away_fails_what_is_under_way(tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def connect(app: str, workload: str) -> socket.socket:
        arrived.set()
        await asyncio.sleep(3600)
        raise AssertionError

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        link = IngressLink(tmp_path / "ingress.sock")
        opening = asyncio.create_task(link.open("shop", "web"))
        await arrived.wait()
        server.close()
        with pytest.raises(Unavailable, match="went away"):
            await opening
        link.close()

    run(test)


def test_a_link_planted_in_place_of_the_socket_is_not_followed(tmp_path: Path, daemon: Daemon) -> None:
    async def test() -> None:
        server = await serve_ingress(tmp_path / "real.sock", daemon.connect)
        (tmp_path / "ingress.sock").symlink_to("real.sock")
        with pytest.raises(Refused, match="not followed"):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        assert daemon.asked == []
        server.close()

    run(test)


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path, daemon: Daemon) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)

    async def test() -> None:
        server = await serve_ingress(folder / "ingress.sock", daemon.connect)
        (await open_ingress(folder / "ingress.sock", "shop", "web")).close()
        server.close()

    run(test)


@contextmanager
def evil_agent(path: Path, answer: Callable[[socket.socket, int], None]) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        loop = asyncio.get_running_loop()
        peers: list[socket.socket] = []

        def read(peer: socket.socket) -> None:
            loop.remove_reader(peer)
            answer(peer, 1)

        def accept() -> None:
            peers.append(listener.accept()[0])
            loop.add_reader(peers[-1], read, peers[-1])

        loop.add_reader(listener, accept)
        try:
            yield
        finally:
            loop.remove_reader(listener)
            for peer in peers:
                peer.close()


def _rights(*descriptors: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]


def _a_file() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def _a_listener() -> int:
    return socket.create_server(("127.0.0.1", 0)).detach()


def _a_datagram_socket() -> int:
    connected = socket.socket(type=socket.SOCK_DGRAM)
    connected.connect(("127.0.0.1", 9))
    return connected.detach()


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("make", [_a_file, _a_listener, _a_datagram_socket])
def test_anything_but_a_connected_stream_is_refused_and_closed(tmp_path: Path, make: Callable[[], int]) -> None:
    def answer(peer: socket.socket, number: int) -> None:
        descriptor = make()
        peer.sendmsg([b'{"id":1,"ok":true}'], _rights(descriptor))
        os.close(descriptor)

    async def test() -> None:
        before = _open_descriptors()
        with evil_agent(tmp_path / "ingress.sock", answer), pytest.raises(Untrusted):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        assert _open_descriptors() == before

    run(test)


@pytest.mark.parametrize(
    ("message", "descriptors"),
    [
        (b'{"id":1,"ok":true}', 0),
        (b'{"id":1,"ok":true}', 2),
        (b'{"id":1,"ok":true}', 40),
        (b"not json", 1),
        (b'{"id":1}' + b" " * 20_000, 1),
    ],
)
def test_an_answer_that_breaks_the_protocol_leaks_no_descriptor(
    tmp_path: Path, message: bytes, descriptors: int
) -> None:
    def answer(peer: socket.socket, number: int) -> None:
        sent = [_a_file() for _ in range(descriptors)]
        peer.sendmsg([message], _rights(*sent))
        for descriptor in sent:
            os.close(descriptor)

    async def test() -> None:
        before = _open_descriptors()
        with evil_agent(tmp_path / "ingress.sock", answer), pytest.raises(MotesError):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        assert _open_descriptors() == before

    run(test)


def test_a_peer_that_speaks_something_else_is_dropped_and_its_descriptors_are_not_taken(
    tmp_path: Path, daemon: Daemon
) -> None:
    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", daemon.connect)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(tmp_path / "ingress.sock"))
            await asyncio.sleep(0.05)
            before = _open_descriptors()
            peer.sendmsg([b"hello"], _rights(peer.fileno()))
            peer.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(peer, 10) == b""
            assert _open_descriptors() == before - 1
        (await open_ingress(tmp_path / "ingress.sock", "shop", "web")).close()
        server.close()

    run(test)


def test_a_peer_of_another_user_is_dropped(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_PEER", _OtherUser())

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", daemon.connect)
        with pytest.raises(Unavailable):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        assert daemon.asked == []
        server.close()

    run(test)


class _OtherUser:
    """SO_PEERCRED as it would be for another user's process."""

    size = struct.calcsize("3i")

    def unpack(self, data: bytes) -> tuple[int, int, int]:
        return (1, 54321, 54321)


def test_connections_and_requests_are_bounded(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "MAX_PENDING", 1)
    monkeypatch.setattr(ingress, "MAX_LINKS", 1)

    refused = asyncio.Event()

    async def connect(app: str, workload: str) -> socket.socket:
        await refused.wait()
        return await daemon.connect(app, workload)

    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", connect)
        link = IngressLink(tmp_path / "ingress.sock")
        opening = asyncio.create_task(link.open("shop", "web"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await link.open("shop", "web")
        refused.set()
        (await opening).close()
        with pytest.raises(Unavailable):
            await open_ingress(tmp_path / "ingress.sock", "shop", "web")
        link.close()
        server.close()

    run(test)


def test_a_cancelled_open_leaks_no_socket(tmp_path: Path, daemon: Daemon) -> None:
    async def test() -> None:
        server = await serve_ingress(tmp_path / "ingress.sock", daemon.connect)
        link = IngressLink(tmp_path / "ingress.sock")
        (await link.open("shop", "web")).close()
        before = _open_descriptors()
        for turns in range(8):
            opening = asyncio.create_task(link.open("shop", "web"))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert _open_descriptors() <= before
        link.close()
        server.close()

    run(test)
