"""A cutting proxy: nothing of what it is told to do may be seen by who is connected through it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from lab.proxy import Proxy

SHORT_S = 0.3
LONG_S = 20.0


class Pair:
    """A client and the server's end of its connection, with a proxy in between."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.proxy = Proxy(self._server.getsockname()[1])
        self.client = self.connect()
        self.server = self.accept()

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.proxy.port), LONG_S)
        made.settimeout(LONG_S)
        return made

    def accept(self) -> socket.socket:
        self._server.settimeout(LONG_S)
        made, _ = self._server.accept()
        made.settimeout(LONG_S)
        return made

    def close(self) -> None:
        for each in (self.client, self.server, self._server):
            each.close()
        self.proxy.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_through_a_narrow_one_all_comes_in_its_time(pair: Pair) -> None:
    pair.proxy.narrow(100_000)
    began = time.monotonic()
    pair.client.sendall(bytes(50_000))
    left = 50_000
    while left:
        left -= len(pair.server.recv(left))
    assert time.monotonic() - began >= 0.5


def hears(end: socket.socket, within_s: float = SHORT_S) -> bytes:
    """What comes; nothing when nothing comes in time, and that is no end of the connection."""
    end.settimeout(within_s)
    try:
        data = end.recv(100)
        assert data, "the connection has ended"
        return data
    except TimeoutError:
        return b""


def test_everything_passes_until_it_is_told_otherwise(pair: Pair) -> None:
    pair.client.sendall(b"up")
    assert hears(pair.server, LONG_S) == b"up"
    pair.server.sendall(b"down")
    assert hears(pair.client, LONG_S) == b"down"


def test_what_is_cut_comes_when_it_is_mended_and_nobody_is_told_meanwhile(pair: Pair) -> None:
    pair.proxy.cut()
    pair.client.sendall(b"up")
    pair.server.sendall(b"down")
    assert hears(pair.server) == hears(pair.client) == b""
    pair.proxy.mend()
    assert (hears(pair.server, LONG_S), hears(pair.client, LONG_S)) == (b"up", b"down")


def test_a_cut_one_way_leaves_the_other(pair: Pair) -> None:
    pair.proxy.cut("machine")
    pair.server.sendall(b"down")
    assert hears(pair.client) == b""
    pair.client.sendall(b"up")
    assert hears(pair.server, LONG_S) == b"up"


def test_one_end_that_closes_during_a_cut_is_not_missed_before_it_is_mended(pair: Pair) -> None:
    pair.proxy.cut()
    pair.client.close()
    assert hears(pair.server) == b""
    pair.proxy.mend()
    pair.server.settimeout(LONG_S)
    assert pair.server.recv(1) == b""


def test_a_connection_that_is_opened_during_a_cut_hears_nothing(pair: Pair) -> None:
    pair.proxy.cut()
    late = pair.connect()
    late.sendall(b"hello")
    assert hears(late) == b""
    threading.Timer(SHORT_S, pair.proxy.mend).start()
    server = pair.accept()
    assert hears(server, LONG_S) == b"hello"
    late.close()
    server.close()


def test_a_slow_line_is_slow_and_keeps_the_order(pair: Pair) -> None:
    pair.proxy.slow(delay_s=SHORT_S, loss=0.5)
    began = time.monotonic()
    for number in range(5):
        pair.client.sendall(b"%d" % number)
        time.sleep(0.01)
    heard = b""
    while len(heard) < 5:
        heard += hears(pair.server, LONG_S)
    assert heard == b"01234" and time.monotonic() - began >= SHORT_S
