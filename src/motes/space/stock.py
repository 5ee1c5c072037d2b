"""Unconnected sockets of a space's own network, kept in stock: its trusted helper makes them, a few at a time."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable

from motes.errors import SpaceFailed

WAIT_LIMIT_S = 5.0
CONNECT_LIMIT_S = 5.0
"""A daemon that has not accepted by then does not accept connections."""
MOST_WAITING = 1024
"""Connections that wait for a socket; more are refused."""
RESTOCK_AT = 4


class SocketStock:
    """`ask` has the helper make more; they come by `arrive`."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._stock: deque[socket.socket] = deque()
        self._wanted: deque[asyncio.Future[socket.socket]] = deque()
        self._asked = self._closed = False

    async def take(self) -> socket.socket:
        """A socket to connect. Raises SpaceFailed."""
        if self._closed:
            raise SpaceFailed("the daemon's space is closed")
        if len(self._stock) <= RESTOCK_AT:
            self._restock()
        if self._stock:
            return self._stock.popleft()
        if len(self._wanted) >= MOST_WAITING:
            raise SpaceFailed(f"{MOST_WAITING} connections wait for the daemon already; try again")
        wanted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._wanted.append(wanted)
        try:
            return await asyncio.wait_for(wanted, WAIT_LIMIT_S)
        except TimeoutError:
            raise SpaceFailed(f"the daemon's space gave no socket within {WAIT_LIMIT_S:g} s") from None

    def arrive(self, descriptors: list[int]) -> None:
        """Takes the descriptors one by one. Raises ValueError for one that is no unconnected TCP socket."""
        if not self._asked:
            raise ValueError("sockets that nobody asked for")
        self._asked = False
        while descriptors:
            self._stock.append(checked(descriptors.pop()))
        while self._stock and self._wanted:
            wanted = self._wanted.popleft()
            if not wanted.done():
                wanted.set_result(self._stock.popleft())
        if self._wanted:
            self._restock()

    def close(self) -> None:
        """Drop what is in stock; whoever waits gets SpaceFailed."""
        self._closed = True
        while self._stock:
            self._stock.pop().close()
        for wanted in self._wanted:
            if not wanted.done():
                wanted.set_exception(SpaceFailed("the daemon's space is closed"))

    def _restock(self) -> None:
        if not self._asked:
            self._asked = True
            self._ask()


def checked(descriptor: int) -> socket.socket:
    """A non-blocking AF_INET stream socket, neither connected nor listening. Raises ValueError; then it is closed."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise ValueError("a descriptor that is no socket") from None
    if (
        found.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) != socket.AF_INET
        or found.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM
        or found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        or _is_connected(found)
    ):
        found.close()
        raise ValueError("a descriptor that is no unconnected TCP socket")
    found.setblocking(False)
    return found


def _is_connected(found: socket.socket) -> bool:
    try:
        found.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


async def connect_inside(made: socket.socket, port: int) -> None:
    """Connect a socket of the space's network to a port there. Raises OSError when nobody accepts.

    The loop's own sock_connect asks the resolver first, in a thread: that is half of what a connection costs.
    """
    status = made.connect_ex(("127.0.0.1", port))
    if status == errno.EINPROGRESS:
        # On a loopback it is decided by now, which asking again tells; only a full backlog makes it wait.
        status = made.connect_ex(("127.0.0.1", port))
    if status == errno.EALREADY:
        status = await _outcome(made)
    if status:
        raise OSError(status, os.strerror(status))


async def _outcome(connecting: socket.socket) -> int:
    """The error number with which it ends, 0 for none."""
    loop = asyncio.get_running_loop()
    settled = asyncio.Event()
    loop.add_writer(connecting, settled.set)
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            await settled.wait()
    except TimeoutError:
        return errno.ECONNREFUSED
    finally:
        loop.remove_writer(connecting)
    return connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
