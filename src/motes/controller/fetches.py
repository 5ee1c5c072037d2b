"""Which hosts are fetching what: known from the chunks that they ask for. A core: no I/O, no clock."""

from __future__ import annotations

from motes.model.keeper import CHUNK_BYTES, Fetching

UNDER_WAY_S = 5.0
"""A host that has asked for no chunk for this long is not fetching any more."""
MOST = 1_000
"""Hosts and archives that are followed at a time; beyond it the ones longest quiet are forgotten."""


class Fetches:
    """The fetches under way, by host and archive."""

    def __init__(self) -> None:
        self._got: dict[tuple[str, str], tuple[int, int, float]] = {}
        """How many chunks it has asked for, of how many, and since when that is so."""

    def note(self, host: str, archive: str, index: int, count: int, now: float) -> None:
        """The host asked for a chunk. Only one that it had not asked for before is a step."""
        key = (host, archive)
        known = self._got.get(key)
        if known is not None and index < known[0] and now - known[2] < UNDER_WAY_S:
            return
        self._got.pop(key, None)
        self._got[key] = (index + 1, count, now)
        while len(self._got) > MOST:
            del self._got[next(iter(self._got))]

    def under_way(self, now: float) -> list[Fetching]:
        """What hosts are fetching now, by host."""
        self._got = {key: each for key, each in self._got.items() if now - each[2] < UNDER_WAY_S}
        return [
            Fetching(host, archive, got * CHUNK_BYTES, count * CHUNK_BYTES)
            for (host, archive), (got, count, _) in sorted(self._got.items())
            if got < count
        ]

    def stepped_at(self, host: str) -> float:
        """When the host last got on with something that it fetches."""
        return max((at for (each, _), (_, _, at) in self._got.items() if each == host), default=float("-inf"))
