"""Days of a cluster whose hosts come and go by the hour, blink and restart, in virtual time.

The controller's core runs as it is. Between two events nothing happens, so the clock jumps over that; around each event
it goes in steps of half a second. Hosts take leases and start what they are told; what they report of loads swings.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from controller.keeper_bench import Bench, function
from motes.controller.core.scheduler import Scheduler
from motes.model.place import parse_place
from motes.model.release import Daemon, Function, Workload

HOUR_S = 3600.0
STEP_S = 0.5
AROUND_S = 3.5
"""For so long after an event the clock goes in steps."""


def daemon(name: str, place: str = "", **more: object) -> Daemon:
    return Daemon(name, ("serve",), place=parse_place(place), **more)  # type: ignore[arg-type]


def floor(name: str, least: int, most: int | None, place: str = "", **more: object) -> Function:
    return function(name, least, most, place=parse_place(place), idle_s=1.0, **more)


WORKLOADS: tuple[Workload, ...] = (
    floor("one", 1, None),
    floor("two", 2, None),
    floor("few", 2, 4),
    floor("lab", 2, None, "named:lab"),
    floor("five", 5, 9, "!attic"),
    floor("packed", 3, None, spread="pack"),
    daemon("web"),
    daemon("db", "own"),
    daemon("model", "gpu,!attic"),
    daemon("sensor", "arch:aarch64"),
    daemon("bot"),
)


@dataclass
class Person:
    """A host's habits: how long it is there and away on the average, and how often it blinks in an hour."""

    there_s: float
    away_s: float
    blinks: float = 0.0
    offer: dict[str, object] = field(default_factory=dict)
    architecture: str = "x86_64"


PEOPLE = {
    "server": Person(1e9, 1.0, offer={"machine": "rack"}),
    "beside": Person(40 * HOUR_S, 600.0, offer={"machine": "rack"}),
    "nas": Person(20 * HOUR_S, 60.0, offer={"labels": ("attic",)}),
    "laptop": Person(HOUR_S, HOUR_S / 2),
    "desktop": Person(2 * HOUR_S, 4 * HOUR_S, offer={"labels": ("gpu",), "machine": "desk"}),
    "tower": Person(3 * HOUR_S, 2 * HOUR_S, offer={"labels": ("gpu",)}),
    "board": Person(9 * HOUR_S, 30.0, blinks=3.0, architecture="aarch64"),
    "shed": Person(HOUR_S / 2, 40.0, blinks=12.0, architecture="aarch64", offer={"labels": ("attic",)}),
}
JOINED = {"laptop", "desktop", "tower", "board", "shed"}
SETS = {"laptop": {"lab", "own"}, "tower": {"lab"}, "nas": {"lab"}, "board": {"lab"}}


