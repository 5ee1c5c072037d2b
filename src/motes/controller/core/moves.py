"""How often work may move that need not: buckets of tokens, for each workload and in all.

Work of a host that is lost, drains, or cannot start it always moves, at once and without a token. These moves have a
choice:

    early     its host fell silent, and may be back before it counts as lost
    apart     all of it is on one machine, and another one is there
    roomier   its host has long been crowded, and another has long had room

So a host that blinks all day, or loads that swing, cannot make work go back and forth.
"""

from __future__ import annotations

from motes.model.allowance import Allowance

EARLY_INTERVAL_S, EARLY_BURST = 600.0, 2.0
"""A workload leaves a silent host at once so often; beyond that when the host is lost."""
APART_INTERVAL_S = 3600.0
ROOMIER_INTERVAL_S = 6 * 3600.0
"""Longer than people's habits: who works in the morning and plays in the evening shall not move it twice a day."""
ALL_INTERVAL_S, ALL_BURST = 10.0, 4.0
"""All workloads together, but for early moves: a host that has come is filled one by one."""


class Moves:
    """The buckets. A token that is asked for is taken: ask last."""

    def __init__(self) -> None:
        self._mine: dict[tuple[str, str], Allowance] = {}
        """By kind and address."""
        self._all = Allowance(1 / ALL_INTERVAL_S, ALL_BURST, ALL_BURST, 0.0)

    def early(self, address: str, now: float) -> bool:
        """Whether the workload may leave a host that is silent and not lost."""
        return self._bucket("early", address, EARLY_INTERVAL_S, EARLY_BURST, now).take(now)

    def apart(self, address: str, now: float) -> bool:
        """Whether a part of it may go to another machine."""
        return self._take_both(self._bucket("apart", address, APART_INTERVAL_S, 1.0, now), now)

    def roomier(self, address: str, now: float) -> bool:
        """Whether a part of it may leave a crowd."""
        return self._take_both(self._bucket("roomier", address, ROOMIER_INTERVAL_S, 1.0, now), now)

    def forget_app(self, app: str) -> None:
        """The app is gone, or a new release of it is another thing to place."""
        self._mine = {key: bucket for key, bucket in self._mine.items() if key[1].partition(".")[0] != app}

    def _bucket(self, kind: str, address: str, interval_s: float, burst: float, now: float) -> Allowance:
        key = (kind, address)
        if key not in self._mine:
            self._mine[key] = Allowance(1 / interval_s, burst, burst, now)
        return self._mine[key]

    def _take_both(self, mine: Allowance, now: float) -> bool:
        return mine.has(now) and self._all.take(now) and mine.take(now)
