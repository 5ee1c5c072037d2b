"""Virtual time: a heap of what happens when. Nothing here waits."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

TRACE_LINES = 60
"""A failing run shows so many of its last notes."""


class Clock:
    """What happens at the same time happens in the order in which it was planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + max(delay_s, 0.0), next(self._order), action))

    def every(self, period_s: float, action: Callable[[], bool | None]) -> None:
        """Again and again, until `action` answers False."""

        def turn() -> None:
            if action() is not False:
                self.after(period_s, turn)

        self.after(period_s, turn)

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end

    def note(self, text: str) -> None:
        """Something worth showing when the run fails."""
        self.trace.append(f"{self.now:9.4f}  {text}")
