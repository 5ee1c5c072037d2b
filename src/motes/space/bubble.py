"""One running bubblewrap: started from a view, watched, and ended with everything in it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence

import msgspec

from motes.errors import SpaceFailed
from motes.space import bubblewrap
from motes.space.interpreter import this_interpreter
from motes.space.measure import processes_below, signal_process
from motes.space.seccomp import filters
from motes.space.view import View, bubblewrap_arguments

CLOSE_LIMIT_S = 10.0
"""How long the kernel may take to end what was killed."""


class Bubble:
    """A bubblewrap and all that runs in it. Killing its monitor ends every process inside.

    `ended` is called once, when the monitor has ended, with its exit status (negative for a signal).
    """

    def __init__(
        self, view: View, command: Sequence[str], inherited: Sequence[int], streams: Streams, script: bytes = b""
    ) -> None:
        """Start it. Must run on the main thread: the space ends with the thread that started it. Raises SpaceFailed.

        `script` is the content of the view's script.
        """
        self._check_may_start()
        self._information, information = os.pipe()
        try:
            self._process = _start(view, command, inherited, information, streams, script)
        except OSError as error:
            os.close(self._information)
            raise SpaceFailed(f"bubblewrap cannot be started: {error}") from None
        finally:
            os.close(information)
        self._loop = asyncio.get_running_loop()
        self._monitor = os.pidfd_open(self._process.pid)
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._init = 0
        self._loop.add_reader(self._monitor, self._monitor_ended)

    @staticmethod
    def _check_may_start() -> None:
        if os.geteuid() == 0:
            raise SpaceFailed("a space is never made by root: go on as an ordinary user first (motes.space.descend)")
        if threading.current_thread() is not threading.main_thread():
            raise SpaceFailed("a space ends with the thread that started it: start it from the main thread")

    @property
    def gone(self) -> asyncio.Future[int]:
        """Done when the monitor has ended, with its exit status."""
        return self._gone

    def init_pid(self) -> int:
        """The space's first process, as the host sees it; 0 while it is not known."""
        if self._init == 0 and not self._gone.done():
            os.set_blocking(self._information, False)
            try:
                self._init = int(msgspec.json.decode(os.read(self._information, 4096))["child-pid"])
            except (BlockingIOError, msgspec.DecodeError, KeyError):
                return 0
        return self._init

    def processes(self) -> list[int]:
        """Every process in the space but bubblewrap's own two."""
        init = self.init_pid()
        return processes_below(init)[1:] if init else []

    def kill(self) -> None:
        """SIGKILL for the monitor, and so for everything inside."""
        if not self._gone.done():
            signal_process(self._monitor, signal.SIGKILL)

    async def close(self) -> int:
        """Kill it, wait until everything inside is gone, and return the monitor's exit status."""
        init = _pidfd(self.init_pid())
        self.kill()
        status = await asyncio.shield(self._gone)
        if init is not None:
            # Its end comes after that of every other process in its namespace.
            await _wait_readable(init)
            os.close(init)
        return status

    def _monitor_ended(self) -> None:
        self.init_pid()
        self._loop.remove_reader(self._monitor)
        os.close(self._monitor)
        os.close(self._information)
        self._gone.set_result(self._process.wait())


class Streams(msgspec.Struct, frozen=True):
    """Descriptors for a space's standard streams; None is /dev/null."""

    input: int | None = None
    output: int | None = None
    error: int | None = None


def _start(
    view: View,
    command: Sequence[str],
    inherited: Sequence[int],
    information: int,
    streams: Streams,
    script: bytes,
) -> subprocess.Popen[bytes]:
    program = bubblewrap.find()
    filter = _memory_file("filter", filters().nesting if view.nests else filters().space)
    # Bubblewrap closes what it is told to read, and only that.
    content = [_memory_file("script", script)] if view.script else []
    arguments = bubblewrap_arguments(
        view,
        this_interpreter(),
        disable_user_namespaces=bubblewrap.disables_user_namespaces(program.path),
        script=content[0] if content else -1,
    )
    # The arguments go through a file, for /proc/1/cmdline inside shows bubblewrap's own.
    listed = _memory_file("arguments", "\0".join(arguments).encode() + b"\0")
    own = (information, filter, listed, *content)
    try:
        options = ["--info-fd", str(information), "--seccomp", str(filter), "--args", str(listed)]
        return subprocess.Popen(
            [program.path, *options, "--", *command],
            # Empty, for /proc/1/environ inside is that of bubblewrap.
            env={},
            cwd="/",
            pass_fds=(*own, *inherited),
            stdin=_or_nothing(streams.input),
            stdout=_or_nothing(streams.output),
            stderr=_or_nothing(streams.error),
        )
    finally:
        for descriptor in own[1:]:
            os.close(descriptor)


def _or_nothing(descriptor: int | None) -> int:
    return subprocess.DEVNULL if descriptor is None else descriptor


def _memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _pidfd(pid: int) -> int | None:
    if pid == 0:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return None


async def _wait_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, readable)
    try:
        await asyncio.wait_for(readable, CLOSE_LIMIT_S)
    finally:
        loop.remove_reader(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def seqpacket_pair() -> tuple[socket.socket, socket.socket]:
    """A control channel: our end and the guest's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
