"""A connected socket handed from an agent to the gateway on the same machine: the way of a daemon's clients.

This file is the agent's side and the messages; `ingress_link` is the gateway's side.

The agent listens on a unix SOCK_SEQPACKET socket. A request is one message, JSON `{"id", "app", "workload"}`; the
answer is one message, `{"id", "ok": true}` with the socket by SCM_RIGHTS, or `{"id", "error": ERROR}` with an error
in its wire form. Many requests may be under way on one connection. Sockets go one way only: from the agent.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from motes.errors import MotesError, Overloaded, Unavailable
from motes.model.bounds import UNREADABLE
from motes.tasks import Tasks

Connect = Callable[[str, str], Awaitable[socket.socket]]
"""Opens a new connection to `(app, workload)` inside its space. Raises MotesError."""

MAX_MESSAGE_BYTES = 16 * 1024
MAX_LINKS = 16
"""Connections that one agent takes at a time; a gateway needs one."""
MAX_PENDING = 512
"""Requests under way on one connection."""
ANSWER_TIMEOUT_S = 5.0
_BACKLOG = 16
_PEER = struct.Struct("3i")


class Request(msgspec.Struct):
    """What a gateway asks: a new connection to a workload; `id` is given back in the answer."""

    id: int
    app: str
    workload: str


class Answer(msgspec.Struct, omit_defaults=True):
    """What an agent answers: `ok` beside one socket, or an error in its wire form."""

    id: int
    ok: bool = False
    error: dict[str, Any] | None = None


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Request).decode


async def serve_ingress(path: Path, connect: Connect) -> IngressServer:
    """Listen at `path` until the server is closed; a socket left there by a dead agent is replaced."""
    return IngressServer(path, connect)


class IngressServer:
    """The agent's listening socket; takes only peers of its own uid, root, or the owner of the socket's folder."""

    def __init__(self, path: Path, connect: Connect) -> None:
        self._path = path
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._links: set[_ServedLink] = set()
        self._socket = _listen(path)
        self._trusted_uids = {0, os.geteuid(), os.stat(path.parent).st_uid}
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Stop listening, remove the socket, drop all connections and give up what is being opened."""
        if self._socket.fileno() == -1:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)
        for link in list(self._links):
            link.close()

    def _accept(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        if self._is_trusted(peer) and len(self._links) < MAX_LINKS:
            self._links.add(_ServedLink(peer, self._connect, self._links.discard))
        else:
            peer.close()

    def _is_trusted(self, peer: socket.socket) -> bool:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        return uid in self._trusted_uids


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, through a descriptor of its folder, for a path may be longer than bind() takes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


class _ServedLink:
    """One connected gateway, as the agent sees it."""

    def __init__(self, peer: socket.socket, connect: Connect, ended: Callable[[_ServedLink], None]) -> None:
        self._peer = peer
        self._connect = connect
        self._ended = ended
        self._tasks = Tasks("agent")
        self._loop = asyncio.get_running_loop()
        peer.setblocking(False)
        self._loop.add_reader(peer, self._read)

    def close(self) -> None:
        if self._peer.fileno() == -1:
            return
        self._loop.remove_reader(self._peer)
        self._peer.close()
        self._tasks.cancel()
        self._ended(self)

    def _read(self) -> None:
        """One message; the loop calls again while there are more."""
        try:
            # recv, not recvmsg: descriptors that a peer sends along are dropped by the kernel.
            data = self._peer.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not self._take(data):
            self.close()

    def _take(self, data: bytes) -> bool:
        """Whether the peer keeps to the protocol."""
        try:
            request = _decode_request(data)
        except UNREADABLE:
            return False
        if len(self._tasks) >= MAX_PENDING:
            self._send_error(
                request.id, Overloaded(f"over {MAX_PENDING} connections are being opened", retry_after_s=1)
            )
            return True
        self._tasks.spawn(self._answer(request))
        return True

    async def _answer(self, request: Request) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                opened = await self._connect(request.app, request.workload)
        except MotesError as error:
            self._send_error(request.id, error)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or f"nothing within {ANSWER_TIMEOUT_S:g} s"
            self._send_error(request.id, Unavailable(f"{request.app}.{request.workload} takes no connection: {reason}"))
        else:
            with opened:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [opened.fileno()]))
                self._send(_encode(Answer(request.id, ok=True)), [rights])

    def _send_error(self, number: int, error: MotesError) -> None:
        data = _encode(Answer(number, error=error.to_wire()))
        if len(data) > MAX_MESSAGE_BYTES:
            data = _encode(Answer(number, error=type(error)(error.message[:1024]).to_wire()))
        self._send(data, [])

    def _send(self, data: bytes, ancillary: list[tuple[int, int, array.array[int]]]) -> None:
        try:
            self._peer.sendmsg([data], ancillary)
        except OSError:
            # Gone, or so far behind that its queue is full: either way it asks again on a new connection.
            self.close()
