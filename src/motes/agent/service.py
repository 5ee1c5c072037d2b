"""The agent's shell: NATS and process spaces around the machine. It carries effects out and feeds back what happened.

Follow a call: Hearing._on_call -> Machine.on_call -> Deliver -> FunctionSpace.deliver -> `replied` -> Answer -> send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from motes.agent.clock import KeepersClock
from motes.agent.code import ARCHITECTURE, Code
from motes.agent.core.effects import (
    Answer,
    Close,
    Deliver,
    Effect,
    End,
    Fetch,
    Inform,
    More,
    Prepare,
    Relay,
    RelayAwait,
    RelayCancel,
    RelayMore,
    Report,
    Spawn,
    StartDaemon,
    Stop,
    Tell,
)
from motes.agent.core.machine import Machine
from motes.agent.core.pool import START_COST_S
from motes.agent.core.streams import break_streams
from motes.agent.disk import Disk
from motes.agent.failure import as_failure
from motes.agent.hearing import Hearing
from motes.agent.holding import Holding
from motes.agent.inspection import Inspection
from motes.agent.large import LargeResults
from motes.agent.logs import FLUSH_S, Logs
from motes.agent.membership import Membership
from motes.agent.receipts import Receipts
from motes.agent.relaying import Relaying
from motes.agent.resting import Resting
from motes.agent.sending import Sending
from motes.agent.spaces import Spaces
from motes.agent.spans import HostSpans
from motes.agent.telling import Telling
from motes.agent.trust import Trust
from motes.agent.tunnels import Tunnels
from motes.agent.written import Written
from motes.bus import subjects
from motes.bus.connection import Connection
from motes.errors import MotesError, SpaceFailed, TooLarge
from motes.model.call import LARGE_BYTES, STATUS_ITEM
from motes.model.host import BEAT_INTERVAL_S, Offer
from motes.space import measure
from motes.tasks import Tasks
from motes.tracing import tracer

DRAIN_S = 3.0
"""How long running calls may go on when the host stops, or its owner wants it back."""
SOON_MAX_S = 0.02
_log = logging.getLogger("motes.agent")


class Agent:
    """One host's agent. `start`, then it works until `stop`."""

    def __init__(
        self, host: str, offer: Offer, connection: Connection, trust: Trust, folder: Path, holding: Holding
    ) -> None:
        self.host = host
        self.machine = Machine(host, offer, ARCHITECTURE)
        self.machine.memory_is_walled = holding.memory_is_walled
        self.holding = holding
        self._resting: Resting | None = None
        self.connection = connection
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self.clock = KeepersClock()
        self._logs = Logs(host, connection.publish, self.clock.now)
        self.spaces = Spaces(self, folder / "blank")
        self._disk = Disk(offer.disk_bytes, self.spaces.used_folders, lambda: self.spaces.on_disk_bytes)
        self.code = Code(folder, connection, trust, self._disk)
        self._written = Written(self._disk, self.spaces)
        self.inspection = Inspection(self.code, trust, self.machine)
        self.telling = Telling(self)
        self.membership = Membership(self)
        self.takes_calls = asyncio.Event()
        self.ends = ""
        """Why the owner ends this host, as far as he has said it."""
        self.relaying = Relaying(self)
        self.tunnels = Tunnels(self)
        self._receipts = Receipts(self, trust.controller, folder)
        found = tracer("agent")
        self.spans = None if found is None else HostSpans(found, host)
        self._soon: asyncio.TimerHandle | None = None
        self._soon_s = START_COST_S
        self.tasks = Tasks("agent")
        self.sending = Sending(connection, self.now)
        self.large = LargeResults(self.sending.answer)
        self._hearing = Hearing(self, trust, folder)
        self._do: dict[type, Callable[[Any], object]] = {
            Answer: self._do_answer,
            Deliver: self.spaces.functions.deliver,
            Stop: self.spaces.functions.stop,
            More: self.spaces.functions.more,
            Spawn: self.spaces.functions.spawn,
            End: self.spaces.end,
            Fetch: lambda effect: self.tasks.spawn(self._fetch(effect.release)),
            Prepare: self.spaces.functions.prepare,
            Close: self.spaces.functions.close,
            StartDaemon: self.spaces.daemons.start,
            Inform: self.spaces.functions.inform,
            Relay: self.relaying.send,
            RelayCancel: self.relaying.cancel,
            RelayMore: self.relaying.more,
            RelayAwait: self.relaying.wait,
            Tell: self.telling.event,
            Report: lambda effect: self.telling.report(),
        }

    async def start(self) -> None:
        """Hear leases, and tell of this host; calls as soon as the keeper takes it for the host. Raises Unavailable."""
        self.connection.on_reconnected = self._on_reconnected
        await self._hearing.start()
        await self.relaying.start()
        for work in (self._take_part(), self._beats(), self._flushes(), self._receipts.work()):
            self.tasks.spawn(work)
        self._rest()

    def lend(self, offer: Offer) -> None:
        """Lend more or less from now on, or to others. Its priority stays as it is until the next start."""
        offer = msgspec.structs.replace(offer, idle_class=self.machine.offer.idle_class)
        if offer == self.machine.offer:
            return
        self.holding.change(offer, measure.processes_below(os.getpid()))
        # Nothing runs in it yet, so nobody would see that it has more than the others.
        self.spaces.drop_blank()
        self._disk.most_bytes = offer.disk_bytes
        self._written.keep()
        self.feed(self.machine.on_offer(offer, self.now()))
        self.code.keep_to(self.machine.wanted_releases())
        self.inspection.look_again()
        self._rest()

    def _rest(self) -> None:
        """Where no cgroup sees to it, use no more of the processors than is lent."""
        if self._resting is not None:
            self._resting.close()
        rests, cpus = self.holding.rests, self.machine.offer.cpus
        self._resting = Resting(cpus, self.holding.processors, self.spaces.processes) if rests else None

    async def _take_part(self) -> None:
        await self.membership.join()
        if self.membership.is_host:
            # Routers learn of this start before a call can reach it.
            self.telling.beat()
            await self._hearing.take_part()
            self.takes_calls.set()

    def _on_reconnected(self) -> None:
        """The keeper may be another one by now, and wants to know the new connection."""
        self.feed(break_streams(self.machine, self.now()))
        self.sending.on_reconnected()
        self.tunnels.on_reconnected()
        if self.membership.is_host:
            self.telling.beat()
            self.membership.join_again()

    async def stop(self) -> None:
        """Take no more calls, let the running ones finish within DRAIN_S, and end every space."""
        is_displaced = self.membership.displaced.is_set()
        if is_displaced:
            self._hearing.stop()
        self.feed(self.machine.on_drain(self.now()))
        await self.let_finish()
        self.tasks.cancel()
        await self.tasks.wait()
        if self._resting is not None:
            self._resting.close()
        await self.spaces.close_all()
        self.tunnels.close()
        self._logs.flush_all()
        await self._receipts.finish()
        if is_displaced:
            return
        with contextlib.suppress(MotesError):
            await self.connection.request(
                subjects.keeper(self.connection.user, "leave"), msgspec.msgpack.encode(self.ends), 1.0
            )

    async def let_finish(self) -> None:
        """Until nothing runs here any more, but at most DRAIN_S."""
        deadline = self.now() + DRAIN_S
        while not self.machine.is_empty() and self.now() < deadline:
            self.feed(self.machine.tick(self.now()))
            await asyncio.sleep(0.02)

    @staticmethod
    def now() -> float:
        """Seconds of the machine's own clock. Not the loop's: that stands still for a turn, and is in milliseconds."""
        return time.monotonic()

    async def _fetch(self, release: str) -> None:
        try:
            found = await self.code.release(release)
        except Exception as error:
            self.feed(self.machine.on_fetch_failed(release, as_failure(error, "fetch the app"), self.now()))
            return
        known = {name: each for name, each in self.spaces.releases.items() if name in self.machine.spaces}
        self.spaces.releases = {**known, release: found}
        owner = self._trust.signers[found.app]
        self.feed(self.machine.on_release(release, found.manifest, self.now(), owner))

    async def connect(self, app: str, workload: str) -> socket.socket:
        """A socket connected to a daemon that serves here, for the gateway. Raises SpaceFailed.

        Also for one that has just moved away: whoever asks has not heard it yet, and finds it elsewhere.
        """
        unit = self.machine.daemons.get(f"{app}.{workload}")
        if unit is None or unit.number is None:
            why = f": {unit.failing}" if unit is not None and unit.failing else ""
            raise SpaceFailed(f"daemon {app}.{workload} does not serve on host {self.host!r} now{why}")
        return await self.spaces.daemons.connect(unit.number)

    # ------------------------------------------------------------------ effects

    def feed(self, effects: Sequence[Effect]) -> None:
        """Carry out what the machine decided, and look again soon where calls wait."""
        self.carry_out(effects)
        if self._soon is None and self.machine.has_waiting():
            self._soon = self._loop.call_later(self._soon_s, self._tick_soon)

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """The same after an answer: that makes no call wait which did not, so the queues need no look."""
        for effect in effects:
            try:
                self._do[type(effect)](effect)
            except Exception:
                # The others are about other calls and instances.
                _log.exception("the agent could not do what was decided: %s", type(effect).__name__)

    def _tick_soon(self) -> None:
        """Calls wait: whether more instances are worth their start shows within milliseconds, and less often later."""
        self._soon = None
        self.spaces.sample_busy()
        self.feed(self.machine.tick(self.now()))
        self._soon_s = min(self._soon_s * 1.5, SOON_MAX_S) if self.machine.has_waiting() else START_COST_S

    def _do_answer(self, effect: Answer) -> None:
        if self.spans is not None:
            self.spans.answered(effect.replies, effect.outcome)
        outcome = effect.outcome
        kept = len(outcome.body) >= LARGE_BYTES and self.large.keep(effect.replies, outcome, self.now())
        data = b"" if kept else outcome.pack()
        for reply in effect.replies:
            if not isinstance(reply, str):
                self.carry_out(self.machine.on_told(reply, outcome, self.now()))
            elif outcome.status == STATUS_ITEM:
                self._send_item(reply, data)
            elif not kept:
                self.sending.answer(reply, data)

    def _send_item(self, reply: str, data: bytes) -> None:
        """One that cannot be sent ends the stream: it must not go on without."""
        try:
            if not self.connection.publish(reply, data):
                self.carry_out(break_streams(self.machine, self.now(), reply))
        except TooLarge as error:
            self.carry_out(break_streams(self.machine, self.now(), reply, error))

    def log(self, address: str, pid: int, data: bytes) -> None:
        """An instance wrote something."""
        self._logs.add(address, pid, data)

    # ------------------------------------------------------------------ looking after

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_INTERVAL_S)
            _do_each(self._watch, self._tell)

    def _tell(self) -> None:
        self.sending.tick()
        for release, missing_bytes in self.code.missing().items():
            self.feed(self.machine.on_fetching(release, missing_bytes))
        if self.membership.is_host:
            self.telling.beat()
            self.telling.report_if_due()

    def _watch(self) -> None:
        self.large.tick(self.now())
        usages, memory_bytes, shared = self.spaces.measure()
        self._written.look()
        self.holding.settle(self.spaces.processes())
        # A cgroup counts also what no process is seen to hold.
        memory_bytes = max(memory_bytes, self.holding.memory_bytes())
        self.feed(self.machine.on_usage(usages, memory_bytes, self.now(), shared))
        self.feed(self.machine.tick(self.now()))

    async def _flushes(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            _do_each(self._logs.flush, self.spaces.outputs.resume)


def _do_each(*looks: Callable[[], None]) -> None:
    for look in looks:
        try:
            look()
        except Exception:
            # A mistake in one look must not end all later ones: limits would hold no more, nobody hear of it.
            _log.exception("the agent could not look after its instances, or tell of them")
