"""The host's side of a daemon's space: one ordinary server process, its output, and sockets to its port."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from motes.errors import LoadFailed, SpaceFailed
from motes.model.instance import EndReason
from motes.space import measure
from motes.space.connections import has_connections
from motes.space.control import ControlChannel
from motes.space.enclosing import enclose
from motes.space.enclosure import Program, Streams, seqpacket_pair
from motes.space.guest.wire import HELLO, MAKE, SOCKETS
from motes.space.limits import Usage
from motes.space.opening import not_made
from motes.space.output import Output
from motes.space.seccomp import filters
from motes.space.stock import SocketStock, connect_inside
from motes.space.view import View

OPEN_LIMIT_S = 10.0
LISTEN_POLL_S = 0.02
LOOK_S = 0.05
"""How often a daemon that was told to end is looked at: what it still uses counts."""
LOG_KEPT_BYTES = 4000


class DaemonEvents(Protocol):
    """What a daemon's space tells the agent, on the event loop."""

    def output(self, number: int, data: bytes) -> None:
        """A chunk of what the daemon printed; `number` is 0."""

    def closed(self, reason: EndReason, detail: str) -> None:
        """The space is gone: once, and last. The reason is how the daemon's process ended."""


class DaemonSpace:
    """A space that runs one command. Made by `open`."""

    def __init__(self, view: View, command: Sequence[str], port: int | None, events: DaemonEvents) -> None:
        self.port = port
        self.pid = 0
        """The daemon, as the host sees it; 0 also when it had ended before anybody looked."""
        self._seen: list[int] = []
        self._greeted = False
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._daemon = -1
        self._folders: list[int] = []
        self._failure = ""
        self._closing = False
        self._log = bytearray()
        self._cpu_s = 0.0
        self.view = view
        self._start(view, command)

    def _start(self, view: View, command: Sequence[str]) -> None:
        ours, theirs = seqpacket_pair()
        read_end, write_end = os.pipe()
        try:
            serves = self.port is not None
            words = launch_words(theirs.fileno(), "daemon", serves, filter_of(view), view, command)
            launch = Program("motes.space.guest.launch", words, [theirs.fileno()])
            self._enclosure = enclose(view, launch, Streams(output=write_end, error=write_end))
        except BaseException:
            ours.close()
            os.close(read_end)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        self._output = Output(read_end, self._printed, lambda: None)
        self._control = ControlChannel(ours, self._received, self._broken)
        self._sockets = SocketStock(lambda: self._control.send(MAKE, {}))
        self._enclosure.gone.add_done_callback(lambda gone: self._finish(gone.result()))

    @classmethod
    async def open(cls, view: View, command: Sequence[str], port: int | None, events: DaemonEvents) -> DaemonSpace:
        """Start `command` in the app's folder; it may not listen yet. Raises SpaceFailed."""
        space = cls(view, command, port, events)
        try:
            await asyncio.wait_for(asyncio.shield(space._ready), OPEN_LIMIT_S)
        except TimeoutError:
            await space.close(0)
            raise SpaceFailed(f"the process space was not made within {OPEN_LIMIT_S:g} s") from None
        except BaseException:
            await space.close(0)
            raise
        return space

    async def connect(self) -> socket.socket:
        """A non-blocking socket connected to the daemon's port, inside its space. Raises SpaceFailed; OSError when the
        daemon does not accept, as ConnectionRefusedError while it does not listen."""
        if self.port is None:
            raise SpaceFailed("the daemon was declared without a port")
        made = await self._sockets.take()
        try:
            await connect_inside(made, self.port)
        except BaseException:
            made.close()
            raise
        return made

    async def has_clients(self) -> bool:
        """Whether a connection to the daemon's port is open inside its space. Beside the loop: it may take long."""
        if self.port is None or self._closed.done():
            return False
        return await asyncio.to_thread(has_connections, self._enclosure.init_pid(), self.port)

    async def wait_until_listening(self, timeout_s: float) -> None:
        """Until the port accepts a connection. Raises LoadFailed when it does not in time, or the daemon ends."""
        deadline = self._loop.time() + timeout_s
        while not self._closed.done():
            try:
                (await self.connect()).close()
                return
            except OSError:
                if self._loop.time() > deadline:
                    raise LoadFailed(
                        f"the daemon did not listen on port {self.port} within {timeout_s:g} s", log=self._log_text()
                    ) from None
            except SpaceFailed:
                break
            await asyncio.wait([self._closed], timeout=LISTEN_POLL_S)
        await asyncio.shield(self._closed)
        raise LoadFailed(f"the daemon ended before it listened on port {self.port}", log=self._log_text())

    def usage(self) -> Usage:
        """All processes in the space, and what its /tmp and /dev/shm hold."""
        # Here too, for of a daemon that ends by itself nothing can be asked any more.
        self.cpu_s()
        processes = [measure.fair_usage(pid) for pid in self._seen]
        folders = [Usage(0.0, self._enclosure.folder_bytes(folder), 0) for folder in self._folders]
        return measure.add([*processes, *folders])

    def processes(self) -> list[int]:
        """All that run in it, as last seen."""
        return self._seen

    def cpu_s(self) -> float:
        """CPU time of everything in the space, also of what has ended there; it only grows."""
        has_ended = self._enclosure.gone.done()
        self._seen = [] if has_ended else self._enclosure.processes()
        if not has_ended:
            parents = (*self._seen, self._enclosure.init_pid())
            now_s = sum(map(measure.cpu_s, self._seen)) + sum(map(measure.reaped_cpu_s, parents))
            self._cpu_s = max(self._cpu_s, now_s)
        return self._cpu_s

    def pause_output(self) -> None:
        """Read no more until `resume_output`; what the daemon prints then waits, and so does the daemon."""
        self._output.pause()

    def resume_output(self) -> None:
        """Read on."""
        self._output.resume()

    async def close(self, grace_s: float) -> None:
        """SIGTERM for the daemon, SIGKILL for everything after `grace_s`; returns when all is gone."""
        if grace_s > 0 and self._daemon >= 0 and not self._closed.done():
            measure.signal_process(self._daemon, signal.SIGTERM)
            deadline = self._loop.time() + grace_s
            while not self._closed.done() and self._loop.time() < deadline:
                await asyncio.wait([self._closed], timeout=min(grace_s, LOOK_S))
                self.cpu_s()
        self._closing = True
        self._kill()
        await self._enclosure.close()
        await asyncio.shield(self._closed)

    # What comes from inside.

    def _received(self, kind: int, data: dict[str, Any], descriptors: list[int]) -> None:
        try:
            if kind == HELLO and not self._greeted:
                self._greeted = True
                self.pid = self._enclosure.pid_of(descriptors[0])
                self._daemon, *self._folders = descriptors
                descriptors.clear()
                self._ready.set_result(None)
            elif kind == SOCKETS:
                self._sockets.arrive(descriptors)
            else:
                raise ValueError(f"kind {kind}")
        except (ValueError, IndexError, OSError) as error:
            self._fail(f"it sent what is no message: {error}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _printed(self, data: bytes) -> None:
        self._log += data
        del self._log[:-LOG_KEPT_BYTES]
        self._events.output(0, data)

    def _log_text(self) -> str:
        return self._log.decode(errors="replace")

    def _broken(self, why: str) -> None:
        # Without a port nobody holds the channel once the daemon runs, and who is killed may lose it before it is gone.
        if self.port is not None and not self._closing:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._kill()

    def _kill(self) -> None:
        # First: of what is killed the kernel tells nobody how much it used.
        self.cpu_s()
        self._enclosure.kill()

    def _finish(self, status: int) -> None:
        self._control.close()
        self._output.drain(LOG_KEPT_BYTES)
        self._output.close()
        for descriptor in (self._daemon, *self._folders):
            if descriptor >= 0:
                os.close(descriptor)
        self._daemon, self._folders = -1, []
        self._sockets.close()
        self._closed.set_result(None)
        if not self._greeted:
            error = not_made(status, self._log_text())
            if not self._ready.done():
                self._ready.set_exception(error)
            self._events.closed(EndReason.SPACE_FAILED, error.message)
            return
        self._events.closed(*self._why(status))

    def _why(self, status: int) -> tuple[EndReason, str]:
        # A monitor that was not killed tells how the daemon ended; the helper's end may have been seen before that.
        return (EndReason.PROTOCOL, self._failure) if self._failure and status < 0 else reason_of_exit(status)


def reason_of_exit(status: int) -> tuple[EndReason, str]:
    """Why a daemon ended, from bubblewrap's exit status: its command's, with 128 added to a signal's number."""
    if status == 0:
        return EndReason.RETURNED, "exit code 0"
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return EndReason.CRASHED, f"signal {name}"
    return EndReason.EXITED, f"exit code {status}"


def filter_of(view: View) -> bytes:
    """The filter on top of the space's that a daemon of this view gets."""
    return filters().alone if view.processes == 1 else b""


def launch_words(control: int, kind: str, serves: bool, filter: bytes, view: View, command: Sequence[str]) -> list[str]:
    """The command line of motes.space.guest.launch (its Order)."""
    limits = (view.memory_bytes, view.processes, view.open_files, view.tmp_bytes)
    serving = "serves" if serves else "serves-nobody"
    return [str(control), kind, serving, base64.b64encode(filter).decode(), *map(str, limits), *command]