class Days:
    """`gives` counts leases by workload and hour, `moves` the times that what must run came to another host."""

    def __init__(self, seed: int, core: Scheduler | None = None) -> None:
        self.chance = random.Random(seed)
        self.bench = Bench(core=core, spaces=20)
        self.bench.core.state.joined = set(JOINED)
        self.bench.core.state.sets = {host: frozenset(sets) for host, sets in SETS.items()}
        self.there: set[str] = set()
        self.gives: dict[int, Counter[str]] = defaultdict(Counter)
        self.moves: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        """How often a workload's host went away under it, by workload."""
        self.events: Counter[int] = Counter()
        """By hour, how often a host came, went or blinked."""
        self._busy: Counter[str] = Counter()
        self._wanted: Counter[str] = Counter()
        self._homes: dict[str, set[str]] = {}
        self.looked = 0
        """How often the spread was looked at, where it had to hold."""
        self._there_since: dict[str, float] = {}
        self._next = {name: self._life(person.there_s) for name, person in PEOPLE.items()}
        for name in PEOPLE:
            self._come(name)
        self.bench.deploy(*WORKLOADS)
        self._look()

    def run(self, days: float) -> None:
        end = days * 24 * HOUR_S
        while self.bench.now < end:
            name = min(self._next, key=self._next.__getitem__)
            self._jump(max(self._next[name] - self.bench.now, 0.0))
            self.events[int(self.bench.now // HOUR_S)] += 1
            self._happen(name)
            for step in range(int(AROUND_S / STEP_S)):
                self._step()
                if step == 4:
                    self._reports()
            self._look()

    # ------------------------------------------------------------------ what happens

    def _happen(self, name: str) -> None:
        person = PEOPLE[name]
        if name not in self.there:
            self._come(name, is_anew=self.chance.random() < 0.7)
        elif self.chance.random() < person.blinks / (person.blinks + HOUR_S / person.there_s):
            self._blink(name)
        else:
            self._go(name)
        mean_s = 1 / (person.blinks / HOUR_S + 1 / person.there_s) if name in self.there else person.away_s
        self._next[name] = self.bench.now + self._life(mean_s)

    def _life(self, mean_s: float) -> float:
        return self.chance.expovariate(1 / mean_s)

    def _come(self, name: str, is_anew: bool = True) -> None:
        self.there.add(name)
        self._there_since[name] = self.bench.now
        person, host = PEOPLE[name], self.bench.hosts.get(name)
        if host is None:
            self.bench.join(name, architecture=person.architecture, **person.offer)
            return
        host.deaf = False
        if is_anew:
            host.boot += 1
            host.leases.clear()
        self.bench.report(name)

    def _go(self, name: str) -> None:
        self.there.discard(name)
        self.bench.hosts[name].deaf = True
        for address, homes in self._homes.items():
            self.endings[address] += name in homes
        self.bench.do(self.bench.core.on_gone(name, self.bench.now))

    def _blink(self, name: str) -> None:
        """Away for less than it takes to be lost, or for a little more."""
        self._go(name)
        for _ in range(self.chance.randint(1, 6)):
            self._step()
        self._come(name, is_anew=False)

    # ------------------------------------------------------------------ time

    def _jump(self, seconds: float) -> None:
        bench = self.bench
        bench.now += seconds
        bench.do(bench.core.tick(bench.now))
        self._reports()

    def _step(self) -> None:
        bench = self.bench
        bench.now += STEP_S
        bench.beat(*sorted(self.there))
        bench.do(bench.core.tick(bench.now))

    def _reports(self) -> None:
        """All are heard; each has another load for a while with one chance of ten."""
        for name in sorted(self.there):
            if self.chance.random() < 0.1:
                self._busy[name] = self.chance.choice((0, 0, 3, 9, 16))
                self._wanted[name] = self.chance.randint(0, 3)
            host = self.bench.hosts[name]
            leases = [lease for lease in host.leases.values() if lease.ceiling > 0]
            host.instances = {lease.address: min(lease.floor, lease.ceiling) for lease in leases}
            host.wanted = {lease.address: self._wanted[name] for lease in leases if lease.workload == "few"}
            host.spaces_used = min(sum(host.instances.values()) + self._busy[name], 20)
            self.bench.report(name)

    # ------------------------------------------------------------------ what must hold

    def _look(self) -> None:
        """After each event, when all has been told: count what was given, and check every promise."""
        state = self.bench.core.state
        for lease in self.bench.gives():
            self.gives[int(self.bench.now // HOUR_S)][lease.workload] += 1
        self.bench.effects.clear()
        for workload in WORKLOADS:
            address = f"app.{workload.name}"
            able = {name for name in self.there if self._is_at(workload, name)}
            leases = {name: lease for name in self.there if (lease := state.lease(name, address)) is not None}
            assert leases.keys() <= able, f"{workload.name} is at {set(leases)}, and may be at {able}"
            homes = {name for name, lease in leases.items() if lease.floor}
            self.moves[address] += len(homes - self._homes.get(address, set()))
            self._homes[address] = homes
            least = 1 if isinstance(workload, Daemon) else workload.scale.min
            if able:
                kept = sum(lease.floor for lease in leases.values())
                assert kept == least, f"{workload.name} keeps {kept} on {homes} of {able}, not {least}"
            self._spread_holds(workload, least, able, homes)

    def _spread_holds(self, workload: Workload, least: int, able: set[str], homes: set[str]) -> None:
        """On two machines at least, once two have been there for as long as a move may wait."""
        long_there = {name for name in able if self.bench.now - self._there_since[name] > 2 * HOUR_S}
        if least >= 2 and workload.spread == "machines" and len(set(map(self._machine, long_there))) >= 2:
            self.looked += 1
            assert len(set(map(self._machine, homes))) >= 2, f"{workload.name} is on one machine: {homes}"

    @staticmethod
    def _machine(name: str) -> str:
        return str(PEOPLE[name].offer.get("machine", name))

    @staticmethod
    def _is_at(workload: Workload, name: str) -> bool:
        """By hand, and not as the controller does it."""
        person, sets = PEOPLE[name], SETS.get(name, set())
        labels = person.offer.get("labels", ())
        facts = {
            "own": name not in JOINED or "own" in sets,
            "named:lab": "lab" in sets,
            "gpu": "gpu" in labels,  # type: ignore[operator]
            "!attic": "attic" not in labels,  # type: ignore[operator]
            "arch:aarch64": person.architecture == "aarch64",
        }
        return all(facts[term] for term in workload.place)
