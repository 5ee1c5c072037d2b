"""The host's side of a function space: one enclosure, one zygote with the app loaded, and the instances it forks.

Everything runs on the event loop of the main thread. What comes from inside is not trusted: the zygote has run the
owner's code, so it may lie about its own instances, and nothing more.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from motes.errors import LoadFailed
from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.model.release import Function
from motes.model.units import format_bytes
from motes.model.walls import Walls
from motes.space import measure
from motes.space.control import ControlChannel
from motes.space.enclosing import enclose
from motes.space.enclosure import Program, Streams, seqpacket_pair
from motes.space.guest.wire import EXITED, FAILED, FORKED, HELLO, LOADED, OPEN, REFUSED, SPAWN
from motes.space.limits import Limits, Usage
from motes.space.link import DRAIN_CHUNKS, LAST_WORDS_S, Link, LinkEvents
from motes.space.opening import ended_while_opening, exit_words, refused_by_the_app, too_slow
from motes.space.output import Output
from motes.space.seccomp import filters
from motes.space.view import View
from motes.space.walls import walls
from motes.supervised import allow_many_files
from motes.tasks import Tasks

ZYGOTE_NUMBER = 0
"""Output of this number is the zygote's: what module code prints."""
FORK_LIMIT_S = 10.0
"""A zygote that has not forked in this time is taken to be broken, and its space is closed."""
MOST_ORDERED = 32
"""Instances that the zygote is asked for at a time: the kernel bounds how many descriptors a user has on their way."""
LOG_KEPT_BYTES = 4000
"""Of the output while loading, shown when that fails."""


class SpaceEvents(LinkEvents, Protocol):
    """What a space tells the agent, on the event loop: of each instance what its link tells, and the ends."""

    def ended(self, number: int, reason: EndReason, detail: str) -> None:
        """Once for each `spawn`, and the last event of that number."""

    def closed(self, detail: str) -> None:
        """The space is gone; every instance was reported as ended before."""


class Unheard:
    """SpaceEvents of which nothing is heard: for who wants to hear only some."""

    def started(self, number: int, pid: int) -> None: ...
    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None: ...
    def item(self, number: int, tag: int, body: bytes) -> None: ...
    def asked(self, number: int, ask: int, tag: int, name: str, body: bytes) -> None: ...
    def left(self, number: int, ask: int) -> None: ...
    def taken(self, number: int, ask: int, count: int) -> None: ...
    def output(self, number: int, data: bytes) -> None: ...
    def ended(self, number: int, reason: EndReason, detail: str) -> None: ...
    def closed(self, detail: str) -> None: ...


