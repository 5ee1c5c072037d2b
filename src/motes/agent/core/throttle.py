"""When what runs on a host has to rest, so that all of it stays under the processors lent.

How many processors it may use at a time the kernel sees to (motes.space.manners). What is left is a part of one: 1.5
processors are two that rest for a quarter of the time. Time that was lent and not used is kept for a second, so that a
short burst after silence is not held up; what was used beyond is rested for. Nobody rests so long that it looks dead.
"""

from __future__ import annotations

KEPT_S = 1.0
"""How much of what was not used may be used later: so long of what is lent."""
OWED_S = 3.0
"""The same for what was used beyond, and has to be rested for: more is used where a look comes late."""
LOOK_S = 0.02
"""The shortest time between two rests."""
LONGEST_LOOK_S = 0.25
MOST_REST_S = 0.25


class Throttle:
    """Of `lent` processors, on a host that may use `most` at a time. `most` over `lent` is what makes it necessary."""

    def __init__(self, lent: float, most: float, now: float) -> None:
        self._lent = lent
        self._most = max(most, lent)
        self._left_s = lent * KEPT_S
        """Processor seconds that may still be used now; below zero they were used beyond."""
        self._looked_at = now

    def note_used(self, used_s: float, now: float) -> None:
        """All of it used so much since the last time."""
        left_s = self._left_s + self._lent * (now - self._looked_at) - used_s
        self._left_s = max(min(left_s, self._lent * KEPT_S), -self._lent * OWED_S)
        self._looked_at = now

    def rest_s(self) -> float:
        """How long everybody has to rest now; 0 for not at all."""
        return min(-self._left_s / self._lent, MOST_REST_S) if self._left_s < 0 else 0.0

    def look_again_s(self) -> float:
        """Before so long nothing can be used beyond."""
        return min(max(self._left_s / self._most, LOOK_S), LONGEST_LOOK_S)
