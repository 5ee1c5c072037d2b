"""A network cable between two network namespaces: two TAP devices, and a thread that carries the frames.

It can lose, delay and drop frames, one way or both, and be a firewall, which the traffic control of many kernels
cannot. Needs root and /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import select
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

from lab.harm import End, Line
from lab.namespaces import ip

TUN = Path("/dev/net/tun")
_SET_INTERFACE = 0x400454CA
_TAP, _NO_PACKET_INFORMATION = 0x0002, 0x1000
_FRAME_BYTES = 65536
_MOST_WAITING = 4096
"""Frames on the cable at a time; what is more is lost, as in a full queue."""
_ARP, _IPV4, _IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
_TCP, _ICMPV6, _NEIGHBOURS = 6, 58, (135, 136)
_SYN, _ACK = 0x02, 0x10

numbers = itertools.count(1)


class Flow(NamedTuple):
    """A TCP connection as the machine sees it: both addresses and both ports, as they stand in a packet of its own."""

    source: bytes
    target: bytes
    ports: bytes


class Cable(Line):
    """Between a device in the keeper's namespace and one in the machine's; `close` takes it away."""

    def __init__(self, keepers: tuple[str, str], machines: tuple[str, str]) -> None:
        """Each end is a namespace and the name of the device in it."""
        super().__init__()
        self.only_outgoing = False
        """A firewall before the machine: what comes from outside must belong to a connection that it opened."""
        self._taps: dict[int, End] = {_tap(*keepers): "keeper", _tap(*machines): "machine"}
        self._other = dict(zip(self._taps, reversed(self._taps), strict=True))
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._flows: set[Flow] = set()
        self._ends, self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._end)
        self._thread.join()
        for descriptor in (self._ends, *self._taps):
            os.close(descriptor)

    def _carry(self) -> None:
        poll = select.poll()
        for descriptor in (self._ends, *self._taps):
            poll.register(descriptor, select.POLLIN)
        while True:
            pause_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else 1.0
            for descriptor, _ in poll.poll(pause_s * 1000):
                if descriptor == self._ends:
                    return
                self._take(descriptor)
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(self._waiting)
                self._give(to, frame)

    def _take(self, tap: int) -> None:
        frame = os.read(tap, _FRAME_BYTES)
        to = self._other[tap]
        if not self._passes(self._taps[to], frame) or self.loses():
            return
        if self.delay_s == 0.0 and not self._waiting:
            self._give(to, frame)
        elif len(self._waiting) < _MOST_WAITING:
            heapq.heappush(self._waiting, (time.monotonic() + self.delay_s, next(numbers), to, frame))

    def _give(self, tap: int, frame: bytes) -> None:
        if not self.is_cut[self._taps[tap]]:
            try:
                os.write(tap, frame)
            except OSError:
                return  # The machine at that end is gone, or its device down.

    def _passes(self, to: End, frame: bytes) -> bool:
        if self.is_cut[to]:
            return False
        if (found := _segment(frame)) is None:
            return not self.only_outgoing or _finds_neighbours(frame)
        flow, flags = found
        if to == "keeper":
            if flags & _SYN and not flags & _ACK:
                self._flows.add(flow)
            return True
        back = Flow(flow.target, flow.source, flow.ports[2:] + flow.ports[:2])
        return not self.only_outgoing or back in self._flows


def _segment(frame: bytes) -> tuple[Flow, int] | None:
    """Of TCP, as whoever sends it sees it, and its flags; None for what is none."""
    kind, packet = frame[12:14], frame[14:]
    if kind == _IPV4 and packet[9] == _TCP:
        source, target, rest = packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4 :]
    elif kind == _IPV6 and packet[6] == _TCP:
        source, target, rest = packet[8:24], packet[24:40], packet[40:]
    else:
        return None
    return Flow(source, target, rest[:4]), rest[13]


def _finds_neighbours(frame: bytes) -> bool:
    """ARP, and what is in its place with IPv6. Nothing else has any business here."""
    return frame[12:14] == _ARP or (frame[12:14] == _IPV6 and frame[20] == _ICMPV6 and frame[54] in _NEIGHBOURS)


def _tap(namespace: str, name: str) -> int:
    """A new TAP device of that name in that namespace, up; it goes when the descriptor is closed."""
    made = f"lab{os.getpid() % 10**7}x{next(numbers)}"
    descriptor = os.open(TUN, os.O_RDWR)
    fcntl.ioctl(descriptor, _SET_INTERFACE, struct.pack("16sH22x", made.encode(), _TAP | _NO_PACKET_INFORMATION))
    ip("link", "set", made, "netns", namespace, "name", name)
    ip("-n", namespace, "link", "set", name, "up")
    return descriptor