class FunctionSpace:
    """A space whose zygote holds one release. Made by `open`."""

    def __init__(self, view: View, events: SpaceEvents) -> None:
        self.functions: tuple[Function, ...] = ()
        self.pid = 0
        """The zygote, as the host sees it; 0 also when it had ended before anybody looked."""
        self._greeted = False
        self.landlock_abi = 0
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, Link] = {}
        self._tasks = Tasks("space")
        self._loaded: asyncio.Future[tuple[Function, ...]] = self._loop.create_future()
        # A space that ends before anybody loads into it has nobody to tell.
        self._loaded.add_done_callback(lambda loaded: loaded.cancelled() or loaded.exception())
        self._last_fork = 0.0
        self._orders: deque[tuple[dict[str, Any], tuple[int, int]]] = deque()
        self._ordered: set[int] = set()
        """Numbers of which the zygote has been told and has told nothing."""
        self._strays: list[int] = []
        self._log = bytearray()
        self._tmp = -1
        self._cpu_s = 0.0
        self.on_disk_bytes = 0
        """What is written in it to the host's disk, as last seen."""
        self._closing: tuple[EndReason, str] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.view = view
        self._start(view)

    def _start(self, view: View) -> None:
        allow_many_files()
        ours, theirs = seqpacket_pair()
        read_end, write_end = os.pipe()
        try:
            zygote = Program("motes.space.guest.zygote", [str(theirs.fileno())], [theirs.fileno()])
            nests = walls() is Walls.NAMESPACES
            streams = Streams(output=write_end, error=write_end)
            self._enclosure = enclose(msgspec.structs.replace(view, nests=nests), zygote, streams)
        except BaseException:
            ours.close()
            os.close(read_end)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        self._output = Output(read_end, self._zygote_output, lambda: None)
        self._control = ControlChannel(ours, self._received, self._broken)
        self._enclosure.gone.add_done_callback(self._monitor_ended)

    @classmethod
    async def open(
        cls, view: View, events: SpaceEvents, *, timeout_s: float, entries: Sequence[str] = ()
    ) -> FunctionSpace:
        """A space with the app in `view.code` loaded.

        Its functions are the declared ones, or those of `entries` (`file.py:callable`). Raises SpaceFailed when the
        host cannot make it; LoadFailed, with `detail["traceback"]` and `detail["log"]`, when the app cannot be loaded.
        """
        space = cls(view, events)
        await space.load(view, events, timeout_s=timeout_s, entries=entries)
        return space

    async def load(self, view: View, events: SpaceEvents, *, timeout_s: float, entries: Sequence[str] = ()) -> None:
        """Load the app that lies in /app, once; from now on `events` is told. Raises as `open`, and is then closed."""
        self._events, self.view = events, view
        try:
            self._control.send(
                OPEN,
                {
                    "entries": list(entries),
                    "memory_bytes": view.memory_bytes,
                    "file_bytes": view.tmp_bytes,
                    "zygote": base64.b64encode(filters().zygote).decode(),
                    "instance": base64.b64encode(filters().instance).decode(),
                },
            )
            self.functions = await asyncio.wait_for(asyncio.shield(self._loaded), timeout_s)
        except BaseException as error:
            self._loaded.cancel()
            await self.close()
            if isinstance(error, TimeoutError):
                raise too_slow(self._greeted, timeout_s, self._log_text()) from None
            raise

    @property
    def gone(self) -> asyncio.Future[int]:
        """Done when everything in it has ended."""
        return self._enclosure.gone

    def unloaded_bytes(self) -> int:
        """The memory of a space in which nothing is loaded yet."""
        return sum(map(measure.memory_bytes, self._enclosure.processes()))

    def spawn(self, number: int, function: str, limits: Limits) -> None:
        """Fork an instance; returns at once. `number` is new for each; `started` or `ended` tells how it went."""
        if number in self._links or number <= ZYGOTE_NUMBER:
            raise ValueError(f"instance number {number} is taken")
        if all(function != each.name for each in self.functions):
            raise ValueError(f"no function {function!r} in this space")
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        link = self._links[number] = Link(number, ours, read_end, self._events, self._link_ended, limits.memory_bytes)
        if self._closing is not None:
            theirs.close()
            os.close(write_end)
            self._loop.call_soon(link.abandon, *self._closing)
            return
        order = {"number": number, "function": function, "limits": msgspec.to_builtins(limits)}
        self._orders.append((order, (theirs.detach(), write_end)))
        self._send_orders()
        self._tasks.spawn(self._attach(link, ours))
        self._loop.call_later(FORK_LIMIT_S, self._check_forked, number)

    def _send_orders(self) -> None:
        while self._orders and len(self._ordered) < MOST_ORDERED:
            order, descriptors = self._orders.popleft()
            self._ordered.add(order["number"])
            self._control.send(SPAWN, order, descriptors)

    def _order_done(self, number: int) -> None:
        self._ordered.discard(number)
        self._send_orders()

    async def _attach(self, link: Link, ours: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: link, ours)
        except OSError as error:
            link.end(EndReason.SPACE_FAILED, f"its channel broke: {error}")

    def _check_forked(self, number: int) -> None:
        link = self._links.get(number)
        if link is None or link.is_forked:
            return
        silent_s = self._loop.time() - self._last_fork
        if silent_s < FORK_LIMIT_S:
            # It is forking others, ordered before.
            self._loop.call_later(FORK_LIMIT_S - silent_s, self._check_forked, number)
        else:
            self._fail(f"its zygote did not fork within {FORK_LIMIT_S:g} s")

    def deliver(self, number: int, tag: int, body: bytes) -> None:
        """Send a call to an instance, also right after `spawn`; `tag` is its own among the instance's calls.

        Raises KeyError when the instance was reported as ended.
        """
        self._links[number].deliver(tag, body)

    def stop(self, number: int, tag: int) -> None:
        """Tell an instance that nobody waits for a call any more; it is answered all the same."""
        link = self._links.get(number)
        if link is not None:
            link.stop(tag)

    def more(self, number: int, tag: int, count: int) -> None:
        """Tell an instance that so many items of a call's stream were taken."""
        link = self._links.get(number)
        if link is not None:
            link.more(tag, count)

    def inform(self, number: int, ask: int, outcome: Outcome) -> bool:
        """Give an instance the outcome, or an item, of a call that it made; False: it leaves too much unread."""
        link = self._links.get(number)
        return link is None or link.inform(ask, outcome)

    def end(self, number: int, reason: EndReason, detail: str = "") -> None:
        """Kill an instance; `ended` will tell `reason`. Nothing for one that has ended."""
        link = self._links.get(number)
        if link is not None:
            link.end(reason, detail)

    def pause_output(self, number: int) -> None:
        """Read no more of its output until `resume_output`; what it prints then waits, and so does the instance."""
        self._output_of(number).pause()

    def resume_output(self, number: int) -> None:
        """Read on."""
        self._output_of(number).resume()

    def _output_of(self, number: int) -> Output:
        return self._output if number == ZYGOTE_NUMBER else self._links[number].output

    def usage(self, number: int) -> Usage:
        """What an instance used so far. Raises KeyError when it was reported as ended."""
        link = self._links[number]
        return measure.usage_since_fork(link.pid, link.memory_at_fork) if link.pid else Usage(0.0, 0, 0)

    def cpu_s(self) -> float:
        """CPU time of everything in the space, also of what has ended there; it only grows."""
        if not self._enclosure.gone.done() and self.pid:
            living = (*(link.pid for link in self._links.values() if link.pid), *self._strays)
            parents = (self.pid, self._enclosure.init_pid())
            now_s = sum(map(measure.cpu_s, (self.pid, *living))) + sum(map(measure.reaped_cpu_s, parents))
            self._cpu_s = max(self._cpu_s, now_s)
        return self._cpu_s

    def space_usage(self) -> Usage:
        """The zygote with its whole memory, all instances with what each has beyond it, and /tmp."""
        return measure.add([self.shared_usage(), *map(self.usage, self._links)])

    def shared_usage(self) -> Usage:
        """What belongs to no single instance: the zygote with its whole memory, and /tmp."""
        if not self.pid:
            return Usage(0.0, 0, 0)
        zygote = measure.usage(self.pid)
        # A sweeper has little of its own; the allowance of usage_since_fork is for instances.
        self._strays = self._look_for_strays()
        grown = sum(max(measure.memory_bytes(pid) - zygote.memory_bytes, 0) for pid in self._strays)
        if grown > self.view.memory_bytes:
            self._fail("processes that its app's modules started use more memory than they may")
        held = self._enclosure.folder_bytes(self._tmp)
        self.on_disk_bytes = 0 if self._enclosure.sizes_folders else held
        if held > self.view.tmp_bytes and not self._enclosure.sizes_folders:
            limit = format_bytes(self.view.tmp_bytes)
            self._fail(f"what its functions wrote to /tmp takes more than {limit}", EndReason.FILE_LIMIT)
        return measure.add([zygote, Usage(0.0, grown + held, 0)])

    def processes(self) -> list[int]:
        """All that run in it, as last seen."""
        instances = [link.pid for link in self._links.values() if link.runs]
        return [*instances, *self._strays, *([self.pid] if self.pid else [])]

    def _look_for_strays(self) -> list[int]:
        """Processes that are no instance: the zygote's sweepers, and whatever module code has forked."""
        known = {link.pid for link in self._links.values()} | {self.pid}
        near = [*measure.children(self.pid), *measure.children(self._enclosure.init_pid())]
        return [each for pid in near if pid not in known for each in measure.processes_below(pid)]

    async def close(self, reason: EndReason = EndReason.HOST_STOPPED, detail: str = "") -> None:
        """End everything in the space, and wait until it is gone. Instances still there are reported with `reason`."""
        if self._closing is None:
            self._closing = (reason, detail)
        self._kill()
        await asyncio.shield(self._closed)

    # What comes from the zygote.

    def _received(self, kind: int, data: dict[str, Any], descriptors: list[int]) -> None:
        try:
            self._take(kind, data, descriptors)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, msgspec.ValidationError) as error:
            self._fail(f"its zygote sent what is no message: {error}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _take(self, kind: int, data: dict[str, Any], descriptors: list[int]) -> None:
        if kind == FORKED:
            self._forked(self._links[data["number"]], descriptors.pop())
        elif kind == EXITED:
            link = self._links.get(data["number"])
            if link is not None:
                link.exited(int(data["status"]))
        elif kind == REFUSED:
            why = f"its zygote could not fork: {str(data['error'])[:200]}"
            self._links[data["number"]].abandon(EndReason.SPACE_FAILED, why)
            self._order_done(data["number"])
        elif kind == HELLO and not self._greeted:
            self._greeted = True
            self.pid = self._enclosure.pid_of(descriptors[0])
            self.landlock_abi = int(data["landlock"])
            self._tmp = descriptors.pop(1)
        elif kind == LOADED and not self._loaded.done():
            self._loaded.set_result(msgspec.convert(data["functions"], tuple[Function, ...]))
        elif kind == FAILED and not self._loaded.done():
            self._loaded.set_exception(self._load_failed(data))
        else:
            raise ValueError(f"kind {kind}")

    def _forked(self, link: Link, pidfd: int) -> None:
        self._last_fork = self._loop.time()
        link.memory_at_fork = measure.memory_bytes(self.pid)
        try:
            link.forked(pidfd, self._enclosure.pid_of(pidfd))
        except ValueError:
            os.close(pidfd)
            raise
        self._order_done(link.number)

    def _load_failed(self, data: dict[str, Any]) -> LoadFailed:
        self._output.drain(DRAIN_CHUNKS)
        return refused_by_the_app(data, self._log_text())

    def _zygote_output(self, data: bytes) -> None:
        self._log += data
        del self._log[:-LOG_KEPT_BYTES]
        self._events.output(ZYGOTE_NUMBER, data)

    def _log_text(self) -> str:
        return self._log.decode(errors="replace")

    def _link_ended(self, number: int, reason: EndReason, detail: str) -> None:
        del self._links[number]
        self._events.ended(number, reason, detail)

    # The end of the space.

    def _broken(self, why: str) -> None:
        """The control channel is at its end: the zygote has ended, and its exit status is about to tell how."""
        self._loop.call_later(LAST_WORDS_S, self._fail, why)

    def _fail(self, why: str, reason: EndReason = EndReason.SPACE_FAILED) -> None:
        if self._closing is None:
            self._closing = (reason, why)
        self._kill()

    def _kill(self) -> None:
        # First: of what is killed the kernel tells nobody how much it used.
        self.cpu_s()
        self._enclosure.kill()

    def _monitor_ended(self, gone: asyncio.Future[int]) -> None:
        self._tasks.spawn(self._finish(gone.result()))

    async def _finish(self, status: int) -> None:
        await self._enclosure.close()
        self._control.read()
        self._control.close()
        while self._orders:
            for descriptor in self._orders.popleft()[1]:
                os.close(descriptor)
        self._output.drain(DRAIN_CHUNKS)
        self._output.close()
        if self._tmp >= 0:
            os.close(self._tmp)
            self._tmp = -1
        reason, detail = self._closing = self._closing or (
            EndReason.SPACE_FAILED,
            f"its zygote ended: {exit_words(status)}",
        )
        for link in list(self._links.values()):
            link.abandon(reason, detail)
        if not self._loaded.done():
            self._loaded.set_exception(ended_while_opening(self._greeted, status, self._log_text()))
        self._events.closed(detail)
        self._closed.set_result(None)
