"""A forked instance: harden, then answer calls one after another until the agent is gone or a limit is reached."""

from __future__ import annotations

import os
import struct
import sys
from time import monotonic_ns
from typing import Any

import msgspec

from motes.model.units import format_bytes
from motes.space.guest import failures, harden, wire
from motes.space.guest.load import Loaded
from motes.space.guest.packets import Packets
from motes.space.guest.wire import CALL, ERROR, PAYLOAD_LIMIT_BYTES, RESULT, SPAWN

OWN_PID = struct.pack("<I", 0x7FFFFFF1)
"""What stands in the instance's filter for its own process id (motes.space.profiles.OWN_PID)."""

EXIT_LIMIT = 70
"""The exit code after a limit; the answer that went before says which."""


def run(functions: dict[str, Loaded], filter: bytes, data_bytes: int) -> int:
    """The life of a spare, hardened as far as it can be: its order, then calls. Returns its exit code.

    `data_bytes` is what of the zygote's memory counts against a limit.
    """
    own_filter = filter.replace(OWN_PID, struct.pack("<I", os.getpid()))
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
    caller = _Caller(functions[order["function"]], limits["memory_bytes"])
    try:
        while True:
            kind, body = wire.read_frame(harden.CHANNEL)
            if kind != CALL:
                return EXIT_LIMIT
            began_ns = monotonic_ns()
            kind, answer, last = caller.answer(body)
            flush()
            wire.write_answer(harden.CHANNEL, kind, (monotonic_ns() - began_ns) // 1000, answer)
            if last:
                return EXIT_LIMIT
    except wire.Closed:
        return 0


class _Caller:
    """Calls one function, and keeps an event loop for it when it is async."""

    def __init__(self, function: Loaded, memory_bytes: int) -> None:
        self._typed = function.typed
        self._who = f"function {function.name!r}"
        self._memory = format_bytes(memory_bytes)
        self._runner: Any = None

    def answer(self, body: bytes) -> tuple[int, bytes, bool]:
        """`(kind, body, last)`; `last` when a limit was reached and the process must end."""
        try:
            args, kwargs = self._typed.arguments(body)
        except MemoryError as error:
            return self._failure(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return ERROR, _encode(failures.bad_input(error)), False
        except BaseException as error:
            # The app's own code, as in __post_init__.
            return self._failure(error)
        try:
            value = self._call(args, kwargs)
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            return self._failure(error)
        return self._result(value)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._typed.is_async:
            return self._typed.callable(*args, **kwargs)
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(self._typed.callable(*args, **kwargs))

    def _result(self, value: Any) -> tuple[int, bytes, bool]:
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

    def _failure(self, error: BaseException) -> tuple[int, bytes, bool]:
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
