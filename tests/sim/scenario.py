"""A run from a seed: which troubles there are is given, when and where they come is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from motes.model.release import Function
from sim.guests import BROKEN
from sim.network import Weather
from sim.settled import check_that_it_settles
from sim.world import APPS, Kinds, World

CHAOS_S = 15.0
FAULTS = (
    "host_killed",
    "host_lost_for_good",
    "host_restarted",
    "host_stopped",
    "host_withdraws",
    "host_lends_less",
    "host_serves_others",
    "host_frozen",
    "host_cut_off",
    "host_cut_one_way",
    "host_fails",
    "host_boasts",
    "space_lost",
    "messages_lost",
    "messages_late",
    "messages_twice",
    "controller_restarted",
    "server_restarted",
    "caller_cut_off",
    "calls_cancelled",
    "bad_calls",
    "redeployed",
    "broken_release",
    "removed",
)


@dataclass(frozen=True)
class Scenario:
    """Everything that a run depends on."""

    seed: int
    faults: frozenset[str] = frozenset(FAULTS)

    def run(self, kinds: Kinds | None = None) -> World:
        """Raises BrokenInvariant, with the seed, the faults and the last notes."""
        try:
            return self._run(kinds)
        except BaseException as error:
            error.add_note(f"repeat it: PYTHONPATH=tests python -m sim {self.seed} {','.join(sorted(self.faults))}")
            raise

    def _run(self, kinds: Kinds | None) -> World:
        chance = random.Random(self.seed)
        world = World(self.seed, kinds=kinds, hosts=chance.randint(2, 4), spaces=chance.choice((6, 8, 20)))
        for app in APPS:
            world.deploy(app)
        plan = Plan(world, chance)
        for _ in range(chance.randint(4, 12)):
            plan.at_some_time(plan.burst)
        for fault in sorted(self.faults):
            for _ in range(chance.choice((0, 1, 1, 2, 3))):
                plan.at_some_time(getattr(plan, fault))
        world.run(CHAOS_S)
        _mend_releases(world)
        check_that_it_settles(world)
        return world


def _mend_releases(world: World) -> None:
    """No owner leaves a release that cannot load."""
    world.heal()
    for app, (release_id, _) in list(world.keeper.deployed.items()):
        if BROKEN in release_id:
            world.deploy(app)


class Plan:
    """The troubles, each a method of the name in FAULTS."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self._bad_calls = False

    def at_some_time(self, action: Callable[[], None]) -> None:
        def happen() -> None:
            self.world.clock.note(action.__name__)
            action()

        self.world.clock.after(self.chance.uniform(0.0, CHAOS_S), happen)

    def later(self, most_s: float, action: Callable[[], object]) -> None:
        self.world.clock.after(self.chance.uniform(0.1, most_s), lambda: self._unless_over(action))

    def _unless_over(self, action: Callable[[], object]) -> None:
        if self.world.clock.now < CHAOS_S:
            action()

    # ------------------------------------------------------------------ load

    def burst(self) -> None:
        """Many calls of one function at once, or one after the other."""
        functions = [(app, each) for app, all_of in APPS.items() for each in all_of if isinstance(each, Function)]
        app, function = self.chance.choice(functions)
        caller = self.chance.choice(list(self.world.callers.values()))
        timeout_s, seconds = self.chance.choice((0.5, 2.0, 6.0)), self.chance.choice((0.00001, 0.001, 0.02, 0.3))
        cpu, gap_s = self.chance.choice((0.0, 1.0)), self.chance.choice((0.0, 0.001, 0.05))
        for number in range(self.chance.choice((1, 5, 40))):
            do = self._what_to_do()
            self.world.clock.after(
                number * gap_s,
                lambda do=do: self._call(caller, app, function, timeout_s, do=do, seconds=seconds, cpu=cpu),
            )

    def _call(self, caller, app, function, timeout_s, **work) -> None:  # type: ignore[no-untyped-def]
        caller.call(app, function.name, timeout_s, idempotent=function.idempotent, **work)

    def _what_to_do(self) -> str:
        if not self._bad_calls or self.chance.random() < 0.7:
            return "reply"
        return self.chance.choice(("raise", "exit", "crash", "hang", "shout", "grow", "threads"))

    def bad_calls(self) -> None:
        self._bad_calls = not self._bad_calls

    def calls_cancelled(self) -> None:
        for entry in self.world.ledger.open():
            if self.chance.random() < 0.5:
                for caller in self.world.callers.values():
                    caller.cancel_if_mine(entry)

    # ------------------------------------------------------------------ hosts

    def _host(self):  # type: ignore[no-untyped-def]
        return self.chance.choice(list(self.world.hosts.values()))

    def host_killed(self) -> None:
        host = self._host()
        if host.lives:
            host.kill()

    def host_lost_for_good(self) -> None:
        if len(self.world.buried) < len(self.world.hosts) - 1:
            host = self._host()
            self.world.bury(host.name)

    def host_restarted(self) -> None:
        host = self._host()
        if host.lives:
            host.kill()
        self.later(3.0, lambda: host.lives or host.start())

    def host_stopped(self) -> None:
        host = self._host()
        if host.lives and not host.machine.stopping:
            host.stop()

    def host_withdraws(self) -> None:
        """Its owner comes, sometimes for less than what calls are given to finish."""
        host = self._host()
        if host.lives and not host.machine.draining:
            host.withdraw()
            self.later(self.chance.choice((0.5, 3.0, 8.0)), lambda: host.lives and host.come_back())

    def host_lends_less(self) -> None:
        host = self._host()
        if host.lives:
            host.lend(self.chance.choice((1, 2, 6)))
            self.later(6.0, lambda: host.lives and host.lend(20))

    def host_serves_others(self) -> None:
        host = self._host()
        if host.lives:
            host.serve(self.chance.choice(sorted(APPS)))
            self.later(self.chance.choice((0.5, 3.0, 8.0)), lambda: host.lives and host.serve())

    def host_frozen(self) -> None:
        self._host().freeze(self.chance.choice((0.3, 1.5, 3.0, 7.0)))

    def host_cut_off(self) -> None:
        host = self._host()
        if self.world.network.is_up(host.name):
            self.world.host_cut(host.name, noticed=self.chance.random() < 0.3)
            self.later(6.0, lambda: host.lives and self.world.network.up(host.name))

    def host_cut_one_way(self) -> None:
        host = self._host()
        if self.world.network.is_up(host.name):
            self.world.host_cut_one_way(host.name, speaks=self.chance.random() < 0.5)
            self.later(6.0, lambda: host.lives and self.world.network.up(host.name))

    def host_fails(self) -> None:
        self._host().temper = self.chance.choice(("fails spaces", "fails starts"))

    def host_boasts(self) -> None:
        self._host().temper = "boasts"

    def space_lost(self) -> None:
        host = self._host()
        if host.lives and host.guests.spaces:
            host.guests.lose_space(self.chance.choice(sorted(host.guests.spaces)))

    # ------------------------------------------------------------------ messages

    def messages_lost(self) -> None:
        self._weather(loss=self.chance.choice((0.05, 0.5)))

    def messages_late(self) -> None:
        self._weather(delay_s=self.chance.choice((0.01, 0.1, 0.5)))

    def messages_twice(self) -> None:
        self._weather(duplicates=0.3)

    def _weather(self, **change: float) -> None:
        for name, value in change.items():
            setattr(self.world.network.weather, name, value)
        calm = Weather()
        self.later(5.0, lambda: [setattr(self.world.network.weather, name, getattr(calm, name)) for name in change])

    # ------------------------------------------------------------------ the keeper's side

    def controller_restarted(self) -> None:
        self.world.clock.note("the controller ends")
        self.world.keeper.kill()
        self.later(4.0, lambda: self.world.keeper.core or self.world.keeper.start())

    def server_restarted(self) -> None:
        self.world.server_down()
        self.later(4.0, self.world.server_up)

    def caller_cut_off(self) -> None:
        caller = self.chance.choice(list(self.world.callers.values()))
        if self.world.network.is_up(caller.name):
            caller.cut()
            self.later(3.0, caller.join)

    # ------------------------------------------------------------------ owners

    def redeployed(self) -> None:
        self.world.deploy(self.chance.choice(sorted(APPS)))

    def broken_release(self) -> None:
        app = self.chance.choice(sorted(APPS))
        self.world.deploy(app, mark=BROKEN)
        self.later(5.0, lambda: self.world.deploy(app))

    def removed(self) -> None:
        self.world.remove(self.chance.choice(sorted(APPS)))
