"""A forked instance: harden, then answer calls one after another until the agent is gone or a limit is reached."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic_ns
from typing import Any

import msgspec

from motes.model.units import format_bytes
from motes.space.guest import failures, harden, kernel, wire
from motes.space.guest.asking import Calls, Line, tell_functions
from motes.space.guest.load import Loaded
from motes.space.guest.packets import Packets
from motes.space.guest.wire import ERROR, ITEM, ITEM_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES, RESULT, SPAWN, WINDOW_ITEMS

EXIT_LIMIT = 70
"""The exit code after a limit; the answer that went before says which."""


def run(functions: dict[str, Loaded], filter: bytes, data_bytes: int) -> int:
    """The life of a spare, hardened as far as it can be: its order, then calls. Returns its exit code.

    `data_bytes` is what of the zygote's memory counts against a limit.
    """
    own_filter = kernel.for_this_process(filter)
    _seed_anew()
    orders = Packets(harden.CHANNEL)
    kind, text, descriptors = orders.receive()
    if kind != SPAWN:
        return 0
    orders.let_go()
    order = _decode(text)
    limits = order["limits"]
    limits["data_bytes"] = data_bytes + limits["memory_bytes"]
    channel, output = descriptors
    harden.harden_instance(own_filter, channel, output, limits)
    function = functions[order["function"]]
    caller = Caller(function, limits["memory_bytes"])
    line = Line(harden.CHANNEL)
    tell_functions(Calls(line))
    caller.start()
    try:
        if function.has_loop:
            from motes.space.guest.concurrent import serve

            return serve(caller, harden.CHANNEL)
        while not answer_next(line, caller):
            pass
        return EXIT_LIMIT
    except wire.Closed:
        return 0


def answer_next(line: Line, caller: Caller) -> bool:
    """Wait for a call and answer it; whether that was the last answer. Raises wire.Closed."""
    tag, body = line.next_call()
    began_ns = monotonic_ns()
    kind, answer, last = caller.stream(body, Window(line)) if caller.streams else caller.answer(body)
    flush()
    line.write(kind, tag, (monotonic_ns() - began_ns) // 1000, answer)
    return last


Answer = tuple[int, bytes, bool]
"""Kind, body, and whether it is the last: a limit was reached, and the process must end."""


class Window:
    """Sends the items of one call, no more than the agent will take."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._left = WINDOW_ITEMS

    def send(self, item: bytes) -> None:
        """Wait until it may be sent, and send it. Raises wire.Closed."""
        if self._left == 0:
            self._left = self._line.room()
        self._left -= 1
        flush()
        self._line.write(ITEM, self._line.tag, 0, item)


