"""The process spaces of daemons, by instance number: started, waited for, connected to, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from motes.agent.core.effects import StartDaemon
from motes.agent.failure import as_failure
from motes.agent.views import daemon_view
from motes.errors import SpaceFailed
from motes.model.instance import EndReason
from motes.space.daemon_space import DaemonSpace
from motes.space.limits import Usage
from motes.tasks import Tasks

if TYPE_CHECKING:
    from motes.agent.service import Agent
    from motes.agent.spaces import Spaces

LISTEN_TIMEOUT_S = 30.0
"""How long a daemon may take to open its port."""
GRACE_S = 3.0
"""From when it is told to end until it is ended."""
PARTING_S = 2.0
"""So long one from which another takes over goes on for those who are connected: many end at once when they are told
to, and drop them. Not longer, for a browser that keeps its connection sees the old release until then."""
LOOK_S = 0.05
REST = 4
"""So many times as long as a look took passes before the next, whoever it is for: each goes through a table of the
kernel's that has the connections of the whole machine."""
_TAKEN_OVER = (EndReason.REPLACED, EndReason.REMOVED, EndReason.MISPLACED)

Why = tuple[EndReason, str]
_REMOVED: Why = (EndReason.REMOVED, "")


class DaemonSpaces:
    """Those of one host; a part of its Spaces. What is being ended goes on in `closing`."""

    def __init__(self, agent: Agent, spaces: Spaces, closing: Tasks) -> None:
        self._agent = agent
        self._spaces = spaces
        self._closing = closing
        self._open: dict[int, DaemonSpace] = {}
        self._leaving: dict[int, DaemonSpace] = {}
        """Those that end: nobody new is connected to them, but they need what is theirs until they have."""
        self._cut_short: dict[int, Why] = {}
        """Why some of those end at once after all."""
        self._looking = asyncio.Lock()
        self._opening: dict[int, Why | None] = {}
        """Those of which the space is being made, and why they shall end, or have ended, as soon as it is."""

    def __contains__(self, number: int) -> bool:
        return number in self._there or number in self._opening

    def start(self, effect: StartDaemon) -> None:
        self._opening[effect.number] = None
        self._agent.tasks.spawn(self._start(effect))

    async def _start(self, effect: StartDaemon) -> None:
        number, daemon = effect.number, effect.daemon
        try:
            view = daemon_view(await self._spaces.folders(effect.release), daemon)
            space = await DaemonSpace.open(view, daemon.command, daemon.port, _Events(self._spaces, number))
        except Exception as error:
            del self._opening[number]
            self._spaces.ended(number, *_why(error))
            return
        self._open[number] = space
        self._spaces.cpu.opened(space, self._spaces.releases[effect.release].app)
        early = self._opening.pop(number)
        instance = self._agent.machine.instances.get(number)
        if instance is None or instance.ending or early is not None:
            await self._end(number, *(early or _REMOVED))
            return
        instance.pid = space.pid
        try:
            if daemon.port is not None:
                await space.wait_until_listening(LISTEN_TIMEOUT_S)
        except Exception as error:
            # Else it was ended meanwhile, or ended by itself: that is the reason, and not that it does not listen.
            if number in self._open:
                await self._end(number, *_why(error))
            return
        if number in self._open:
            self._spaces.started(number, space.pid)

    def end(self, number: int, reason: EndReason, detail: str) -> None:
        """End one of these; one whose space is still being made ends then, and one that ends already at once."""
        if number in self._open:
            self._closing.spawn(self._end(number, reason, detail))
        elif number in self._leaving:
            self._cut_short.setdefault(number, (reason, detail))
            self._closing.spawn(self._leaving[number].close(0))
        else:
            self._opening[number] = reason, detail

    async def _end(self, number: int, reason: EndReason, detail: str) -> None:
        """For a reason of ours; what its process then says of its end is not the reason."""
        space = self._open.pop(number, None)
        if space is not None:
            self._leaving[number] = space
            try:
                if reason in _TAKEN_OVER and space.port is not None:
                    await self._part(space)
                await space.close(GRACE_S)
            finally:
                del self._leaving[number]
            self._spaces.cpu.ended(space)
        self._spaces.ended(number, *self._cut_short.pop(number, (reason, detail)))

    async def _part(self, space: DaemonSpace) -> None:
        """Nobody new is connected to it; those who are may finish, unless the machine is wanted back."""
        # Where no thread is to be had nobody is waited for: it has to end all the same.
        with contextlib.suppress(TimeoutError, RuntimeError):
            async with asyncio.timeout(PARTING_S):
                while True:
                    if not await self._has_clients(space):
                        return
                    await asyncio.sleep(LOOK_S)

    async def _has_clients(self, space: DaemonSpace) -> bool:
        """For one after the other: of many that leave together not all are looked at all the time."""
        async with self._looking:
            if self._agent.machine.draining:
                return False
            began_at = time.monotonic()
            found = await space.has_clients()
            await asyncio.sleep(REST * (time.monotonic() - began_at) if found else 0)
            return found

    def closed(self, number: int, reason: EndReason, detail: str) -> None:
        """One has ended by itself."""
        space = self._open.pop(number, None)
        if space is not None:
            self._spaces.cpu.ended(space)
            self._spaces.ended(number, reason, detail)
        elif number in self._opening:
            self._opening[number] = self._opening[number] or (reason, detail)

    def close_all(self) -> None:
        """The host stops: all end at once, each with its grace."""
        for number in list(self._open):
            self.end(number, EndReason.HOST_STOPPED, "")

    async def connect(self, number: int) -> socket.socket:
        """A socket connected to the daemon's port inside its space. Raises SpaceFailed."""
        space = self._open.get(number)
        if space is None:
            raise SpaceFailed("the daemon has just ended; try again")
        return await space.connect()

    def read(self, number: int, on: bool) -> None:
        """Whether what it writes is read."""
        space = self._there.get(number)
        if space is not None:
            (space.resume_output if on else space.pause_output)()

    def folders(self) -> set[Path]:
        """What they use of the host's disk."""
        found = (each for space in self._there.values() for each in (space.view.code, space.view.wheels))
        return {each for each in found if each is not None}

    def processes(self) -> list[int]:
        """All that run in them, as last seen."""
        return [pid for space in self._there.values() for pid in space.processes()]

    def usages(self, known: Iterable[int]) -> dict[int, Usage]:
        """What those of these numbers use."""
        there = self._there
        return {number: there[number].usage() for number in known if number in there}

    @property
    def _there(self) -> dict[int, DaemonSpace]:
        return self._open | self._leaving


def _why(error: Exception) -> Why:
    failure = as_failure(error, "start the daemon")
    reason = EndReason.SPACE_FAILED if isinstance(failure, SpaceFailed) else EndReason.NOT_LISTENING
    return reason, failure.message


class _Events:
    """What one daemon's space tells."""

    def __init__(self, spaces: Spaces, number: int) -> None:
        self._number = number
        self._spaces = spaces

    def output(self, number: int, data: bytes) -> None:
        self._spaces.output(("", self._number), data, "")

    def closed(self, reason: EndReason, detail: str) -> None:
        self._spaces.daemons.closed(self._number, reason, detail)
