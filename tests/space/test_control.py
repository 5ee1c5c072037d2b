"""What the trusted code in a space may have been made to send, once the app's own code runs beside it."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from motes.space.control import MOST_DESCRIPTORS, PACKETS_AT_ONCE, ControlChannel
from motes.space.guest.wire import EXITED

DEEP = b'{"number": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
"""JSON of a kind that no recursive reader takes."""


class Space:
    """The other side of a channel, which sends what it likes."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.taken: list[tuple[int, dict[str, Any]]] = []
        self.broken: list[str] = []
        self.channel = ControlChannel(ours, self._take, self.broken.append)

    def _take(self, kind: int, data: dict[str, Any], descriptors: list[int]) -> None:
        self.taken.append((kind, data))
        for descriptor in descriptors:
            os.close(descriptor)


def with_a_space(test: Callable[[Space], Awaitable[None]]) -> None:
    async def run() -> None:
        space = Space()
        async with asyncio.timeout(30):
            await test(space)
        space.channel.close()
        space.theirs.close()

    uvloop.run(run())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_message_too_deep_to_be_read_breaks_the_channel_and_leaves_no_descriptor() -> None:
    async def test(space: Space) -> None:
        before = open_files()
        socket.send_fds(space.theirs, [bytes((EXITED,)) + DEEP], [space.theirs.fileno()] * MOST_DESCRIPTORS)
        while not space.broken:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert space.broken == ["it sent what is no message"] and not space.taken
        assert open_files() == before - 1, "only the channel's own end is closed"

    with_a_space(test)


def fill(theirs: socket.socket) -> int:
    """Send as many packets as the channel holds; returns how many."""
    theirs.setblocking(False)
    for sent in itertools.count():
        try:
            theirs.send(bytes((EXITED,)) + b'{"number": %d}' % sent)
        except BlockingIOError:
            return sent
    raise AssertionError


def test_a_space_that_sends_without_end_leaves_others_their_turn() -> None:
    async def test(space: Space) -> None:
        sent = fill(space.theirs)
        while not space.taken:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(space.taken) < sent, "this test had a turn in between"
        while len(space.taken) < sent:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with_a_space(test)


def test_what_was_sent_before_the_end_is_all_taken() -> None:
    async def test(space: Space) -> None:
        sent = fill(space.theirs)
        space.theirs.close()
        space.channel.read()
        assert [data["number"] for _, data in space.taken] == list(range(sent)) and sent > 2 * PACKETS_AT_ONCE
        assert space.broken == ["it closed its control channel"]

    with_a_space(test)
