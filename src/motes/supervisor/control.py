"""The supervisor's control socket: one JSON line in, one JSON line back. Stdlib only.

A socket's path may hold 107 bytes, and a home may lie deeper: both sides reach it through an open folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from motes.errors import TimedOut, Unavailable
from motes.home import Home

LINE_LIMIT_BYTES = 65536
"""A request is at most this long, and is sent at once."""
CONNECTIONS_LIMIT = 16
_BACKLOG = 16


class Asker:
    """Who asked, as long as it is there; called with an answer, it is told."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.is_there = True
        self.on_gone: Callable[[], None] | None = None
        """What to do when it goes without having said that it is done."""

    def __call__(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(answer).encode() + b"\n")


Tell = Callable[[dict[str, Any]], None]
Answer = Callable[[dict[str, Any], Asker], dict[str, Any] | None]


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """The supervisor's end. `answer(request, tell)` returns the answer, or None and calls `tell(answer)` later."""

    def __init__(self, home: Home, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._path = home.supervisor_socket
        self._selector = selector
        self._answer = answer
        self._connections: dict[socket.socket, Asker] = {}
        # One that is left is a dead supervisor's: whoever gets here holds the lock.
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        with _short_path(self._path) as path:
            self._listener.bind(path)
        self._path.chmod(0o600)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def remove(self) -> None:
        """Take no more connections; those there are stay open until the process ends."""
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._connections) >= CONNECTIONS_LIMIT:
                connection.close()
                return
            connection.setblocking(False)
            self._connections[connection] = Asker(connection)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        try:
            request = json.loads(connection.recv(LINE_LIMIT_BYTES))
        except (OSError, ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            asker = self._connections.pop(connection)
            self._selector.unregister(connection)
            connection.close()
            asker.is_there = False
            if asker.on_gone is not None:
                asker.on_gone()
            return
        asker = self._connections[connection]
        try:
            answer = self._answer(request, asker)
        except Exception as error:
            # Whatever is wrong with one request, or with a file that it needs: all that runs here goes on.
            answer = {"error": f"could not do {str(request.get('do'))[:80]!r}: {type(error).__name__}: {error}"}
        if answer is not None:
            asker(answer)


def ask(home: Home, do: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
    """The supervisor's answer. Raises Unavailable (no supervisor, or it says why not) and TimedOut."""
    with talk(home, timeout_s) as further:
        return further(do, **arguments)


@contextlib.contextmanager
def talk(home: Home, timeout_s: float) -> Iterator[Callable[..., dict[str, Any]]]:
    """Ask several things one after the other; what holds only while the asker is there ends with this."""
    with _connected(home, timeout_s) as connection:

        def further(do: str, **arguments: Any) -> dict[str, Any]:
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            answer = _read_line(connection, do, timeout_s)
            if "error" in answer:
                raise Unavailable(str(answer["error"]))
            return answer

        yield further


def ask_to_end(home: Home, timeout_s: float) -> None:
    """Have the supervisor end everything; returns when it has ended. Raises as `ask` does."""
    with _connected(home, timeout_s) as connection:
        connection.sendall(b'{"do": "down"}\n')
        pid = int(_read_line(connection, "down", timeout_s)["pid"])
        try:
            supervisor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if not select.select([supervisor], [], [], timeout_s)[0]:
                raise TimedOut(f"the cluster has not ended within {timeout_s:g} s", timeout_s=timeout_s)
        finally:
            os.close(supervisor)


@contextlib.contextmanager
def _connected(home: Home, timeout_s: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short_path(home.supervisor_socket) as path:
                connection.connect(path)
        except OSError as error:
            raise Unavailable(f"no cluster runs in {home.path}; start one with: motes up") from error
        yield connection


def _read_line(connection: socket.socket, do: str, timeout_s: float) -> dict[str, Any]:
    try:
        line = connection.makefile("rb").readline()
        answer = json.loads(line)
    except TimeoutError:
        raise TimedOut(f"the supervisor did not do {do!r} within {timeout_s:g} s", timeout_s=timeout_s) from None
    except (OSError, ValueError) as error:
        raise Unavailable("the supervisor ended before it answered") from error
    return answer if isinstance(answer, dict) else {}
