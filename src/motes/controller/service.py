"""The controller's shell: opens and ends it, and carries out over NATS what the core decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.bus.notices import told
from motes.bus.store import Store
from motes.controller.absence import Absences
from motes.controller.admission import Admission
from motes.controller.core.effects import Effect, Give, Publish, Tell
from motes.controller.core.plan import dismiss
from motes.controller.core.readers import Readers
from motes.controller.core.scheduler import SETTLE_S, Scheduler
from motes.controller.disk import Disk
from motes.controller.door import Door, Seal
from motes.controller.hearing import Hearing
from motes.controller.intake import TOLD_BY_HOSTS
from motes.controller.naming import Naming
from motes.controller.proofs import Proofs
from motes.controller.receipts import Receipts
from motes.controller.requests import Requests
from motes.controller.succession import EPOCH_BITS, Succession
from motes.controller.withdrawn import Withdrawn
from motes.errors import Unavailable
from motes.grants.keys import Key, Tag, sign, verify
from motes.model.instance import Event
from motes.model.keeper import Inspect
from motes.model.names import HOST_PREFIX, KEEPER
from motes.model.release import Release, Removal, Signed, release_id
from motes.tasks import Tasks

TICK_S = 0.5
REMEMBERED = 5_000
"""Events that are read at the start, for instances that ended while there was no controller."""
_log = logging.getLogger("motes.controller")


class Controller:
    """One running controller. `open`, then it works until `close`."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        key: Key,
        seal: Seal,
        owners: frozenset[bytes],
        core: Scheduler,
        disk: Disk,
    ) -> None:
        self.connection = connection
        self.public = key.public
        self.owners = owners
        self.store = store
        self.core = core
        self.disk = disk
        self.removed_at: dict[str, float] = {}
        """By app, what its owner last said; an app may be there again since."""
        self._key = key
        self.proofs = Proofs(key)
        self.receipts = Receipts(self, key)
        self._hearing = Hearing(self)
        self.naming = Naming(self)
        self.readers = Readers(core.state)
        self._door = Door(self, seal)
        self.admission = Admission(self, self._door)
        self.absences = Absences(self)
        self.succession = Succession(self, key)
        self.withdrawn = Withdrawn(self, key)
        self._requests = Requests(self, self._door)
        self.tasks = Tasks("controller")
        self._loop = asyncio.get_running_loop()
        self._do: dict[type, Callable[[Any], None]] = {
            Give: self._do_give,
            Publish: self._do_publish,
            Tell: self._do_tell,
        }

    @classmethod
    async def open(
        cls, connection: Connection, key: Key, seal: Seal, owners: frozenset[bytes], disk: Disk, replicas: int = 1
    ) -> Controller:
        """Load what was deployed and begin to hear hosts and callers. Raises Unavailable, and Refused in the account
        of another cluster."""
        store = await Store.open(connection, replicas)
        await store.claim(key.public.hex())
        generation = await store.next_generation()
        deployed = [msgspec.msgpack.decode(value, type=Signed) for value in (await store.apps()).values()]
        now = asyncio.get_running_loop().time()
        core = Scheduler(generation << EPOCH_BITS, now + SETTLE_S if deployed else now, Proofs(key).hold)
        controller = cls(connection, store, key, seal, owners, core, disk)
        for value in (await store.removals()).values():
            removal = controller.check_removal(msgspec.msgpack.decode(value, type=Signed))
            controller.removed_at[removal.app] = removal.removed_at
        for signed in deployed:
            release = controller.check(signed)
            # One that is older is a removal that was cut short.
            if release.created_at > controller.removed_at.get(release.app, float("-inf")):
                controller.carry_out(core.on_deployed(release_id(signed), release, now), quiet=True)
        await controller.naming.load(lambda host: seal.own_key(host) is not None)
        await controller.absences.load()
        core.state.drained = await store.drained()
        await controller._door.remind()
        if seal.gate is None:
            await controller.withdrawn.load()
        await controller._hearing.start()
        await connection.subscribe(subjects.keeper("*", "*"), controller._requests.on_message)
        controller.tasks.spawn(controller._tick())
        controller.tasks.spawn(controller._remember())
        return controller

    async def close(self) -> None:
        self.tasks.cancel()
        await self.tasks.wait()
        await self.store.close()

    def check(self, signed: Signed) -> Release:
        """The release that an owner signed. Raises Untrusted."""
        return msgspec.msgpack.decode(verify(signed, Tag.RELEASE, self.owners), type=Release)

    def check_removal(self, signed: Signed) -> Removal:
        """The same for a removal."""
        return msgspec.msgpack.decode(verify(signed, Tag.REMOVAL, self.owners), type=Removal)

    def check_inspection(self, signed: Signed) -> Inspect:
        """The same for what an owner wants to have looked into."""
        return msgspec.msgpack.decode(verify(signed, Tag.INSPECTION, self.owners), type=Inspect)

    def now(self) -> float:
        return self._loop.time()

    # ------------------------------------------------------------------ events

    def on_disconnect_notice(self, message: Message) -> None:
        """The server says that a connection has ended, `$SYS.ACCOUNT.<ours>.DISCONNECT`: is it a host's, it is gone."""
        ended = told(message.data)
        if ended.user.startswith(HOST_PREFIX):
            host = ended.user.removeprefix(HOST_PREFIX)
            known = self.core.state.hosts.get(host)
            if known is not None and known.has_another(ended.number, ended.server):
                return  # It was cut off, and is back by another one.
            if known is not None:
                self.absences.note_gone(host)
            self.carry_out(self.core.on_gone(host, self.now(), ended.number, ended.server))
            self.succession.on_gone(host)
            self.connection.publish(subjects.gone(host), subjects.LEFT if known is None else b"")

    def forget_host(self, host: str) -> None:
        """It was removed: what it had, another machine of its name has not."""
        # Where NATS goes on letting it in, its agent ends by itself if it is an honest one.
        self.carry_out([Give(dismiss(self.core.state, host))])
        self.readers.forget(host)
        self.core.state.forget_all_given(host)
        self.carry_out(self.core.on_left(host, self.now()))

    async def _remember(self) -> None:
        """Read what was told before this controller; beside, for it may take half a second."""
        told: list[bytes] | None = None
        while told is None:
            try:
                told = await self.store.events(REMEMBERED)
            except Unavailable as error:
                # Until then each end that is told has to be kept, for it may be of a start that is read here.
                _log.warning("what was told before cannot be read yet: %s", error)
                await asyncio.sleep(TICK_S)
        self.core.remember(msgspec.json.decode(data, type=Event) for data in told)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self.connection.connected:
                try:
                    self.disk.tick()
                    self._hearing.tick()
                    self.withdrawn.tick()
                    self.absences.tick()
                    self.receipts.forget()
                    self.succession.forget()
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
        signed = sign(self._key, Tag.LEASE, msgspec.msgpack.encode(self.proofs.sealed(effect.lease)))
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
        data = msgspec.json.encode(event)
        self.connection.publish(subjects.event(KEEPER), data)
        # What is told in a host's place pushes out its own, and nobody else's.
        self.store.add_event(effect.host if effect.what in TOLD_BY_HOSTS and effect.host else KEEPER, data)