class Caller:
    """Calls one function, and keeps an event loop for it when it is async."""

    def __init__(self, function: Loaded, memory_bytes: int) -> None:
        self._function = function
        self._typed = function.typed
        self._broken: Answer | None = None
        """What every call gets when the function's start failed."""
        self._who = f"function {function.name!r}"
        self._memory = format_bytes(memory_bytes)
        self._runner: Any = None

    @property
    def streams(self) -> bool:
        return self._typed.streams

    def start(self) -> None:
        """Run what the function declares to be run once, before its first call."""
        try:
            begin = self._function.begin
            if begin is not None:
                value = begin()
                started = self.runner().run(value) if hasattr(value, "__await__") else value
                self._function.declared.note_started(started)
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            kind, body, _ = self._failure(error)
            self._broken = kind, body, True

    def answer(self, body: bytes) -> Answer:
        """Run one call."""
        given = self.arguments(body)
        if not isinstance(given[0], tuple):
            return given
        try:
            value = self._call(*given)
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return self._failure(error)
        return self._result(value)

    def stream(self, body: bytes, window: Window) -> Answer:
        """Run a generator and send its items; the answer is its end."""
        given = self.arguments(body)
        if not isinstance(given[0], tuple):
            return given
        try:
            values = self._typed.callable(*given[0], **given[1])
            for value in self._in_turn(values) if self._typed.is_async else values:
                item = self._item(value)
                if not isinstance(item, bytes):
                    return item
                window.send(item)
        except (SystemExit, GeneratorExit, wire.Closed):
            raise
        except BaseException as error:
            return self._failure(error)
        return RESULT, b"", False

    def _in_turn(self, values: Any) -> Iterator[Any]:
        """The items of an async generator, one after the other."""
        while True:
            try:
                yield self.runner().run(_next(values))
            except StopAsyncIteration:
                return

    async def stream_later(self, body: bytes, send: Callable[[bytes], Awaitable[None]]) -> Answer:
        """Run an async generator beside other calls; `send` waits until an item may be sent."""
        given = self.arguments(body)
        if not isinstance(given[0], tuple):
            return given
        try:
            async for value in self._typed.callable(*given[0], **given[1]):
                item = self._item(value)
                if not isinstance(item, bytes):
                    return item
                await send(item)
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return self._failure(error)
        return RESULT, b"", False

    def _item(self, value: Any) -> bytes | Answer:
        kind, body, last = self._result(value)
        if kind != RESULT:
            return kind, body, last
        if len(body) > ITEM_LIMIT_BYTES:
            limit = format_bytes(ITEM_LIMIT_BYTES)
            message = f"{self._who}: an item has {format_bytes(len(body))}; the limit is {limit} (send smaller ones)"
            return ERROR, _encode(failures.wire("too_large", message, limit_bytes=ITEM_LIMIT_BYTES)), False
        return body

    async def answer_later(self, body: bytes) -> Answer:
        """Run one call of an async function beside others."""
        given = self.arguments(body)
        if not isinstance(given[0], tuple):
            return given
        try:
            value = await self._typed.callable(*given[0], **given[1])
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return self._failure(error)
        return self._result(value)

    def arguments(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]] | Answer:
        """Positional and named arguments, or the answer where there are none."""
        if self._broken is not None:
            return self._broken
        try:
            return self._typed.arguments(body)
        except MemoryError as error:
            return self._failure(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return ERROR, _encode(failures.bad_input(error)), False
        except BaseException as error:
            # The app's own code, as in __post_init__.
            return self._failure(error)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._typed.is_async:
            return self._typed.callable(*args, **kwargs)
        return self.runner().run(self._typed.callable(*args, **kwargs))

    def runner(self) -> Any:
        """The event loop of this instance, an asyncio.Runner."""
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner

    def _result(self, value: Any) -> Answer:
        try:
            body = self._typed.result(value)
        except MemoryError as error:
            return self._failure(error)
        except Exception as error:
            kind = type(value).__name__
            message = f"{self._who}: the result of type {kind!r} cannot be sent: {failures.text_of(error)}"
            return ERROR, _encode(failures.wire("bad_result", message, type=kind)), False
        if len(body) > PAYLOAD_LIMIT_BYTES:
            return ERROR, _encode(self._too_large(len(body))), False
        return RESULT, body, False

    def _failure(self, error: BaseException) -> Answer:
        limit = failures.exceeded(error, self._who, self._memory)
        if limit is not None:
            # Drop the frames first: they hold the memory that writing the answer needs.
            error.__traceback__ = None
            return ERROR, _encode(limit), True
        return ERROR, _encode(failures.raised(error)), False

    def _too_large(self, size: int) -> failures.Wire:
        limit = format_bytes(PAYLOAD_LIMIT_BYTES)
        message = f"{self._who}: the result has {format_bytes(size)}; the limit is {limit} (send it in parts)"
        return failures.wire("too_large", message, limit_bytes=PAYLOAD_LIMIT_BYTES)


async def _next(values: Any) -> Any:
    return await values.__anext__()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def flush() -> None:
    """What was printed reaches the agent before the answer does."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


def _seed_anew() -> None:
    """Forks of one process must not draw the same numbers. Python's own generator does this by itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
