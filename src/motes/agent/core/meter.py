"""What each app uses on this host, from one cut of the accounts to the next.

Calls, starts and bytes are a Tally's. CPU time comes as the kernel has counted it since the agent's start; how long
instances are there is known from their starts and ends; memory is what was measured, for as long as until the next
measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from motes.agent.core.pool import Instance
from motes.agent.core.tally import Counts, Tally
from motes.model.host import Lease
from motes.model.receipt import Permit, Spent

LEAST_S = 1e-3
"""CPU time that is not worth a batch of its own; it is told with the next."""
MOST_APPS = 10_000
"""Of which it is remembered whose they are; then those that were leased first are forgotten."""
_NONE = Counts()


class Meter:
    """The accounts of one host, in times of its monotonic clock."""

    def __init__(self) -> None:
        self.permits: dict[str, Permit] = {}
        """By app, the last lease that this host was given."""
        self.owners: dict[str, bytes] = {}
        """By app, who signed its release."""
        self._cut_at = float("-inf")
        self._ended_s: defaultdict[str, float] = defaultdict(float)
        """By app, how long instances were there that have ended since the cut."""
        self._memory_byte_s: defaultdict[str, float] = defaultdict(float)
        self._measured_at: float | None = None
        self._told_cpu_s: dict[str, float] = {}

    def note_lease(self, lease: Lease) -> None:
        """The host may run a workload of the app."""
        self.permits.pop(lease.app, None)
        self.permits[lease.app] = Permit(lease.workload, lease.ceiling, lease.epoch, lease.proof)
        if len(self.permits) > MOST_APPS:
            oldest = next(iter(self.permits))
            del self.permits[oldest]
            self.owners.pop(oldest, None)

    def note_memory(self, instances: Iterable[Instance], shared: Mapping[str, int], now: float) -> None:
        """What was measured now: `memory_bytes` of each instance, and by app what belongs to none of them."""
        before, self._measured_at = self._measured_at, now
        if before is None:
            return
        held: dict[str, int] = {}
        for instance in instances:
            held[instance.address] = held.get(instance.address, 0) + instance.memory_bytes
        for address, count in held.items():
            self._memory_byte_s[_app(address)] += count * (now - before)
        for app, count in shared.items():
            self._memory_byte_s[app] += count * (now - before)

    def note_ended(self, instance: Instance, now: float) -> None:
        """An instance is gone."""
        self._ended_s[_app(instance.address)] += self._lived_s(instance, now)

    def cut(
        self, tallies: Mapping[str, Tally], instances: Iterable[Instance], cpu_s: Mapping[str, float], now: float
    ) -> dict[str, Spent]:
        """By app, what it used since the last cut; none for those that used nothing.

        `cpu_s` is by app the CPU time since the agent's start, also of what has ended.
        """
        counts: dict[str, Counts] = {}
        used_s = defaultdict(float, cpu_s)
        seen_s: defaultdict[str, float] = defaultdict(float)
        for address, tally in tallies.items():
            more, app = tally.take(), _app(address)
            seen_s[app] += tally.ended_cpu_s
            if any(more):
                counts[app] = Counts(*(old + new for old, new in zip(counts.get(app, _NONE), more, strict=True)))
        lived_s, self._ended_s = self._ended_s, defaultdict(float)
        for instance in instances:
            lived_s[_app(instance.address)] += self._lived_s(instance, now)
            seen_s[_app(instance.address)] += instance.cpu_s
        memory_byte_s, self._memory_byte_s = self._memory_byte_s, defaultdict(float)
        self._cut_at = now
        spent: dict[str, Spent] = {}
        for app in sorted({*counts, *lived_s, *memory_byte_s, *used_s}):
            calls, starts, in_bytes, out_bytes = counts.get(app, _NONE)
            # An app's own code may keep the kernel from adding up what has ended; what was seen of it counts anyway.
            told_s, in_all_s = self._told_cpu_s.get(app, 0.0), max(used_s[app], seen_s[app])
            if calls or starts or lived_s[app] or memory_byte_s[app] or in_all_s - told_s > LEAST_S:
                more_s = max(in_all_s - told_s, 0.0)
                self._told_cpu_s[app] = told_s + more_s
                spent[app] = Spent(calls, starts, lived_s[app], more_s, memory_byte_s[app], in_bytes, out_bytes)
        return spent

    def _lived_s(self, instance: Instance, now: float) -> float:
        """How long it was there since the cut."""
        return now - max(instance.started, self._cut_at)


def _app(address: str) -> str:
    return address.partition(".")[0]
