"""The agent's end of one instance: its channel, its output and its process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from motes.model.call import STATUS_OK, Outcome
from motes.model.instance import EndReason
from motes.space.guest.wire import (
    ANSWER_HEAD,
    ASK,
    CALL,
    COUNT,
    ERROR,
    FRAME_LIMIT_BYTES,
    ITEM,
    ITEM_LIMIT_BYTES,
    LEAVE,
    MORE,
    MOST_NAME_BYTES,
    PAYLOAD_LIMIT_BYTES,
    RESULT,
    STOP,
    TAKEN,
    TOLD,
    frame,
)
from motes.space.measure import GONE, signal_process
from motes.space.output import Output
from motes.space.replies import Untrustworthy, outcome_of_error

LAST_WORDS_S = 1.0
"""How long after the process's end its exit status and last output are waited for."""
DRAIN_CHUNKS = 64
LEAST_UNREAD_BYTES = 64 * 2**20
"""What any instance may leave unread of the answers to its own calls; one that may use more memory, so much more."""
SHORT_BYTES = 4 * 2**10
"""An answer of this size is sent all the same: it says that another could not be."""
MOST_SHORT_BYTES = 2**20
OWN_FRAMES_AT_ONCE = 128
"""So many frames about its own calls are taken from one instance; then it is others' turn."""
TURN_S = 0.005


class LinkEvents(Protocol):
    """What a link tells the agent, on the event loop."""

    def started(self, number: int, pid: int) -> None:
        """The instance was forked; `pid` as the host sees it."""

    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None:
        """The answer to the `deliver` with this tag; how long it worked on it, as the instance says."""

    def item(self, number: int, tag: int, body: bytes) -> None:
        """One item of the stream that a call gives; its end is a `replied` with an empty result."""

    def asked(self, number: int, ask: int, tag: int, name: str, body: bytes) -> None:
        """The instance calls another function, while it works on the call with `tag`; `ask` is its number for it."""

    def left(self, number: int, ask: int) -> None:
        """The instance waits no longer for that call."""

    def taken(self, number: int, ask: int, count: int) -> None:
        """The instance has taken so many items of its stream."""

    def output(self, number: int, data: bytes) -> None:
        """A chunk of what the instance printed; number 0 is the zygote."""


_OF_ITS_CALLS = frozenset((ASK, LEAVE, TAKEN))
LinkEnded = Callable[[int, EndReason, str], None]


