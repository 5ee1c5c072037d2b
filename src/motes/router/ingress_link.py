"""The gateway's side of `ingress`: asks an agent for connected sockets and trusts nothing about what comes back."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import stat
from pathlib import Path

import msgspec

from motes.errors import MotesError, Overloaded, Refused, TimedOut, Unavailable, Untrusted, from_wire
from motes.model.bounds import UNREADABLE
from motes.router.ingress import (
    ANSWER_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    MAX_PENDING,
    Answer,
    Request,
)

_MAX_DESCRIPTORS = 4
_PATIENCE_S = ANSWER_TIMEOUT_S + 1
"""The agent gives up first, and says why."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
# Joined here, once: for Python's enums that takes microseconds, and this is every connection's way.
_RECEIVING = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)

_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(Answer).decode


async def open_ingress(path: Path, app: str, workload: str) -> socket.socket:
    """One connection to `app.workload` on the host whose ingress is at `path`, over a link used only once.

    Raises MotesError: what the agent answered, or Unavailable when there is no agent.
    """
    link = IngressLink(path)
    try:
        return await link.open(app, workload)
    finally:
        link.close()


class IngressLink:
    """A lasting connection to one agent's ingress; made at the first `open` and again after it broke."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._pending: dict[int, asyncio.Future[socket.socket]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()

    async def open(self, app: str, workload: str) -> socket.socket:
        """A non-blocking socket connected to `app.workload`. Raises MotesError."""
        if len(self._pending) >= MAX_PENDING:
            raise Overloaded(f"over {MAX_PENDING} connections to {app} are being opened", retry_after_s=1)
        self._number += 1
        number = self._number
        future = self._pending[number] = self._loop.create_future()
        expiry = self._loop.call_later(_PATIENCE_S, _expire, future, app)
        try:
            self._send(Request(number, app, workload))
            received: socket.socket = await future
            return received
        except BaseException:
            _close_unused(future)
            raise
        finally:
            expiry.cancel()
            del self._pending[number]

    def close(self) -> None:
        """Drop the connection; opens under way raise Unavailable."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(Unavailable("the host's agent went away"))

    def _send(self, request: Request) -> None:
        if self._socket is None:
            self._socket = connect_without_following(self._path)
            self._loop.add_reader(self._socket, self._read)
        try:
            self._socket.send(_encode(request))
        except BlockingIOError:
            raise Overloaded("the host's agent is behind with opening connections", retry_after_s=1) from None
        except OSError:
            self.close()

    def _read(self) -> None:
        """One message; the loop calls again while there are more."""
        if self._socket is None:
            return
        try:
            data, descriptors = _receive(self._socket)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data or not self._take(data, descriptors):
            self.close()

    def _take(self, data: bytes, descriptors: list[int]) -> bool:
        """Whether the agent keeps to the protocol. All descriptors are used or closed."""
        try:
            answer = _decode_answer(data)
            future = self._pending.get(answer.id)
            if future is None or future.done():
                return True
            if answer.ok and len(descriptors) == 1:
                _resolve(future, descriptors.pop())
            else:
                future.set_exception(from_wire(answer.error or {"message": "an agent sent no socket"}))
            return True
        except UNREADABLE:
            return False
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def connect_without_following(path: Path) -> socket.socket:
    """A SEQPACKET connection to the socket at `path`, which must be no link. Raises Unavailable or Refused."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise Unavailable("the host's agent is not there (it may be starting; see `motes host ls`)") from None
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise Refused("the host's ingress is no socket but a link or file; it is not followed")
        # Through the descriptor: what was checked is what is connected to, and the path may be long.
        return _connect(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def _connect(address: str) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        connecting.connect(address)
    except OSError:
        connecting.close()
        raise Unavailable("the host's agent does not answer (it may be starting; see `motes host ls`)") from None
    return connecting


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, flags, _ = connection.recvmsg(MAX_MESSAGE_BYTES, _ANCILLARY_BYTES, _RECEIVING)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if flags & _CUT_OFF:
        for descriptor in descriptors:
            os.close(descriptor)
        return b"", []
    return data, list(descriptors)


def _resolve(future: asyncio.Future[socket.socket], descriptor: int) -> None:
    try:
        future.set_result(_checked(descriptor))
    except MotesError as error:
        future.set_exception(error)


def _checked(descriptor: int) -> socket.socket:
    """The socket of `descriptor`, when it is a connected stream; else it is closed and Untrusted raised."""
    try:
        received = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise Untrusted("an agent handed over something that is no socket") from None
    if received.family not in (socket.AF_INET, socket.AF_UNIX) or not _is_connected_stream(received):
        received.close()
        raise Untrusted("an agent handed over a socket that is no connected stream")
    received.setblocking(False)
    return received


def _is_connected_stream(received: socket.socket) -> bool:
    try:
        received.getpeername()
    except OSError:
        return False
    return received.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def _expire(future: asyncio.Future[socket.socket], app: str) -> None:
    if not future.done():
        future.set_exception(
            TimedOut(f"the host of {app} gave no connection within {_PATIENCE_S:g} s", timeout_s=_PATIENCE_S)
        )


def _close_unused(future: asyncio.Future[socket.socket]) -> None:
    """The socket may have come in the same turn in which its asker was cancelled."""
    if future.done() and not future.cancelled() and future.exception() is None:
        future.result().close()
