"""A socket of the space's network is connected at once, or says why not."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
import uvloop

from motes.space import connections, stock
from motes.space.connections import has_connections
from motes.space.stock import connect_inside


def new_socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


def test_a_listening_port_is_reached() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, new_socket() as made:
            await connect_inside(made, listener.getsockname()[1])
            assert made.getpeername() == listener.getsockname()

    uvloop.run(test())


def test_what_is_no_unconnected_socket_is_refused_and_closed() -> None:
    connected, other = socket.socketpair()
    with other:
        read_end, write_end = os.pipe()
        os.close(write_end)
        for descriptor in (read_end, connected.detach()):
            with pytest.raises(ValueError):
                stock.checked(descriptor)
            with pytest.raises(OSError):
                os.fstat(descriptor)


def test_a_port_without_a_listener_refuses() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with new_socket() as made, pytest.raises(ConnectionRefusedError):
            await connect_inside(made, port)

    uvloop.run(test())


def test_a_listener_with_a_full_backlog_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "CONNECT_LIMIT_S", 0.1)

    async def test() -> None:
        made = [new_socket() for _ in range(8)]
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            port = listener.getsockname()[1]
            outcomes = await asyncio.gather(*(connect_inside(each, port) for each in made), return_exceptions=True)
        for each in made:
            each.close()
        assert outcomes[0] is None
        assert isinstance(outcomes[-1], ConnectionRefusedError)

    uvloop.run(test())


def test_a_connection_that_is_accepted_late_is_made_after_all() -> None:
    async def test() -> None:
        made = [new_socket() for _ in range(3)]
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            listener.settimeout(10)
            port = listener.getsockname()[1]
            pending = [asyncio.create_task(connect_inside(each, port)) for each in made]
            accepted = [(await asyncio.to_thread(listener.accept))[0] for _ in made]
            await asyncio.gather(*pending)
        for each in (*made, *accepted):
            each.close()

    uvloop.run(test())


def test_of_very_many_connections_it_is_soon_told_that_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not has_connections(os.getpid(), port)
        with socket.create_connection(server.getsockname()):
            assert has_connections(os.getpid(), port)
        assert not has_connections(os.getpid(), port)
        monkeypatch.setattr(connections, "MOST_BYTES", 100)
        assert has_connections(os.getpid(), port)
        assert not has_connections(2**30, port)