class Link(asyncio.Protocol):
    """Frames to and from one instance. Every byte that comes in is from the owner's code, and not trusted."""

    def __init__(
        self,
        number: int,
        ours: socket.socket,
        output: int,
        events: LinkEvents,
        ended: LinkEnded,
        memory_bytes: int = 0,
    ) -> None:
        self.number = number
        self._most_unread_bytes = max(memory_bytes, LEAST_UNREAD_BYTES)
        self.pid = 0
        self.memory_at_fork = 0
        self._events = events
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._socket = ours
        self._transport: asyncio.Transport | None = None
        self._to_write: deque[bytes] = deque()
        self._unread = bytearray()
        self._awaited: set[int] = set()
        self._pidfd = -1
        self._ending: tuple[EndReason, str] | None = None
        self._limit: tuple[EndReason, str] | None = None
        self._status: int | None = None
        self._gone = self._reported = False
        self._waits_its_turn = False
        self.output = Output(output, lambda data: events.output(number, data), self._maybe_report)
        ours.setblocking(False)

    @property
    def is_forked(self) -> bool:
        """Whether its process was made, even if it has ended since."""
        return self._pidfd >= 0

    @property
    def runs(self) -> bool:
        """Whether `pid` is a process of its own now."""
        return self.pid != GONE and not self._gone

    # What the space asks of it.

    def deliver(self, tag: int, body: bytes) -> None:
        self._awaited.add(tag)
        self._send(frame(CALL, tag, body))

    def stop(self, tag: int) -> None:
        if tag in self._awaited:
            self._send(frame(STOP, tag))

    def more(self, tag: int, count: int) -> None:
        if tag in self._awaited:
            self._send(frame(MORE, tag, COUNT.pack(count)))

    def inform(self, ask: int, outcome: Outcome) -> bool:
        """The outcome, or an item, of a call that the instance made; False: it leaves too much of them unread."""
        unread_bytes = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if unread_bytes > self._most_unread_bytes + PAYLOAD_LIMIT_BYTES + MOST_SHORT_BYTES:
            self.end(EndReason.PROTOCOL, "it does not read the answers to its calls")
        elif unread_bytes > self._most_unread_bytes and len(outcome.body) > SHORT_BYTES:
            return False
        else:
            self._send(frame(TOLD, ask, outcome.pack()))
        return True

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            return
        if not self._to_write:
            data = data[self._write_at_once(data) :]
        if data:
            self._to_write.append(data)

    def _write_at_once(self, data: bytes) -> int:
        """Before the transport stands: the socket's buffer is empty, so a small body need not wait for it."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return 0

    def forked(self, pidfd: int, pid: int) -> None:
        """The process was made. Takes `pidfd`. Raises ValueError when that was told before."""
        if self._pidfd >= 0:
            raise ValueError("it was forked before")
        self.pid, self._pidfd = pid, pidfd
        self._loop.add_reader(pidfd, self._process_ended)
        self._events.started(self.number, self.pid)
        if self._ending is not None:
            self._kill()
        elif self._unread:
            self._parse()

    def exited(self, status: int) -> None:
        """The zygote tells the wait status."""
        # A wait status has 16 bits; the zygote may say anything.
        self._status = status & 0xFFFF
        self._maybe_report()

    def end(self, reason: EndReason, detail: str) -> None:
        """Kill it; the first reason given is the one reported."""
        if self._ending is None:
            self._ending = (reason, detail)
        self._kill()

    def abandon(self, reason: EndReason, detail: str) -> None:
        """Its space is gone: report at once."""
        if self._ending is None:
            self._ending = (reason, detail)
        self.output.drain(DRAIN_CHUNKS)
        self._report()

    # What comes from the instance.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by type.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.writelines(self._to_write)
        self._to_write.clear()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._pidfd >= 0 and self._ending is None:
            if not self._waits_its_turn:
                self._parse()
        elif len(self._unread) > 2 * FRAME_LIMIT_BYTES:
            self.end(EndReason.PROTOCOL, "it sends without end")

    def connection_lost(self, exc: Exception | None) -> None:
        self._maybe_report()

    def _parse(self) -> None:
        """Take every whole frame, of those about its own calls only some at a time."""
        unread, at, own = self._unread, 0, 0
        while len(unread) - at >= ANSWER_HEAD.size and self._ending is None:
            if own == OWN_FRAMES_AT_ONCE:
                self._wait_its_turn()
                break
            length, kind, tag, worked_us = ANSWER_HEAD.unpack_from(unread, at)
            if not ANSWER_HEAD.size - 4 <= length <= FRAME_LIMIT_BYTES:
                self.end(EndReason.PROTOCOL, f"it sent a frame of {length} bytes")
                break
            if len(unread) - at < length + 4:
                break
            body = bytes(unread[at + ANSWER_HEAD.size : at + 4 + length])
            if kind in _OF_ITS_CALLS:
                self._ask(kind, tag, worked_us, body)
                own += 1
            else:
                self._answer(kind, tag, body, worked_us / 1e6)
            at += length + 4
        del unread[:at]

    def _wait_its_turn(self) -> None:
        """It sends faster than others get a word in: nothing more is read of it for a moment."""
        self._waits_its_turn = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._loop.call_later(TURN_S, self._go_on)

    def _go_on(self) -> None:
        self._waits_its_turn = False
        if self._reported:
            return
        self._parse()
        if not self._waits_its_turn and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _ask(self, kind: int, tag: int, ask: int, body: bytes) -> None:
        """About a call that the instance makes itself; whether it may, the agent decides."""
        size = body[0] if body else 0
        name = body[1 : 1 + size]
        if kind == LEAVE:
            self._events.left(self.number, ask)
        elif kind == TAKEN and len(body) == COUNT.size:
            self._events.taken(self.number, ask, COUNT.unpack(body)[0])
        elif kind == ASK and 0 < len(name) == size <= MOST_NAME_BYTES and name.isascii():
            self._events.asked(self.number, ask, tag, name.decode(), body[1 + size :])
        else:
            self.end(EndReason.PROTOCOL, "it makes a call that is none")

    def _answer(self, kind: int, tag: int, body: bytes, worked_s: float) -> None:
        if tag not in self._awaited:
            self.end(EndReason.PROTOCOL, "it answered what nobody asked")
            return
        if kind == ITEM and len(body) <= ITEM_LIMIT_BYTES:
            self._events.item(self.number, tag, body)
            return
        self._awaited.remove(tag)
        if kind == RESULT and len(body) <= PAYLOAD_LIMIT_BYTES:
            self._events.replied(self.number, tag, Outcome(STATUS_OK, body), worked_s)
        elif kind == ERROR:
            self._error(tag, body, worked_s)
        else:
            self.end(EndReason.PROTOCOL, f"it sent a frame of kind {kind} with {len(body)} bytes")

    def _error(self, tag: int, body: bytes, worked_s: float) -> None:
        try:
            outcome, limit = outcome_of_error(body)
        except Untrustworthy as error:
            self.end(EndReason.PROTOCOL, str(error))
            return
        if limit is not None:
            self._limit = limit
        self._events.replied(self.number, tag, outcome, worked_s)

    # Its end.

    def _kill(self) -> None:
        if self._pidfd >= 0 and not self._gone:
            signal_process(self._pidfd, signal.SIGKILL)

    def _process_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._gone = True
        self._loop.call_later(LAST_WORDS_S, self._report)
        self._maybe_report()

    def _maybe_report(self) -> None:
        """Report once the process is gone and why is known; its last answer and output go before that."""
        if not self._gone or self._reported or (self._status is None and self._ending is None):
            return
        channel_open = self._transport is None or not self._transport.is_closing()
        if self._ending is None and channel_open:
            return
        self._report()

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        self.output.drain(DRAIN_CHUNKS)
        self.output.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._socket.close()
        self._ended(self.number, *self._why())

    def _why(self) -> tuple[EndReason, str]:
        return self._ending or self._limit or reason_of_status(self._status)


def reason_of_status(status: int | None) -> tuple[EndReason, str]:
    """Why a process ended, from its wait status."""
    if status is None:
        return EndReason.CRASHED, "its exit status is not known"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return EndReason.CRASHED, signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    code = os.WEXITSTATUS(status)
    return (EndReason.RETURNED, "exit code 0") if code == 0 else (EndReason.EXITED, f"exit code {code}")
