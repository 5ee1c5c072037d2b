"""One simulated cluster: a keeper, hosts, callers and the network between them, in virtual time.

It drives the very cores that run. `Kinds` lets a test put a broken one in a core's place.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from motes.agent.core.machine import Machine
from motes.controller.core.scheduler import Scheduler
from motes.controller.core.state import IsProven
from motes.model.host import Offer
from motes.model.release import Daemon, Function, Manifest, Release, Scale, Workload
from motes.router.core import Router
from sim.callers import Ledger, SimCaller
from sim.clock import Clock
from sim.hosts import SimHost
from sim.invariants import Checks
from sim.keeper import SimKeeper
from sim.network import Network, Weather

NOTICE_S = 2.0
"""After so long the server notices that a party does not answer its pings."""

APPS: dict[str, tuple[Workload, ...]] = {
    "work": (
        Function("pure", "work", "pure", idempotent=True, timeout_s=3.0, idle_s=1.0),
        Function("once", "work", "once", timeout_s=3.0, idle_s=1.0),
        Function("few", "work", "few", timeout_s=3.0, idle_s=1.0, scale=Scale(0, 4)),
        Function("fresh", "work", "fresh", timeout_s=3.0, idle_s=1.0, reuse="call"),
    ),
    "base": (
        Function("steady", "base", "steady", timeout_s=3.0, idle_s=1.0, scale=Scale(2, 6)),
        Daemon("web", ("serve",), 8080),
    ),
    "ready": (Function("always", "ready", "always", timeout_s=3.0, idle_s=1.0, scale=Scale(1, None)),),
    "many": (Function("at_once", "many", "at_once", timeout_s=3.0, idle_s=1.0, concurrency=5),),
    "apart": (
        Function("own", "apart", "own", timeout_s=3.0, idle_s=1.0, reuse="caller"),
        Function(
            "tight", "apart", "tight", timeout_s=3.0, idle_s=1.0, reuse="caller", scale=Scale(0, 3), concurrency=3
        ),
    ),
    "brief": (Function("hop", "brief", "hop", idempotent=True, timeout_s=3.0, idle_s=1.0),),
}


@dataclass(frozen=True)
class Kinds:
    """What the parties are made of."""

    machine: Callable[[str, Offer], Machine] = Machine
    router: Callable[[Callable[[int], int]], Router] = Router
    core: Callable[[int, float, IsProven], Scheduler] = Scheduler


class World:
    def __init__(self, seed: int = 0, *, kinds: Kinds | None = None, hosts: int = 3, spaces: int = 8) -> None:
        self.chance = random.Random(seed)
        self.kinds = kinds or Kinds()
        self.clock = Clock()
        self.network = Network(self.clock, self.chance)
        self.checks = Checks(self.clock)
        self.ledger = Ledger(self)
        self.keeper = SimKeeper(self)
        self.callers = {name: SimCaller(self, name) for name in ("anna", "bert")}
        self._spaces = spaces
        offer = Offer(cpus=2.0, spaces=spaces)
        self.hosts = {name: SimHost(self, name, offer) for name in (f"h{number}" for number in range(hosts))}
        self.buried: set[str] = set()
        self._releases = 0
        self.keeper.start()
        for host in self.hosts.values():
            host.start()

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    # ------------------------------------------------------------------ owners

    def deploy(self, app: str, workloads: tuple[Workload, ...] | None = None, mark: str = "") -> str:
        """A new release of the app; `mark` becomes a part of its name, see guests.BROKEN."""
        self._releases += 1
        release = f"{app}{mark}-{self._releases}"
        manifest = Manifest(app, workloads or APPS[app])
        self.clock.note(f"deploy {release}")
        self.keeper.deploy(release, Release(manifest, release, 0.0))
        return release

    def remove(self, app: str) -> None:
        self.clock.note(f"remove {app}")
        self.keeper.remove(app)

    def workload(self, address: str) -> Workload | None:
        app, _, name = address.partition(".")
        deployed = self.keeper.deployed.get(app)
        return None if deployed is None else deployed[1].manifest.workload(name)

    # ------------------------------------------------------------------ trouble

    def bury(self, name: str) -> None:
        """The host ends and never comes back."""
        if self.hosts[name].lives:
            self.hosts[name].kill()
        self.buried.add(name)

    def living(self) -> list[SimHost]:
        return [host for host in self.hosts.values() if host.lives]

    def host_cut(self, name: str, *, noticed: bool = True) -> None:
        """The host's connection ends; when that is not noticed at once, the server's pings find out."""
        self.clock.note(f"{name} is cut off{'' if noticed else ', unnoticed'}")
        self.network.down(name, noticed)
        number = self.network.connections(name)
        self.clock.after(0.001 if noticed else NOTICE_S, lambda: self._notice(name, number))

    def host_cut_one_way(self, name: str, *, speaks: bool) -> None:
        """What the host says passes, or what it is told, and not the other; after some pings both ends know of it."""
        self.clock.note(f"{name} is {'not heard' if not speaks else 'told nothing'} any more")
        self.network.cut_one_way(name, speaks=speaks)
        number = self.network.connections(name)
        self.clock.after(NOTICE_S, lambda: self._end_connection(name, number))

    def _end_connection(self, name: str, number: int) -> None:
        if self.network.connections(name) == number and self.network.is_up(name):
            self.network.down(name, noticed=True)
            self.keeper.on_disconnect_notice(name)

    def _notice(self, name: str, number: int) -> None:
        if self.network.connections(name) == number and not self.network.is_up(name):
            self.network.down(name, noticed=True)
            self.keeper.on_disconnect_notice(name)

    def server_down(self) -> None:
        """nats-server ends: nobody is connected."""
        self.clock.note("nats-server is down")
        self.network.server_up = False
        for caller in self.callers.values():
            caller.disconnected()

    def server_up(self) -> None:
        if self.network.server_up:
            return
        self.clock.note("nats-server is up")
        self.network.server_up = True
        self.network.reconnect_all()
        for caller in self.callers.values():
            if self.network.is_up(caller.name):
                caller.reconnected()
        self.keeper.reconnected()

    def heal(self) -> None:
        """Everything that was broken works again."""
        self.clock.note("everything is healed")
        self.server_up()
        self.network.weather = Weather()
        if self.keeper.core is None:
            self.keeper.start()
        for caller in self.callers.values():
            if not self.network.is_up(caller.name):
                caller.join()
        for name, host in self.hosts.items():
            host.temper = "good"
            if name in self.buried:
                continue
            if not host.lives or host.machine.stopping:
                host.start()
            elif not self.network.is_whole(host.name):
                self.network.up(host.name)
            host.come_back()
            host.lend(self._spaces)
            host.serve()
