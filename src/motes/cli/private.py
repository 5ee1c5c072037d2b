"""A cluster of its own in a temporary home, which leaves nothing behind: for `dev` and `demo`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

from motes.errors import MotesError, Unavailable
from motes.home import Home

FIRST_PORT = 8080
PORTS = 100
END_TIMEOUT_S = 40.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Notes that the user wants an end, so that everything is ended in order; a second Ctrl-C is heard at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def event(self) -> asyncio.Event:
        """For the running event loop: set when the end is wanted."""
        wanted = asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, wanted.set)
        if self.requested:
            wanted.set()
        return wanted


class Private(NamedTuple):
    """A private cluster that takes calls."""

    home: Home
    facts: dict[str, Any]
    """`{"http", "nats", "home", "pid"}`."""
    supervisor: subprocess.Popen[bytes]


@contextlib.contextmanager
def private_cluster(
    http: str | None = None, hosts: dict[str, dict[str, float | int]] | None = None
) -> Iterator[Private]:
    """Start a cluster that lends `hosts` (name -> Offer as plain data); at the end nothing of it is left.

    `http` None is the first free port from 8080 on.
    """
    from motes.bundle.unpack import discard

    home = Home(tempfile.mkdtemp(prefix="motes-"))
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        if hosts is not None:
            home.create()
            home.write_json(home.hosts_file, hosts)
        facts, supervisor = _launch(home, http) if http is not None else _launch_at_a_free_port(home)
        yield Private(home, facts, supervisor)
    finally:
        _end(home, supervisor)
        discard(home.path)


def _end(home: Home, supervisor: subprocess.Popen[bytes] | None) -> None:
    from motes.supervisor import control

    if supervisor is None:
        # Interrupted while it started: it may be there all the same.
        with contextlib.suppress(MotesError):
            control.ask_to_end(home, END_TIMEOUT_S)
        return
    supervisor.terminate()
    try:
        supervisor.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _launch(home: Home, http: str) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    from motes.supervisor.launch import END_WITH_PARENT, launch

    facts, supervisor = launch(home, http, END_WITH_PARENT)
    assert supervisor is not None, "a new home has no cluster"
    return facts, supervisor


def _launch_at_a_free_port(home: Home) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    """Raises Unavailable when PORTS of them are taken, or for another reason."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        http = f"127.0.0.1:{port}"
        if not _is_free(http):
            continue
        try:
            return _launch(home, http)
        except Unavailable:
            # Somebody else may have been faster.
            if _is_free(http):
                raise
    raise Unavailable(f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} on 127.0.0.1 are all in use; free one")


def _is_free(http: str) -> bool:
    from motes.supervisor.address import choose_http

    try:
        choose_http(http)
    except Unavailable:
        return False
    return True
