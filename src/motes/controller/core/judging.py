"""Whether a batch of usage can be true.

What a host spent only the host knows. What the keeper can know is that it was given a lease for the app, whose app that
is, and that nobody uses more than there is: all batches of a host together account for no more of what it lends than it
could lend in the time that has passed here. Clocks of hosts may be wrong, so their times are compared only with
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from motes.model.host import Held, Offer
from motes.model.receipt import Batch
from motes.model.units import format_bytes

SLACK = 2.0
"""A host measures what it lends and holds it to that within about a second, not at each moment."""
EARLY_S = 60.0
"""What is told may be so much ahead of what the keeper's clock allows, and a first batch so long."""
LATE_S = 7 * 86400.0
"""A host that was not heard may account for so much later, and no more."""
LEAST_CPUS = 1.0
"""One process that is busy uses a whole processor between two looks, also where less is lent."""
KINDS = ("CPU time", "memory", "process spaces")

IsProven = Callable[[str, str, Held], bool]


class Credit(msgspec.Struct):
    """For how long, of each kind of thing that a host lends, it may still account for the use of all of it."""

    at: float
    """When this was so, by the keeper's clock."""
    left_s: list[float] = msgspec.field(default_factory=lambda: [EARLY_S] * len(KINDS))

    def pass_time(self, now: float) -> None:
        """More of each, for what the host could lend meanwhile."""
        passed_s = max(now - self.at, 0.0) * SLACK
        self.left_s = [min(left_s + passed_s, LATE_S) for left_s in self.left_s]
        self.at = now

    def spend(self, costs_s: list[float]) -> int | None:
        """Take that; else the kind of which there is too little, and nothing is taken."""
        for kind, (left_s, cost_s) in enumerate(zip(self.left_s, costs_s, strict=True)):
            if cost_s > left_s:
                return kind
        self.left_s = [left_s - cost_s for left_s, cost_s in zip(self.left_s, costs_s, strict=True)]
        return None


def why_not(batch: Batch, offer: Offer, owners: Collection[bytes], is_proven: IsProven, credit: Credit) -> str:
    """Why the batch does not count; empty: it does, and `credit` is less by it."""
    permit, spent = batch.permit, batch.spent
    held = Held(permit.epoch, "", permit.ceiling, proof=permit.proof)
    if permit.ceiling == 0 or not is_proven(batch.host, f"{batch.app}.{permit.workload}", held):
        return f"the host was never given a lease for app {batch.app[:63]!r}"
    if batch.owner not in owners:
        return f"{batch.owner.hex()[:16]} owns no app of this cluster"
    if batch.seconds < 0:
        return "it ends before it begins"
    costs_s = [
        spent.cpu_s / max(offer.cpus, LEAST_CPUS),
        spent.memory_byte_s / max(offer.memory_bytes, 1),
        spent.instance_s / max(offer.spaces, 1),
    ]
    told = (f"{spent.cpu_s:.1f} s", f"{format_bytes(spent.memory_byte_s)} s", f"{spent.instance_s:.1f} s")
    for kind, cost_s in enumerate(costs_s):
        if cost_s > batch.seconds * SLACK + 1.0:
            return f"{told[kind]} of {KINDS[kind]} within {batch.seconds:.1f} s is more than the host lends"
    lacking = credit.spend(costs_s)
    if lacking is not None:
        return f"{told[lacking]} more of {KINDS[lacking]} is more than it can have lent in the time since it was heard"
    return ""
