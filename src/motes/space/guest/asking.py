"""Calls that an instance makes of other functions, and the one reader of its channel that lets them be under way
while it works on a call."""

from __future__ import annotations

import _thread
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec

from motes import mapping
from motes.space.guest import wire
from motes.space.guest.wire import ASK, CALL, COUNT, LEAVE, MORE, TAKEN, TOLD, WINDOW_ITEMS

STATUS_OK, STATUS_ITEM = 0, 3
"""As in motes.model.call."""
_NEXT_CALL, _ROOM = 0, -1
"""What is waited for beside the answers to own calls: the agent's next call, and word that items were taken."""


class Line:
    """An instance's channel. Its threads may all wait for something; one of them reads for the others."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._frames = wire.Frames(descriptor)
        self.tag = 0
        """Of the call that is worked on; 0 before the first."""
        self._last = 0
        self._arrived: dict[int, deque[Any]] = {_NEXT_CALL: deque(), _ROOM: deque()}
        self._reading = _thread.allocate_lock()
        self._writing = _thread.allocate_lock()
        self._others: list[_thread.LockType] = []
        """Threads that wait while another reads."""

    def next_call(self) -> tuple[int, bytes]:
        """Wait for a call: `(tag, body)`. Raises wire.Closed."""
        self.tag, body = self._wait(_NEXT_CALL)
        self._arrived[_ROOM].clear()
        return self.tag, body

    def room(self) -> int:
        """Wait until items of the stream were taken: how many. Raises wire.Closed."""
        while True:
            tag, count = self._wait(_ROOM)
            if tag == self.tag:
                return int(count)

    def write(self, kind: int, tag: int, number: int, body: bytes) -> None:
        """Send a frame; `number` is the microseconds of an answer, or that of an own call. Raises wire.Closed."""
        with self._writing:
            wire.write_answer(self._descriptor, kind, tag, number, body)

    def ask(self, name: str, body: bytes) -> int:
        """Call another function; returns the call's number. Raises Refused before the first call, as in `start`."""
        if not self.tag:
            raise refused_outside()
        with self._writing:
            self._last += 1
            number = self._last
        self._arrived[number] = deque()
        self.write(ASK, self.tag, number, ask_body(name, body))
        return number

    def told(self, number: int) -> tuple[int, bytes]:
        """Wait for what an own call came to, or for an item: `(status, body)`. Raises wire.Closed."""
        answer: bytes = self._wait(number)
        return answer[0], answer[1:]

    def forget(self, number: int) -> None:
        """Its answer is there, or nobody waits for it here any more."""
        self._arrived.pop(number, None)

    def leave(self, number: int) -> None:
        """Tell the agent that nobody waits for the call; who does all the same is told that it was cancelled."""
        if number in self._arrived:
            self.write(LEAVE, self.tag, number, b"")

    def take(self, number: int, count: int) -> None:
        """Tell the agent that items were taken."""
        self.write(TAKEN, self.tag, number, COUNT.pack(count))

    def _wait(self, what: int) -> Any:
        arrived = self._arrived[what]
        while not arrived:
            if self._reading.acquire(False):
                try:
                    while not arrived:
                        self._sort(*self._frames.next())
                finally:
                    self._reading.release()
                    self._wake_others()
            else:
                self._wait_for_the_reader(arrived)
        return arrived.popleft()

    def _wait_for_the_reader(self, arrived: deque[Any]) -> None:
        lock = _thread.allocate_lock()
        lock.acquire()
        self._others.append(lock)
        # Who reads may have been done before it could see this lock.
        if arrived or not self._reading.locked():
            self._wake_others()
        lock.acquire()

    def _wake_others(self) -> None:
        while self._others:
            try:
                self._others.pop().release()
            except (IndexError, RuntimeError):
                return

    def _sort(self, kind: int, tag: int, body: bytes) -> None:
        if kind == CALL:
            self._arrived[_NEXT_CALL].append((tag, body))
        elif kind == MORE:
            self._arrived[_ROOM].append((tag, COUNT.unpack(body)[0]))
        elif kind == TOLD and tag in self._arrived:
            self._arrived[tag].append(body)
        # Whoever it is for: this thread itself looks next.
        if self._others:
            self._wake_others()


