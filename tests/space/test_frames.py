"""What an instance reads from its channel, however the bytes come."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from motes.space.guest.wire import CALL, MORE, Closed, Frames, frame

SENT = [(CALL, 1, b"x"), (MORE, 2, b""), (CALL, 3, b"y" * 100_000), (CALL, 4, b"z" * 4087), (CALL, 5, b"")]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_frames_that_come_together_are_taken_one_by_one(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sending = threading.Thread(target=_write, args=(writer, b"".join(frame(*each) for each in SENT)))
    sending.start()
    frames = Frames(reader)
    assert [frames.next() for _ in SENT] == SENT
    sending.join()


def test_a_frame_that_comes_byte_by_byte_is_one() -> None:
    # Each packet is a read of its own.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for byte in frame(CALL, 1, b"hello") + frame(CALL, 2, b"there"):
            ours.send(bytes((byte,)))
        frames = Frames(theirs.fileno())
        assert [frames.next() for _ in range(2)] == [(CALL, 1, b"hello"), (CALL, 2, b"there")]


@pytest.mark.parametrize("kept", [0, 3, 9, 12])
def test_a_channel_that_ends_in_a_frame_or_after_one_is_closed(pipe: tuple[int, int], kept: int) -> None:
    reader, writer = pipe
    _write(writer, frame(CALL, 1, b"whole") + frame(CALL, 2, b"broken")[:kept])
    frames = Frames(reader)
    assert frames.next() == (CALL, 1, b"whole")
    with pytest.raises(Closed):
        frames.next()


def _write(writer: int, data: bytes) -> None:
    while data:
        data = data[os.write(writer, data) :]
    os.close(writer)
