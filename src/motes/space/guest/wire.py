"""What passes between an agent and the processes of a space. Stdlib only: both sides import this.

Instance channel (a stream): frames of 4 bytes length (big-endian, of what follows), 1 byte kind, 4 bytes tag, body.
The tag is the call's. An answer has 4 bytes between tag and body: the microseconds that the instance worked, by its
own clock.
    CALL    agent -> instance    the body of a call; the instance answers each with one RESULT or ERROR
    STOP    agent -> instance    nobody waits for the call any more: it is answered soon, with what does not matter
    MORE    agent -> instance    4 bytes: so many items of the call's stream were taken
    ITEM    instance -> agent    one item of a stream, at most WINDOW_ITEMS more than were taken
    RESULT  instance -> agent    the result; nothing at the end of a stream
    ERROR   instance -> agent    JSON of an error, see motes.errors
    ASK     instance -> agent    call another function: 1 byte size of its name, name, body. Instead of the microseconds
                                 the call's number, the instance's own; the tag is of the call that it works on
    LEAVE   instance -> agent    nobody waits for the call with this number any more
    TAKEN   instance -> agent    4 bytes: so many items of its stream were taken
    TOLD    agent -> instance    status (motes.model.call) in 1 byte, body: what it came to, or an item; tag: number
Control channel (one message a packet): 1 byte kind, JSON, and descriptors.
    OPEN    agent -> zygote      what to load, and the filters
    HELLO   zygote -> agent      the zygote lives; descriptors: its pidfd, its /tmp
    PART    zygote -> agent      JSON that continues in the next packet
    LOADED  zygote -> agent      the app's functions
    FAILED  zygote -> agent      why the app cannot be loaded
    SPAWN   agent -> zygote      fork an instance; descriptors: its channel, its output
    FORKED  zygote -> agent      it was forked; descriptor: its pidfd
    EXITED  zygote -> agent      its wait status
    REFUSED zygote -> agent      it could not be forked
    MAKE    agent -> helper      make sockets in the space's network
    SOCKETS helper -> agent      they are the descriptors: SOCKETS_AT_ONCE, AF_INET, unconnected
    LIMIT   script -> agent      it ends because of a limit
"""

from __future__ import annotations

import os
import struct

CALL, RESULT, ERROR, STOP, ITEM, MORE = 1, 2, 3, 4, 5, 6
ASK, LEAVE, TAKEN, TOLD = 7, 8, 9, 10
COUNT = struct.Struct(">I")
OPEN, HELLO, PART, LOADED, FAILED, SPAWN, FORKED, EXITED = 16, 17, 18, 19, 20, 21, 22, 23
MAKE, SOCKETS, LIMIT, REFUSED = 24, 25, 26, 27

SOCKETS_AT_ONCE = 8

FRAME_HEAD = struct.Struct(">IBI")
ANSWER_HEAD = struct.Struct(">IBII")
PAYLOAD_LIMIT_BYTES = 8 * 2**20
ITEM_LIMIT_BYTES = 2**20
WINDOW_ITEMS = 8
MOST_NAME_BYTES = 128
FRAME_LIMIT_BYTES = PAYLOAD_LIMIT_BYTES + ANSWER_HEAD.size - 4 + 1 + MOST_NAME_BYTES
"""The most that a frame's length may say."""
PACKET_LIMIT_BYTES = 64 * 2**10
PART_BYTES = 32 * 2**10

_READ_BYTES = 64 * 2**10
_READ_AT_ONCE_BYTES = 4096
"""Most frames are smaller; room for more would be memory that each idle instance holds."""


class Closed(Exception):
    """The other side has closed the channel."""


class Frames:
    """The frames that come on a channel, one after the other. What is read beyond one is kept for the next."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = b""

    def next(self) -> tuple[int, int, bytes]:
        """Wait for one: `(kind, tag, body)`. Raises Closed."""
        data = self._unread or _read_some(self._descriptor, _READ_AT_ONCE_BYTES)
        while len(data) < FRAME_HEAD.size:
            data += _read_some(self._descriptor, _READ_AT_ONCE_BYTES)
        length, kind, tag = FRAME_HEAD.unpack_from(data)
        end = length + 4
        self._unread = data[end:]
        body = data[FRAME_HEAD.size : end]
        if len(data) >= end:
            return kind, tag, body
        parts, missing = [body], end - len(data)
        while missing:
            parts.append(_read_some(self._descriptor, min(missing, _READ_BYTES)))
            missing -= len(parts[-1])
        return kind, tag, b"".join(parts)


def _read_some(descriptor: int, most: int) -> bytes:
    data = os.read(descriptor, most)
    if not data:
        raise Closed
    return data


def frame(kind: int, tag: int, body: bytes = b"") -> bytes:
    """What an agent sends."""
    return FRAME_HEAD.pack(len(body) + FRAME_HEAD.size - 4, kind, tag) + body


def answer_head(kind: int, tag: int, worked_us: int, size: int) -> bytes:
    """What goes before an answer's body of `size` bytes."""
    return ANSWER_HEAD.pack(size + ANSWER_HEAD.size - 4, kind, tag, min(worked_us, 2**32 - 1))


def write_answer(descriptor: int, kind: int, tag: int, worked_us: int, body: bytes) -> None:
    """Write the frame of an answer whole. Raises Closed when nobody reads any more."""
    head = answer_head(kind, tag, worked_us, len(body))
    try:
        if len(body) < _READ_BYTES:
            _write_all(descriptor, head + body)
        else:
            _write_all(descriptor, head)
            _write_all(descriptor, body)
    except (BrokenPipeError, ConnectionResetError):
        raise Closed from None


def _write_all(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
