"""One child of the supervisor: started, watched, restarted with backoff, ended. Stdlib only."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from motes.supervised import ENDED_FOR_GOOD, ORDER_LIMIT_BYTES, ORDERS_FD_VARIABLE, READY_FD_VARIABLE

BACKOFF_S = 0.05
BACKOFF_LIMIT_S = 5.0
RAN_WELL_S = 10.0
"""Who ran this long starts with the shortest backoff again."""
LOG_LIMIT_BYTES = 8 * 2**20
"""A longer log becomes `<process>.log.1`, and that one is lost."""
READY_LINE_LIMIT_BYTES = 65536

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Child:
    """A process that should run. `pid` is None while it does not; `ready` once it has said that it takes work."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        selector: selectors.BaseSelector,
        takes_orders: bool = False,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.ready_file: Callable[[int], Path] | None = None
        """For a program that cannot tell by itself: the file that shows that it is ready."""
        self.wanted = True
        self.ready = False
        self.pid: int | None = None
        self.last_end = ""
        self.trouble = ""
        """Why it cannot work, as it said itself before it ended."""
        self.restarts = 0
        self.told: dict[str, Any] | None = None
        """What it has answered to the last `order`."""
        self._orders: socket.socket | None = None
        self._takes_orders = takes_orders
        self._environment = environment
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._started_at = 0.0
        self._failures = 0
        self._restart_at: float | None = None
        self._kill_at: float | None = None

    def start(self) -> None:
        """Start the process now; a command that cannot run counts as one that ended."""
        self.ready = False
        self._restart_at = self._kill_at = None
        self._started_at = time.monotonic()
        try:
            self._launch()
        except (OSError, subprocess.SubprocessError) as error:
            self._note_end(f"no start: {error}")

    def _launch(self) -> None:
        """Raises OSError and SubprocessError; whoever notes the end closes what was opened."""
        self._pipe, writer = os.pipe()
        self._selector.register(self._pipe, selectors.EVENT_READ, self._hear)
        theirs: socket.socket | None = None
        try:
            environment = {**os.environ, **self._environment, READY_FD_VARIABLE: str(writer)}
            if self._takes_orders:
                theirs = self._open_orders()
                environment[ORDERS_FD_VARIABLE] = str(theirs.fileno())
            with self.log.open("ab") as log:
                self.log.chmod(0o600)
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd="/",
                    pass_fds=(writer,) if theirs is None else (writer, theirs.fileno()),
                    start_new_session=True,
                    preexec_fn=end_with_this_process(),
                )
        finally:
            os.close(writer)
            if theirs is not None:
                theirs.close()
        self.pid = self._process.pid

    def see_to(self, now: float, *, restart: bool) -> None:
        """Notice an end or readiness, restart or kill when it is time, and keep the log short."""
        if self._process is not None and self.pid is not None and (code := self._process.poll()) is not None:
            self.wanted = self.wanted and code != ENDED_FOR_GOOD
            self._note_end(_describe(code))
        if self.pid is None:
            if restart and self.wanted and self._restart_at is not None and now >= self._restart_at:
                self.restarts += 1
                self.start()
            return
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()
        if not self.ready and self.ready_file is not None and self.ready_file(self.pid).exists():
            self.ready = True
        self._shorten_log()

    def pause_s(self, now: float, poll_s: float) -> float:
        """The longest wait after which this child needs to be seen to."""
        if self.pid is None:
            return self._restart_at - now if self.wanted and self._restart_at is not None else BACKOFF_LIMIT_S
        return poll_s if self.ready_file is not None and not self.ready else BACKOFF_LIMIT_S

    def terminate(self, kill_after_s: float | None = None) -> None:
        """Ask the process to end."""
        if kill_after_s is not None:
            self._kill_at = time.monotonic() + kill_after_s
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)

    def order(self, words: dict[str, Any]) -> bool:
        """Tell the process what its owner decides; what it says then is `told`. False when it cannot hear it."""
        data = json.dumps(words).encode()
        if self._orders is None or len(data) > ORDER_LIMIT_BYTES:
            return False
        try:
            self._orders.send(data)
        except OSError:
            return False
        self.told = None
        return True

    def status(self) -> dict[str, Any]:
        """For `motes doctor` and tests: `{"name", "pid", "state", "restarts", "last_end"}`."""
        state = "waiting" if self.pid is None else "running" if self.ready else "starting"
        return {
            "name": self.name,
            "pid": self.pid,
            "state": state,
            "restarts": self.restarts,
            "last_end": self.last_end,
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    def _hear(self) -> None:
        """Read the line by which the process says that it is ready."""
        assert self._pipe is not None
        line = os.read(self._pipe, READY_LINE_LIMIT_BYTES)
        self._close_pipe()
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line or b"0")
            if isinstance(told, dict):
                self.ready, self.trouble = "error" not in told, str(told.get("error", ""))

    def _open_orders(self) -> socket.socket:
        """A new socket for orders; returns the process's end. Whole messages, and nobody waits for the other."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._orders = ours
        self._selector.register(ours, selectors.EVENT_READ, self._hear_of_orders)
        return theirs

    def _hear_of_orders(self) -> None:
        assert self._orders is not None
        data = b""
        with contextlib.suppress(OSError):
            data = self._orders.recv(ORDER_LIMIT_BYTES)
        if not data:
            self._close_orders()
            return
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(data)
            self.told = told if isinstance(told, dict) else self.told

    def _close_orders(self) -> None:
        if self._orders is not None:
            self._selector.unregister(self._orders)
            self._orders.close()
            self._orders = None

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def _note_end(self, how: str) -> None:
        now = time.monotonic()
        self._failures = 0 if now - self._started_at > RAN_WELL_S else self._failures
        self._restart_at = now + min(BACKOFF_S * 2**self._failures, BACKOFF_LIMIT_S)
        self._failures = min(self._failures + 1, 16)
        self.pid = None
        self.ready = False
        self.last_end = how
        self.told = None
        self._close_pipe()
        self._close_orders()

    def _shorten_log(self) -> None:
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                # The process keeps the file open for appending, so it goes on writing in the emptied file.
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)


def end_with_this_process() -> Callable[[], None]:
    """What runs in a child before its program: have the kernel end it when this process ends."""
    parent = os.getpid()

    def end_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return end_with_parent


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
