"""What each host has to carry, as far as the controller knows now.

Measured use comes with a host's reports and so is late: leases just given are counted beside it, and those whose
instances are still to start count most, so that a host which has just come, empty, is not given everything at once.
"""

from __future__ import annotations

from collections import Counter

from motes.controller.core.state import Host, State
from motes.model.host import Lease

STARTS_AT_ONCE = 4
"""A host with so many instances still to start is asked after those with fewer."""


class Ground:
    """Counts over the leases in force; `gave` keeps them true while a plan is made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.leases: Counter[str] = Counter()
        self.starting: Counter[str] = Counter()
        """By host, instances that it must always run and does not yet."""
        for host, leases in state.leases.items():
            for lease in leases.values():
                self._count(host, lease, 1)

    def gave(self, lease: Lease, before: Lease | None) -> None:
        """A lease took the place of the one before."""
        if before is not None:
            self._count(lease.host, before, -1)
        self._count(lease.host, lease, 1)

    def _count(self, host: str, lease: Lease, sign: int) -> None:
        if lease.ceiling == 0:
            return
        self.leases[host] += sign
        if lease.floor:
            held = self._state.held(host, lease.address)
            self.starting[host] += sign * max(lease.floor - (held.instances if held is not None else 0), 0)


def use(host: Host) -> float:
    """The parts of its spaces and of its memory that are in use, together: 0 to about 2."""
    report, offer = host.report, host.report.offer
    return report.spaces_used / max(offer.spaces, 1) + report.memory_bytes / max(offer.memory_bytes, 1)


def fullness(host: Host) -> float:
    """The part in use of what is nearest to its end: 0 to 1, or more."""
    report, offer = host.report, host.report.offer
    return max(report.spaces_used / max(offer.spaces, 1), report.memory_bytes / max(offer.memory_bytes, 1))
