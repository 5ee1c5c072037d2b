"""What a deploy asks of a host: load this bundle in a space of its own, and say what it holds."""

from __future__ import annotations

import asyncio
import shlex
from collections import deque

from motes.agent.code import Code, Folders
from motes.agent.core.place import why_not_here
from motes.agent.core.state import HostState
from motes.agent.failure import as_failure
from motes.agent.function_spaces import OPEN_TIMEOUT_S
from motes.agent.trust import Trust
from motes.agent.views import daemon_view, function_view
from motes.errors import BadBundle, LoadFailed, MotesError, SpaceFailed
from motes.model.instance import EndReason
from motes.model.keeper import Inspect, encode_answer, encode_error
from motes.model.release import Daemon, Manifest
from motes.space.daemon_space import DaemonSpace
from motes.space.function_space import FunctionSpace, Unheard

DAEMON = "main"
"""The name of the workload that a command makes."""
LISTEN_TIMEOUT_S = 15.0
ALIVE_S = 1.0
"""A daemon without a port passes when it has lived for this long."""
LOG_BYTES = 16 * 2**10
AT_ONCE = 2


class Inspection:
    """Answers `inspect` requests, a few at a time."""

    def __init__(self, code: Code, trust: Trust, state: HostState) -> None:
        self._code = code
        self._state = state
        self._trust = trust
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._running: dict[asyncio.Task[Manifest], Inspect] = {}
        self._away = ""

    def refuse(self, why: str) -> None:
        """The host lends nothing now (empty: it does again): end the trials, and begin none."""
        self._away = why
        self.look_again()

    def look_again(self) -> None:
        """The host's owner has said something new: end the trials that he does not want."""
        for trial, question in self._running.items():
            if self._why_not(question):
                trial.cancel()

    def _why_not(self, question: Inspect) -> str:
        if self._away:
            return f"the host lends nothing now: {self._away}"
        why = why_not_here(self._state, question.app, question.place)
        return why and f"host {self._state.host!r} does not look into the app: {why}"

    async def answer(self, data: bytes) -> bytes:
        """The answer to an Inspect that an owner signed: a Manifest or the reason why there is none."""
        try:
            async with self._gate:
                return encode_answer(await self._try(self._trust.inspection(data)))
        except Exception as error:
            return encode_error(as_failure(error, "look into the app"))

    async def _try(self, question: Inspect) -> Manifest:
        trial = asyncio.ensure_future(self._inspect(question))
        self._running[trial] = question
        try:
            if not self._why_not(question):
                return await trial
        except asyncio.CancelledError:
            if not self._why_not(question):
                raise
        finally:
            trial.cancel()
            del self._running[trial]
        raise SpaceFailed(self._why_not(question))

    async def _inspect(self, question: Inspect) -> Manifest:
        code = await self._code.folders(question.bundle, question.packages)
        if question.command:
            daemon = Daemon(DAEMON, question.command, question.port, question.memory_bytes)
            await _try_daemon(code, daemon)
            return Manifest(question.app, (daemon,))
        events = _Events()
        view = function_view(code)
        space = await FunctionSpace.open(view, events, entries=question.entries, timeout_s=OPEN_TIMEOUT_S)
        await space.close()
        if not space.functions:
            raise BadBundle(
                f"app {question.app!r} has no function: decorate one with @function, or name one as FILE.py:CALLABLE, "
                "or give a daemon's command with --cmd"
            )
        return Manifest(question.app, space.functions, question.entries)


async def _try_daemon(code: Folders, daemon: Daemon) -> None:
    """Start it, see that it listens or lives, and end it. Raises LoadFailed with what it wrote."""
    events = _Events()
    space = await DaemonSpace.open(daemon_view(code, daemon), daemon.command, daemon.port, events)
    try:
        if daemon.port is None:
            await asyncio.wait((events.is_closed,), timeout=ALIVE_S)
        else:
            await space.wait_until_listening(LISTEN_TIMEOUT_S)
        # Asked before the trial itself ends it.
        why = events.why or ""
    except MotesError as error:
        why = error.message
    finally:
        await space.close(0.5)
    if why:
        written = events.text()
        raise LoadFailed(
            f"the daemon `{shlex.join(daemon.command)}` does not serve: {why} (it must stay in the foreground, and"
            " listen on 127.0.0.1 at its --port when it has one)",
            log=written,
        )


class _Events(Unheard):
    """Remembers what a trial writes and why it ended before it was told to."""

    def __init__(self) -> None:
        self.is_closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.why: str | None = None
        self._written: deque[bytes] = deque()
        self._size = 0

    def text(self) -> str:
        return b"".join(self._written).decode(errors="replace")[-LOG_BYTES:]

    def output(self, number: int, data: bytes) -> None:
        self._written.append(data)
        self._size += len(data)
        while self._size > 2 * LOG_BYTES and len(self._written) > 1:
            self._size -= len(self._written.popleft())

    def closed(self, *what: str) -> None:
        """The space ended, as a function's space tells it (why) or a daemon's (the reason, and more about it)."""
        if not self.is_closed.done():
            self.why = _sentence(*what)
            self.is_closed.set_result(None)


def _sentence(reason: str, detail: str = "") -> str:
    if reason in (EndReason.RETURNED, EndReason.EXITED, EndReason.CRASHED):
        return f"it ended with {detail}"
    return detail or reason
