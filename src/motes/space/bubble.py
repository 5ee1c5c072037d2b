"""A space in namespaces of its own, which bubblewrap makes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import msgspec

from motes.errors import SpaceFailed
from motes.space import bubblewrap, manners, measure
from motes.space.enclosure import Enclosure, Program, Streams, memory_file, or_nothing, pidfd_of
from motes.space.interpreter import this_interpreter
from motes.space.seccomp import filters
from motes.space.view import View, bubblewrap_arguments, python_command


class Bubble(Enclosure):
    """A bubblewrap and all that runs in it. Killing its monitor ends every process inside."""

    def _start(self, view: View, program: Program, streams: Streams) -> subprocess.Popen[bytes]:
        self._init = 0
        self._first: int | None = None
        """A descriptor that stands for the space's first process."""
        self._information, information = os.pipe()
        try:
            return _start(view, program, information, streams)
        except OSError as error:
            os.close(self._information)
            raise SpaceFailed(f"bubblewrap cannot be started: {error}") from None
        finally:
            os.close(information)

    def init_pid(self) -> int:
        """The space's first process; 0 while it is not known."""
        if self._init == 0 and not self._gone.done():
            os.set_blocking(self._information, False)
            try:
                self._init = int(msgspec.json.decode(os.read(self._information, 4096))["child-pid"])
            except (BlockingIOError, msgspec.DecodeError, KeyError):
                return 0
            self._first = pidfd_of(self._init)
            manners.let_be_idle(self._process.pid, self._init)
        return self._init

    def processes(self) -> list[int]:
        """Without bubblewrap's own two."""
        init = self.init_pid()
        return measure.processes_below(init)[1:] if init else []

    def pid_of(self, pidfd: int) -> int:
        """What is in another process namespace than this one is in a space."""
        seen = measure.behind(pidfd)
        if seen.pid != measure.GONE and seen.levels < 2:
            raise ValueError("a descriptor that stands for no process of the space")
        return seen.pid

    def folder_bytes(self, descriptor: int) -> int:
        """Its folders are memory of a fixed size."""
        return measure.mounted_bytes(descriptor)

    def kill(self) -> None:
        """SIGKILL for the monitor, and so for everything inside.

        While the space is being made its first process does not end with the monitor yet, and would wait for it for
        ever: so that one is killed too, and where it is not known, what the monitor has made until now.
        """
        if self._gone.done():
            return
        if self.init_pid() == 0:
            measure.signal_process(self._monitor, signal.SIGSTOP)
            measure.wait_until_stopped(self._process.pid)
            for pid in measure.children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        measure.signal_process(self._monitor, signal.SIGKILL)
        if self._first is not None:
            measure.signal_process(self._first, signal.SIGKILL)

    def _released(self) -> None:
        self.init_pid()
        if self._first is not None:
            # It may have been half made when somebody else killed the monitor.
            measure.signal_process(self._first, signal.SIGKILL)
            os.close(self._first)
            self._first = None
        os.close(self._information)


def _start(view: View, program: Program, information: int, streams: Streams) -> subprocess.Popen[bytes]:
    found = bubblewrap.find()
    filter = memory_file("filter", filters().nesting if view.nests else filters().space)
    # Bubblewrap closes what it is told to read, and only that.
    content = [memory_file("script", program.script)] if view.script else []
    arguments = bubblewrap_arguments(
        view,
        this_interpreter(),
        disable_user_namespaces=bubblewrap.disables_user_namespaces(found.path),
        script=content[0] if content else -1,
    )
    # The arguments go through a file, for /proc/1/cmdline inside shows bubblewrap's own.
    listed = memory_file("arguments", "\0".join(arguments).encode() + b"\0")
    own = (information, filter, listed, *content)
    try:
        options = ["--info-fd", str(information), "--seccomp", str(filter), "--args", str(listed)]
        with manners.first_to_go():
            return subprocess.Popen(
                [found.path, *options, "--", *python_command(program.module, *program.words)],
                # Empty, for /proc/1/environ inside is that of bubblewrap.
                env={},
                cwd="/",
                pass_fds=(*own, *program.inherited),
                stdin=or_nothing(streams.input),
                stdout=or_nothing(streams.output),
                stderr=or_nothing(streams.error),
            )
    finally:
        for descriptor in own[1:]:
            os.close(descriptor)
