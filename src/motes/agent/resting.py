"""Keeps what runs here to its part of a processor, where no cgroup does: who used some stops for a moment, again and
again. The decision is throttle's. The agent itself never stops, and whoever was stopped goes on by a timer of its own,
whatever becomes of him; what is killed while it is stopped ends all the same, and the kernel kills all with the agent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable

from motes.agent.core.throttle import LONGEST_LOOK_S, LOOK_S, Throttle
from motes.space import measure

LEAST_BUSY_S, LEAST_BUSY_PART = 0.0005, 0.01
"""Who used less since the last look, or of the time since then, does not stop: it would gain nothing, and its caller
lose."""
BUSY_FOR_S = 1.0
"""For so long it counts as busy: it may only have waited for its turn, and the rest of the others would be its turn."""
_log = logging.getLogger("motes.agent")


class Resting:
    """`processes` gives the ids of all that run in spaces, as last seen. `lent` and `most`: see Throttle."""

    def __init__(self, lent: float, most: float, processes: Callable[[], Iterable[int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle(lent, most, self._loop.time())
        self._processes = processes
        self._used_s: dict[int, float] = {}
        """CPU seconds by process, as last measured."""
        self._busy_at: dict[int, float] = {}
        """When a process was last seen to have used some."""
        self._own_s = time.process_time()
        self._looked_at = self._loop.time()
        self._stopped: list[int] = []
        self._timer = self._loop.call_later(self._throttle.look_again_s(), self._look)

    def close(self) -> None:
        """Nobody is stopped any more."""
        self._timer.cancel()
        self._go_on()

    def _look(self) -> None:
        pause_s, then = LONGEST_LOOK_S, self._look
        try:
            busy = self._measure()
            rest_s = self._throttle.rest_s()
            if rest_s:
                for pid in busy:
                    self._stopped.append(pid)
                    _send(pid, signal.SIGSTOP)
                pause_s, then = rest_s, self._wake
            else:
                pause_s = self._throttle.look_again_s()
        except Exception:
            # A mistake in one look must not end all later ones, nor leave anybody stopped.
            _log.exception("the agent could not look how much of the processors is used")
            self._go_on()
        self._timer = self._loop.call_later(pause_s, then)

    def _wake(self) -> None:
        self._go_on()
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def _go_on(self) -> None:
        for pid in self._stopped:
            _send(pid, signal.SIGCONT)
        self._stopped.clear()

    def _measure(self) -> list[int]:
        """Count what was used since the last look; returns who did."""
        before, self._used_s = self._used_s, {pid: measure.cpu_s(pid) for pid in self._processes()}
        grown = {pid: used_s - before.get(pid, 0.0) for pid, used_s in self._used_s.items()}
        own_s = time.process_time()
        used_s = own_s - self._own_s + sum(each for each in grown.values() if each > 0)
        self._own_s = own_s
        now = self._loop.time()
        self._throttle.note_used(used_s, now)
        # One that is new may have the id of one that has just ended, and be nobody's business here.
        known = {pid: each for pid, each in grown.items() if pid in before}
        busy_at = {
            pid: now if each > LEAST_BUSY_S else self._busy_at.get(pid, -BUSY_FOR_S) for pid, each in known.items()
        }
        self._busy_at = {pid: at for pid, at in busy_at.items() if now - at < BUSY_FOR_S}
        return list(self._busy_at)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
