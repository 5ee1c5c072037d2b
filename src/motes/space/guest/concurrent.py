"""An instance of an async function that works on several calls at a time, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from time import monotonic_ns
from typing import Any

from motes import mapping
from motes.space.guest import wire
from motes.space.guest.asking import (
    STATUS_ITEM,
    STATUS_OK,
    Gathered,
    ask_body,
    name_of,
    refused_outside,
    result_of,
    tell_functions,
)
from motes.space.guest.instance import EXIT_LIMIT, Caller, flush
from motes.space.guest.wire import (
    ASK,
    CALL,
    COUNT,
    ERROR,
    FRAME_HEAD,
    ITEM,
    LEAVE,
    MORE,
    STOP,
    TAKEN,
    TOLD,
    WINDOW_ITEMS,
)

_READ_BYTES = 256 * 2**10
_working_on: ContextVar[int] = ContextVar("working_on", default=0)
"""The tag of the call that a task works on; its own tasks and threads inherit it."""
_NEVER_BEGUN = b'{"code":"function_error","message":"stopped before it began","detail":{}}'


def serve(caller: Caller, descriptor: int) -> int:
    """Answer calls until the agent is gone or a limit is reached; returns the exit code."""

    async def run() -> int:
        channel = _Channel(caller, descriptor)
        tell_functions(_Calls(channel, asyncio.get_running_loop()))
        return await channel.serve()

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
        self._asked: dict[int, asyncio.Queue[bytes]] = {}
        """What comes for the calls that are made here, by their numbers."""
        self._last_ask = 0
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
        elif kind == TOLD and tag in self._asked:
            self._asked[tag].put_nowait(body)
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
        _working_on.set(tag)
        if self._caller.streams:
            kind, answer, last = await self._caller.stream_later(body, lambda item: self._send_item(tag, item))
        else:
            kind, answer, last = await self._caller.answer_later(body)
        flush()
        worked_us = (monotonic_ns() - began_ns) // 1000
        self._is_last = self._is_last or last
        self._send(wire.answer_head(kind, tag, worked_us, len(answer)) + answer)

    # ------------------------------------------------------------------ calls that are made here

    async def ask(self, name: str, body: bytes) -> AsyncGenerator[tuple[int, bytes], int]:
        """Call another function: its items and at last its outcome, as status and body. Send how many were taken."""
        tag = _working_on.get()
        if not tag:
            raise refused_outside()
        self._last_ask += 1
        number = self._last_ask
        frame = ask_body(name, body)
        answers = self._asked[number] = asyncio.Queue()
        self._send(wire.answer_head(ASK, tag, number, len(frame)) + frame)
        is_over = False
        try:
            while not is_over:
                answer = await answers.get()
                is_over = answer[0] != STATUS_ITEM
                taken = yield answer[0], answer[1:]
                if taken:
                    self._send(wire.answer_head(TAKEN, tag, number, COUNT.size) + COUNT.pack(taken))
        finally:
            del self._asked[number]
            if not is_over:
                self._send(wire.answer_head(LEAVE, tag, number, 0))

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


class _Calls:
    """What `.remote` and its like do in an instance with an event loop: there all of them are awaited."""

    def __init__(self, channel: _Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._loop = loop

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """In the loop's thread something to await, for waiting would hold up every other call; elsewhere it waits."""
        return self._finish(self.acall(function, args, kwargs))

    async def acall(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = Gathered(function)
        async with contextlib.aclosing(self._channel.ask(name_of(function), function.body(args, kwargs))) as answers:
            status, body = await anext(answers)
            while status == STATUS_ITEM:
                items.add(body)
                status, body = await answers.asend(1)
        return result_of(function, items, status, body)

    def map_calls(self, function: Any, inputs: Iterable[Any], in_flight: int) -> Iterator[Any]:
        """For threads; in the loop's own there is `amap`."""
        if self._is_in_loop():
            raise RuntimeError("in async code write `async for ... in function.amap(...)`")
        begin = self._submit
        return mapping.in_order(lambda value: begin(self.acall(function, (value,), {})), inputs, in_flight)

    def amap_calls(self, function: Any, inputs: Iterable[Any], in_flight: int) -> AsyncIterator[Any]:
        def begin(value: Any) -> asyncio.Future[Any]:
            return asyncio.ensure_future(self.acall(function, (value,), {}))

        return mapping.in_order_later(begin, inputs, in_flight)

    def items(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Items:
        return _Items(self, function, args, kwargs)

    async def each_item(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        taken = 0
        async with contextlib.aclosing(self._channel.ask(name_of(function), function.body(args, kwargs))) as answers:
            status, body = await anext(answers)
            while status == STATUS_ITEM:
                yield function.item_of(body)
                taken = taken % (WINDOW_ITEMS // 2) + 1
                status, body = await answers.asend(taken if taken == WINDOW_ITEMS // 2 else 0)
        if status != STATUS_OK or body:
            yield result_of(function, Gathered(function), status, body)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Of another thread."""
        return self._submit(work).result()

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        return work if self._is_in_loop() else self.wait(work)

    def _is_in_loop(self) -> bool:
        return asyncio._get_running_loop() is self._loop


class _Items:
    """What `.stream` gives: for `async for`, and for `for` in other threads."""

    def __init__(self, calls: _Calls, *asked: Any) -> None:
        self._calls = calls
        self._asked = asked

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._calls.each_item(*self._asked)

    def __iter__(self) -> Iterator[Any]:
        items = self._calls.each_item(*self._asked)

        async def first() -> Any:
            return await anext(items, _END)

        try:
            while (item := self._calls.wait(first())) is not _END:
                yield item
        finally:
            self._calls.wait(items.aclose())  # type: ignore[attr-defined]


_END = object()
