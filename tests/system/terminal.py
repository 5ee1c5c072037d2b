"""A `motes` command in a terminal of its own, 80 columns wide."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

from system.running import DEADLINE_S, MOTES, RunningCluster


class Terminal:
    """What has been shown so far, and the keys."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._process = process
        self._deadline = time.monotonic() + DEADLINE_S
        self.shown = b""

    def read_until(self, text: bytes) -> None:
        """Fails when that does not come within DEADLINE_S."""
        while text not in self.shown:
            assert time.monotonic() < self._deadline and self._process.poll() is None, self.shown
            self._read(1.0)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def exit_code(self) -> int:
        """Of the command, when it has ended; what is not read would hold it up."""
        while self._process.poll() is None and time.monotonic() < self._deadline:
            self._read(0.1)
        self.drain()
        return self._process.wait(1)

    def drain(self) -> None:
        """Take what has been shown until now."""
        while self._read(0.0):
            pass

    def _read(self, patience_s: float) -> bool:
        """Whether there was more."""
        before = len(self.shown)
        if select.select([self._master], [], [], patience_s)[0]:
            with contextlib.suppress(OSError):
                self.shown += os.read(self._master, 2**16)
        return len(self.shown) > before


@contextlib.contextmanager
def in_a_terminal(cluster: RunningCluster, *words: str, **variables: str) -> Iterator[Terminal]:
    """The command, killed at the end."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**cluster.environment, "TERM": "xterm-256color", **variables}
    process = subprocess.Popen([MOTES, *words], env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
