"""What one workload did on one host since the agent's start, for metrics."""

from __future__ import annotations

from typing import Annotated

import msgspec

from motes.model.bounds import Number, Size

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the histogram's buckets; what took longer is only in the count."""


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """All of these only grow."""

    calls: Size = 0
    """Answered, well or not."""
    errors: Size = 0
    starts: Size = 0
    """Of instances."""
    cpu_s: Number = 0.0
    answers: Size = 0
    """Calls that an instance answered itself, or whose time was over: those of which it is known how long they took."""
    answered_s: Number = 0.0
    """Of those, from the arrival at the host to the answer or the end of the time, all together."""
    buckets: Annotated[tuple[Size, ...], msgspec.Meta(max_length=len(LATENCY_BOUNDS_S))] = ()
    """How many of those took at most LATENCY_BOUNDS_S and more than the bound before."""
