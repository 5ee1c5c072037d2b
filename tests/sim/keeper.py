"""The simulated keeper: the real controller's Scheduler, with the habits of controller/service.py around it.

What was deployed outlives the controller; everything else it knows dies with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from motes.controller.core.effects import Effect, Give, Publish
from motes.controller.core.scheduler import SETTLE_S, Scheduler
from motes.controller.proofs import Proofs
from motes.errors import MotesError, NotFound, Unavailable
from motes.grants.keys import KEY_BYTES, Key
from motes.model.host import Beat, HostReport, Lease
from motes.model.instance import Event
from motes.model.release import Manifest, Release
from motes.model.routes import Routes
from sim.invariants import EPOCH_BITS

if TYPE_CHECKING:
    from sim.world import World

TICK_S = 0.5


class SimKeeper:
    name = "keeper"

    def __init__(self, world: World) -> None:
        self._world = world
        self.core: Scheduler | None = None
        self.generation = 0
        self.deployed: dict[str, tuple[str, Release]] = {}
        self.releases: dict[str, Release] = {}
        self.settled_at = 0.0
        self.proofs = Proofs(Key(bytes(KEY_BYTES)))

    @property
    def now(self) -> float:
        return self._world.clock.now

    # ------------------------------------------------------------------ life and death

    def start(self) -> None:
        self.generation += 1
        self._world.network.up(self.name)
        self.settled_at = self.now + SETTLE_S if self.deployed else self.now
        self.core = self._world.kinds.core(self.generation << EPOCH_BITS, self.settled_at, self.proofs.hold)
        for release_id, release in self.deployed.values():
            self.carry_out(self.core.on_deployed(release_id, release, self.now))
        generation = self.generation
        self._world.clock.every(TICK_S, lambda: self._tick(generation))

    def kill(self) -> None:
        # The next one may not hear from everybody before it plans, when messages are late or lost.
        self._world.checks.lost_somebody = True
        self.core = None
        self._world.network.down(self.name)

    def reconnected(self) -> None:
        pass

    def _tick(self, generation: int) -> bool:
        if self.core is None or self.generation != generation:
            return False
        if self._world.network.is_up(self.name):
            self.carry_out(self.core.tick(self.now))
        return True

    # ------------------------------------------------------------------ owners

    def deploy(self, release_id: str, release: Release) -> None:
        if self.core is not None:
            self.releases[release_id] = release
            self.deployed[release.app] = (release_id, release)
            self.carry_out(self.core.on_deployed(release_id, release, self.now))

    def remove(self, app: str) -> None:
        if self.core is not None and self.deployed.pop(app, None):
            self.carry_out(self.core.on_removed(app, self.now))

    # ------------------------------------------------------------------ messages

    def on_report(self, report: HostReport) -> None:
        if self.core is not None:
            self.carry_out(self.core.on_report(report, self.now))

    def on_beat(self, beat: Beat) -> None:
        if self.core is not None:
            self.carry_out(self.core.on_beat(beat, self.now))

    def on_event(self, event: Event) -> None:
        if self.core is not None:
            self.core.on_event(event)

    def on_left(self, host: str) -> None:
        if self.core is not None:
            self.carry_out(self.core.on_left(host, self.now))

    def on_disconnect_notice(self, host: str) -> None:
        """The server says that a host's connection has ended."""
        if self.core is not None and self._world.network.is_up(self.name):
            self.carry_out(self.core.on_gone(host, self.now))
            for caller in self._world.callers.values():
                self._send_gone(caller.name, host)

    def _send_gone(self, caller: str, host: str) -> None:
        party = self._world.callers[caller]
        self._world.network.send(self.name, caller, lambda: party.on_host_gone(host))

    def activate(self, app: str, workload: str) -> Routes | MotesError:
        if self.core is None:
            return Unavailable("nobody answers")
        try:
            routes, effects = self.core.on_activate(app, workload, self.now)
        except MotesError as error:
            return error
        self.carry_out(effects)
        return routes

    def fetch(self, host: str, release: str) -> Manifest | MotesError:
        if self.core is None or not self._world.network.is_up(self.name) or not self._world.network.is_up(host):
            return Unavailable("nobody answers")
        found = self.releases.get(release)
        return NotFound(f"no release {release!r}") if found is None else found.manifest

    # ------------------------------------------------------------------ effects

    def carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Give):
                self._give(self.proofs.sealed(effect.lease))
            elif isinstance(effect, Publish):
                for name in self._world.callers:
                    self._publish(name, effect.routes)
            else:
                self._world.checks.keeper_tells(effect)
        if self.core is not None:
            self._world.checks.keeper_is(self.core, self.now, self.settled_at)

    def _give(self, lease: Lease) -> None:
        self._world.checks.lease_given(lease, self.generation)
        host = self._world.hosts[lease.host]
        self._world.network.send(
            self.name, lease.host, lambda: host.take(lambda: host.on_lease(lease)), lossy=True, twice=True
        )

    def _publish(self, name: str, routes: Routes) -> None:
        party = self._world.callers[name]
        self._world.network.send(self.name, name, lambda: party.on_routes(routes), lossy=True, twice=True)
