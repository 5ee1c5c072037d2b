"""The controller's shell: hears hosts and callers over NATS, keeps what was deployed in the store, and carries out
what the core decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.bus.notices import ended_user
from motes.bus.reports import read_report
from motes.bus.store import Store
from motes.controller.core import SETTLE_S, Core, Effect, Give, Publish, Tell
from motes.controller.requests import Requests
from motes.grants.keys import Key, Tag, sign, verify
from motes.model.host import Beat, HostReport
from motes.model.instance import Event
from motes.model.names import HOST_PREFIX, KEEPER
from motes.model.release import Release, Signed, release_id

TICK_S = 0.5
EPOCH_BITS = 32
"""Epochs of one controller; its generation stands above them, so a later controller's epochs are all higher."""

_reports = msgspec.msgpack.Decoder(HostReport)
_beats = msgspec.msgpack.Decoder(Beat)
_log = logging.getLogger("motes.controller")


class Controller:
    """One running controller. `open`, then it works until `close`."""

    def __init__(self, connection: Connection, store: Store, key: Key, owners: frozenset[bytes], core: Core) -> None:
        self.connection = connection
        self.store = store
        self.core = core
        self._key = key
        self._owners = owners
        self._requests = Requests(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._do: dict[type, Callable[[Any], None]] = {
            Give: self._do_give,
            Publish: self._do_publish,
            Tell: self._do_tell,
        }

    @classmethod
    async def open(cls, connection: Connection, key: Key, owners: frozenset[bytes]) -> Controller:
        """Load what was deployed and begin to hear hosts and callers. Raises Unavailable."""
        store = await Store.open(connection)
        generation = await store.next_generation()
        deployed = [msgspec.msgpack.decode(value, type=Signed) for value in (await store.apps()).values()]
        now = asyncio.get_running_loop().time()
        core = Core(generation << EPOCH_BITS, now + SETTLE_S if deployed else now)
        controller = cls(connection, store, key, owners, core)
        for signed in deployed:
            controller.carry_out(core.on_deployed(release_id(signed), controller.check(signed), now), quiet=True)
        await controller._listen()
        controller.spawn(controller._tick())
        return controller

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    def check(self, signed: Signed) -> Release:
        """The release that an owner signed. Raises Untrusted."""
        return msgspec.msgpack.decode(verify(signed, Tag.RELEASE, self._owners), type=Release)

    def now(self) -> float:
        return self._loop.time()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside; its failure is logged."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a task of the controller failed", exc_info=task.exception())

    # ------------------------------------------------------------------ events

    async def _listen(self) -> None:
        await self.connection.subscribe(subjects.state("*"), self._on_report)
        await self.connection.subscribe(subjects.beat("*"), self._on_beat)
        await self.connection.subscribe(subjects.event("*"), self._on_event)
        await self.connection.subscribe(subjects.keeper("*", "*"), self._requests.on_message)

    def _on_report(self, message: Message) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            report = _reports.decode(message.data)
            if message.subject == subjects.state(report.host):
                self.carry_out(self.core.on_report(report, self.now()))
                # An agent that has just started waits to be known.
                if message.reply.startswith(f"{subjects.inbox(HOST_PREFIX + report.host)}."):
                    self.connection.publish(message.reply, b"")

    def _on_beat(self, message: Message) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            beat = _beats.decode(message.data)
            if message.subject == subjects.beat(beat.host):
                self.carry_out(self.core.on_beat(beat, self.now()))

    def _on_event(self, message: Message) -> None:
        event = read_report(message.subject, message.data, Event)
        if event is not None and message.subject == subjects.event(event.host):
            self.core.on_event(event)

    def on_disconnect_notice(self, message: Message) -> None:
        """The server says that a connection has ended, `$SYS.ACCOUNT.*.DISCONNECT`; a host's means that it is gone."""
        user = ended_user(message.data)
        if user.startswith(HOST_PREFIX):
            host = user.removeprefix(HOST_PREFIX)
            self.carry_out(self.core.on_gone(host, self.now()))
            self.connection.publish(subjects.gone(host), b"")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self.connection.connected:
                try:
                    self.carry_out(self.core.tick(self.now()))
                except Exception:
                    # A mistake in one turn must not end all later ones: lost hosts would keep their work.
                    _log.exception("a turn of the controller failed")

    # ------------------------------------------------------------------ effects

    def carry_out(self, effects: Sequence[Effect], quiet: bool = False) -> None:
        """Do what the core wants; `quiet`: without telling events, for what is no news."""
        for effect in effects:
            if not (quiet and isinstance(effect, Tell)):
                self._do[type(effect)](effect)

    def _do_give(self, effect: Give) -> None:
        signed = sign(self._key, Tag.LEASE, msgspec.msgpack.encode(effect.lease))
        self.connection.publish(subjects.lease(effect.lease.host), msgspec.msgpack.encode(signed))

    def _do_publish(self, effect: Publish) -> None:
        self.connection.publish(subjects.route(effect.routes.app), msgspec.msgpack.encode(effect.routes))

    def _do_tell(self, effect: Tell) -> None:
        event = Event(
            time.time(),
            effect.what,
            str(effect.reason),
            effect.host,
            effect.app,
            effect.workload,
            effect.release,
            effect.pid,
            effect.detail,
        )
        self.connection.publish(subjects.event(KEEPER), msgspec.json.encode(event))
