"""Which calls are over on this host, so that one that is asked after is never taken for one that did not come.

What always holds: a call that began here counts as over, or as older than what is remembered, for as long as this agent
runs. No clocks are compared. Who asks names the last heartbeat that he had heard when he sent the call, and the call
came here after that one had left: what was forgotten by then cannot be his.
"""

from __future__ import annotations

KEPT_S = 60.0
"""Callers have given a host up long before."""
MOST_KEPT = 50_000
"""Some 100 bytes each. Over seconds of the most that a host answers; while it is cut off nothing comes."""


class Answered:
    """Ids in two generations: the older one is forgotten as a whole when the younger is full, or long enough there."""

    def __init__(self) -> None:
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._beat = 0
        self._turned_at = 0.0
        self._complete_since, self._young_since = 1, 1
        """All that came after the heartbeat of this number is remembered, and since which one in the younger."""

    def note(self, call_id: bytes) -> None:
        """The call was answered, or given up when it might have begun."""
        self._young.add(call_id)
        if len(self._young) >= MOST_KEPT // 2:
            self._turn()

    def on_beat(self, number: int, now: float) -> None:
        """The heartbeat of this number, counted from 1, is about to leave."""
        if now - self._turned_at >= KEPT_S / 2:
            self._turned_at = now
            self._turn()
        self._beat = number

    def __contains__(self, call_id: bytes) -> bool:
        return call_id in self._young or call_id in self._old

    def reaches_back_to(self, beat: int) -> bool:
        """Whether nothing is forgotten that came after this heartbeat; 0 is before all."""
        return beat >= self._complete_since

    def _turn(self) -> None:
        self._old, self._young = self._young, set()
        # What came after the last heartbeat may be in the older one.
        self._complete_since, self._young_since = self._young_since, self._beat + 1
