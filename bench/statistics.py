"""What many noisy numbers come to. Pure; percentiles by nearest rank, so that each figure was really measured."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def paired_ratio(ours: Sequence[float], peers: Sequence[float]) -> float:
    """The median of run-by-run ratios: both sides of a pair were measured one after the other, so drift cancels."""
    pairs = [own / other for own, other in zip(ours, peers, strict=False) if other > 0]
    return median(pairs)
