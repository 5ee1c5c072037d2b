"""An instance of an async function that works on several calls at a time, on one event loop."""

from __future__ import annotations

import asyncio
import os
from time import monotonic_ns

from motes.space.guest import wire
from motes.space.guest.instance import EXIT_LIMIT, Caller, flush
from motes.space.guest.wire import CALL, COUNT, ERROR, FRAME_HEAD, ITEM, MORE, STOP, WINDOW_ITEMS

_READ_BYTES = 256 * 2**10
_NEVER_BEGUN = b'{"code":"function_error","message":"stopped before it began","detail":{}}'


def serve(caller: Caller, descriptor: int) -> int:
    """Answer calls until the agent is gone or a limit is reached; returns the exit code."""

    async def run() -> int:
        return await _Channel(caller, descriptor).serve()

    code: int = caller.runner().run(run())
    return code


class _Channel:
    """Frames in and out; each call is a task of the loop that runs, and a STOP cancels it."""

    def __init__(self, caller: Caller, descriptor: int) -> None:
        self._caller = caller
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._windows: dict[int, asyncio.Semaphore] = {}
        """How many items of each call's stream may be sent now."""
        self._unread = bytearray()
        self._unsent = bytearray()
        self._is_last = False
        self._ended: asyncio.Future[int] = self._loop.create_future()

    async def serve(self) -> int:
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._read)
        return await self._ended

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(0)
            return
        self._unread += data
        at = 0
        while len(self._unread) - at >= FRAME_HEAD.size:
            length, kind, tag = FRAME_HEAD.unpack_from(self._unread, at)
            if len(self._unread) - at < length + 4:
                break
            self._take(kind, tag, bytes(self._unread[at + FRAME_HEAD.size : at + length + 4]))
            at += length + 4
        del self._unread[:at]

    def _take(self, kind: int, tag: int, body: bytes) -> None:
        if kind == CALL:
            self._windows[tag] = asyncio.Semaphore(WINDOW_ITEMS)
            task = self._tasks[tag] = self._loop.create_task(self._work(tag, body))
            task.add_done_callback(lambda task: self._done(tag, task))
        elif kind == STOP and tag in self._tasks:
            self._tasks[tag].cancel()
        elif kind == MORE and tag in self._windows:
            for _ in range(COUNT.unpack(body)[0]):
                self._windows[tag].release()

    def _done(self, tag: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(tag, None)
        self._windows.pop(tag, None)
        if task.cancelled():
            # It was stopped before it began.
            self._send(wire.answer_head(ERROR, tag, 0, len(_NEVER_BEGUN)) + _NEVER_BEGUN)

    async def _work(self, tag: int, body: bytes) -> None:
        began_ns = monotonic_ns()
        if self._caller.streams:
            kind, answer, last = await self._caller.stream_later(body, lambda item: self._send_item(tag, item))
        else:
            kind, answer, last = await self._caller.answer_later(body)
        flush()
        worked_us = (monotonic_ns() - began_ns) // 1000
        self._is_last = self._is_last or last
        self._send(wire.answer_head(kind, tag, worked_us, len(answer)) + answer)

    async def _send_item(self, tag: int, item: bytes) -> None:
        await self._windows[tag].acquire()
        flush()
        self._send(wire.answer_head(ITEM, tag, 0, len(item)) + item)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        self._unsent += data
        self._write()
        if self._unsent:
            self._loop.add_writer(self._descriptor, self._write)

    def _write(self) -> None:
        try:
            del self._unsent[: os.write(self._descriptor, self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._end(0)
            return
        if not self._unsent:
            self._loop.remove_writer(self._descriptor)
            if self._is_last:
                self._end(EXIT_LIMIT)

    def _end(self, code: int) -> None:
        self._loop.remove_reader(self._descriptor)
        if not self._ended.done():
            self._ended.set_result(code)
