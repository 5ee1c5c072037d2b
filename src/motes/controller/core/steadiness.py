"""How steady hosts are: one whose connection broke often waits longer each time before it is given what must run
always.

It waits for nothing else: what it still holds it keeps, its functions are called at once, and where no steadier host is
feasible it gets floors and daemons as well.
"""

from __future__ import annotations

import msgspec

WAIT_S = 5.0
"""After the second break within FORGIVEN_S; doubled with each further one, up to WAIT_MAX_S."""
WAIT_MAX_S = 600.0
FORGIVEN_S = 3600.0
"""A host that was there for so long without a break is as good as new."""
MOST_DOUBLINGS = 16


class Record(msgspec.Struct):
    """The breaks of one host: how many, when the last one was, and when the host had waited long enough after it."""

    breaks: int = 0
    broke_at: float = float("-inf")
    steady_at: float = float("-inf")


class Steadiness:
    """Of all hosts, also those that are forgotten otherwise."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def broke(self, host: str, now: float) -> None:
        """Its connection broke, it fell silent, or its agent started anew without a word."""
        record = self._records.setdefault(host, Record())
        record.breaks += 1
        record.broke_at = record.steady_at = now

    def came_back(self, host: str, now: float) -> None:
        """It is heard again."""
        record = self._records.get(host)
        if record is not None and record.breaks > 1:
            doublings = min(record.breaks - 2, MOST_DOUBLINGS)
            record.steady_at = now + min(WAIT_S * 2**doublings, WAIT_MAX_S)

    def holds(self, host: str, now: float) -> bool:
        """Whether it may be given what must run always."""
        record = self._records.get(host)
        return record is None or now >= record.steady_at

    def forgive(self, now: float) -> None:
        """Breaks of long ago count no more."""
        self._records = {host: each for host, each in self._records.items() if now - each.broke_at < FORGIVEN_S}
