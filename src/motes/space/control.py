"""The agent's end of a space's control channel: packets with descriptors, never blocking the loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from motes.model.bounds import UNREADABLE
from motes.space.guest.wire import PACKET_LIMIT_BYTES, PART

MOST_DESCRIPTORS = 16
"""In one packet from inside."""
PACKETS_AT_ONCE = 64
"""Who sends without end must not keep the agent from all others."""
RETRY_S = 0.005
MOST_WAITING = 4096
"""Packets that the other side has not taken yet; more than this breaks the channel."""
LONGEST_MESSAGE_BYTES = 16 * 2**20
"""The most that PART packets may add up to."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Received = Callable[[int, dict[str, Any], list[int]], None]
"""Is given a packet's kind, data and descriptors, and closes these."""


class ControlChannel:
    """Talks SOCK_SEQPACKET to the trusted code in a space, which may since have been taken over by what it loaded.

    `received` is called for each packet; `broken` once, when the other side is gone or sends what is no packet.
    """

    def __init__(self, ours: socket.socket, received: Received, broken: Callable[[str], None]) -> None:
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._received = received
        self._broken = broken
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self._parts = bytearray()
        self._open = True
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._read_some)

    def send(self, kind: int, data: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a packet with descriptors, which are closed once they are on their way; nothing goes when broken."""
        if not self._open:
            _close_all(descriptors)
            return
        self._waiting.append((bytes((kind,)) + _encode(data), descriptors))
        if len(self._waiting) > MOST_WAITING:
            self._break("it does not take its messages")
        elif len(self._waiting) == 1:
            self._write()

    def _write(self) -> None:
        while self._waiting and self._open:
            packet, descriptors = self._waiting[0]
            try:
                socket.send_fds(self._socket, [packet], descriptors, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    # Too many descriptors of this user are on their way, in whatever space; they soon arrive.
                    self._loop.call_later(RETRY_S, self._write)
                else:
                    self._break(f"its control channel broke: {error}")
                return
            self._waiting.popleft()
            _close_all(descriptors)
        if self._open:
            self._loop.remove_writer(self._socket.fileno())

    def read(self) -> None:
        """Take every packet that is there; for one that sends no more."""
        while self._read_some():
            pass

    def _read_some(self) -> bool:
        """Take some packets, then it is others' turn; the loop calls again. False when nothing more is there."""
        for _ in range(PACKETS_AT_ONCE):
            if not self._open:
                return False
            try:
                packet, descriptors, _, _ = socket.recv_fds(
                    self._socket, PACKET_LIMIT_BYTES, MOST_DESCRIPTORS, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return False
            except OSError as error:
                self._break(f"its control channel broke: {error}")
                return False
            self._take(packet, descriptors)
        return True

    def _take(self, packet: bytes, descriptors: list[int]) -> None:
        if not packet:
            _close_all(descriptors)
            self._break("it closed its control channel")
            return
        self._parts += memoryview(packet)[1:]
        if packet[0] == PART and len(self._parts) < LONGEST_MESSAGE_BYTES:
            _close_all(descriptors)
            return
        try:
            data = _decode(self._parts)
        except UNREADABLE:
            _close_all(descriptors)
            self._break("it sent what is no message")
            return
        self._parts = bytearray()
        self._received(packet[0], data, descriptors)

    def _break(self, why: str) -> None:
        self.close()
        self._broken(why)

    def close(self) -> None:
        """Close our end, and what was still to be sent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for _, descriptors in self._waiting:
            _close_all(descriptors)
        self._waiting.clear()


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
