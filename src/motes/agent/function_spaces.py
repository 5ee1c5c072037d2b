"""The process spaces of functions: one for each release that is open, and in it instances, by number.

Follow a call: `deliver` -> motes.space.function_space -> `replied`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from motes.agent.core.effects import Close, Deliver, End, Inform, More, Prepare, Spawn, Stop
from motes.agent.core.pool import Ask, Work
from motes.agent.failure import as_failure
from motes.agent.views import function_view
from motes.errors import SpaceFailed
from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.space import measure
from motes.space.blank import Blank
from motes.space.function_space import ZYGOTE_NUMBER, FunctionSpace
from motes.space.limits import Limits, Usage
from motes.tasks import Tasks

if TYPE_CHECKING:
    from motes.agent.service import Agent
    from motes.agent.spaces import Spaces

OPEN_TIMEOUT_S = 30.0
"""How long a release may take to load."""
LONG_CALL_S = 0.005
"""After a call this long it pays to ask the kernel how long the instance waited for a processor. A shorter one waited
mostly before it began to work."""


class FunctionSpaces:
    """Those of one host; a part of its Spaces. What is being ended goes on in `closing`."""

    def __init__(self, agent: Agent, spaces: Spaces, blank: Blank, closing: Tasks) -> None:
        self._agent = agent
        self._spaces = spaces
        self._blank = blank
        self._closing = closing
        self._by_release: dict[str, FunctionSpace] = {}
        self._loading: set[FunctionSpace] = set()
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._by_number: dict[int, FunctionSpace] = {}
        self._ended_early: dict[int, tuple[EndReason, str]] = {}
        """Instances that were told to end, and whose space has."""

    # ------------------------------------------------------------------ spaces

    def prepare(self, effect: Prepare) -> None:
        opening = self._opening[effect.release] = self._agent.tasks.spawn(self._open(effect.release))
        opening.add_done_callback(lambda done: self._opened(effect.release, done))

    def _opened(self, release: str, done: asyncio.Task[None]) -> None:
        if self._opening.get(release) is done:
            del self._opening[release]

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
        manifest = self._agent.machine.manifest(release)
        events = _Events(self._spaces, release, manifest.app)
        view = function_view(await self._spaces.folders(release), max(each.memory_bytes for each in manifest.workloads))
        space = events.space = await self._blank.take(view) or FunctionSpace(view, events)
        self._spaces.cpu.opened(space, manifest.app)
        self._loading.add(space)
        try:
            await space.load(view, events, entries=manifest.entries, timeout_s=OPEN_TIMEOUT_S)
            if space.gone.done():
                # What it told of its end nobody has heard: it was not known yet.
                await space.close()
                raise SpaceFailed("the process space ended as soon as it had loaded the app")
        except BaseException:
            # Also when it is called off.
            self._spaces.cpu.ended(space)
            raise
        finally:
            self._loading.discard(space)
        return space

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
        self._spaces.cpu.ended(space)

    def closed(self, release: str, space: FunctionSpace | None, detail: str) -> None:
        """A space has ended: by itself, if it is still the release's. One that was closed may have a successor."""
        if space is not None and self._by_release.get(release) is space:
            del self._by_release[release]
            self._spaces.cpu.ended(space)
            self._agent.feed(self._agent.machine.on_space_closed(release, detail, self._agent.now()))

    async def close_all(self) -> None:
        """The host stops."""
        spaces, self._by_release = list(self._by_release.values()), {}
        for space in spaces:
            await self._close(space)

    # ------------------------------------------------------------------ instances

    def spawn(self, effect: Spawn) -> None:
        space = self._by_release.get(effect.release)
        if space is None:
            self._agent.tasks.spawn(self._never_started(effect.number))
            return
        self._by_number[effect.number] = space
        space.spawn(effect.number, effect.function.name, Limits(memory_bytes=effect.function.memory_bytes))

    async def _never_started(self, number: int) -> None:
        why = self._ended_early.get(number, (EndReason.SPACE_FAILED, "its space has ended"))
        self._spaces.ended(number, *why)

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

    def inform(self, effect: Inform) -> None:
        space = self._by_number.get(effect.number)
        if space is not None and not space.inform(effect.number, effect.ask, effect.outcome):
            self._agent.feed(self._agent.machine.on_unread(effect.number, effect.ask, self._agent.now()))

    def end(self, effect: End) -> None:
        space = self._by_number.get(effect.number)
        if space is not None:
            space.end(effect.number, effect.reason, effect.detail)
        else:
            self._ended_early[effect.number] = (effect.reason, effect.detail)

    def forget(self, number: int) -> None:
        """It has ended."""
        self._by_number.pop(number, None)
        self._ended_early.pop(number, None)

    # ------------------------------------------------------------------ what instances say

    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None:
        instance = self._agent.machine.instances.get(number)
        pid = instance.pid if instance is not None else measure.GONE
        cpu_s = measure.cpu_s(pid) if pid else 0.0
        waited_s = measure.waited_s(pid) if pid and worked_s >= LONG_CALL_S else None
        work = Work(worked_s, cpu_s, waited_s)
        if self._agent.spans is not None and instance is not None:
            self._agent.spans.worked(instance, tag, outcome, worked_s)
        self._agent.carry_out(self._agent.machine.on_reply(number, tag, outcome, work, self._agent.now()))

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

    # ------------------------------------------------------------------ what they use

    def read(self, release: str, on: bool) -> None:
        """Whether what the release's zygote writes is read."""
        space = self._by_release.get(release)
        if space is not None:
            (space.resume_output if on else space.pause_output)(ZYGOTE_NUMBER)

    def folders(self) -> set[Path]:
        """What they use of the host's disk."""
        found = (each for space in self._by_release.values() for each in (space.view.code, space.view.wheels))
        return {each for each in found if each is not None}

    def processes(self) -> list[int]:
        """All that run in them, as last seen."""
        return [pid for space in (*self._by_release.values(), *self._loading) for pid in space.processes()]

    def usages(self) -> dict[int, Usage]:
        """What the instances that live use."""
        known = self._agent.machine.instances
        return {
            number: space.usage(number)
            for number, space in self._by_number.items()
            if number in known and known[number].alive
        }

    def shared_bytes(self) -> dict[str, int]:
        """By app, the memory that is of no single instance."""
        shared: dict[str, int] = {}
        for space in self._by_release.values():
            app = self._spaces.cpu.app_of(space)
            shared[app] = shared.get(app, 0) + space.shared_usage().memory_bytes
        return shared

    def on_disk_bytes(self) -> int:
        """What they have written where their /tmp lies on the host's disk, as last measured."""
        return sum(space.on_disk_bytes for space in self._by_release.values())

    def close_largest(self, why: str) -> None:
        """End the one that has written the most there."""
        spaces = self._by_release.values()
        largest = max(spaces, key=lambda space: space.on_disk_bytes, default=None)
        if largest is not None and largest.on_disk_bytes:
            self._closing.spawn(largest.close(EndReason.FILE_LIMIT, why))


async def _until_ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))


class _Events:
    """What one release's space tells; see motes.space.function_space.SpaceEvents."""

    def __init__(self, spaces: Spaces, release: str, app: str) -> None:
        functions = spaces.functions
        self.space: FunctionSpace | None = None
        self._spaces = spaces
        self._release = release
        self._app = app
        self.started = spaces.started
        self.ended = spaces.ended
        self.replied = functions.replied
        self.item = functions.item
        self.asked = functions.asked
        self.left = functions.left
        self.taken = functions.taken

    def output(self, number: int, data: bytes) -> None:
        self._spaces.output((self._release, number), data, self._app)

    def closed(self, detail: str) -> None:
        self._spaces.functions.closed(self._release, self.space, detail)