class Calls:
    """What `.remote` and its like do in an instance that works on one call at a time."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._begin(function, args, kwargs).result()

    async def acall(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """For a function that runs an event loop itself: another thread waits."""
        import asyncio

        pending = self._begin(function, args, kwargs)
        try:
            return await asyncio.to_thread(pending.result)
        except asyncio.CancelledError:
            self._line.leave(pending.number)
            raise

    def map_calls(self, function: Any, inputs: Iterable[Any], in_flight: int) -> Iterator[Any]:
        return mapping.in_order(lambda value: self._begin(function, (value,), {}), inputs, in_flight)

    def amap_calls(self, function: Any, inputs: Iterable[Any], in_flight: int) -> AsyncIterator[Any]:
        import asyncio

        def begin(value: Any) -> asyncio.Future[Any]:
            return asyncio.ensure_future(self.acall(function, (value,), {}))

        return mapping.in_order_later(begin, inputs, in_flight)

    def items(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Items:
        return _Items(self._begin(function, args, kwargs))

    def _begin(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Pending:
        return _Pending(self._line, function, self._line.ask(name_of(function), function.body(args, kwargs)))


class _Pending:
    """One own call under way."""

    def __init__(self, line: Line, function: Any, number: int) -> None:
        self.number = number
        self._line = line
        self._function = function

    def result(self) -> Any:
        items = Gathered(self._function)
        try:
            while (answer := self._line.told(self.number))[0] == STATUS_ITEM:
                items.add(answer[1])
                self._line.take(self.number, 1)
        except BaseException:
            self._line.leave(self.number)
            raise
        finally:
            self._line.forget(self.number)
        return result_of(self._function, items, *answer)

    def items(self) -> Iterator[Any]:
        taken = 0
        try:
            while True:
                status, body = self._line.told(self.number)
                if status != STATUS_ITEM:
                    self._line.forget(self.number)
                    if status != STATUS_OK or body:
                        yield result_of(self._function, Gathered(self._function), status, body)
                    return
                yield self._function.item_of(body)
                taken += 1
                if taken == WINDOW_ITEMS // 2:
                    self._line.take(self.number, taken)
                    taken = 0
        finally:
            self.cancel()

    def cancel(self) -> None:
        self._line.leave(self.number)
        self._line.forget(self.number)


class _Items:
    """What `.stream` gives."""

    def __init__(self, pending: _Pending) -> None:
        self._pending = pending

    def __iter__(self) -> Iterator[Any]:
        return self._pending.items()

    async def __aiter__(self) -> AsyncIterator[Any]:
        import asyncio

        items = self._pending.items()
        try:
            while (item := await asyncio.to_thread(next, items, _END)) is not _END:
                yield item
        finally:
            items.close()  # type: ignore[attr-defined]


_END = object()


def name_of(function: Any) -> str:
    """As the agent knows it: functions of the same app have no other."""
    return function.name if function.app is None else f"{function.app}.{function.name}"


def ask_body(name: str, body: bytes) -> bytes:
    """What an ASK carries. Raises BadInput for what is no name."""
    told = name.encode()
    if not 0 < len(told) <= wire.MOST_NAME_BYTES or not name.isascii():
        from motes.errors import BadInput

        raise BadInput(f"{name!r} is no function's name")
    return bytes((len(told),)) + told + body


def refused_outside() -> Exception:
    """Nobody's call: there is no deadline, and nobody who would be told."""
    from motes.errors import Refused

    return Refused("other functions can be called only while a call is worked on, not in `start`")


class Gathered:
    """The items of a stream whose caller wants a list, as JSON."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._json = bytearray(b"[")

    def add(self, item: bytes) -> None:
        """One more. Raises TooLarge."""
        self._json += item + b","
        if len(self._json) > wire.PAYLOAD_LIMIT_BYTES:
            from motes.errors import TooLarge

            name, limit = self._function.name, wire.PAYLOAD_LIMIT_BYTES
            message = f"the items of {name} are over 8 MiB together; take them one by one with `stream`"
            raise TooLarge(message, limit_bytes=limit)

    def whole(self) -> bytes:
        return bytes(self._json[: -1 if len(self._json) > 1 else None]) + b"]"


def result_of(function: Any, items: Gathered, status: int, body: bytes) -> Any:
    """What an own call came to. Raises what motes.errors lists."""
    if status == STATUS_OK:
        return function.result_of(body or items.whole())
    from motes.errors import from_wire

    raise from_wire(msgspec.json.decode(body, type=dict[str, Any]))


def tell_functions(calls: Any) -> None:
    """From now on declared functions call each other by this way. An app that imports no motes has none."""
    declare = sys.modules.get("motes.declare")
    if declare is not None:
        declare.__dict__["inside"] = calls
