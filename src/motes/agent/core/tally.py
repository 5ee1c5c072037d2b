"""Counts what a workload does on this host."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from motes.model.totals import LATENCY_BOUNDS_S, Totals


class Counts(NamedTuple):
    """What goes into a batch of usage (motes.agent.core.meter)."""

    calls: int = 0
    starts: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


class Tally:
    """The counts behind a workload's Totals."""

    __slots__ = (
        "_answered_s",
        "_answers",
        "_buckets",
        "_taken",
        "calls",
        "ended_cpu_s",
        "errors",
        "in_bytes",
        "out_bytes",
        "starts",
    )

    def __init__(self) -> None:
        self.calls = self.errors = self.starts = self._answers = 0
        self.in_bytes = self.out_bytes = 0
        """Of the calls' bodies, and of their answers and items."""
        self._taken = Counts()
        self.ended_cpu_s = 0.0
        """Of instances that have ended."""
        self._answered_s = 0.0
        self._buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)

    def note_took(self, seconds: float) -> None:
        """A call was answered by an instance, or its time was over, this long after it had arrived."""
        self._answers += 1
        self._answered_s += seconds
        self._buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def take(self) -> Counts:
        """What was counted since this was last asked."""
        now = Counts(self.calls, self.starts, self.in_bytes, self.out_bytes)
        since = Counts(*(new - old for new, old in zip(now, self._taken, strict=True)))
        self._taken = now
        return since

    def totals(self, live_cpu_s: float) -> Totals:
        """`live_cpu_s` is what the instances that live have used."""
        cpu_s = self.ended_cpu_s + live_cpu_s
        buckets = tuple(self._buckets[:-1])
        return Totals(self.calls, self.errors, self.starts, cpu_s, self._answers, self._answered_s, buckets)
