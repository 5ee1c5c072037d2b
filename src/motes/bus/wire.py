"""The NATS client protocol over one TCP connection: bytes in, callbacks out.

This is the way of every call, so it has no tasks, queues or futures between the socket and a callback: all frames
of one read are handled in one go, and everything published in one turn of the loop leaves in one write.
Reconnecting, subscribing again and requests are connection.py's. https://docs.nats.io/reference/nats-protocol
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

OUTBOX_LIMIT_BYTES = 32 * 2**20
"""More than this unsent and `publish` drops; the server gives up on a client at about the same."""
FRAME_LIMIT_BYTES = 16 * 2**20
LINE_LIMIT_BYTES = 64 * 2**10
FLUSHES_LIMIT = 1024

_log = logging.getLogger("motes.bus")


class Message(NamedTuple):
    """What arrived on a subject. `no_responders`: the server says that nobody hears what was asked (status 503)."""

    subject: str
    reply: str
    data: bytes
    no_responders: bool
    headers: bytes = b""
    """As they came, from `NATS/1.0` on."""


class ProtocolBroken(Exception):
    """The peer sent something that is not the NATS protocol, or over a limit."""


@lru_cache(maxsize=4096)
def _subject_bytes(subject: str) -> bytes:
    """A subject for the wire; one with the protocol's white space in it could smuggle in commands. Raises ValueError.

    Nothing else is refused: a reply subject is the asker's choice, and whoever answers must not stumble over it.
    """
    if not subject or _has_white_space(subject):
        raise ValueError(f"{subject!r} is no subject")
    return subject.encode()


def _has_white_space(subject: str) -> bool:
    return " " in subject or "\r" in subject or "\n" in subject or "\t" in subject


class Wire(asyncio.Protocol):
    """One connection. `handlers` maps a subscription's number, as bytes, to its callback.

    With `deaf` only a greeting is taken until `start_tls`: before that anybody on the way may speak.
    """

    def __init__(
        self,
        handlers: dict[bytes, Callable[[Message], None]],
        on_refused: Callable[[str], None],
        on_lost: Callable[[], None],
        *,
        deaf: bool = False,
    ) -> None:
        self._deaf = deaf
        self._handlers = handlers
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._needed_bytes = 0
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._choked = False
        self._pongs: deque[asyncio.Future[None]] = deque()
        self.info: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self.open = False
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is over."""
        self.reads = 0
        """How often something came in."""

    # From here on: what the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTBOX_LIMIT_BYTES)
        self.open = True

    def connection_lost(self, reason: Exception | None) -> None:
        self.open = False
        self._outbox.clear()
        lost = ConnectionError("the connection to NATS ended")
        waiting: list[asyncio.Future[Any]] = [self.info, *self._pongs]
        for future in waiting:
            if not future.done():
                future.set_exception(lost)
                future.exception()  # Whoever no longer waits shall not be told at garbage collection.
        self._pongs.clear()
        if not self.ended.done():
            self.ended.set_result(None)
        self._on_lost()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return
            data = bytes(self._rest)
            self._rest.clear()
        try:
            handled = self._take_greeting(data) if self._deaf else self._handle_frames(data)
        except (ProtocolBroken, ValueError, IndexError) as error:
            _log.error("NATS sent something that cannot be read: %s", error)
            self.abort()
            return
        if handled < len(data):
            self._rest += data[handled:]

    # From here on: reading.

    def _take_greeting(self, data: bytes) -> int:
        """One whole INFO and nothing behind it; what comes in pieces waits."""
        if self.info.done() or len(data) > LINE_LIMIT_BYTES:
            raise ProtocolBroken("more than a greeting before TLS")
        end = data.find(b"\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"INFO ") or end != len(data) - 2:
            raise ProtocolBroken("more than a greeting before TLS")
        self._handle_line(data[:end])
        return len(data)

    def _handle_frames(self, data: bytes) -> int:
        """Handle every whole frame in `data`; return how many bytes those were."""
        position, length, find = 0, len(data), data.find
        self._needed_bytes = 0
        while position < length:
            line_end = find(b"\r\n", position)
            if line_end < 0:
                if length - position > LINE_LIMIT_BYTES:
                    raise ProtocolBroken("a line that does not end")
                break
            line = data[position:line_end]
            if line.startswith(b"MSG "):
                start = line_end + 2
                end = start + int(line[line.rindex(b" ") :])
                if end + 2 > length:
                    self._expect(end + 2 - position)
                    break
                position = end + 2
                self._handle_message(line.split(b" "), data[start:end])
            elif line.startswith(b"HMSG "):
                start = line_end + 2
                end = start + int(line[line.rindex(b" ") :])
                if end + 2 > length:
                    self._expect(end + 2 - position)
                    break
                position = end + 2
                self._handle_message_with_headers(line.split(b" "), data[start:end])
            else:
                position = line_end + 2
                self._handle_line(line)
        return position

    def _expect(self, frame_bytes: int) -> None:
        if frame_bytes > FRAME_LIMIT_BYTES:
            raise ProtocolBroken(f"a message of {frame_bytes} bytes")
        self._needed_bytes = frame_bytes

    def _handle_message(self, fields: list[bytes], data: bytes) -> None:
        handler = self._handlers.get(fields[2])
        if handler is None:
            return
        try:
            # Inside: another user chose the reply subject, and it need not even be text.
            reply = fields[3].decode() if len(fields) == 5 else ""
            handler(Message(fields[1].decode(), reply, data, False))
        except Exception:
            _log.exception("a handler of %s failed", fields[1])

    def _handle_message_with_headers(self, fields: list[bytes], data: bytes) -> None:
        handler = self._handlers.get(fields[2])
        if handler is None:
            return
        headers, body = data[: int(fields[-2])], data[int(fields[-2]) :]
        try:
            reply = fields[3].decode() if len(fields) == 6 else ""
            handler(Message(fields[1].decode(), reply, body, headers.startswith(b"NATS/1.0 503"), headers))
        except Exception:
            _log.exception("a handler of %s failed", fields[1])

    def _handle_line(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG":
            if self._pongs and not (waiting := self._pongs.popleft()).done():
                waiting.set_result(None)
        elif line.startswith(b"-ERR"):
            self._on_refused(line[4:].decode(errors="replace").strip(" '"))
        elif line.startswith(b"INFO "):
            if not isinstance(info := json.loads(line[5:]), dict):
                raise ProtocolBroken(repr(line[:40]))
            if not self.info.done():
                self.info.set_result(info)
        elif line != b"+OK":
            raise ProtocolBroken(repr(line[:40]))

    # From here on: writing.

    def publish(self, subject: str, payload: bytes, reply: str) -> bool:
        """Send one message; False when too much is unsent, and then it is dropped. Raises ValueError for no subject."""
        if self._choked or self._outbox_bytes > OUTBOX_LIMIT_BYTES:
            return False
        if not reply:
            self.send(b"PUB %b %d\r\n%b\r\n" % (_subject_bytes(subject), len(payload), payload))
            return True
        if _has_white_space(reply):
            raise ValueError(f"{reply!r} is no subject")
        self.send(b"PUB %b %b %d\r\n%b\r\n" % (_subject_bytes(subject), reply.encode(), len(payload), payload))
        return True

    def publish_with_headers(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> bool:
        """The same with headers, as name and value. Raises ValueError for one that could smuggle in another."""
        if self._choked or self._outbox_bytes > OUTBOX_LIMIT_BYTES:
            return False
        if any("\r" in text or "\n" in text for text in (*headers, *headers.values())) or any(
            ":" in n for n in headers
        ):
            raise ValueError("a header of more than one line")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        told = b"NATS/1.0\r\n" + head.encode() + b"\r\n"
        sizes = len(told), len(told) + len(payload)
        self.send(b"HPUB %b %d %d\r\n%b%b\r\n" % (_subject_bytes(subject), *sizes, told, payload))
        return True

    def subscribe(self, number: bytes, subject: str, queue: str = "") -> None:
        """With `queue`, one of those that name it hears each message."""
        told = _subject_bytes(subject) + (b" " + _subject_bytes(queue) if queue else b"")
        self.send(b"SUB %b %b\r\n" % (told, number))

    def unsubscribe(self, number: bytes) -> None:
        self.send(b"UNSUB %b\r\n" % number)

    def connect(self, options: dict[str, Any]) -> None:
        self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")

    def ping(self) -> asyncio.Future[None]:
        """Ends when the server has handled everything sent so far. Raises ConnectionError when it does not."""
        pong: asyncio.Future[None] = self._loop.create_future()
        if not self.open or len(self._pongs) >= FLUSHES_LIMIT:
            pong.set_exception(ConnectionError("the connection to NATS has ended"))
            return pong
        self._pongs.append(pong)
        self.send(b"PING\r\n")
        return pong

    def send(self, frame: bytes) -> None:
        """Queue a frame; all frames of one turn of the loop leave together, in order."""
        if not self._outbox:
            self._loop.call_soon(self._write_out)
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)

    def _write_out(self) -> None:
        frames = self._outbox
        if not frames or self._transport is None:
            return
        self._outbox = []
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self._outbox_bytes -= len(data)
        self._transport.write(data)

    @property
    def unsent_bytes(self) -> int:
        """What the server has not taken yet."""
        return self._outbox_bytes + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    @property
    def transport(self) -> asyncio.Transport:
        """The one that stands now."""
        assert self._transport is not None
        return self._transport

    async def start_tls(self, context: ssl.SSLContext, name: str | None = None) -> None:
        """Go on over TLS; before anything was sent or heard. Raises OSError, of which ssl.SSLError is one.

        `name` is what an authority has to vouch for, if `context` wants one to.
        """
        if self._rest:
            raise ConnectionError("it said more than its greeting before TLS")
        transport = await self._loop.start_tls(self.transport, self, context, server_hostname=name)
        if transport is None:
            raise ConnectionError("the connection to NATS ended")
        transport.set_write_buffer_limits(high=OUTBOX_LIMIT_BYTES)
        self._transport, self._deaf = transport, False

    def close(self) -> None:
        """Send what is queued, then end the connection."""
        if self._transport is not None:
            self._write_out()
            self._transport.close()

    def abort(self) -> None:
        """End the connection now, if it is not over."""
        # Early Pythons 3.11 fail where one over TLS is ended again.
        if self._transport is not None and self.open:
            self._transport.abort()
