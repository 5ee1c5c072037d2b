"""The process spaces of one host, between the machine and `motes.space`: those of functions, and those of daemons."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from motes.agent.code import Folders
from motes.agent.core import machine as core
from motes.agent.core.effects import End
from motes.agent.cpu import CpuByApp
from motes.agent.daemon_spaces import DaemonSpaces
from motes.agent.function_spaces import FunctionSpaces
from motes.agent.outputs import Outputs, Writer
from motes.model.instance import EndReason
from motes.model.release import Release
from motes.model.units import format_bytes
from motes.space import measure
from motes.space.blank import Blank
from motes.space.function_space import ZYGOTE_NUMBER
from motes.tasks import Tasks

if TYPE_CHECKING:
    from motes.agent.service import Agent

KILLED = "SIGKILL"
"""How an end is told that none of Motes brought about."""
LOAD = "load"
"""The name under which logs show what an app writes while it is loaded."""


class Spaces:
    """All of them together. `releases` has every one known; `blank` is for Blank."""

    def __init__(self, agent: Agent, blank: Path) -> None:
        self._agent = agent
        self._blank = Blank(blank)
        self._closing = Tasks("agent")
        """What is being closed; a host that stops waits for it, so that no process outlives the agent."""
        self.releases: dict[str, Release] = {}
        self.functions = FunctionSpaces(agent, self, self._blank, self._closing)
        self.daemons = DaemonSpaces(agent, self, self._closing)
        self.outputs = Outputs(self._read)
        self.cpu = CpuByApp()
        self.on_disk_bytes = 0
        """What functions have written where their /tmp lies on the host's disk, as last measured."""

    def used_folders(self) -> set[Path]:
        """Folders that must stay: those of open spaces. One that is being opened was used last, so it stays too."""
        return self.functions.folders() | self.daemons.folders()

    async def folders(self, release: str) -> Folders:
        """The release's code; what was deleted since, to keep to a limit, is fetched again. Raises MotesError."""
        found = self.releases[release]
        return await self._agent.code.folders(found.bundle, found.packages)

    # ------------------------------------------------------------------ instances of both

    def started(self, number: int, pid: int) -> None:
        self._agent.feed(self._agent.machine.on_started(number, pid, self._agent.now()))

    def end(self, effect: End) -> None:
        if effect.number in self.daemons:
            self.daemons.end(effect.number, effect.reason, effect.detail)
        else:
            self.functions.end(effect)

    def ended(self, number: int, reason: EndReason, detail: str) -> None:
        self.functions.forget(number)
        if reason == EndReason.CRASHED and detail.endswith(KILLED) and self._agent.holding.has_killed():
            lent = format_bytes(self._agent.machine.offer.memory_bytes)
            detail = f"host {self._agent.host!r} lends {lent} of memory, and the kernel ended it when all was in use"
            reason = EndReason.PRESSURE
        self._agent.feed(self._agent.machine.on_ended(number, reason, detail, self._agent.now()))

    def output(self, writer: Writer, data: bytes, app: str) -> None:
        """A writer of the app has written something; what is of no instance was written while the app was loaded."""
        self.outputs.note(writer, len(data))
        release, number = writer
        instance = self._agent.machine.instances.get(number)
        if instance is not None:
            self._agent.log(instance.address, instance.pid, data)
            self._agent.feed(self._agent.machine.on_output(number, len(data)))
        elif release:
            self._agent.log(f"{app}.{LOAD}", 0, data)

    def _read(self, writer: Writer, on: bool) -> None:
        release, number = writer
        if not release:
            self.daemons.read(number, on)
        elif number == ZYGOTE_NUMBER:
            self.functions.read(release, on)

    # ------------------------------------------------------------------ their ends

    def keep_blank(self, on: bool) -> None:
        """Whether a blank space is kept ready."""
        self._blank.is_wanted = on
        if not on:
            self.drop_blank()

    def drop_blank(self) -> None:
        """End the one that is ready, if there is one."""
        self._closing.spawn(self._blank.drop())

    async def wait_until_closed(self) -> None:
        """Until what was to end has ended."""
        await self._closing.wait()

    async def close_all(self) -> None:
        """End everything."""
        self.daemons.close_all()
        await self.functions.close_all()
        await self._closing.wait()
        await self._blank.close()

    # ------------------------------------------------------------------ what they use

    def processes(self) -> list[int]:
        """All that run in spaces, as last seen."""
        return [*self.functions.processes(), *self.daemons.processes()]

    def sample_busy(self) -> None:
        """How much first calls want a processor, for whether more instances help; of later ones that is known."""
        for pool in self._agent.machine.pools.values():
            for instance in pool.instances.values() if pool.calls_ended == 0 else ():
                if instance.calls_now and instance.alive:
                    instance.cpu_s = measure.cpu_s(instance.pid)
                    instance.waited_s = measure.waited_s(instance.pid)

    def sample_all(self) -> None:
        """Everything that `motes ps` shows."""
        for number, usage in self._usages().items():
            instance = self._agent.machine.instances[number]
            instance.cpu_s, instance.memory_bytes = usage.cpu_s, usage.memory_bytes

    def measure(self) -> tuple[dict[int, core.Usage], int, dict[str, int]]:
        """What instances use, what all spaces use together, in bytes, and by app what is of no single instance."""
        usages, shared = self._usages(), self.functions.shared_bytes()
        self.on_disk_bytes = self.functions.on_disk_bytes()
        own_bytes = measure.memory_bytes(os.getpid())
        used_bytes = own_bytes + sum(shared.values()) + sum(usage.memory_bytes for usage in usages.values())
        blank_bytes = self._blank.memory_bytes()
        if used_bytes + blank_bytes > self._agent.machine.memory_limit_bytes:
            # Before any instance has to go.
            self.drop_blank()
            return usages, used_bytes, shared
        return usages, used_bytes + blank_bytes, shared

    def cpu_s(self) -> float:
        """CPU time of all spaces, also of those that have ended."""
        return sum(self.cpu.seconds().values())

    def _usages(self) -> dict[int, core.Usage]:
        found = self.functions.usages() | self.daemons.usages(self._agent.machine.instances)
        return {number: core.Usage(used.cpu_s, used.memory_bytes, used.threads) for number, used in found.items()}
