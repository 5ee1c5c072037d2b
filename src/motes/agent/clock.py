"""Unix time as the keeper has it: what hosts tell is read side by side, and a machine's own clock may be hours off."""

from __future__ import annotations

import time

AGREE_S = 1.0
"""Clocks that differ by less are both right."""


class KeepersClock:
    """This machine's own clock, set right once the keeper has said what time it is."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    def hear(self, keepers_time: float) -> None:
        """The keeper says that it is now `keepers_time`; 0 when it does not say."""
        if keepers_time:
            is_right = abs(time.time() - keepers_time) < AGREE_S
            self._ahead_s = None if is_right else keepers_time - _uptime_s()

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time() if self._ahead_s is None else _uptime_s() + self._ahead_s


def _uptime_s() -> float:
    """Goes on while the machine sleeps, and is set by nobody."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
