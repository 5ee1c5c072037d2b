"""What passed to the daemons of each app, for metrics: the gateway sees their requests, and no host does.

An app is counted from when its daemon first took a connection: whoever invents names in a Host header makes no entries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from motes.model.totals import LATENCY_BOUNDS_S


class Count:
    """Of one app's daemon, since the gateway's start."""

    def __init__(self) -> None:
        self.connections = 0
        """That are open now."""
        self.requests = self.failures = self.answers = 0
        self.answered_s = 0.0
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        """How long answers took to begin, as in motes.model.totals; the last: longer than all bounds."""

    def note_took(self, seconds: float) -> None:
        """An answer began, or was given up, this long after its request had come."""
        self.answers += 1
        self.answered_s += seconds
        self.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1


class DaemonCounts:
    """The counts of all daemons, by app."""

    def __init__(self) -> None:
        self.by_app: dict[str, Count] = {}

    def visit(self, app: str, now: Callable[[], float]) -> Visit:
        """For a new connection of a client."""
        return Visit(self.by_app, app, now)


class Visit:
    """One client's connection. Of requests that come while others wait for their answers only the first is timed."""

    def __init__(self, by_app: dict[str, Count], app: str, now: Callable[[], float]) -> None:
        self._by_app = by_app
        self._app = app
        self._now = now
        self._is_open = False
        self._requests = self._counted = 0
        self._asked_at: float | None = None

    def asked(self, requests: int) -> None:
        """So many requests have come on the connection until now."""
        if requests == self._requests:
            return
        self._requests = requests
        if self._asked_at is None:
            self._asked_at = self._now()
        self._add_requests()

    def opened(self) -> None:
        """The daemon has taken the connection; another may, when the one before has ended."""
        if self._is_open:
            return
        self._is_open = True
        self._by_app.setdefault(self._app, Count()).connections += 1
        self._add_requests()

    def answered(self) -> None:
        """Bytes came from the daemon."""
        if self._asked_at is not None:
            self._note_took(self._asked_at)

    def failed(self) -> None:
        """The daemon did not take the connection, or ended it without an answer."""
        if count := self._by_app.get(self._app):
            count.failures += 1

    def ended(self) -> None:
        """The client's connection is over; a request that got no answer until now gets none."""
        if count := self._by_app.get(self._app):
            count.connections -= self._is_open
        if self._asked_at is not None:
            self._note_took(self._asked_at)
        self._is_open = False

    def _add_requests(self) -> None:
        if self._is_open:
            self._by_app[self._app].requests += self._requests - self._counted
            self._counted = self._requests

    def _note_took(self, asked_at: float) -> None:
        self._asked_at = None
        if count := self._by_app.get(self._app):
            count.note_took(self._now() - asked_at)
