"""A space's end of the control channel: packets with descriptors, made with the standard library's lightest parts."""

from __future__ import annotations

import _socket
import errno
import os
import sys
import time
from collections.abc import Sequence

from motes.space.guest.wire import PACKET_LIMIT_BYTES, PART, PART_BYTES

_DESCRIPTOR_BYTES = 4
_MOST_DESCRIPTORS = 4
_TRIES, _RETRY_S = 1000, 0.005


class Packets:
    """SOCK_SEQPACKET: what is sent in one piece arrives in one piece."""

    def __init__(self, descriptor: int) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=descriptor)
        self._socket.setblocking(True)
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def let_go(self) -> None:
        """Leave the descriptor to others."""
        self._socket.detach()

    def receive(self) -> tuple[int, bytes, list[int]]:
        """Wait for a packet: `(kind, text, descriptors)`; kind 0 when the agent is gone."""
        room = _socket.CMSG_SPACE(_MOST_DESCRIPTORS * _DESCRIPTOR_BYTES)
        packet, ancillary, _, _ = self._socket.recvmsg(PACKET_LIMIT_BYTES, room)
        if not packet:
            return 0, b"", []
        words = b"".join(data for _, _, data in ancillary)
        places = range(0, len(words), _DESCRIPTOR_BYTES)
        descriptors = [int.from_bytes(words[at : at + _DESCRIPTOR_BYTES], sys.byteorder) for at in places]
        return packet[0], packet[1:], descriptors

    def send(self, kind: int, text: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send JSON text, in as many packets as it needs; the descriptors go with the last."""
        last = max(len(text) - 1, 0) // PART_BYTES * PART_BYTES
        for at in range(0, last, PART_BYTES):
            self._socket.send(bytes((PART,)) + text[at : at + PART_BYTES])
        words = b"".join(descriptor.to_bytes(_DESCRIPTOR_BYTES, sys.byteorder) for descriptor in descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, words)] if words else []
        packet = bytes((kind,)) + text[last:]
        for _ in range(_TRIES):
            try:
                self._socket.sendmsg([packet], ancillary)
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                # The kernel counts the descriptors that all of a user's processes have on their way.
                time.sleep(_RETRY_S)
        raise OSError(errno.ETOOMANYREFS, "too many descriptors are on their way")

    def hand_over(self, kind: int, text: bytes, descriptors: Sequence[int]) -> None:
        """Send them and close them here."""
        self.send(kind, text, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
