"""What one host's agent knows, and nothing that acts: every other part of the agent's core works on it."""

from __future__ import annotations

import msgspec

from motes.agent.core.answered import Answered
from motes.agent.core.daemons import DaemonUnit
from motes.agent.core.effects import Asker
from motes.agent.core.lanes import Waiting
from motes.agent.core.meter import Meter
from motes.agent.core.pool import Call, Instance, Pool
from motes.agent.core.tally import Tally
from motes.errors import MotesError
from motes.model.allowance import Allowance
from motes.model.bounds import MOST_LISTED
from motes.model.host import Held, Lease, Load, Offer
from motes.model.release import Manifest
from motes.model.totals import Totals

HELD_BYTES = 4 * 2**20
"""Calls wait on a host that has still to fetch so much; what is more takes its time, and another host may have it."""

WALLED_SHARE = 15 / 16


class SpaceView(msgspec.Struct):
    """A release's space on this host."""

    state: str = "fetching"
    """fetching, unfetched, absent, preparing, ready or failed."""
    manifest: Manifest | None = None
    last_used: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    error: MotesError | None = None
    missing_bytes: int = 0
    """Of what is being fetched, as far as that is known."""

    @property
    def far_bytes(self) -> int:
        """How much has still to come, when that is too much for calls to wait here; else 0."""
        return self.missing_bytes if self.state == "fetching" and self.missing_bytes > HELD_BYTES else 0

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is there, nor on its way."""
        return self.state in ("unfetched", "absent", "failed")


class HostState:
    """Leases, releases, pools of function instances, daemons and calls of one host."""

    def __init__(self, host: str, offer: Offer, architecture: str = "") -> None:
        self.host = host
        self.offer = offer
        self.architecture = architecture
        self.stopping = False
        """It takes no work any more, and ends."""
        self.away = ""
        """Why it takes no work for now, by its owner's terms; empty while it lends."""
        self.over_since: float | None = None
        """Since when more runs here than its owner lends."""
        self.pools: dict[str, Pool] = {}
        self.waiting = Waiting()
        self.daemons: dict[str, DaemonUnit] = {}
        self.leases: dict[str, Lease] = {}
        """By address; a lease with ceiling 0 stays for a while, so that its epoch is remembered."""
        self.misplaced: dict[str, str] = {}
        """By address, why a lease is not used: its release is for other hosts."""
        self.forgotten_epoch = 0
        """The highest epoch of the leases that are no longer remembered: epochs rise over all workloads together."""
        self.spaces: dict[str, SpaceView] = {}
        """By release."""
        self.instances: dict[int, Instance] = {}
        self.gave_room = False
        """Whether an instance was ended for another's sake, and that one has not come yet."""
        self.calls: dict[bytes, Call] = {}
        self.answered = Answered()
        """Those that are no longer under way."""
        self.relayed: dict[bytes, Asker] = {}
        """Who waits for the calls that were to leave this host."""
        self.awaited_at = 0.0
        """When the gateway was last told which of them are waited for."""
        self.asked_bytes = 0
        """What the bodies of all calls hold that instances wait for."""
        self.leaving: dict[str, Allowance] = {}
        """By app, how many bytes its instances' calls may carry to other hosts now."""
        self.tallies: dict[str, Tally] = {}
        """By address, of all workloads that have done something here."""
        self.meter = Meter()
        self.memory_bytes = 0
        """What the agent and all spaces use together, as last measured."""
        self.memory_is_walled = False
        """Whether the kernel ends something, whatever it is, when more is used than is lent."""
        self.pressed_since: float | None = None
        """Since when more memory is used than is lent and nothing is left that could be spared."""
        self._number = 0

    @property
    def draining(self) -> bool:
        """Whether it takes no work, for now or for ever."""
        return self.stopping or bool(self.away)

    def new_instance(self, address: str, release: str, now: float, is_daemon: bool = False) -> Instance:
        """One more, with a number of its own; a function's also enters its pool."""
        self._number += 1
        instance = Instance(self._number, address, release, now, is_daemon, idle_since=now)
        self.instances[instance.number] = instance
        return instance

    @property
    def memory_limit_bytes(self) -> int:
        """Over this something ends: before the kernel chooses what, where it does."""
        return int(self.offer.memory_bytes * (WALLED_SHARE if self.memory_is_walled else 1))

    def spaces_used(self) -> int:
        return len(self.instances)

    def is_full(self) -> bool:
        """Whether every process space that the host lends is in use."""
        return self.spaces_used() >= self.offer.spaces

    def wanted_releases(self) -> set[str]:
        """Those of leases in force."""
        return {lease.release for lease in self.leases.values() if lease.ceiling > 0}

    def has_waiting(self) -> bool:
        """Whether a call waits, so that time matters within milliseconds."""
        return any(pool.queued for pool in self.pools.values())

    def is_empty(self) -> bool:
        return not self.instances and not self.calls

    # ------------------------------------------------------------------ what it tells of itself

    def load(self) -> dict[str, Load]:
        loads = {address: pool.load() for address, pool in self.pools.items() if pool.instances or pool.queued}
        loads |= {address: Load(fetching=far) for address, pool in self.pools.items() if (far := self.far_bytes(pool))}
        return loads | {address: Load(0, 0, int(unit.is_up)) for address, unit in self.daemons.items()}

    def far_bytes(self, pool: Pool) -> int:
        """How much has still to be fetched before the function can run here, when that is much; else 0."""
        space = self.spaces.get(pool.lease.release)
        return space.far_bytes if space is not None and not pool.serving else 0

    def held(self, now: float) -> dict[str, Held]:
        held = {address: pool.held(now, self.offer.cpus) for address, pool in self.pools.items()}
        held |= {address: unit.held() for address, unit in self.daemons.items()}
        for address, why in self.misplaced.items():
            lease = self.leases[address]
            held[address] = Held(lease.epoch, "", lease.ceiling, failing=why, proof=lease.proof, floor=lease.floor)
        ended = (lease for lease in self.leases.values() if lease.address not in held)
        return held | {lease.address: Held(lease.epoch, lease.release, 0) for lease in ended if lease.ceiling == 0}

    def tally(self, address: str) -> Tally:
        """The workload's counts; of very many workloads the first are forgotten."""
        found = self.tallies.get(address)
        if found is None:
            if len(self.tallies) >= MOST_LISTED:
                del self.tallies[next(iter(self.tallies))]
            found = self.tallies[address] = Tally()
        return found

    def totals(self) -> dict[str, Totals]:
        """What each workload did since the agent's start."""
        live_cpu_s: dict[str, float] = {}
        for instance in self.instances.values():
            live_cpu_s[instance.address] = live_cpu_s.get(instance.address, 0.0) + instance.cpu_s
        return {address: tally.totals(live_cpu_s.get(address, 0.0)) for address, tally in self.tallies.items()}

    def running(self) -> dict[str, list[int]]:
        """By address, the process ids of the instances whose start was told and whose end was not."""
        pids: dict[str, list[int]] = {}
        for instance in self.instances.values():
            if instance.alive:
                pids.setdefault(instance.address, []).append(instance.pid)
        return pids

    def manifest(self, release: str) -> Manifest:
        """What the release holds; KeyError for one that was not fetched."""
        manifest = self.spaces[release].manifest
        if manifest is None:
            raise KeyError(release)
        return manifest
