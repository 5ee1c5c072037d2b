"""A controller's Scheduler under test, with hosts that take their leases at once and report when a test says so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from motes.controller.core.effects import Effect, Give, Publish, Tell
from motes.controller.core.scheduler import Scheduler
from motes.errors import MotesError
from motes.model.host import Beat, Held, HostReport, Lease, Load, Offer
from motes.model.release import Function, Manifest, Packages, Release, Scale, Workload
from motes.model.routes import Routes
from motes.model.walls import Walls


def function(name: str = "f", least: int = 0, most: int | None = None, **more: object) -> Function:
    return Function(name, "app", name, scale=Scale(least, most), **more)  # type: ignore[arg-type]


def new_core(epoch: int, settled_at: float = float("-inf"), proven: bool = True) -> Scheduler:
    """`proven`: whether hosts can prove what they say that earlier controllers gave them."""
    return Scheduler(epoch, settled_at, lambda host, address, held: proven)


class FakeHost:
    """What a host would hold and say."""

    def __init__(self, name: str, offer: Offer, python: str = "3.11.7", platform: str = "") -> None:
        self.python, self.platform = python, platform
        self.name, self.offer, self.boot, self.beats, self.reports = name, offer, 1, 0, 0
        self.leases: dict[str, Lease] = {}
        self.instances: dict[str, int] = {}
        self.wanted: dict[str, int] = {}
        self.failing: dict[str, str] = {}
        self.deaf = False
        """Does not get what is sent to it."""
        self.draining = False
        self.away = ""
        self.running: dict[str, list[int]] = {}
        self.walls: str = Walls.BOTH
        self.architecture = ""
        self.spaces_used = 0

    def report(self) -> HostReport:
        held = {address: self._held(address, lease) for address, lease in self.leases.items()}
        self.reports += 1
        return HostReport(
            self.name,
            str(self.boot),
            1,
            self.offer,
            self.python,
            platform=self.platform,
            draining=self.draining or bool(self.away),
            away=self.away,
            held=held,
            number=self.reports,
            running=self.running,
            walls=self.walls,
            architecture=self.architecture,
            spaces_used=self.spaces_used,
        )

    def withdraw(self, why: str = "its owner is here") -> None:
        """It lays its leases down."""
        self.away, self.instances = why, {}
        self.leases = {
            address: msgspec.structs.replace(lease, ceiling=0, floor=0) for address, lease in self.leases.items()
        }

    def _held(self, address: str, lease: Lease) -> Held:
        instances = self.instances.get(address, 0)
        wanted, failing = self.wanted.get(address, 0), self.failing.get(address, "") if lease.ceiling else ""
        return Held(
            lease.epoch,
            lease.release,
            lease.ceiling,
            instances,
            wanted,
            failing=failing,
            proof=lease.proof,
            floor=lease.floor,
        )


class Bench:
    def __init__(self, *hosts: str, spaces: int = 100, core: Scheduler | None = None) -> None:
        self.core = core or new_core(0)
        self.now = 0.0
        self.spaces = spaces
        self.hosts: dict[str, FakeHost] = {}
        self.effects: list[Effect] = []
        for name in hosts:
            self.join(name)
        self.core.tick(self.now)

    # ------------------------------------------------------------------ what happens

    def join(
        self,
        name: str,
        holds: Sequence[Lease] = (),
        running: dict[str, list[int]] | None = None,
        python: str = "3.11.7",
        platform: str = "",
        walls: str = Walls.BOTH,
        architecture: str = "",
        **offer: object,
    ) -> None:
        self.hosts[name] = FakeHost(name, Offer(**{"spaces": self.spaces, **offer}), python, platform)  # type: ignore[arg-type]
        self.hosts[name].leases.update({lease.address: lease for lease in holds})
        self.hosts[name].running = running or {}
        self.hosts[name].walls, self.hosts[name].architecture = walls, architecture
        self.report(name)

    def deploy(
        self, *workloads: Workload, release: str = "r1", app: str = "app", packages: Packages | None = None
    ) -> None:
        manifest = Manifest(app, workloads or (function(),))
        self.do(self.core.on_deployed(release, Release(manifest, release, 0.0, packages or Packages()), self.now))

    def activate(self, name: str = "f") -> Routes:
        routes, effects = self.core.on_activate("app", name, self.now)
        self.do(effects)
        return routes

    def refusal(self, app: str = "app", name: str = "f") -> MotesError:
        try:
            self.core.on_activate(app, name, self.now)
        except MotesError as error:
            return error
        raise AssertionError("it was not refused")

    def report(self, *names: str) -> None:
        for name in names or tuple(self.hosts):
            self.do(self.core.on_report(self.hosts[name].report(), self.now))

    def beat(self, *names: str, load: dict[str, Load] | None = None) -> None:
        for name in names or tuple(self.hosts):
            host = self.hosts[name]
            host.beats += 1
            self.do(self.core.on_beat(Beat(name, str(host.boot), host.beats, load or {}), self.now))

    def wait(self, seconds: float, *silent: str) -> None:
        """Time goes by in steps of half a second; hosts but the `silent` ones are heard."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 0.5, end)
            for name in sorted(self.hosts.keys() - set(silent)):
                self.beat(name)
            self.do(self.core.tick(self.now))

    def rest(self, rounds: int = 30) -> None:
        """All hosts report again and again: long enough for everything to settle."""
        for _ in range(rounds):
            self.report()

    def do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Give) and not self.hosts[effect.lease.host].deaf:
                self._take(effect.lease)

    def _take(self, lease: Lease) -> None:
        leases = self.hosts[lease.host].leases
        if lease.address not in leases or leases[lease.address].epoch < lease.epoch:
            leases[lease.address] = lease

    # ------------------------------------------------------------------ what a test asks

    def ceilings(self, name: str = "f") -> dict[str, int]:
        """As the controller has it, without the ended ones."""
        address = f"app.{name}"
        leases = {host: self.core.state.lease(host, address) for host in self.core.state.holders(address)}
        return {host: lease.ceiling for host, lease in sorted(leases.items()) if lease is not None}

    def floors(self, name: str = "f") -> dict[str, int]:
        address = f"app.{name}"
        leases = {host: self.core.state.lease(host, address) for host in self.core.state.holders(address)}
        return {host: lease.floor for host, lease in sorted(leases.items()) if lease is not None}

    def on_hosts(self, name: str = "f") -> int:
        """The sum of the ceilings that the hosts have got."""
        leases = [host.leases.get(f"app.{name}") for host in self.hosts.values()]
        return sum(lease.ceiling for lease in leases if lease is not None)

    def routed(self, name: str = "f") -> tuple[str, ...]:
        return self.core.routes("app").workloads[name].hosts

    def told(self, what: str) -> list[Tell]:
        return [effect for effect in self.effects if isinstance(effect, Tell) and effect.what == what]

    def gives(self) -> list[Lease]:
        return [effect.lease for effect in self.effects if isinstance(effect, Give)]

    def published(self) -> list[Routes]:
        return [effect.routes for effect in self.effects if isinstance(effect, Publish)]
