"""One script, run once in a space of its own: its streams pumped, its limits held, its exit code passed on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from motes.errors import SpaceFailed
from motes.model.instance import EndReason
from motes.model.units import format_bytes, format_seconds
from motes.space import measure
from motes.space.control import ControlChannel
from motes.space.daemon_space import launch_words
from motes.space.enclosing import enclose
from motes.space.enclosure import Program, Streams, seqpacket_pair
from motes.space.guest.wire import HELLO, LIMIT
from motes.space.seccomp import filters
from motes.space.view import View

MEASURE_INTERVAL_S = 0.1
CHUNK_BYTES = 64 * 2**10
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ScriptEnd(msgspec.Struct, frozen=True):
    """How a script ended: its exit code (128 and the number for a signal), and the limit that ended it, if one did."""

    code: int
    limit: EndReason | None = None
    detail: str = ""


class ScriptSpace:
    """A space that runs one file. `run` does it all."""

    def __init__(self, view: View, content: bytes, arguments: Sequence[str], timeout_s: float) -> None:
        self._view = view
        self._timeout_s = timeout_s
        self._content = content
        self._arguments = arguments
        self._end: ScriptEnd | None = None
        self._lives = False
        self._folders: list[int] = []

    async def run(self, streams: Streams) -> ScriptEnd:
        """Run it with the caller's descriptors, none of which it ever holds. Raises SpaceFailed."""
        loop = asyncio.get_running_loop()
        ours, theirs = seqpacket_pair()
        inside, pumps = _pipes(streams)
        filter = filters().script if self._view.processes == 1 else b""
        command = [self._view.script, *self._arguments]
        words = launch_words(theirs.fileno(), "script", False, filter, self._view, command)
        try:
            launch = Program("motes.space.guest.launch", words, [theirs.fileno()], self._content)
            self._enclosure = enclose(self._view, launch, inside)
        finally:
            theirs.close()
            for descriptor in (inside.input, inside.output, inside.error):
                assert descriptor is not None
                os.close(descriptor)
        control = ControlChannel(ours, self._received, lambda why: None)
        for number in STOPS:
            loop.add_signal_handler(number, self._stop, ScriptEnd(128 + number))
        threads = [threading.Thread(target=_pump, args=pump, daemon=True) for pump in pumps]
        for thread in threads:
            thread.start()
        try:
            status = await self._watch()
            await self._enclosure.close()
            # All that it printed, before anything is said of its end; what it did not read does not matter.
            for thread in threads[1:]:
                await asyncio.to_thread(thread.join)
            control.read()
        finally:
            self._enclosure.kill()
            control.close()
            for descriptor in self._folders:
                os.close(descriptor)
        return self._result(status)

    async def _watch(self) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        while not self._enclosure.gone.done():
            await asyncio.wait([self._enclosure.gone], timeout=min(MEASURE_INTERVAL_S, self._timeout_s))
            if loop.time() > deadline:
                limit = format_seconds(self._timeout_s)
                self._stop(ScriptEnd(0, EndReason.TIME_LIMIT, f"it ran longer than {limit} (--timeout)"))
            elif self._memory_bytes() > self._view.memory_bytes:
                self._stop(ScriptEnd(0, EndReason.MEMORY_LIMIT, self._over_memory()))
        return self._enclosure.gone.result()

    def _memory_bytes(self) -> int:
        processes = sum(measure.fair_usage(pid).memory_bytes for pid in self._enclosure.processes())
        return processes + sum(map(self._enclosure.folder_bytes, self._folders))

    def _over_memory(self) -> str:
        return f"it needs more memory than {format_bytes(self._view.memory_bytes)} (--memory)"

    def _stop(self, end: ScriptEnd) -> None:
        self._end = self._end or end
        self._enclosure.kill()

    def _received(self, kind: int, data: dict[str, Any], descriptors: list[int]) -> None:
        if kind == HELLO and not self._lives:
            self._lives = True
            self._folders, descriptors = descriptors[1:], descriptors[:1]
        elif kind == LIMIT and self._end is None:
            self._end = self._told(str(data.get("reason")))
        for descriptor in descriptors:
            os.close(descriptor)

    def _told(self, reason: str) -> ScriptEnd | None:
        """What the script says of itself; it decides over nothing but its own exit code."""
        words = {
            EndReason.MEMORY_LIMIT: self._over_memory(),
            EndReason.PROCESS_LIMIT: "it starts more processes or threads than it may (--processes)",
            EndReason.FILE_LIMIT: f"its files need more than {format_bytes(self._view.tmp_bytes)} (--tmp)",
        }
        return next((ScriptEnd(0, limit, text) for limit, text in words.items() if limit == reason), None)

    def _result(self, status: int) -> ScriptEnd:
        if self._end is not None:
            return self._end
        if not self._lives:
            raise SpaceFailed("the process space could not be made (see `motes doctor`)")
        return ScriptEnd(128 - status if status < 0 else status)


def _pipes(outside: Streams) -> tuple[Streams, list[tuple[int, int]]]:
    """The guest's ends of three pipes, and from where to where to pump: input first."""
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    error_read, error_write = os.pipe()
    assert outside.input is not None and outside.output is not None and outside.error is not None
    pumps = [
        (outside.input, input_write),
        (output_read, outside.output),
        (error_read, outside.error),
    ]
    return Streams(input_read, output_write, error_write), pumps


def _pump(source: int, target: int) -> None:
    """Copy until one side ends; then close what is a pipe of ours, so that the other side notices."""
    with contextlib.suppress(OSError):
        while data := os.read(source, CHUNK_BYTES):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(target, rest) :]
    for descriptor in (source, target):
        if descriptor > 2:
            os.close(descriptor)
