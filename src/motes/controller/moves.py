"""How often work may move that need not: buckets of tokens, for each workload and in all. Part of the core.

Work of a host that is lost, drains, or cannot start it always moves, at once and without a token. Two kinds of moves
have a choice:

    early       its host fell silent, and may be back before it counts as lost
    better fit  all is well, and another host would clearly do better

So a host that blinks all day, or loads that swing, cannot make work go back and forth.
"""

from __future__ import annotations

from motes.model.allowance import Allowance

EARLY_INTERVAL_S, EARLY_BURST = 600.0, 2.0
"""A workload leaves a silent host at once so often; beyond that when the host is lost."""
FIT_INTERVAL_S = 3600.0
"""A workload moves for a better fit once in so long."""
ALL_INTERVAL_S, ALL_BURST = 10.0, 4.0
"""All workloads together, for a better fit: a host that has come is filled one by one."""


class Moves:
    """The buckets. What is asked for is done: ask last."""

    def __init__(self) -> None:
        self._early: dict[str, Allowance] = {}
        self._fit: dict[str, Allowance] = {}
        self._all = Allowance(1 / ALL_INTERVAL_S, ALL_BURST, ALL_BURST, 0.0)

    def early(self, address: str, now: float) -> bool:
        """Whether the workload may leave a host that is silent and not lost; takes the token."""
        full = Allowance(1 / EARLY_INTERVAL_S, EARLY_BURST, EARLY_BURST, now)
        return self._early.setdefault(address, full).take(now)

    def better_fit(self, address: str, now: float) -> bool:
        """Whether the workload may move for a better fit; takes both tokens."""
        mine = self._fit.setdefault(address, Allowance(1 / FIT_INTERVAL_S, 1.0, 1.0, now))
        return mine.has(now) and self._all.take(now) and mine.take(now)

    def forget_app(self, app: str) -> None:
        """The app is gone, or a new release of it is another thing to place."""
        for buckets in (self._early, self._fit):
            for address in [each for each in buckets if each.partition(".")[0] == app]:
                del buckets[address]
