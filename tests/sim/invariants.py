"""What must hold at each step of a run. A breach ends the run with its last notes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from motes.agent.core.effects import Deliver, Effect, Spawn, StartDaemon, Tell
from motes.agent.core.pool import Call
from motes.agent.core.withdrawal import laid_down
from motes.controller.core import effects as controller
from motes.controller.core.scheduler import Scheduler
from motes.model.caller import NOBODY
from motes.model.host import Lease
from motes.model.release import Function
from sim.clock import Clock

if TYPE_CHECKING:
    from sim.hosts import SimHost

EPOCH_BITS = 32
"""Above them stands the controller's generation."""
REPLAN_S = 0.6
"""A new controller has planned so long after it has heard the hosts."""


class BrokenInvariant(AssertionError):
    """The cores did what they never may."""


class Checks:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[tuple[str, str], Lease] = {}
        """By a host's boot and address: the lease with the highest epoch that has arrived."""
        self.lost_somebody = False
        """Whether the controller has given up on a host, which may go on with what it had."""
        self._given: dict[tuple[str, str], int] = {}
        self._met: dict[tuple[str, int], Call] = {}
        """By a host's boot and number of an instance: the first call that it got."""
        self._ends: Counter[tuple[str, int]] = Counter()
        self._starts: Counter[tuple[str, int]] = Counter()

    def that(self, holds: bool, what: str) -> None:
        if not holds:
            notes = "\n".join(self._clock.trace)
            raise BrokenInvariant(f"at {self._clock.now:.4f} s: {what}\nthe last that happened:\n{notes}")

    # ------------------------------------------------------------------ leases

    def lease_given(self, lease: Lease, generation: int) -> None:
        self._clock.note(f"keeper gives {lease.host} {lease.address} {lease.release} {lease.ceiling} #{lease.epoch}")
        key = (lease.host, lease.address)
        # A new controller may repeat what an earlier one gave, for its host told of it.
        is_own = lease.epoch >> EPOCH_BITS == generation
        self.that(lease.epoch >= self._given.get(key, 0) or not is_own, f"an epoch falls: {lease}")
        self._given[key] = lease.epoch

    def lease_arrives(self, host: SimHost, lease: Lease) -> None:
        last = self._leases.get((host.boot, lease.address))
        if not host.machine.stopping and (last is None or lease.epoch > last.epoch):
            self._leases[host.boot, lease.address] = laid_down(lease) if host.machine.away else lease

    def lease_arrived(self, host: SimHost, lease: Lease) -> None:
        known = host.machine.leases.get(lease.address)
        self._ceilings_on_hosts(host, lease)
        self.that(known == self._leases.get((host.boot, lease.address)), f"{host.name} holds {known} after {lease}")

    def _ceilings_on_hosts(self, host: SimHost, lease: Lease) -> None:
        """While the controller has lost nobody, not even on the hosts do ceilings ever sum to more than the maximum."""
        workload = host.world.workload(lease.address)
        if self.lost_somebody or not isinstance(workload, Function) or workload.scale.max is None:
            return
        hosts = [each for each in host.world.hosts.values() if each.lives and not each.machine.draining]
        total = sum(self._ceiling(each, lease.address) for each in hosts)
        self.that(total <= workload.scale.max, f"the hosts may run {total} of {lease.address}: {lease}")

    # ------------------------------------------------------------------ hosts

    def host_withdraws(self, host: SimHost) -> None:
        """It uses none of its leases any more."""
        mine = {key: laid_down(lease) for key, lease in self._leases.items() if key[0] == host.boot}
        self._leases.update(mine)

    def host_serves(self, host: SimHost) -> None:
        """Of apps that it serves no more it uses no leases, and those that come it may only keep."""
        unused = host.machine.misplaced
        for (boot, address), lease in list(self._leases.items()):
            if boot == host.boot and address not in unused and not host.offer.serves(lease.app):
                self._leases[boot, address] = laid_down(lease)

    def host_has_no_others(self, host: SimHost) -> None:
        """So long after its owner has named the apps, nothing of others is on it."""
        others = [each for each in host.guests.all.values() if not host.offer.serves(each.address.partition(".")[0])]
        self.that(not others, f"{host.name} serves {host.offer.serve} and still runs {others}")

    def host_is_free(self, host: SimHost) -> None:
        """So long after its owner came, nothing of others is on it."""
        self.that(not host.guests.all, f"{host.name} still runs {[*host.guests.all.values()]}")
        self.that(not host.guests.spaces, f"{host.name} still has the spaces {[*host.guests.spaces]}")
        self.that(not host.machine.calls, f"{host.name} still holds calls")

    def host_started(self, host: SimHost) -> None:
        self._clock.note(f"{host.boot} starts")

    def host_does(self, host: SimHost, effect: Effect) -> None:
        match effect:
            case Deliver():
                instance = host.machine.instances[effect.number]
                self.that(self._ceiling(host, instance.address) > 0, f"{host.name} runs {instance} without a lease")
                self.that(not instance.ending, f"{host.name} gives a call to {instance}, which it has ended")
                self.that(host.offer.serves(instance.app), f"{host.name} does not serve {instance}, and calls it")
                self._keeps_callers_apart(host, effect)
            case Spawn():
                self._starts_one(host, host.machine.instances[effect.number].address, 0)
            case StartDaemon():
                self._starts_one(host, host.machine.instances[effect.number].address, 1)
            case Tell():
                self._host_tells(host, effect)

    def host_is(self, host: SimHost) -> None:
        used, spaces = len(host.machine.instances), host.most_spaces()
        self.that(used <= spaces, f"{host.name} has {used} instances and lends {spaces} spaces")

    def _keeps_callers_apart(self, host: SimHost, effect: Deliver) -> None:
        """An instance of such a function never meets two callers, nor two calls of nobody."""
        instance = host.machine.instances[effect.number]
        workload = host.machine.manifest(instance.release).workload(instance.address.partition(".")[2])
        call = instance.calls_now.get(effect.tag)
        if call is None or not isinstance(workload, Function) or workload.reuse != "caller":
            return
        met = self._met.setdefault((host.boot, effect.number), call)
        is_apart = met is call or (met.caller == call.caller and call.caller != NOBODY)
        self.that(is_apart, f"{host.name}: {instance.address} #{effect.number} meets {met.caller} and {call.caller}")

    def _starts_one(self, host: SimHost, address: str, beside: int) -> None:
        """An instance starts; `beside`: so many old ones of a daemon may still be there."""
        live = sum(1 for guest in host.guests.all.values() if guest.address == address)
        ceiling, spaces = self._ceiling(host, address), host.offer.spaces
        self.that(not host.machine.away, f"{host.name} starts {address} while it lends nothing")
        self.that(host.offer.serves(address.partition(".")[0]), f"{host.name} does not serve {address}, and starts it")
        self.that(live < ceiling + beside, f"{host.name} starts {live + 1} of {address}, its ceiling is {ceiling}")
        self.that(len(host.guests.all) < spaces, f"{host.name} starts more than the {spaces} it lends")

    def _host_tells(self, host: SimHost, effect: Tell) -> None:
        self._clock.note(f"{host.name} tells {effect.what} {effect.reason} {effect.address} {effect.pid}")
        if effect.pid and effect.what == "instance.start":
            self._starts[host.boot, effect.pid] += 1
            self.that(self._starts[host.boot, effect.pid] == 1, f"{host.name} starts {effect.pid} twice")
        elif effect.pid and effect.what == "instance.end":
            self._ends[host.boot, effect.pid] += 1
            self.that(self._ends[host.boot, effect.pid] == 1, f"{host.name} ends {effect.pid} twice")
            self.that(self._starts[host.boot, effect.pid] == 1, f"{host.name} ends {effect.pid}, which never started")

    def _ceiling(self, host: SimHost, address: str) -> int:
        lease = self._leases.get((host.boot, address))
        return 0 if lease is None else lease.ceiling

    def all_ended_but(self, host: SimHost, pids: set[int]) -> None:
        """Of what this boot of the host started, only `pids` have not ended with a reason."""
        open_pids = {pid for boot, pid in self._starts if boot == host.boot and not self._ends[boot, pid]}
        self.that(open_pids == pids, f"{host.name} says {open_pids} run, and {pids} do")

    # ------------------------------------------------------------------ the keeper

    def keeper_tells(self, effect: controller.Effect) -> None:
        if isinstance(effect, controller.Tell) and effect.what in ("host.end", "app.removed"):
            self.lost_somebody = True
        self._clock.note(f"keeper tells {effect}")

    def keeper_is(self, core: Scheduler, now: float, settled_at: float) -> None:
        if now < settled_at + REPLAN_S:
            return
        for address, _, workload in core.state.workloads():
            most = workload.scale.max if isinstance(workload, Function) else 1
            if most is not None:
                leases = [core.state.lease(host, address) for host in core.state.holders(address)]
                total = sum(lease.ceiling for lease in leases if lease is not None)
                self.that(total <= most, f"the ceilings of {address} sum to {total}, over {most}")
