"""One running space, whatever its walls are made of: started, watched, and ended with everything in it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from motes.errors import SpaceFailed
from motes.space.view import View

_log = logging.getLogger("motes.space")
CLOSE_LIMIT_S = 10.0
"""How long the kernel may take to end what was killed."""


class Streams(msgspec.Struct, frozen=True):
    """Descriptors for a space's standard streams; None is /dev/null."""

    input: int | None = None
    output: int | None = None
    error: int | None = None


class Program(msgspec.Struct, frozen=True):
    """What runs in a space: the `main` of a module, with words for it, and descriptors that it inherits."""

    module: str
    words: Sequence[str]
    inherited: Sequence[int] = ()
    script: bytes = b""
    """The content of the view's script."""


class Enclosure(ABC):
    """A monitor and all that runs below it. When the monitor ends, everything inside has ended or is about to."""

    sizes_folders = True
    """Whether the kernel holds the space's folders to the view's size; else they have to be watched."""

    def __init__(self, view: View, program: Program, streams: Streams) -> None:
        """Start it. Must run on the main thread: the space ends with the thread that started it. Raises SpaceFailed."""
        _check_may_start()
        self._process = self._start(view, program, streams)
        self._loop = asyncio.get_running_loop()
        self._monitor = os.pidfd_open(self._process.pid)
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._monitor, self._monitor_ended)

    @abstractmethod
    def _start(self, view: View, program: Program, streams: Streams) -> subprocess.Popen[bytes]:
        """The monitor. Raises SpaceFailed."""

    @abstractmethod
    def init_pid(self) -> int:
        """The process that is there until everything inside has ended, as the host sees it; 0 while not known."""

    @abstractmethod
    def processes(self) -> list[int]:
        """Every process inside but those of the walls themselves."""

    @abstractmethod
    def pid_of(self, pidfd: int) -> int:
        """The process inside that `pidfd` stands for, as seen from here, or measure.GONE. Raises ValueError for one
        that is not inside."""

    @abstractmethod
    def folder_bytes(self, descriptor: int) -> int:
        """What a writable folder of the space holds, by a descriptor of it; 0 for -1."""

    @abstractmethod
    def kill(self) -> None:
        """End everything inside, at once; nothing when it has ended."""

    @abstractmethod
    def _released(self) -> None:
        """The monitor has ended."""

    @property
    def gone(self) -> asyncio.Future[int]:
        """Done when the monitor has ended, with its exit status (negative for a signal)."""
        return self._gone

    async def close(self) -> int:
        """Kill it, wait until everything inside is gone, and return the monitor's exit status."""
        init = pidfd_of(self.init_pid())
        self.kill()
        status = await asyncio.shield(self._gone)
        if init is not None:
            # Its end comes after that of every other process inside.
            await _wait_readable(init)
            os.close(init)
        return status

    def _monitor_ended(self) -> None:
        self._released()
        self._loop.remove_reader(self._monitor)
        os.close(self._monitor)
        self._gone.set_result(self._process.wait())


def _check_may_start() -> None:
    if os.geteuid() == 0:
        raise SpaceFailed("a space is never made by root: go on as an ordinary user first (motes.space.descend)")
    if threading.current_thread() is not threading.main_thread():
        raise SpaceFailed("a space ends with the thread that started it: start it from the main thread")


def memory_file(name: str, content: bytes) -> int:
    """A descriptor from which `content` can be read."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def or_nothing(descriptor: int | None) -> int:
    """For subprocess: the descriptor, or /dev/null."""
    return subprocess.DEVNULL if descriptor is None else descriptor


def pidfd_of(pid: int) -> int | None:
    """A descriptor that stands for the process; None for 0, and for one that is gone."""
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
        await asyncio.wait((readable,), timeout=CLOSE_LIMIT_S)
        if not readable.done():
            _log.error("a process of a space does not end, %g s after it was killed", CLOSE_LIMIT_S)
    finally:
        loop.remove_reader(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def seqpacket_pair() -> tuple[socket.socket, socket.socket]:
    """A control channel: our end and the guest's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
