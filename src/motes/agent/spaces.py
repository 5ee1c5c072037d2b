"""The process spaces of one host, by release and by instance number: between the machine and `motes.space`.

Those of functions are here; those of daemons in `daemon_spaces`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from motes.agent import machine as core
from motes.agent.code import Folders
from motes.agent.cpu import CpuByApp
from motes.agent.daemon_spaces import DaemonSpaces
from motes.agent.effects import Close, Deliver, End, Inform, More, Prepare, Spawn, Stop
from motes.agent.failure import as_failure
from motes.agent.outputs import Outputs, Writer
from motes.agent.pool import Ask, Work
from motes.agent.views import function_view
from motes.errors import SpaceFailed
from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.model.release import Release
from motes.model.units import format_bytes
from motes.space import measure
from motes.space.blank import Blank
from motes.space.function_space import ZYGOTE_NUMBER, FunctionSpace
from motes.space.limits import Limits
from motes.tasks import Tasks

if TYPE_CHECKING:
    from motes.agent.service import Agent

OPEN_TIMEOUT_S = 30.0
"""How long a release may take to load."""
LONG_CALL_S = 0.005
"""After a call this long it pays to ask the kernel how long the instance waited for a processor. A shorter one waited
mostly before it began to work."""
KILLED = "SIGKILL"
"""How an end is told that none of Motes brought about."""
LOAD = "load"
"""The name under which logs show what an app writes while it is loaded."""


class Spaces:
    """Open spaces, and which instance is in which. `releases` has every one known; `blank` is for Blank."""

    def __init__(self, agent: Agent, blank: Path) -> None:
        self._agent = agent
        self._blank = Blank(blank)
        self.releases: dict[str, Release] = {}
        self._by_release: dict[str, FunctionSpace] = {}
        self._loading: set[FunctionSpace] = set()
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._by_number: dict[int, FunctionSpace] = {}
        self._closing = Tasks("agent")
        """What is being closed; a host that stops waits for it, so that no process outlives the agent."""
        self._ended_early: dict[int, tuple[EndReason, str]] = {}
        """Instances that were told to end, and whose space has."""
        self.outputs = Outputs(self._read)
        self.daemons = DaemonSpaces(agent, self, self._closing)
        self.cpu = CpuByApp()
        self.on_disk_bytes = 0
        """What functions have written where their /tmp lies on the host's disk."""

    def used_folders(self) -> set[Path]:
        """Folders that must stay: those of open spaces. One that is being opened was used last, so it stays too."""
        views = [space.view for space in self._by_release.values()]
        mine = {each for view in views for each in (view.code, view.wheels) if each is not None}
        return mine | self.daemons.folders()

    async def folders(self, release: str) -> Folders:
        """The release's code; what was deleted since, to keep to a limit, is fetched again. Raises MotesError."""
        found = self.releases[release]
        return await self._agent.code.folders(found.bundle, found.packages)

    # ------------------------------------------------------------------ effects

    def prepare(self, effect: Prepare) -> None:
        opening = self._opening[effect.release] = self._agent.tasks.spawn(self._open(effect.release))
        opening.add_done_callback(lambda done: self._opened(effect.release, done))

    def _opened(self, release: str, done: asyncio.Task[None]) -> None:
        if self._opening.get(release) is done:
            del self._opening[release]

    def close(self, effect: Close) -> None:
        opening = self._opening.pop(effect.release, None)
        if opening is not None:
            opening.cancel()
            self._closing.spawn(_until_ended(opening))
        space = self._by_release.pop(effect.release, None)
        if space is not None:
            self._closing.spawn(self._close(space))

    async def _close(self, space: FunctionSpace) -> None:
        await space.close()
        self.cpu.ended(space)

    def spawn(self, effect: Spawn) -> None:
        space = self._by_release.get(effect.release)
        if space is None:
            self._agent.tasks.spawn(self._never_started(effect.number))
            return
        self._by_number[effect.number] = space
        space.spawn(effect.number, effect.function.name, Limits(memory_bytes=effect.function.memory_bytes))

    def deliver(self, effect: Deliver) -> None:
        space = self._by_number.get(effect.number)
        if space is not None:
            space.deliver(effect.number, effect.tag, effect.body)

    def stop(self, effect: Stop) -> None:
        space = self._by_number.get(effect.number)
        if space is not None:
            space.stop(effect.number, effect.tag)

    def more(self, effect: More) -> None:
        space = self._by_number.get(effect.number)
        if space is not None:
            space.more(effect.number, effect.tag, effect.count)

    def item(self, number: int, tag: int, body: bytes) -> None:
        self._agent.feed(self._agent.machine.on_item(number, tag, body))

    def asked(self, number: int, ask: int, tag: int, name: str, body: bytes) -> None:
        # Nobody can guess the id: what asks for an answer elsewhere could be answered by a stranger.
        wanted = Ask(ask, tag, os.urandom(16), name, body)
        self._agent.feed(self._agent.machine.on_ask(number, wanted, self._agent.now()))

    def left(self, number: int, ask: int) -> None:
        self._agent.feed(self._agent.machine.on_leave(number, ask, self._agent.now()))

    def taken(self, number: int, ask: int, count: int) -> None:
        self._agent.feed(self._agent.machine.on_taken(number, ask, count))

    def inform(self, effect: Inform) -> None:
        space = self._by_number.get(effect.number)
        if space is not None and not space.inform(effect.number, effect.ask, effect.outcome):
            self._agent.feed(self._agent.machine.on_unread(effect.number, effect.ask, self._agent.now()))

    def end(self, effect: End) -> None:
        if effect.number in self.daemons:
            self.daemons.end(effect.number, effect.reason, effect.detail)
        elif effect.number in self._by_number:
            self._by_number[effect.number].end(effect.number, effect.reason, effect.detail)
        else:
            self._ended_early[effect.number] = (effect.reason, effect.detail)

    # ------------------------------------------------------------------ functions

    async def _open(self, release: str) -> None:
        agent = self._agent
        try:
            space = await self._loaded(release)
        except Exception as error:
            failure = as_failure(error, "open a space for the app")
            agent.feed(agent.machine.on_space_failed(release, failure, agent.now()))
            return
        finally:
            self._blank.refill_soon()
        self._by_release[release] = space
        agent.feed(agent.machine.on_space_ready(release, agent.now()))

    async def _loaded(self, release: str) -> FunctionSpace:
        """A space with the release in it."""
        events = _FunctionEvents(self, release)
        manifest = self._agent.machine.manifest(release)
        view = function_view(await self.folders(release), max(each.memory_bytes for each in manifest.workloads))
        space = await self._blank.take(view) or FunctionSpace(view, events)
        self.cpu.opened(space, manifest.app)
        self._loading.add(space)
        try:
            await space.load(view, events, entries=manifest.entries, timeout_s=OPEN_TIMEOUT_S)
            if space.gone.done():
                # What it told of its end nobody has heard: it was not known yet.
                await space.close()
                raise SpaceFailed("the process space ended as soon as it had loaded the app")
        except BaseException:
            # Also when it is called off.
            self.cpu.ended(space)
            raise
        finally:
            self._loading.discard(space)
        return space

    async def _never_started(self, number: int) -> None:
        self.ended(number, *self._ended_early.get(number, (EndReason.SPACE_FAILED, "its space has ended")))

    def started(self, number: int, pid: int) -> None:
        self._agent.feed(self._agent.machine.on_started(number, pid, self._agent.now()))

    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None:
        instance = self._agent.machine.instances.get(number)
        pid = instance.pid if instance is not None else measure.GONE
        cpu_s = measure.cpu_s(pid) if pid else 0.0
        waited_s = measure.waited_s(pid) if pid and worked_s >= LONG_CALL_S else None
        work = Work(worked_s, cpu_s, waited_s)
        if self._agent.spans is not None and instance is not None:
            self._agent.spans.worked(instance, tag, outcome, worked_s)
        self._agent.carry_out(self._agent.machine.on_reply(number, tag, outcome, work, self._agent.now()))

    def ended(self, number: int, reason: EndReason, detail: str) -> None:
        self._by_number.pop(number, None)
        self._ended_early.pop(number, None)
        if reason == EndReason.CRASHED and detail.endswith(KILLED) and self._agent.holding.has_killed():
            lent = format_bytes(self._agent.machine.offer.memory_bytes)
            detail = f"host {self._agent.host!r} lends {lent} of memory, and the kernel ended it when all was in use"
            reason = EndReason.PRESSURE
        self._agent.feed(self._agent.machine.on_ended(number, reason, detail, self._agent.now()))

    def closed(self, release: str, detail: str) -> None:
        space = self._by_release.pop(release, None)
        if space is not None:
            self.cpu.ended(space)
            self._agent.feed(self._agent.machine.on_space_closed(release, detail, self._agent.now()))

    def output(self, release: str, number: int, data: bytes) -> None:
        self.outputs.note((release, number), len(data))
        machine = self._agent.machine
        instance = machine.instances.get(number)
        if instance is None:
            if release:
                self._agent.log(f"{machine.manifest(release).app}.{LOAD}", 0, data)
            return
        self._agent.log(instance.address, instance.pid, data)
        self._agent.feed(machine.on_output(number, len(data)))

    def _read(self, writer: Writer, on: bool) -> None:
        release, number = writer
        space = self._by_release.get(release)
        if not release:
            self.daemons.read(number, on)
        elif space is not None and number == ZYGOTE_NUMBER:
            (space.resume_output if on else space.pause_output)(number)

    # ------------------------------------------------------------------ all together

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
        await self.daemons.close_all()
        spaces, self._by_release = list(self._by_release.values()), {}
        for space in spaces:
            await self._close(space)
        await self._closing.wait()
        await self._blank.close()

    # ------------------------------------------------------------------ measuring

    def processes(self) -> list[int]:
        """All that run in spaces, as last seen."""
        functions = [pid for space in (*self._by_release.values(), *self._loading) for pid in space.processes()]
        return [*functions, *self.daemons.processes()]

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

    def measure(self, now: float) -> tuple[dict[int, core.Usage], int, dict[str, int]]:
        """What instances use, what all spaces use together, in bytes, and by app what is of no single instance."""
        usages = self._usages()
        shared: dict[str, int] = {}
        for space in self._by_release.values():
            app = self.cpu.app_of(space)
            shared[app] = shared.get(app, 0) + space.shared_usage().memory_bytes
        self.on_disk_bytes = sum(space.on_disk_bytes for space in self._by_release.values())
        own_bytes = measure.memory_bytes(os.getpid())
        used_bytes = own_bytes + sum(shared.values()) + sum(usage.memory_bytes for usage in usages.values())
        blank_bytes = self._blank.memory_bytes()
        if used_bytes + blank_bytes > self._agent.machine.memory_limit_bytes:
            # Before any instance has to go.
            self.drop_blank()
            return usages, used_bytes, shared
        return usages, used_bytes + blank_bytes, shared

    def close_largest(self, why: str) -> None:
        """End the space that has written the most to the host's disk."""
        spaces = self._by_release.values()
        largest = max(spaces, key=lambda space: space.on_disk_bytes, default=None)
        if largest is not None and largest.on_disk_bytes:
            self._closing.spawn(largest.close(EndReason.FILE_LIMIT, why))

    def cpu_s(self) -> float:
        """CPU time of all spaces, also of those that have ended."""
        return sum(self.cpu.seconds().values())

    def _usages(self) -> dict[int, core.Usage]:
        known = self._agent.machine.instances
        found = {
            number: space.usage(number)
            for number, space in self._by_number.items()
            if number in known and known[number].alive
        }
        found |= self.daemons.usages(known)
        return {number: core.Usage(used.cpu_s, used.memory_bytes, used.threads) for number, used in found.items()}


async def _until_ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))


class _FunctionEvents:
    """What one release's space tells; see motes.space.function_space.SpaceEvents."""

    def __init__(self, spaces: Spaces, release: str) -> None:
        self._release = release
        self._spaces = spaces
        self.started = spaces.started
        self.replied = spaces.replied
        self.item = spaces.item
        self.asked = spaces.asked
        self.left = spaces.left
        self.taken = spaces.taken
        self.ended = spaces.ended

    def output(self, number: int, data: bytes) -> None:
        self._spaces.output(self._release, number, data)

    def closed(self, detail: str) -> None:
        self._spaces.closed(self._release, detail)
