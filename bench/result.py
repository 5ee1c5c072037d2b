"""What a row measured, as data: ours and the peers' figures, and the limits they are held against."""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.statistics import median, paired_ratio


class Series(msgspec.Struct):
    """One contender's figures: one value a run, in the order of the runs."""

    name: str
    values: list[float]
    p50: float | None = None
    p99: float | None = None
    cpu_us: dict[str, float] = {}
    """CPU microseconds for each call, by process."""

    @property
    def middle(self) -> float:
        return median(self.values)


class Limits(msgspec.Struct, frozen=True):
    """The goals page's two columns, for a ratio to the first peer or for our value itself."""

    first_step: float
    goal: float
    of: Literal["ratio", "value"] = "ratio"
    better: Literal["less", "more"] = "less"

    def holds(self, measured: float, limit: float) -> bool:
        return measured <= limit if self.better == "less" else measured >= limit


class Result(msgspec.Struct):
    """One line of the table. The first peer is the one that a ratio is taken to."""

    row: str
    what: str
    unit: str
    ours: Series
    peers: list[Series] = []
    limits: Limits | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """None where there is nothing to divide by."""
        if not self.peers or not any(value > 0 for value in self.peers[0].values):
            return None
        return paired_ratio(self.ours.values, self.peers[0].values)

    @property
    def measured(self) -> float | None:
        """The number that the limits are for."""
        if self.limits is None:
            return None
        return self.ratio if self.limits.of == "ratio" else self.ours.middle

    def meets(self, limit: Literal["first_step", "goal"]) -> bool | None:
        """Whether a limit holds; None where there is none."""
        if self.limits is None or self.measured is None:
            return None
        return self.limits.holds(self.measured, getattr(self.limits, limit))
